//! The log's line about a cycle.

use tracing::{debug, info, warn};

use super::super::status::CycleSummary;
use crate::model::{CycleOutcome, CycleReport, Timings};

/// A line per cycle. One that only says the same as the cycle before is for those who look closer.
pub(super) fn log(report: &CycleReport, before: Option<&CycleSummary>) {
    let summary = CycleSummary::from(report);
    let CycleSummary { cycle, mode, moves_proposed, moves_approved, slots_moved, slots_stayed, .. } = summary;
    let outcome = summary.outcome.as_str();
    let reason = match &summary.outcome {
        CycleOutcome::PolicyFailed { reason, .. }
        | CycleOutcome::NotCollected { reason }
        | CycleOutcome::Incomplete { reason } => reason,
        CycleOutcome::Refused => summary.refusals.first().map_or("", |refusal| &refusal.reason),
        CycleOutcome::NoChange | CycleOutcome::Planned | CycleOutcome::Executed => {
            summary.summary.as_deref().unwrap_or("")
        }
    };
    let policy = summary.policy.as_ref().map(ToString::to_string).unwrap_or_default();
    let Timings { collect_ms, policy_ms, review_ms, migrate_ms } = report.timings;
    macro_rules! line {
        ($level:ident) => {
            $level!(
                cycle, %mode, outcome, policy, moves_proposed, moves_approved, slots_moved, slots_stayed,
                collect_ms = collect_ms.round(), policy_ms, review_ms, migrate_ms = migrate_ms.round(), reason, "cycle over"
            )
        };
    }
    match &summary.outcome {
        CycleOutcome::Incomplete { .. } | CycleOutcome::NotCollected { .. } => line!(warn),
        CycleOutcome::NoChange if before.is_some_and(|before| before.outcome == summary.outcome) => line!(debug),
        _ => line!(info),
    }
}
