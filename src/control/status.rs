//! What the daemon is doing, as one value: every face that shows the present shows this.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::approval::Waiting;
use super::drains::DrainStatus;
use super::peers::LeaseStatus;
use super::scale::Scale;
use super::shadows::ShadowStatus;
use crate::migration::{Overall, Progress, Recovery};
use crate::model::{
    Address, CycleOutcome, CycleReport, Mode, NodeId, OpenSlot, PolicyId, Prediction, Realised, RefusalCheck,
    ScalingReport, ShadowReport, Snapshot, SnapshotSummary, Tag, Timings, resource,
};
use crate::scaling::Victim;

/// What the daemon is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Waiting for the next cycle.
    #[default]
    Idle,
    /// Closing slots that an earlier run left open.
    Recovering,
    /// Asking the nodes.
    Collecting,
    /// Asking the policy, and reviewing its answer.
    Planning,
    /// Moving slots.
    Migrating,
    /// Ending: closing what is open.
    Stopping,
}

/// The last time that something was loaded anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Unix time, milliseconds.
    pub at_ms: u64,
    /// Whether it is in use now. If not, what was there before goes on.
    pub accepted: bool,
    /// What was loaded, or why not: for people.
    pub detail: String,
}

/// The policy in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Who decides; absent while none could be loaded.
    pub id: Option<PolicyId>,
    /// File or embedded name, as configured.
    pub source: String,
    /// Calls into WebAssembly to get a plan, since the daemon started.
    pub calls: u64,
    /// Calls in a row that gave no plan by the policy's fault.
    pub faults_in_a_row: u32,
    /// Why the last call gave no plan, if it did not.
    pub failure: Option<String>,
    /// Another policy decides in its place, by `on-failure`: which.
    pub standing_in: Option<PolicyId>,
    /// Unix time in milliseconds since when it is in use.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// Calls since it was loaded that gave no plan by its fault.
    #[serde(default)]
    pub faults: u64,
    /// Bytes of linear memory that it holds.
    #[serde(default)]
    pub memory_bytes: usize,
    /// The last load.
    pub last_reload: Option<Reload>,
    /// The last few loads, newest first; the history has all.
    #[serde(default)]
    pub reloads: Vec<Reload>,
}

impl PolicyStatus {
    /// So many loads are shown.
    const RELOADS_MAX: usize = 8;

    /// Takes note of a load.
    pub(super) fn reloaded(&mut self, reload: Reload) {
        self.last_reload = Some(reload.clone());
        self.reloads.insert(0, reload);
        self.reloads.truncate(Self::RELOADS_MAX);
    }
}

/// The configuration in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its file, if it came from one.
    pub path: Option<String>,
    /// The last reload.
    pub last_reload: Option<Reload>,
    /// Keys whose new values wait for a restart.
    pub needs_restart: Vec<String>,
}

/// How even a resource is spread over the primaries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// Largest utilisation ÷ mean; 1 is even.
    pub imbalance: f64,
    /// The least that any placement of these slots could reach.
    pub floor: f64,
}

impl From<&Prediction> for Balance {
    fn from(prediction: &Prediction) -> Self {
        Self { imbalance: prediction.imbalance_before, floor: prediction.floor }
    }
}

/// A primary in figures. Those that are not known are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Who.
    pub id: NodeId,
    /// Where clients reach it.
    pub address: Address,
    /// `valkey 9.1.0`.
    pub version: String,
    /// Failure domain; empty when unknown.
    pub zone: String,
    /// What else is to know.
    pub tags: Vec<Tag>,
    /// How many slots it serves.
    pub slots: usize,
    /// Keys in them.
    pub keys: Option<f64>,
    /// Bytes in them.
    pub bytes: Option<f64>,
    /// Share of one core that its main thread uses, 0 to 1.
    pub cpu: Option<f64>,
    /// Commands per second.
    pub ops: Option<f64>,
    /// Bytes received per second.
    pub net_in: Option<f64>,
    /// Bytes sent per second.
    pub net_out: Option<f64>,
    /// Bytes of memory in use.
    pub memory_used: Option<f64>,
    /// Bytes of memory that it may use.
    pub memory_max: Option<f64>,
    /// Round trip of our own probe, in microseconds.
    pub probe_usec: Option<f64>,
    /// Replicas in sync.
    pub replicas: Option<f64>,
    /// The largest lag among its replicas, in bytes.
    pub replica_lag: Option<f64>,
}

/// One row per primary, in the snapshot's order.
#[must_use]
pub fn node_rows(snapshot: &Snapshot) -> Vec<NodeRow> {
    let mut slots = vec![0; snapshot.primaries.len()];
    for owner in snapshot.owners.as_slice() {
        if let Some(count) = slots.get_mut(*owner as usize) {
            *count += 1;
        }
    }
    let keys = snapshot.sum_by_primary(resource::KEYS);
    let bytes = snapshot.sum_by_primary(resource::BYTES);
    let known = |values: Option<&[f64]>, place: usize| values?.get(place).copied().filter(|value| value.is_finite());
    let column = |name: &str, place: usize| known(snapshot.node_column(name), place);
    snapshot
        .primaries
        .iter()
        .enumerate()
        .map(|(place, primary)| NodeRow {
            id: primary.id.clone(),
            address: primary.address.clone(),
            version: primary.version.clone(),
            zone: primary.zone.clone(),
            tags: primary.tags.clone(),
            slots: slots[place],
            keys: known(keys.as_deref(), place),
            bytes: known(bytes.as_deref(), place),
            cpu: column(resource::CPU, place),
            ops: column(resource::OPS, place),
            net_in: column(resource::NET_IN, place),
            net_out: column(resource::NET_OUT, place),
            memory_used: column(resource::MEMORY_USED, place),
            memory_max: column(resource::MEMORY_MAX, place),
            probe_usec: column(resource::PROBE_USEC, place),
            replicas: column(resource::REPLICAS, place),
            replica_lag: column(resource::REPLICA_LAG, place),
        })
        .collect()
}

/// A cycle in figures: its report without the moves themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CycleSummary {
    /// Counts cycles since the state directory was made.
    pub cycle: u64,
    /// Unix time, milliseconds.
    pub started_at_ms: u64,
    /// The mode that it ran in.
    pub mode: Mode,
    /// The generation of the snapshot that it decided by.
    pub generation: Option<u64>,
    /// Who was asked.
    pub policy: Option<PolicyId>,
    /// The policy's line for people.
    pub summary: Option<String>,
    /// How it ended, with the reason where there is one.
    #[serde(flatten)]
    pub outcome: CycleOutcome,
    /// Moves that the policy proposed.
    pub moves_proposed: usize,
    /// Moves that the guard let through.
    pub moves_approved: usize,
    /// What the guard held back.
    pub refusals: Vec<RefusalSummary>,
    /// Slots that moved.
    pub slots_moved: usize,
    /// Slots that should have moved and did not.
    pub slots_stayed: usize,
    /// Keys that moved.
    pub keys_moved: u64,
    /// Bytes that moved, estimated.
    pub bytes_moved: u64,
    /// By resource.
    pub predictions: BTreeMap<String, Prediction>,
    /// What came of an earlier plan, in the cycle in which that can be said.
    #[serde(default)]
    pub realised: Option<Realised>,
    /// What shadows would have done.
    #[serde(default)]
    pub shadows: Vec<ShadowReport>,
    /// What was advised about the number of shards.
    #[serde(default)]
    pub scaling: Option<ScalingReport>,
    /// Milliseconds, by part.
    pub timings: Timings,
}

/// A refusal without its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalSummary {
    /// Which check.
    pub check: RefusalCheck,
    /// How many slots it held back.
    pub slots: usize,
    /// For people.
    pub reason: String,
}

impl From<&CycleReport> for CycleSummary {
    fn from(report: &CycleReport) -> Self {
        let migrations = &report.migrations;
        Self {
            cycle: report.cycle,
            started_at_ms: report.started_at_ms,
            mode: report.mode,
            generation: report.snapshot.as_ref().map(|snapshot| snapshot.generation),
            policy: report.policy.clone(),
            summary: report.plan.as_ref().map(|plan| plan.summary.clone()),
            outcome: report.outcome.clone(),
            moves_proposed: report.plan.as_ref().map_or(0, |plan| plan.moves.len()),
            moves_approved: report.approved.len(),
            refusals: report
                .refusals
                .iter()
                .map(|refusal| RefusalSummary {
                    check: refusal.check,
                    slots: refusal.slots.len(),
                    reason: refusal.reason.clone(),
                })
                .collect(),
            slots_moved: migrations.iter().map(|migration| migration.moved.len()).sum(),
            slots_stayed: migrations.iter().map(|migration| migration.stayed.len()).sum(),
            keys_moved: migrations.iter().map(|migration| migration.keys).sum(),
            bytes_moved: migrations.iter().map(|migration| migration.bytes).sum(),
            predictions: report.predictions.clone(),
            realised: report.realised.clone(),
            shadows: report.shadows.clone(),
            scaling: report.scaling.clone(),
            timings: report.timings,
        }
    }
}

/// A plan that waits for a person, in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStatus {
    /// What it is called.
    pub plan: String,
    /// The cycle that proposed it.
    pub cycle: u64,
    /// Unix time, milliseconds.
    pub since_ms: u64,
    /// Unix time in milliseconds until which it can be approved.
    pub until_ms: u64,
    /// The policy's line for people.
    pub summary: String,
    /// Slots that would move.
    pub slots: usize,
    /// Bytes that would move, where they are known.
    pub bytes: Option<u64>,
    /// Who approved it; absent while nobody has.
    pub approved_by: Option<String>,
}

impl From<&Waiting> for WaitingStatus {
    fn from(waiting: &Waiting) -> Self {
        Self {
            plan: waiting.plan.clone(),
            cycle: waiting.cycle,
            since_ms: waiting.since_ms,
            until_ms: waiting.until_ms,
            summary: waiting.summary.clone(),
            slots: waiting.moves.len(),
            bytes: waiting.bytes,
            approved_by: waiting.approved_by.clone(),
        }
    }
}

/// What was done since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Cycles that ended.
    pub cycles: u64,
    /// Calls into WebAssembly to get a plan.
    pub policy_calls: u64,
    /// Slots moved.
    pub slots_moved: u64,
    /// Keys moved.
    pub keys_moved: u64,
    /// Bytes moved, estimated.
    pub bytes_moved: u64,
}

/// What the daemon is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name, as configured.
    pub cluster: String,
    /// The daemon's version.
    pub version: String,
    /// Unix time, milliseconds.
    pub started_at_ms: u64,
    /// What it is allowed to do.
    pub mode: Mode,
    /// Why that mode: who set it and the reason given.
    pub mode_reason: String,
    /// What it is among other daemons on this cluster; absent when it is the only one.
    #[serde(default)]
    pub lease: Option<LeaseStatus>,
    /// What it is at.
    pub activity: Activity,
    /// Nodes that are to be emptied, and how far that has come.
    #[serde(default)]
    pub drains: Vec<DrainStatus>,
    /// What was advised about the number of shards, by the last cycle that could be.
    #[serde(default)]
    pub scaling: Option<ScalingReport>,
    /// How many shards there are and should be; absent before the cluster was seen.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Who chooses whom to take out.
    #[serde(skip)]
    pub victim: Victim,
    /// A plan that waits for a person, without its moves.
    #[serde(default)]
    pub waiting: Option<WaitingStatus>,
    /// The same, whole.
    #[serde(skip)]
    pub waiting_plan: Option<Arc<Waiting>>,
    /// Who decides.
    pub policy: PolicyStatus,
    /// The shadow that decides in the configured policy's place.
    #[serde(default)]
    pub promoted: Option<String>,
    /// Who is asked beside it.
    #[serde(default)]
    pub shadows: Vec<ShadowStatus>,
    /// By which settings.
    pub config: ConfigStatus,
    /// What was seen last.
    pub snapshot: Option<SnapshotSummary>,
    /// A snapshot older than this many milliseconds makes the daemon unready.
    pub stale_after_ms: u64,
    /// The primaries, as last seen.
    pub nodes: Vec<NodeRow>,
    /// By resource (`cpu`, `memory`, `network`), as last seen.
    pub balance: BTreeMap<String, Balance>,
    /// The cycle that ended last.
    pub last_cycle: Option<CycleSummary>,
    /// Migrations that run now, or are in doubt.
    pub migrations: Vec<Progress>,
    /// The moves of this cycle as a whole, while they are carried out.
    pub moving: Option<Overall>,
    /// Whether a step has lasted for longer than `migration.stuck_after`.
    pub stuck: bool,
    /// Every importing or migrating flag, as last seen.
    pub open_slots: Vec<OpenSlot>,
    /// What the last recovery found and did, until one finds nothing to do.
    pub recovery: Option<Recovery>,
    /// Since the daemon started.
    pub totals: Totals,
    /// The snapshot itself, for those who ask for it.
    #[serde(skip)]
    pub seen: Option<Arc<Snapshot>>,
}

impl Status {
    /// Nothing was seen yet, and nothing is allowed.
    pub(crate) fn starting(cluster: &str, started_at_ms: u64, stale_after_ms: u64) -> Self {
        Self {
            cluster: cluster.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms,
            mode: Mode::DryRun,
            mode_reason: String::new(),
            lease: None,
            activity: Activity::Idle,
            drains: Vec::new(),
            scaling: None,
            scale: None,
            victim: Victim::default(),
            waiting: None,
            waiting_plan: None,
            policy: PolicyStatus::default(),
            promoted: None,
            shadows: Vec::new(),
            config: ConfigStatus::default(),
            snapshot: None,
            stale_after_ms,
            nodes: Vec::new(),
            balance: BTreeMap::new(),
            last_cycle: None,
            migrations: Vec::new(),
            moving: None,
            stuck: false,
            open_slots: Vec::new(),
            recovery: None,
            totals: Totals::default(),
            seen: None,
        }
    }

    /// How many shards there are and should be, by what is known now; nothing before the cluster was seen.
    pub(super) fn shards(&self) -> Option<Scale> {
        let seen = self.seen.as_deref()?;
        Some(Scale::of(seen, self.scaling.as_ref(), &self.drains, self.victim))
    }

    /// Whether the daemon does its work: a policy is loaded, and the cluster was seen lately or slots are being moved.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn ready(&self, now_ms: u64) -> Result<(), String> {
        if self.policy.id.is_none() {
            return Err(self.why_no_policy());
        }
        if self.activity == Activity::Migrating { Ok(()) } else { self.is_fresh(now_ms) }
    }

    /// Whether the cluster was seen lately.
    ///
    /// # Errors
    /// Why not, or when it was, for people.
    pub fn is_fresh(&self, now_ms: u64) -> Result<(), String> {
        let Some(snapshot) = &self.snapshot else {
            let why = match self.last_cycle.as_ref().map(|cycle| &cycle.outcome) {
                Some(CycleOutcome::NotCollected { reason }) => reason,
                _ => "the first cycle has not ended",
            };
            return Err(format!("the cluster was not seen yet: {why}"));
        };
        let age_ms = now_ms.saturating_sub(snapshot.taken_at_ms);
        if age_ms > self.stale_after_ms {
            return Err(format!("the cluster was last seen {} s ago", age_ms / 1000));
        }
        Ok(())
    }

    /// Why there is no policy to ask, as long as there is none.
    pub(super) fn why_no_policy(&self) -> String {
        let why = self.policy.last_reload.as_ref().map_or("it is being loaded", |reload| &reload.detail);
        format!("no policy is loaded: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_ready_with_a_policy_and_a_fresh_snapshot() {
        let mut status = Status::starting("test", 0, 30_000);
        check(&status, Err("no policy is loaded: it is being loaded"));
        status.policy.id = Some(PolicyId { name: "balance".into(), version: "1".into(), digest: "0".repeat(64) });
        check(&status, Err("the cluster was not seen yet: the first cycle has not ended"));
        status.snapshot = Some(SnapshotSummary {
            generation: 1,
            taken_at_ms: 90_000,
            window_s: 10,
            primaries: 3,
            replicas: 3,
            open_slots: 0,
            problems: Vec::new(),
        });
        check(&status, Ok(()));
        status.snapshot.as_mut().expect("set above").taken_at_ms = 60_000;
        check(&status, Err("the cluster was last seen 40 s ago"));
        status.activity = Activity::Migrating;
        check(&status, Ok(()));
    }

    fn check(status: &Status, expected: Result<(), &str>) {
        assert_eq!(status.ready(100_000), expected.map_err(str::to_owned));
    }
}
