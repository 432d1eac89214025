//! Closes slots that ran empty, a few at a time: the new owner is told first, then the old one. The new one tells everybody.

use std::time::Duration;

use super::super::call::{Call, QUESTION_PATIENCE};
use super::super::survey::Telling;
use super::super::wording;
use super::window::OpenSlot;
use super::{Classic, MOST_STALLS, Phase, call, each, may_retry, rest_before_retry};
use crate::cluster::question::ClusterNodes;
use crate::cluster::{Lane, LinkError, Question, Reply, ReplyError};
use crate::model::{NodeRecord, OpenDirection, Role, SlotId};

/// What it costs a node to save its cluster file, once for all slots that it is told of in one go. As long as that, the slots
/// themselves may take: fewer in one go would be more goes. (Measured: 1 to 2 ms; one slot at a time, these saves were what
/// clients felt of a migration.)
const SAVING_TIME: Duration = Duration::from_micros(1500);
/// What it costs a node to give a slot a new owner.
const ASSIGNING_TIME: Duration = Duration::from_micros(5);
/// What it costs Valkey besides, which writes a line into its log for each.
const LOGGING_TIME: Duration = Duration::from_micros(60);
/// What it costs each node to be told by the target: it looks through its map of 16384 slots. Measured: 40 to 80 µs on Redis
/// 7.0, 130 µs on Valkey 8.0; with 64 slots at a time they were most of what clients felt of a migration.
const HEARING_TIME: Duration = Duration::from_micros(100);
/// What it costs the target to tell one node.
const TELLING_TIME: Duration = Duration::from_micros(10);

impl Classic {
    /// Takes up the next few slots to close: as many as the servers have time for in one go, or as they take
    /// to save the file anyway. All of the window are empty.
    pub(super) fn close_some(&mut self) -> Phase {
        // Where every node is told of each slot, all of them stand still together: short stops are better then, many as they are.
        let least = if self.tells_each() { Duration::ZERO } else { SAVING_TIME };
        let room = self.allowance.round.max(least);
        let many = (room.as_nanos() / self.closing_time().as_nanos()).max(1);
        let goes = self.window.len().div_ceil(usize::try_from(many).unwrap_or(usize::MAX));
        // As many in each: the last one alone would cost a whole save.
        let many = self.window.len().div_ceil(goes.max(1));
        self.closing = self.window.iter().take(many).map(|open| open.slot).collect();
        Phase::Verify { attempt: 0 }
    }

    /// Whether the slots that are closed at a time get their new owner in one transaction.
    fn in_one(&self) -> bool {
        self.may_transact == Some(true)
    }

    /// Whether every node is told of each slot by itself.
    fn tells_each(&self) -> bool {
        self.job.route.telling != Telling::Once && !self.in_one()
    }

    /// For how long one slot keeps some node.
    fn closing_time(&self) -> Duration {
        match self.job.route.telling {
            _ if self.tells_each() => {
                HEARING_TIME.max(TELLING_TIME * u32::try_from(self.job.route.nodes).unwrap_or(u32::MAX))
            }
            Telling::Once => ASSIGNING_TIME + LOGGING_TIME,
            Telling::EachImported | Telling::Each => ASSIGNING_TIME,
        }
    }

    /// For how long a node is kept that is told of so many slots in one go, and saves them: twice what is usual.
    pub(super) fn setting_time(&self, slots: usize) -> Duration {
        let slot = self.closing_time().max(ASSIGNING_TIME + LOGGING_TIME);
        2 * (SAVING_TIME + slot * u32::try_from(slots).unwrap_or(u32::MAX))
    }

    /// What to say in the phases that close.
    pub(super) fn close(&self) -> Vec<Call> {
        let (source, target) = (&self.job.route.source, &self.job.route.target);
        let assign = |slot: &SlotId| [wording::importing(*slot, &source.id), wording::node(*slot, &target.id)];
        match self.phase {
            Phase::Verify { .. } => {
                // A source that was demoted still counts, and its successor takes writes. One whose flag is another
                // than ours gives its keys to somebody else, too.
                let mut commands = vec![wording::role()];
                commands.extend(ClusterNodes::of(&source.address).commands());
                commands.extend(wording::count_keys(&self.closing, self.job.route.databases));
                vec![call(&source.address, Lane::Transfer, commands, QUESTION_PATIENCE)]
            }
            Phase::AssignTarget { .. } if self.in_one() => {
                self.setslot(&target.address, wording::node_in_one(&self.closing, &source.id, &target.id))
            }
            Phase::AssignTarget { .. } => self.setslot(&target.address, self.closing.iter().flat_map(assign).collect()),
            _ => self.setslot(&source.address, each(&self.closing, |slot| wording::node(slot, &target.id))),
        }
    }

    pub(super) fn verify(&mut self, replies: Vec<Reply>, attempt: u32) {
        let mut replies = replies.into_iter();
        let primary = wording::says_primary(replies.next().unwrap_or(Reply::Nil));
        let nodes = ClusterNodes::of(&self.job.route.source.address).read(replies.by_ref().take(1).collect());
        let counts = wording::read_key_counts(replies.collect(), self.closing.len(), self.job.route.databases);
        let counts = primary.and_then(|primary| if primary { counts } else { Err(Reply::Nil.unexpected("a primary")) });
        match counts.and_then(|counts| Ok((nodes?, counts))) {
            Ok((nodes, counts)) => {
                for (slot, _) in self.closing.clone().into_iter().zip(counts).filter(|(_, count)| *count > 0) {
                    self.with_open(slot, |open| {
                        open.forget_keys();
                        open.stalls += 1;
                    });
                }
                let stuck: Vec<SlotId> =
                    self.window.iter().filter(|open| open.stalls > MOST_STALLS).map(|open| open.slot).collect();
                for slot in stuck {
                    let reason = "the source never ran empty".to_owned();
                    self.drop_open(slot, |machine| machine.unsettled.push((slot, reason)));
                }
                self.drop_taken_over(&nodes);
                let all_empty = self.window.iter().all(OpenSlot::is_empty);
                self.phase = if all_empty { Phase::AssignTarget { attempt } } else { Phase::Transfer };
            }
            Err(error) => {
                let reason = format!("the source did not count its keys: {error}");
                self.unsettled.extend(self.window.drain(..).map(|open| (open.slot, reason.clone())));
            }
        }
    }

    /// Drops slots that the source owns and does not give to our target any more: somebody else is at work on them.
    fn drop_taken_over(&mut self, nodes: &[NodeRecord]) {
        let Some(source) = nodes.iter().find(|node| node.myself) else { return };
        let ours = OpenDirection::Migrating(self.job.route.target.id.clone());
        let given = |slot| source.open.iter().any(|open| open.slot == slot && open.direction == ours);
        let lost: Vec<SlotId> = self.window.iter().map(|open| open.slot).collect();
        for slot in lost.into_iter().filter(|slot| source.slots.contains(*slot) && !given(*slot)) {
            let reason = "somebody else changed its flag on the source".to_owned();
            self.drop_open(slot, |machine| machine.unsettled.push((slot, reason)));
        }
    }

    pub(super) fn hear_assignment(&mut self, replies: Vec<Reply>, attempt: u32) {
        let replies =
            if self.in_one() { wording::read_node_in_one(replies, self.closing.len()) } else { Some(replies) };
        let Some(replies) = replies else {
            // Nothing happened, or all of it without a transaction: once more, and slot by slot from now on.
            self.may_transact = Some(false);
            return self.phase = self.close_some();
        };
        let mut replies = replies.into_iter();
        let mut again = false;
        let mut refused = Vec::new();
        for slot in &self.closing {
            let (flag, node) = (replies.next().map(Reply::ok), replies.next().map(Reply::ok));
            match (flag, node) {
                (Some(Ok(_)), Some(Ok(_))) => {}
                // Assigned in an earlier attempt.
                (Some(Err(ReplyError::Refused(error))), Some(Ok(_))) if wording::says_already_owner(&error) => {}
                (_, Some(Err(ReplyError::Refused(error)))) if may_retry(&error, attempt) => again = true,
                (Some(Err(error)), _) | (_, Some(Err(error))) => refused.push((*slot, error.to_string())),
                (None, _) | (_, None) => refused.push((*slot, "fewer replies than commands".to_owned())),
            }
        }
        for (slot, reason) in refused {
            self.drop_open(slot, |machine| machine.unsettled.push((slot, reason)));
        }
        if again {
            // The source may fail over while replicas catch up: it is asked again.
            (self.rest, self.phase) = (rest_before_retry(attempt), Phase::Verify { attempt: attempt + 1 });
        } else {
            self.phase = Phase::Tell;
        }
    }

    /// The source was told; `Confirm` sees whether it knows.
    pub(super) fn told(&mut self) {
        let closed = std::mem::take(&mut self.closing);
        self.window.retain(|open| !closed.contains(&open.slot));
        self.assigned.extend(closed);
        self.skip_empty_phases();
    }

    /// The target said yes to all of these: now see that it is so, and that the source knows.
    pub(super) fn confirm(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>, bumped: bool) {
        let (Some(source), Some(target)) = self.job.route.read_both(results) else {
            let reason = "the target accepted the slot, and an end was not heard of since".to_owned();
            self.unsettled.extend(self.assigned.drain(..).map(|slot| (slot, reason.clone())));
            return self.window_done();
        };
        // A source that lost its last slot has become a replica of the target, and shows its epoch. One that follows anybody
        // else has failed over, and what its successor knows is for `settle` to find out.
        let follows = Role::Replica { of: Some(target.id.clone()) };
        if source.role != Role::Primary && source.role != follows {
            let reason = "the source failed over while it was closed".to_owned();
            self.unsettled.extend(self.assigned.drain(..).map(|slot| (slot, reason.clone())));
            return self.window_done();
        }
        let contested = source.role == Role::Primary && target.config_epoch <= source.config_epoch;
        if contested && !bumped {
            return self.phase = Phase::BumpEpoch;
        }
        let flagged = |slot| [&source, &target].into_iter().any(|node| node.open.iter().any(|open| open.slot == slot));
        for slot in self.assigned.drain(..) {
            let doubt = match (target.slots.contains(slot), flagged(slot), contested) {
                (true, false, false) => {
                    self.moved.push(slot);
                    continue;
                }
                (false, _, _) => "the target accepted the slot and does not own it",
                (true, true, _) => "it has moved and a flag is left",
                (true, false, true) => "it has moved and the target's epoch is not above the source's",
            };
            self.unsettled.push((slot, doubt.to_owned()));
        }
        self.window_done();
    }
}
