//! The keys, and which version of each was last acknowledged.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// One request in so many writes.
const WRITE_EVERY: u64 = 4;

pub(crate) struct Keys {
    keys: Vec<Mutex<Key>>,
    turn: AtomicU64,
}

#[derive(Default, Clone)]
struct Key {
    acknowledged: u64,
    /// A write is under way, or one came to an unknown end and may yet arrive: versions would not rise one by one.
    closed: bool,
}

/// What to ask next.
pub(crate) enum Choice {
    /// Write this version of this key.
    Write(usize, u64),
    /// Read this key; less than this version is a lost write.
    Read(usize, u64),
}

impl Keys {
    /// `count` keys, none written yet.
    pub(crate) fn new(count: usize) -> Self {
        Self { keys: vec![Key::default(); count].into_iter().map(Mutex::new).collect(), turn: AtomicU64::new(0) }
    }

    pub(crate) fn name(key: usize) -> String {
        format!("client:{key}")
    }

    /// Walks over all keys in a scattered order, writing now and then.
    pub(crate) fn choose(&self) -> Choice {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Multiplying by a large odd number scatters neighbours; the high bits are the scattered ones.
        let key = (turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % self.keys.len();
        let mut state = self.keys[key].lock().unwrap_or_else(PoisonError::into_inner);
        if turn.is_multiple_of(WRITE_EVERY) && !state.closed {
            state.closed = true;
            Choice::Write(key, state.acknowledged + 1)
        } else {
            Choice::Read(key, state.acknowledged)
        }
    }

    /// A write was acknowledged. One that was not keeps its key from being written again.
    pub(crate) fn acknowledge(&self, key: usize, version: u64) {
        *self.keys[key].lock().unwrap_or_else(PoisonError::into_inner) = Key { acknowledged: version, closed: false };
    }
}
