//! How far one migration has come, and telling it: at every change, and once a second while nothing changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Context;
use super::journal::Intent;
use crate::clock::now_ms;
use crate::model::{Column, NodeId, Protocol, SlotId, SlotSet, Snapshot, resource};

/// How far a migration has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// From.
    pub source: NodeId,
    /// To.
    pub target: NodeId,
    /// Which way.
    pub protocol: Protocol,
    /// Who began it.
    pub began_by: String,
    /// Why.
    pub reason: String,
    /// All slots of this migration.
    pub slots: SlotSet,
    /// How many of them the target owns.
    pub slots_moved: usize,
    /// Keys moved so far, as far as the protocol counts them.
    pub keys_moved: u64,
    /// Keys in all its slots when it was planned; absent when unknown.
    pub keys_total: Option<u64>,
    /// Bytes moved so far, estimated: those of the slots that moved, and of the others what their keys are worth.
    pub bytes_moved: u64,
    /// Bytes in all its slots when it was planned, estimated; absent when unknown.
    pub bytes_total: Option<u64>,
    /// What is being done: `transfer`, `verify` and so on, `settle` after a doubt, or the server's own word for the state
    /// of its atomic migration.
    pub step: String,
    /// Unix time at which this step began, milliseconds.
    pub step_since_ms: u64,
    /// Unix time of its start, milliseconds.
    pub started_at_ms: u64,
    /// Unix time of this word, milliseconds: it is said again at least every second while the migration runs.
    pub told_at_ms: u64,
    /// Whether it is over.
    pub finished: bool,
}

impl Progress {
    /// Whether both are about the same migration.
    #[must_use]
    pub fn is_of_same(&self, other: &Self) -> bool {
        self.source == other.source && self.target == other.target && self.slots == other.slots
    }

    /// For how long its step has lasted, milliseconds.
    #[must_use]
    pub fn step_lasted_ms(&self) -> u64 {
        self.told_at_ms.saturating_sub(self.step_since_ms)
    }
}

/// The step of a migration that ended in doubt, or was found in the journal.
pub(super) const SETTLE: &str = "settle";

/// Between two words about a migration in which nothing changes: often enough for ages and rates to be fresh.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What slots weigh by the snapshot that they were planned by, as far as it says.
#[derive(Debug, Clone, Default)]
pub(super) struct Weights {
    keys: Option<Column>,
    bytes: Option<Column>,
}

impl Weights {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let column = |name| snapshot.slot_column(name).cloned();
        Self { keys: column(resource::KEYS), bytes: column(resource::BYTES) }
    }

    /// Keys in `slots`.
    pub(super) fn keys<'a>(&self, slots: impl IntoIterator<Item = &'a SlotId>) -> Option<u64> {
        sum(self.keys.as_ref(), slots)
    }

    /// Bytes in `slots`.
    pub(super) fn bytes<'a>(&self, slots: impl IntoIterator<Item = &'a SlotId>) -> Option<u64> {
        sum(self.bytes.as_ref(), slots)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, and estimates of at least 0")]
fn sum<'a>(column: Option<&Column>, slots: impl IntoIterator<Item = &'a SlotId>) -> Option<u64> {
    let column = column?;
    Some(slots.into_iter().map(|slot| column[slot.index()]).sum::<f64>().max(0.0) as u64)
}

/// Bytes of the slots that `moved`, and of the others as many as the keys that were moved out of them are worth.
fn bytes_moved(weights: &Weights, all: &[SlotId], moved: &[SlotId], keys_moved: u64) -> u64 {
    let (Some(total), Some(whole)) = (weights.bytes(all), weights.bytes(moved)) else { return 0 };
    let (Some(keys_total), Some(keys_whole)) = (weights.keys(all), weights.keys(moved)) else { return whole };
    let (keys_left, bytes_left) = (keys_total.saturating_sub(keys_whole), total.saturating_sub(whole));
    // Keys that came since the snapshot are worth nothing: the whole never gets more than it was.
    let keys_open = keys_moved.saturating_sub(keys_whole).min(keys_left);
    let share = u128::from(bytes_left) * u128::from(keys_open) / u128::from(keys_left.max(1));
    whole + u64::try_from(share).unwrap_or(u64::MAX)
}

/// Tells who watches how far one migration has come.
pub(super) struct Teller<'a> {
    context: &'a Context,
    weights: &'a Weights,
    slots: Vec<SlotId>,
    last: Progress,
    told_at: Instant,
}

impl<'a> Teller<'a> {
    /// Nothing is told yet.
    pub(super) fn new(intent: &Intent, weights: &'a Weights, context: &'a Context) -> Self {
        let slots: Vec<SlotId> = intent.slots.iter().collect();
        let now_ms = now_ms();
        let last = Progress {
            source: intent.source.clone(),
            target: intent.target.clone(),
            protocol: intent.protocol,
            began_by: intent.began_by.clone(),
            reason: intent.reason.clone(),
            slots: intent.slots.clone(),
            slots_moved: 0,
            keys_moved: 0,
            keys_total: weights.keys(&slots),
            bytes_moved: 0,
            bytes_total: weights.bytes(&slots),
            step: String::new(),
            step_since_ms: now_ms,
            started_at_ms: intent.started_at_ms,
            told_at_ms: now_ms,
            finished: false,
        };
        Self { context, weights, slots, last, told_at: Instant::now() }
    }

    /// Says that a step has lasted for longer than we know of it.
    pub(super) fn since(mut self, step: &str, at_ms: u64) -> Self {
        (self.last.step, self.last.step_since_ms) = (step.to_owned(), at_ms);
        self
    }

    /// Tells how far it is, if that is new or was not said for a second.
    pub(super) fn at(&mut self, step: &str, moved: &[SlotId], keys: u64) {
        let known = &self.last;
        let news = known.step != step || known.slots_moved != moved.len() || known.keys_moved != keys;
        if !news {
            if self.told_at.elapsed() >= TELL_EVERY {
                self.tell();
            }
            return;
        }
        if self.last.step != step {
            (self.last.step, self.last.step_since_ms) = (step.to_owned(), now_ms());
        }
        (self.last.slots_moved, self.last.keys_moved) = (moved.len(), keys);
        self.last.bytes_moved = bytes_moved(self.weights, &self.slots, moved, keys);
        self.tell();
    }

    /// Tells that it is over. Protocols that do not count keys moved those that the slots had.
    pub(super) fn over(&mut self, moved: &SlotSet, keys: u64) {
        let moved: Vec<SlotId> = moved.iter().collect();
        self.last.slots_moved = moved.len();
        self.last.keys_moved = match self.last.protocol {
            Protocol::Classic => keys,
            Protocol::Atomic => self.weights.keys(&moved).unwrap_or(0),
        };
        self.last.bytes_moved = self.weights.bytes(&moved).unwrap_or(0);
        self.last.finished = true;
        self.tell();
    }

    /// Tells the same once a second until `work` is done.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(TELL_EVERY, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.tell(),
            }
        }
    }

    fn tell(&mut self) {
        (self.last.told_at_ms, self.told_at) = (now_ms(), Instant::now());
        (self.context.progress)(self.last.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::SLOT_COUNT;

    fn weights() -> Weights {
        // Slot n has 10 keys, of n bytes each.
        let column = |of: fn(f64) -> f64| -> Option<Column> {
            Some((0..SLOT_COUNT).map(|slot| of(slot as f64)).collect::<Arc<[f64]>>())
        };
        Weights { keys: column(|_| 10.0), bytes: column(|slot| 10.0 * slot) }
    }

    fn slots(text: &str) -> Vec<SlotId> {
        text.parse::<SlotSet>().expect("slots").iter().collect()
    }

    #[test]
    fn bytes_are_those_of_the_slots_that_moved_and_a_share_of_the_others_by_their_keys() {
        let all = slots("1-4");
        let moved = |moved: &str, keys| bytes_moved(&weights(), &all, &slots(moved), keys);
        assert_eq!(moved("", 0), 0);
        assert_eq!(moved("1-2", 20), 30);
        assert_eq!(moved("1-2", 30), 30 + 70 / 2, "half of the keys of slots 3 and 4");
        assert_eq!(moved("1-2", 900), 100, "keys that came meanwhile are worth nothing");
        assert_eq!(moved("1-4", 40), 100);
    }

    #[test]
    fn what_the_snapshot_does_not_know_is_absent() {
        let none = Weights::default();
        assert_eq!((none.keys(&slots("1-4")), none.bytes(&slots("1-4"))), (None, None));
        assert_eq!(bytes_moved(&none, &slots("1-4"), &slots("1"), 7), 0);
        let no_keys = Weights { keys: None, ..weights() };
        assert_eq!(bytes_moved(&no_keys, &slots("1-4"), &slots("1-2"), 7), 30);
    }
}
