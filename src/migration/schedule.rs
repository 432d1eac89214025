//! Which migrations run when. Pure.
//!
//! A node is never source and target at once (their epochs would race), a source feeds one target at a time (it has one
//! main thread, and one fork), and several sources may feed one target, except by Redis' atomic migration, which allows
//! a node one task in either role.

use std::collections::{BTreeSet, VecDeque};

use super::pace::{Freight, Pace, Portion};
use crate::cluster::question::AtomicProtocol;
use crate::model::{Move, NodeId, Protocol, SlotId, SlotSet};

/// A batch of slots from one primary to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migration {
    pub(crate) source: NodeId,
    pub(crate) target: NodeId,
    pub(crate) slots: SlotSet,
    /// The servers' own way, or the classic one.
    pub(crate) atomic: Option<AtomicProtocol>,
}

impl Migration {
    pub(crate) fn protocol(&self) -> Protocol {
        if self.atomic.is_some() { Protocol::Atomic } else { Protocol::Classic }
    }
}

/// All slots that are to go from one primary to another, less those that have begun to.
#[derive(Debug)]
struct Pair {
    source: NodeId,
    target: NodeId,
    atomic: Option<AtomicProtocol>,
    /// Lowest first.
    waiting: VecDeque<Cargo>,
    /// Slots that one classic migration takes.
    classic_slots: usize,
}

/// A slot with what is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cargo {
    pub(crate) slot: SlotId,
    pub(crate) keys: f64,
    pub(crate) bytes: f64,
}

/// Migrations that wait and that run.
#[derive(Debug)]
pub(crate) struct Schedule {
    pairs: Vec<Pair>,
    running: Vec<Migration>,
    concurrency: usize,
    pace: Pace,
}

/// Most slots in one classic migration: what one journal entry covers, and one look at both ends precedes.
const MOST_CLASSIC_SLOTS: usize = 512;

impl Schedule {
    /// Groups `moves` by their ends, in the order in which pairs first appear.
    pub(crate) fn new(
        moves: &[Move],
        atomic: impl Fn(&NodeId, &NodeId) -> Option<AtomicProtocol>,
        cargo: impl Fn(SlotId) -> Cargo,
        pace: Pace,
        concurrency: usize,
    ) -> Self {
        let mut pairs: Vec<Pair> = Vec::new();
        for step in moves {
            let cargo = cargo(step.slot);
            match pairs.iter_mut().find(|pair| pair.source == step.from && pair.target == step.to) {
                Some(pair) => pair.waiting.push_back(cargo),
                None => pairs.push(Pair {
                    source: step.from.clone(),
                    target: step.to.clone(),
                    atomic: atomic(&step.from, &step.to),
                    waiting: [cargo].into(),
                    classic_slots: MOST_CLASSIC_SLOTS,
                }),
            }
        }
        let lanes = pace.lanes().min(concurrency.max(1));
        for pair in &mut pairs {
            // As many in each lane, so that no lane is left with the last ones alone.
            let turns = pair.waiting.len().div_ceil(MOST_CLASSIC_SLOTS * lanes);
            pair.classic_slots = pair.waiting.len().div_ceil(turns * lanes);
            pair.waiting.make_contiguous().sort_by_key(|cargo| cargo.slot);
        }
        Self { pairs, running: Vec::new(), concurrency: concurrency.max(1), pace }
    }

    /// Whether any slot has not begun to move.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// Whether any slot of this source has not begun to move.
    pub(super) fn waits_for(&self, source: &NodeId) -> bool {
        self.pairs.iter().any(|pair| pair.source == *source)
    }

    /// The next migration that may run beside those that do; if it is atomic, with as many slots as `portion` allows for its
    /// source now.
    pub(crate) fn start_next(&mut self, portion: impl FnOnce(&NodeId) -> Portion) -> Option<Migration> {
        if self.running.len() >= self.concurrency {
            return None;
        }
        // Of those that may, a pair that stands idle before a second lane: each source has its own main thread.
        let may_start = self.pairs.iter().enumerate().filter(|(_, pair)| self.may_start(pair));
        let (place, _) = may_start.min_by_key(|(_, pair)| self.lanes_of(pair))?;
        let pair = &mut self.pairs[place];
        let slots = match (pair.atomic, pair.classic_slots) {
            (Some(form), _) => {
                let portion = portion(&pair.source);
                pair.cut(|freight| portion.holds(form, freight))
            }
            (None, slots) => pair.cut(|freight| freight.slots <= slots),
        };
        let Pair { source, target, atomic, .. } = &*pair;
        let migration = Migration { source: source.clone(), target: target.clone(), slots, atomic: *atomic };
        if pair.waiting.is_empty() {
            self.pairs.remove(place);
        }
        self.running.push(migration.clone());
        Some(migration)
    }

    fn may_start(&self, pair: &Pair) -> bool {
        let mut others = self.running.iter().filter(|running| !pair.is_of(running));
        let lanes = self.lanes_of(pair);
        let lane_is_free = lanes == 0 || pair.atomic.is_none() && lanes < self.pace.lanes();
        let sources = others.clone().filter(|running| running.target == pair.target).map(|running| &running.source);
        let room_at_target = sources.collect::<BTreeSet<_>>().len() < self.pace.sources();
        lane_is_free && room_at_target && !others.any(|running| conflict(pair, running))
    }

    /// Migrations of `pair` that run.
    fn lanes_of(&self, pair: &Pair) -> usize {
        self.running.iter().filter(|running| pair.is_of(running)).count()
    }

    /// Notes that a migration is over.
    pub(crate) fn finished(&mut self, migration: &Migration) {
        self.running.retain(|running| running != migration);
    }

    /// Takes back what is left of a migration that was held; it is the next of its kind.
    pub(super) fn put_back(&mut self, migration: Migration, cargo: impl Fn(SlotId) -> Cargo) {
        let Migration { source, target, slots, atomic } = migration;
        let left = slots.iter().map(cargo);
        match self.pairs.iter_mut().find(|pair| pair.source == source && pair.target == target) {
            Some(pair) => pair.waiting = left.chain(pair.waiting.drain(..)).collect(),
            None => {
                let classic_slots = MOST_CLASSIC_SLOTS;
                self.pairs.insert(0, Pair { source, target, atomic, waiting: left.collect(), classic_slots });
            }
        }
    }

    /// Forgets those that have not begun.
    pub(crate) fn cancel_waiting(&mut self) {
        self.pairs.clear();
    }
}

impl Pair {
    /// Whether `migration` has the same ends.
    fn is_of(&self, migration: &Migration) -> bool {
        migration.source == self.source && migration.target == self.target
    }

    /// Takes slots from the front for as long as they fit: one at least.
    fn cut(&mut self, fits: impl Fn(Freight) -> bool) -> SlotSet {
        let mut slots = Vec::new();
        let mut freight = Freight::default();
        while let Some(next) = self.waiting.front() {
            freight =
                Freight { slots: freight.slots + 1, keys: freight.keys + next.keys, bytes: freight.bytes + next.bytes };
            if !fits(freight) && !slots.is_empty() {
                break;
            }
            slots.extend(self.waiting.pop_front().map(|cargo| cargo.slot));
        }
        slots.into_iter().collect()
    }
}

/// Whether a migration of `pair` must not run beside `running`, which is of another one.
fn conflict(pair: &Pair, running: &Migration) -> bool {
    let shares_node = pair.source == running.source
        || pair.target == running.target
        || pair.source == running.target
        || pair.target == running.source;
    let one_task_per_node = [pair.atomic, running.atomic].contains(&Some(AtomicProtocol::RedisMigrationImport));
    // SETSLOT is refused on a node that has an atomic job.
    let mixed = pair.atomic != running.atomic;
    let feeds_the_same_target = pair.target == running.target && pair.source != running.source;
    if one_task_per_node || mixed { shares_node } else { shares_node && !feeds_the_same_target }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(name: char) -> NodeId {
        name.to_string().repeat(40).parse().expect("hexadecimal")
    }

    fn moves(pairs: &[(char, char, std::ops::Range<u16>)]) -> Vec<Move> {
        let step = |from, to, slot| Move {
            slot: SlotId::new(slot).expect("in range"),
            from: node(from),
            to: node(to),
            reason: String::new(),
        };
        pairs.iter().flat_map(|(from, to, slots)| slots.clone().map(|slot| step(*from, *to, slot))).collect()
    }

    const ALL: Portion = Portion { slots: usize::MAX, bytes: f64::INFINITY, hand_over: Duration::MAX };

    fn all(_: &NodeId) -> Portion {
        ALL
    }

    fn small(slot: SlotId) -> Cargo {
        Cargo { slot, keys: 10.0, bytes: 1000.0 }
    }

    #[test]
    fn several_sources_feed_one_target_but_no_node_is_both() {
        let plan = moves(&[('a', 'b', 0..1), ('b', 'c', 10..11), ('c', 'b', 20..21), ('a', 'd', 30..31)]);
        let mut schedule = Schedule::new(&plan, |_, _| None, small, Pace::Fast, 8);
        let first = schedule.start_next(all).expect("one may always run");
        let second = schedule.start_next(all).expect("another source of the same target");
        assert_eq!((first.target.clone(), second.target.clone()), (node('b'), node('b')));
        assert_eq!(first.slots.to_string(), "0");
        assert_eq!(schedule.start_next(all), None, "b and c are taken, and a feeds b");
        schedule.finished(&first);
        assert_eq!(schedule.start_next(all).expect("a is free again").target, node('d'));
    }

    #[test]
    fn few_sources_feed_one_target_at_a_time() {
        let plan = moves(&[('a', 'f', 0..1), ('b', 'f', 1..2), ('c', 'f', 2..3), ('d', 'f', 3..4), ('e', 'f', 4..5)]);
        let mut schedule = Schedule::new(&plan, |_, _| None, small, Pace::Fast, 16);
        let running: Vec<Migration> = std::iter::from_fn(|| schedule.start_next(all)).collect();
        assert_eq!(running.len(), Pace::Fast.sources());
        schedule.finished(&running[0]);
        assert_eq!(schedule.start_next(all).expect("there is room again").source, node('e'));
    }

    #[test]
    fn redis_atomic_migrations_share_no_node() {
        let plan = moves(&[('a', 'b', 0..1), ('c', 'b', 1..2), ('c', 'd', 2..3)]);
        let mut schedule =
            Schedule::new(&plan, |_, _| Some(AtomicProtocol::RedisMigrationImport), small, Pace::Default, 8);
        assert_eq!(schedule.start_next(all).expect("first").target, node('b'));
        assert_eq!(schedule.start_next(all).expect("disjoint").target, node('d'));
        assert_eq!(schedule.start_next(all), None);
    }

    #[test]
    fn atomic_migrations_take_what_the_portion_allows_now() {
        let plan = moves(&[('a', 'b', 0..100)]);
        let atomic = |_: &NodeId, _: &NodeId| Some(AtomicProtocol::ValkeyMigrateSlots);
        let mut schedule = Schedule::new(&plan, atomic, small, Pace::Default, 8);
        let mut take = |portion| {
            let migration = schedule.start_next(|_| portion).expect("a portion");
            assert_eq!(schedule.start_next(|_| portion), None, "a source forks once at a time");
            schedule.finished(&migration);
            migration.slots.to_string()
        };
        assert_eq!(take(Portion { slots: 5, ..ALL }), "0-4");
        assert_eq!(take(Portion { hand_over: Duration::from_micros(640), ..ALL }), "5-7", "44 µs each, and 500");
        assert_eq!(take(Portion { bytes: 1.0, ..ALL }), "8", "one slot at least");
        assert_eq!(take(ALL), "9-99");
        assert!(!schedule.is_waiting());
    }

    #[test]
    fn every_pair_gets_a_lane_before_one_gets_two_and_lanes_get_as_much() {
        let plan = moves(&[('a', 'd', 0..1365), ('b', 'd', 1365..2730), ('c', 'd', 2730..3000)]);
        let mut schedule = Schedule::new(&plan, |_, _| None, small, Pace::Fast, 8);
        let begun: Vec<Migration> = std::iter::from_fn(|| schedule.start_next(all)).collect();
        let sources: Vec<NodeId> = begun.iter().map(|one| one.source.clone()).collect();
        assert_eq!(sources, ['a', 'b', 'c', 'a', 'b', 'c'].map(node));
        assert_eq!(begun.iter().map(|one| one.slots.len()).collect::<Vec<_>>(), [342, 342, 135, 342, 342, 135]);
    }
}
