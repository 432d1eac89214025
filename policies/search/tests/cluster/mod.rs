//! Clusters that tests make up.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;

use ballast_search::{Goals, Problem, ResourceGoal, Solution, View, ViewNode, solve};

/// A cluster of `nodes` primaries over which the slots of `loads` are dealt in ranges.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) view: View,
    pub(crate) goals: Goals,
}

pub(crate) fn cluster(nodes: usize, loads: &[f64]) -> Cluster {
    let slots = loads.len();
    let owners: Vec<u32> = (0..slots).map(|slot| u32::try_from(slot * nodes / slots).expect("small")).collect();
    let view = View {
        nodes: (0..nodes).map(|node| ViewNode { address: format!("n{node}"), ..ViewNode::default() }).collect(),
        owners: owners.into(),
        slot_columns: BTreeMap::from([("load".to_owned(), loads.into())]),
        ..View::default()
    };
    Cluster { view, goals: Goals { resources: vec![ResourceGoal::named("load")], ..Goals::default() } }
}

impl Cluster {
    pub(crate) fn tag(mut self, node: usize, tag: &str) -> Self {
        self.view.nodes[node].tags.push(tag.to_owned());
        self
    }

    pub(crate) fn owners(mut self, owner: impl Fn(usize) -> u32) -> Self {
        self.view.owners = (0..self.view.owners.len()).map(owner).collect();
        self
    }

    pub(crate) fn column(mut self, name: &str, values: Vec<f64>) -> Self {
        self.view.slot_columns.insert(name.to_owned(), values.into());
        self
    }

    pub(crate) fn nodes_have(mut self, name: &str, values: &[f64]) -> Self {
        self.view.node_columns.insert(name.to_owned(), values.into());
        self
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem::of(&self.view, &self.goals).expect("a sound view")
    }

    pub(crate) fn solve(&self) -> Solution {
        solve(&self.problem(), &self.goals)
    }

    pub(crate) fn counts_after(&self, solution: &Solution) -> Vec<usize> {
        let owners = self.problem().owners_after(&solution.moves);
        (0..self.view.nodes.len()).map(|node| owners.iter().filter(|owner| **owner as usize == node).count()).collect()
    }
}

/// Loads of `count` slots that fall off like Zipf with exponent `skew`, in an order mixed by a fixed stride.
pub(crate) fn zipf(count: usize, skew: f64) -> Vec<f64> {
    let mut loads = vec![0.0; count];
    for rank in 0..count {
        loads[(rank * 6151) % count] = 1000.0 / ((rank + 1) as f64).powf(skew);
    }
    loads
}

/// The same, with its first nodes in zone a and the others in zone b.
pub(crate) fn zoned(of: Cluster, in_a: usize) -> Cluster {
    let mut of = of;
    for (index, node) in of.view.nodes.iter_mut().enumerate() {
        node.zone = if index < in_a { "a" } else { "b" }.to_owned();
    }
    of
}
