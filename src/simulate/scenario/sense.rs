//! Whether what a scenario says can be: bounds of single keys, and keys that contradict each other. Pure.

use std::time::Duration;

use super::{Event, Scenario};
use crate::model::SLOT_COUNT;

/// Everything that makes no sense, each with its key.
pub(super) fn problems(scenario: &Scenario) -> Vec<String> {
    let mut problems = Vec::new();
    let mut require = |fine: bool, key: &str, accepted: &str| {
        if !fine {
            problems.push(format!("{key}: {accepted}"));
        }
    };
    let Scenario { cluster, load, data, migration, .. } = scenario;
    require(scenario.hours > 0.0 && scenario.hours <= 10_000.0, "hours", "more than 0 and at most 10000 are accepted");
    require(scenario.cycle >= Duration::from_secs(1), "cycle", "1s or more is accepted");
    require(scenario.warm_up.as_secs_f64() < scenario.hours * 3600.0, "warm_up", "it must end before hours are over");
    require((2..=1000).contains(&cluster.nodes), "cluster.nodes", "2 to 1000 are accepted");
    require(cluster.weights.iter().all(|weight| *weight > 0.0), "cluster.weights", "numbers above 0 are accepted");
    require(load.utilisation > 0.0 && load.utilisation < 1.0, "load.utilisation", "between 0 and 1 is accepted");
    require((0.0..=3.0).contains(&load.skew), "load.skew", "0 to 3 is accepted");
    require((0.0..=2.0).contains(&load.noise), "load.noise", "0 to 2 is accepted");
    require(!load.command.is_zero(), "load.command", "more than nothing is accepted");
    require(
        load.swap.as_ref().is_none_or(|swap| swap.slots <= SLOT_COUNT / 2 && swap.every >= scenario.cycle),
        "load.swap",
        "at most 8192 slots, every cycle or less often",
    );
    require(
        load.wave.as_ref().is_none_or(|wave| {
            (0.0..=1.0).contains(&wave.swing) && (1..=64).contains(&wave.groups) && wave.period >= scenario.cycle
        }),
        "load.wave",
        "a swing of 0 to 1, 1 to 64 groups and a period of a cycle or more are accepted",
    );
    require(load.drift.as_ref().is_none_or(|drift| drift.over >= scenario.cycle), "load.drift.over", "a cycle or more");
    require(
        load.flip.as_ref().is_none_or(|flip| flip.factor >= 1.0 && flip.every >= Duration::from_secs(1)),
        "load.flip",
        "a factor of 1 or more, every second or less often",
    );
    let giant = load.giant.is_none_or(|giant| giant > 0.0 && giant < cluster.nodes as f64);
    require(giant, "load.giant", "more than 0 and less than all nodes' shares is accepted");
    require(data.per_node > 0 && data.key > 0, "data", "per_node and key above 0 are accepted");
    require((0.0..=3.0).contains(&data.spread), "data.spread", "0 to 3 is accepted");
    require(migration.bandwidth > 0, "migration.bandwidth", "more than 0 is accepted");
    require((0.0..=1.0).contains(&migration.busy), "migration.busy", "0 to 1 is accepted");
    let joined: usize =
        scenario.event.iter().map(|event| if let Event::Join { nodes, .. } = event { *nodes } else { 0 }).sum();
    let known = |node: usize| node < cluster.nodes + joined;
    for (place, event) in scenario.event.iter().enumerate() {
        let (fine, key, accepted) = match event {
            Event::Burst { slots, factor, .. } => {
                (*slots <= SLOT_COUNT && *factor >= 0.0, "slots", "at most 16384 slots and a factor of 0 or more")
            }
            Event::Fail { node, .. } => (known(*node) && cluster.replicas > 0, "node", "a node with a replica"),
            Event::Silence { node, .. } => (known(*node), "node", "the number of a node"),
            Event::Drain { nodes, .. } => (nodes.iter().all(|node| known(*node)), "nodes", "numbers of nodes"),
            Event::Join { nodes, .. } => ((1..=1000).contains(nodes), "nodes", "1 to 1000"),
            Event::Stuck { .. } => (true, "", ""),
        };
        require(fine, &format!("event.{place}.{key}"), accepted);
        let in_time = event.at().as_secs_f64() <= scenario.hours * 3600.0;
        require(in_time, &format!("event.{place}.at"), "it must come before hours are over");
    }
    problems
}
