//! What a run begins with, the same for every policy: nodes, owners, load over time, and what will happen.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

use super::scenario::{self, Event, Placement, Scenario};
use super::workload::{Made, Workload, ms};
use super::world::{Counted, Node, Noise};
use crate::collector;
use crate::guard::Limits;
use crate::model::{Address, NodeId, SLOT_COUNT};

/// Everything that is settled before a run.
#[derive(Debug, Clone)]
pub struct Case {
    /// What reports call it.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Parameters of policies by name, as JSON.
    pub parameters: BTreeMap<String, String>,
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
    /// When the balance is disturbed, and by what, sorted.
    pub(super) marks: Vec<(u64, String)>,
    pub(super) noise: Noise,
    pub(super) migration: scenario::Migration,
    pub(super) limits: Limits,
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
        let to_json = |table: &toml::Table| serde_json::to_value(table).unwrap_or_default().to_string();
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
            collect: scenario.collect.clone(),
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

/// The beginning, everything that happens, and every sudden change of load.
fn marks(scenario: &Scenario, end_ms: u64) -> Vec<(u64, String)> {
    let mut marks = vec![(0, "start".to_owned())];
    let mut every = |step: Option<u64>, name: &str| {
        if let Some(step) = step {
            marks.extend(
                (1..).map(|number| number * step).take_while(|at| *at < end_ms).map(|at| (at, name.to_owned())),
            );
        }
    };
    every(scenario.load.swap.as_ref().map(|swap| ms(swap.every)), "swap");
    every(scenario.load.flip.as_ref().map(|flip| ms(flip.every)), "flip");
    for event in &scenario.event {
        let (at, name) = match event {
            // What it does shows when it has grown.
            Event::Burst { at, ramp, .. } => (*at + *ramp, "burst"),
            Event::Fail { at, .. } => (*at, "fail"),
            Event::Join { at, .. } => (*at, "join"),
            Event::Drain { at, .. } => (*at, "drain"),
            // They change nothing about the balance.
            Event::Silence { .. } | Event::Stuck { .. } => continue,
        };
        marks.push((ms(at), name.to_owned()));
    }
    marks.sort();
    marks
}
