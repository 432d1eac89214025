//! Whether what a scenario says can be: bounds of single keys, and keys that contradict each other. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Cluster, Event, Scenario};
use crate::model::SLOT_COUNT;
use crate::scaling::{Scaling, Standby, Victim};

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
        "at most 8192 slots, every cycle or less often, are accepted",
    );
    require(
        load.wave.as_ref().is_none_or(|wave| {
            (0.0..=1.0).contains(&wave.swing) && (1..=64).contains(&wave.groups) && wave.period >= scenario.cycle
        }),
        "load.wave",
        "a swing of 0 to 1, 1 to 64 groups and a period of a cycle or more are accepted",
    );
    require(
        load.drift.as_ref().is_none_or(|drift| drift.over >= scenario.cycle),
        "load.drift.over",
        "a cycle or more is accepted",
    );
    require(
        load.flip.as_ref().is_none_or(|flip| flip.factor >= 1.0 && flip.every >= Duration::from_secs(1)),
        "load.flip",
        "a factor of 1 or more, every second or less often, is accepted",
    );
    let giant = load.giant.is_none_or(|giant| giant > 0.0 && giant < cluster.nodes as f64);
    require(giant, "load.giant", "more than 0 and less than all nodes' shares is accepted");
    require(data.per_node > 0 && data.key > 0, "data", "per_node and key above 0 are accepted");
    require(data.per_node < cluster.memory, "data.per_node", "less than cluster.memory is accepted");
    require((0.0..=3.0).contains(&data.spread), "data.spread", "0 to 3 is accepted");
    require(migration.bandwidth > 0, "migration.bandwidth", "more than 0 is accepted");
    require((0.0..=1.0).contains(&migration.busy), "migration.busy", "0 to 1 is accepted");
    problems.extend(scenario.scaling.iter().flat_map(|scaling| of_scaling(scaling, cluster)));
    problems.extend(scenario.event.iter().enumerate().flat_map(|(place, event)| of_event(scenario, place, event)));
    problems
}

/// What is wrong with how nodes are to come and go.
fn of_scaling(scaling: &Scaling, cluster: &Cluster) -> Vec<String> {
    let out_of_range = scaling.out_of_range().into_iter().map(|(key, accepted)| format!("scaling.{key}: {accepted}"));
    let mut problems: Vec<String> = out_of_range.collect();
    if scaling.min_shards as usize > cluster.nodes {
        problems.push(format!("scaling.min_shards: cluster.nodes are {}; no more is accepted", cluster.nodes));
    }
    if scaling.victim == Victim::HighestOrdinal {
        problems.push("scaling.victim: policy and external are accepted: nodes of a model have no ordinals".to_owned());
    }
    if scaling.standby != Standby::default() {
        problems.push("scaling.standby: nodes of a model come by themselves, after cluster.arrives_after".to_owned());
    }
    problems
}

/// What is wrong with the event at this place, by what has happened until then.
fn of_event(scenario: &Scenario, place: usize, event: &Event) -> Vec<String> {
    let earlier = || scenario.event.iter().filter(|other| other.at() < event.at());
    let joined = |other: &Event| if let Event::Join { nodes, .. } = other { *nodes } else { 0 };
    let nodes = scenario.cluster.nodes + earlier().map(joined).sum::<usize>();
    let mut problems = Vec::new();
    let mut require = |fine: bool, key: &str, accepted: String| {
        if !fine {
            problems.push(format!("event.{place}.{key}: {accepted}"));
        }
    };
    let known = format!("nodes are 0 to {} at that time", nodes - 1);
    let in_time = event.at().as_secs_f64() <= scenario.hours * 3600.0;
    require(in_time, "at", format!("it must come before the {} hours are over", scenario.hours));
    match event {
        Event::Burst { slots, factor, .. } => {
            require(*slots <= SLOT_COUNT, "slots", format!("at most {SLOT_COUNT} are accepted"));
            require(*factor >= 0.0, "factor", "0 or more is accepted".to_owned());
        }
        Event::Fail { node, .. } => {
            require(*node < nodes, "node", known);
            let died =
                earlier().filter(|other| matches!(other, Event::Fail { node: dead, .. } if dead == node)).count();
            let heir = died < scenario.cluster.replicas as usize;
            require(heir, "node", format!("node {node} has no replica to take over (cluster.replicas)"));
        }
        Event::FailZone { zone, .. } => {
            let zones = &scenario.cluster.zones;
            require(zones.contains(zone), "zone", format!("cluster.zones has {}", zones.join(", ")));
            require(
                zones.len() > 1 && scenario.cluster.replicas > 0,
                "zone",
                "somebody in another zone has to take over".to_owned(),
            );
        }
        Event::Silence { node, .. } => require(*node < nodes, "node", known),
        Event::Drain { nodes: drained, .. } => {
            require(drained.iter().all(|node| *node < nodes), "nodes", known);
            let before =
                earlier().filter_map(|other| if let Event::Drain { nodes, .. } = other { Some(nodes) } else { None });
            let all: BTreeSet<&usize> = before.flatten().chain(drained).collect();
            require(all.len() < nodes, "nodes", "one node at least has to keep the slots".to_owned());
        }
        Event::Join { nodes, .. } => require((1..=1000).contains(nodes), "nodes", "1 to 1000 are accepted".to_owned()),
        Event::Stuck { .. } => {}
    }
    problems
}
