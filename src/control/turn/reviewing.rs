//! What of a plan may be carried out: the guard's judgement, and the mode's.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::super::shadows::Case;
use super::{Crew, Orders, Turn, milliseconds};
use crate::clock::now_ms;
use crate::guard::{self, ApprovedPlan, Ledger};
use crate::model::{CycleOutcome, Mode, Plan, PolicyId, ShadowReport, SlotSet, Snapshot};

/// What the guard has to know of the past.
pub(super) async fn ledger(crew: &mut Crew, orders: &Orders) -> Ledger {
    let ours: SlotSet = match orders.unfinished().await {
        Ok(intents) => intents.iter().flat_map(|(_, intent)| intent.slots.iter()).chain(orders.theirs.iter()).collect(),
        // Then every open slot counts as foreign, and nothing moves.
        Err(_) => SlotSet::default(),
    };
    crew.past.ledger(now_ms(), ours, crew.members.clone())
}

/// Has shadows asked about the same view, and judged as the deciding policy is.
pub(super) async fn ask_shadows(
    orders: &Orders,
    snapshot: &Arc<Snapshot>,
    plan: Option<&Plan>,
    ledger: &Ledger,
) -> Option<oneshot::Receiver<Vec<ShadowReport>>> {
    if orders.config.shadows.is_empty() {
        return None;
    }
    let case = Case {
        snapshot: snapshot.clone(),
        plan: plan.cloned(),
        limits: orders.config.limits.clone(),
        ledger: ledger.clone(),
    };
    Some(orders.shadows.judge(case).await)
}

/// What may be carried out now. Without a plan an empty one is reviewed: its predictions say how even the cluster is.
pub(super) fn review(
    crew: &mut Crew,
    orders: &Orders,
    turn: &mut Turn,
    snapshot: &Snapshot,
    plan: Option<Plan>,
    ledger: &Ledger,
) -> Option<ApprovedPlan> {
    let began = Instant::now();
    let asked = plan.is_some();
    let plan = plan.unwrap_or_else(|| nothing(snapshot));
    let reviewed_at_ms = now_ms();
    let verdict = guard::review(&plan, snapshot, &orders.config.limits, ledger, reviewed_at_ms);
    if let Some(given) = &mut turn.given {
        given.ledger = ledger.clone();
        given.reviewed_at_ms = reviewed_at_ms;
    }
    turn.report.timings.review_ms = milliseconds(began);
    if crew.promise.as_ref().is_some_and(|promise| promise.is_due(orders.cycle)) {
        turn.report.realised = crew.promise.take().map(|promise| promise.realised(&verdict.predictions));
    }
    turn.report.predictions = verdict.predictions;
    if !asked {
        return None;
    }
    turn.report.refusals = verdict.refusals;
    turn.report.approved = verdict.approved.moves().to_vec();
    turn.report.addresses = snapshot.addresses(turn.report.approved.iter().flat_map(|step| [&step.from, &step.to]));
    turn.report.outcome = match (plan.moves.is_empty(), verdict.approved.is_empty()) {
        (true, _) => CycleOutcome::NoChange,
        (false, true) => CycleOutcome::Refused,
        (false, false) => CycleOutcome::Planned,
    };
    turn.report.plan = Some(plan);
    if verdict.approved.is_empty() || orders.stop.is_asked() {
        return None;
    }
    match orders.mode {
        Mode::Auto => Some(verdict.approved),
        // What a person has seen, and nothing that a policy says besides.
        Mode::Approval if turn.given.is_none() => Some(verdict.approved),
        Mode::Approval => {
            turn.proposed = verdict.approved.into_moves();
            None
        }
        _ => None,
    }
}

/// A plan that moves nothing.
fn nothing(snapshot: &Snapshot) -> Plan {
    Plan {
        policy: PolicyId { name: String::new(), version: String::new(), digest: String::new() },
        generation: snapshot.generation,
        moves: Vec::new(),
        summary: String::new(),
        gauges: Vec::new(),
    }
}
