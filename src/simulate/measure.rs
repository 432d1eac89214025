//! Adds up what a run brings. Knows what figures mean, not where they come from.

use std::collections::BTreeMap;

use super::judge::{Evenness, RESOURCES};
use super::report::{Balance, Charts, Measures, PlanOutcome, Shards};
use super::series::Series;
use crate::model::{MigrationReport, NodeId, SLOT_COUNT};
use crate::policy::PolicyFailure;

/// A slot that is back within so many cycles has played ping-pong: an hour of the daemon's own cycles of ten seconds is beyond
/// what any load would ask for.
const PING_PONG_CYCLES: u64 = 360;
/// Bars in the chart of moves.
const BARS: usize = 50;
/// A balance this near to the best is a balance, if it stays for so many cycles: a plan may pass through one on its way.
const RECOVERED: f64 = 1.10;
const RECOVERED_CYCLES: u64 = 3;
/// A node above this share of its core is overloaded.
const OVERLOADED: f64 = 0.9;

/// How things are, until something changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) evenness: [Evenness; 3],
    pub(super) hottest: f64,
    pub(super) p99_factor: f64,
    /// Drained nodes own nothing.
    pub(super) drained: bool,
    pub(super) nodes: usize,
    /// Nodes that are not to be emptied.
    pub(super) staying: usize,
}

/// Where a node's load has been.
#[derive(Debug, Clone, Copy)]
struct Way {
    first: f64,
    last: f64,
    length: f64,
}

/// How many shards there were, and what that changed to.
#[derive(Debug, Default)]
struct Size {
    shards: Shards,
    staying: Option<usize>,
    /// Whether there were more and more, the last time that it changed.
    grew: Option<bool>,
}

impl Size {
    fn pass(&mut self, seconds: f64, nodes: usize, staying: usize) {
        let before = self.staying.replace(staying).unwrap_or(staying);
        let shards = &mut self.shards;
        shards.least = if shards.most == 0 { staying } else { shards.least.min(staying) };
        shards.most = shards.most.max(staying);
        shards.node_hours += nodes as f64 * seconds / 3600.0;
        shards.more += staying.saturating_sub(before) as u64;
        shards.fewer += before.saturating_sub(staying) as u64;
        if staying != before {
            let grows = staying > before;
            shards.turns += u64::from(self.grew.replace(grows).is_some_and(|grew| grew != grows));
        }
    }
}

/// Everything that is added up.
pub(super) struct Measure {
    warm_up_ms: u64,
    end_ms: u64,
    cycle_ms: u64,
    seconds: f64,
    sums: [Balance; 3],
    overloaded_s: f64,
    p99_s: f64,
    ways: BTreeMap<NodeId, Way>,
    times_moved: Vec<u32>,
    /// Owners that each slot left, and when, the latest last.
    left: BTreeMap<u16, Vec<(u64, NodeId)>>,
    all_moved: f64,
    size: Size,
    /// Since when the balance is disturbed, if it is.
    disturbed_ms: Option<u64>,
    /// Since when it has been even again, while that is not sure.
    even_ms: Option<u64>,
    recovery_s: f64,
    pub(super) measures: Measures,
    pub(super) plans: Vec<PlanOutcome>,
    charts: Charts,
}

impl Measure {
    pub(super) fn new(warm_up_ms: u64, end_ms: u64, cycle_ms: u64) -> Self {
        let series = || Series::new(end_ms);
        Self {
            warm_up_ms,
            end_ms,
            cycle_ms,
            seconds: 0.0,
            sums: [Balance::default(); 3],
            overloaded_s: 0.0,
            p99_s: 0.0,
            ways: BTreeMap::new(),
            times_moved: vec![0; SLOT_COUNT],
            left: BTreeMap::new(),
            all_moved: 0.0,
            size: Size::default(),
            disturbed_ms: None,
            even_ms: None,
            recovery_s: 0.0,
            measures: Measures::default(),
            plans: Vec::new(),
            charts: Charts {
                cpu_excess: series(),
                memory_excess: series(),
                hottest: series(),
                bytes_moved: series(),
                nodes: series(),
                moves: vec![0; BARS],
            },
        }
    }

    /// Whether what happens now counts.
    pub(super) fn counts(&self, now_ms: u64) -> bool {
        now_ms >= self.warm_up_ms
    }

    /// All was as in `state` from `from_ms` to `to_ms`.
    pub(super) fn pass(&mut self, from_ms: u64, to_ms: u64, state: &State) {
        if self.even_ms.is_some_and(|even_ms| to_ms >= even_ms + RECOVERED_CYCLES * self.cycle_ms) {
            self.recovered();
        }
        let excess = state.evenness.map(Evenness::excess);
        self.charts.cpu_excess.add(from_ms, to_ms, excess[0]);
        self.charts.memory_excess.add(from_ms, to_ms, excess[1]);
        self.charts.hottest.add(from_ms, to_ms, state.hottest);
        self.charts.bytes_moved.add(from_ms, to_ms, self.all_moved);
        self.charts.nodes.add(from_ms, to_ms, state.nodes as f64);
        let from_ms = from_ms.max(self.warm_up_ms);
        if to_ms <= from_ms {
            return;
        }
        let seconds = (to_ms - from_ms) as f64 / 1000.0;
        self.seconds += seconds;
        for ((sum, evenness), excess) in self.sums.iter_mut().zip(state.evenness).zip(excess) {
            sum.imbalance_mean += evenness.imbalance * seconds;
            sum.imbalance_max = sum.imbalance_max.max(evenness.imbalance);
            sum.excess_mean += excess * seconds;
            sum.excess_max = sum.excess_max.max(excess);
            sum.excess_hours += (excess - 1.0) * seconds / 3600.0;
        }
        if state.hottest > OVERLOADED {
            self.overloaded_s += seconds;
        }
        self.p99_s += state.p99_factor * seconds;
        self.size.pass(seconds, state.nodes, state.staying);
        self.measures.p99_factor_max = self.measures.p99_factor_max.max(state.p99_factor);
    }

    /// The policy gave no answer.
    pub(super) fn failed(&mut self, now_ms: u64, failure: &PolicyFailure) {
        if failure.kind.is_fault() && self.counts(now_ms) {
            *self.measures.faults.entry(failure.kind().to_owned()).or_default() += 1;
        }
    }

    /// The balance is disturbed now: from here on the time to recover counts, if it is needed.
    pub(super) fn disturb(&mut self, now_ms: u64) {
        if self.counts(now_ms) {
            self.measures.disturbances += 1;
            self.disturbed_ms = Some(now_ms);
            self.even_ms = None;
        }
    }

    /// It has come to this now.
    pub(super) fn see(&mut self, now_ms: u64, state: &State) {
        let even = state.drained && state.evenness[0].excess() <= RECOVERED;
        self.even_ms = self.even_ms.or(self.disturbed_ms.map(|_| now_ms)).filter(|_| even);
    }

    fn recovered(&mut self) {
        if let (Some(since_ms), Some(even_ms)) = (self.disturbed_ms.take(), self.even_ms.take()) {
            self.measures.recovered += 1;
            self.recovery_s += (even_ms - since_ms) as f64 / 1000.0;
        }
    }

    /// What a node uses now, as a multiple of the mean: asked for at equal intervals.
    pub(super) fn sample(&mut self, now_ms: u64, node: &NodeId, load: f64) {
        if self.counts(now_ms) {
            let way = self.ways.entry(node.clone()).or_insert(Way { first: load, last: load, length: 0.0 });
            way.length += (load - way.last).abs();
            way.last = load;
        }
    }

    /// Slots have moved.
    pub(super) fn moved(&mut self, now_ms: u64, moved: &MigrationReport, between_zones: bool) {
        let MigrationReport { moved: slots, source: from, target: to, .. } = moved;
        let bytes = moved.bytes as f64;
        self.all_moved += bytes;
        let bar = (now_ms as f64 / self.end_ms as f64 * BARS as f64) as usize;
        self.charts.moves[bar.min(BARS - 1)] += slots.len() as u64;
        let counts = self.counts(now_ms);
        let forgotten_ms = now_ms.saturating_sub(PING_PONG_CYCLES * self.cycle_ms);
        for slot in slots {
            let left = self.left.entry(slot.number()).or_default();
            left.retain(|(at_ms, _)| *at_ms >= forgotten_ms);
            if counts {
                self.times_moved[slot.index()] += 1;
                self.measures.ping_pongs += u64::from(left.iter().any(|(_, owner)| owner == to));
            }
            left.push((now_ms, from.clone()));
        }
        if counts {
            self.measures.bytes_moved += bytes;
            self.measures.bytes_between_zones += if between_zones { bytes } else { 0.0 };
            self.measures.moves += slots.len() as u64;
        }
    }

    /// The figures, of a cluster with so many bytes.
    pub(super) fn finish(mut self, all_bytes: f64) -> (Measures, Vec<PlanOutcome>, Charts) {
        let seconds = self.seconds.max(f64::MIN_POSITIVE);
        let mean = |sum: Balance| Balance {
            imbalance_mean: sum.imbalance_mean / seconds,
            excess_mean: sum.excess_mean / seconds,
            ..sum
        };
        let wasted = |way: &Way| way.length - (way.last - way.first).abs();
        let nodes = self.ways.len().max(1) as f64;
        let counted = |plan: &&PlanOutcome| plan.at_hours * 3_600_000.0 >= self.warm_up_ms as f64;
        let errors: Vec<f64> = self
            .plans
            .iter()
            .filter(counted)
            .filter_map(|plan| Some((plan.realised? - plan.predicted).abs()))
            .collect();
        let measures = &mut self.measures;
        measures.balance = RESOURCES.iter().map(|name| (*name).to_owned()).zip(self.sums.map(mean)).collect();
        measures.data_moved = measures.bytes_moved / all_bytes.max(1.0);
        measures.moved_again = self.times_moved.iter().filter(|times| **times > 1).count() as u64;
        measures.thrashing = self.ways.values().map(wasted).sum::<f64>() / nodes;
        measures.prediction_error = (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64);
        measures.recovery_s = (measures.recovered > 0).then(|| self.recovery_s / measures.recovered as f64);
        measures.overloaded = self.overloaded_s / seconds;
        measures.p99_factor_mean = self.p99_s / seconds;
        measures.shards = self.size.shards;
        (self.measures, self.plans, self.charts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(imbalance: f64) -> State {
        let evenness = [Evenness { imbalance, floor: 1.0 }; 3];
        State { evenness, hottest: 0.5, p99_factor: 1.0, drained: true, nodes: 3, staying: 3 }
    }

    #[test]
    fn a_balance_that_a_plan_passes_through_is_no_recovery() {
        let mut measure = Measure::new(0, 100_000, 1_000);
        let mut now_ms = 0;
        measure.disturb(now_ms);
        for (imbalance, lasts_ms) in [(1.5, 10_000), (1.05, 1_000), (1.2, 5_000), (1.05, 9_000), (1.3, 1_000)] {
            measure.see(now_ms, &state(imbalance));
            measure.pass(now_ms, now_ms + lasts_ms, &state(imbalance));
            now_ms += lasts_ms;
        }
        let (measures, ..) = measure.finish(1.0);
        assert_eq!((measures.disturbances, measures.recovered, measures.recovery_s), (1, 1, Some(16.0)));
    }
}
