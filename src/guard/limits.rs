//! The operator's limits: every number of the guard, with its default and the reason for it.
//!
//! The doc comment of a field is its documentation everywhere: `docs/limits.md` is generated from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::units;

/// What to do about a fact that we cannot know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnknown {
    /// Go on as if it were fine.
    Allow,
    /// Hold the move back.
    Refuse,
}

/// Declares [`Limits`] with its defaults, and keeps each field's text for the documentation.
macro_rules! limits {
    ($( $(#[doc = $doc:literal])+ $(#[serde($($serde:tt)*)])? pub $key:ident: $type:ty = $default:expr, )+) => {
        /// What the guard holds moves to. Section `[limits]` of the configuration.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $( $(#[doc = $doc])+ $(#[serde($($serde)*)])? pub $key: $type, )+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        impl Limits {
            /// Every key with its reason, in the order of the configuration.
            pub const REASONS: &[(&str, &[&str])] = &[ $( (stringify!($key), &[$($doc),+]), )+ ];
        }
    };
}

limits! {
    /// A snapshot older than this decides nothing. Three cycles of 10 s: one lost cycle is normal, three are not.
    #[serde(with = "units::duration")]
    pub max_snapshot_age: Duration = Duration::from_secs(30),

    /// Every primary with slots must have this many replicas in sync before anything moves. 0, since clusters
    /// without replicas exist; set 1 where redundancy matters more than balance.
    pub min_replicas: u32 = 0,

    /// What to do when a node that was never seen joining owns slots: `refuse` or `allow`. Refuse, since it may be
    /// another cluster behind the same address, or two that met by mistake.
    pub unknown_nodes: OnUnknown = OnUnknown::Refuse,

    /// The share of a target's memory that must stay free after the move, 0 to 1. A tenth: fork copies, output
    /// buffers and growth while the move lasts need it, and a full node evicts or refuses writes.
    pub memory_margin: f64 = 0.1,

    /// What to do when a target's memory limit is not known (no `maxmemory` and no `memory` in `[[node]]`): `allow` or
    /// `refuse`. Allow, since servers without `maxmemory` are common and accept writes as long as the machine does.
    pub unknown_memory: OnUnknown = OnUnknown::Allow,

    /// A primary that is not draining keeps at least this many slots. 1: a primary that loses its last slot may turn
    /// into a replica of the one that took it (`cluster-allow-replica-migration`).
    pub min_slots: u32 = 1,

    /// A slot that moved rests this long. 10 minutes: its counters start anew at the target, and a move judged by noise
    /// would only be undone. Slots of a draining node do not wait.
    #[serde(with = "units::duration")]
    pub slot_cool_down: Duration = Duration::from_secs(600),

    /// After a failed migration the same source and target rest this long. One minute: long enough for a failover to
    /// settle, short enough not to matter for a slip of the network.
    #[serde(with = "units::duration")]
    pub pair_cool_down: Duration = Duration::from_secs(60),

    /// Slots that may move in one cycle. 1024, a sixteenth of all: measuring again between small steps beats trusting
    /// one large plan.
    pub max_moves_per_cycle: u32 = 1024,

    /// Slots that may leave or enter one node in one cycle. 512: no node does nothing but migrate.
    pub max_moves_per_node: u32 = 512,

    /// Bytes that may move in one cycle. 8 GiB: a few minutes at the pace of one node, after which the plan is stale.
    #[serde(with = "units::size")]
    pub max_bytes_per_cycle: u64 = 8 << 30,

    /// Bytes that may leave or enter one node in one cycle. 4 GiB: half of the cycle's, so that two pairs can work.
    #[serde(with = "units::size")]
    pub max_bytes_per_node: u64 = 4 << 30,

    /// Slots that may move in an hour. 16384: a cluster that moves every slot once an hour is not balancing but
    /// oscillating.
    pub max_moves_per_hour: u32 = 16384,

    /// Bytes that may move in an hour. 256 GiB: about 70 MiB/s without pause, more than balancing should ever need.
    #[serde(with = "units::size")]
    pub max_bytes_per_hour: u64 = 256 << 30,

    /// Slots that may move in a day. 65536, all of them four times: a policy that wants more is wrong about something that lasts
    /// longer than an hour.
    pub max_moves_per_day: u32 = 65536,

    /// Bytes that may move in a day. 2 TiB, an eighth of a full hour's rate, kept up for a day.
    #[serde(with = "units::size")]
    pub max_bytes_per_day: u64 = 2 << 40,

    /// A plan must lower the imbalance (largest utilisation ÷ mean) of a resource, or of slot counts, by at least this.
    /// 0.01: below one percent a move costs more than it brings. 0 turns the check off. Moves that drain a node need no
    /// gain.
    pub min_gain: f64 = 0.01,

    /// Ballast halts when a slot is back on a node that it left so many cycles ago or fewer, unless a node was drained in between.
    /// 30: with the usual cool-down of ten minutes and ten seconds a cycle it cannot come to that, so that something must be
    /// amiss where it does. 0 turns the check off.
    pub return_cycles: u32 = 30,

    /// Ballast halts when so many plans in a row did not bring about what they promised: an imbalance a quarter above the
    /// promised one, once rates have settled. 0, off: where load comes and goes, promises break without anybody's fault.
    pub broken_promises: u32 = 0,
}

impl Limits {
    /// Limits for a command that a person started: health and room hold as always; hourly budgets, cool-downs and the
    /// minimum gain do not, since a person asked for it now.
    #[must_use]
    pub fn for_one_shot(self) -> Self {
        Self {
            slot_cool_down: Duration::ZERO,
            pair_cool_down: Duration::ZERO,
            max_moves_per_hour: u32::MAX,
            max_bytes_per_hour: u64::MAX,
            max_moves_per_day: u32::MAX,
            max_bytes_per_day: u64::MAX,
            min_gain: 0.0,
            ..self
        }
    }
}

/// The table of all limits, as `docs/limits.md` has it.
#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const HEAD: &str = "# The guard's limits\n\n\
        What no policy can override: section `[limits]` of the configuration. This page is generated from\n\
        `src/guard/limits.rs`.\n\n\
        | key | default | why |\n|---|---|---|\n";

    fn table() -> String {
        let defaults = toml::Table::try_from(Limits::default()).expect("limits are a table");
        let mut text = HEAD.to_owned();
        for (key, reason) in Limits::REASONS {
            let reason: String = reason.concat();
            let _ = writeln!(text, "| `{key}` | `{}` |{reason} |", defaults[*key].to_string().trim_matches('"'));
        }
        text
    }

    #[test]
    fn the_documentation_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, table()).expect("written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, table(), "run UPDATE_DOCS=1 cargo test --lib guard::limits");
    }

    #[test]
    fn limits_read_what_they_write() {
        let text = toml::to_string(&Limits::default()).expect("serialises");
        assert_eq!(toml::from_str::<Limits>(&text).expect("reads"), Limits::default());
    }
}
