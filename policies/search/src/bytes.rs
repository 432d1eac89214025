//! The fewest bytes that any plan has to move which brings every node as low, and starved ones as high, as this one does.
//!
//! What a node has above its limit has to leave it: a covering problem for each node (`covering`). Slots that come only add to
//! what has to go, so the sum over all nodes is a bound for the whole plan. What starved nodes have to get has a price of its
//! own, which is taken off the cost of whatever could go there.

use crate::covering::{Covering, Item, covering_price, dot};
use crate::problem::{Duty, MAX_RESOURCES};
use crate::state::{EPSILON, State, Vector};

/// A node that may give: what it has, and what of it has to go.
#[derive(Debug)]
struct Giver {
    /// What leaves costs its bytes.
    items: Vec<Item>,
    excess: Vector,
    /// Whether what leaves it can fill a starved node: what leaves a starved one cannot.
    feeds: bool,
    prices: Vector,
}

/// The bound, in bytes. Whatever moves has more or as many.
pub(crate) fn least_bytes(state: &State) -> f64 {
    let nodes = &state.problem.nodes;
    let mut givers: Vec<Giver> = (0..nodes.len())
        .map(|node| Giver {
            items: Vec::new(),
            excess: excess(state, node),
            feeds: !state.starved[node],
            prices: [0.0; MAX_RESOURCES],
        })
        .collect();
    let (mut drained, mut wanted) = (0.0, wanted(state));
    for (slot, home) in state.problem.owners.iter().enumerate().filter(|(slot, _)| state.problem.movable(*slot)) {
        let item = Item { load: state.load[slot], cost: state.problem.bytes[slot] };
        if nodes[*home as usize].duty != Duty::Draining {
            givers[*home as usize].items.push(item);
        } else if state.owner[slot] != *home {
            // All that can go has to, and may go to a starved node.
            drained += item.cost;
            wanted -= item.load[0];
        }
    }
    let mut best = 0.0_f64;
    let mut filling = 0.0;
    // Without a price of filling, then with the one that suits the prices so found, and once more.
    for _ in 0..if wanted > EPSILON { 3 } else { 1 } {
        best = best.max(givers.iter_mut().map(|giver| giver.climb(filling)).sum::<f64>() + filling * wanted);
        filling = price_of_filling(&givers, wanted);
        best = best.max(givers.iter().map(|giver| giver.bound(filling)).sum::<f64>() + filling * wanted);
    }
    drained + best
}

/// What `node` has to give away, as shares of all load: none of where the plan leaves it, or of what is within its limits.
fn excess(state: &State, node: usize) -> Vector {
    let mut excess = [0.0; MAX_RESOURCES];
    for (d, excess) in excess.iter_mut().enumerate().take(state.dimensions()) {
        let allowed = state.limit[node][d].max(state.height[node][d]);
        *excess = (state.height_before[node][d] - allowed).max(0.0) * state.room[node][d];
    }
    excess
}

/// What starved nodes get of the first resource, up to enough, as a share of all load.
fn wanted(state: &State) -> f64 {
    if state.dimensions() == 0 {
        return 0.0;
    }
    let lacking = |node: usize| {
        let height = state.height[node][0].min(state.enough(node));
        (height - state.height_before[node][0]).max(0.0) * state.room[node][0]
    };
    (0..state.starved.len()).filter(|node| state.starved[*node]).map(lacking).sum()
}

impl Giver {
    /// Its items, with what filling is worth taken off their cost.
    fn subsidised(&self, filling: f64) -> Vec<Item> {
        let worth = if self.feeds { filling } else { 0.0 };
        self.items.iter().map(|item| Item { cost: item.cost - worth * item.load[0], ..*item }).collect()
    }

    fn climb(&mut self, filling: f64) -> f64 {
        let (prices, bound) = Covering { items: &self.subsidised(filling), excess: self.excess }.climb(&self.prices);
        self.prices = prices;
        bound
    }

    fn bound(&self, filling: f64) -> f64 {
        Covering { items: &self.subsidised(filling), excess: self.excess }.bound(&self.prices).0
    }
}

/// The price of filling at which what is worth its bytes is just what starved nodes want.
fn price_of_filling(givers: &[Giver], wanted: f64) -> f64 {
    let left = |giver: &Giver, item: &Item| Item { cost: item.cost - dot(&giver.prices, &item.load), ..*item };
    let feeding = givers.iter().filter(|giver| giver.feeds);
    let items: Vec<Item> = feeding.flat_map(|giver| giver.items.iter().map(move |item| left(giver, item))).collect();
    covering_price(&items, &[0.0; MAX_RESOURCES], 0, wanted)
}
