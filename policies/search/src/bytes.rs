//! The fewest bytes that any plan has to move which brings every node as low, and starved ones as high, as this one does.
//!
//! What a node has above its limit has to leave it, and of all choices of its slots the cheapest in bytes is a covering
//! problem; its relaxation, in which slots may go in parts, bounds that from below. By duality every vector of prices λ ≥ 0 of
//! the resources gives a bound,
//!
//! ```text
//! Σ λ·excess − Σ max(0, λ·load − bytes)      over the resources, and over the node's slots
//! ```
//!
//! which is exact for one resource (the slots with most load per byte, the last one in part), and for several is raised
//! price by price. Slots that come only add to what has to go, so the sum over all nodes is a bound for the whole plan. So is
//! what starved nodes have to get, at the least bytes per load anywhere.

use crate::problem::{Duty, MAX_RESOURCES};
use crate::state::{EPSILON, State, Vector};

/// How often each price is raised in turn.
const SWEEPS: usize = 2;

/// What a slot weighs: share of all load by resource, and bytes.
#[derive(Debug, Clone, Copy)]
struct Item {
    load: Vector,
    bytes: f64,
}

/// The bound, in bytes. Whatever moves has more or as many.
pub(crate) fn least_bytes(state: &State) -> f64 {
    let mut homes: Vec<Vec<Item>> = (0..state.problem.nodes.len()).map(|_| Vec::new()).collect();
    let mut left = vec![0.0; homes.len()];
    for (slot, home) in state.problem.owners.iter().enumerate().filter(|(slot, _)| state.problem.movable(*slot)) {
        let home = *home as usize;
        homes[home].push(Item { load: state.load[slot], bytes: state.problem.bytes[slot] });
        if state.owner[slot] as usize != home {
            left[home] += state.problem.bytes[slot];
        }
    }
    let exported: f64 = (homes.iter().enumerate())
        .map(|(node, items)| match state.problem.nodes[node].duty {
            // All that can go has to.
            Duty::Draining => left[node],
            _ => covering(&excess(state, node), items),
        })
        .sum();
    exported.max(imported(state, &homes))
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

/// The fewest bytes of `items` whose loads cover `excess`, where parts of items may go.
fn covering(excess: &Vector, items: &[Item]) -> f64 {
    let over: Vec<usize> = (0..MAX_RESOURCES).filter(|d| excess[*d] > EPSILON).collect();
    let Some(first) = over.first() else { return 0.0 };
    let mut best = 0.0_f64;
    let mut along = |direction: Vector| {
        let mut prices = [0.0; MAX_RESOURCES];
        let scale = raise(&prices, &direction, excess, items);
        for d in 0..MAX_RESOURCES {
            prices[d] = scale * direction[d];
        }
        for _ in 0..if over.len() > 1 { SWEEPS } else { 0 } {
            for d in &over {
                prices[*d] = 0.0;
                prices[*d] = raise(&prices, &axis(*d), excess, items);
            }
        }
        best = best.max(bound(&prices, excess, items));
    };
    along(axis(*first));
    if over.len() > 1 {
        // As much for each resource as its excess is small.
        let mut even = [0.0; MAX_RESOURCES];
        for d in &over {
            even[*d] = 1.0 / excess[*d];
        }
        along(even);
    }
    best
}

fn axis(d: usize) -> Vector {
    let mut axis = [0.0; MAX_RESOURCES];
    axis[d] = 1.0;
    axis
}

fn dot(one: &Vector, other: &Vector) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// How far to go from `prices` along `direction` for the largest bound. The bound rises by what the excess is worth, and
/// less by what each slot is that has become worth its bytes: so to where the slots reached cover the excess.
fn raise(prices: &Vector, direction: &Vector, excess: &Vector, items: &[Item]) -> f64 {
    let mut slope = dot(direction, excess);
    let mut reached: Vec<(f64, f64)> = Vec::new();
    for item in items {
        let (gain, missing) = (dot(direction, &item.load), item.bytes - dot(prices, &item.load));
        if gain > 0.0 {
            reached.push((missing.max(0.0) / gain, gain));
        }
    }
    reached.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    for (at, gain) in reached {
        slope -= gain;
        if slope <= 0.0 {
            return at;
        }
    }
    // All of its slots together do not cover it, up to rounding.
    0.0
}

fn bound(prices: &Vector, excess: &Vector, items: &[Item]) -> f64 {
    let worth = |item: &Item| (dot(prices, &item.load) - item.bytes).max(0.0);
    dot(prices, excess) - items.iter().map(worth).sum::<f64>()
}

/// The fewest bytes by which starved nodes get what the plan gives them of the first resource, up to enough.
fn imported(state: &State, homes: &[Vec<Item>]) -> f64 {
    if state.dimensions() == 0 {
        return 0.0;
    }
    let wanted = |node: usize| {
        let height = state.height[node][0].min(state.enough());
        (height - state.height_before[node][0]).max(0.0) * state.room[node][0]
    };
    let starved = |node: &usize| state.starved[*node];
    let mut excess = [0.0; MAX_RESOURCES];
    excess[0] = (0..homes.len()).filter(starved).map(wanted).sum();
    let others: Vec<Item> = homes
        .iter()
        .enumerate()
        .filter(|(node, _)| !starved(node))
        .flat_map(|(_, items)| items.iter().copied())
        .collect();
    covering(&excess, &others)
}
