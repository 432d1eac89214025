//! What others do: the greedy of most rebalancers, and even slot counts.

use ballast_search::{Goals, Problem, excess, floor};

/// What a peer reaches, judged as our plans are, and what it moves.
pub(crate) struct Outcome {
    pub(crate) excess: f64,
    pub(crate) bytes: f64,
}

fn outcome(problem: &Problem, goals: &Goals, owners: &[u32]) -> Outcome {
    let moved = (0..owners.len()).filter(|slot| owners[*slot] != problem.owners[*slot]);
    Outcome { excess: excess(problem, goals, owners), bytes: moved.map(|slot| problem.bytes[slot]).sum() }
}

/// From the hottest to the coldest node by the first resource, each time the largest slot that makes neither change places,
/// until `target` times the floor is reached or nothing fits. Draining nodes are the hottest for as long as they have anything.
pub(crate) fn greedy(problem: &Problem, goals: &Goals, target: f64) -> Outcome {
    let resource = &problem.resources[0];
    let limit = target * floor(problem, resource).0;
    let mean = problem.mean_utilisation(resource);
    let mut owners = problem.owners.clone();
    let mut loads = problem.node_loads(resource, &owners);
    let mut slots: Vec<Vec<usize>> = vec![Vec::new(); loads.len()];
    for (slot, owner) in owners.iter().enumerate() {
        slots[*owner as usize].push(slot);
    }
    loop {
        let height = |node: usize| loads[node] / resource.capacity[node] / mean;
        let heat = |node: usize| match problem.nodes[node].counts() {
            true => height(node),
            false if slots[node].is_empty() => 0.0,
            false => f64::INFINITY,
        };
        let hottest = (0..loads.len()).max_by(|one, other| heat(*one).total_cmp(&heat(*other))).unwrap();
        let receiving = (0..loads.len()).filter(|node| problem.nodes[*node].receives());
        let coldest = receiving.min_by(|one, other| height(*one).total_cmp(&height(*other))).unwrap();
        if heat(hottest) <= limit {
            break;
        }
        let gap = (heat(hottest) - height(coldest)) / 2.0 * mean * resource.capacity[coldest];
        let fitting = slots[hottest].iter().enumerate().filter(|(_, slot)| resource.loads[**slot] <= gap);
        let largest = |one: &(usize, &usize), other: &(usize, &usize)| {
            resource.loads[*one.1].total_cmp(&resource.loads[*other.1])
        };
        let Some((place, slot)) = fitting.max_by(largest).map(|(place, slot)| (place, *slot)) else { break };
        slots[hottest].swap_remove(place);
        slots[coldest].push(slot);
        loads[hottest] -= resource.loads[slot];
        loads[coldest] += resource.loads[slot];
        owners[slot] = u32::try_from(coldest).unwrap();
    }
    outcome(problem, goals, &owners)
}

/// As many slots for each node as its weight asks for, the lowest ones first, as `redis-cli --cluster rebalance` has it.
pub(crate) fn even_counts(problem: &Problem, goals: &Goals) -> Outcome {
    let capacity = |node: usize| if problem.nodes[node].counts() { problem.resources[0].capacity[node] } else { 0.0 };
    let total: f64 = (0..problem.nodes.len()).map(capacity).sum();
    let mut owners = problem.owners.clone();
    let expected = |node: usize| (owners.len() as f64 * capacity(node) / total) as usize;
    let wanted: Vec<usize> = (0..problem.nodes.len()).map(expected).collect();
    let mut counts = vec![0; wanted.len()];
    owners.iter().for_each(|owner| counts[*owner as usize] += 1);
    for owner in &mut owners {
        let source = *owner as usize;
        if counts[source] <= wanted[source] {
            continue;
        }
        if let Some(target) = (0..wanted.len()).find(|node| counts[*node] < wanted[*node]) {
            (counts[source], counts[target]) = (counts[source] - 1, counts[target] + 1);
            *owner = u32::try_from(target).unwrap();
        }
    }
    outcome(problem, goals, &owners)
}
