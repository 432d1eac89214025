//! Exchanging: where nothing fits any more, a slot for another that takes less of what is scarce here and more of what is there.

use crate::covering::dot;
use crate::problem::MAX_RESOURCES;
use crate::relieve::{WORTHWHILE, best_first};
use crate::state::{State, Vector, Why};

/// How many slots of another node are thought of.
const RETURNS_MAX: usize = 32;
/// What being full to the limit counts beside being above it.
const CROWDING: f64 = 0.006;

impl State<'_> {
    /// Exchanges a slot of `node` for one of one of `others`.
    pub(crate) fn exchange(&mut self, node: usize, candidates: &[u16], others: &[usize]) -> bool {
        if !self.problem.nodes[node].receives() {
            return false;
        }
        let (worthwhile, tension) = (WORTHWHILE * self.potential[node], self.tension(node, &self.height[node]));
        let mut best: Option<(f64, u16, u16, usize)> = None;
        for other in others.iter().copied() {
            let returns = self.exchangeable(node, other);
            let before = tension + self.tension(other, &self.height[other]);
            // A pair takes about as long as four slots of a scan.
            self.work += (candidates.len() * returns.len() * 4) as u64;
            for given in candidates.iter().copied().filter(|given| self.allowed(*given, other)) {
                for taken in returns.iter().copied() {
                    let mut difference = self.load[usize::from(given)];
                    difference.iter_mut().zip(&self.load[usize::from(taken)]).for_each(|(part, less)| *part -= less);
                    let (here, there) = (self.shifted(node, &difference, -1.0), self.shifted(other, &difference, 1.0));
                    let gain = before - self.tension(node, &here) - self.tension(other, &there);
                    let score = gain / (self.cost[usize::from(given)] + self.cost[usize::from(taken)]);
                    if gain > worthwhile
                        && best.is_none_or(|(most, ..)| score > most)
                        && self.tolerable(other, &there, node)
                        && self.tolerable(node, &here, node)
                    {
                        best = Some((score, given, taken, other));
                    }
                }
            }
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
            crowding += self.weight[d] * eighth_power((height[d] / self.limit[node][d]).min(1.0));
        }
        self.potential_at(node, height) + CROWDING * crowding
    }

    /// The slots of `other` that free most of what is scarce there, for what they take of what is scarce at `node`.
    fn exchangeable(&mut self, node: usize, other: usize) -> Vec<u16> {
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
        best_first(&mut scored, RETURNS_MAX);
        scored.truncate(RETURNS_MAX);
        scored.into_iter().map(|(_, _, slot)| slot).collect()
    }
}

fn eighth_power(number: f64) -> f64 {
    let square = number * number;
    let fourth = square * square;
    fourth * fourth
}
