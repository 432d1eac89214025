//! Asking the policy, or whoever stands in for it, or the plan that a person approved.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::super::deciders::Successor;
use super::super::given::Given;
use super::super::status::Activity;
use super::{Crew, Orders, Turn, milliseconds, sizing};
use crate::clock::now_ms;
use crate::guard::Ledger;
use crate::model::{CycleOutcome, Plan, Snapshot};
use crate::policy::{Policy as _, Source, cut};
use crate::scaling::Follow;

/// After too many faults, puts another policy in the place of the one that fails, if that is wanted.
async fn relieve(crew: &mut Crew, orders: &Orders) {
    let settings = &orders.config.policy.settings;
    let faults = crew.deciders.current().map_or(0, |policy| policy.stats().faults_in_row);
    match crew.deciders.successor(faults, settings.on_failure, settings.faults_before_fallback) {
        None => return,
        Some(Successor::Previous) => crew.deciders.recall(),
        Some(Successor::Balance) => {
            let host = orders.host.clone();
            let load = move || host.load(&Source::Embedded("balance".to_owned()), "{}");
            match tokio::task::spawn_blocking(load).await {
                Ok(Ok(balance)) => crew.deciders.relieve_by(balance),
                Ok(Err(failure)) => warn!(reason = %failure, "the embedded policy cannot stand in"),
                Err(bug) => std::panic::resume_unwind(bug.into_panic()),
            }
        }
    }
    if let Some(policy) = crew.deciders.stand_in() {
        warn!(policy = %policy.id(), faults, "another policy stands in until a new one is loaded");
    }
}

/// Asks the policy, on a thread that may be blocked for as long as its deadline allows.
pub(super) async fn decide(
    crew: &mut Crew,
    orders: &Orders,
    turn: &mut Turn,
    snapshot: &Arc<Snapshot>,
) -> Option<Plan> {
    orders.at(Activity::Planning);
    if let Some(plan) = carry_on(orders, turn, snapshot) {
        return Some(plan);
    }
    relieve(crew, orders).await;
    let Some(mut policy) = crew.deciders.take() else {
        let reason = orders.why_no_policy.clone();
        turn.report.outcome = CycleOutcome::PolicyFailed { kind: "not-loaded".to_owned(), reason };
        return None;
    };
    turn.report.policy = Some(policy.id().clone());
    turn.given = Some(Given {
        policy: policy.id().digest.clone(),
        parameters: policy.parameters().to_owned(),
        remembered: policy.saved_state().cloned(),
        limits: orders.config.limits.clone(),
        ledger: Ledger::default(),
        reviewed_at_ms: 0,
    });
    let view = snapshot.clone();
    let began = Instant::now();
    let calls = policy.stats().calls;
    let follow = orders.config.scaling.follow;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = policy.plan(&view);
        let advice = (follow != Follow::Off && answer.is_ok()).then(|| policy.advise(&view));
        (policy, answer, advice)
    });
    let (policy, answer, advice) = asked.await.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()));
    turn.report.timings.policy_ms = milliseconds(began);
    turn.called = policy.stats().calls > calls;
    if turn.called {
        turn.report.log = policy.log_lines().iter().take(LOG_LINES).map(|line| begin_of(line)).collect();
    }
    crew.deciders.put_back(policy);
    sizing::hear(crew, orders, turn, snapshot, advice).await;
    match answer {
        Ok(plan) => Some(plan),
        Err(failure) => {
            let kind = failure.kind().to_owned();
            turn.report.outcome = CycleOutcome::PolicyFailed { kind, reason: failure.to_string() };
            turn.failure = Some(failure);
            None
        }
    }
}

/// So many lines of a policy's log are kept with a cycle, and so many bytes of each: the daemon's log has them whole.
const LOG_LINES: usize = 20;
const LOG_BYTES: usize = 240;

fn begin_of(line: &str) -> String {
    let begin = cut(line, LOG_BYTES);
    if begin.len() < line.len() { format!("{begin}…") } else { line.to_owned() }
}

/// The plan that a person approved, while the cluster is as it was.
fn carry_on(orders: &Orders, turn: &mut Turn, snapshot: &Snapshot) -> Option<Plan> {
    let approved = orders.approved.as_ref().filter(|approved| approved.void(snapshot, now_ms()).is_none())?;
    turn.report.policy = Some(approved.policy.clone());
    Some(approved.plan(snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_from_a_line_of_a_policy_leaves_a_mark() {
        assert_eq!(begin_of("short"), "short");
        assert_eq!(begin_of(&"é".repeat(LOG_BYTES)), "é".repeat(LOG_BYTES / 2) + "…");
    }
}
