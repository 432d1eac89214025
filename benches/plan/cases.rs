//! Made-up clusters: so many nodes, so skewed a load, and what just happened to them.

use std::collections::BTreeMap;
use std::fmt;

use ballast::model::{NodeColumn, Owners, Snapshot, Tag};
use ballast::policy::synthetic_snapshot;

const SLOTS: usize = 16384;
/// Keys whose popularity falls off by Zipf's law, hashed to slots.
const KEYS: u32 = 1_000_000;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// Even ranges of slots.
    Even,
    /// A tenth of the nodes has just joined, empty.
    Out,
    /// A tenth of the nodes is to leave.
    In,
    /// A third of the nodes is gone, and their slots are with others.
    ZoneLoss,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) skew: f64,
    pub(crate) nodes: usize,
    pub(crate) start: Start,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = match self.start {
            Start::Even => "even",
            Start::Out => "out",
            Start::In => "in",
            Start::ZoneLoss => "zone loss",
        };
        write!(f, "zipf {} {} {start}", self.skew, self.nodes)
    }
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for skew in [0.0, 0.8, 0.99, 1.2] {
        for nodes in [3, 10, 30, 100, 300, 1000] {
            for start in [Start::Even, Start::Out, Start::In, Start::ZoneLoss] {
                cases.push(Case { skew, nodes, start });
            }
        }
    }
    cases
}

/// A small generator, so that the table is the same everywhere.
struct Lot(u64);

impl Lot {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Loads of keys with Zipf popularity, hashed to slots: 1 million in all.
pub(crate) fn column(skew: f64, seed: u64, slots: usize) -> Vec<f64> {
    let mut lot = Lot(seed);
    let mut column = vec![0.0; slots];
    for rank in 1..=KEYS {
        column[(lot.next() * slots as f64) as usize] += f64::from(rank).powf(-skew);
    }
    let total: f64 = column.iter().sum();
    column.iter().map(|load| load / total * 1e6).collect()
}

/// The same loads, so that the hottest node is busy for six tenths of the time.
fn bearable(mut loads: Vec<f64>, owners: &[usize]) -> Vec<f64> {
    let mut heights = vec![0.0; owners.iter().max().map_or(0, |last| last + 1)];
    loads.iter().zip(owners).for_each(|(load, owner)| heights[*owner] += load / weight(*owner));
    let hottest = heights.into_iter().fold(0.0, f64::max);
    loads.iter_mut().for_each(|load| *load *= 0.6e6 / hottest);
    loads
}

/// Nodes of two sizes.
pub(crate) fn weight(node: usize) -> f64 {
    if node % 4 == 3 { 2.0 } else { 1.0 }
}

impl Case {
    pub(crate) fn snapshot(self) -> Snapshot {
        let tenth = self.nodes.div_ceil(10);
        let mut owners: Vec<usize> = match self.start {
            Start::Out => (0..SLOTS).map(|slot| slot * (self.nodes - tenth) / SLOTS).collect(),
            _ => (0..SLOTS).map(|slot| slot * self.nodes / SLOTS).collect(),
        };
        let mut nodes = self.nodes;
        if matches!(self.start, Start::ZoneLoss) {
            // Every third node's slots are with the one before it.
            let kept: Vec<usize> = (0..nodes).filter(|node| node % 3 != 2).collect();
            for owner in &mut owners {
                let heir = *owner - usize::from(*owner % 3 == 2);
                *owner = kept.iter().position(|node| *node == heir).unwrap();
            }
            nodes = kept.len();
        }
        let mut snapshot = synthetic_snapshot(nodes);
        let cpu = bearable(column(self.skew, 1, SLOTS), &owners);
        snapshot.owners = Owners::new(owners.into_iter().map(|owner| u32::try_from(owner).unwrap()).collect());
        let columns = [
            ("cpu-usec", cpu),
            ("bytes", column(0.0, 2, SLOTS)),
            ("net-in", column(self.skew / 2.0, 3, SLOTS)),
            ("ops", column(self.skew, 4, SLOTS)),
        ];
        snapshot.slot_columns = columns.into_iter().map(|(name, values)| (name.to_owned(), values.into())).collect();
        let weights = NodeColumn((0..nodes).map(weight).collect());
        snapshot.node_columns = BTreeMap::from([("weight".to_owned(), weights)]);
        if matches!(self.start, Start::In) {
            for node in snapshot.primaries.iter_mut().rev().take(tenth) {
                node.tags.push(Tag::Draining);
            }
        }
        snapshot
    }
}
