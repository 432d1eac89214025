//! The slots that one classic migration has in hand, and the keys that it knows of in them.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::call::Copies;
use super::super::pace::{Round, guess};
use crate::model::SlotId;

/// A key of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: Vec<u8>,
    /// By MEMORY USAGE, or the mean of its slots where it was not weighed.
    pub(super) bytes: u64,
}

/// A slot in hand.
#[derive(Debug)]
pub(super) struct OpenSlot {
    pub(super) slot: SlotId,
    /// Keys that the source is known to hold, by database.
    pub(super) keys: Vec<VecDeque<Key>>,
    /// Whether those are all, as far as is known. `Verify` counts before anything rests on it.
    pub(super) listed: bool,
    pub(super) stalls: u32,
    pub(super) copies: Copies,
    pub(super) replace: bool,
}

/// Keys that go in one MIGRATE: of one slot and database.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) database: u32,
    pub(super) keys: Vec<Key>,
    /// What moving them would cost by the guess.
    pub(super) guess: Duration,
}

impl OpenSlot {
    pub(super) fn new(slot: SlotId, databases: u32, copies: Copies) -> Self {
        let keys = (0..databases.max(1)).map(|_| VecDeque::new()).collect();
        Self { slot, keys, listed: false, stalls: 0, copies, replace: false }
    }

    /// Whether no key is known of: then the source has to be asked.
    pub(super) fn knows_none(&self) -> bool {
        self.keys.iter().all(VecDeque::is_empty)
    }

    /// Whether all of its keys have gone, as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        self.listed && self.knows_none()
    }

    /// Takes keys that fit into `time` and are `most` at most: one always does.
    pub(super) fn take(&mut self, time: Duration, most: usize, round: &Round) -> Option<Batch> {
        let (database, known) = (0..).zip(&mut self.keys).find(|(_, known)| !known.is_empty())?;
        let mut batch = Batch { database, keys: Vec::new(), guess: Duration::ZERO };
        while let Some(key) = known.front() {
            let guess = batch.guess + guess(key.bytes);
            if !batch.keys.is_empty() && (round.time(guess) > time || batch.keys.len() == most) {
                break;
            }
            batch.guess = guess;
            batch.keys.extend(known.pop_front());
        }
        Some(batch)
    }

    /// Forgets what is known of its keys: some of them may have gone, or not.
    pub(super) fn forget_keys(&mut self) {
        self.keys.iter_mut().for_each(VecDeque::clear);
        self.listed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(weights: &[u64]) -> OpenSlot {
        let mut open = OpenSlot::new(SlotId::new(1).expect("a slot"), 2, Copies::None);
        open.keys[1] = weights.iter().map(|bytes| Key { name: b"k".to_vec(), bytes: *bytes }).collect();
        open
    }

    #[test]
    fn a_batch_holds_what_fits_and_at_least_one_key() {
        let mut open = open(&[100, 100, 1 << 20, 100]);
        let mut sizes = Vec::new();
        while let Some(batch) = open.take(Duration::from_millis(1), 1000, &Round::new()) {
            assert_eq!(batch.database, 1);
            sizes.push(batch.keys.len());
        }
        assert_eq!(sizes, [2, 1, 1], "the large one goes alone");
        assert!(open.knows_none());
    }

    #[test]
    fn a_batch_holds_no_more_keys_than_a_call_may_carry() {
        let batch = open(&[0; 50]).take(Duration::from_secs(1), 20, &Round::new()).expect("keys");
        assert_eq!(batch.keys.len(), 20);
    }
}
