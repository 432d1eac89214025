//! L5: how even all resources can be at once, where nodes differ in shape.
//!
//! A node with twice the memory and no more cpu cannot be as full as others in both. Each resource alone could be even, all
//! together cannot: some node will be above the mean in some resource. With prices π ≥ 0 of a unit of each resource on each kind
//! of node, scaled so that the room of all nodes is worth 1, duality gives
//!
//! ```text
//! largest height ≥ Σ over slots of the least that the slot's load is worth on any kind of node
//! ```
//!
//! It is the dual of the linear program that deals slots, in parts, to kinds of nodes; its best prices are climbed to, and it
//! bounds wherever the climb ends.

use crate::problem::MAX_RESOURCES;
use crate::state::{EPSILON, Vector};

/// How many steps prices are climbed.
const STEPS: i32 = 60;
/// On how many slots, taken at equal distances: the bound itself is of all.
const SAMPLE: usize = 256;
/// How far prices go in the first step and in the last, for each part that a kind is given beyond its room.
const RATE: (f64, f64) = (2.0, 0.2);
/// Within which part of its worth a slot is dealt to several kinds, in the first step and in the last: at first softly, or all
/// slots that are alike would swing from kind to kind at once.
const SOFTNESS: (f64, f64) = (0.3, 0.005);
/// At most so many kinds of nodes.
const KINDS_MAX: usize = 8;

/// Nodes of one shape, together.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// One of its nodes: room by resource, as shares of all.
    shape: Vector,
    /// All of its nodes.
    room: Vector,
}

/// The least that the largest height over all nodes and `dimensions` resources can be, in units of the mean; 1 when all nodes
/// have one shape. `load` and `room` are shares of all load and of all room, of nodes that count.
pub(crate) fn least_together(load: &[Vector], room: &[Vector], dimensions: usize) -> f64 {
    let kinds = kinds(room, dimensions);
    if kinds.len() < 2 || dimensions < 2 {
        return 1.0;
    }
    let sample: Vec<Vector> = load.iter().step_by((load.len() / SAMPLE).max(1)).copied().collect();
    let mut scale = [0.0; MAX_RESOURCES];
    sample.iter().for_each(|slot| (0..dimensions).for_each(|d| scale[d] += slot[d]));
    let sample: Vec<Vector> =
        sample.iter().map(|slot| std::array::from_fn(|d| slot[d] / scale[d].max(EPSILON))).collect();

    // To begin with, all resources are worth the same everywhere.
    let mut prices: Vec<Vector> = vec![[1.0; MAX_RESOURCES]; kinds.len()];
    normalise(&mut prices, &kinds, dimensions);
    let (mut best, mut best_prices) = (0.0, prices.clone());
    for step in 0..STEPS {
        let part = f64::from(step) / f64::from(STEPS - 1);
        let between = |(first, last): (f64, f64)| first * (last / first).powf(part);
        let (bound, used) = deal(&prices, &sample, dimensions, between(SOFTNESS));
        if bound > best {
            (best, best_prices) = (bound, prices.clone());
        }
        // What is used on a kind beyond its room makes it dearer: by factors, so that prices stay above nothing.
        for ((prices, used), kind) in prices.iter_mut().zip(&used).zip(&kinds) {
            for d in 0..dimensions {
                let height = used[d] / kind.room[d].max(EPSILON);
                prices[d] *= (between(RATE) * (height - bound).clamp(-1.0, 1.0)).exp();
            }
        }
        normalise(&mut prices, &kinds, dimensions);
    }
    let of_all = |prices: &[Vector]| load.iter().map(|slot| worth(prices, slot, dimensions).1).sum::<f64>();
    of_all(&best_prices).max(of_all(&prices)).max(1.0)
}

/// What a slot is worth on each kind, and the least of it.
fn worth(prices: &[Vector], slot: &Vector, dimensions: usize) -> ([f64; KINDS_MAX], f64) {
    let mut worth = [f64::INFINITY; KINDS_MAX];
    let mut least = f64::INFINITY;
    for (worth, prices) in worth.iter_mut().zip(prices) {
        *worth = (0..dimensions).map(|d| prices[d] * slot[d]).sum();
        least = least.min(*worth);
    }
    (worth, least)
}

/// The bound of these prices, and what each kind is given when each slot goes where it is worth least.
fn deal(prices: &[Vector], slots: &[Vector], dimensions: usize, softness: f64) -> (f64, Vec<Vector>) {
    let mut bound = 0.0;
    let mut used = vec![[0.0; MAX_RESOURCES]; prices.len()];
    for slot in slots {
        let (worth, least) = worth(prices, slot, dimensions);
        bound += least;
        if least <= 0.0 {
            continue;
        }
        let parts = worth.map(|worth| ((least - worth) / (softness * least)).exp());
        let all: f64 = parts.iter().sum();
        for (used, part) in used.iter_mut().zip(parts) {
            (0..dimensions).for_each(|d| used[d] += slot[d] * part / all);
        }
    }
    (bound, used)
}

/// Scales prices so that all room is worth 1.
fn normalise(prices: &mut [Vector], kinds: &[Kind], dimensions: usize) {
    let worth = |(prices, kind): (&Vector, &Kind)| (0..dimensions).map(|d| prices[d] * kind.room[d]).sum::<f64>();
    let total: f64 = prices.iter().zip(kinds).map(worth).sum();
    prices.iter_mut().flatten().for_each(|price| *price /= total.max(f64::MIN_POSITIVE));
}

/// Nodes gathered by shape: rooms that are the same but for a factor. What is beyond [`KINDS_MAX`] is added to the kind that is
/// most like it: as if its nodes could lend each other room, which loosens the bound and keeps it one.
fn kinds(room: &[Vector], dimensions: usize) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let direction = |vector: &Vector| {
        let sum: f64 = vector[..dimensions].iter().sum();
        vector.map(|part| part / sum.max(f64::MIN_POSITIVE))
    };
    let distance = |one: &Vector, other: &Vector| {
        let (one, other) = (direction(one), direction(other));
        (0..dimensions).map(|d| (one[d] - other[d]).abs()).fold(0.0, f64::max)
    };
    for node in room {
        let near = kinds.iter().enumerate().map(|(place, kind)| (distance(&kind.shape, node), place));
        match near.min_by(|one, other| one.0.total_cmp(&other.0)) {
            Some((apart, place)) if apart < 1e-6 || kinds.len() == KINDS_MAX => {
                let kind = &mut kinds[place];
                for d in 0..dimensions {
                    kind.room[d] += node[d];
                }
            }
            _ => kinds.push(Kind { shape: *node, room: *node }),
        }
    }
    kinds
}
