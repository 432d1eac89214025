//! What was moved lately: what budgets and cool-downs count. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::Ledger;
use crate::model::{CycleReport, MigrationReport, NodeId, Primary, SlotId, SlotSet, Snapshot};

/// The guard's budgets are per hour and per day.
const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// What was moved lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Past {
    last_moved_ms: BTreeMap<SlotId, u64>,
    pair_failed_ms: BTreeMap<(NodeId, NodeId), u64>,
    /// Time, slots and bytes of each migration of the past day, oldest first.
    day: VecDeque<(u64, u64, u64)>,
}

/// The same for another daemon to read: JSON has no tables by pairs.
#[derive(Serialize, Deserialize)]
struct Written {
    /// By time: slots that moved together are one entry.
    moved: Vec<(u64, SlotSet)>,
    failed: Vec<(NodeId, NodeId, u64)>,
    day: VecDeque<(u64, u64, u64)>,
}

impl From<Past> for Written {
    fn from(past: Past) -> Self {
        let failed = past.pair_failed_ms.into_iter().map(|((source, target), at_ms)| (source, target, at_ms));
        let mut moved: BTreeMap<u64, Vec<SlotId>> = BTreeMap::new();
        for (slot, at_ms) in past.last_moved_ms {
            moved.entry(at_ms).or_default().push(slot);
        }
        let moved = moved.into_iter().map(|(at_ms, slots)| (at_ms, slots.into_iter().collect()));
        Self { moved: moved.collect(), failed: failed.collect(), day: past.day }
    }
}

impl From<Written> for Past {
    fn from(written: Written) -> Self {
        let failed = written.failed.into_iter().map(|(source, target, at_ms)| ((source, target), at_ms));
        let moved = written.moved.iter().flat_map(|(at_ms, slots)| slots.iter().map(move |slot| (slot, *at_ms)));
        Self { last_moved_ms: moved.collect(), pair_failed_ms: failed.collect(), day: written.day }
    }
}

impl Past {
    /// Takes note of what a report tells of; the oldest comes first.
    pub(crate) fn note_cycle(&mut self, report: &CycleReport) {
        let at_ms = ended_at_ms(report);
        report.migrations.iter().for_each(|migration| self.note(at_ms, migration));
    }

    /// Takes note of a migration that ended.
    pub(crate) fn note(&mut self, at_ms: u64, migration: &MigrationReport) {
        if migration.has_failed() {
            self.pair_failed_ms.insert((migration.source.clone(), migration.target.clone()), at_ms);
        }
        self.note_slots(at_ms, &migration.moved, migration.bytes);
    }

    /// When the newest move that it knows of ended, Unix time in milliseconds; 0 when it knows of none.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.day.back().map_or(0, |(at_ms, ..)| *at_ms)
    }

    /// Takes note of slots that moved.
    pub(crate) fn note_slots(&mut self, at_ms: u64, slots: &SlotSet, bytes: u64) {
        if slots.is_empty() {
            return;
        }
        self.last_moved_ms.extend(slots.iter().map(|slot| (slot, at_ms)));
        self.note_amount(at_ms, slots.len() as u64, bytes);
    }

    /// Takes note of how many slots moved, where it is not known which.
    pub(crate) fn note_amount(&mut self, at_ms: u64, slots: u64, bytes: u64) {
        self.day.push_back((at_ms, slots, bytes));
    }

    /// What the guard should know at `now_ms`.
    pub(crate) fn ledger(&mut self, now_ms: u64, ours: SlotSet, known_nodes: Option<BTreeSet<NodeId>>) -> Ledger {
        while self.day.front().is_some_and(|(at_ms, ..)| at_ms + DAY_MS <= now_ms) {
            self.day.pop_front();
        }
        let sums = |since_ms: u64| {
            let moved = self.day.iter().rev().take_while(move |(at_ms, ..)| at_ms + since_ms > now_ms);
            moved.fold((0, 0), |(slots, bytes), moved| (slots + moved.1, bytes + moved.2))
        };
        let ((moves_past_hour, bytes_past_hour), (moves_past_day, bytes_past_day)) = (sums(HOUR_MS), sums(DAY_MS));
        Ledger {
            last_moved_ms: self.last_moved_ms.clone(),
            moves_past_hour,
            bytes_past_hour,
            moves_past_day,
            bytes_past_day,
            our_open_slots: ours,
            known_nodes,
            pair_failed_ms: self.pair_failed_ms.clone(),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a duration in milliseconds")]
fn ended_at_ms(report: &CycleReport) -> u64 {
    let timings = report.timings;
    let took_ms = timings.collect_ms + timings.policy_ms + timings.review_ms + timings.migrate_ms;
    report.started_at_ms + took_ms as u64
}

/// The nodes that belong to the cluster as we know it, after a look at it.
///
/// Whoever joins without slots is one of us from then on, and stays one when slots come to it. Whoever turns up with
/// slots is not: it may be another cluster behind the same address. At the first look ever all are.
pub(crate) fn members(known: Option<BTreeSet<NodeId>>, snapshot: &Snapshot) -> BTreeSet<NodeId> {
    let Some(mut known) = known else { return all_members(snapshot) };
    let with_slots: BTreeSet<u32> = snapshot.owners.as_slice().iter().copied().collect();
    let empty = (0u32..).zip(&snapshot.primaries).filter(|(index, _)| !with_slots.contains(index));
    known.extend(empty.map(|(_, primary)| primary.id.clone()));
    known.extend(snapshot.replicas.iter().map(|replica| replica.id.clone()));
    known
}

/// Every node that is there.
fn all_members(snapshot: &Snapshot) -> BTreeSet<NodeId> {
    snapshot.members().map(|(id, _)| id.clone()).collect()
}

/// Primaries that own slots and are not among the `known` nodes.
pub(crate) fn strangers<'a>(known: &BTreeSet<NodeId>, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Primary> {
    let unknown = (0..).zip(&snapshot.primaries).filter(|(_, primary)| !known.contains(&primary.id));
    unknown.filter(|(index, _)| !snapshot.slots_of(*index).is_empty()).map(|(_, primary)| primary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, CycleOutcome, Mode, NO_OWNER, Owners, Primary, Protocol, SLOT_COUNT, Timings};

    fn past_of(reports: &[CycleReport]) -> Past {
        let mut past = Past::default();
        reports.iter().for_each(|report| past.note_cycle(report));
        past
    }

    #[test]
    fn budgets_and_cool_downs_are_rebuilt_from_the_history() {
        let reports = [report(0, "1-10", 100), report(HOUR_MS / 2, "10-11", 20)];
        let mut past = past_of(&reports);
        let ledger = past.ledger(HOUR_MS / 2 + 2_000, SlotSet::default(), None);
        assert_eq!((ledger.moves_past_hour, ledger.bytes_past_hour), (12, 120));
        let moved = |slot: u16| ledger.last_moved_ms.get(&SlotId::new(slot).expect("slot")).copied();
        assert_eq!((moved(1), moved(10), moved(12)), (Some(1_000), Some(HOUR_MS / 2 + 1_000), None));
        let ledger = past.ledger(HOUR_MS + 1_000, SlotSet::default(), None);
        assert_eq!((ledger.moves_past_hour, ledger.bytes_past_hour), (2, 20), "the first one is an hour ago");
        assert_eq!((ledger.moves_past_day, ledger.bytes_past_day), (12, 120));
        let ledger = past.ledger(DAY_MS + 1_000, SlotSet::default(), None);
        assert_eq!((ledger.moves_past_hour, ledger.moves_past_day, ledger.bytes_past_day), (0, 2, 20), "and a day");
    }

    #[test]
    fn a_pair_that_failed_is_remembered() {
        let mut failed = report(0, "", 0);
        failed.migrations[0].stayed.push((SlotId::new(7).expect("slot"), "IOERR".into()));
        let past = past_of(&[failed]);
        let told = serde_json::to_string(&past).expect("plain");
        let mut past_of_another = serde_json::from_str::<Past>(&told).expect("the same");
        assert_eq!(past_of_another, past);
        let ledger = past_of_another.ledger(2_000, SlotSet::default(), None);
        assert_eq!(ledger.pair_failed_ms.get(&(node(1), node(2))), Some(&1_000));
        assert_eq!(ledger.moves_past_hour, 0);
    }

    #[test]
    fn a_node_that_joined_empty_is_known_and_one_that_turns_up_with_slots_is_not() {
        let known = members(None, &snapshot(&[(1, true), (2, true)]));
        assert_eq!(known, [node(1), node(2)].into());
        let known = members(Some(known), &snapshot(&[(1, true), (2, true), (3, false), (4, true)]));
        assert_eq!(known, [node(1), node(2), node(3)].into());
        let known = members(Some(known), &snapshot(&[(1, true), (2, true), (3, true), (4, true)]));
        assert_eq!(known, [node(1), node(2), node(3)].into(), "the third got slots from us");
    }

    fn node(number: usize) -> NodeId {
        format!("{number:040x}").parse().expect("node id")
    }

    fn report(started_at_ms: u64, moved: &str, bytes: u64) -> CycleReport {
        CycleReport {
            migrations: vec![MigrationReport {
                source: node(1),
                target: node(2),
                protocol: Protocol::Classic,
                moved: moved.parse().expect("slots"),
                stayed: Vec::new(),
                keys: 0,
                bytes,
                duration_ms: 900,
                pace: crate::model::PaceReport::default(),
            }],
            outcome: CycleOutcome::Executed,
            timings: Timings { collect_ms: 100.0, migrate_ms: 900.0, ..Timings::default() },
            ..CycleReport::begin(1, started_at_ms, Mode::Auto)
        }
    }

    /// Nodes by number, with or without slots.
    fn snapshot(nodes: &[(usize, bool)]) -> Snapshot {
        let mut owners = vec![NO_OWNER; SLOT_COUNT];
        for (index, _) in nodes.iter().enumerate().filter(|(_, (_, with_slots))| *with_slots) {
            owners[index] = u32::try_from(index).expect("few");
        }
        Snapshot {
            generation: 1,
            primaries: nodes
                .iter()
                .map(|(number, _)| Primary {
                    id: node(*number),
                    address: Address::new("h", 1),
                    hostname: None,
                    version: String::new(),
                    zone: String::new(),
                    tags: Vec::new(),
                    config_epoch: 0,
                })
                .collect(),
            owners: Owners::new(owners),
            ..Snapshot::default()
        }
    }
}
