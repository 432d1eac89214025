//! The discrete events of one run: looks, changes of load, what a scenario brings, ends of migrations.
//!
//! Time is a number that jumps from one event to the next. The loop is the daemon's: look, ask, review, move until all has
//! moved, look again.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::carry::Carrying;
use super::case::{Case, address, id, node};
use super::judge::Judge;
use super::latency::p99_factor;
use super::measure::{Measure, State};
use super::report::{PlanOutcome, Run};
use super::scenario::Event as Happening;
use super::workload::{Workload, ms};
use super::world::{Node, World};
use crate::collector::Observer;
use crate::guard::{self, ApprovedPlan, Past, members};
use crate::model::{NodeId, NodeRecord, SlotSet, Snapshot};
use crate::policy::{Policy, PolicyFailure};

/// From its death to the moment when its replica serves: the servers' default node time-out, and a vote.
const FAILOVER_MS: u64 = 16_000;
/// Ids of replicas begin here.
const REPLICAS: u64 = 1 << 32;
/// Cycles after a plan's end at which is looked what came of it.
const REALISED_AFTER: u64 = 3;

/// Unix time of the beginning, so that guard and policies see plausible times.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What happens next. Of several at the same time the first in this order goes first, so that a look sees what is new.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Clients do something else.
    Change,
    /// What the scenario has at this place.
    Happens(usize),
    /// The replica of a dead node takes over.
    Promoted(NodeId),
    /// A silent node answers again.
    Heard(NodeId),
    /// A migration ends.
    Ended(u64),
    /// Time to see what became of a plan.
    Realised(usize),
    /// The balance is disturbed.
    Disturbed,
    /// Node loads are noted.
    Sample,
    /// A cycle begins.
    Look,
    /// An approved plan begins to be carried out.
    Begin,
}

/// One policy in one case.
pub(super) struct Engine<'a> {
    case: &'a Case,
    policy: Option<Box<dyn Policy>>,
    now_ms: u64,
    queue: BinaryHeap<Reverse<(u64, Event)>>,
    workload: Workload,
    pub(super) world: World,
    judge: Judge,
    state: State,
    measure: Measure,
    observer: Observer,
    past: Past,
    members: Option<BTreeSet<NodeId>>,
    approved: Option<ApprovedPlan>,
    carrying: Option<Carrying>,
    looked_ms: u64,
    plan_began_ms: u64,
    /// Migrations begun so far.
    migrations: u64,
    /// How much longer the next migration takes.
    stuck_ms: u64,
    /// Nodes that joined so far, and replicas that took over.
    joined: usize,
    promoted: u64,
    /// Who is number so many, replicas in the place of the dead.
    numbers: Vec<NodeId>,
}

impl<'a> Engine<'a> {
    pub(super) fn new(case: &'a Case, policy: Option<Box<dyn Policy>>) -> Self {
        let mut workload = case.workload.clone();
        let loads = workload.at(0);
        let world = World::new(case.nodes.clone(), case.owners.clone(), loads, case.migration.busy);
        let judge = Judge::of(&world);
        let mut engine = Self {
            case,
            policy,
            now_ms: 0,
            queue: BinaryHeap::new(),
            state: state(&world, &judge),
            judge,
            measure: Measure::new(case.warm_up_ms, case.end_ms, case.cycle_ms),
            observer: Observer::new(&case.collect),
            past: Past::default(),
            members: None,
            approved: None,
            carrying: None,
            looked_ms: 0,
            plan_began_ms: 0,
            migrations: 0,
            stuck_ms: 0,
            joined: case.nodes.len(),
            promoted: 0,
            numbers: case.nodes.iter().map(|node| node.id.clone()).collect(),
            workload,
            world,
        };
        engine.expect();
        engine
    }

    /// Puts everything into the queue that is known beforehand.
    fn expect(&mut self) {
        for at_ms in self.workload.changes().into_iter().filter(|at_ms| *at_ms > 0) {
            self.at(at_ms, Event::Change);
        }
        let case = self.case;
        for (place, event) in case.events.iter().enumerate() {
            self.at(ms(event.at()), Event::Happens(place));
        }
        for (at_ms, _) in &case.marks {
            self.at(*at_ms, Event::Disturbed);
        }
        self.at(0, Event::Sample);
        if self.policy.is_some() {
            self.at(0, Event::Look);
        }
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.queue.push(Reverse((at_ms, event)));
    }

    /// Runs to the end.
    pub(super) fn run(mut self, label: &str) -> Run {
        while self.step() {}
        self.pass(self.case.end_ms);
        let all_bytes = self.case.bytes();
        let (measures, plans, charts) = self.measure.finish(all_bytes);
        Run { policy: label.to_owned(), measures, plans, charts }
    }

    /// Handles the next event; false when none is left before the end.
    pub(super) fn step(&mut self) -> bool {
        let Some(Reverse((at_ms, event))) = self.queue.pop() else { return false };
        if at_ms > self.case.end_ms {
            return false;
        }
        self.pass(at_ms);
        self.handle(event);
        true
    }

    fn pass(&mut self, to_ms: u64) {
        if to_ms > self.now_ms {
            self.measure.pass(self.now_ms, to_ms, &self.state);
            self.world.pass(to_ms - self.now_ms, self.case.noise.command_usec);
            self.now_ms = to_ms;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Change => {
                let loads = self.workload.at(self.now_ms);
                self.world.change(loads, self.now_ms);
                self.changed();
            }
            Event::Happens(place) => self.happen(place),
            Event::Promoted(dead) => self.promote(&dead),
            Event::Heard(node) => {
                if let Some(node) = self.world.node_mut(&node) {
                    node.silent = false;
                }
            }
            Event::Ended(number) => self.end(number),
            Event::Realised(plan) => self.realise(plan),
            Event::Disturbed => {
                self.measure.disturb(self.now_ms);
                self.measure.see(self.now_ms, &self.state);
            }
            Event::Sample => self.sample(),
            Event::Look => self.look(),
            Event::Begin => self.begin(),
        }
    }

    /// Loads or nodes are others than before.
    fn changed(&mut self) {
        self.judge = Judge::of(&self.world);
        self.moved();
    }

    /// Slots have other owners than before, or nodes are busier.
    fn moved(&mut self) {
        self.state = state(&self.world, &self.judge);
        self.measure.see(self.now_ms, &self.state);
    }

    fn happen(&mut self, place: usize) {
        let case = self.case;
        match &case.events[place] {
            // Bursts are part of the workload.
            Happening::Burst { .. } => {}
            Happening::Fail { node, .. } => {
                let Some(id) = self.numbers.get(*node).cloned() else { return };
                if let Some(node) = self.world.node_mut(&id) {
                    node.down = true;
                    self.at(self.now_ms + FAILOVER_MS, Event::Promoted(id));
                }
            }
            Happening::Join { nodes, .. } => {
                for _ in 0..*nodes {
                    let joining = Node { epoch: self.next_epoch(), ..node(self.joined, &case.newcomers) };
                    self.joined += 1;
                    self.numbers.push(joining.id.clone());
                    self.world.join(joining);
                }
            }
            Happening::Drain { nodes, .. } => {
                for number in nodes {
                    if let Some(id) = self.numbers.get(*number).cloned()
                        && let Some(node) = self.world.node_mut(&id)
                    {
                        node.draining = true;
                    }
                }
            }
            Happening::Silence { node, lasts, .. } => {
                let Some(id) = self.numbers.get(*node).cloned() else { return };
                if let Some(node) = self.world.node_mut(&id) {
                    node.silent = true;
                    self.at(self.now_ms + ms(*lasts), Event::Heard(id));
                }
            }
            Happening::Stuck { lasts, .. } => self.stuck_ms = ms(*lasts),
        }
        self.changed();
    }

    fn promote(&mut self, dead: &NodeId) {
        let heir = REPLICAS + self.promoted;
        self.promoted += 1;
        let epoch = self.next_epoch();
        self.world.promote(dead, (id(heir), address(heir - REPLICAS + (1 << 20))), epoch);
        self.numbers.iter_mut().filter(|number| *number == dead).for_each(|number| *number = id(heir));
        // Whoever follows a known node is one of the cluster, as the daemon sees it as well.
        if let Some(members) = &mut self.members {
            members.insert(id(heir));
        }
        self.changed();
    }

    /// Epochs are unique, or the collector tells of a collision.
    fn next_epoch(&self) -> u64 {
        self.world.nodes.iter().map(|node| node.epoch).max().unwrap_or(0) + 1
    }

    fn sample(&mut self) {
        let loads: Vec<f64> = self.world.relative_loads();
        for (node, load) in self.world.nodes.iter().zip(loads) {
            self.measure.sample(self.now_ms, &node.id, load);
        }
        self.at(self.now_ms + self.case.cycle_ms.max(60_000), Event::Sample);
    }

    fn look(&mut self) {
        self.looked_ms = self.now_ms;
        let snapshot = Arc::new(self.snapshot());
        self.members = Some(members(self.members.take(), &snapshot));
        let plan = self.policy.as_mut().map(|policy| policy.plan(&snapshot));
        let plan = match plan {
            Some(Ok(plan)) if !plan.moves.is_empty() => plan,
            Some(Err(failure)) => {
                self.note_failure(&failure);
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

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let answers = self.world.answers(self.now_ms, &self.case.noise, self.case.seed);
        let records: Vec<NodeRecord> = answers.iter().map(|answer| answer.record.clone()).collect();
        let (silent, marks) = (self.world.silent(), self.world.marks());
        self.observer.see_model(answers, records, &silent, &marks, EPOCH_MS + self.now_ms)
    }

    fn note_failure(&mut self, failure: &PolicyFailure) {
        if failure.kind.is_fault() && self.measure.counts(self.now_ms) {
            *self.measure.measures.faults.entry(failure.kind().to_owned()).or_default() += 1;
        }
    }

    /// Waits for the next cycle; at once if this one took longer.
    fn rest(&mut self) {
        let next_ms = (self.looked_ms + self.case.cycle_ms).max(self.now_ms + 1);
        self.at(next_ms, Event::Look);
    }

    fn begin(&mut self) {
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

    fn end(&mut self, number: u64) {
        let Some(carrying) = &mut self.carrying else { return };
        if let Some(report) = carrying.end(number, &mut self.world, self.now_ms) {
            let bytes = report.bytes as f64;
            self.measure.moved(self.now_ms, &report.moved, bytes, &report.source, &report.target);
            if let Some(plan) = self.measure.plans.last_mut() {
                plan.moves += report.moved.len() as u64;
                plan.bytes += bytes;
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
        self.at(self.now_ms + REALISED_AFTER * self.case.cycle_ms, Event::Realised(plan));
        self.rest();
    }

    fn realise(&mut self, plan: usize) {
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

fn state(world: &World, judge: &Judge) -> State {
    let utilisations: Vec<f64> = world.utilisations().collect();
    State {
        evenness: judge.judge(&world.owners),
        hottest: utilisations.iter().copied().fold(0.0, f64::max),
        p99_factor: p99_factor(&utilisations),
        drained: world.is_drained(),
    }
}

pub(super) fn hours(at_ms: u64) -> f64 {
    at_ms as f64 / 3_600_000.0
}
