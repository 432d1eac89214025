//! A cluster as planning sees it: one frozen view, the same natively and inside a policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// In [`View::owners`]: nobody serves the slot.
pub const NO_OWNER: u32 = u32::MAX;

/// One frozen view of a cluster: what the `cluster` interface answers, as plain values.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Counts views; also a seed for breaking ties.
    pub generation: u64,
    /// When it was taken: Unix time in milliseconds.
    pub taken_at_ms: u64,
    /// Over how many seconds rates were measured; 0 while there are none.
    pub window_s: u32,
    /// Primaries, empty ones included. A node's place here is its index everywhere else.
    pub nodes: Vec<ViewNode>,
    /// Node index by slot, [`NO_OWNER`] for a slot that nobody serves.
    pub owners: Arc<[u32]>,
    /// Numbers by slot, by name: `cpu-usec`, `bytes`, `keys`, `net-in`, `net-out`, each rate also `/variance`, `/slow`.
    pub slot_columns: BTreeMap<String, Arc<[f64]>>,
    /// Numbers by node, NaN where unknown, by name: `memory-max`, `weight`, …
    pub node_columns: BTreeMap<String, Arc<[f64]>>,
    /// How far to trust a slot column, 0 (a guess) to 1 (counted), by name; 1 where nothing is said.
    pub confidence: BTreeMap<String, f64>,
    /// Moves begun and not finished; `owners` may still show the old owner.
    pub in_flight: Vec<Move>,
}

/// A primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewNode {
    /// Its 40-digit id.
    pub id: String,
    /// Where clients reach it.
    pub address: String,
    /// Failure domain; empty when unknown.
    pub zone: String,
    /// `draining`, `cordoned`, `empty`, `loading`, `suspect`; unknown ones are ignored.
    pub tags: Vec<String>,
}

impl ViewNode {
    /// Whether the node carries `tag`.
    #[must_use]
    pub fn is(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| known == tag)
    }
}

/// One slot to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The slot.
    pub slot: u16,
    /// Index of the node that shall own it.
    pub target: u32,
    /// Why, for people.
    pub reason: String,
}
