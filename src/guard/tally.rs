//! What the moves that passed so far add up to. Every further move is judged on top of it.

use crate::model::{Move, NodeIndex, SLOT_COUNT, SlotId, Snapshot, resource};

/// A move whose slot and ends exist.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) slot: SlotId,
    pub(super) from: NodeIndex,
    pub(super) to: NodeIndex,
    /// How large the slot is, in bytes; absent when nobody knows.
    pub(super) bytes: Option<u64>,
    pub(super) reason: &'a str,
}

impl Candidate<'_> {
    pub(super) fn into_move(self, snapshot: &Snapshot) -> Move {
        let id = |node: NodeIndex| snapshot.primaries[node as usize].id.clone();
        Move { slot: self.slot, from: id(self.from), to: id(self.to), reason: self.reason.to_owned() }
    }
}

/// Sums over the moves that passed; the lists are by primary.
#[derive(Debug)]
pub(super) struct Tally {
    /// Slots that move already.
    moved: Vec<bool>,
    /// Slots in an open state or in flight.
    busy: Vec<bool>,
    /// Slots that each primary would keep. What it gets does not count: those moves may fail.
    pub(super) slots: Vec<u32>,
    /// Moves out of and into each primary.
    pub(super) moves: Vec<u32>,
    /// Bytes out of and into each primary.
    pub(super) bytes: Vec<u64>,
    /// Bytes into each primary: room that is taken. What leaves frees nothing yet, since both ends hold the data for a while.
    pub(super) bytes_in: Vec<u64>,
    /// Moves, all together.
    pub(super) total_moves: u32,
    /// Bytes, all together.
    pub(super) total_bytes: u64,
}

impl Tally {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let count = snapshot.primaries.len();
        let mut slots = vec![0; count];
        for owner in snapshot.owners.as_slice() {
            if let Some(owned) = slots.get_mut(*owner as usize) {
                *owned += 1;
            }
        }
        let mut busy = vec![false; SLOT_COUNT];
        let open = snapshot.flags_of_primaries().map(|open| open.slot);
        let in_flight = snapshot.in_flight.iter().map(|moving| moving.slot);
        let jobs = snapshot.atomic_jobs.iter().flat_map(|job| job.slots.iter());
        for slot in open.chain(in_flight).chain(jobs) {
            busy[slot.index()] = true;
        }
        Self {
            moved: vec![false; SLOT_COUNT],
            busy,
            slots,
            moves: vec![0; count],
            bytes: vec![0; count],
            bytes_in: vec![0; count],
            total_moves: 0,
            total_bytes: 0,
        }
    }

    pub(super) fn has_moved(&self, slot: SlotId) -> bool {
        self.moved[slot.index()]
    }

    pub(super) fn is_busy(&self, slot: SlotId) -> bool {
        self.busy[slot.index()]
    }

    /// Counts a move that passed.
    pub(super) fn admit(&mut self, candidate: &Candidate<'_>) {
        let bytes = candidate.bytes.unwrap_or(0);
        let (from, to) = (candidate.from as usize, candidate.to as usize);
        self.moved[candidate.slot.index()] = true;
        self.slots[from] -= 1;
        for end in [from, to] {
            self.moves[end] += 1;
            self.bytes[end] = self.bytes[end].saturating_add(bytes);
        }
        self.bytes_in[to] = self.bytes_in[to].saturating_add(bytes);
        self.total_moves += 1;
        self.total_bytes = self.total_bytes.saturating_add(bytes);
    }
}

/// How large a slot is, in bytes; absent when nobody knows.
pub(super) fn bytes_of(slot: SlotId, snapshot: &Snapshot) -> Option<u64> {
    let bytes = *snapshot.slot_column(resource::BYTES)?.get(slot.index())?;
    // A float beyond what a u64 holds saturates, and is refused everywhere by its size.
    bytes.is_finite().then_some(bytes.max(0.0) as u64)
}
