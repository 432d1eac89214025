//! How even a placement is.

use serde::{Deserialize, Serialize};

use crate::floor::{FloorCause, floor};
use crate::problem::{Problem, Resource};
use crate::view::Move;

/// One resource of a placement, in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Assessment {
    /// The resource.
    pub resource: String,
    /// Whether it counts: there is load, and it is not idle.
    pub active: bool,
    /// Largest utilisation ÷ mean utilisation.
    pub imbalance: f64,
    /// A lower bound of the imbalance of any placement.
    pub floor: f64,
    /// What sets the floor.
    pub set_by: FloorCause,
}

impl Assessment {
    /// Imbalance ÷ floor: 1 is as good as can be.
    #[must_use]
    pub fn excess(&self) -> f64 {
        if self.floor > 0.0 { self.imbalance / self.floor } else { 1.0 }
    }
}

/// Largest utilisation ÷ mean utilisation (all load ÷ all capacity); 1 when there is no load.
///
/// `loads` and `capacity` are by node, of the nodes that count.
#[must_use]
pub fn imbalance(loads: &[f64], capacity: &[f64]) -> f64 {
    let mean = loads.iter().sum::<f64>() / capacity.iter().sum::<f64>();
    let largest = loads.iter().zip(capacity).map(|(load, capacity)| load / capacity).fold(0.0, f64::max);
    if mean > 0.0 && mean.is_finite() { largest / mean } else { 1.0 }
}

impl Problem {
    /// The load of each node, with slots placed as in `owners`.
    #[must_use]
    pub fn node_loads(&self, resource: &Resource, owners: &[u32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.nodes.len()];
        for (load, owner) in resource.loads.iter().zip(owners) {
            if let Some(sum) = sums.get_mut(*owner as usize) {
                *sum += load;
            }
        }
        sums
    }

    /// The imbalance of `resource` over the nodes that count, with slots placed as in `owners`.
    #[must_use]
    pub fn imbalance_of(&self, resource: &Resource, owners: &[u32]) -> f64 {
        let loads = self.node_loads(resource, owners);
        let counted = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&self.nodes).filter(|(_, node)| node.counts()).map(|(value, _)| *value).collect()
        };
        imbalance(&counted(&loads), &counted(&resource.capacity))
    }

    /// All load ÷ all capacity of the nodes that count.
    #[must_use]
    pub fn mean_utilisation(&self, resource: &Resource) -> f64 {
        let counted = resource.capacity.iter().zip(&self.nodes).filter(|(_, node)| node.counts());
        let room: f64 = counted.map(|(capacity, _)| capacity).sum();
        if room > 0.0 { self.node_loads(resource, &self.owners).iter().sum::<f64>() / room } else { 0.0 }
    }

    /// The owners after `moves`; moves of unknown slots or to unknown nodes change nothing.
    #[must_use]
    pub fn owners_after<'a>(&self, moves: impl IntoIterator<Item = &'a Move>) -> Vec<u32> {
        let mut owners = self.owners.clone();
        for step in moves {
            if (step.target as usize) < self.nodes.len()
                && let Some(owner) = owners.get_mut(usize::from(step.slot))
            {
                *owner = step.target;
            }
        }
        owners
    }

    /// Every resource with slots placed as in `owners`.
    #[must_use]
    pub fn assess(&self, owners: &[u32]) -> Vec<Assessment> {
        self.resources
            .iter()
            .map(|resource| {
                let (least, set_by) = floor(self, resource);
                Assessment {
                    resource: resource.name().to_owned(),
                    active: resource.active,
                    imbalance: self.imbalance_of(resource, owners),
                    floor: least,
                    set_by,
                }
            })
            .collect()
    }
}
