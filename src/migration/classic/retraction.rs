//! Takes back slots whose keys cannot go: target first, for once it is stable no client can create a key there.

use super::super::call::{Call, QUESTION_PATIENCE};
use super::super::wording;
use super::{Classic, Phase, call, each, replicas_lag, rest_before_retry};
use crate::cluster::{Lane, Reply};
use crate::model::SlotId;

impl Classic {
    /// What to say in the phases that take slots back.
    pub(super) fn retract(&self) -> Vec<Call> {
        let (source, target) = (&self.job.route.source, &self.job.route.target);
        let retracted: Vec<SlotId> = self.retracted.iter().map(|(slot, _)| *slot).collect();
        match self.phase {
            Phase::RetractTarget => {
                let count_and_close =
                    |slot: &SlotId| [wording::count_keys(&[*slot], 1).remove(0), wording::stable(*slot)];
                self.setslot(&target.address, retracted.iter().flat_map(count_and_close).collect())
            }
            Phase::RetractCheck => {
                // A target that was demoted forgets its keys, and its successor has them.
                let mut commands = vec![wording::role()];
                commands.extend(wording::count_keys(&retracted, self.job.route.databases));
                vec![call(&target.address, Lane::Control, commands, QUESTION_PATIENCE)]
            }
            Phase::RetractSource { .. } => self.setslot(&source.address, each(&retracted, wording::stable)),
            _ => self.setslot(&target.address, each(&retracted, |slot| wording::importing(slot, &source.id))),
        }
    }

    /// Hears what that brought.
    pub(super) fn hear_retraction(&mut self, replies: Vec<Reply>) {
        let refused = replies.iter().any(|reply| matches!(reply, Reply::Error(_)));
        match self.phase {
            Phase::RetractTarget => {
                // Redis from 8.4 on counts no keys of a slot that it neither owns nor imports, so that `RetractCheck` would
                // find none there. What it counted in the same breath before counts; it has one database.
                let holds = replies.iter().step_by(2).any(|reply| *reply != Reply::Int(0));
                // A target that stays importing must not be left to a stable source.
                self.phase = if refused || holds { Phase::Reopen } else { Phase::RetractCheck };
            }
            Phase::RetractCheck => self.check_retracted(replies),
            Phase::RetractSource { attempt } if replicas_lag(&replies, attempt) => {
                (self.rest, self.phase) = (rest_before_retry(attempt), Phase::RetractSource { attempt: attempt + 1 });
            }
            Phase::RetractSource { .. } => {
                let end = if refused { &mut self.unsettled } else { &mut self.stayed };
                end.append(&mut self.retracted);
                self.next_window();
            }
            _ => {
                self.unsettled.append(&mut self.retracted);
                self.next_window();
            }
        }
    }

    fn check_retracted(&mut self, replies: Vec<Reply>) {
        let mut replies = replies.into_iter();
        let primary = wording::says_primary(replies.next().unwrap_or(Reply::Nil));
        let counts = wording::read_key_counts(replies.collect(), self.retracted.len(), self.job.route.databases);
        let counts = if primary == Ok(true) { counts } else { Err(Reply::Nil.unexpected("a primary")) };
        let (empty, holding): (Vec<_>, Vec<_>) = match counts {
            Ok(counts) => {
                std::mem::take(&mut self.retracted).into_iter().zip(counts).partition(|(_, count)| *count == 0)
            }
            Err(_) => (Vec::new(), std::mem::take(&mut self.retracted).into_iter().map(|slot| (slot, 1)).collect()),
        };
        let slots = |pairs: Vec<((SlotId, String), u64)>| pairs.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>();
        match (empty.is_empty(), holding.is_empty()) {
            (_, true) => (self.retracted, self.phase) = (slots(empty), Phase::RetractSource { attempt: 0 }),
            // All or none: a slot left half retracted for one more round trip is not worth a second list. Those that are
            // empty are opened again too, and settled with the others.
            (_, false) => {
                self.retracted = slots(empty.into_iter().chain(holding).collect());
                self.phase = Phase::Reopen;
            }
        }
    }
}
