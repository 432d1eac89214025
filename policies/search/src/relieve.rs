//! Giving: nodes that have too much give what relieves them most for what it costs, to where there is room for it.

use crate::covering::{Covering, Item, dot};
use crate::problem::MAX_RESOURCES;
use crate::state::{EPSILON, State, Vector, Why};

/// Rounds after which a node that could not be relieved is not tried again.
const ROUNDS_MAX: usize = 4;
/// When a node's potential has fallen to this part of what it was, its candidates are looked for anew.
const STALE: f64 = 0.8;
/// The part of what a move relieves its node of that it may add to another that has too much itself.
const PATIENCE: f64 = 0.15;
/// How many of the best candidates may overshoot or be exchanged: each is tried against many nodes.
pub(crate) const DESPERATE_MAX: usize = 12;
/// With how many of the roomiest nodes.
const ROOMIEST_MAX: usize = 16;
/// The part of a node's potential that such a move must take away: less is endless polishing.
pub(crate) const WORTHWHILE: f64 = 0.05;
/// What all room of a resource is worth, beside all bytes, when all of it is needed.
const SCARCITY: f64 = 1.0;

/// A slot with how much it is worth for its cost, and a lot to break ties.
type Scored = (f64, u64, u16);

impl State<'_> {
    /// Relieves the node with most potential until none has any, or no move helps.
    pub(crate) fn relieve(&mut self) {
        self.scarcity = self.scarcity();
        for _ in 0..ROUNDS_MAX {
            let mut stuck = vec![false; self.potential.len()];
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
        for (node, left) in self.left.iter().enumerate().filter(|(node, _)| self.problem.nodes[*node].counts()) {
            for d in 0..self.dimensions() {
                if left[d] < 0.0 {
                    wanted[d] -= left[d];
                } else if self.problem.nodes[node].receives() {
                    room[d] += left[d];
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
        for (node, potential) in self.potential.iter().enumerate() {
            let hotter = *potential > best.map_or(EPSILON * EPSILON, |(most, _)| most);
            if hotter && !stuck[node] && self.is_above(node) {
                best = Some((*potential, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Gives away what relieves `node` most for its cost; whether anything could be done.
    fn relieve_node(&mut self, node: usize) -> bool {
        let mut scored = self.candidates(node);
        let few = (scored.len() / 16).max(32).min(scored.len());
        best_first(&mut scored, few);
        if self.give(node, &scored[..few]) {
            return true;
        }
        let all = scored.len();
        best_first(&mut scored, all);
        if self.give(node, &scored[few..]) {
            return true;
        }
        let best: Vec<u16> = scored.iter().map(|(_, _, slot)| *slot).collect();
        let others = self.roomiest(node);
        self.overshoot(node, &best[..best.len().min(DESPERATE_MAX)], &others) || self.exchange(node, &best, &others)
    }

    /// Moves what still relieves `node` to where there is most room, until it needs no more relief, or so much less that
    /// other slots may be better now.
    fn give(&mut self, node: usize, candidates: &[Scored]) -> bool {
        let mut progress = false;
        let enough = STALE * self.potential[node];
        for (_, _, slot) in candidates {
            let now = self.potential[node];
            if now <= enough || self.exhausted() {
                break;
            }
            let gain = now - self.potential_at(node, &self.without(node, *slot));
            if gain <= EPSILON * EPSILON {
                continue;
            }
            if let Some(target) = self.best_fit(*slot, PATIENCE * gain) {
                self.shift(*slot, target, Why::Relief);
                progress = true;
            }
        }
        progress
    }

    /// The slots whose going relieves `node`, with what that is worth for what it costs: what each resource is worth, the
    /// covering problem of what is above the aims tells. Room at the targets is scarce, and a cost too.
    fn candidates(&mut self, node: usize) -> Vec<Scored> {
        let free: Vec<u16> = self.slots[node].iter().copied().filter(|slot| !self.locked[usize::from(*slot)]).collect();
        self.work += 4 * free.len() as u64;
        let (mut excess, mut scarcity) = ([0.0; MAX_RESOURCES], self.scarcity);
        for d in 0..self.dimensions() {
            excess[d] = (self.height[node][d] - self.aim[node][d]).max(0.0) * self.room[node][d];
            // Whatever goes, that much room is taken.
            if excess[d] > EPSILON {
                scarcity[d] = 0.0;
            }
        }
        let items: Vec<Item> = (free.iter().map(|slot| usize::from(*slot)))
            .map(|slot| Item { load: self.load[slot], cost: self.cost[slot] + dot(&scarcity, &self.load[slot]) })
            .collect();
        let (prices, _) = Covering { items: &items, excess }.climb(&self.prices[node]);
        self.prices[node] = prices;
        let mut scored: Vec<Scored> = Vec::with_capacity(free.len());
        for (slot, item) in free.iter().zip(&items) {
            let mut worth = 0.0;
            for d in 0..MAX_RESOURCES {
                worth += prices[d] * item.load[d].min(excess[d]);
            }
            if worth > 0.0 {
                scored.push((worth / item.cost, self.lot(*slot), *slot));
            }
        }
        scored
    }

    /// The nodes that have most room in what `node` has too much of, roomiest first.
    fn roomiest(&mut self, node: usize) -> Vec<usize> {
        self.work += self.left.len() as u64;
        let over: Vec<usize> = (0..self.dimensions()).filter(|d| self.height[node][*d] > self.aim[node][*d]).collect();
        let filled =
            |other: usize| over.iter().map(|d| self.height[other][*d] / self.limit[other][*d]).fold(0.0, f64::max);
        let mut others: Vec<(f64, usize)> = (0..self.left.len())
            .filter(|other| *other != node && self.problem.nodes[*other].receives())
            .map(|other| (filled(other), other))
            .collect();
        others.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        others.truncate(ROOMIEST_MAX);
        others.into_iter().map(|(_, other)| other).collect()
    }

    /// A move beyond the target's limits, if all potential together falls and nothing becomes higher than `node` was.
    fn overshoot(&mut self, node: usize, candidates: &[u16], others: &[usize]) -> bool {
        let mut best: Option<(f64, u16, usize)> = None;
        self.work += (candidates.len() * others.len()) as u64;
        for slot in candidates {
            let gain = self.potential[node] - self.potential_at(node, &self.without(node, *slot));
            for target in others.iter().copied().filter(|target| self.allowed(*slot, *target)) {
                let height = self.with(target, *slot);
                let harm = self.potential_at(target, &height) - self.potential[target];
                let score = (gain - harm) / self.cost[usize::from(*slot)];
                if gain - harm > WORTHWHILE * self.potential[node]
                    && best.is_none_or(|(most, ..)| score > most)
                    && self.tolerable(target, &height, node)
                {
                    best = Some((score, *slot, target));
                }
            }
        }
        best.inspect(|(_, slot, target)| self.shift(*slot, *target, Why::Relief)).is_some()
    }

    /// Whether `target` may have these heights: within its limits, or below what `node`, the reason for it, has now.
    pub(crate) fn tolerable(&self, target: usize, height: &Vector, node: usize) -> bool {
        (0..self.dimensions()).all(|d| {
            height[d] <= self.ceiling[target][d]
                && (height[d] <= self.limit[target][d].max(self.height[target][d]) + EPSILON
                    || height[d] < self.height[node][d].min(self.peak[d]) - EPSILON)
        })
    }
}

/// Puts the `count` best first, in order.
pub(crate) fn best_first(scored: &mut [Scored], count: usize) {
    let better =
        |one: &Scored, other: &Scored| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)).then(one.2.cmp(&other.2));
    if scored.len() > count {
        scored.select_nth_unstable_by(count, better);
    }
    let count = count.min(scored.len());
    scored[..count].sort_unstable_by(better);
}
