//! Puts topology, answers and memory together into a snapshot. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agree::{Silent, Topology};
use super::ask::{Answer, Told};
use super::memory::{Memory, NodeMemory};
use super::settings::Marks;
use crate::model::{
    AtomicJob, Column, LinkState, MetricInfo, MetricSource, NodeColumn, NodeId, NodeRecord, Owners, Primary, Problem,
    Replica, Role, Snapshot, Tag, resource,
};

/// Which snapshot it is.
pub(super) struct Occasion {
    pub(super) generation: u64,
    pub(super) taken_at_ms: u64,
    /// Longest time over which rates can be said to be measured, older looks having faded.
    pub(super) longest_window: Duration,
}

/// The slot loads, in the order in which they are counted.
const LOADS: [&str; 3] = [resource::CPU_USEC, resource::NET_IN, resource::NET_OUT];

pub(super) fn assemble(
    occasion: &Occasion,
    topology: Topology,
    answers: &BTreeMap<NodeId, Answer>,
    silent: &Silent,
    memory: &Memory,
    marks: &Marks,
) -> Snapshot {
    let owners = Owners::new(topology.owners);
    let window_s = window_s(&topology.primaries, answers, memory, occasion.longest_window);
    let mut problems = topology.problems;
    for record in topology.primaries.iter().chain(&topology.replicas) {
        problems.extend(answers.get(&record.id).and_then(|answer| problem(record, answer)));
    }
    if window_s == 0 {
        problems.push(Problem::WarmingUp);
    }
    let primaries = topology.primaries.iter().zip(0..).map(|(record, place)| {
        let empty = !owners.as_slice().contains(&place);
        primary(record, answers.get(&record.id), silent.contains_key(&record.address), empty, marks)
    });
    let replicas = topology.replicas.iter().map(|record| replica(record, answers.get(&record.id), &topology.primaries));
    let jobs = answers.iter().flat_map(|(id, answer)| atomic_jobs(id, answer));

    Snapshot {
        generation: occasion.generation,
        taken_at_ms: occasion.taken_at_ms,
        window_s,
        primaries: primaries.collect(),
        replicas: replicas.collect(),
        owners: owners.clone(),
        slot_columns: slot_columns(memory),
        node_columns: node_columns(&topology.primaries, answers, memory, marks),
        metrics: metrics(&topology.primaries, memory),
        errors: errors(&topology.primaries, memory),
        open_slots: topology.open,
        atomic_jobs: jobs.collect(),
        in_flight: Vec::new(),
        problems,
    }
}

/// What all primaries together replied with an error since they were last looked at.
fn errors(primaries: &[NodeRecord], memory: &Memory) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (code, count) in primaries.iter().filter_map(|record| memory.nodes.get(&record.id)).flat_map(NodeMemory::errors)
    {
        *sums.entry(code.to_owned()).or_default() += count;
    }
    sums
}

/// Seconds over which the rates of *every* primary with slots were measured; 0 while one of them was seen once only:
/// its slots would look cold.
fn window_s(primaries: &[NodeRecord], answers: &BTreeMap<NodeId, Answer>, memory: &Memory, longest: Duration) -> u32 {
    let serving = primaries.iter().filter(|record| !record.slots.is_empty() && answers.contains_key(&record.id));
    let watched = serving.map(|record| memory.nodes.get(&record.id).map_or(0.0, NodeMemory::watched_s));
    let shortest = watched.fold(longest.as_secs_f64(), f64::min);
    if shortest > 0.0 && !primaries.is_empty() { (shortest.round() as u32).max(1) } else { 0 }
}

fn problem(record: &NodeRecord, answer: &Answer) -> Option<Problem> {
    let node = record.address.clone();
    let Some(told) = &answer.told else {
        return Some(Problem::NodeLoading { node });
    };
    let detail = told.capabilities.slot_stats_advice()?;
    (!told.slots.is_empty()).then_some(Problem::SlotStatsOff { node, detail })
}

fn version(answer: Option<&Answer>) -> String {
    answer.and_then(|answer| answer.info.server()).map(|server| server.to_string()).unwrap_or_default()
}

fn primary(record: &NodeRecord, answer: Option<&Answer>, silent: bool, empty: bool, marks: &Marks) -> Primary {
    let mark = marks.of(&record.id, &record.address);
    let suspect = silent || record.state != LinkState::Ok;
    let loading = answer.is_some_and(|answer| answer.told.is_none());
    let tags = [
        (Tag::Primary, true),
        (Tag::Empty, empty),
        (Tag::Cordoned, mark.cordoned),
        (Tag::Draining, mark.draining),
        (Tag::Loading, loading),
        (Tag::Suspect, suspect),
    ];
    // Valkey 8 tells the zone that it was configured with.
    let told_zone = answer.and_then(|answer| answer.info.get("availability_zone")).unwrap_or_default();
    Primary {
        id: record.id.clone(),
        address: record.address.clone(),
        hostname: record.hostname.clone(),
        version: version(answer),
        zone: mark.zone.unwrap_or_else(|| told_zone.to_owned()),
        tags: tags.into_iter().filter(|(_, holds)| *holds).map(|(tag, _)| tag).collect(),
        config_epoch: record.config_epoch,
    }
}

fn replica(record: &NodeRecord, answer: Option<&Answer>, primaries: &[NodeRecord]) -> Replica {
    let of = match &record.role {
        Role::Replica { of: Some(primary) } => primaries.iter().zip(0..).find(|(known, _)| known.id == *primary),
        Role::Replica { of: None } | Role::Primary => None,
    };
    Replica {
        id: record.id.clone(),
        address: record.address.clone(),
        hostname: record.hostname.clone(),
        of: of.map(|(_, place)| place),
        online: answer.is_some_and(|answer| answer.info.primary_link_up()),
        version: version(answer),
    }
}

fn atomic_jobs<'a>(id: &'a NodeId, answer: &'a Answer) -> impl Iterator<Item = AtomicJob> + 'a {
    let jobs = answer.told.iter().flat_map(|told| &told.jobs).filter(|job| !job.finished);
    jobs.map(|job| AtomicJob {
        name: job.name.clone(),
        node: id.clone(),
        slots: job.slots.clone(),
        state: job.state.clone(),
    })
}

fn slot_columns(memory: &Memory) -> BTreeMap<String, Column> {
    let mut columns = BTreeMap::new();
    for (place, name) in LOADS.into_iter().enumerate() {
        let loads = || memory.slots.iter().map(move |slot| slot.loads()[place]);
        columns.insert(name.to_owned(), loads().map(|load| load.fast).collect());
        columns.insert(format!("{name}/slow"), loads().map(|load| load.slow).collect());
        columns.insert(format!("{name}/variance"), loads().map(|load| load.variance).collect());
    }
    columns.insert(resource::KEYS.to_owned(), memory.slots.iter().map(|slot| slot.keys).collect());
    columns.insert(resource::BYTES.to_owned(), memory.slots.iter().map(|slot| slot.bytes).collect());
    columns
}

fn node_columns(
    primaries: &[NodeRecord],
    answers: &BTreeMap<NodeId, Answer>,
    memory: &Memory,
    marks: &Marks,
) -> BTreeMap<String, NodeColumn> {
    let column = |value: &dyn Fn(&NodeRecord) -> Option<f64>| {
        NodeColumn(primaries.iter().map(|record| value(record).unwrap_or(f64::NAN)).collect())
    };
    let info = |record: &NodeRecord| answers.get(&record.id).map(|answer| &answer.info);
    let told = |record: &NodeRecord| -> Option<&Told> { answers.get(&record.id)?.told.as_ref() };
    let mark = |record: &NodeRecord| marks.of(&record.id, &record.address);
    // Rates of a node that is silent now are those of its last looks.
    let rate = |record: &NodeRecord, place: usize| Some(memory.nodes.get(&record.id)?.rates()?[place].fast);
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let columns = [
        (resource::CPU, column(&|record| rate(record, 0).map(|usec| usec / 1e6))),
        (resource::OPS, column(&|record| rate(record, 1))),
        (resource::NET_IN, column(&|record| rate(record, 2))),
        (resource::NET_OUT, column(&|record| rate(record, 3))),
        (resource::MEMORY_USED, column(&|record| bytes(info(record)?.used_memory()))),
        (resource::MEMORY_MAX, column(&|record| bytes(mark(record).memory.or(info(record)?.maxmemory())))),
        (resource::WEIGHT, column(&|record| Some(mark(record).weight.unwrap_or(1.0)))),
        (
            resource::REPLICAS,
            column(&|record| Some(info(record)?.replicas().filter(|replica| replica.online).count() as f64)),
        ),
        (
            resource::REPLICA_LAG,
            column(&|record| Some(info(record)?.replicas().map(|replica| replica.lag_bytes).max().unwrap_or(0) as f64)),
        ),
        (resource::PROBE_USEC, column(&|record| Some(told(record)?.probe.as_secs_f64() * 1e6))),
    ];
    columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect()
}

fn metrics(primaries: &[NodeRecord], memory: &Memory) -> Vec<MetricInfo> {
    let nodes: Vec<&NodeMemory> = primaries.iter().filter_map(|record| memory.nodes.get(&record.id)).collect();
    let bytes = trust(&nodes, |node| node.estimated_bytes);
    let loads = trust(&nodes, |node| node.estimated_loads);
    let counted = (MetricSource::Measured, 1.0);
    let metric = |name: String, unit: &str, help: &str, (source, confidence): (MetricSource, f64)| MetricInfo {
        name,
        unit: unit.to_owned(),
        help: help.to_owned(),
        source,
        confidence,
    };
    let slot_loads = [
        (resource::CPU_USEC, "µs/s", "time of the server's main thread"),
        (resource::NET_IN, "B/s", "bytes received"),
        (resource::NET_OUT, "B/s", "bytes sent"),
    ];
    let mut metrics = Vec::new();
    for (name, unit, help) in slot_loads {
        let slow = format!("{help}, slow mean");
        let variance = format!("{help}, variance around the fast mean");
        metrics.push(metric(format!("slot/{name}"), unit, help, loads));
        metrics.push(metric(format!("slot/{name}/slow"), unit, &slow, loads));
        metrics.push(metric(format!("slot/{name}/variance"), &format!("({unit})²"), &variance, loads));
    }
    metrics.push(metric(format!("slot/{}", resource::KEYS), "keys", "keys in all databases", counted));
    metrics.push(metric(format!("slot/{}", resource::BYTES), "B", "keys and values with their overhead", bytes));
    for (name, unit, help) in [
        (resource::CPU, "cores", "share of one core that the main thread uses"),
        (resource::OPS, "1/s", "commands"),
        (resource::NET_IN, "B/s", "bytes received"),
        (resource::NET_OUT, "B/s", "bytes sent"),
        (resource::MEMORY_USED, "B", "memory in use"),
        (resource::MEMORY_MAX, "B", "limit on memory, from the server or the operator"),
        (resource::WEIGHT, "", "the operator's weight"),
        (resource::REPLICAS, "", "replicas connected and in sync"),
        (resource::REPLICA_LAG, "B", "largest replication lag"),
        (resource::PROBE_USEC, "µs", "round trip of our own probe"),
    ] {
        metrics.push(metric(format!("node/{name}"), unit, help, counted));
    }
    metrics
}

/// How far to trust a column: what each node's part deserves, weighted by its keys.
fn trust(nodes: &[&NodeMemory], estimated: impl Fn(&NodeMemory) -> Option<f64>) -> (MetricSource, f64) {
    if nodes.iter().all(|node| estimated(node).is_none()) {
        return (MetricSource::Measured, 1.0);
    }
    // One more key each: a cluster without keys has a confidence too.
    let weight = |node: &NodeMemory| node.keys + 1.0;
    let sum: f64 = nodes.iter().map(|node| weight(node)).sum();
    let trusted: f64 = nodes.iter().map(|node| weight(node) * estimated(node).unwrap_or(1.0)).sum();
    (MetricSource::Estimated, trusted / sum)
}
