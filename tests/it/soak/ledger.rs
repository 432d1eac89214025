//! Whether every change of a slot's owner is explained by what the daemon wrote down. Pure.
//!
//! A move is in the report of its cycle, slot by slot. A daemon that is killed amid a cycle leaves no report: what it had begun
//! is in its journal, with the slots that were meant, and how many of them had moved once the next daemon had looked. So a change
//! that only the journal explains is known by its slot, its ends and its time, and where some slots of a migration stayed, not by
//! which ones these were. A primary that is succeeded by a replica of its own has not moved anything.

use std::collections::{BTreeMap, BTreeSet};

use ballast::model::{CycleReport, NodeId, SlotId, SlotSet};
use ballast::store::JournalEntry;

/// Clocks are the same, and a server tells us of a new owner a little later than it told the daemon.
const SLACK_MS: u64 = 1500;

/// Hands that a slot goes through between two looks, at most: a succession, a move, and a succession.
const HANDS: usize = 3;

/// A slot was seen with another owner than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) slot: SlotId,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    /// When the owner before was last seen to own it, in Unix milliseconds.
    pub(super) after_ms: u64,
    /// When the new one was.
    pub(super) by_ms: u64,
}

/// A replica and whom it follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Following {
    pub(super) primary: NodeId,
    pub(super) replica: NodeId,
}

/// All that was seen of the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Sightings {
    pub(super) changes: Vec<Change>,
    /// When each was seen, as spans of Unix milliseconds: a new one begins where the last look was too long ago.
    followings: BTreeMap<Following, Vec<(u64, u64)>>,
}

impl Sightings {
    pub(super) fn follows(&mut self, following: Following, at_ms: u64) {
        let spans = self.followings.entry(following).or_default();
        match spans.last_mut() {
            Some((_, last)) if at_ms.saturating_sub(*last) <= 2 * SLACK_MS => *last = at_ms,
            _ => spans.push((at_ms, at_ms)),
        }
    }
}

/// What explains the changes.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Slots that moved as the report of a cycle says.
    pub(super) by_cycles: usize,
    /// Slots that moved as only the journal says: their daemon was killed, or the end of their migration was in doubt.
    pub(super) by_journal: usize,
    /// Those of them whose migration ended with some slots moved and some not: the journal does not say which.
    pub(super) by_intent: usize,
    /// Slots whose primary was succeeded by its replica.
    pub(super) by_successions: usize,
    /// Slots that a person gave to an owner meanwhile.
    pub(super) by_person: usize,
    /// What nothing explains.
    pub(super) unexplained: Vec<Change>,
}

/// One hand to another, in a span of time.
struct Edge<'a> {
    from: Vec<&'a NodeId>,
    to: Vec<&'a NodeId>,
    span_ms: (u64, u64),
    because: Because,
}

/// From the best explanation to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Because {
    Succession,
    Cycle,
    Journal,
    Intent,
}

/// Slots that a person mended, and when.
pub(super) type Mended<'a> = (&'a SlotSet, (u64, u64));

/// Judges what was seen by the reports of all cycles that moved slots, by the journal, and by what a person mended.
pub(super) fn judge(
    seen: &Sightings,
    cycles: &[CycleReport],
    journal: &[JournalEntry],
    mended: &[Mended<'_>],
) -> Verdict {
    let told = edges(cycles, journal);
    let mut verdict = Verdict::default();
    for change in &seen.changes {
        let window = (change.after_ms.saturating_sub(SLACK_MS), change.by_ms + SLACK_MS);
        let moves = told.get(&change.slot).into_iter().flatten().filter(|edge| meet(edge.span_ms, window));
        let moves: Vec<(Hands<'_>, Because)> = moves.map(|edge| ((&*edge.from, &*edge.to), edge.because)).collect();
        let follows = |(_, spans): &(&Following, &Vec<(u64, u64)>)| spans.iter().any(|span| meet(*span, window));
        let followings: Vec<&Following> =
            seen.followings.iter().filter(follows).map(|(following, _)| following).collect();
        match explain(change, &moves, &followings) {
            None if mended.iter().any(|(slots, span)| slots.contains(change.slot) && meet(*span, window)) => {
                verdict.by_person += 1;
            }
            None => verdict.unexplained.push(change.clone()),
            Some(Because::Succession) => verdict.by_successions += 1,
            Some(Because::Cycle) => verdict.by_cycles += 1,
            Some(Because::Journal) => verdict.by_journal += 1,
            Some(Because::Intent) => {
                verdict.by_journal += 1;
                verdict.by_intent += 1;
            }
        }
    }
    verdict
}

type Hands<'a> = (&'a [&'a NodeId], &'a [&'a NodeId]);

/// The worst link of the shortest chain from the owner before to the new one.
fn explain(change: &Change, moves: &[(Hands<'_>, Because)], followings: &[&Following]) -> Option<Because> {
    let mut reached: BTreeMap<&NodeId, Because> = BTreeMap::from([(&change.from, Because::Succession)]);
    for _ in 0..HANDS {
        let mut next = reached.clone();
        for (at, so_far) in &reached {
            for following in followings.iter().filter(|following| following.primary == **at) {
                next.entry(&following.replica).or_insert(*so_far);
            }
            for ((_, to), because) in moves.iter().filter(|((from, _), _)| from.contains(at)) {
                for hand in *to {
                    let because = (*because).max(*so_far);
                    next.entry(hand).and_modify(|known| *known = because.min(*known)).or_insert(because);
                }
            }
        }
        if let Some(because) = next.get(&change.to) {
            return Some(*because);
        }
        reached = next;
    }
    None
}

/// By slot, what the daemon wrote down.
fn edges<'a>(cycles: &'a [CycleReport], journal: &'a [JournalEntry]) -> BTreeMap<SlotId, Vec<Edge<'a>>> {
    let mut edges: BTreeMap<SlotId, Vec<Edge<'a>>> = BTreeMap::new();
    let reports: BTreeMap<u64, &CycleReport> = cycles.iter().map(|report| (report.cycle, report)).collect();
    for JournalEntry { intent, ended_at_ms, ending, .. } in journal {
        let reported = cycle_of(&intent.began_by).and_then(|cycle| reports.get(&cycle));
        let by_cycle: SlotSet = reported
            .into_iter()
            .flat_map(|report| &report.migrations)
            .flat_map(|migration| migration.moved.iter())
            .collect();
        let in_report = intent.slots.iter().filter(|slot| by_cycle.contains(*slot)).count();
        let moved = ending.as_deref().map(moved_of);
        for slot in intent.slots.iter() {
            let because = match moved {
                _ if by_cycle.contains(slot) => Because::Cycle,
                // All that it says has moved, the cycle names.
                Some(moved) if moved <= in_report => continue,
                Some(moved) if moved == intent.slots.len() => Because::Journal,
                _ => Because::Intent,
            };
            edges.entry(slot).or_default().push(Edge {
                from: with(&intent.source_shard, &intent.source),
                to: with(&intent.target_shard, &intent.target),
                span_ms: (intent.started_at_ms, ended_at_ms.unwrap_or(u64::MAX - SLACK_MS)),
                because,
            });
        }
    }
    edges
}

fn with<'a>(shard: &'a [NodeId], node: &'a NodeId) -> Vec<&'a NodeId> {
    let all: BTreeSet<&NodeId> = shard.iter().chain([node]).collect();
    all.into_iter().collect()
}

/// `daemon soak, policy slots, cycle 12`: 12.
fn cycle_of(began_by: &str) -> Option<u64> {
    began_by.rsplit_once("cycle ")?.1.parse().ok()
}

/// `4 moved, 1 stayed, 0 collided`: 4.
fn moved_of(ending: &str) -> usize {
    ending.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn meet(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

#[cfg(test)]
mod tests {
    use ballast::migration::Intent;
    use ballast::model::{MigrationReport, Mode, PaceReport, Protocol};

    use super::*;

    fn node(digit: &str) -> NodeId {
        digit.repeat(40).parse().expect("a node id")
    }

    /// Slot 5 was seen to go from one node to another, at ten seconds.
    fn seen(from: &str, to: &str) -> Sightings {
        let slot = SlotId::new(5).expect("a slot");
        let change = Change { slot, from: node(from), to: node(to), after_ms: 10_000, by_ms: 10_300 };
        Sightings { changes: vec![change], followings: BTreeMap::new() }
    }

    /// Slots 4 and 5 were to go from a to b in cycle 7, from nine seconds on.
    fn entry(ending: &str) -> JournalEntry {
        let intent = Intent {
            source: node("a"),
            target: node("b"),
            source_shard: vec![node("a"), node("c")],
            target_shard: vec![node("b")],
            source_run_id: String::new(),
            source_epoch: 1,
            slots: "4-5".parse().expect("slots"),
            protocol: Protocol::Classic,
            started_at_ms: 9_000,
            began_by: "daemon soak, policy slots, cycle 7".into(),
            reason: String::new(),
        };
        JournalEntry { id: 1, intent, ended_at_ms: Some(10_100), ending: Some(ending.into()) }
    }

    /// The report of cycle 7, in which these slots moved.
    fn report(moved: &str) -> CycleReport {
        let migration = MigrationReport {
            source: node("a"),
            target: node("b"),
            protocol: Protocol::Classic,
            moved: moved.parse().expect("slots"),
            stayed: Vec::new(),
            keys: 0,
            bytes: 0,
            duration_ms: 0,
            pace: PaceReport::default(),
        };
        CycleReport { migrations: vec![migration], ..CycleReport::begin(7, 8_900, Mode::Auto) }
    }

    #[track_caller]
    fn check(verdict: &Verdict, expected: [usize; 5]) {
        let Verdict { by_cycles, by_journal, by_intent, by_successions, unexplained, .. } = verdict;
        assert_eq!([*by_cycles, *by_journal, *by_intent, *by_successions, unexplained.len()], expected, "{verdict:?}");
    }

    #[test]
    fn a_move_is_explained_by_its_cycle_or_by_the_journal_of_a_daemon_that_was_killed() {
        let journal = [entry("2 moved, 0 stayed, 0 collided")];
        check(&judge(&seen("a", "b"), &[report("4-5")], &journal, &[]), [1, 0, 0, 0, 0]);
        check(&judge(&seen("a", "b"), &[], &journal, &[]), [0, 1, 0, 0, 0]);
        check(&judge(&seen("a", "b"), &[], &[entry("1 moved, 1 stayed, 0 collided")], &[]), [0, 1, 1, 0, 0]);
    }

    #[test]
    fn a_move_by_hand_is_unexplained_whatever_else_is_said_of_the_slot() {
        let journal = [entry("2 moved, 0 stayed, 0 collided")];
        let cycles = [report("4-5")];
        check(&judge(&seen("a", "d"), &cycles, &journal, &[]), [0, 0, 0, 0, 1]);
        check(&judge(&seen("b", "a"), &cycles, &journal, &[]), [0, 0, 0, 0, 1]);
        check(&judge(&seen("a", "b"), &[], &[], &[]), [0, 0, 0, 0, 1]);
        check(&judge(&seen("a", "b"), &[], &[entry("0 moved, 2 stayed, 0 collided")], &[]), [0, 0, 0, 0, 1]);
        // The cycle says that slot 4 moved, the journal that one did: so slot 5 did not.
        check(&judge(&seen("a", "b"), &[report("4")], &[entry("1 moved, 1 stayed, 0 collided")], &[]), [0, 0, 0, 0, 1]);
        // It was over long before.
        let mut late = seen("a", "b");
        (late.changes[0].after_ms, late.changes[0].by_ms) = (60_000, 60_250);
        check(&judge(&late, &cycles, &journal, &[]), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_succession_is_no_move_and_may_come_with_one() {
        let mut seen = seen("a", "c");
        check(&judge(&seen, &[], &[], &[]), [0, 0, 0, 0, 1]);
        seen.follows(Following { primary: node("a"), replica: node("c") }, 9_800);
        check(&judge(&seen, &[], &[], &[]), [0, 0, 0, 1, 0]);

        // c succeeded a, and gave the slot to b, between two looks.
        seen.changes[0].to = node("b");
        check(&judge(&seen, &[report("4-5")], &[entry("2 moved, 0 stayed, 0 collided")], &[]), [1, 0, 0, 0, 0]);
        // Whoever followed minutes ago explains nothing now.
        (seen.changes[0].to, seen.changes[0].after_ms, seen.changes[0].by_ms) = (node("c"), 99_000, 99_250);
        check(&judge(&seen, &[], &[], &[]), [0, 0, 0, 0, 1]);
    }
}
