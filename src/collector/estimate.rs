//! Guesses what a server does not count per slot, from samples of keys. Pure.
//!
//! A slot's bytes are its keys times the mean size of those sampled in it; its share of the node's cpu and network is
//! its keys times their mean heat (accesses per minute). Both are then scaled to the node's own totals, which are counted. How far to trust
//! the result is told with it. Samples are taken of a few slots each time and remembered.

use std::cmp::Reverse;

use crate::model::{SLOT_COUNT, SlotId};

/// What some keys of one slot showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// How many keys were looked at, above 0.
    pub keys: u64,
    /// Their mean size in bytes, with overhead.
    pub mean_bytes: f64,
    /// How much they are used, where it was asked and could be told.
    pub uses: Option<Uses>,
}

/// How much some keys are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uses {
    /// Their mean accesses per minute.
    pub mean_heat: f64,
    /// The mean of accesses per minute times size: bytes that go out if each access reads the whole value.
    pub mean_traffic: f64,
}

/// What is to be apportioned to slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Cpu and bytes received: so much per access.
    Accesses,
    /// Bytes sent: so much per access and byte of the value.
    Traffic,
}

/// The latest sample of each slot.
#[derive(Debug, Clone)]
pub struct Samples(Vec<Option<(u64, Sample)>>);

impl Default for Samples {
    fn default() -> Self {
        Self(vec![None; SLOT_COUNT])
    }
}

impl Samples {
    /// Remembers a sample taken at `at_ms`, or, with `None`, that nothing was found there.
    pub fn remember(&mut self, slot: SlotId, at_ms: u64, sample: Option<Sample>) {
        self.0[slot.index()] = sample.map(|sample| (at_ms, sample));
    }

    /// The latest sample of `slot`.
    #[must_use]
    pub fn get(&self, slot: SlotId) -> Option<&Sample> {
        self.0[slot.index()].as_ref().map(|(_, sample)| sample)
    }

    /// Which slots to sample next, at most `budget`: those never sampled, fullest first, then those longest ago.
    #[must_use]
    pub fn due(&self, keys: &[(SlotId, u64)], budget: usize) -> Vec<SlotId> {
        let mut due: Vec<_> = keys
            .iter()
            .filter(|(_, keys)| *keys > 0)
            .map(|(slot, keys)| (self.0[slot.index()].map(|(at_ms, _)| at_ms), Reverse(*keys), *slot))
            .collect();
        due.sort_unstable();
        due.into_iter().take(budget).map(|(_, _, slot)| slot).collect()
    }
}

/// Estimates for the slots of one node, in the order of the keys given.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// One number per slot: bytes, or a share of the node's load; shares sum to 1.
    pub by_slot: Vec<f64>,
    /// 0 (a guess) to 1 (counted).
    pub confidence: f64,
}

/// Bytes per slot, summing to `dataset_bytes` where the node tells it.
///
/// A key of a slot without a sample counts as large as those sampled elsewhere on the node.
#[must_use]
pub fn bytes(keys: &[(SlotId, u64)], samples: &Samples, dataset_bytes: Option<f64>) -> Estimate {
    let raw = product(keys, samples, |sample| Some(sample.mean_bytes));
    let by_slot = match dataset_bytes {
        Some(dataset) => shares(&raw, keys).into_iter().map(|share| share * dataset).collect(),
        None => raw,
    };
    let evidence = Evidence::of(keys, samples, |_| true);
    // The node's total is counted; what is uncertain is how it parts. Sizes within one slot are alike more often
    // than not, so having looked into each slot is worth more than having looked at each key.
    let confidence = 0.4 + 0.4 * evidence.slots + 0.1 * evidence.keys;
    Estimate { by_slot, confidence }
}

/// Each slot's share of the node's load.
///
/// By keys and their heat; by keys alone while no heat is known, which is hardly better than a guess. The server
/// `counts_uses` under an LFU policy; else it only knows when a key was used last.
#[must_use]
pub fn load_shares(keys: &[(SlotId, u64)], samples: &Samples, load: Load, counts_uses: bool) -> Estimate {
    let weight = |uses: Uses| match load {
        Load::Accesses => uses.mean_heat,
        Load::Traffic => uses.mean_traffic,
    };
    let by_slot = shares(&product(keys, samples, |sample| sample.uses.map(weight)), keys);
    let evidence = Evidence::of(keys, samples, |sample| sample.uses.is_some());
    // Load is skewed, and one key can outweigh its slot, so only keys looked at give certainty. With every key of a
    // Zipf load looked at, `benches/estimate.rs` finds 0.3 to 0.4 of it misplaced by counters of uses, and half by
    // times of last use, for those end at one second.
    let seen = 0.1 * evidence.slots + 0.4 * evidence.keys;
    Estimate { by_slot, confidence: 0.1 + if counts_uses { seen } else { seen / 2.0 } }
}

/// Each slot's part of the sum; by keys alone where nothing was sampled. They sum to 1, or to 0 where there are no keys.
fn shares(raw: &[f64], keys: &[(SlotId, u64)]) -> Vec<f64> {
    let counted: Vec<f64> = keys.iter().map(|(_, keys)| *keys as f64).collect();
    let parts = if raw.iter().any(|value| *value > 0.0) { raw } else { &counted };
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|value| if sum > 0.0 { value / sum } else { 0.0 }).collect()
}

/// Keys times the slot's sampled mean; the node's mean, weighted by keys, stands in where there is no sample.
fn product(keys: &[(SlotId, u64)], samples: &Samples, mean: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
    let sampled = |slot| samples.get(slot).and_then(&mean);
    let (sum, count) = keys
        .iter()
        .filter_map(|(slot, keys)| Some((sampled(*slot)? * *keys as f64, *keys as f64)))
        .fold((0.0, 0.0), |(sum, count), (value, keys)| (sum + value, count + keys));
    let usual = if count > 0.0 { sum / count } else { 0.0 };
    keys.iter().map(|(slot, keys)| *keys as f64 * sampled(*slot).unwrap_or(usual)).collect()
}

/// How much was looked at, each from 0 to 1.
struct Evidence {
    /// Share of the keys that live in a sampled slot.
    slots: f64,
    /// Share of the keys that were looked at themselves.
    keys: f64,
}

impl Evidence {
    fn of(keys: &[(SlotId, u64)], samples: &Samples, counts: impl Fn(&Sample) -> bool) -> Self {
        let (mut all, mut in_slots, mut seen) = (0.0, 0.0, 0.0);
        for (slot, keys) in keys {
            all += *keys as f64;
            if let Some(sample) = samples.get(*slot).filter(|sample| counts(sample)) {
                in_slots += *keys as f64;
                seen += (*keys).min(sample.keys) as f64;
            }
        }
        // Of no keys at all, everything is known.
        if all > 0.0 { Self { slots: in_slots / all, keys: seen / all } } else { Self { slots: 1.0, keys: 1.0 } }
    }
}

/// Accesses per minute of a key that has been idle for so many seconds: of a key used at random moments, the time
/// since its last use is on average the time between two uses.
#[must_use]
pub fn heat_of_idle_time(idle_s: u64) -> f64 {
    // The server counts idle time in seconds, so a hot key shows 0: one second is as far as this can see.
    60.0 / (idle_s as f64 + 1.0)
}

/// Accesses per minute of a key with this `OBJECT FREQ` on a server that has been up for so many minutes.
///
/// The counter starts at 5, loses one a minute, and gains one with probability 1 ÷ (10 · (counter − 5) + 1) per access
/// (`lfu-log-factor` 10, `lfu-decay-time` 1, the defaults). After long it stands where gain and loss are even; before
/// that, it shows how often the key was used altogether: about 5 · (counter − 5)² times.
#[must_use]
pub fn heat_of_frequency(counter: u64, uptime_minutes: f64) -> f64 {
    let gained = counter.saturating_sub(5) as f64;
    if gained == 0.0 {
        return counter as f64 / 6.0;
    }
    (10.0 * gained + 1.0).max(5.0 * gained * gained / uptime_minutes.max(0.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> SlotId {
        SlotId::new(number).expect("a slot")
    }

    fn sample(keys: u64, mean_bytes: f64, mean_heat: Option<f64>) -> Option<Sample> {
        let uses = mean_heat.map(|mean_heat| Uses { mean_heat, mean_traffic: mean_heat * mean_bytes });
        Some(Sample { keys, mean_bytes, uses })
    }

    fn accesses(keys: &[(SlotId, u64)], samples: &Samples) -> Estimate {
        load_shares(keys, samples, Load::Accesses, true)
    }

    const KEYS: [(u16, u64); 3] = [(1, 10), (2, 30), (3, 0)];

    fn keys() -> Vec<(SlotId, u64)> {
        KEYS.map(|(number, keys)| (slot(number), keys)).to_vec()
    }

    #[test]
    fn bytes_sum_to_what_the_node_counts() {
        let mut samples = Samples::default();
        samples.remember(slot(1), 0, sample(4, 300.0, None));
        samples.remember(slot(2), 0, sample(4, 100.0, None));
        let estimate = bytes(&keys(), &samples, Some(12_000.0));
        assert_eq!(estimate.by_slot, [6_000.0, 6_000.0, 0.0]);
        assert!(estimate.confidence > 0.8 && estimate.confidence < 1.0, "{estimate:?}");
    }

    #[test]
    fn a_slot_without_a_sample_is_taken_for_an_average_one() {
        let mut samples = Samples::default();
        samples.remember(slot(1), 0, sample(4, 300.0, None));
        assert_eq!(bytes(&keys(), &samples, None).by_slot, [3_000.0, 9_000.0, 0.0]);
    }

    #[test]
    fn nothing_known_is_shared_by_keys_with_little_confidence() {
        let estimate = accesses(&keys(), &Samples::default());
        assert_eq!(estimate.by_slot, [0.25, 0.75, 0.0]);
        assert!(estimate.confidence <= 0.1, "{estimate:?}");
        assert_eq!(accesses(&[(slot(1), 0)], &Samples::default()).by_slot, [0.0], "no keys, no load, no NaN");
    }

    #[test]
    fn hot_keys_draw_the_load_to_their_slot() {
        let mut samples = Samples::default();
        samples.remember(slot(1), 0, sample(10, 1.0, Some(60.0)));
        samples.remember(slot(2), 0, sample(30, 1.0, Some(1.0)));
        let estimate = accesses(&keys(), &samples);
        assert!(estimate.by_slot[0] > 0.9, "{estimate:?}");
        assert!((estimate.by_slot.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let guess = load_shares(&keys(), &samples, Load::Accesses, false);
        assert!(guess.confidence < estimate.confidence, "times of last use say less than counters");
    }

    #[test]
    fn large_values_send_more_per_access() {
        let mut samples = Samples::default();
        samples.remember(slot(1), 0, sample(10, 9_000.0, Some(1.0)));
        samples.remember(slot(2), 0, sample(30, 1_000.0, Some(1.0)));
        assert_eq!(load_shares(&keys(), &samples, Load::Traffic, true).by_slot, [0.75, 0.25, 0.0]);
        assert_eq!(accesses(&keys(), &samples).by_slot, [0.25, 0.75, 0.0]);
    }

    #[test]
    fn samples_go_round_so_that_every_slot_has_its_turn() {
        let mut samples = Samples::default();
        let keys: Vec<_> = (0..10).map(|number| (slot(number), u64::from(number))).collect();
        let mut seen = std::collections::BTreeSet::new();
        for at_ms in 1..=3 {
            let due = samples.due(&keys, 3);
            assert_eq!(due.len(), 3);
            for slot in due {
                samples.remember(slot, at_ms, sample(1, 1.0, None));
                assert!(seen.insert(slot), "{slot} again before others had their turn");
            }
        }
        assert_eq!(seen.len(), 9, "the empty slot needs no sample");
        assert_eq!(samples.due(&keys, 1), [slot(9)], "then the fullest of the oldest");
    }

    #[test]
    fn heat_falls_with_idleness_and_grows_with_frequency() {
        assert!(heat_of_idle_time(0) > heat_of_idle_time(1) && heat_of_idle_time(3600) > 0.0);
        for uptime in [0.0, 1.0, 100_000.0] {
            assert!(
                (0..255).all(|counter| heat_of_frequency(counter, uptime) < heat_of_frequency(counter + 1, uptime))
            );
        }
    }
}
