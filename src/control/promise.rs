//! What a plan promised, until it can be said what came of it. Pure.

use std::collections::BTreeMap;

use crate::model::{CycleOutcome, CycleReport, Prediction, Realised};

/// The last plan that was carried out, and what it promised.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    cycle: u64,
    promised: BTreeMap<String, f64>,
}

impl Promise {
    /// What the plan of this cycle promised; nothing unless all of it was carried out, for predictions are of all of it.
    pub(super) fn of(report: &CycleReport) -> Option<Self> {
        let promised = report.predictions.iter().map(|(name, seen)| (name.clone(), seen.imbalance_after));
        (report.outcome == CycleOutcome::Executed).then(|| Self { cycle: report.cycle, promised: promised.collect() })
    }

    /// Whether rates have settled by `cycle`.
    pub(super) const fn is_due(&self, cycle: u64) -> bool {
        cycle >= self.cycle + Realised::AFTER_CYCLES
    }

    /// What came of it, by how even the cluster is `now`.
    pub(super) fn realised(self, now: &BTreeMap<String, Prediction>) -> Realised {
        let seen = |(name, promised): (String, f64)| {
            let realised = now.get(&name)?.imbalance_before;
            Some((name, (promised, realised)))
        };
        Realised { cycle: self.cycle, imbalance: self.promised.into_iter().filter_map(seen).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mode;

    fn report(cycle: u64, outcome: CycleOutcome, after: f64) -> CycleReport {
        let cpu = Prediction { imbalance_before: 1.4, imbalance_after: after, floor: 1.0 };
        let predictions = BTreeMap::from([("cpu".to_owned(), cpu)]);
        CycleReport { predictions, outcome, ..CycleReport::begin(cycle, 0, Mode::Auto) }
    }

    #[test]
    fn what_came_of_a_plan_is_said_once_rates_have_settled() {
        let promise = Promise::of(&report(7, CycleOutcome::Executed, 1.05)).expect("it was carried out");
        assert!(!promise.is_due(9) && promise.is_due(10));
        let now = BTreeMap::from([
            ("cpu".to_owned(), Prediction { imbalance_before: 1.11, imbalance_after: 1.11, floor: 1.0 }),
            ("memory".to_owned(), Prediction { imbalance_before: 2.0, imbalance_after: 2.0, floor: 1.0 }),
        ]);
        let realised = promise.realised(&now);
        assert_eq!((realised.cycle, realised.imbalance), (7, BTreeMap::from([("cpu".to_owned(), (1.05, 1.11))])));
    }

    #[test]
    fn a_plan_of_which_a_part_was_carried_out_promised_nothing() {
        for outcome in [CycleOutcome::Planned, CycleOutcome::Incomplete { reason: "stopped".to_owned() }] {
            assert!(Promise::of(&report(7, outcome, 1.05)).is_none());
        }
    }
}
