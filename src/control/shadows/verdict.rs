//! What would have come of a shadow's plan. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Case;
use crate::clock::now_ms;
use crate::guard;
use crate::migration::Amount;
use crate::model::{Plan, ShadowReport};

/// Adds to `report` what the guard thinks of `plan`, what it would do, and how far it differs from the deciding policy's.
pub(super) fn judge(report: &mut ShadowReport, plan: &Plan, case: &Case) {
    let verdict = guard::review(plan, &case.snapshot, &case.limits, &case.ledger, now_ms());
    let moves = verdict.approved.moves();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for refusal in &verdict.refusals {
        // A plan that is refused as a whole names no slot where the policy gave none.
        *refused.entry(refusal.check.to_string()).or_default() += refusal.slots.len().max(1);
    }
    report.summary.clone_from(&plan.summary);
    report.proposed = plan.moves.len();
    report.approved = moves.len();
    report.refused = refused;
    report.bytes = Amount::of(moves, &case.snapshot).bytes.unwrap_or(0);
    report.predictions = verdict.predictions;
    report.disagreement = case.plan.as_ref().map_or(0.0, |deciding| disagreement(deciding, plan));
}

/// The part of all moves proposed by either that only one of them proposed (the Jaccard distance); 0 when there are none.
fn disagreement(one: &Plan, other: &Plan) -> f64 {
    let moves = |plan: &Plan| -> BTreeSet<(u16, u32)> {
        plan.moves.iter().map(|proposed| (proposed.slot, proposed.target)).collect()
    };
    let (one, other) = (moves(one), moves(other));
    let all = one.union(&other).count();
    if all == 0 { 0.0 } else { one.symmetric_difference(&other).count() as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PolicyId, ProposedMove};

    fn plan(moves: &[(u16, u32)]) -> Plan {
        let proposed =
            |(slot, target): &(u16, u32)| ProposedMove { slot: *slot, target: *target, reason: String::new() };
        Plan {
            policy: PolicyId { name: "test".into(), version: "1".into(), digest: String::new() },
            generation: 1,
            moves: moves.iter().map(proposed).collect(),
            summary: String::new(),
            gauges: Vec::new(),
        }
    }

    #[test]
    fn plans_disagree_by_the_moves_that_only_one_of_them_has() {
        let far = |one: &[(u16, u32)], other: &[(u16, u32)]| disagreement(&plan(one), &plan(other));
        assert_eq!(far(&[], &[]), 0.0);
        assert_eq!(far(&[(1, 2)], &[]), 1.0);
        assert_eq!(far(&[(1, 2), (3, 4)], &[(3, 4), (1, 2)]), 0.0, "their order is no matter");
        assert_eq!(far(&[(1, 2), (3, 4)], &[(1, 2), (3, 5)]), 2.0 / 3.0, "another target is another move");
    }
}
