//! A plan that was written down with `ballast plan --out`, and whether the cluster is still as it saw it.

use std::path::Path;

use serde::Deserialize;

use super::outcome::refused;
use crate::model::{NodeId, Plan, PolicyId, ProposedMove, SlotId, SlotSet, Snapshot};

/// The document, as far as it is carried out.
#[derive(Debug, Deserialize)]
pub(super) struct Planned {
    policy: PolicyId,
    summary: String,
    moves: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    slot: SlotId,
    from: NodeId,
    to: NodeId,
    reason: String,
}

impl Planned {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let wrong = |why: String| refused(format!("{}: {why}", path.display()), "`ballast plan --out FILE` writes one");
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let planned: Self = serde_json::from_str(&text).map_err(|error| wrong(format!("no plan: {error}")))?;
        if planned.moves.is_empty() {
            return Err(refused(format!("{}: it moves nothing", path.display()), "there is nothing to do"));
        }
        Ok(planned)
    }

    /// The plan over `snapshot`.
    ///
    /// # Errors
    /// When a slot has another owner than the plan saw, or whoever is to get it is no primary any more: all of the plan is weighed
    /// together, so that a part of it is no plan.
    pub(super) fn plan(&self, snapshot: &Snapshot) -> anyhow::Result<Plan> {
        let owner = |step: &&Step| snapshot.owner_of(step.slot).is_some_and(|owner| owner.id == step.from);
        let elsewhere: SlotSet = self.moves.iter().filter(|step| !owner(step)).map(|step| step.slot).collect();
        if !elsewhere.is_empty() {
            return Err(stale(format!("slots {elsewhere} are not where it saw them")));
        }
        let propose = |step: &Step| {
            let gone = || stale(format!("{} is no primary any more", step.to.short()));
            let target = snapshot.index_of(&step.to).ok_or_else(gone)?;
            Ok(ProposedMove { slot: step.slot.number(), target, reason: step.reason.clone() })
        };
        Ok(Plan {
            policy: self.policy.clone(),
            generation: snapshot.generation,
            moves: self.moves.iter().map(propose).collect::<anyhow::Result<_>>()?,
            summary: self.summary.clone(),
            gauges: Vec::new(),
        })
    }
}

fn stale(why: String) -> anyhow::Error {
    refused(format!("the plan is older than the cluster: {why}"), "plan anew: `ballast plan --out FILE`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::proposal::with_reason;
    use crate::collector::synthetic::synthetic;

    #[test]
    fn a_plan_is_carried_out_only_while_every_slot_is_where_it_saw_it() {
        let mut snapshot = synthetic(3, 1);
        let id = |index: usize| snapshot.primaries[index].id.clone();
        let step = |slot: u16, from: usize, to: usize| Step {
            slot: SlotId::new(slot).expect("in range"),
            from: id(from),
            to: id(to),
            reason: "hot".to_owned(),
        };
        let policy = PolicyId { name: "test".into(), version: "1".into(), digest: "ab".repeat(32) };
        let mut planned = Planned { policy, summary: String::new(), moves: vec![step(0, 0, 1), step(1, 0, 2)] };
        let plan = with_reason(planned.plan(&snapshot).expect("as it was"), Some("release"));
        assert_eq!(plan.moves.iter().map(|step| step.target).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(plan.moves[0].reason, "release: hot");
        planned.moves.push(step(2, 1, 2));
        let error = planned.plan(&snapshot).expect_err("slot 2 is elsewhere").to_string();
        assert!(error.contains("slots 2 are not where it saw them"), "{error}");
        planned.moves.pop();
        snapshot.primaries[2].id = "e".repeat(40).parse().expect("an id");
        let error = planned.plan(&snapshot).expect_err("nobody is called so").to_string();
        assert!(error.contains("is no primary any more"), "{error}");
    }
}
