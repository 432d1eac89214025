//! What the guard must remember between reviews, as plain data. Whoever owns the state keeps it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{NodeId, SlotId, SlotSet};

/// What happened before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// When each slot last moved: Unix time, milliseconds.
    pub last_moved_ms: BTreeMap<SlotId, u64>,
    /// Slots moved in the past hour.
    pub moves_past_hour: u64,
    /// Bytes moved in the past hour.
    pub bytes_past_hour: u64,
    /// Slots moved in the past day.
    #[serde(default)]
    pub moves_past_day: u64,
    /// Bytes moved in the past day.
    #[serde(default)]
    pub bytes_past_day: u64,
    /// Slots that our journal has begun and not finished: an open slot or an atomic job elsewhere is foreign.
    pub our_open_slots: SlotSet,
    /// The nodes that belong to this cluster as we know it, replicas included. Absent: we were never told, and any will do.
    pub known_nodes: Option<BTreeSet<NodeId>>,
    /// When a migration from the first to the second node last failed: Unix time, milliseconds.
    #[serde(with = "pairs")]
    pub pair_failed_ms: BTreeMap<(NodeId, NodeId), u64>,
}

/// JSON has no keys made of two: the map is written as a list.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::NodeId;

    type Pairs = BTreeMap<(NodeId, NodeId), u64>;

    pub(super) fn serialize<S: Serializer>(pairs: &Pairs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(pairs.iter().map(|((from, to), at)| (from, to, at)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        let list = Vec::<(NodeId, NodeId, u64)>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(from, to, at)| ((from, to), at)).collect())
    }
}
