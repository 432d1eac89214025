//! Plans that wait for a person: shown, approved by a command or by a file, carried out as they were shown, or dropped.

use std::sync::Arc;

use tracing::{info, warn};

use super::super::approval::{Waiting, approved_in, digest, name};
use super::super::command::Answer;
use super::super::keeper::key;
use super::super::turn::Turn;
use super::{Control, Happening};
use crate::clock::now_ms;
use crate::migration::Amount;
use crate::model::{Mode, Snapshot, Trigger};
use crate::telemetry::chain;

/// Who dropped a plan that nobody dropped.
const NOBODY: &str = "ballast";

impl Control {
    /// The plan that the next turn is to carry out.
    pub(super) fn approved(&self) -> Option<Waiting> {
        let acts = self.mode().0 == Mode::Approval;
        self.waiting_plan.clone().filter(|waiting| acts && waiting.approved_by.is_some())
    }

    /// Looks whether the file approves the plan that waits.
    pub(super) async fn read_approvals(&mut self) {
        let Some(path) = &self.config.approval.file else { return };
        let Some(plan) = self.waiting_plan.as_ref().filter(|waiting| waiting.approved_by.is_none()) else { return };
        let plan = plan.plan.clone();
        if self.mode().0 != Mode::Approval {
            return;
        }
        match tokio::fs::read_to_string(path).await {
            Ok(text) if approved_in(&text).any(|approved| approved == plan) => {
                let who = path.display().to_string();
                if let Err(why) = self.judge(&plan, true, who, "the file names it".to_owned()) {
                    warn!(plan, why, "a plan that a file approves");
                }
            }
            Ok(_) => {}
            // No file, no approvals.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => warn!(file = %path.display(), %error, "approvals cannot be read"),
        }
    }

    /// Approves or drops the plan that waits.
    pub(super) fn judge(&mut self, plan: &str, approve: bool, who: String, why: String) -> Answer {
        let Some(waiting) = &mut self.waiting_plan else { return Err("no plan waits".to_owned()) };
        if waiting.plan != plan {
            return Err(format!("plan {plan} does not wait, {} does: `ballast approve` shows it", waiting.plan));
        }
        if !approve {
            self.rejected = Some(digest(&waiting.moves));
            let carried = self.running.as_ref().filter(|_| waiting.approved_by.is_some());
            if let Some(running) = carried {
                running.stop.stop();
            }
            let also = if carried.is_some() { "; what of it is being carried out ends at the next step" } else { "" };
            self.keep_rejected();
            self.drop_waiting(who, why);
            return Ok(format!("plan {plan} is dropped{also}"));
        }
        if self.status.mode != Mode::Approval {
            return Err(format!("nothing is carried out in mode {}: {}", self.status.mode, self.status.mode_reason));
        }
        waiting.approved_by = Some(who.clone());
        if let Err(why) = self.keep_waiting() {
            self.waiting_plan.iter_mut().for_each(|waiting| waiting.approved_by = None);
            return Err(format!("it cannot be kept, so nothing is approved: {why}"));
        }
        info!(plan, who, why, "a plan is approved");
        self.tell(Happening::PlanApproved { plan: plan.to_owned(), who, why });
        self.begin_soon(Trigger::Command);
        Ok(format!("plan {plan} is carried out in the next cycle, if the cluster is still as it saw it"))
    }

    /// What a turn means for the plan that waits.
    pub(super) fn see_plan(&mut self, turn: &mut Turn, snapshot: &Snapshot) {
        if self.status.mode != Mode::Approval {
            // Whoever changed the mode decided something else.
            if self.waiting_plan.is_some() && self.leads() && self.config.mode != Mode::Approval {
                self.drop_waiting(NOBODY.to_owned(), "plans need no approval any more".to_owned());
            }
            return;
        }
        if !turn.report.migrations.is_empty() {
            // Carried out, as far as it went; what is left is planned anew.
            self.waiting_plan = None;
            self.waits();
            return;
        }
        if let Some(why) = self.waiting_plan.as_ref().and_then(|waiting| waiting.void(snapshot, now_ms())) {
            self.drop_waiting(NOBODY.to_owned(), why);
        }
        let moves = std::mem::take(&mut turn.proposed);
        if moves.is_empty() || self.waiting_plan.is_some() || self.rejected.as_ref() == Some(&digest(&moves)) {
            return;
        }
        let (Some(plan), Some(policy)) = (&turn.report.plan, &turn.report.policy) else { return };
        let since_ms = now_ms();
        let expires_ms = u64::try_from(self.config.approval.expires.as_millis()).unwrap_or(u64::MAX);
        let waiting = Waiting {
            plan: name(&moves, since_ms),
            cycle: turn.report.cycle,
            since_ms,
            until_ms: since_ms.saturating_add(expires_ms),
            policy: policy.clone(),
            summary: plan.summary.clone(),
            predictions: turn.report.predictions.clone(),
            bytes: Amount::of(&moves, snapshot).bytes,
            moves,
            approved_by: None,
        };
        if self.rejected.take().is_some() {
            // What is proposed now is something else: the same as before would be news again.
            self.keep_rejected();
        }
        info!(plan = waiting.plan, slots = waiting.moves.len(), "a plan waits for approval");
        let (plan, summary) = (waiting.plan.clone(), waiting.summary.clone());
        let told = Happening::PlanWaits { plan, cycle: waiting.cycle, slots: waiting.moves.len(), summary };
        self.waiting_plan = Some(waiting);
        self.waits();
        self.tell(told);
    }

    fn keep_rejected(&self) {
        if let Err(error) = self.keeper.put(key::REJECTED, &self.rejected) {
            warn!(error = %chain(&error), "a restart will not know which plan was dropped");
        }
    }

    fn drop_waiting(&mut self, who: String, why: String) {
        let Some(waiting) = self.waiting_plan.take() else { return };
        info!(plan = waiting.plan, who, why, "a plan is dropped");
        self.waits();
        self.tell(Happening::PlanDropped { plan: waiting.plan, who, why });
    }

    /// The plan that waits is another one, or none: shows and keeps that.
    fn waits(&mut self) {
        if let Err(error) = self.keep_waiting() {
            warn!(error, "a restart will not know of the plan that waits");
        }
    }

    fn keep_waiting(&mut self) -> Result<(), String> {
        self.show_waiting();
        self.keeper.put(key::WAITING, &self.waiting_plan).map_err(|error| chain(&error))
    }

    /// Puts the plan that waits into the status.
    pub(super) fn show_waiting(&mut self) {
        self.status.waiting = self.waiting_plan.as_ref().map(Into::into);
        self.status.waiting_plan = self.waiting_plan.clone().map(Arc::new);
    }
}
