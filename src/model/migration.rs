//! What became of slots that were moved, and how fast they went.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::slot::{SlotId, SlotSet};
use super::topology::NodeId;

/// Which way a batch of slots is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Slot by slot and key by key, with `SETSLOT` and `MIGRATE`: every server can.
    Classic,
    /// The servers' own way, all of the batch at once.
    Atomic,
}

impl Protocol {
    /// Both, for closed label sets.
    pub const ALL: [Self; 2] = [Self::Classic, Self::Atomic];

    /// The protocol as reports, logs and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Atomic => "atomic",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of one batch of slots from one primary to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationReport {
    /// From.
    pub source: NodeId,
    /// To.
    pub target: NodeId,
    /// Which way.
    pub protocol: Protocol,
    /// The slots that the target owns now.
    pub moved: SlotSet,
    /// The slots that stayed, and why.
    pub stayed: Vec<(SlotId, String)>,
    /// Keys moved, as far as the protocol counts them.
    pub keys: u64,
    /// Bytes moved, estimated from the snapshot.
    pub bytes: u64,
    /// Milliseconds from the first step to the last.
    pub duration_ms: u64,
    /// How hard the servers were leant on meanwhile.
    #[serde(default)]
    pub pace: PaceReport,
}

impl MigrationReport {
    /// Why a slot stayed that somebody's wish to stop kept.
    pub const STOPPED: &str = "stopped before it was opened";
    /// The same of an atomic migration under way; the state that it was in follows.
    pub const CANCELLED: &str = "stopped before it was handed over";

    /// Whether any slot stayed for another reason than that somebody stopped it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.stayed.iter().any(|(_, why)| why != Self::STOPPED && !why.contains(Self::CANCELLED))
    }
}

/// What was decided about the pace while slots moved, by what clients felt: see `[migration] pace`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PaceReport {
    /// The part of the configured pace that was taken at the end, 0 to 1.
    pub share: f64,
    /// The smallest part that was taken, 0 to 1.
    pub least_share: f64,
    /// Probes that came back while slots moved.
    pub probes: u64,
    /// Those of them that were slower than is tolerated.
    pub slow_probes: u64,
    /// What a probe may take, in milliseconds; absent when the pace tolerates anything.
    pub tolerated_ms: Option<f64>,
    /// How often the pace was eased, by reason: one of [`PaceReport::REASONS`].
    pub eased: BTreeMap<String, u64>,
    /// Pipelines of `MIGRATE` that moved something, and how long they took: a source executes each with nobody in between.
    #[serde(default)]
    pub rounds: Spread,
    /// Rests, by what asked for them: one of [`PaceReport::THROTTLES`] or [`PaceReport::RETRIES`], or `job`.
    #[serde(default)]
    pub rests: BTreeMap<String, Spent>,
}

/// Something that took time, several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// How often.
    pub times: u64,
    /// Seconds, all together.
    pub seconds: f64,
}

impl Spent {
    /// Once more.
    pub fn add(&mut self, took: Duration) {
        self.times += 1;
        self.seconds += took.as_secs_f64();
    }

    fn since(self, earlier: Self) -> Self {
        Self { times: self.times.saturating_sub(earlier.times), seconds: (self.seconds - earlier.seconds).max(0.0) }
    }
}

/// How long something took that happened many times: a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// How often it took at most each of [`Spread::BOUNDS`], and more than the bound before; at last, more than all of them.
    pub counts: [u64; Spread::BOUNDS.len() + 1],
    /// Seconds, all together.
    pub seconds: f64,
}

impl Spread {
    /// Upper bounds, in seconds: from a handful of small keys on a quick server to a key that should not be there.
    pub const BOUNDS: [f64; 9] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5];

    /// Once more.
    pub fn add(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.counts[Self::BOUNDS.partition_point(|bound| *bound < took)] += 1;
        self.seconds += took;
    }

    /// How often it happened.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Both together.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.seconds += other.seconds;
    }

    fn since(mut self, earlier: Self) -> Self {
        self.counts.iter_mut().zip(earlier.counts).for_each(|(count, less)| *count = count.saturating_sub(less));
        self.seconds = (self.seconds - earlier.seconds).max(0.0);
        self
    }
}

impl PaceReport {
    /// Late probes of ours, replicas that fell behind, the limit on bytes per second.
    pub const REASONS: [&str; 3] = ["latency", "replica-lag", "bandwidth"];
    /// Rests that servers and limits ask for: the pace after a round or after an atomic portion, and the limit on bytes per second.
    pub const THROTTLES: [&str; 3] = ["pace", "portion", "bandwidth"];
    /// Rests after which something that was refused is said again: where replicas lag, or keys stay. (There is `job` besides: waiting
    /// for servers that work by themselves.)
    pub const RETRIES: [&str; 2] = ["replicas", "stalled"];

    /// What came about since `earlier`, of the same series.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.probes -= earlier.probes.min(self.probes);
        self.slow_probes -= earlier.slow_probes.min(self.slow_probes);
        for (reason, count) in &mut self.eased {
            *count -= earlier.eased.get(reason).copied().unwrap_or(0).min(*count);
        }
        self.eased.retain(|_, count| *count > 0);
        self.rounds = self.rounds.since(earlier.rounds);
        for (cause, spent) in &mut self.rests {
            *spent = spent.since(earlier.rests.get(cause).copied().unwrap_or_default());
        }
        self.rests.retain(|_, spent| spent.times > 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_counts_by_bounds_and_forgets_what_was_before() {
        let mut spread = Spread::default();
        for millis in [0.5, 0.6, 1.0, 700.0] {
            spread.add(Duration::from_secs_f64(millis / 1e3));
        }
        assert_eq!(spread.counts, [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        let before = spread;
        spread.add(Duration::from_millis(20));
        let since = spread.since(before);
        assert_eq!((since.counts, since.times()), ([0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 1));
        assert!((since.seconds - 0.02).abs() < 1e-9);
    }

    #[test]
    fn reports_of_rounds_that_were_only_counted_can_be_read() {
        let told = r#"{"times": 7, "seconds": 0.5}"#;
        let spread: Spread = serde_json::from_str(told).expect("an older daemon wrote it");
        assert_eq!((spread.times(), spread.seconds), (0, 0.5));
    }
}
