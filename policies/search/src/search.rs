//! The search itself: greedy, with swaps, in a fixed amount of work.
//!
//! 1. Giant slots get the node that suits them and stay there: they are placed, never chased.
//! 2. Draining nodes are emptied, largest slots first, over all survivors by load.
//! 3. The node with most potential gives away the slots that relieve it most per byte, to where there is most room
//!    within the limits. When nothing fits, a move may overshoot if all potential together falls; then swaps are tried.
//! 4. Starved nodes (new ones) are filled from the fullest ones.
//! 5. What turned out not to be needed goes back.
//!
//! Production rebalancers (Cruise Control, PD, Meta's Rebalancer) re-plan in such greedy steps rather than solve for an
//! optimum. `order` then makes every prefix of the result safe; `make bench-plan` prints how good plans are.

use crate::bytes::least_bytes;
use crate::floor::floor;
use crate::goals::Goals;
use crate::order::{self, Step};
use crate::problem::{Duty, MAX_RESOURCES, Problem, Resource};
use crate::report::{Giant, Report, ResourceReport, Solution, Stop};
use crate::state::{State, Vector, Why};
use crate::worth;

/// Plans: moves in order, and a report. An empty plan says in [`Report::stop`] why.
#[must_use]
pub fn solve(problem: &Problem, goals: &Goals) -> Solution {
    let mut state = State::new(problem, goals);
    let draining: Vec<usize> =
        (0..problem.nodes.len()).filter(|node| problem.nodes[*node].duty == Duty::Draining).collect();
    let waiting = |node: &usize| state.slots[*node].iter().any(|slot| !state.locked[usize::from(*slot)]);
    let to_drain = draining.iter().any(waiting);
    let content = !state.triggered.contains(&true) && !to_drain && !state.starved.contains(&true);
    if !content {
        state.place_giants();
        state.rehouse();
        for node in &draining {
            state.drain(*node);
        }
        state.relieve();
        state.fill();
        state.trim();
    }
    let ordered = order::order(&state);
    let (wanted, complete) = (state.moved.iter().flatten().count(), ordered.len());
    state.take_back_all_but(&ordered);
    let moves = order::within_budget(&state, ordered, goals);
    let stop = if content {
        Stop::Content
    } else if moves.len() < complete {
        Stop::Budget
    } else if state.exhausted() {
        Stop::Work
    } else if complete < wanted || state.above_limits() || state.still_starved() {
        Stop::Stuck
    } else {
        Stop::Target
    };
    let bytes_least = least_bytes(&state);
    let undrained = draining.iter().map(|node| state.slots[*node].len()).sum();
    let moves = order::explain(&state, &moves);
    let after = problem.owners_after(&moves);
    let resources: Vec<ResourceReport> =
        problem.resources.iter().map(|resource| report(&state, resource, &after)).collect();
    let figures = Report {
        excess_before: state.excess(&problem.owners),
        excess_after: state.excess(&after),
        together: state.together,
        moves: moves.len(),
        bytes: moves.iter().map(|step| problem.bytes[usize::from(step.slot)]).sum(),
        bytes_least,
        spared: worth::spared(problem, &after),
        effort: worth::effort(problem, &moves),
        pressing: to_drain || state.starved.contains(&true) || state.evens_more_than("cpu"),
        giants: giants(&state),
        undrained,
        stop,
        work: state.work,
        resources,
    };
    Solution { moves, report: figures }
}

/// How far the node that is furthest above what it can be brought to is above it with slots placed as in `owners`, as a factor:
/// what [`Report::excess_before`] and [`Report::excess_after`] say of a plan, for any placement.
#[must_use]
pub fn excess(problem: &Problem, goals: &Goals, owners: &[u32]) -> f64 {
    State::new(problem, goals).excess(owners)
}

fn report(state: &State, resource: &Resource, after: &[u32]) -> ResourceReport {
    let problem = state.problem;
    let known = state.goals.iter().position(|goal| goal.name == resource.goal.name).filter(|_| resource.active);
    let (floor, set_by) = known.map_or_else(|| floor(problem, resource), |d| state.levels[d].least());
    ResourceReport {
        name: resource.name().to_owned(),
        active: resource.active,
        utilisation: problem.mean_utilisation(resource),
        before: problem.imbalance_of(resource, &problem.owners),
        after: problem.imbalance_of(resource, after),
        floor,
        set_by,
    }
}

fn giants(state: &State) -> Vec<Giant> {
    let mut giants = Vec::new();
    for (levels, goal) in state.levels.iter().zip(&state.goals) {
        for (slot, node) in &levels.giants {
            let share = levels.fixed[*node as usize].unwrap_or(0.0);
            giants.push(Giant {
                slot: *slot,
                resource: goal.name.clone(),
                node: *node,
                share,
                advice: format!(
                    "slot {slot} alone is {share:.2} times a node's fair share of {}: no placement can even it out; split its \
                     hottest or largest key, spread reads over replicas, or give it a larger node",
                    goal.name
                ),
            });
        }
    }
    giants
}

impl State<'_> {
    /// How far the node that is furthest above what it can be brought to is above it, as a factor, by any resource.
    fn excess(&self, owners: &[u32]) -> f64 {
        let mut heights = vec![[0.0; MAX_RESOURCES]; self.height.len()];
        for (load, owner) in self.load.iter().zip(owners) {
            if let Some(height) = heights.get_mut(*owner as usize) {
                let room = &self.room[*owner as usize];
                (0..MAX_RESOURCES).for_each(|d| height[d] += load[d] / room[d]);
            }
        }
        let counted = heights.iter().enumerate().filter(|(node, _)| self.problem.nodes[*node].counts());
        let above = |(node, height): (usize, &Vector)| {
            (0..self.dimensions()).map(|d| height[d] / self.level(node, d)).fold(0.0, f64::max)
        };
        counted.map(above).fold(1.0, f64::max)
    }

    /// Whether another resource than `name` is above its trigger.
    fn evens_more_than(&self, name: &str) -> bool {
        self.goals.iter().zip(self.triggered).any(|(goal, triggered)| triggered && goal.name != name)
    }

    /// Sends back what found no place in the order.
    fn take_back_all_but(&mut self, ordered: &[Step]) {
        let mut kept = vec![false; self.moved.len()];
        ordered.iter().for_each(|step| kept[usize::from(step.slot)] = true);
        let dropped: Vec<u16> = (0..).zip(&self.moved).filter(|(_, why)| why.is_some()).map(|(slot, _)| slot).collect();
        for slot in dropped.into_iter().filter(|slot| !kept[usize::from(*slot)]) {
            self.shift(slot, self.problem.owners[usize::from(slot)] as usize, Why::Relief);
        }
    }

    /// Empties a node over all others by load: where a slot fits, else where it does least harm, never beyond a ceiling.
    fn drain(&mut self, node: usize) {
        let mut slots: Vec<u16> =
            self.slots[node].iter().copied().filter(|slot| !self.locked[usize::from(*slot)]).collect();
        let size = |slot: &u16| self.load[usize::from(*slot)].iter().copied().fold(0.0, f64::max);
        slots.sort_by(|one, other| size(other).total_cmp(&size(one)).then(one.cmp(other)));
        for slot in slots {
            if self.exhausted() {
                break;
            }
            let idle = self.load[usize::from(slot)].iter().all(|load| *load == 0.0);
            let target =
                if idle { self.fewest_slots(slot) } else { self.best_fit(slot, 0.0).or_else(|| self.least_harm(slot)) };
            if let Some(target) = target {
                self.shift(slot, target, Why::Drain);
            }
        }
    }

    /// The node with the fewest slots: where a slot goes that nobody feels yet, so that not one node gets all that is to come.
    fn fewest_slots(&mut self, slot: u16) -> Option<usize> {
        self.work += self.problem.nodes.len() as u64;
        let allowed = (0..self.problem.nodes.len()).filter(|node| self.allowed(slot, *node));
        allowed.min_by_key(|node| self.slots[*node].len())
    }

    /// The node whose potential rises least by taking `slot`, below every ceiling.
    fn least_harm(&mut self, slot: u16) -> Option<usize> {
        self.work += self.problem.nodes.len() as u64;
        let mut best: Option<(f64, usize)> = None;
        for node in (0..self.problem.nodes.len()).filter(|node| self.allowed(slot, *node)) {
            let height = self.with(node, slot);
            if (0..self.dimensions()).any(|d| height[d] > self.ceiling[node][d]) {
                continue;
            }
            let harm = self.potential_at(node, &height) - self.potential[node];
            if best.is_none_or(|(least, _)| harm < least) {
                best = Some((harm, node));
            }
        }
        best.map(|(_, node)| node)
    }

    fn above_limits(&self) -> bool {
        (0..self.height.len()).any(|node| self.is_above(node))
    }

    /// Sends back whatever its home can keep within its limits, most costly first.
    fn trim(&mut self) {
        let mut moved: Vec<u16> =
            (0..).zip(&self.moved).filter(|(_, why)| why.is_some()).map(|(slot, _)| slot).collect();
        let cost = |slot: u16| self.cost[usize::from(slot)];
        moved.sort_by(|one, other| cost(*other).total_cmp(&cost(*one)).then(one.cmp(other)));
        for slot in moved {
            let (home, now) = (self.problem.owners[usize::from(slot)] as usize, self.owner[usize::from(slot)] as usize);
            let giant = matches!(self.moved[usize::from(slot)], Some((Why::Giant, _)));
            let keeps = self.problem.nodes[home].duty != Duty::Draining && !giant;
            let fed = !self.starved[now] || self.without(now, slot)[0] >= self.enough(now);
            self.work += 1;
            if keeps && fed && self.fits(home, &self.load[usize::from(slot)]) {
                self.shift(slot, home, Why::Relief);
            }
        }
    }
}

const _: () = assert!(MAX_RESOURCES == 4, "loads are read in vectors of four");
