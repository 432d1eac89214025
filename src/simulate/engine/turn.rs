//! One turn of the daemon's loop, cut where time passes: look, ask and review at once; then migrations, one event each.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{EPOCH_MS, Engine, Event, hours};
use crate::guard::{self, members};
use crate::model::{NodeRecord, Realised, SlotSet, Snapshot};
use crate::simulate::carry::Carrying;
use crate::simulate::report::PlanOutcome;
use crate::simulate::workload::ms;

/// A policy that failed so often in a row is not asked any more.
const FAULTS_MAX: u32 = 10;

impl Engine<'_> {
    pub(super) fn look(&mut self) {
        self.looked_ms = self.now_ms;
        self.forget_emptied();
        let snapshot = Arc::new(self.snapshot());
        self.members = Some(members(self.members.take(), &snapshot));
        let plan = self.policy.as_mut().map(|policy| policy.plan(&snapshot));
        if let Some(Ok(_)) = plan {
            self.faults_in_a_row = 0;
            self.size(&snapshot);
        }
        let plan = match plan {
            Some(Ok(plan)) if !plan.moves.is_empty() => plan,
            Some(Err(failure)) => {
                self.measure.failed(self.now_ms, &failure);
                self.faults_in_a_row += u32::from(failure.kind.is_fault());
                // A policy that runs into its deadline each time would take hours to say the same.
                if self.faults_in_a_row >= FAULTS_MAX {
                    self.policy = None;
                    self.measure.measures.given_up = Some(failure.to_string());
                    return;
                }
                return self.rest();
            }
            _ => return self.rest(),
        };
        let unix_ms = EPOCH_MS + self.now_ms;
        let ledger = self.past.ledger(unix_ms, SlotSet::default(), self.members.clone());
        let verdict = guard::review(&plan, &snapshot, &self.case.limits, &ledger, unix_ms);
        if self.measure.counts(self.now_ms) {
            self.measure.measures.plans += 1;
            for refusal in &verdict.refusals {
                let held = self.measure.measures.refusals.entry(refusal.check.as_str().to_owned()).or_default();
                *held += refusal.slots.len() as u64;
            }
        }
        if verdict.approved.is_empty() {
            return self.rest();
        }
        let before = self.state.evenness[0].imbalance;
        self.realise_last();
        self.measure.plans.push(PlanOutcome {
            at_hours: hours(self.now_ms),
            summary: plan.summary,
            moves: 0,
            bytes: 0.0,
            took_s: 0.0,
            before,
            predicted: verdict.predictions.get("cpu").map_or(before, |prediction| prediction.imbalance_after),
            realised: None,
        });
        self.approved = Some(verdict.approved);
        self.at(self.now_ms + ms(self.case.migration.delay), Event::Begin);
    }

    pub(in crate::simulate) fn snapshot(&mut self) -> Snapshot {
        let answers = self.world.answers(self.now_ms, &self.case.noise, self.case.seed);
        let records: Vec<NodeRecord> = answers.iter().map(|answer| answer.record.clone()).collect();
        let (silent, marks) = (self.world.silent(), self.world.marks());
        self.observer.see_model(answers, records, &silent, &marks, EPOCH_MS + self.now_ms)
    }

    /// Waits for the next cycle; at once if this one took longer.
    fn rest(&mut self) {
        let next_ms = (self.looked_ms + self.case.cycle_ms).max(self.now_ms + 1);
        self.at(next_ms, Event::Look);
    }

    pub(super) fn begin(&mut self) {
        let Some(approved) = self.approved.take() else { return };
        self.plan_began_ms = self.now_ms;
        self.carrying = Some(Carrying::of(&approved, &self.world));
        self.go_on();
    }

    /// Begins what may run now, or ends the turn.
    fn go_on(&mut self) {
        let Some(carrying) = &mut self.carrying else { return };
        let begun = carrying.begin(&mut self.world, self.now_ms, &mut self.migrations, &self.case.migration);
        for (number, ends_ms) in begun {
            let ends_ms = ends_ms + std::mem::take(&mut self.stuck_ms);
            self.queue.push(Reverse((ends_ms, Event::Ended(number))));
        }
        let over = carrying.is_over();
        self.moved();
        if over {
            self.end_turn();
        }
    }

    pub(super) fn end(&mut self, number: u64) {
        let Some(carrying) = &mut self.carrying else { return };
        if let Some(report) = carrying.end(number, &mut self.world, self.now_ms) {
            let between_zones = self.world.zone_of(&report.source) != self.world.zone_of(&report.target);
            self.measure.moved(self.now_ms, &report, between_zones);
            if let Some(plan) = self.measure.plans.last_mut() {
                plan.moves += report.moved.len() as u64;
                plan.bytes += report.bytes as f64;
            }
        }
        self.go_on();
    }

    fn end_turn(&mut self) {
        let Some(carrying) = self.carrying.take() else { return };
        for report in &carrying.reports {
            self.past.note(EPOCH_MS + self.now_ms, report);
            self.observer.slots_moved(&report.moved, EPOCH_MS + self.now_ms);
            if !report.stayed.is_empty() && self.measure.counts(self.now_ms) {
                self.measure.measures.failed_migrations += 1;
            }
        }
        let plan = self.measure.plans.len().saturating_sub(1);
        if let Some(plan) = self.measure.plans.last_mut() {
            plan.took_s = (self.now_ms - self.plan_began_ms) as f64 / 1000.0;
        }
        self.at(self.now_ms + Realised::AFTER_CYCLES * self.case.cycle_ms, Event::Realised(plan));
        self.rest();
    }

    pub(super) fn realise(&mut self, plan: usize) {
        let imbalance = self.state.evenness[0].imbalance;
        if let Some(plan) = self.measure.plans.get_mut(plan) {
            plan.realised.get_or_insert(imbalance);
        }
    }

    /// The next plan ends the time in which the last one shows what it is worth.
    fn realise_last(&mut self) {
        if let Some(last) = self.measure.plans.len().checked_sub(1) {
            self.realise(last);
        }
    }
}
