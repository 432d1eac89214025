//! What a plan does, in figures, and how good it is.

use serde::{Deserialize, Serialize};

use crate::floor::FloorCause;
use crate::view::Move;

/// A plan and its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// In order: no prefix puts a node above all of where it was, where it ends and the target.
    pub moves: Vec<Move>,
    /// What they do.
    pub report: Report,
}

/// What a plan does, in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Every resource that the view has, most important first.
    pub resources: Vec<ResourceReport>,
    /// How far the node that is furthest above what it can be brought to is above it, before, as a factor: by any active resource.
    /// A giant's node can be brought to the giant's load and others to what is left of all loads, so that none hides behind it.
    pub excess_before: f64,
    /// The same after all moves: 1 is as even as can be.
    pub excess_after: f64,
    /// The least that the largest imbalance over all active resources can be at once, where nodes differ in shape; 1 where they do
    /// not.
    pub together: f64,
    /// How many slots move.
    pub moves: usize,
    /// How many bytes move.
    pub bytes: f64,
    /// A proven lower bound of the bytes that any plan has to move which brings every node as low as all moves of this one
    /// would, budgets left aside.
    pub bytes_least: f64,
    /// Seconds that clients would wait less in each second after all moves, as far as cpu loads are known and to be trusted.
    pub spared: f64,
    /// Seconds that all moves keep servers busy, both ends together.
    pub effort: f64,
    /// Whether these moves should not wait until they are worth their effort: they drain, fill new nodes, or even something
    /// else than cpu.
    pub pressing: bool,
    /// Slots that moving cannot help.
    pub giants: Vec<Giant>,
    /// Slots that stay on draining nodes, since nothing can take them.
    pub undrained: usize,
    /// Why there are no more moves.
    pub stop: Stop,
    /// Units of work spent.
    pub work: u64,
}

/// One resource, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ResourceReport {
    /// Its name.
    pub name: String,
    /// Whether it counted.
    pub active: bool,
    /// Mean utilisation over the nodes that count; of an absolute capacity, 1 is full.
    pub utilisation: f64,
    /// Largest utilisation ÷ mean, before.
    pub before: f64,
    /// The same after all moves.
    pub after: f64,
    /// The least that any placement could reach.
    pub floor: f64,
    /// What prevents a lower floor.
    pub set_by: FloorCause,
}

/// A slot that is larger than a node's fair share: no placement can even it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Giant {
    /// The slot.
    pub slot: u16,
    /// The resource that it takes too much of.
    pub resource: String,
    /// Where it is best kept.
    pub node: u32,
    /// Its load ÷ the fair share of that node.
    pub share: f64,
    /// What a person can do.
    pub advice: String,
}

/// Why a plan has no more moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Nothing is above its trigger, and nothing has to be drained or filled.
    Content,
    /// Everything reaches its target.
    Target,
    /// No further move helps.
    Stuck,
    /// The budget of moves or bytes is used up.
    Budget,
    /// The bound on work was reached.
    Work,
}
