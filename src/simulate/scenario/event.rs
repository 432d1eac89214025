//! What may happen to a cluster, once and at a time of its own.

use std::time::Duration;

use serde::Deserialize;

use crate::model::units;

/// Something that happens once. Nodes are numbered from 0, in the order of their joining.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Event {
    /// Some slots, at random, get many times their load.
    Burst {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// How many slots.
        slots: usize,
        /// How many times their load.
        factor: f64,
        /// How long it grows.
        #[serde(with = "units::duration")]
        ramp: Duration,
        /// How long it stays.
        #[serde(with = "units::duration")]
        lasts: Duration,
        /// How long it fades.
        #[serde(with = "units::duration")]
        fade: Duration,
    },
    /// A primary dies. Its replica, in the next zone, takes over; the dead one is forgotten.
    Fail {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        node: usize,
    },
    /// All primaries of a zone die, as with `fail`.
    FailZone {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        zone: String,
    },
    /// Empty primaries join.
    Join {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// How many.
        nodes: usize,
    },
    /// Nodes are to be emptied.
    Drain {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        nodes: Vec<usize>,
    },
    /// A node serves its clients and does not answer us.
    Silence {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        node: usize,
        /// For how long.
        #[serde(with = "units::duration")]
        lasts: Duration,
    },
    /// The next migration gets stuck.
    Stuck {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// For how long.
        #[serde(with = "units::duration")]
        lasts: Duration,
    },
}

impl Event {
    /// When it happens.
    #[must_use]
    pub const fn at(&self) -> Duration {
        match self {
            Self::Burst { at, .. }
            | Self::Fail { at, .. }
            | Self::FailZone { at, .. }
            | Self::Join { at, .. }
            | Self::Drain { at, .. }
            | Self::Silence { at, .. }
            | Self::Stuck { at, .. } => *at,
        }
    }
}
