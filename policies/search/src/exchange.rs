//! Exchanging: where nothing fits any more, a slot for another that takes less of what is scarce here and more of what is there.

use crate::covering::dot;
use crate::problem::MAX_RESOURCES;
use crate::relieve::{DESPERATE_MAX, WORTHWHILE, best_first};
use crate::state::{State, Vector, Why};

/// How many slots of another node are thought of.
const RETURNS_MAX: usize = 32;
/// Of so many slots that a node has, one is exchanged at a time.
const PAIRS_OF: usize = 128;
/// What being full to the limit counts beside being above it.
const CROWDING: f64 = 0.006;

impl State<'_> {
    /// Exchanges slots of `node`, best candidates first, for some of the first of `others` with which that is worth it.
    pub(crate) fn exchange(&mut self, node: usize, candidates: &[u16], others: &[usize]) -> bool {
        self.problem.nodes[node].receives()
            && others.iter().any(|other| {
                self.exchange_many(node, candidates, *other) || self.exchange_one(node, candidates, *other)
            })
    }

    /// How many pairs `node` exchanges at a time: of a thousand slots, one takes away little.
    fn pairs(&self, node: usize) -> usize {
        self.slots[node].len() / PAIRS_OF
    }

    /// Exchanges the best candidates for the best returns, one by one, for as long as that helps.
    fn exchange_many(&mut self, node: usize, candidates: &[u16], other: usize) -> bool {
        let pairs = self.pairs(node);
        if pairs < 2 {
            return false;
        }
        let worthwhile = WORTHWHILE * self.potential[node] / pairs as f64;
        let taken = self.exchangeable(node, other, pairs);
        let given =
            candidates.iter().copied().filter(|slot| self.allowed(*slot, other)).take(pairs).collect::<Vec<_>>();
        self.work += 4 * given.len() as u64;
        let mut exchanged = false;
        for (given, taken) in given.into_iter().zip(taken) {
            let before = self.tension_of(node, other);
            if self.gain((node, given), (other, taken), before) > worthwhile {
                self.swap((node, given), (other, taken));
                exchanged = true;
            }
        }
        exchanged
    }

    /// Exchanges the two slots that gain most for what they cost.
    fn exchange_one(&mut self, node: usize, candidates: &[u16], other: usize) -> bool {
        let worthwhile = WORTHWHILE * self.potential[node];
        let returns = self.exchangeable(node, other, RETURNS_MAX);
        let before = self.tension_of(node, other);
        let mut best: Option<(f64, u16, u16)> = None;
        let candidates = &candidates[..candidates.len().min(DESPERATE_MAX)];
        // A pair takes about as long as four slots of a scan.
        self.work += (candidates.len() * returns.len() * 4) as u64;
        for given in candidates.iter().copied().filter(|given| self.allowed(*given, other)) {
            for taken in returns.iter().copied() {
                let gain = self.gain((node, given), (other, taken), before);
                let score = gain / (self.cost[usize::from(given)] + self.cost[usize::from(taken)]);
                if gain > worthwhile && best.is_none_or(|(most, ..)| score > most) {
                    best = Some((score, given, taken));
                }
            }
        }
        best.inspect(|(_, given, taken)| self.swap((node, *given), (other, *taken))).is_some()
    }

    /// By how much tension falls from `before` when the two slots change places; 0 when one of the nodes must not get the other's.
    fn gain(&self, (node, given): (usize, u16), (other, taken): (usize, u16), before: f64) -> f64 {
        let mut difference = self.load[usize::from(given)];
        difference.iter_mut().zip(&self.load[usize::from(taken)]).for_each(|(part, less)| *part -= less);
        let (here, there) = (self.shifted(node, &difference, -1.0), self.shifted(other, &difference, 1.0));
        let gain = before - self.tension(node, &here) - self.tension(other, &there);
        let tolerable = gain > 0.0 && self.tolerable(other, &there, node) && self.tolerable(node, &here, node);
        if tolerable { gain } else { 0.0 }
    }

    /// The tension of two nodes as they are.
    fn tension_of(&self, node: usize, other: usize) -> f64 {
        self.tension(node, &self.height[node]) + self.tension(other, &self.height[other])
    }

    fn swap(&mut self, (node, given): (usize, u16), (other, taken): (usize, u16)) {
        self.shift(taken, node, Why::Swap);
        self.shift(given, other, Why::Swap);
    }

    /// Potential, and how near the limits a node is: room that others may need.
    fn tension(&self, node: usize, height: &Vector) -> f64 {
        let mut crowding = 0.0;
        for d in 0..self.dimensions() {
            crowding += self.weight[d] * eighth_power((height[d] / self.limit[node][d]).min(1.0));
        }
        self.potential_at(node, height) + CROWDING * crowding
    }

    /// The slots of `other` that free most of what is scarce there, for what they take of what is scarce at `node`.
    fn exchangeable(&mut self, node: usize, other: usize, count: usize) -> Vec<u16> {
        self.work += self.slots[other].len() as u64;
        let mut worth = [0.0; MAX_RESOURCES];
        for d in 0..self.dimensions() {
            let tight = |at: usize| eighth_power(self.height[at][d] / self.limit[at][d]) / self.room[at][d];
            worth[d] = self.weight[d] * (tight(other) - tight(node));
        }
        let free =
            self.slots[other].iter().filter(|slot| !self.locked[usize::from(**slot)] && self.allowed(**slot, node));
        let mut scored: Vec<(f64, u64, u16)> =
            free.map(|slot| (dot(&worth, &self.load[usize::from(*slot)]), self.lot(*slot), *slot)).collect();
        best_first(&mut scored, count);
        scored.truncate(count);
        scored.into_iter().map(|(_, _, slot)| slot).collect()
    }
}

fn eighth_power(number: f64) -> f64 {
    let square = number * number;
    let fourth = square * square;
    fourth * fourth
}
