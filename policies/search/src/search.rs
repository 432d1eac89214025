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
use crate::covering::{Covering, Item, dot};
use crate::floor::floor;
use crate::goals::Goals;
use crate::order::{self, Step};
use crate::problem::{Duty, MAX_RESOURCES, Problem, Resource};
use crate::report::{Giant, Report, ResourceReport, Solution, Stop};
use crate::state::{EPSILON, State, Vector, Why};

/// Rounds after which a node that could not be relieved is not tried again.
const ROUNDS_MAX: usize = 4;
/// How many of the best candidates may overshoot or swap: each is tried against many nodes.
const DESPERATE_MAX: usize = 12;
/// When a node's potential has fallen to this part of what it was, its candidates are looked for anew.
const STALE: f64 = 0.8;
/// With how many of the emptiest nodes swaps are tried.
const SWAP_NODES_MAX: usize = 16;
/// How many slots of each of them.
const SWAP_SLOTS_MAX: usize = 32;
/// The part of a node's potential that a move beyond limits, or a swap, must take away: less is endless polishing.
const WORTHWHILE: f64 = 0.02;
/// What being full to the limit counts beside being above it.
const CROWDING: f64 = 0.006;
/// What all room of a resource is worth, beside all bytes, when all of it is needed.
const SCARCITY: f64 = 1.0;

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
        state.scarcity = state.scarcity();
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
    let excess = |imbalance: fn(&ResourceReport) -> f64| {
        resources.iter().filter(|one| one.active).map(|one| imbalance(one) / one.floor).fold(1.0, f64::max)
    };
    let figures = Report {
        excess_before: excess(|one| one.before),
        excess_after: excess(|one| one.after),
        moves: moves.len(),
        bytes: moves.iter().map(|step| problem.bytes[usize::from(step.slot)]).sum(),
        bytes_least,
        giants: giants(&state),
        undrained,
        stop,
        work: state.work,
        resources,
    };
    Solution { moves, report: figures }
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
    /// Sends back what found no place in the order.
    fn take_back_all_but(&mut self, ordered: &[Step]) {
        let mut kept = vec![false; self.moved.len()];
        ordered.iter().for_each(|step| kept[usize::from(step.slot)] = true);
        let dropped: Vec<u16> = (0..).zip(&self.moved).filter(|(_, why)| why.is_some()).map(|(slot, _)| slot).collect();
        for slot in dropped.into_iter().filter(|slot| !kept[usize::from(*slot)]) {
            self.shift(slot, self.problem.owners[usize::from(slot)] as usize, Why::Relief);
        }
    }

    /// Puts giants where they are best and keeps them there.
    fn place_giants(&mut self) {
        let giants: Vec<(usize, u16, usize)> = (self.levels.iter().enumerate())
            .flat_map(|(d, levels)| levels.giants.iter().map(move |(slot, node)| (d, *slot, *node as usize)))
            .collect();
        for (d, slot, node) in giants {
            let owner = self.owner[usize::from(slot)] as usize;
            if self.locked[usize::from(slot)] {
                continue;
            }
            let drained = self.problem.nodes[owner].duty == Duty::Draining;
            let wanted = owner != node && (self.triggered[d] || drained) && self.allowed(slot, node);
            if wanted && self.bears_giant(node, d, slot) {
                self.shift(slot, node, Why::Giant);
            }
            self.locked[usize::from(slot)] = !drained || self.owner[usize::from(slot)] as usize != owner;
        }
        for node in 0..self.height.len() {
            self.allow_kept(node);
        }
    }

    /// Gives slots that are too large for the node that they are on, though not for every node, to a larger one, which then
    /// sheds others in their place: otherwise everything else would be driven out of their own.
    fn rehouse(&mut self) {
        let mut outsize: Vec<(f64, u16)> = Vec::new();
        for slot in (0..).take(self.owner.len()).filter(|slot| !self.locked[usize::from(*slot)]) {
            let owner = self.owner[usize::from(slot)] as usize;
            let above = |d: usize| self.load[usize::from(slot)][d] / self.room[owner][d] / self.limit[owner][d];
            let most = (0..self.dimensions()).map(above).fold(0.0, f64::max);
            if most > 1.0 && self.problem.nodes[owner].counts() {
                outsize.push((most, slot));
            }
        }
        outsize.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        for (_, slot) in outsize {
            if let Some(node) = self.best_house(slot) {
                self.shift(slot, node, Why::Giant);
                self.locked[usize::from(slot)] = true;
            }
        }
    }

    /// The node that is least above its limits with `slot`, of those that can shed enough to stay within them.
    fn best_house(&mut self, slot: u16) -> Option<usize> {
        self.work += self.owner.len() as u64;
        let load = self.load[usize::from(slot)];
        let mut best: Option<(f64, usize)> = None;
        for node in (0..self.height.len()).filter(|node| self.allowed(slot, *node)) {
            let kept = self.kept(node);
            let bears = (0..self.dimensions()).all(|d| kept[d] + load[d] / self.room[node][d] <= self.limit[node][d] + EPSILON);
            let potential = self.potential_at(node, &self.with(node, slot));
            if bears && best.is_none_or(|(least, _)| potential < least) {
                best = Some((potential, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Whether `node` can take a giant: it sheds what may move, and what must stay leaves room for it in all resources
    /// but `d`, in which it is the giant's alone.
    fn bears_giant(&self, node: usize, d: usize, slot: u16) -> bool {
        let (kept, load) = (self.kept(node), self.load[usize::from(slot)]);
        let home = self.owner[usize::from(slot)] as usize;
        (0..self.dimensions()).all(|other| {
            let height = kept[other] + load[other] / self.room[node][other];
            // One that no node can hold is still best where it is least too much.
            let ceiling = self.ceiling[other].max(load[other] / self.room[home][other]);
            height <= ceiling && (other == d || height <= self.limit[node][other] + EPSILON)
        })
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
            if let Some(target) = self.best_fit(slot, 0.0).or_else(|| self.least_harm(slot)) {
                self.shift(slot, target, Why::Drain);
            }
        }
    }

    /// The node whose potential rises least by taking `slot`, below every ceiling.
    fn least_harm(&mut self, slot: u16) -> Option<usize> {
        self.work += self.problem.nodes.len() as u64;
        let mut best: Option<(f64, usize)> = None;
        for node in (0..self.problem.nodes.len()).filter(|node| self.allowed(slot, *node)) {
            let height = self.with(node, slot);
            if (0..self.dimensions()).any(|d| height[d] > self.ceiling[d]) {
                continue;
            }
            let harm = self.potential_at(node, &height) - self.potential(node);
            if best.is_none_or(|(least, _)| harm < least) {
                best = Some((harm, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Relieves the node with most potential until none has any, or no move helps.
    fn relieve(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut stuck = vec![false; self.problem.nodes.len()];
            let mut progress = false;
            while let Some(node) = self.hottest(&stuck) {
                if self.exhausted() {
                    return;
                }
                if self.relieve_node(node) {
                    progress = true;
                } else {
                    stuck[node] = true;
                }
            }
            if !progress || !stuck.contains(&true) {
                break;
            }
        }
    }

    /// What room is worth, by resource: the more of it is needed of what there is, the more.
    fn scarcity(&self) -> Vector {
        let (mut wanted, mut room) = ([0.0; MAX_RESOURCES], [0.0; MAX_RESOURCES]);
        for node in 0..self.height.len() {
            for d in 0..self.dimensions() {
                let over = (self.height[node][d] - self.limit[node][d]) * self.room[node][d];
                if over > 0.0 && over.is_finite() {
                    wanted[d] += over;
                } else if self.problem.nodes[node].receives() {
                    room[d] -= over;
                }
            }
        }
        let mut scarcity = [0.0; MAX_RESOURCES];
        for d in 0..self.dimensions() {
            scarcity[d] = SCARCITY * (wanted[d] / room[d].max(EPSILON)).min(1.0).powi(2);
        }
        scarcity
    }

    fn hottest(&self, stuck: &[bool]) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (node, stuck) in stuck.iter().enumerate() {
            let potential = if *stuck || !self.is_above(node) { 0.0 } else { self.potential(node) };
            if potential > EPSILON * EPSILON && best.is_none_or(|(most, _)| potential > most) {
                best = Some((potential, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Gives away what relieves `node` most per byte; whether anything could be done.
    fn relieve_node(&mut self, node: usize) -> bool {
        let count = self.slots[node].len();
        let best = self.candidates(node, (count / 16).max(32));
        if self.give(node, &best) {
            return true;
        }
        let all = self.candidates(node, count);
        if std::env::var("TRACE").is_ok() { eprintln!("stuck {node} h {:?} lim {:?} aim {:?} pot {:.4} best {} all {} first {:?}", self.height[node], self.limit[node], self.aim[node], self.potential(node), best.len(), all.len(), all.first().map(|s| (s, self.load[usize::from(*s)].map(|l| l/self.room[node][0])))); }
        self.give(node, &all) || self.overshoot(node, &all) || self.swap(node, &all)
    }

    /// Moves what still relieves `node` to where there is most room, until it needs no more relief, or so much less that
    /// other slots may be better now.
    fn give(&mut self, node: usize, candidates: &[u16]) -> bool {
        let mut progress = false;
        let enough = STALE * self.potential(node);
        for slot in candidates {
            let now = self.potential(node);
            if now <= enough || self.exhausted() {
                break;
            }
            let gain = now - self.potential_at(node, &self.without(node, *slot));
            if gain <= EPSILON * EPSILON {
                continue;
            }
            if let Some(target) = self.best_fit(*slot, gain / 4.0) {
                self.shift(*slot, target, Why::Relief);
                progress = true;
            }
        }
        progress
    }

    /// The `count` slots whose going is worth most for what it costs, best first: what each resource is worth, the covering
    /// problem of what is above the aims tells. Room at the targets is scarce, and a cost too.
    fn candidates(&mut self, node: usize, count: usize) -> Vec<u16> {
        let free: Vec<u16> =
            self.slots[node].iter().copied().filter(|slot| !self.locked[usize::from(*slot)]).collect();
        self.work += 4 * free.len() as u64;
        let items: Vec<Item> = (free.iter().map(|slot| usize::from(*slot)))
            .map(|slot| Item { load: self.load[slot], cost: self.cost[slot] + dot(&self.scarcity, &self.load[slot]) })
            .collect();
        let mut excess = [0.0; MAX_RESOURCES];
        for d in 0..self.dimensions() {
            excess[d] = (self.height[node][d] - self.aim[node][d]).max(0.0) * self.room[node][d];
        }
        let (prices, _) = Covering { items: &items, excess }.climb();
        let mut scored: Vec<(f64, u64, u16)> = Vec::new();
        for (slot, item) in free.iter().zip(&items) {
            let mut worth = 0.0;
            for d in 0..MAX_RESOURCES {
                worth += prices[d] * item.load[d].min(excess[d]);
            }
            if worth > 0.0 {
                scored.push((worth / item.cost, self.lot(*slot), *slot));
            }
        }
        best_first(&mut scored, count);
        scored.into_iter().map(|(_, _, slot)| slot).collect()
    }

    /// A move beyond the target's limits, if all potential together falls and nothing becomes higher than `node` was.
    fn overshoot(&mut self, node: usize, candidates: &[u16]) -> bool {
        let mut best: Option<(f64, u16, usize)> = None;
        for slot in candidates.iter().take(DESPERATE_MAX) {
            let gain = self.potential(node) - self.potential_at(node, &self.without(node, *slot));
            self.work += self.problem.nodes.len() as u64;
            for target in (0..self.problem.nodes.len()).filter(|target| self.allowed(*slot, *target)) {
                let height = self.with(target, *slot);
                if !self.tolerable(target, &height, node) {
                    continue;
                }
                let harm = self.potential_at(target, &height) - self.potential(target);
                let score = (gain - harm) / self.cost[usize::from(*slot)];
                if gain - harm > WORTHWHILE * self.potential(node) && best.is_none_or(|(most, ..)| score > most) {
                    best = Some((score, *slot, target));
                }
            }
        }
        best.inspect(|(_, slot, target)| self.shift(*slot, *target, Why::Relief)).is_some()
    }

    /// Whether `target` may have these heights: within its limits, or below what `node`, the reason for it, has now.
    fn tolerable(&self, target: usize, height: &Vector, node: usize) -> bool {
        (0..self.dimensions()).all(|d| {
            height[d] <= self.ceiling[d]
                && (height[d] <= self.limit[target][d].max(self.height[target][d]) + EPSILON
                    || height[d] < self.height[node][d].min(self.peak[d]) - EPSILON)
        })
    }

    /// Exchanges a slot of `node` for one of another node that takes less of what is scarce here, and more of what is there.
    fn swap(&mut self, node: usize, candidates: &[u16]) -> bool {
        if !self.problem.nodes[node].receives() {
            return false;
        }
        let (now, tension) = (self.potential(node), self.tension(node, &self.height[node]));
        let mut best: Option<(f64, u16, u16, usize)> = None;
        for other in self.roomiest(node) {
            let returns = self.exchangeable(node, other);
            let given = candidates.iter().take(DESPERATE_MAX).filter(|given| self.allowed(**given, other));
            let before = tension + self.tension(other, &self.height[other]);
            for (given, taken) in given.flat_map(|given| returns.iter().map(move |taken| (*given, *taken))) {
                let mut difference = self.load[usize::from(given)];
                for (part, less) in difference.iter_mut().zip(&self.load[usize::from(taken)]) {
                    *part -= less;
                }
                let (here, there) = (self.shifted(node, &difference, -1.0), self.shifted(other, &difference, 1.0));
                if !self.tolerable(other, &there, node) || !self.tolerable(node, &here, node) {
                    continue;
                }
                let gain = before - self.tension(node, &here) - self.tension(other, &there);
                let score = gain / (self.cost[usize::from(given)] + self.cost[usize::from(taken)]);
                if gain > WORTHWHILE * now && best.is_none_or(|(most, ..)| score > most) {
                    best = Some((score, given, taken, other));
                }
            }
            // A pair takes about as long as four slots of a scan.
            self.work += (DESPERATE_MAX.min(candidates.len()) * returns.len() * 4) as u64;
        }
        let Some((_, given, taken, other)) = best else { return false };
        self.shift(taken, node, Why::Swap);
        self.shift(given, other, Why::Swap);
        true
    }

    /// Potential, and how near the limits a node is: room that others may need.
    fn tension(&self, node: usize, height: &Vector) -> f64 {
        let mut crowding = 0.0;
        for d in 0..self.dimensions() {
            let part = (height[d] / self.limit[node][d]).min(1.0);
            let square = part * part;
            crowding += self.weight[d] * square * square * square * square;
        }
        self.potential_at(node, height) + CROWDING * crowding
    }

    /// The nodes that have most room in what `node` has too much of.
    fn roomiest(&mut self, node: usize) -> Vec<usize> {
        self.work += self.problem.nodes.len() as u64;
        let over: Vec<usize> = (0..self.dimensions()).filter(|d| self.height[node][*d] > self.aim[node][*d]).collect();
        let filled = |other: usize| over.iter().map(|d| self.height[other][*d] / self.limit[other][*d]).fold(0.0, f64::max);
        let mut cool: Vec<(f64, usize)> = (0..self.problem.nodes.len())
            .filter(|other| *other != node && self.problem.nodes[*other].receives())
            .map(|other| (filled(other), other))
            .collect();
        let order = |one: &(f64, usize), other: &(f64, usize)| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1));
        cool.sort_unstable_by(order);
        cool.into_iter().take(SWAP_NODES_MAX).map(|(_, other)| other).collect()
    }

    /// The slots of `other` that free most of what is scarce there, for what they take of what is scarce at `node`.
    fn exchangeable(&mut self, node: usize, other: usize) -> Vec<u16> {
        self.work += self.slots[other].len() as u64;
        let mut worth = [0.0; MAX_RESOURCES];
        for d in 0..self.dimensions() {
            let tight = |at: usize| (self.height[at][d] / self.limit[at][d]).powi(8) / self.room[at][d];
            worth[d] = self.weight[d] * (tight(other) - tight(node));
        }
        let free =
            self.slots[other].iter().filter(|slot| !self.locked[usize::from(**slot)] && self.allowed(**slot, node));
        let mut scored: Vec<(f64, u64, u16)> =
            free.map(|slot| (dot(&worth, &self.load[usize::from(*slot)]), self.lot(*slot), *slot)).collect();
        best_first(&mut scored, SWAP_SLOTS_MAX);
        scored.into_iter().map(|(_, _, slot)| slot).collect()
    }

    /// Brings starved nodes near the level of the others, from the fullest.
    fn fill(&mut self) {
        let enough = self.enough();
        for node in 0..self.problem.nodes.len() {
            let mut spent = vec![false; self.problem.nodes.len()];
            while self.starved[node] && self.height[node][0] < enough && !self.exhausted() {
                let Some(donor) = self.fullest(node, &spent) else { break };
                spent[donor] = !self.feed(node, donor, enough);
            }
        }
    }

    fn still_starved(&self) -> bool {
        (0..self.starved.len()).any(|node| self.starved[node] && self.height[node][0] < self.enough())
    }

    fn above_limits(&self) -> bool {
        (0..self.height.len()).any(|node| self.is_above(node))
    }

    /// Up to where starved nodes are filled, by the first resource.
    pub(crate) fn enough(&self) -> f64 {
        self.goals.first().map_or(0.0, |goal| (2.0 - goal.trigger) * self.levels[0].mean)
    }

    fn fullest(&self, hungry: usize, spent: &[bool]) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (node, spent) in spent.iter().enumerate() {
            let gives = matches!(self.problem.nodes[node].duty, Duty::Serving | Duty::Cordoned);
            let above = self.height[node][0] > self.levels[0].mean && self.levels[0].fixed[node].is_none();
            if node != hungry && !spent && gives && above {
                best = best.filter(|other| self.height[*other][0] >= self.height[node][0]).or(Some(node));
            }
        }
        best
    }

    /// Moves what fills `node` most per byte from `donor`, until it is no longer the fullest by much.
    fn feed(&mut self, node: usize, donor: usize, enough: f64) -> bool {
        self.work += self.slots[donor].len() as u64;
        let lacking = enough - self.height[node][0];
        let mut scored: Vec<(f64, u64, u16)> = Vec::new();
        for slot in &self.slots[donor] {
            let load = self.load[usize::from(*slot)];
            let gain = (load[0] / self.room[node][0]).min(lacking);
            if !self.locked[usize::from(*slot)] && gain > EPSILON && self.allowed(*slot, node) && self.fits(node, &load)
            {
                scored.push((gain / self.cost[usize::from(*slot)], self.lot(*slot), *slot));
            }
        }
        best_first(&mut scored, (self.slots[donor].len() / 64).max(4));
        let mut progress = false;
        for (_, _, slot) in scored {
            let (here, there) = (self.with(node, slot), self.without(donor, slot));
            let useful = self.height[node][0] < enough && there[0] >= here[0].min(enough);
            if useful && self.fits(node, &self.load[usize::from(slot)]) {
                self.shift(slot, node, Why::Fill);
                progress = true;
            }
        }
        progress
    }

    /// Sends back whatever its home can keep within its limits, most costly first.
    fn trim(&mut self) {
        let mut moved: Vec<u16> =
            (0..).zip(&self.moved).filter(|(_, why)| why.is_some()).map(|(slot, _)| slot).collect();
        let cost = |slot: u16| self.cost[usize::from(slot)];
        moved.sort_by(|one, other| cost(*other).total_cmp(&cost(*one)).then(one.cmp(other)));
        let enough = self.enough();
        for slot in moved {
            let (home, now) = (self.problem.owners[usize::from(slot)] as usize, self.owner[usize::from(slot)] as usize);
            let giant = matches!(self.moved[usize::from(slot)], Some((Why::Giant, _)));
            let keeps = self.problem.nodes[home].duty != Duty::Draining && !giant;
            let fed = !self.starved[now] || self.without(now, slot)[0] >= enough;
            self.work += 1;
            if keeps && fed && self.fits(home, &self.load[usize::from(slot)]) {
                self.shift(slot, home, Why::Relief);
            }
        }
    }
}

/// Keeps the `count` best, in order.
fn best_first(scored: &mut Vec<(f64, u64, u16)>, count: usize) {
    let better = |one: &(f64, u64, u16), other: &(f64, u64, u16)| {
        other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)).then(one.2.cmp(&other.2))
    };
    if scored.len() > count {
        scored.select_nth_unstable_by(count, better);
        scored.truncate(count);
    }
    scored.sort_unstable_by(better);
}

const _: () = assert!(MAX_RESOURCES == 4, "loads are read in vectors of four");
