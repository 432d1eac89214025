//! Loads of slots over the past day, coarse enough to keep and to draw: a byte for 32 slots and a minute. Pure.

use std::collections::VecDeque;

use serde::Deserialize;

use crate::model::{NodeId, SLOT_COUNT, Snapshot, resource};

/// Slots in a row.
const SLOTS_PER_ROW: usize = 32;
const ROWS: usize = SLOT_COUNT / SLOTS_PER_ROW;
/// A day of minutes.
const COLUMNS_MAX: usize = 1440;
const COLUMN_MS: u64 = 60_000;
/// Between these loads are told apart, by ratio: each step is 8 % more than the one before it.
const LEAST: f32 = 1.0;
const MOST: f32 = 4e8;
const STEPS: f32 = 254.0;

/// What is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Resource {
    /// Microseconds of main threads per second.
    #[default]
    Cpu,
    /// Bytes to and from clients per second.
    Network,
}

/// What was seen over time.
#[derive(Debug, Default)]
pub(super) struct Heat {
    columns: VecDeque<Minute>,
    owners: Vec<Option<NodeId>>,
    changed_at_s: Vec<u32>,
}

/// The mean of the looks of a minute, by row.
#[derive(Debug)]
struct Minute {
    begins_ms: u64,
    looks: u32,
    cpu: Vec<f32>,
    network: Vec<f32>,
}

impl Heat {
    /// Takes in what was seen.
    pub(super) fn see(&mut self, snapshot: &Snapshot) {
        self.note_owners(snapshot);
        let begins_ms = snapshot.taken_at_ms - snapshot.taken_at_ms % COLUMN_MS;
        let last = self.columns.back().map(|minute| minute.begins_ms);
        if last.is_some_and(|last| last > begins_ms) {
            // The clock was set back: what was seen under the old one has no place beside what comes.
            self.columns.clear();
        }
        if last != Some(begins_ms) {
            self.columns.push_back(Minute { begins_ms, looks: 0, cpu: vec![0.0; ROWS], network: vec![0.0; ROWS] });
        }
        while self.columns.front().is_some_and(|first| begins_ms - first.begins_ms >= COLUMNS_MAX as u64 * COLUMN_MS) {
            self.columns.pop_front();
        }
        let Some(minute) = self.columns.back_mut() else { return };
        minute.looks += 1;
        let looks = minute.looks as f32;
        for (row, mean) in minute.cpu.iter_mut().enumerate() {
            *mean += (sum(snapshot, resource::CPU_USEC, row) - *mean) / looks;
        }
        for (row, mean) in minute.network.iter_mut().enumerate() {
            let both = sum(snapshot, resource::NET_IN, row) + sum(snapshot, resource::NET_OUT, row);
            *mean += (both - *mean) / looks;
        }
    }

    /// Unix time in seconds at which each slot was last seen to change hands, 0 for never.
    pub(super) fn changed_at_s(&self) -> &[u32] {
        static NEVER: [u32; SLOT_COUNT] = [0; SLOT_COUNT];
        if self.changed_at_s.is_empty() { &NEVER } else { &self.changed_at_s }
    }

    fn note_owners(&mut self, snapshot: &Snapshot) {
        let at_s = u32::try_from(snapshot.taken_at_ms / 1000).unwrap_or(u32::MAX);
        self.owners.resize(SLOT_COUNT, None);
        self.changed_at_s.resize(SLOT_COUNT, 0);
        let known = self.owners.iter_mut().zip(&mut self.changed_at_s);
        for ((before, changed), owner) in known.zip(snapshot.owners.as_slice()) {
            // A slot that nobody serves for a moment has not changed hands.
            let Some(owner) = snapshot.primaries.get(*owner as usize).map(|node| &node.id) else { continue };
            if before.as_ref() != Some(owner) {
                if before.is_some() {
                    *changed = at_s;
                }
                *before = Some(owner.clone());
            }
        }
    }

    /// As `heat.bin` tells it. Minutes in which nothing was seen are empty columns.
    pub(super) fn to_bytes(&self, resource: Resource) -> Vec<u8> {
        let first_ms = self.columns.front().map_or(0, |minute| minute.begins_ms);
        let last_ms = self.columns.back().map(|minute| minute.begins_ms);
        let count = last_ms.map_or(0, |last_ms| ((last_ms - first_ms) / COLUMN_MS) as usize + 1);
        let mut bytes = Vec::with_capacity(32 + count * ROWS);
        bytes.extend(b"BHT1");
        for number in [ROWS, count, (COLUMN_MS / 1000) as usize] {
            bytes.extend(u32::try_from(number).unwrap_or(0).to_le_bytes());
        }
        bytes.extend(first_ms.to_le_bytes());
        bytes.extend(LEAST.to_le_bytes());
        bytes.extend(MOST.to_le_bytes());
        for minute in &self.columns {
            let place = ((minute.begins_ms - first_ms) / COLUMN_MS) as usize;
            bytes.resize(32 + place * ROWS, 0);
            let loads = match resource {
                Resource::Cpu => &minute.cpu,
                Resource::Network => &minute.network,
            };
            bytes.extend(loads.iter().map(|load| level(*load)));
        }
        bytes
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a picture needs no more")]
fn sum(snapshot: &Snapshot, name: &str, row: usize) -> f32 {
    let Some(column) = snapshot.slot_column(name) else { return 0.0 };
    let slots = &column[row * SLOTS_PER_ROW..(row + 1) * SLOTS_PER_ROW];
    slots.iter().filter(|load| load.is_finite()).sum::<f64>() as f32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 255")]
fn level(load: f32) -> u8 {
    if load < LEAST {
        return 0;
    }
    let part = (load / LEAST).ln() / (MOST / LEAST).ln();
    1 + (part * STEPS).round().clamp(0.0, STEPS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::Column;

    fn snapshot(taken_at_ms: u64, load: f64) -> Snapshot {
        let mut snapshot = synthetic(3, 1);
        snapshot.taken_at_ms = taken_at_ms;
        let column: Column = vec![load; SLOT_COUNT].into();
        snapshot.slot_columns.insert(resource::CPU_USEC.to_owned(), column);
        snapshot
    }

    #[test]
    fn a_minute_is_the_mean_of_its_looks_and_a_gap_is_empty() {
        let mut heat = Heat::default();
        heat.see(&snapshot(60_000, 1_000.0));
        heat.see(&snapshot(90_000, 3_000.0));
        heat.see(&snapshot(180_000, 0.0));
        let bytes = heat.to_bytes(Resource::Cpu);
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((&bytes[..4], number(4), number(8), number(12)), (&b"BHT1"[..], 512, 3, 60));
        assert_eq!(u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")), 60_000);
        assert_eq!(bytes.len(), 32 + 3 * 512);
        let value = |byte: u8| LEAST * (MOST / LEAST).powf((f32::from(byte) - 1.0) / STEPS);
        let told = value(bytes[32]);
        assert!((told / 64_000.0 - 1.0).abs() < 0.05, "32 slots of 2000 in the mean: {told}");
        assert!(bytes[32 + 512..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut heat = Heat::default();
        for minute in 0..2_000 {
            heat.see(&snapshot(minute * COLUMN_MS, 5.0));
        }
        assert_eq!(heat.columns.len(), COLUMNS_MAX);
        heat.see(&snapshot(0, 5.0));
        assert_eq!(heat.columns.len(), 1, "a clock that was set back");
    }

    #[test]
    fn a_slot_is_seen_to_change_hands() {
        let mut heat = Heat::default();
        let mut seen = snapshot(5_000, 1.0);
        heat.see(&seen);
        assert!(heat.changed_at_s().iter().all(|at_s| *at_s == 0));
        let mut owners = seen.owners.as_slice().to_vec();
        owners[7] = (owners[7] + 1) % 3;
        seen.owners = crate::model::Owners::new(owners);
        seen.taken_at_ms = 9_000;
        heat.see(&seen);
        assert_eq!((heat.changed_at_s()[7], heat.changed_at_s()[8]), (9, 0));
    }
}
