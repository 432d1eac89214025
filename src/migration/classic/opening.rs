//! Opens slots: what both ends hold of them is counted and weighed beforehand, and what speaks against a slot leaves it closed.

use std::time::Duration;

use super::super::survey::Telling;
use super::super::wording;
use super::weigh::Weighing;
use super::{Classic, MOST_KEYS_IN_HAND, Phase};
use crate::cluster::{LinkError, Reply};
use crate::model::SlotId;

impl Classic {
    /// What either end holds of the slots in hand, which nobody has opened yet.
    pub(super) fn hear_counts(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>) {
        let (slots, databases) = (self.window.len(), self.job.route.databases);
        let read = |result: Option<Result<Vec<Reply>, LinkError>>| {
            let replies = result.unwrap_or(Ok(Vec::new())).map_err(|error| error.to_string())?;
            let counts = wording::read_key_counts_by_database(replies, slots, databases);
            counts.map_err(|error| format!("it did not count its keys: {error}"))
        };
        let mut results = results.into_iter();
        let mut at_target = results.next();
        if let Some(Ok(replies)) = &mut at_target
            && !replies.is_empty()
            && let Some(objection) = self.evicts(replies.remove(0))
        {
            return self.give_back(&objection);
        }
        if let (true, Some(Ok(replies))) = (self.asks_to_transact(), &mut at_target) {
            // Asked beforehand, for what follows a MULTI that was refused would happen, one by one.
            let asked = wording::transaction().len().min(replies.len());
            self.may_transact = Some(replies.drain(..asked).all(|reply| reply.ok().is_ok()));
        }
        let (strays, own) = match (read(at_target), read(results.next())) {
            (Ok(strays), Ok(own)) => (strays, own),
            (Err(reason), _) => return self.give_back(&format!("the target: {reason}")),
            (_, Err(reason)) => return self.give_back(&format!("the source: {reason}")),
        };
        let mut keys_in_hand = 0;
        let mut counts = Vec::new();
        for (open, (strays, own)) in std::mem::take(&mut self.window).into_iter().zip(strays.iter().zip(own)) {
            let strays: u64 = strays.iter().sum();
            keys_in_hand += own.iter().sum::<u64>();
            if strays > 0 {
                let reason = format!("the target holds {strays} stray keys of it: see `ballast check`");
                self.stayed.push((open.slot, reason));
            } else if keys_in_hand > MOST_KEYS_IN_HAND && !self.window.is_empty() {
                self.waiting.push_front(open.slot);
            } else {
                counts.push((open.slot, own));
                self.window.push(open);
            }
        }
        self.weighing = Some(Weighing::new(&counts, databases, self.job.weigh.clone(), self.job.mean_bytes));
        self.phase = Phase::Weigh;
        self.weighed();
    }

    /// Whether it would help to give slots to the target in one transaction, and is not known to be allowed.
    pub(super) fn asks_to_transact(&self) -> bool {
        self.may_transact.is_none() && self.job.route.telling == Telling::EachImported
    }

    /// Why nothing more may go to a target, if it has evicted keys since we began: it makes room for ours by dropping others.
    fn evicts(&mut self, stats: Reply) -> Option<String> {
        // A server that does not say has to be trusted: managed ones may refuse INFO.
        let evicted = wording::evicted_keys(stats)?;
        let before = *self.evicted.get_or_insert(evicted);
        (evicted > before).then(|| {
            format!("the target evicted {} keys since slots began to move: it has no room for more", evicted - before)
        })
    }

    /// Nothing has happened to the slots in hand, and nothing will.
    fn give_back(&mut self, reason: &str) {
        let left = self.window.drain(..).map(|open| open.slot).chain(self.waiting.drain(..));
        self.stayed.extend(left.map(|slot| (slot, reason.to_owned())));
        self.phase = Phase::Over;
    }

    pub(super) fn hear_weights(&mut self, replies: Vec<Reply>, took: Duration) {
        self.rest_after(self.round.busy(took));
        if let Some(weighing) = &mut self.weighing {
            weighing.hear(replies, self.allowance.call);
        }
        self.weighed();
    }

    /// Goes on once everything was weighed.
    pub(super) fn weighed(&mut self) {
        if self.weighing.as_ref().is_some_and(|weighing| !weighing.is_done()) {
            return;
        }
        let Some(weighing) = self.weighing.take() else { return };
        let weights = weighing.found(self.allowance.call);
        for open in &mut self.window {
            open.listed = !weights.partly.contains(&open.slot);
        }
        for ((slot, database), keys) in weights.keys {
            self.with_open(slot, |open| open.keys[database as usize] = keys.into());
        }
        for (slot, reason) in weights.pinned {
            self.drop_open(slot, |machine| machine.stayed.push((slot, reason)));
        }
        self.phase = Phase::Import { attempt: 0 };
        self.skip_empty_phases();
    }

    /// Keeps the slots whose `SETSLOT` was accepted and hands the others to `refuse`.
    pub(super) fn keep_opened(&mut self, replies: Vec<Reply>, refuse: impl Fn(&mut Self, SlotId, String)) {
        let window = std::mem::take(&mut self.window);
        for (open, reply) in window.into_iter().zip(replies) {
            match reply.ok() {
                Ok(_) => self.window.push(open),
                Err(error) => refuse(self, open.slot, error.to_string()),
            }
        }
    }
}
