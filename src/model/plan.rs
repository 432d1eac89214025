//! What a policy proposes, and what a move is once its ends are known.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::slot::SlotId;
use super::topology::NodeId;

/// Which policy decided: what an explanation and a replay need to name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyId {
    /// The policy's own name.
    pub name: String,
    /// The policy's own version.
    pub version: String,
    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    pub digest: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} sha256:{}", self.name, self.version, self.digest.get(..12).unwrap_or(&self.digest))
    }
}

/// A move as a policy wrote it: unchecked numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedMove {
    /// Supposed to be a slot.
    pub slot: u16,
    /// Supposed to be an index in the snapshot's primaries.
    pub target: u32,
    /// Why, in the policy's words.
    pub reason: String,
}

/// A policy's answer. Only the guard makes something of it that may be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Who answered.
    pub policy: PolicyId,
    /// The generation of the snapshot that it answered to.
    pub generation: u64,
    /// In order of preference.
    pub moves: Vec<ProposedMove>,
    /// One line for people, given even when there are no moves.
    pub summary: String,
    /// Numbers that the policy wants shown, at most 16.
    pub gauges: Vec<(String, f64)>,
}

/// One slot from one primary to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Move {
    /// The slot.
    pub slot: SlotId,
    /// Its owner.
    pub from: NodeId,
    /// Who shall own it.
    pub to: NodeId,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} from {} to {}", self.slot, self.from.short(), self.to.short())
    }
}
