//! Stops a policy that goes back and forth, or that keeps promising what does not come about. Pure.

use std::collections::BTreeMap;

use crate::guard::Limits;
use crate::model::{CycleReport, NodeId, Realised, SlotId, Snapshot, Tag};

/// A promise is broken when the imbalance came out so much larger than promised. A quarter: clients are never quite what they
/// were, and a plan that misses by a tenth has still helped.
const BROKEN: f64 = 0.25;

/// What is remembered of earlier cycles.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// By slot: whom it left lately, and in which cycle.
    left: BTreeMap<SlotId, Vec<(NodeId, u64)>>,
    broken_in_a_row: u32,
}

impl Alarm {
    /// Why Ballast has to stop after this cycle, if it has to.
    pub(super) fn hear(&mut self, report: &CycleReport, snapshot: &Snapshot, limits: &Limits) -> Option<String> {
        let returned = self.returned(report, snapshot, limits.return_cycles);
        returned.or_else(|| self.broken(report.realised.as_ref()?, limits.broken_promises))
    }

    /// Forgets everything: a person looked.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A slot that is back where it was. Emptying a node is no going back and forth, whatever comes of it later.
    fn returned(&mut self, report: &CycleReport, snapshot: &Snapshot, within: u32) -> Option<String> {
        let oldest = report.cycle.saturating_sub(u64::from(within));
        self.left.retain(|_, left| {
            left.retain(|(_, cycle)| *cycle >= oldest);
            !left.is_empty()
        });
        let drains = |node: &NodeId| snapshot.primary(node).is_some_and(|node| node.is(Tag::Draining));
        let mut reason = None;
        for migration in report.migrations.iter().filter(|migration| !drains(&migration.source)) {
            for slot in migration.moved.iter() {
                let left = self.left.entry(slot).or_default();
                let back =
                    left.iter().find(|(node, _)| within > 0 && *node == migration.target).map(|(_, cycle)| *cycle);
                left.push((migration.source.clone(), report.cycle));
                if let Some(cycle) = back {
                    reason.get_or_insert_with(|| {
                        format!(
                            "slot {slot} is back on {}, which it left in cycle {cycle}: the policy goes back and forth \
                             (`ballast explain --slot {slot}` tells why)",
                            at(&migration.target, snapshot)
                        )
                    });
                }
            }
        }
        reason
    }

    fn broken(&mut self, realised: &Realised, most: u32) -> Option<String> {
        let worst = realised.imbalance.iter().max_by(|one, other| miss(one.1).total_cmp(&miss(other.1)));
        let (name, promise) = worst?;
        if miss(promise) <= BROKEN {
            self.broken_in_a_row = 0;
            return None;
        }
        self.broken_in_a_row += 1;
        let (promised, seen) = promise;
        (most > 0 && self.broken_in_a_row >= most).then(|| {
            format!(
                "{} plans in a row did not bring about what they promised; the last one, of cycle {}: {name} {promised:.2} promised, \
                 {seen:.2} seen",
                self.broken_in_a_row, realised.cycle
            )
        })
    }
}

/// By how much more came about than was promised.
fn miss((promised, seen): &(f64, f64)) -> f64 {
    seen / promised - 1.0
}

fn at(node: &NodeId, snapshot: &Snapshot) -> String {
    snapshot.primary(node).map_or_else(|| node.short().to_string(), |node| node.address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::{MigrationReport, Mode, PaceReport, Protocol};

    /// In `cycle`, slot 5 went from one node to another.
    fn moved(cycle: u64, [from, to]: [usize; 2], snapshot: &Snapshot) -> CycleReport {
        let id = |index: usize| snapshot.primaries[index].id.clone();
        let migration = MigrationReport {
            source: id(from),
            target: id(to),
            protocol: Protocol::Classic,
            moved: "5".parse().expect("slots"),
            stayed: Vec::new(),
            keys: 0,
            bytes: 0,
            duration_ms: 1,
            pace: PaceReport::default(),
        };
        CycleReport { migrations: vec![migration], ..CycleReport::begin(cycle, 0, Mode::Auto) }
    }

    #[test]
    fn a_slot_that_comes_back_soon_stops_everything_and_later_it_does_not() {
        let snapshot = synthetic(3, 1);
        let limits = Limits { return_cycles: 10, ..Limits::default() };
        let mut alarm = Alarm::default();
        assert_eq!(alarm.hear(&moved(1, [0, 1], &snapshot), &snapshot, &limits), None);
        assert_eq!(alarm.hear(&moved(5, [1, 2], &snapshot), &snapshot, &limits), None, "on to a third one");
        let why = alarm.hear(&moved(9, [2, 1], &snapshot), &snapshot, &limits).expect("it is back");
        assert!(why.contains("slot 5 is back on") && why.contains("left in cycle 5"), "{why}");
        alarm.reset();
        for (cycle, ends) in [(10, [0, 1]), (13, [1, 2])] {
            assert_eq!(alarm.hear(&moved(cycle, ends, &snapshot), &snapshot, &limits), None);
        }
        let why = alarm.hear(&moved(16, [2, 0], &snapshot), &snapshot, &limits).expect("round a ring of three");
        assert!(why.contains("left in cycle 10"), "{why}");
        alarm.reset();
        assert_eq!(alarm.hear(&moved(20, [0, 1], &snapshot), &snapshot, &limits), None);
        assert_eq!(alarm.hear(&moved(31, [1, 0], &snapshot), &snapshot, &limits), None, "eleven cycles later");
        let off = Limits { return_cycles: 0, ..Limits::default() };
        assert_eq!(alarm.hear(&moved(31, [0, 1], &snapshot), &snapshot, &off), None);
    }

    #[test]
    fn emptying_a_node_and_using_it_again_is_no_going_back_and_forth() {
        let mut snapshot = synthetic(3, 1);
        let mut alarm = Alarm::default();
        snapshot.primaries[0].tags.push(Tag::Draining);
        assert_eq!(alarm.hear(&moved(1, [0, 1], &snapshot), &snapshot, &Limits::default()), None);
        snapshot.primaries[0].tags.clear();
        assert_eq!(alarm.hear(&moved(2, [1, 0], &snapshot), &snapshot, &Limits::default()), None);
    }

    #[test]
    fn promises_that_are_broken_in_a_row_stop_everything_where_that_is_wanted() {
        let snapshot = synthetic(3, 1);
        let limits = Limits { broken_promises: 2, ..Limits::default() };
        let report = |seen| {
            let imbalance = BTreeMap::from([("cpu".to_owned(), (1.1, seen)), ("memory".to_owned(), (1.0, 1.0))]);
            let realised = Some(Realised { cycle: 7, imbalance });
            CycleReport { realised, ..CycleReport::begin(10, 0, Mode::Auto) }
        };
        let mut alarm = Alarm::default();
        assert_eq!(alarm.hear(&report(1.8), &snapshot, &limits), None);
        assert_eq!(alarm.hear(&report(1.2), &snapshot, &limits), None, "kept, more or less");
        assert_eq!(alarm.hear(&report(1.8), &snapshot, &limits), None);
        let why = alarm.hear(&report(1.9), &snapshot, &limits).expect("two in a row");
        assert!(why.contains("2 plans in a row") && why.contains("cpu 1.10 promised, 1.90 seen"), "{why}");
        assert_eq!(alarm.hear(&report(1.9), &snapshot, &Limits::default()), None, "off unless it is wanted");
    }
}
