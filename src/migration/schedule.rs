//! Which migrations run when. Pure.
//!
//! A node is never source and target at once (their epochs would race), a source feeds one target at a time (it has one
//! main thread, and one fork), and several sources may feed one target, except by Redis' atomic migration, which allows
//! a node one task in either role.

use std::collections::VecDeque;

use super::pace::Pace;
use super::survey::portions;
use crate::cluster::question::AtomicProtocol;
use crate::model::{Move, NodeId, Protocol, SlotId, SlotSet};

/// A batch of slots from one primary to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Migration {
    pub(super) source: NodeId,
    pub(super) target: NodeId,
    pub(super) slots: SlotSet,
    /// The servers' own way, or the classic one.
    pub(super) atomic: Option<AtomicProtocol>,
}

impl Migration {
    pub(super) fn protocol(&self) -> Protocol {
        if self.atomic.is_some() { Protocol::Atomic } else { Protocol::Classic }
    }
}

/// Migrations that wait and that run.
#[derive(Debug)]
pub(super) struct Schedule {
    waiting: VecDeque<Migration>,
    running: Vec<Migration>,
    concurrency: usize,
}

/// Slots in one classic migration: what one journal entry covers, and one look at both ends precedes.
const CLASSIC_SLOTS: usize = 512;

/// Migrations into one target: it takes them in with one main thread, and while the last changes of one wait there, writes
/// to its source wait too.
const MOST_SOURCES: usize = 4;

impl Schedule {
    /// Groups `moves` by their ends, in the order in which pairs first appear, in portions that the pace allows.
    pub(super) fn new(
        moves: &[Move],
        atomic: impl Fn(&NodeId, &NodeId) -> Option<AtomicProtocol>,
        pace: Pace,
        concurrency: usize,
    ) -> Self {
        let mut pairs: Vec<(&NodeId, &NodeId, Vec<SlotId>)> = Vec::new();
        for step in moves {
            match pairs.iter_mut().find(|(from, to, _)| **from == step.from && **to == step.to) {
                Some((_, _, slots)) => slots.push(step.slot),
                None => pairs.push((&step.from, &step.to, vec![step.slot])),
            }
        }
        let waiting = pairs
            .into_iter()
            .flat_map(|(from, to, slots)| {
                let atomic = atomic(from, to);
                let size = if atomic.is_none() { CLASSIC_SLOTS } else { pace.atomic_slots() };
                portions(&slots.into_iter().collect(), size).into_iter().map(move |slots| Migration {
                    source: from.clone(),
                    target: to.clone(),
                    slots,
                    atomic,
                })
            })
            .collect();
        Self { waiting, running: Vec::new(), concurrency: concurrency.max(1) }
    }

    /// The next migration that may run beside those that do.
    pub(super) fn start_next(&mut self) -> Option<Migration> {
        if self.running.len() >= self.concurrency {
            return None;
        }
        let sources_of = |target: &NodeId| self.running.iter().filter(|running| running.target == *target).count();
        let may_start = |waiting: &Migration| {
            !self.running.iter().any(|running| conflict(waiting, running)) && sources_of(&waiting.target) < MOST_SOURCES
        };
        let place = self.waiting.iter().position(may_start)?;
        let migration = self.waiting.remove(place)?;
        self.running.push(migration.clone());
        Some(migration)
    }

    /// Notes that a migration is over.
    pub(super) fn finished(&mut self, migration: &Migration) {
        self.running.retain(|running| running != migration);
    }

    /// Whether some have not begun.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes back what is left of a migration that was held; it is the next of its kind.
    pub(super) fn put_back(&mut self, migration: Migration) {
        self.waiting.push_front(migration);
    }

    /// Forgets those that have not begun, and returns them.
    pub(super) fn cancel_waiting(&mut self) -> Vec<Migration> {
        self.waiting.drain(..).collect()
    }
}

fn conflict(a: &Migration, b: &Migration) -> bool {
    let shares_node = a.source == b.source || a.target == b.target || a.source == b.target || a.target == b.source;
    let one_task_per_node = [a.atomic, b.atomic].contains(&Some(AtomicProtocol::RedisMigrationImport));
    // SETSLOT is refused on a node that has an atomic job.
    let mixed = a.atomic != b.atomic;
    if one_task_per_node || mixed { shares_node } else { shares_node && a.target != b.target || a.source == b.source }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn several_sources_feed_one_target_but_no_node_is_both() {
        let plan = moves(&[('a', 'b', 0..2), ('b', 'c', 10..11), ('c', 'b', 20..21), ('a', 'd', 30..31)]);
        let mut schedule = Schedule::new(&plan, |_, _| None, Pace::Default, 8);
        let first = schedule.start_next().expect("one may always run");
        let second = schedule.start_next().expect("another source of the same target");
        assert_eq!((first.target.clone(), second.target.clone()), (node('b'), node('b')));
        assert_eq!(first.slots.to_string(), "0-1");
        assert_eq!(schedule.start_next(), None, "b and c are taken, and a feeds b");
        schedule.finished(&first);
        assert_eq!(schedule.start_next().expect("a is free again").target, node('d'));
    }

    #[test]
    fn few_sources_feed_one_target_at_a_time() {
        let plan = moves(&[('a', 'f', 0..1), ('b', 'f', 1..2), ('c', 'f', 2..3), ('d', 'f', 3..4), ('e', 'f', 4..5)]);
        let mut schedule = Schedule::new(&plan, |_, _| None, Pace::Fast, 16);
        let running: Vec<Migration> = std::iter::from_fn(|| schedule.start_next()).collect();
        assert_eq!(running.len(), MOST_SOURCES);
        schedule.finished(&running[0]);
        assert_eq!(schedule.start_next().expect("there is room again").source, node('e'));
    }

    #[test]
    fn redis_atomic_migrations_share_no_node() {
        let plan = moves(&[('a', 'b', 0..1), ('c', 'b', 1..2), ('c', 'd', 2..3)]);
        let mut schedule = Schedule::new(&plan, |_, _| Some(AtomicProtocol::RedisMigrationImport), Pace::Default, 8);
        assert_eq!(schedule.start_next().expect("first").target, node('b'));
        assert_eq!(schedule.start_next().expect("disjoint").target, node('d'));
        assert_eq!(schedule.start_next(), None);
    }

    #[test]
    fn large_batches_are_portioned_by_the_pace() {
        let plan = moves(&[('a', 'b', 0..1000)]);
        let mut schedule = Schedule::new(&plan, |_, _| Some(AtomicProtocol::ValkeyMigrateSlots), Pace::Gentle, 1);
        assert_eq!(schedule.start_next().expect("a portion").slots.len(), Pace::Gentle.atomic_slots());
        assert_eq!(schedule.start_next(), None, "one at a time");
    }
}
