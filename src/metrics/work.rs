//! Cycles, plans and moves, as metrics: what was decided, what was done, and what it cost the cluster.

use std::sync::{Mutex, PoisonError};

use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec};

use super::family::{Families, Spreads};
use super::nodes::{CLUSTER, PRIMARY, REPLICA, SOURCES};
use crate::migration::{Overall, Progress};
use crate::model::{CycleOutcome, CycleReport, MigrationReport, PaceReport, Protocol, RefusalCheck, Trigger};
use crate::policy::FailureKind;

/// From three nodes on one machine to a thousand across a slow network.
const COLLECT_BUCKETS: &[f64] = &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a small native-speed policy to the default deadline and beyond.
const POLICY_BUCKETS: &[f64] = &[0.0005, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// From one small slot to the deadline of an atomic migration.
const MOVE_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0];
/// Around what clients feel: a tenth of a millisecond is a good network, a tenth of a second a complaint.
const PROBE_BUCKETS: &[f64] = &[0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];

pub(super) const RESOURCES: [&str; 3] = ["cpu", "memory", "network"];
const OUTCOMES: [&str; 7] =
    ["no-change", "planned", "executed", "refused", "policy-failed", "not-collected", "incomplete"];

#[derive(Debug)]
pub(super) struct Work {
    plans: CounterVec,
    plan_moves: Gauge,
    imbalance: GaugeVec,
    floor: GaugeVec,
    predicted: GaugeVec,
    prediction_error: GaugeVec,
    proposed: Counter,
    rejected: CounterVec,
    collect_duration: HistogramVec,
    policy_calls: CounterVec,
    policy_duration: Histogram,
    policy_memory: Gauge,
    policy_figures: GaugeVec,
    in_progress: Gauge,
    pending: Gauge,
    oldest_start: Gauge,
    oldest_step: Gauge,
    stuck: Gauge,
    eta: Gauge,
    /// Keys and bytes of the moves under way that are in the counters already.
    counted: Mutex<(u64, u64)>,
    moves: CounterVec,
    keys: Counter,
    bytes: Counter,
    move_duration: HistogramVec,
    pace_share: Gauge,
    eased: CounterVec,
    rounds: Spreads,
    retries: CounterVec,
    throttled: CounterVec,
    probe_duration: HistogramVec,
}

impl Work {
    pub(super) fn new(cluster: &Families<'_>) -> Self {
        let work = Self {
            plans: cluster.counters_by(
                "ballast_plans_total",
                "Cycles, by why they began and how they ended.",
                &["trigger", "outcome"],
            ),
            plan_moves: cluster.gauge("ballast_plan_moves", "Moves that the guard let through in the last cycle."),
            imbalance: cluster.gauges(
                "ballast_cluster_imbalance_ratio",
                "Largest utilisation of a resource ÷ mean over the primaries; 1 is even.",
                &["resource"],
            ),
            floor: cluster.gauges(
                "ballast_cluster_imbalance_floor_ratio",
                "The least imbalance that any placement of the slots could reach.",
                &["resource"],
            ),
            predicted: cluster.gauges(
                "ballast_plan_predicted_imbalance_ratio",
                "Imbalance after the moves of the last cycle, by arithmetic.",
                &["resource"],
            ),
            prediction_error: cluster.gauges(
                "ballast_plan_prediction_error_ratio",
                "Imbalance that came about ÷ the predicted one − 1, of the last plan that was carried out.",
                &["resource"],
            ),
            proposed: cluster
                .counter("ballast_plan_moves_proposed_total", "Moves that the policy proposed, before the guard."),
            rejected: cluster.counters(
                "ballast_plan_moves_rejected_total",
                "Moves that the guard held back, by its check; a whole plan counts each of its moves.",
                "guard",
                RefusalCheck::ALL.map(RefusalCheck::as_str),
            ),
            collect_duration: cluster.histograms(
                "ballast_collect_duration_seconds",
                "Time to see the cluster, and of each primary and replica to answer all that it is asked.",
                "source",
                COLLECT_BUCKETS,
            ),
            policy_calls: cluster.counters(
                "ballast_policy_calls_total",
                "Calls of the policy, by what it answered.",
                "result",
                ["plan", "no-change"].into_iter().chain(FailureKind::ALL.map(FailureKind::as_str)),
            ),
            policy_duration: cluster.histogram(
                "ballast_policy_call_duration_seconds",
                "Time of a call of the policy, with its crossing into WebAssembly.",
                POLICY_BUCKETS,
            ),
            policy_memory: cluster.gauge(
                "ballast_policy_memory_bytes",
                "Linear memory that the configured policy holds; 0 while it has no instance.",
            ),
            policy_figures: cluster.gauges(
                "ballast_policy_figure",
                "Numbers that the policy wants shown, at most sixteen.",
                &["figure"],
            ),
            in_progress: cluster.gauge("ballast_moves_in_progress", "Slots that are being moved."),
            pending: cluster
                .gauge("ballast_moves_pending", "Slots of this cycle's plan whose migration has not begun."),
            oldest_start: cluster.gauge(
                "ballast_moves_oldest_start_timestamp_seconds",
                "When the oldest migration that runs began, Unix time; 0 while none runs.",
            ),
            oldest_step: cluster.gauge(
                "ballast_moves_oldest_step_start_timestamp_seconds",
                "When the oldest step of a running migration began, Unix time; 0 while none runs.",
            ),
            stuck: cluster.gauge(
                "ballast_moves_stuck",
                "1 while the oldest step has lasted longer than migration.stuck_after, else 0.",
            ),
            eta: cluster.gauge(
                "ballast_moves_eta_seconds",
                "Time until this cycle's moves are done; 0 while none run or it is not known.",
            ),
            counted: Mutex::default(),
            moves: cluster.counters_by("ballast_moves_total", "Slots to be moved that ended.", &["method", "result"]),
            keys: cluster.counter("ballast_move_keys_total", "Keys moved; those of atomic moves when they end."),
            bytes: cluster.counter("ballast_move_bytes_total", "Bytes moved, estimated."),
            pace_share: cluster.gauge(
                "ballast_move_pace_ratio",
                "The part of the configured pace that was taken when slots last moved; below 1 it was eased for clients.",
            ),
            eased: cluster.counters(
                "ballast_move_eased_total",
                "Times that the pace was eased while slots moved, by what asked for it.",
                "reason",
                PaceReport::REASONS,
            ),
            rounds: cluster.spreads(
                "ballast_migrate_batch_duration_seconds",
                "Pipelines of MIGRATE that moved keys; a source executes each with nobody in between.",
            ),
            retries: cluster.counters(
                "ballast_move_retries_total",
                "Times that a refused command was said again, by what was waited for.",
                "reason",
                PaceReport::RETRIES,
            ),
            throttled: cluster.counters(
                "ballast_move_throttled_seconds_total",
                "Time that migrations rested, by what asked for it; those that run side by side add up.",
                "reason",
                PaceReport::THROTTLES,
            ),
            move_duration: cluster.histograms(
                "ballast_move_duration_seconds",
                "Time of a migration: one batch of slots from one primary to another.",
                "method",
                MOVE_BUCKETS,
            ),
            probe_duration: cluster.histograms(
                "ballast_probe_duration_seconds",
                "Round trip of our own probe to a primary, while nothing moves and while slots move.",
                "phase",
                PROBE_BUCKETS,
            ),
        };
        for method in Protocol::ALL {
            work.move_duration.with_label_values(&[method.as_str()]);
            for result in ["moved", "stayed"] {
                work.moves.with_label_values(&[method.as_str(), result]);
            }
        }
        for (trigger, outcome) in Trigger::ALL.iter().flat_map(|trigger| OUTCOMES.map(|outcome| (trigger, outcome))) {
            work.plans.with_label_values(&[trigger.as_str(), outcome]);
        }
        for source in SOURCES {
            work.collect_duration.with_label_values(&[source]);
        }
        for phase in ["idle", "migrating"] {
            work.probe_duration.with_label_values(&[phase]);
        }
        for resource in RESOURCES {
            for family in [&work.imbalance, &work.floor, &work.predicted] {
                // Even: what it is as long as nothing is known.
                family.with_label_values(&[resource]).set(1.0);
            }
            work.prediction_error.with_label_values(&[resource]).set(0.0);
        }
        work
    }

    pub(super) fn cycle(&self, report: &CycleReport) {
        self.plans.with_label_values(&[report.trigger.as_str(), report.outcome.as_str()]).inc();
        self.plan_moves.set(report.approved.len() as f64);
        for (resource, prediction) in &report.predictions {
            self.imbalance.with_label_values(&[resource]).set(prediction.imbalance_before);
            self.floor.with_label_values(&[resource]).set(prediction.floor);
            self.predicted.with_label_values(&[resource]).set(prediction.imbalance_after);
        }
        for (resource, (predicted, seen)) in report.realised.iter().flat_map(|realised| &realised.imbalance) {
            self.prediction_error.with_label_values(&[resource]).set(seen / predicted - 1.0);
        }
        for refusal in &report.refusals {
            // A plan that is refused as a whole names no slot where the policy gave none.
            let moves = refusal.slots.len().max(1);
            self.rejected.with_label_values(&[refusal.check.as_str()]).inc_by(moves as f64);
        }
        if report.snapshot.is_some() {
            self.collect_duration.with_label_values(&[CLUSTER]).observe(report.timings.collect_ms / 1e3);
        }
        self.policy_call(report);
        report.migrations.iter().for_each(|migration| self.migration(migration));
        let keys = report.migrations.iter().map(|migration| migration.keys).sum();
        let bytes = report.migrations.iter().map(|migration| migration.bytes).sum();
        self.count(keys, bytes);
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = (0, 0);
    }

    /// Brings the counters up to what the moves under way have come to. An estimate that turns out to be less stays
    /// counted until the moves have come that far: a counter does not go back.
    fn count(&self, keys: u64, bytes: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.inc_by(keys.saturating_sub(counted.0) as f64);
        self.bytes.inc_by(bytes.saturating_sub(counted.1) as f64);
        *counted = (counted.0.max(keys), counted.1.max(bytes));
    }

    fn policy_call(&self, report: &CycleReport) {
        let result = match (&report.plan, &report.outcome) {
            (Some(plan), _) if plan.moves.is_empty() => "no-change",
            (Some(_), _) => "plan",
            (None, CycleOutcome::PolicyFailed { kind, .. })
                if FailureKind::ALL.iter().any(|known| known.as_str() == kind) =>
            {
                kind
            }
            (None, _) => return,
        };
        self.policy_calls.with_label_values(&[result]).inc();
        self.policy_duration.observe(report.timings.policy_ms / 1e3);
        if let Some(plan) = &report.plan {
            self.proposed.inc_by(plan.moves.len() as f64);
            self.policy_figures.reset();
            for (name, value) in plan.gauges.iter().take(16) {
                self.policy_figures.with_label_values(&[name]).set(*value);
            }
        }
    }

    fn migration(&self, migration: &MigrationReport) {
        let method = migration.protocol.as_str();
        self.moves.with_label_values(&[method, "moved"]).inc_by(migration.moved.len() as f64);
        self.moves.with_label_values(&[method, "stayed"]).inc_by(migration.stayed.len() as f64);
        self.move_duration.with_label_values(&[method]).observe(migration.duration_ms as f64 / 1e3);
        self.pace_share.set(migration.pace.share);
        for (reason, count) in &migration.pace.eased {
            self.eased.with_label_values(&[reason]).inc_by(*count as f64);
        }
        self.rounds.add(&migration.pace.rounds);
        for (reason, rests) in &migration.pace.rests {
            if PaceReport::RETRIES.contains(&reason.as_str()) {
                self.retries.with_label_values(&[reason]).inc_by(rests.times as f64);
            } else if PaceReport::THROTTLES.contains(&reason.as_str()) {
                self.throttled.with_label_values(&[reason]).inc_by(rests.seconds);
            }
        }
    }

    pub(super) fn running(&self, migrations: &[Progress]) {
        let left = |progress: &Progress| progress.slots.len().saturating_sub(progress.slots_moved);
        self.in_progress.set(migrations.iter().map(left).sum::<usize>() as f64);
        let oldest = migrations.iter().map(|progress| progress.started_at_ms).min();
        self.oldest_start.set(oldest.map_or(0.0, |at_ms| at_ms as f64 / 1e3));
        let step = migrations.iter().map(|progress| progress.step_since_ms).min();
        self.oldest_step.set(step.map_or(0.0, |at_ms| at_ms as f64 / 1e3));
    }

    pub(super) fn moving(&self, overall: Option<&Overall>, stuck: bool) {
        self.pending.set(overall.map_or(0.0, |overall| overall.slots_waiting as f64));
        self.stuck.set(f64::from(u8::from(stuck)));
        let eta_ms = overall.and_then(|overall| overall.eta_ms);
        self.eta.set(eta_ms.map_or(0.0, |eta_ms| eta_ms as f64 / 1e3));
        if let Some(overall) = overall {
            self.count(overall.keys_moved, overall.bytes_moved);
        }
    }

    /// A node has answered all that it was asked.
    pub(super) fn answered(&self, seconds: f64, primary: bool) {
        let source = if primary { PRIMARY } else { REPLICA };
        self.collect_duration.with_label_values(&[source]).observe(seconds);
    }

    pub(super) fn policy_memory(&self, bytes: usize) {
        self.policy_memory.set(bytes as f64);
    }

    pub(super) fn probe(&self, seconds: f64, migrating: bool) {
        self.probe_duration.with_label_values(&[if migrating { "migrating" } else { "idle" }]).observe(seconds);
    }
}
