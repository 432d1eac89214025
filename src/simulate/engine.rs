//! The discrete events of one run: looks, changes of load, what a scenario brings, ends of migrations.
//!
//! Time is a number that jumps from one event to the next. The loop is the daemon's: look, ask, review, move until all has
//! moved, look again ([`turn`]).

mod happen;
mod sizing;
mod turn;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::carry::Carrying;
use super::case::Case;
use super::judge::Judge;
use super::latency::p99_factor;
use super::measure::{Measure, State};
use super::report::Run;
use super::workload::{Workload, ms};
use super::world::World;
use crate::collector::Observer;
use crate::guard::{ApprovedPlan, Past};
use crate::model::NodeId;
use crate::policy::Policy;
use crate::scaling::Scaler;

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
    /// A node that was waited for joins.
    Arrives,
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
    scaler: Scaler,
    /// Nodes that are wanted and not there yet.
    awaited: usize,
    /// Nodes that are emptied for want of work.
    leaving: BTreeSet<NodeId>,
    members: Option<BTreeSet<NodeId>>,
    approved: Option<ApprovedPlan>,
    carrying: Option<Carrying>,
    looked_ms: u64,
    plan_began_ms: u64,
    /// Migrations begun so far.
    migrations: u64,
    /// How much longer the next migration takes.
    stuck_ms: u64,
    faults_in_a_row: u32,
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
            scaler: Scaler::default(),
            awaited: 0,
            leaving: BTreeSet::new(),
            members: None,
            approved: None,
            carrying: None,
            looked_ms: 0,
            plan_began_ms: 0,
            migrations: 0,
            stuck_ms: 0,
            faults_in_a_row: 0,
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
        for mark in case.marks.iter().filter(|mark| mark.disturbs) {
            self.at(mark.at_ms, Event::Disturbed);
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
            Event::Arrives => self.arrive(),
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

    fn sample(&mut self) {
        let loads: Vec<f64> = self.world.relative_loads();
        for (node, load) in self.world.nodes.iter().zip(loads) {
            self.measure.sample(self.now_ms, &node.id, load);
        }
        self.at(self.now_ms + self.case.cycle_ms.max(60_000), Event::Sample);
    }
}

fn state(world: &World, judge: &Judge) -> State {
    let utilisations: Vec<f64> = world.utilisations().collect();
    State {
        evenness: judge.judge(&world.owners),
        hottest: utilisations.iter().copied().fold(0.0, f64::max),
        p99_factor: p99_factor(&utilisations),
        drained: world.is_drained(),
        nodes: world.nodes.len(),
        staying: world.staying(),
    }
}

pub(super) fn hours(at_ms: u64) -> f64 {
    at_ms as f64 / 3_600_000.0
}
