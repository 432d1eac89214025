//! Gets keys across: rounds of MIGRATE, and of asking which keys are left.

use std::time::Duration;

use super::super::call::{Call, Copies, QUESTION_PATIENCE};
use super::super::call::{Cause, Rest};
use super::super::wording::{self, Refused, Transfer};
use super::window::{Batch, Key};
use super::{Classic, MOST_STALLS, call};
use crate::cluster::{Command, Lane, Reply, ReplyError};
use crate::model::SlotId;

/// MIGRATEs in one pipeline: the source serves nobody in between, and each may wait for its socket. With the time-out
/// shared out, a target that hangs keeps the source for about three seconds, far below any node time-out.
const MOST_CALLS_PER_ROUND: usize = 32;
/// The shortest share: below this, a busy but healthy target would look like a broken one.
const LEAST_TIMEOUT_MS: u64 = 100;
/// What one MIGRATE carries at most: its payload is built in memory, and blocks the source.
const MOST_KEYS_PER_CALL: usize = 1000;
/// Keys that one round asks for: a reply of twenty thousand was measured to take a server one to three milliseconds.
const MOST_KEYS_ASKED: usize = 10_000;

/// What a call under way is about.
#[derive(Debug)]
pub(super) enum Sent {
    Select,
    Migrate { slot: SlotId, keys: usize, bytes: u64, guess: Duration },
    Keys { slot: SlotId, database: u32 },
}

impl Classic {
    /// The next round: keys that we know of are moved, and slots of which we know none are asked for more.
    pub(super) fn transfer(&mut self) -> Call {
        let most_calls = if self.cautious { 1 } else { MOST_CALLS_PER_ROUND };
        let mut room = self.allowance.round;
        let mut to_ask = MOST_KEYS_ASKED;
        let (mut batches, mut asked) = (Vec::new(), Vec::new());
        for open in self.window.iter_mut().filter(|open| !open.is_empty()) {
            if room.is_zero() || batches.len() == most_calls {
                break;
            }
            if let Some(batch) = open.take(room.min(self.allowance.call), MOST_KEYS_PER_CALL, &self.round) {
                room = room.saturating_sub(self.round.time(batch.guess));
                batches.push((open.slot, open.replace, batch));
            }
            if open.knows_none() && !open.listed && to_ask > 0 {
                to_ask = to_ask.saturating_sub(MOST_KEYS_PER_CALL);
                asked.push(open.slot);
            }
        }
        // Each MIGRATE waits for its socket to connect, to write and to read: the time-out is shared out.
        let timeout_ms = (self.job.migrate_timeout_ms / batches.len().max(1) as u64).max(LEAST_TIMEOUT_MS);
        let patience = QUESTION_PATIENCE + Duration::from_millis(timeout_ms.saturating_mul(3 * batches.len() as u64));
        let mut commands = Vec::new();
        self.sent.clear();
        for (slot, replace, batch) in batches {
            self.send_batch(slot, replace, batch, timeout_ms, &mut commands);
        }
        for slot in asked {
            for database in 0..self.job.route.databases.max(1) {
                self.select(database, &mut commands);
                commands.push(wording::keys_in_slot(slot, MOST_KEYS_PER_CALL));
                self.sent.push(Sent::Keys { slot, database });
            }
        }
        self.select(0, &mut commands);
        call(&self.job.route.source.address, Lane::Transfer, commands, patience)
    }

    fn send_batch(&mut self, slot: SlotId, replace: bool, batch: Batch, timeout_ms: u64, commands: &mut Vec<Command>) {
        self.select(batch.database, commands);
        let transfer = Transfer {
            target: &self.job.route.target_from_source,
            database: batch.database,
            timeout_ms,
            replace,
            credentials: self.job.credentials.as_ref(),
        };
        let bytes = batch.keys.iter().map(|key| key.bytes).sum();
        self.sent.push(Sent::Migrate { slot, keys: batch.keys.len(), bytes, guess: batch.guess });
        commands.push(wording::migrate(transfer, batch.keys.into_iter().map(|key| key.name)));
    }

    /// Connections stand at database 0, and there is no other where there is one only.
    fn select(&mut self, database: u32, commands: &mut Vec<Command>) {
        if self.job.route.databases > 1 {
            commands.push(wording::select(database));
            self.sent.push(Sent::Select);
        }
    }

    pub(super) fn hear_transfer(&mut self, replies: Vec<Reply>, took: Duration) {
        let sent = std::mem::take(&mut self.sent);
        let mut moved_guess = Duration::ZERO;
        let mut stalled = 0;
        for (sent, reply) in sent.into_iter().zip(replies) {
            match sent {
                Sent::Select => {}
                Sent::Migrate { slot, keys, bytes, guess } => match reply.ok() {
                    Ok(_) => {
                        moved_guess += guess;
                        self.keys += keys as u64;
                        self.fresh_bytes += bytes;
                        self.with_open(slot, |open| (open.stalls, open.replace) = (0, false));
                    }
                    Err(error) => stalled = stalled.max(self.hear_migrate_refusal(slot, error)),
                },
                Sent::Keys { slot, database } => self.hear_keys(slot, database, reply),
            }
        }
        if stalled > 0 {
            // Its time was that of time-outs, and tells nothing of what a key costs.
            self.cautious = true;
            self.rest = Rest { duration: Duration::from_millis(20 << stalled.min(5)), cause: Cause::Stalled };
        } else if !moved_guess.is_zero() {
            self.cautious = false;
            let busy = self.round.learn(moved_guess, took);
            self.rest_after(busy);
        }
    }

    /// Returns how often in a row the slot has refused.
    fn hear_migrate_refusal(&mut self, slot: SlotId, error: ReplyError) -> u32 {
        let refused = match &error {
            ReplyError::Refused(error) => wording::migrate_refusal(error),
            ReplyError::Unexpected { .. } => Refused::Changed,
        };
        let mut stalls = 0;
        let mut collides = false;
        self.with_open(slot, |open| {
            open.stalls += 1;
            open.forget_keys();
            stalls = open.stalls;
            match refused {
                Refused::Unknown => {
                    open.replace = false;
                    // A suspect copy stays suspect, whatever we add to it.
                    open.copies = open.copies.max(Copies::Ours);
                }
                Refused::Busy if open.copies == Copies::Ours => open.replace = true,
                Refused::Busy => collides = true,
                Refused::Later | Refused::Changed | Refused::Never => {}
            }
        });
        if refused == Refused::Never {
            self.drop_open(slot, |machine| machine.retracted.push((slot, error.to_string())));
        } else if collides {
            let reason = "the target holds a key that we did not copy there; both copies may be live".to_owned();
            self.drop_open(slot, |machine| {
                machine.unsettled.push((slot, reason));
                machine.collided.push(slot);
            });
        } else if stalls > MOST_STALLS {
            // Nothing may have got there at all: a target that the source cannot reach. If something did, it stays open.
            self.drop_open(slot, |machine| machine.retracted.push((slot, error.to_string())));
        } else if refused == Refused::Changed {
            self.drop_open(slot, |machine| machine.unsettled.push((slot, error.to_string())));
        }
        stalls
    }

    /// Keys that the source still has in one database. Databases are asked in their order, so that the slot counts as listed
    /// when the last one's list was whole and so were those before it.
    fn hear_keys(&mut self, slot: SlotId, database: u32, reply: Reply) {
        let mean_bytes = self.job.mean_bytes;
        match reply.list().and_then(|keys| keys.into_iter().map(Reply::bytes).collect::<Result<Vec<_>, _>>()) {
            Ok(names) => self.with_open(slot, |open| {
                let whole = names.len() < MOST_KEYS_PER_CALL && (database == 0 || open.listed);
                let keys = names.into_iter().map(|name| Key { name, bytes: mean_bytes });
                open.keys[database as usize] = keys.collect();
                open.listed = whole;
            }),
            Err(error) => self.drop_open(slot, |machine| machine.unsettled.push((slot, error.to_string()))),
        }
    }
}
