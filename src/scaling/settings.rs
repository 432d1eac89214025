//! How the number of shards may change: section `[scaling]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::marked;
use crate::model::{Address, units};

/// What taking nodes out is held to. Section `[scaling]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scaling {
    /// What becomes of the policy's advice about the number of shards.
    pub follow: Follow,
    /// Who chooses the node to take out when fewer shards are wanted.
    pub victim: Victim,
    /// Primaries that a drain leaves at least.
    pub min_shards: u32,
    /// Primaries that are wanted at most.
    pub max_shards: u32,
    /// For so long more shards have to be wanted.
    #[serde(with = "units::duration")]
    pub out_after: Duration,
    /// For so long fewer shards have to be wanted.
    #[serde(with = "units::duration")]
    pub in_after: Duration,
    /// For so long after shards were added none is taken out.
    #[serde(with = "units::duration")]
    pub rest: Duration,
    /// The share of their memory that the primaries that stay may use once they have taken what a drained one held, 0 to 1.
    pub memory_max: f64,
    /// The share of the time that the main threads of the primaries that stay may be busy, should one more of them fail, 0 to 1.
    pub cpu_max: f64,
    /// Nodes that may join.
    pub standby: Standby,
}

impl Scaling {
    /// Keys whose values make no sense, each with what is accepted.
    pub(crate) fn out_of_range(&self) -> Vec<(&'static str, String)> {
        let Self { min_shards, max_shards, memory_max, cpu_max, .. } = self;
        let mut wrong = Vec::new();
        if !(*min_shards..=16384).contains(max_shards) {
            wrong.push(("max_shards", format!("{max_shards} is out of range: {min_shards} to 16384 is accepted")));
        }
        for (key, share) in [("memory_max", memory_max), ("cpu_max", cpu_max)] {
            if !(0.1..=1.0).contains(share) {
                wrong.push((key, format!("{share} is out of range: 0.1 to 1 is accepted")));
            }
        }
        wrong
    }
}

/// What becomes of the policy's advice about the number of shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Follow {
    /// Nobody asks for it.
    Off,
    /// It is shown.
    #[default]
    Advise,
    /// It is followed: `desired_shards` rises, standby nodes join, nodes are emptied and leave.
    Auto,
}

/// Who chooses the node to take out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// The policy.
    #[default]
    Policy,
    /// The one with the highest number in its host name, which is the one that a StatefulSet takes away.
    HighestOrdinal,
    /// Whoever says `ballast drain`.
    External,
}

/// Nodes that run, are empty and in no cluster, and may join when more shards are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Standby {
    /// Their addresses.
    #[serde(serialize_with = "marked::host")]
    pub list: Vec<Address>,
    /// A file with an address a line, read when it is needed.
    #[serde(serialize_with = "marked::path")]
    pub file: Option<PathBuf>,
    /// A name and a port: each address of the name is one.
    #[serde(serialize_with = "marked::host")]
    pub dns: Option<Address>,
}

impl Default for Scaling {
    /// Three primaries are the least that can outvote a failed one. Four fifths of a core leave room for peaks of a quarter.
    fn default() -> Self {
        Self {
            follow: Follow::default(),
            victim: Victim::default(),
            min_shards: 3,
            max_shards: 1000,
            out_after: Duration::from_secs(60),
            // Half an hour: what was a lull is over, and what was a peak has not come back.
            in_after: Duration::from_secs(1800),
            rest: Duration::from_secs(3600),
            memory_max: 0.8,
            cpu_max: 0.8,
            standby: Standby::default(),
        }
    }
}
