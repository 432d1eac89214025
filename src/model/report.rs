//! One cycle, whole: every face of Ballast is a view of this.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Move, Plan, PolicyId};
use super::slot::{SlotId, SlotSet};
use super::snapshot::SnapshotSummary;
use super::topology::{Address, NodeId};

/// What the daemon is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plans and explains, moves nothing. The default.
    DryRun,
    /// Does what the guard approves.
    Auto,
    /// Does what the guard approves and a person, or a file, approves as well.
    Approval,
    /// A person stopped it.
    Paused,
    /// It stopped itself and says why; a person resumes it.
    Halted,
    /// Another daemon on this cluster leads, or it is not known who does: this one looks and does nothing.
    Follower,
}

impl Mode {
    /// Every mode, for closed label sets.
    pub const ALL: [Self; 6] = [Self::DryRun, Self::Auto, Self::Approval, Self::Paused, Self::Halted, Self::Follower];

    /// Whether slots may move in it at all.
    #[must_use]
    pub const fn acts(self) -> bool {
        matches!(self, Self::Auto | Self::Approval)
    }

    /// The mode as configuration, logs and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Auto => "auto",
            Self::Approval => "approval",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Follower => "follower",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a cycle begins when it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The daemon has started.
    Start,
    /// It was time.
    #[default]
    Interval,
    /// Somebody resumed it, drains a node, or approved a plan.
    Command,
    /// This daemon leads from now on.
    Lead,
}

impl Trigger {
    /// All of them, for closed label sets.
    pub const ALL: [Self; 4] = [Self::Start, Self::Interval, Self::Command, Self::Lead];

    /// The trigger as reports and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Interval => "interval",
            Self::Command => "command",
            Self::Lead => "lead",
        }
    }
}

/// A check of the guard, by the name that the configuration, logs and metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCheck {
    /// The cluster is healthy and all primaries agree.
    Health,
    /// The snapshot is young enough.
    Staleness,
    /// The plan answers this very snapshot.
    Generation,
    /// The move names a slot and a primary that exist, and moves something.
    Known,
    /// A slot moves at most once in a plan.
    OneOwner,
    /// The target accepts slots: not draining, cordoned, loading or suspect.
    Target,
    /// The slot is not open, nor in an atomic migration.
    OpenSlot,
    /// An open slot or a migration that is not ours stands in the cluster.
    Foreign,
    /// A node that nobody told us about owns slots.
    UnknownNode,
    /// The target has memory for it, with margin.
    Room,
    /// The source would own no slot, and is not draining.
    LastSlot,
    /// No more moves than allowed, per node and cycle.
    MoveCap,
    /// No more bytes than allowed, per node and cycle.
    ByteCap,
    /// The slot rested long enough since it last moved.
    CoolDown,
    /// The plan improves the balance enough to be worth it.
    MinimumGain,
    /// No more moves and bytes than allowed per hour.
    Churn,
}

impl RefusalCheck {
    /// Every check, in the order in which the guard applies them.
    pub const ALL: [Self; 16] = [
        Self::Health,
        Self::Staleness,
        Self::Generation,
        Self::Foreign,
        Self::UnknownNode,
        Self::Known,
        Self::OneOwner,
        Self::Target,
        Self::OpenSlot,
        Self::CoolDown,
        Self::LastSlot,
        Self::Room,
        Self::MoveCap,
        Self::ByteCap,
        Self::Churn,
        Self::MinimumGain,
    ];

    /// The check as logs, metrics and documentation write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Staleness => "staleness",
            Self::Generation => "generation",
            Self::Known => "known",
            Self::OneOwner => "one-owner",
            Self::Target => "target",
            Self::OpenSlot => "open-slot",
            Self::Foreign => "foreign",
            Self::UnknownNode => "unknown-node",
            Self::Room => "room",
            Self::LastSlot => "last-slot",
            Self::MoveCap => "move-cap",
            Self::ByteCap => "byte-cap",
            Self::CoolDown => "cool-down",
            Self::MinimumGain => "minimum-gain",
            Self::Churn => "churn",
        }
    }
}

impl fmt::Display for RefusalCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the guard held back moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which check.
    pub check: RefusalCheck,
    /// The slots that it held back; numbers as the policy gave them, for they may be no slots.
    pub slots: Vec<u16>,
    /// For people: what is the matter and, where there is one, what to do.
    pub reason: String,
}

/// What a policy's plan would do to one resource, by arithmetic over the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Largest utilisation ÷ mean over the primaries that count, as seen.
    pub imbalance_before: f64,
    /// The same after the approved moves.
    pub imbalance_after: f64,
    /// The least that any placement of these slots could reach.
    pub floor: f64,
}

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

/// How a cycle ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum CycleOutcome {
    /// The policy is content.
    NoChange,
    /// Moves were approved and not carried out, since the mode forbids it.
    Planned,
    /// Moves were carried out.
    Executed,
    /// The guard refused every move.
    Refused,
    /// The policy gave no plan.
    PolicyFailed {
        /// `trap`, `deadline`, `memory-limit`, `invalid`, `error`, `not-ready`.
        kind: String,
        /// For people.
        reason: String,
    },
    /// The cluster could not be seen.
    NotCollected {
        /// For people.
        reason: String,
    },
    /// Some slots did not move as planned.
    Incomplete {
        /// For people.
        reason: String,
    },
}

impl CycleOutcome {
    /// The outcome as metrics write it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoChange => "no-change",
            Self::Planned => "planned",
            Self::Executed => "executed",
            Self::Refused => "refused",
            Self::PolicyFailed { .. } => "policy-failed",
            Self::NotCollected { .. } => "not-collected",
            Self::Incomplete { .. } => "incomplete",
        }
    }
}

/// What came of a plan: predictions beside what was seen once rates had settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Realised {
    /// The cycle in which the plan was carried out.
    pub cycle: u64,
    /// By resource: the imbalance that was predicted, and the one that came about.
    pub imbalance: BTreeMap<String, (f64, f64)>,
}

impl Realised {
    /// So many cycles after a plan was carried out, smoothed rates have settled: three half-lives of the fast mean.
    pub const AFTER_CYCLES: u64 = 3;
}

/// What a policy would have done that is asked beside the one that decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// As the configuration calls it.
    pub name: String,
    /// Who was asked; absent while none is loaded.
    pub policy: Option<PolicyId>,
    /// Why it gave no plan: kind and reason.
    pub failure: Option<(String, String)>,
    /// Its line for people.
    pub summary: String,
    /// Moves that it proposed.
    pub proposed: usize,
    /// Moves that the guard would have let through.
    pub approved: usize,
    /// Slots that the guard would have held back, by its check.
    pub refused: BTreeMap<String, usize>,
    /// Bytes of the moves that the guard would have let through, estimated.
    pub bytes: u64,
    /// By resource, for the moves that the guard would have let through.
    pub predictions: BTreeMap<String, Prediction>,
    /// How far it disagrees with the policy that decides: the part of all moves proposed by either that only one of them
    /// proposed, 0 to 1; 0 when neither proposed any.
    pub disagreement: f64,
    /// Milliseconds that its call took.
    pub call_ms: f64,
    /// Bytes of linear memory that it holds.
    pub memory_bytes: usize,
}

/// Everything about one turn of the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CycleReport {
    /// Counts cycles since the state directory was made.
    pub cycle: u64,
    /// Unix time, milliseconds.
    pub started_at_ms: u64,
    /// The mode that it ran in.
    pub mode: Mode,
    /// Why it began when it did.
    #[serde(default)]
    pub trigger: Trigger,
    /// What was seen; absent when the cluster could not be seen.
    pub snapshot: Option<SnapshotSummary>,
    /// Who was asked.
    pub policy: Option<PolicyId>,
    /// What it answered.
    pub plan: Option<Plan>,
    /// The first lines that the policy logged in this call, each cut.
    #[serde(default)]
    pub log: Vec<String>,
    /// What the guard let through.
    pub approved: Vec<Move>,
    /// Where the ends of those moves were reached then.
    #[serde(default)]
    pub addresses: BTreeMap<NodeId, Address>,
    /// What the guard held back.
    pub refusals: Vec<Refusal>,
    /// By resource (`cpu`, `memory`, `network`).
    pub predictions: BTreeMap<String, Prediction>,
    /// What came of an earlier plan, in the cycle in which that can be said.
    #[serde(default)]
    pub realised: Option<Realised>,
    /// What policies would have done that are asked beside the one that decides.
    #[serde(default)]
    pub shadows: Vec<ShadowReport>,
    /// What was advised about the number of shards, if anybody was asked.
    #[serde(default)]
    pub scaling: Option<ScalingReport>,
    /// What was moved.
    pub migrations: Vec<MigrationReport>,
    /// How it ended.
    pub outcome: CycleOutcome,
    /// Milliseconds spent collecting, planning, reviewing, migrating.
    pub timings: Timings,
}

impl CycleReport {
    /// A cycle of which nothing is known yet but when it began, and in which mode.
    #[must_use]
    pub const fn begin(cycle: u64, started_at_ms: u64, mode: Mode) -> Self {
        Self {
            cycle,
            started_at_ms,
            mode,
            trigger: Trigger::Interval,
            snapshot: None,
            policy: None,
            plan: None,
            log: Vec::new(),
            approved: Vec::new(),
            addresses: BTreeMap::new(),
            refusals: Vec::new(),
            predictions: BTreeMap::new(),
            realised: None,
            shadows: Vec::new(),
            scaling: None,
            migrations: Vec::new(),
            outcome: CycleOutcome::NoChange,
            timings: Timings { collect_ms: 0.0, policy_ms: 0.0, review_ms: 0.0, migrate_ms: 0.0 },
        }
    }
}

/// What was advised about the number of shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingReport {
    /// Primaries that do not drain.
    pub shards: u32,
    /// So many would be right.
    pub wanted: u32,
    /// So many more are asked for and let in now.
    pub growth: u32,
    /// Why, in the policy's words.
    pub reason: String,
    /// Why nothing is done about it yet, if anything is to be done.
    pub waits: Option<String>,
}

/// Milliseconds of a cycle, by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Asking all nodes and assembling the snapshot.
    pub collect_ms: f64,
    /// The policy's call, its crossing into WebAssembly included.
    pub policy_ms: f64,
    /// The guard.
    pub review_ms: f64,
    /// Moving slots.
    pub migrate_ms: f64,
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
