//! What a run begins with, the same for every policy: nodes, owners, load over time, and what will happen.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

use serde_json::{Map, Value};

use super::scenario::{self, Event, Placement, Scenario};
use super::workload::{Made, Workload, ms};
use super::world::{Counted, Node, Noise};
use crate::collector;
use crate::guard::Limits;
use crate::model::{Address, NodeId, SLOT_COUNT};
use crate::scaling::Scaling;

/// Everything that is settled before a run.
#[derive(Debug, Clone)]
pub struct Case {
    /// What reports call it.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Parameters of policies by name.
    pub parameters: BTreeMap<String, Map<String, Value>>,
    pub(super) seed: u64,
    pub(super) end_ms: u64,
    pub(super) warm_up_ms: u64,
    pub(super) cycle_ms: u64,
    pub(super) nodes: Vec<Node>,
    /// What nodes that join later are like.
    pub(super) newcomers: scenario::Cluster,
    pub(super) owners: Vec<u32>,
    pub(super) workload: Workload,
    pub(super) events: Vec<Event>,
    /// What happens when, sorted.
    pub(super) marks: Vec<Mark>,
    pub(super) noise: Noise,
    pub(super) migration: scenario::Migration,
    pub(super) limits: Limits,
    pub(super) scaling: Option<Scaling>,
    pub(super) collect: collector::Settings,
}

impl Case {
    /// A scenario with everything that chance decides, decided by `seed`.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let mut workload = Workload::Made(Box::new(Made::new(scenario, seed)));
        let nodes: Vec<Node> = (0..scenario.cluster.nodes).map(|number| node(number, &scenario.cluster)).collect();
        let owners = match scenario.cluster.slots {
            Placement::Ranges => (0..SLOT_COUNT).map(|slot| (slot * nodes.len() / SLOT_COUNT) as u32).collect(),
            Placement::Balanced => largest_first(&workload.at(0).cpu, &nodes),
        };
        let end_ms = (scenario.hours * 3_600_000.0) as u64;
        let to_json = |table: &toml::Table| match serde_json::to_value(table) {
            Ok(Value::Object(parameters)) => parameters,
            _ => Map::new(),
        };
        Self {
            name: scenario.name.clone(),
            summary: scenario.summary.clone(),
            parameters: scenario.policy.iter().map(|(name, table)| (name.clone(), to_json(table))).collect(),
            seed,
            end_ms,
            warm_up_ms: ms(scenario.warm_up),
            cycle_ms: ms(scenario.cycle),
            nodes,
            newcomers: scenario.cluster.clone(),
            owners,
            workload,
            events: scenario.event.clone(),
            marks: marks(scenario, end_ms),
            noise: Noise {
                variation: scenario.load.noise,
                command_usec: scenario.load.command.as_secs_f64() * 1e6,
                cycle_ms: ms(scenario.cycle),
            },
            migration: scenario.migration.clone(),
            limits: scenario.limits.clone(),
            scaling: scenario.scaling.clone(),
            collect: scenario.collector.clone(),
        }
    }

    /// Simulated hours.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.end_ms as f64 / 3_600_000.0
    }

    /// Bytes of all slots at the beginning.
    pub(super) fn bytes(&self) -> f64 {
        self.workload.clone().at(0).bytes.iter().sum()
    }

    /// Primaries at the beginning.
    #[must_use]
    pub fn primaries(&self) -> usize {
        self.nodes.len()
    }
}

/// The id of the node that joined as number so many; replicas have ids of their own.
pub(super) fn id(number: u64) -> NodeId {
    format!("{:040x}", number + 1).parse().expect("forty hexadecimal digits")
}

/// Where that node answers.
pub(super) fn address(number: u64) -> Address {
    Address::new(format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255), 6379)
}

/// The node that joins as number so many.
pub(super) fn node(number: usize, cluster: &scenario::Cluster) -> Node {
    let zones = &cluster.zones;
    Node {
        id: id(number as u64),
        address: address(number as u64),
        zone: if zones.is_empty() { String::new() } else { zones[number % zones.len()].clone() },
        weight: cluster.weights.get(number).copied().unwrap_or(1.0),
        memory_max: cluster.memory,
        replicas: cluster.replicas,
        epoch: number as u64 + 1,
        draining: false,
        down: false,
        silent: false,
        migrations: 0,
        counted: Counted::default(),
    }
}

/// Every slot to the node with the least utilisation, the largest one first (Graham's LPT).
fn largest_first(loads: &[f64], nodes: &[Node]) -> Vec<u32> {
    let mut slots: Vec<usize> = (0..SLOT_COUNT).collect();
    slots.sort_by(|one, other| loads[*other].total_cmp(&loads[*one]));
    // Positive floats are in the order of their bits.
    let mut queue: BinaryHeap<Reverse<(u64, u32)>> = (0..nodes.len() as u32).map(|place| Reverse((0, place))).collect();
    let mut owners = vec![0; SLOT_COUNT];
    for slot in slots {
        if let Some(Reverse((height, place))) = queue.pop() {
            owners[slot] = place;
            let height = f64::from_bits(height) + loads[slot] / nodes[place as usize].weight;
            queue.push(Reverse((height.to_bits(), place)));
        }
    }
    owners
}

/// Something that happens, for people and for figures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) at_ms: u64,
    pub(super) name: &'static str,
    /// Whether it changes how even the cluster is: then it counts how soon a policy evens it again.
    pub(super) disturbs: bool,
}

impl Mark {
    pub(super) const fn disturbs(at_ms: u64, name: &'static str) -> Self {
        Self { at_ms, name, disturbs: true }
    }

    const fn harmless(at_ms: u64, name: &'static str) -> Self {
        Self { at_ms, name, disturbs: false }
    }
}

/// The beginning, everything that happens, and every sudden change of load.
fn marks(scenario: &Scenario, end_ms: u64) -> Vec<Mark> {
    let mut marks = vec![Mark::disturbs(0, "start")];
    let mut every = |step: Option<u64>, name| {
        if let Some(step) = step {
            marks
                .extend((1..).map(|number| Mark::disturbs(number * step, name)).take_while(|mark| mark.at_ms < end_ms));
        }
    };
    every(scenario.load.swap.as_ref().map(|swap| ms(swap.every)), "swap");
    every(scenario.load.flip.as_ref().map(|flip| ms(flip.every)), "flip");
    for event in &scenario.event {
        let at_ms = ms(event.at());
        match event {
            // What it does shows when it has grown, and once more when it is over.
            Event::Burst { ramp, lasts, fade, .. } => {
                let grown_ms = at_ms + ms(*ramp);
                marks.push(Mark::disturbs(grown_ms, "burst"));
                marks.push(Mark::disturbs(grown_ms + ms(*lasts) + ms(*fade), "over"));
            }
            Event::Join { .. } => marks.push(Mark::disturbs(at_ms, "join")),
            Event::Drain { .. } => marks.push(Mark::disturbs(at_ms, "drain")),
            // The replica takes over what the dead node had: the balance stays as it was.
            Event::Fail { .. } => marks.push(Mark::harmless(at_ms, "fail")),
            Event::FailZone { .. } => marks.push(Mark::harmless(at_ms, "zone fails")),
            Event::Silence { .. } => marks.push(Mark::harmless(at_ms, "silence")),
            Event::Stuck { .. } => marks.push(Mark::harmless(at_ms, "stuck")),
        }
    }
    marks.retain(|mark| mark.at_ms <= end_ms);
    marks.sort();
    marks
}
