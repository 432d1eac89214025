//! What shadows would have done, beside the policy that decides.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus::{CounterVec, GaugeVec};

use super::family::Families;
use super::work::RESOURCES;
use crate::model::ShadowReport;

#[derive(Debug)]
pub(super) struct Shadows {
    calls: CounterVec,
    call_seconds: CounterVec,
    proposed: CounterVec,
    approved: GaugeVec,
    bytes: GaugeVec,
    predicted: GaugeVec,
    disagreement: GaugeVec,
    memory: GaugeVec,
    /// The shadows that have series.
    known: Mutex<BTreeSet<String>>,
}

impl Shadows {
    pub(super) fn new(cluster: &Families<'_>) -> Self {
        Self {
            calls: cluster.counters_by(
                "ballast_shadow_calls_total",
                "Calls of a shadow policy, by what it answered.",
                &["shadow", "result"],
            ),
            call_seconds: cluster.counters_by(
                "ballast_shadow_call_seconds_total",
                "Time that calls of a shadow policy took.",
                &["shadow"],
            ),
            proposed: cluster.counters_by(
                "ballast_shadow_moves_total",
                "Moves that a shadow policy proposed, by what the guard would have done.",
                &["shadow", "verdict"],
            ),
            approved: cluster.gauges(
                "ballast_shadow_plan_moves",
                "Moves of a shadow policy that the guard would have let through in the last cycle.",
                &["shadow"],
            ),
            bytes: cluster.gauges("ballast_shadow_plan_bytes", "Bytes of those moves, estimated.", &["shadow"]),
            predicted: cluster.gauges(
                "ballast_shadow_predicted_imbalance_ratio",
                "Imbalance after those moves, by arithmetic.",
                &["shadow", "resource"],
            ),
            disagreement: cluster.gauges(
                "ballast_shadow_disagreement_ratio",
                "The part of all moves that only one of a shadow and the deciding policy proposed, 0 to 1.",
                &["shadow"],
            ),
            memory: cluster.gauges(
                "ballast_shadow_memory_bytes",
                "Linear memory that a shadow policy holds.",
                &["shadow"],
            ),
            known: Mutex::default(),
        }
    }

    /// Takes note of a cycle's shadows; series of those that are gone go as well.
    pub(super) fn cycle(&self, reports: &[ShadowReport]) {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now: BTreeSet<String> = reports.iter().map(|report| report.name.clone()).collect();
        known.difference(&now).for_each(|gone| self.forget(gone));
        *known = now;
        for report in reports {
            let name = report.name.as_str();
            let result = match &report.failure {
                Some((kind, _)) => kind.as_str(),
                None if report.proposed == 0 => "no-change",
                None => "plan",
            };
            self.calls.with_label_values(&[name, result]).inc();
            self.call_seconds.with_label_values(&[name]).inc_by(report.call_ms / 1e3);
            let refused = report.proposed.saturating_sub(report.approved);
            self.proposed.with_label_values(&[name, "approved"]).inc_by(report.approved as f64);
            self.proposed.with_label_values(&[name, "refused"]).inc_by(refused as f64);
            self.memory.with_label_values(&[name]).set(report.memory_bytes as f64);
            if report.failure.is_some() {
                // No plan is not the same as an empty one.
                self.forget_plan(name);
                continue;
            }
            self.approved.with_label_values(&[name]).set(report.approved as f64);
            self.bytes.with_label_values(&[name]).set(report.bytes as f64);
            self.disagreement.with_label_values(&[name]).set(report.disagreement);
            for (resource, prediction) in &report.predictions {
                self.predicted.with_label_values(&[name, resource]).set(prediction.imbalance_after);
            }
        }
    }

    /// Takes back what the last plan was. A series that was never made cannot be removed, which is as well.
    fn forget_plan(&self, name: &str) {
        for gauges in [&self.approved, &self.bytes, &self.disagreement] {
            let _none = gauges.remove_label_values(&[name]);
        }
        for resource in RESOURCES {
            let _none = self.predicted.remove_label_values(&[name, resource]);
        }
    }

    fn forget(&self, name: &str) {
        self.forget_plan(name);
        let _none = self.memory.remove_label_values(&[name]);
        let _none = self.call_seconds.remove_label_values(&[name]);
        for verdict in ["approved", "refused"] {
            let _none = self.proposed.remove_label_values(&[name, verdict]);
        }
        let kinds = crate::policy::FailureKind::ALL.map(crate::policy::FailureKind::as_str);
        for result in ["plan", "no-change", "not-loaded"].into_iter().chain(kinds) {
            let _none = self.calls.remove_label_values(&[name, result]);
        }
    }
}
