//! What each resource is worth where some of it has to go: prices of a covering problem.
//!
//! Of a node's items, some have to leave so that their loads cover an excess in each resource, at the least cost. Where items
//! may go in parts, every vector of prices λ ≥ 0 bounds that cost from below by duality:
//!
//! ```text
//! Σ λ·excess − Σ max(0, λ·load − cost)      over the resources, and over the items
//! ```
//!
//! The prices that bound it best tell which items to give: those worth most per cost. A resource that goes along with another
//! anyway has no price. For one resource the best price is exact; for several it is climbed to, and bounds wherever the climb ends.

use crate::problem::MAX_RESOURCES;
use crate::state::{EPSILON, Vector};

/// How many steps prices are climbed.
const STEPS: usize = 30;
/// How many from prices of a similar problem.
const STEPS_MORE: usize = 8;

/// What may leave: share of all load by resource, and what that costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) load: Vector,
    pub(crate) cost: f64,
}

/// What has to be covered, and by what.
#[derive(Debug)]
pub(crate) struct Covering<'a> {
    pub(crate) items: &'a [Item],
    pub(crate) excess: Vector,
}

impl Covering<'_> {
    /// Good prices, and the bound that they prove: the best for one resource alone, and from there up the slope of the bound. A
    /// step is as long as would reach a somewhat larger bound on a straight slope; what is hoped for halves when that was too
    /// much (Polyak's step with an estimated target).
    ///
    /// `known` are prices of a similar problem, from which it is a shorter climb; all 0 when there are none.
    pub(crate) fn climb(&self, known: &Vector) -> (Vector, f64) {
        let over: Vec<usize> = (0..MAX_RESOURCES).filter(|d| self.excess[*d] > EPSILON).collect();
        let fresh = over.iter().all(|d| known[*d] <= 0.0);
        let mut best = (*known, self.bound(known).0);
        for d in over.iter().filter(|_| fresh || over.len() == 1) {
            let mut prices = [0.0; MAX_RESOURCES];
            prices[*d] = covering_price(self.items, &prices, *d, self.excess[*d]);
            let (bound, _) = self.bound(&prices);
            if bound > best.1 {
                best = (prices, bound);
            }
        }
        let mut hope = 0.1;
        let (mut prices, mut now) = (best.0, self.bound(&best.0));
        let steps = if over.len() < 2 {
            0
        } else if fresh {
            STEPS
        } else {
            STEPS_MORE
        };
        for _ in 0..steps {
            // In units of each resource's excess, so that resources count alike.
            let (bound, slope) = now;
            let steepness: f64 = over.iter().map(|d| (slope[*d] / self.excess[*d]).powi(2)).sum();
            if steepness <= EPSILON || hope < 1e-4 {
                break;
            }
            let step = (best.1 + hope * best.1.abs() - bound) / steepness;
            for d in &over {
                prices[*d] = (prices[*d] + step * slope[*d] / self.excess[*d].powi(2)).max(0.0);
            }
            now = self.bound(&prices);
            if now.0 > best.1 {
                best = (prices, now.0);
            } else {
                hope /= 2.0;
            }
        }
        best
    }

    /// The bound, and by how much it rises with each price: the excess, less all that is worth its cost already.
    pub(crate) fn bound(&self, prices: &Vector) -> (f64, Vector) {
        let (mut bound, mut slope) = (dot(prices, &self.excess), self.excess);
        for item in self.items {
            let gain = dot(prices, &item.load) - item.cost;
            if gain > 0.0 {
                bound -= gain;
                slope.iter_mut().zip(&item.load).for_each(|(slope, load)| *slope -= load);
            }
        }
        (bound, slope)
    }
}

/// The price of resource `d`, beside `prices`, at which what is worth its cost is just `wanted` of it; nothing if that is never.
pub(crate) fn covering_price<'a>(
    items: impl IntoIterator<Item = &'a Item>,
    prices: &Vector,
    d: usize,
    wanted: f64,
) -> f64 {
    let loaded = items.into_iter().filter(|item| item.load[d] > 0.0);
    let priced = |item: &Item| ((item.cost - dot(prices, &item.load)).max(0.0) / item.load[d], item.load[d]);
    let mut priced: Vec<(f64, f64)> = loaded.map(priced).collect();
    priced.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let mut covered = 0.0;
    let reaches = |(_, load): &&(f64, f64)| {
        covered += load;
        covered >= wanted
    };
    priced.iter().find(reaches).map_or(0.0, |(price, _)| *price)
}

pub(crate) fn dot(one: &Vector, other: &Vector) -> f64 {
    let mut sum = 0.0;
    for d in 0..MAX_RESOURCES {
        sum += one[d] * other[d];
    }
    sum
}
