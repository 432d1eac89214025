//! The truth about every slot over time: what clients really do. Piecewise constant, and the same for every policy.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use super::random::{Purpose, Random};
use super::scenario::{Data, Drift, Event, Flip, Load, Scenario, Swap, Wave};
use crate::model::SLOT_COUNT;

/// What slots take and hold at one time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loads {
    /// Microseconds of the main thread per second.
    pub(super) cpu: Vec<f64>,
    /// Bytes received per second.
    pub(super) net_in: Vec<f64>,
    /// Bytes sent per second.
    pub(super) net_out: Vec<f64>,
    /// Bytes of keys and values.
    pub(super) bytes: Arc<[f64]>,
    /// How many keys.
    pub(super) keys: Arc<[f64]>,
}

/// Where the truth comes from.
#[derive(Debug, Clone)]
pub(super) enum Workload {
    /// A scenario.
    Made(Box<Made>),
    /// What was recorded: from each time on, these loads.
    Recorded(Vec<(u64, Loads)>),
}

impl Workload {
    /// When loads change, sorted, in milliseconds from the beginning.
    pub(super) fn changes(&self) -> Vec<u64> {
        match self {
            Self::Made(made) => made.changes.clone(),
            Self::Recorded(frames) => frames.iter().map(|(at_ms, _)| *at_ms).collect(),
        }
    }

    /// Loads from `at_ms` on. Times must not go back.
    pub(super) fn at(&mut self, at_ms: u64) -> Loads {
        match self {
            Self::Made(made) => made.at(at_ms),
            Self::Recorded(frames) => {
                let place = frames.partition_point(|(from_ms, _)| *from_ms <= at_ms).saturating_sub(1);
                frames[place].1.clone()
            }
        }
    }
}

/// Steps into which what changes all the time is cut: a period has so many, and a ramp.
const STEPS_OF_A_PERIOD: u32 = 96;
const STEPS_OF_A_RAMP: u32 = 8;

/// Bytes per microsecond of cpu: a value of half a kilobyte for ten microseconds, asked for by its name.
const NET_IN_PER_USEC: f64 = 10.0;
const NET_OUT_PER_USEC: f64 = 50.0;

/// A scenario's load.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Mean load by slot, as swaps and drifts have left it.
    base: Vec<f64>,
    /// Where each slot's load drifts to.
    drift_to: Vec<f64>,
    bytes: Arc<[f64]>,
    keys: Arc<[f64]>,
    groups: Vec<usize>,
    bursts: Vec<Burst>,
    swap: Option<Swap>,
    wave: Option<Wave>,
    drift: Option<Drift>,
    flip: Option<Flip>,
    swaps_done: u64,
    drifts_done: u64,
    seed: u64,
    changes: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Burst {
    slots: Vec<usize>,
    factor: f64,
    /// When it begins, has grown, begins to fade, is over.
    times_ms: [u64; 4],
}

impl Burst {
    /// How much of it there is, 0 to 1.
    fn strength(&self, at_ms: u64) -> f64 {
        let [begins, grown, fades, over] = self.times_ms.map(|time| time as f64);
        let at = at_ms as f64;
        let part = |from: f64, to: f64| if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        if at < begins || at >= over {
            0.0
        } else if at < fades {
            part(begins, grown)
        } else {
            1.0 - part(fades, over)
        }
    }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Made {
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let Scenario { cluster, load, data, .. } = scenario;
        let mut random = Random::new(seed, Purpose::Slots);
        let total = load.utilisation * 1e6 * cluster.nodes as f64;
        let mut base = shares(load, cluster.nodes, &mut random);
        base.iter_mut().for_each(|share| *share *= total);
        let bytes = bytes(data, cluster.nodes, &base, &mut random);
        let keys = bytes.iter().map(|bytes| (bytes / data.key as f64).round()).collect();
        let groups = load.wave.as_ref().map_or(1, |wave| wave.groups);
        let groups = (0..SLOT_COUNT).map(|_| random.below(groups)).collect();
        let bursts = scenario.event.iter().filter_map(|event| burst(event, &mut random)).collect();
        let mut made = Self {
            drift_to: base.clone(),
            base,
            bytes,
            keys,
            groups,
            bursts,
            swap: load.swap.clone(),
            wave: load.wave.clone(),
            drift: load.drift.clone(),
            flip: load.flip.clone(),
            swaps_done: 0,
            drifts_done: 0,
            seed,
            changes: Vec::new(),
        };
        made.changes = made.times((scenario.hours * 3_600_000.0) as u64);
        made
    }

    fn times(&self, end_ms: u64) -> Vec<u64> {
        let mut times = vec![0];
        let mut every = |step: Duration| {
            times.extend((1..).map(|number| number * ms(step).max(1_000)).take_while(|at| *at <= end_ms))
        };
        if let Some(swap) = &self.swap {
            every(swap.every);
        }
        if let Some(flip) = &self.flip {
            every(flip.every);
        }
        if let Some(wave) = &self.wave {
            every(wave.period / STEPS_OF_A_PERIOD);
        }
        if let Some(drift) = &self.drift {
            every(drift.over / STEPS_OF_A_PERIOD);
        }
        for burst in &self.bursts {
            for pair in burst.times_ms.windows(2) {
                let step = (pair[1] - pair[0]) / u64::from(STEPS_OF_A_RAMP);
                times.extend((0..=u64::from(STEPS_OF_A_RAMP)).map(|number| pair[0] + number * step));
                times.push(pair[1]);
            }
        }
        times.retain(|at| *at <= end_ms);
        times.sort_unstable();
        times.dedup();
        times
    }

    fn at(&mut self, at_ms: u64) -> Loads {
        self.advance(at_ms);
        let cpu: Vec<f64> = (0..SLOT_COUNT).map(|slot| self.of_slot(slot, at_ms)).collect();
        let mut loads =
            Loads { net_in: Vec::new(), net_out: Vec::new(), bytes: self.bytes.clone(), keys: self.keys.clone(), cpu };
        for burst in &self.bursts {
            let factor = 1.0 + (burst.factor - 1.0) * burst.strength(at_ms);
            burst.slots.iter().for_each(|slot| loads.cpu[*slot] *= factor);
        }
        loads.net_in = loads.cpu.iter().map(|usec| usec * NET_IN_PER_USEC).collect();
        loads.net_out = loads.cpu.iter().map(|usec| usec * NET_OUT_PER_USEC).collect();
        loads
    }

    /// Does the swaps and drifts that are over by `at_ms`.
    fn advance(&mut self, at_ms: u64) {
        if let Some(Swap { every, slots }) = self.swap.clone() {
            while (self.swaps_done + 1) * ms(every) <= at_ms {
                self.swaps_done += 1;
                let mut random = Random::new(self.seed, Purpose::Change(self.swaps_done));
                let mut hottest: Vec<usize> = (0..SLOT_COUNT).collect();
                hottest.sort_by(|one, other| self.base[*other].total_cmp(&self.base[*one]));
                for slot in &hottest[..slots] {
                    self.base.swap(*slot, hottest[slots + random.below(SLOT_COUNT - slots)]);
                }
            }
        }
        if let Some(Drift { over }) = self.drift.clone() {
            while self.drifts_done == 0 || self.drifts_done * ms(over) <= at_ms {
                self.drifts_done += 1;
                let mut random = Random::new(self.seed, Purpose::Change(self.drifts_done));
                self.base.clone_from(&self.drift_to);
                random.shuffle(&mut self.drift_to);
            }
        }
    }

    fn of_slot(&self, slot: usize, at_ms: u64) -> f64 {
        let mut load = self.base[slot];
        if let Some(drift) = &self.drift {
            let part = (at_ms % ms(drift.over)) as f64 / ms(drift.over) as f64;
            load += part * (self.drift_to[slot] - load);
        }
        if let Some(wave) = &self.wave {
            let phase = self.groups[slot] as f64 / wave.groups as f64 + at_ms as f64 / ms(wave.period) as f64;
            load *= 1.0 + wave.swing * (TAU * phase).sin();
        }
        if let Some(flip) = &self.flip {
            let first = (at_ms / ms(flip.every)).is_multiple_of(2);
            let hot = first == (slot < SLOT_COUNT / 2);
            // The sum of both halves stays what it was.
            load *= 2.0 / (1.0 + flip.factor) * if hot { flip.factor } else { 1.0 };
        }
        load
    }
}

fn burst(event: &Event, random: &mut Random) -> Option<Burst> {
    let Event::Burst { at, slots, factor, ramp, lasts, fade } = event else { return None };
    let mut all: Vec<usize> = (0..SLOT_COUNT).collect();
    random.shuffle(&mut all);
    all.truncate(*slots);
    let times_ms = [*at, *at + *ramp, *at + *ramp + *lasts, *at + *ramp + *lasts + *fade].map(ms);
    Some(Burst { slots: all, factor: *factor, times_ms })
}

/// The most used keys are dealt to slots one by one; all others fall on slots evenly.
const KEYS_DEALT: usize = 200_000;
/// So many keys there are in all, as YCSB's larger runs have them.
const KEYS: f64 = 100e6;

/// Shares of the load by slot, which sum to 1: the Zipf distribution over keys, dealt to slots by chance.
fn shares(load: &Load, nodes: usize, random: &mut Random) -> Vec<f64> {
    // The sum over the ranks beyond those dealt, as an integral.
    let (dealt, exponent) = (KEYS_DEALT as f64, load.skew);
    let tail = if (exponent - 1.0).abs() < 1e-9 {
        (KEYS / dealt).ln()
    } else {
        (KEYS.powf(1.0 - exponent) - dealt.powf(1.0 - exponent)) / (1.0 - exponent)
    };
    let mut shares = vec![tail / SLOT_COUNT as f64; SLOT_COUNT];
    for rank in 1..=KEYS_DEALT {
        shares[random.below(SLOT_COUNT)] += (rank as f64).powf(-exponent);
    }
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    if let Some(giant) = load.giant {
        let slot = random.below(SLOT_COUNT);
        let share = giant / nodes as f64;
        shares.iter_mut().for_each(|other| *other *= 1.0 - share);
        shares[slot] = share;
    }
    shares
}

fn bytes(data: &Data, nodes: usize, loads: &[f64], random: &mut Random) -> Arc<[f64]> {
    let mut bytes: Vec<f64> =
        (0..SLOT_COUNT / 2).flat_map(|_| random.normal_pair()).map(|normal| (data.spread * normal).exp()).collect();
    if data.opposed {
        bytes.sort_by(f64::total_cmp);
        let mut hottest: Vec<usize> = (0..SLOT_COUNT).collect();
        hottest.sort_by(|one, other| loads[*other].total_cmp(&loads[*one]));
        let sorted = bytes.clone();
        hottest.into_iter().zip(sorted).for_each(|(slot, size)| bytes[slot] = size);
    }
    let scale = data.per_node as f64 * nodes as f64 / bytes.iter().sum::<f64>();
    bytes.into_iter().map(|size| (size * scale).round()).collect()
}
