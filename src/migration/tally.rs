//! A plan's moves as a whole: how far they are, how fast they go, when they will be done, and which step is the oldest.
//!
//! Pure: time is an argument. Command line, status and metrics show what this says.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::progress::{Progress, Weights};
use crate::model::{Move, SlotId, Snapshot};

/// Rates are measured over this long: short enough to follow the servers, long enough not to flicker.
const WINDOW_MS: u64 = 10_000;
/// Samples are at least this far apart, so that the ring holds a few dozen whatever the pace.
const SAMPLE_MS: u64 = 250;
/// What was measured over less than this says nothing.
const LEAST_SPAN_MS: u64 = 500;

/// Slots, and the keys and bytes in them as far as the snapshot knows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Slots.
    pub slots: u64,
    /// Keys; absent when unknown.
    pub keys: Option<u64>,
    /// Bytes, estimated; absent when unknown.
    pub bytes: Option<u64>,
}

impl Amount {
    /// What `moves` are about, by the snapshot that they answer.
    #[must_use]
    pub fn of(moves: &[Move], snapshot: &Snapshot) -> Self {
        let slots: Vec<SlotId> = moves.iter().map(|step| step.slot).collect();
        let weights = Weights::of(snapshot);
        Self { slots: slots.len() as u64, keys: weights.keys(&slots), bytes: weights.bytes(&slots) }
    }
}

/// A plan's moves as a whole, at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// Slots moved.
    pub slots_moved: u64,
    /// Slots whose migration has not begun.
    pub slots_waiting: u64,
    /// Keys moved, as far as the protocols count them.
    pub keys_moved: u64,
    /// Bytes moved, estimated.
    pub bytes_moved: u64,
    /// All of it.
    pub total: Amount,
    /// Keys per second over the last ten seconds; absent while too little is known.
    pub keys_per_s: Option<f64>,
    /// Bytes per second over the last ten seconds, estimated; absent while too little is known.
    pub bytes_per_s: Option<f64>,
    /// Milliseconds until it is done, by bytes where they are known, else by keys, else by slots; absent while unknown.
    pub eta_ms: Option<u64>,
}

/// What was heard of migrations: those of a plan, from which [`Overall`] follows, and those taken up from a journal.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    plan: Option<Plan>,
    /// The last word on each migration.
    heard: Vec<Progress>,
}

#[derive(Debug, Clone)]
struct Plan {
    total: Amount,
    begun_at_ms: u64,
    /// Where measuring began: the plan's beginning, or the end of the last pause.
    from: Sample,
    /// Oldest first.
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at_ms: u64,
    moved: Moved,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    slots: u64,
    keys: u64,
    bytes: u64,
}

/// Per second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    slots: f64,
    keys: f64,
    bytes: f64,
}

impl Tally {
    /// From now on, what is heard counts towards a plan of `total`.
    pub fn begin(&mut self, total: Amount, now_ms: u64) {
        self.heard.retain(|known| !known.finished);
        let from = Sample { at_ms: now_ms, moved: Moved::default() };
        self.plan = Some(Plan { total, begun_at_ms: now_ms, from, samples: VecDeque::from([from]) });
    }

    /// The plan is over. Migrations that are not stay known: they are in doubt, and will be taken up again.
    pub fn end(&mut self) {
        self.plan = None;
        self.heard.retain(|known| !known.finished);
    }

    /// No migration of ours is open.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Hears of a migration.
    pub fn hear(&mut self, progress: Progress) {
        let at_ms = progress.told_at_ms;
        self.heard.retain(|known| !known.is_of_same(&progress));
        self.heard.push(progress);
        let moved = self.moved();
        let Some(plan) = &mut self.plan else { return };
        if plan.samples.back().is_none_or(|last| at_ms >= last.at_ms + SAMPLE_MS) {
            plan.samples.push_back(Sample { at_ms, moved });
        }
        plan.forget_before(at_ms);
    }

    /// Time has passed in which nothing was to move: rates are measured anew.
    pub fn rested(&mut self, now_ms: u64) {
        let moved = self.moved();
        if let Some(plan) = &mut self.plan {
            plan.from = Sample { at_ms: now_ms, moved };
            plan.samples = VecDeque::from([plan.from]);
        }
    }

    /// Migrations that run, or are in doubt.
    pub fn running(&self) -> impl Iterator<Item = &Progress> {
        self.heard.iter().filter(|progress| !progress.finished)
    }

    /// When the oldest step of a running migration began: Unix time, milliseconds.
    #[must_use]
    pub fn oldest_step_since_ms(&self) -> Option<u64> {
        self.running().map(|progress| progress.step_since_ms).min()
    }

    /// How far the plan is; nothing while there is none.
    #[must_use]
    pub fn overall(&self, now_ms: u64) -> Option<Overall> {
        let plan = self.plan.as_ref()?;
        let moved = self.moved();
        let begun: u64 = self.of_plan(plan).map(|progress| progress.slots.len() as u64).sum();
        let lately = plan.samples.front().and_then(|first| rate(*first, moved, now_ms));
        let since_the_beginning = rate(plan.from, moved, now_ms);
        Some(Overall {
            slots_moved: moved.slots,
            slots_waiting: plan.total.slots.saturating_sub(begun),
            keys_moved: moved.keys,
            bytes_moved: moved.bytes,
            total: plan.total,
            keys_per_s: lately.map(|rate| rate.keys),
            bytes_per_s: lately.map(|rate| rate.bytes),
            // A portion that moves all at once may take longer than the window: then the mean so far says more.
            eta_ms: eta_ms(&plan.total, moved, lately).or_else(|| eta_ms(&plan.total, moved, since_the_beginning)),
        })
    }

    fn moved(&self) -> Moved {
        let Some(plan) = &self.plan else { return Moved::default() };
        self.of_plan(plan).fold(Moved::default(), |sum, progress| Moved {
            slots: sum.slots + progress.slots_moved as u64,
            keys: sum.keys + progress.keys_moved,
            bytes: sum.bytes + progress.bytes_moved,
        })
    }

    /// What was begun for the plan, and not before it.
    fn of_plan<'a>(&'a self, plan: &Plan) -> impl Iterator<Item = &'a Progress> {
        let begun_at_ms = plan.begun_at_ms;
        self.heard.iter().filter(move |progress| progress.started_at_ms >= begun_at_ms)
    }
}

impl Plan {
    /// Keeps one sample that is as old as the window, or the oldest if none is.
    fn forget_before(&mut self, now_ms: u64) {
        while self.samples.get(1).is_some_and(|second| second.at_ms + WINDOW_MS <= now_ms) {
            self.samples.pop_front();
        }
    }
}

fn rate(from: Sample, moved: Moved, now_ms: u64) -> Option<Rate> {
    let span_ms = now_ms.checked_sub(from.at_ms).filter(|span_ms| *span_ms >= LEAST_SPAN_MS)?;
    let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 * 1e3 / span_ms as f64;
    Some(Rate {
        slots: per_s(moved.slots, from.moved.slots),
        keys: per_s(moved.keys, from.moved.keys),
        bytes: per_s(moved.bytes, from.moved.bytes),
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a quotient of numbers above 0")]
fn eta_ms(total: &Amount, moved: Moved, rate: Option<Rate>) -> Option<u64> {
    let rate = rate?;
    let by = |total: Option<u64>, moved: u64, per_s: f64| {
        let left = total.filter(|total| *total > 0)?.saturating_sub(moved);
        (per_s > 0.0).then(|| (left as f64 / per_s * 1e3) as u64)
    };
    by(total.bytes, moved.bytes, rate.bytes)
        .or_else(|| by(total.keys, moved.keys, rate.keys))
        .or_else(|| by(Some(total.slots), moved.slots, rate.slots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    const TOTAL: Amount = Amount { slots: 100, keys: Some(10_000), bytes: Some(1_000_000) };

    #[test]
    fn a_plan_adds_up_the_migrations_that_were_begun_for_it() {
        let mut tally = Tally::default();
        tally.hear(word("900-901", 400, 2, 7, 7));
        tally.begin(TOTAL, 1_000);
        tally.hear(word("0-49", 1_000, 50, 5_000, 500_000));
        tally.hear(word("50-59", 2_000, 3, 300, 30_000));
        tally.hear(word("50-59", 2_000, 4, 400, 40_000));
        let overall = tally.overall(3_000).expect("a plan");
        assert_eq!((overall.slots_moved, overall.keys_moved, overall.bytes_moved), (54, 5_400, 540_000));
        assert_eq!((overall.slots_waiting, overall.total), (40, TOTAL));
        assert_eq!(tally.running().count(), 3);
    }

    #[test]
    fn rates_follow_the_last_ten_seconds_and_the_end_is_foretold_by_bytes() {
        let mut tally = Tally::default();
        tally.begin(TOTAL, 0);
        assert_eq!(tally.overall(100).expect("a plan").keys_per_s, None, "too early to tell");
        // A hundred keys a second, then two hundred.
        let mut keys = 0;
        for second in 1..=40 {
            keys += if second <= 20 { 100 } else { 200 };
            tally.hear(Progress { told_at_ms: second * 1_000, ..word("0-99", 0, 0, keys, keys * 100) });
            let expected = match second {
                1..=20 => 100.0,
                31.. => 200.0,
                _ => continue,
            };
            assert_eq!(tally.overall(second * 1_000).expect("a plan").keys_per_s, Some(expected), "second {second}");
        }
        let overall = tally.overall(40_000).expect("a plan");
        assert_eq!((overall.bytes_per_s, overall.eta_ms), (Some(20_000.0), Some(20_000)));
        assert!(tally.plan.expect("a plan").samples.len() <= 12, "the ring is short");
    }

    #[test]
    fn what_is_not_known_is_done_without() {
        let eta_ms = |total: Amount| {
            let mut tally = Tally::default();
            tally.begin(total, 0);
            tally.hear(word("0-99", 0, 25, 5_000, 500_000));
            tally.overall(10_000).expect("a plan").eta_ms
        };
        assert_eq!(eta_ms(TOTAL), Some(10_000), "half of the bytes in ten seconds");
        assert_eq!(eta_ms(Amount { bytes: None, keys: Some(20_000), ..TOTAL }), Some(30_000), "a quarter of the keys");
        assert_eq!(eta_ms(Amount { bytes: None, keys: None, ..TOTAL }), Some(30_000), "a quarter of the slots");
        assert_eq!(eta_ms(Amount { bytes: Some(0), keys: Some(0), ..TOTAL }), Some(30_000), "there are no keys");
    }

    #[test]
    fn a_portion_that_takes_longer_than_the_window_is_foretold_by_the_mean() {
        let mut tally = Tally::default();
        tally.begin(TOTAL, 0);
        tally.hear(Progress { told_at_ms: 20_000, ..word("0-49", 0, 50, 5_000, 500_000) });
        for second in 21..=40 {
            tally.hear(Progress { told_at_ms: second * 1_000, ..word("50-99", 20_000, 0, 0, 0) });
        }
        let overall = tally.overall(40_000).expect("a plan");
        assert_eq!((overall.keys_per_s, overall.eta_ms), (Some(0.0), Some(40_000)));
    }

    #[test]
    fn a_pause_does_not_count_as_slowness() {
        let mut tally = Tally::default();
        tally.begin(TOTAL, 0);
        tally.hear(Progress { told_at_ms: 10_000, ..word("0-49", 0, 10, 1_000, 100_000) });
        tally.rested(3_600_000);
        tally.hear(Progress { told_at_ms: 3_601_000, ..word("50-99", 3_600_000, 10, 1_000, 100_000) });
        assert_eq!(tally.overall(3_601_000).expect("a plan").keys_per_s, Some(1_000.0));
    }

    #[test]
    fn the_oldest_step_is_that_of_a_migration_that_runs() {
        let mut tally = Tally::default();
        tally.begin(TOTAL, 0);
        let step = |slots, since| Progress { step_since_ms: since, ..word(slots, 0, 0, 0, 0) };
        tally.hear(step("0-9", 5_000));
        tally.hear(step("10-19", 3_000));
        assert_eq!(tally.oldest_step_since_ms(), Some(3_000));
        tally.hear(Progress { finished: true, ..step("10-19", 3_000) });
        assert_eq!(tally.oldest_step_since_ms(), Some(5_000));
        tally.end();
        assert_eq!(tally.oldest_step_since_ms(), Some(5_000), "it is in doubt");
        tally.clear();
        assert_eq!((tally.oldest_step_since_ms(), tally.overall(9_000)), (None, None));
    }

    fn word(slots: &str, started_at_ms: u64, slots_moved: usize, keys_moved: u64, bytes_moved: u64) -> Progress {
        let node = |digit: &str| digit.repeat(40).parse().expect("node id");
        Progress {
            source: node("a"),
            target: node("b"),
            protocol: Protocol::Classic,
            began_by: "test".into(),
            reason: "test".into(),
            slots: slots.parse().expect("slots"),
            slots_moved,
            keys_moved,
            keys_total: None,
            bytes_moved,
            bytes_total: None,
            step: "transfer".into(),
            step_since_ms: started_at_ms,
            started_at_ms,
            told_at_ms: started_at_ms,
            finished: false,
        }
    }
}
