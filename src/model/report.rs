//! One cycle, whole: every face of Ballast is a view of this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::migration::MigrationReport;
use super::mode::{Mode, Trigger};
use super::plan::{Move, Plan, PolicyId};
use super::snapshot::SnapshotSummary;
use super::topology::{Address, NodeId};
use super::verdict::{Prediction, Refusal};

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
