//! How even the cluster really is, by the arithmetic of the planning library on the true loads.

use std::collections::BTreeMap;
use std::sync::Arc;

use ballast_search::{Goals, Problem, View, ViewNode, floor};

use super::world::World;
use crate::model::resource;

/// What is judged, in the order of all figures.
pub(super) const RESOURCES: [&str; 3] = ["cpu", "memory", "network"];

/// Imbalance of one resource, and the least that any placement could reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evenness {
    pub(super) imbalance: f64,
    pub(super) floor: f64,
}

impl Evenness {
    /// Imbalance ÷ floor: 1 is as good as can be.
    pub(super) fn excess(self) -> f64 {
        self.imbalance / self.floor.max(f64::MIN_POSITIVE)
    }
}

/// Loads and nodes as they are now, ready to be judged. Floors cost, so they are found once for each change of these.
pub(super) struct Judge {
    problem: Problem,
    floors: [f64; 3],
}

impl Judge {
    pub(super) fn of(world: &World) -> Self {
        // A view of a sound world makes a problem; else nothing is judged, and all counts as even.
        let problem = Problem::of(&view(world), &Goals::default()).expect("columns fit the nodes");
        let floors = std::array::from_fn(|place| floor(&problem, &problem.resources[place]).0);
        Self { problem, floors }
    }

    pub(super) fn judge(&self, owners: &[u32]) -> [Evenness; 3] {
        std::array::from_fn(|place| Evenness {
            imbalance: self.problem.imbalance_of(&self.problem.resources[place], owners),
            floor: self.floors[place],
        })
    }
}

fn view(world: &World) -> View {
    let node = |node: &super::world::Node| ViewNode {
        id: node.id.to_string(),
        address: node.address.to_string(),
        zone: node.zone.clone(),
        tags: if node.draining { vec!["draining".to_owned()] } else { Vec::new() },
    };
    let loads = &world.loads;
    let slot_columns = [
        (resource::CPU_USEC, Arc::from(loads.cpu.as_slice())),
        (resource::NET_IN, Arc::from(loads.net_in.as_slice())),
        (resource::NET_OUT, Arc::from(loads.net_out.as_slice())),
        (resource::BYTES, loads.bytes.clone()),
    ];
    let memory_max = |node: &super::world::Node| if node.memory_max > 0 { node.memory_max as f64 } else { f64::NAN };
    let node_columns = [
        (resource::WEIGHT, world.nodes.iter().map(|node| node.weight).collect()),
        (resource::MEMORY_MAX, world.nodes.iter().map(memory_max).collect()),
    ];
    let named = |(name, column): (&str, Arc<[f64]>)| (name.to_owned(), column);
    View {
        window_s: 1,
        nodes: world.nodes.iter().map(node).collect(),
        owners: world.owners.as_slice().into(),
        slot_columns: slot_columns.into_iter().map(named).collect::<BTreeMap<_, _>>(),
        node_columns: node_columns.into_iter().map(named).collect::<BTreeMap<_, _>>(),
        ..View::default()
    }
}
