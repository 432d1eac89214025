//! How to collect, and what the operator says about nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rates::HalfLives;
use crate::model::{Address, NodeId, units};

/// How to collect. Section `[collector]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// All that is asked of one node in one cycle has to be answered within this time; else the node counts as
    /// unreachable. 3 s: a third of the default cycle, and far above what a healthy node needs.
    #[serde(with = "units::duration")]
    pub node_patience: Duration,

    /// How many nodes are asked at the same time. 32: a thousand nodes then take about a second, and the answers being
    /// read never hold more memory than those of 32 nodes.
    pub concurrency: usize,

    /// Half-life of the rates that policies decide by. 30 s, three cycles: with the default trigger, noise of single
    /// cycles moves nothing, and a lasting shift shows within a minute.
    #[serde(with = "units::duration")]
    pub fast_half_life: Duration,

    /// Half-life of the `/slow` rates, which show what lasts. 5 minutes.
    #[serde(with = "units::duration")]
    pub slow_half_life: Duration,

    /// For this long after it moved, a slot keeps the rates that it had: the move itself costs cpu and bytes that are
    /// no load. 20 s, two cycles.
    #[serde(with = "units::duration")]
    pub freeze: Duration,

    /// Of how many slots per node and cycle keys are sampled, where a server does not count a slot's bytes or load.
    /// 512: a few milliseconds of the node's cpu; a tenth of a three-node cluster's slots per cycle.
    pub sample_slots: usize,

    /// How many keys are sampled in each of those slots. 4: sizes within a slot vary less than between slots.
    pub sample_keys: u32,

    /// How many elements of a collection the server measures to tell its size. 5, the server's own default.
    pub sample_elements: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_patience: Duration::from_secs(3),
            concurrency: 32,
            fast_half_life: Duration::from_secs(30),
            slow_half_life: Duration::from_secs(300),
            freeze: Duration::from_secs(20),
            sample_slots: 512,
            sample_keys: 4,
            sample_elements: 5,
        }
    }
}

impl Settings {
    pub(super) fn half_lives(&self) -> HalfLives {
        // A half-life of nothing would divide by zero; a millisecond forgets as quickly.
        let seconds = |duration: Duration| duration.as_secs_f64().max(0.001);
        HalfLives { fast_s: seconds(self.fast_half_life), slow_s: seconds(self.slow_half_life) }
    }
}

/// What the operator says about one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mark {
    /// It must be emptied.
    pub draining: bool,
    /// It gets nothing more.
    pub cordoned: bool,
    /// Its failure domain. Absent: what the server says itself, if anything.
    pub zone: Option<String>,
    /// How much of the load it should carry, compared with the others. Absent: 1.
    pub weight: Option<f64>,
    /// Bytes of memory that it has. Absent: its `maxmemory`.
    pub memory: Option<u64>,
}

/// What the operator says about nodes, by node id, by `host:port`, or by host for all nodes on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Marks(pub BTreeMap<String, Mark>);

impl Marks {
    /// All that is said about a node. What names it more exactly wins: id over address over host; draining and
    /// cordoned hold if anything says so.
    #[must_use]
    pub fn of(&self, id: &NodeId, address: &Address) -> Mark {
        let by_address = address.to_string();
        let names = [id.as_str(), by_address.as_str(), address.host.as_str()];
        names.iter().filter_map(|name| self.0.get(*name)).fold(Mark::default(), |known, mark| Mark {
            draining: known.draining || mark.draining,
            cordoned: known.cordoned || mark.cordoned,
            zone: known.zone.or_else(|| mark.zone.clone()),
            weight: known.weight.or(mark.weight),
            memory: known.memory.or(mark.memory),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_by_id_address_and_host() {
        let id: NodeId = "a".repeat(40).parse().expect("an id");
        let marks = Marks(BTreeMap::from([
            (id.to_string(), Mark { draining: true, ..Mark::default() }),
            ("h:7000".to_owned(), Mark { zone: Some("z1".into()), weight: Some(2.0), ..Mark::default() }),
            ("h".to_owned(), Mark { zone: Some("z2".into()), memory: Some(1), ..Mark::default() }),
        ]));
        let mark = marks.of(&id, &Address::new("h", 7000));
        assert_eq!((mark.draining, mark.cordoned, mark.weight, mark.memory), (true, false, Some(2.0), Some(1)));
        assert_eq!(mark.zone.as_deref(), Some("z1"));
        assert_eq!(marks.of(&"b".repeat(40).parse().expect("an id"), &Address::new("x", 1)), Mark::default());
    }
}
