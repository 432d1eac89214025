//! `ballast check`: is the cluster healthy? Reads only.

use std::fmt::Write as _;

use serde::Serialize;

use super::look::Eye;
use super::nodes;
use super::outcome::{Exit, Outcome};
use super::screen::Screen;
use super::target::Target;
use crate::control::{NodeRow, node_rows};
use crate::model::{AtomicJob, OpenSlot, Problem, Replica, SLOT_COUNT, Snapshot};

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    taken_at_ms: u64,
    slots_served: usize,
    primaries: Vec<NodeRow>,
    replicas: &'a [Replica],
    open_slots: &'a [OpenSlot],
    atomic_jobs: &'a [AtomicJob],
    problems: Vec<Named<'a>>,
}

/// A problem with its sentence.
#[derive(Serialize)]
struct Named<'a> {
    message: String,
    unhealthy: bool,
    #[serde(flatten)]
    problem: &'a Problem,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let connection = args.target.connect(screen)?;
    let snapshot = Eye::new(&connection).glance().await?;
    let health = examine(&snapshot);
    screen.show("Check", &health, || text(&health, &snapshot))?;
    Ok(if health.healthy { Exit::Ok } else { Exit::Unhealthy })
}

fn examine(snapshot: &Snapshot) -> Health<'_> {
    let problems: Vec<Named<'_>> = snapshot
        .problems
        .iter()
        // One look is all that health takes.
        .filter(|problem| **problem != Problem::WarmingUp)
        .map(|problem| Named { message: problem.to_string(), unhealthy: is_unhealthy(problem), problem })
        .collect();
    Health {
        healthy: !problems.iter().any(|named| named.unhealthy) && snapshot.open_slots.is_empty(),
        taken_at_ms: snapshot.taken_at_ms,
        slots_served: snapshot.owners.as_slice().iter().filter(|owner| **owner != crate::model::NO_OWNER).count(),
        primaries: node_rows(snapshot),
        replicas: &snapshot.replicas,
        open_slots: &snapshot.open_slots,
        atomic_jobs: &snapshot.atomic_jobs,
        problems,
    }
}

/// Whatever stops moves, and whatever leaves a shard with less redundancy or a slot half-moved.
fn is_unhealthy(problem: &Problem) -> bool {
    problem.blocks_moves() || matches!(problem, Problem::ReplicaUnreachable { .. } | Problem::SlotsOpen { .. })
}

fn text(health: &Health<'_>, snapshot: &Snapshot) -> String {
    let mut text = format!(
        "{} primaries, {} replicas, {} of {SLOT_COUNT} slots served\n",
        health.primaries.len(),
        health.replicas.len(),
        health.slots_served
    );
    text.push_str(&nodes::listing(snapshot));
    for named in &health.problems {
        let mark = if named.unhealthy { "!" } else { "-" };
        let _ = writeln!(text, "{mark} {}", named.message);
    }
    for job in health.atomic_jobs {
        let _ = writeln!(text, "- an atomic migration of slots {} is {}", job.slots, job.state);
    }
    let _ =
        writeln!(text, "{}", if health.healthy { "The cluster is healthy." } else { "The cluster is not healthy." });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::SlotId;

    #[test]
    fn a_first_look_is_enough_and_an_open_slot_is_not_healthy() {
        let mut snapshot = synthetic(3, 1);
        snapshot.problems.push(Problem::WarmingUp);
        assert!(examine(&snapshot).healthy);
        let node = snapshot.primaries[0].address.clone();
        snapshot.problems.push(Problem::SlotStatsOff { node: node.clone(), detail: "off".into() });
        assert!(examine(&snapshot).healthy, "a matter of precision, not of health");
        let slots = [SlotId::new(7).expect("a slot")].into_iter().collect();
        snapshot.problems.push(Problem::SlotsOpen { node, slots });
        assert!(!examine(&snapshot).healthy);
    }
}
