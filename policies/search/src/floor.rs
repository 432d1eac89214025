//! Lower bounds: how even any placement of these slots could possibly be, and what prevents better.
//!
//! Per resource, in units of the mean utilisation. The floor is the largest of three bounds, after the literature on
//! vector scheduling and the ROADEF/EURO 2012 machine reassignment challenge:
//! *L1* all load ÷ all capacity, nodes that get nothing or keep what they have taken out (a water level);
//! *L2* the largest slot on the largest node; *L3* pigeons: of the k·N+1 largest slots some node holds k+1; *L4* all three
//! within each zone, where slots keep their zone. (L5, over all resources at once, is in `shapes`.)
//!
//! A floor set by one giant slot says little about the other nodes. So [`Levels`] goes on: each slot above a node's
//! fair share gets a node to itself, and the rest is judged by a level of its own.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::problem::{Duty, Problem, Resource};
use crate::view::NO_OWNER;

/// Heights closer than this are the same.
const EPSILON: f64 = 1e-9;

/// How many pigeons a hole is tried with; beyond that L1 is always the better bound.
const PIGEONS_MAX: usize = 64;

/// What prevents a more even placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum FloorCause {
    /// Nothing but the load itself: the floor is the mean.
    Capacity,
    /// One slot is larger than a node's fair share.
    Giant {
        /// The largest one.
        slot: u16,
    },
    /// A few large slots cannot be dealt evenly.
    LargeSlots {
        /// How many of the largest slots prove it.
        count: u32,
    },
    /// A node that gets nothing stays below the others, or one that keeps what it has is above them.
    Held {
        /// Its index.
        node: u32,
    },
    /// The slots of a zone are to stay there, and it has less room for them than others for theirs.
    Zone {
        /// Its name.
        zone: String,
    },
}

/// The least imbalance that any placement could reach, and what prevents better.
///
/// 1 is perfectly even; it is also the answer when there is no load or no node counts.
#[must_use]
pub fn floor(problem: &Problem, resource: &Resource) -> (f64, FloorCause) {
    let shares = Shares::of(problem, resource);
    let mut levels = Levels::unknown(problem);
    if !shares.is_empty() {
        for pool in Pool::all(problem, &shares) {
            levels.bound(problem, &shares, &pool);
        }
    }
    levels.least()
}

/// Loads and capacities as shares of their totals, so that a height (load ÷ capacity) of 1 is the mean utilisation.
pub(crate) struct Shares {
    /// All load that is or comes to nodes that count.
    pub(crate) total: f64,
    /// All capacity of nodes that count.
    pub(crate) room: f64,
    /// By slot; 0 for those that nobody serves or that cannot leave a draining node.
    pub(crate) load: Vec<f64>,
    /// By node.
    pub(crate) capacity: Vec<f64>,
    /// By node: height of what it has.
    current: Vec<f64>,
    /// By node: height of what must stay there.
    pinned: Vec<f64>,
    /// Slots with load, largest first.
    sorted: Vec<u16>,
}

impl Shares {
    pub(crate) fn of(problem: &Problem, resource: &Resource) -> Self {
        let mut load: Vec<f64> = resource.loads.clone();
        for (slot, load) in load.iter_mut().enumerate() {
            let stuck = |owner: u32| !problem.nodes[owner as usize].counts() && !problem.movable(slot);
            if problem.owners[slot] == NO_OWNER || stuck(problem.owners[slot]) {
                *load = 0.0;
            }
        }
        let total: f64 = load.iter().sum();
        let counted = resource.capacity.iter().zip(&problem.nodes).filter(|(_, node)| node.counts());
        let room: f64 = counted.map(|(capacity, _)| capacity).sum();
        load.iter_mut().for_each(|load| *load /= total.max(f64::MIN_POSITIVE));
        let capacity: Vec<f64> =
            resource.capacity.iter().map(|capacity| capacity / room.max(f64::MIN_POSITIVE)).collect();
        let mut current = vec![0.0; problem.nodes.len()];
        let mut pinned = vec![0.0; problem.nodes.len()];
        // Positive floats are in the order of their bits, which sort faster than they compare.
        let mut sorted: Vec<(Reverse<u64>, u16)> = Vec::new();
        for (slot, load) in (0..).zip(&load).filter(|(_, load)| **load > 0.0) {
            let owner = problem.owners[usize::from(slot)] as usize;
            current[owner] += load / capacity[owner];
            if !problem.movable(usize::from(slot)) {
                pinned[owner] += load / capacity[owner];
            }
            sorted.push((Reverse(load.to_bits()), slot));
        }
        sorted.sort_unstable();
        let sorted = sorted.into_iter().map(|(_, slot)| slot).collect();
        Self { total, room, load, capacity, current, pinned, sorted }
    }

    fn is_empty(&self) -> bool {
        self.total <= 0.0 || self.room <= 0.0
    }
}

/// Nodes among which slots may be dealt, and those slots: one pool for all, or one for each zone that slots have to keep.
struct Pool {
    /// Nodes that count.
    nodes: Vec<usize>,
    /// Slots with load, largest first.
    sorted: Vec<u16>,
    /// All their load and all their room.
    water: Water,
    zone: Option<u32>,
}

impl Pool {
    fn all(problem: &Problem, shares: &Shares) -> Vec<Self> {
        let zone = problem.zones_to_keep();
        // A slot whose zone is gone may go to any: then no zone's load is known.
        if shares.sorted.iter().any(|slot| zone[usize::from(*slot)].is_none()) {
            return vec![Self::of(problem, shares, None)];
        }
        let mut zones: Vec<u32> = counted(problem).into_iter().map(|node| problem.zones[node]).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.into_iter().map(|zone| Self::of(problem, shares, Some(zone))).collect()
    }

    fn of(problem: &Problem, shares: &Shares, zone: Option<u32>) -> Self {
        let within = |node: usize| zone.is_none_or(|zone| problem.zones[node] == zone);
        let nodes: Vec<usize> = counted(problem).into_iter().filter(|node| within(*node)).collect();
        let here = |slot: &u16| within(problem.owners[usize::from(*slot)] as usize);
        let sorted: Vec<u16> = shares.sorted.iter().copied().filter(here).collect();
        let water = Water {
            load: sorted.iter().map(|slot| shares.load[usize::from(*slot)]).sum(),
            room: nodes.iter().map(|node| shares.capacity[*node]).sum(),
        };
        Self { nodes, sorted, water, zone }
    }
}

/// What each node can be brought to.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    /// By node: the mean of the nodes of its pool that are not fixed.
    pub(crate) mean: Vec<f64>,
    /// By node: what the nodes of its pool that are not fixed can be brought to: their mean, or more if large slots prevent it.
    pub(crate) rest: Vec<f64>,
    /// By node: the height of what it carries in any case, its giant or its held slots; `None` for ordinary nodes.
    pub(crate) fixed: Vec<Option<f64>>,
    /// Slots above the fair share, each with its best node, largest first.
    pub(crate) giants: Vec<(u16, u32)>,
    bounds: Vec<(f64, FloorCause)>,
}

impl Levels {
    /// `housed` are giants of other resources and their nodes: a giant of several is best in one place.
    pub(crate) fn of(problem: &Problem, shares: &Shares, housed: &[(u16, u32)]) -> Self {
        let mut levels = Self::unknown(problem);
        if !shares.is_empty() {
            for pool in Pool::all(problem, shares) {
                let level = levels.bound(problem, shares, &pool);
                levels.settle(problem, shares, &pool, housed, level);
            }
        }
        levels
    }

    fn unknown(problem: &Problem) -> Self {
        let nodes = problem.nodes.len();
        let (mean, rest) = (vec![1.0; nodes], vec![1.0; nodes]);
        Self { mean, rest, fixed: vec![None; nodes], giants: Vec::new(), bounds: Vec::new() }
    }

    /// The largest bound.
    pub(crate) fn least(&self) -> (f64, FloorCause) {
        let capacity = (1.0, FloorCause::Capacity);
        self.bounds.iter().fold(capacity, |best, bound| if bound.0 > best.0 + EPSILON { bound.clone() } else { best })
    }

    /// What `node` can be brought to, as far as this resource goes.
    pub(crate) fn level(&self, node: usize) -> f64 {
        self.fixed[node].unwrap_or(0.0).max(self.rest[node])
    }

    /// Notes the bounds of a pool. Returns the level of its nodes that are not held.
    fn bound(&mut self, problem: &Problem, shares: &Shares, pool: &Pool) -> Water {
        let mut level = pool.water;
        if let Some(zone) = pool.zone {
            let zone = problem.zone_names[zone as usize].clone();
            self.bounds.push((level.height(), FloorCause::Zone { zone }));
        }
        self.hold(problem, shares, pool, &mut level);
        let held = pool.nodes.iter().filter_map(|node| Some((self.fixed[*node]?, *node)));
        if let Some((height, node)) = held.max_by(|one, other| one.0.total_cmp(&other.0)) {
            let node = u32::try_from(node).unwrap_or(NO_OWNER);
            self.bounds.push((height.max(level.height()), FloorCause::Held { node }));
        }
        let largest_room = pool.nodes.iter().map(|node| shares.capacity[*node]).fold(0.0, f64::max);
        if let Some(slot) = pool.sorted.first() {
            let height = shares.load[usize::from(*slot)] / largest_room;
            self.bounds.push((height, FloorCause::Giant { slot: *slot }));
        }
        if let Some((height, count)) = pigeons(shares, &pool.sorted, &pool.nodes) {
            self.bounds.push((height, FloorCause::LargeSlots { count }));
        }
        level
    }

    /// Takes out what cannot be at the level of the rest, until the level stands.
    fn settle(&mut self, problem: &Problem, shares: &Shares, pool: &Pool, housed: &[(u16, u32)], mut level: Water) {
        loop {
            let before = self.giants.len();
            self.house_giants(problem, shares, pool, housed, &mut level);
            if self.giants.len() == before {
                break;
            }
            self.hold(problem, shares, pool, &mut level);
        }
        let free: Vec<usize> = pool.nodes.iter().copied().filter(|node| self.fixed[*node].is_none()).collect();
        let houses = |node: usize| self.giants.iter().any(|(_, house)| *house as usize == node);
        // What lies on a node that is held may stay there.
        let ordinary = |slot: &u16| {
            let owner = problem.owners[usize::from(*slot)] as usize;
            let giant = self.giants.iter().any(|(giant, _)| giant == slot);
            problem.movable(usize::from(*slot)) && !giant && (self.fixed[owner].is_none() || houses(owner))
        };
        let slots: Vec<u16> = pool.sorted.iter().copied().filter(ordinary).collect();
        let mean = level.height();
        let rest = mean.max(pigeons(shares, &slots, &free).map_or(0.0, |(height, _)| height));
        for node in &pool.nodes {
            (self.mean[*node], self.rest[*node]) = (mean, rest);
        }
    }

    /// Fixes the nodes that get nothing and lie below the level, and those that keep more than it.
    fn hold(&mut self, problem: &Problem, shares: &Shares, pool: &Pool, level: &mut Water) {
        loop {
            let before = *level;
            for index in pool.nodes.iter().copied() {
                if self.fixed[index].is_some() {
                    continue;
                }
                let (now, stays) = (shares.current[index], shares.pinned[index]);
                let height = match problem.nodes[index].duty {
                    Duty::Frozen => now,
                    Duty::Cordoned if now < level.height() => now,
                    _ if stays > level.height() => stays,
                    _ => continue,
                };
                self.fix(index, height, shares, level);
            }
            if *level == before {
                break;
            }
        }
    }

    /// Gives each slot above the level a node to itself, as long as there are nodes.
    fn house_giants(
        &mut self,
        problem: &Problem,
        shares: &Shares,
        pool: &Pool,
        housed: &[(u16, u32)],
        level: &mut Water,
    ) {
        let known: Vec<u16> = self.giants.iter().map(|(slot, _)| *slot).collect();
        let mut houses = vec![false; problem.nodes.len()];
        housed.iter().for_each(|(_, node)| houses[*node as usize] = true);
        let candidates =
            pool.sorted.iter().filter(|slot| problem.movable(usize::from(**slot)) && !known.contains(slot));
        for slot in candidates {
            let free = |node: &usize| self.fixed[*node].is_none();
            let elsewhere = housed.iter().find(|(giant, _)| giant == slot).map(|(_, node)| *node as usize).filter(free);
            let best = || self.best_node(problem, shares, pool, &houses, *slot);
            let Some(node) = elsewhere.or_else(best) else { break };
            let height = shares.load[usize::from(*slot)] / shares.capacity[node];
            if height <= level.height() * (1.0 + EPSILON) {
                break;
            }
            self.fix(node, height, shares, level);
            self.giants.push((*slot, u32::try_from(node).unwrap_or(NO_OWNER)));
        }
    }

    fn fix(&mut self, node: usize, height: f64, shares: &Shares, level: &mut Water) {
        self.fixed[node] = Some(height);
        level.load -= height * shares.capacity[node];
        level.room -= shares.capacity[node];
    }

    /// Where a giant is best: where it is, unless another free node has distinctly more room; of several, one that `houses` no
    /// giant of another resource.
    fn best_node(&self, problem: &Problem, shares: &Shares, pool: &Pool, houses: &[bool], slot: u16) -> Option<usize> {
        let room = |node: usize| shares.capacity[node];
        let free = |node: &usize| self.fixed[*node].is_none() && problem.nodes[*node].counts();
        let receiving = pool.nodes.iter().copied().filter(|node| free(node) && problem.nodes[*node].receives());
        let worse = |one: usize, other: usize| {
            (room(one).total_cmp(&room(other)))
                .then(houses[other].cmp(&houses[one]))
                .then(shares.current[other].total_cmp(&shares.current[one]))
        };
        let best = receiving.reduce(|best, node| if worse(best, node).is_lt() { node } else { best });
        let home = problem.owners[usize::from(slot)] as usize;
        let stays = free(&home) && best.is_none_or(|best| room(home) * 1.05 >= room(best));
        if stays { Some(home) } else { best }
    }
}

/// The nodes that count.
fn counted(problem: &Problem) -> Vec<usize> {
    (0..problem.nodes.len()).filter(|node| problem.nodes[*node].counts()).collect()
}

/// L3: of the k·N+1 largest slots some node holds k+1, at best the smallest of them; and how many slots prove it.
fn pigeons(shares: &Shares, largest_first: &[u16], nodes: &[usize]) -> Option<(f64, u32)> {
    let room = nodes.iter().map(|node| shares.capacity[*node]).fold(0.0, f64::max);
    let bound = |k: usize| {
        let last = k * nodes.len();
        let together = largest_first.get(last - k..=last)?;
        let load: f64 = together.iter().map(|slot| shares.load[usize::from(*slot)]).sum();
        Some((load / room, u32::try_from(last + 1).unwrap_or(u32::MAX)))
    };
    if room <= 0.0 {
        return None;
    }
    (1..=PIGEONS_MAX).map_while(bound).reduce(|best, bound| if bound.0 > best.0 { bound } else { best })
}

/// What is left for the nodes that are not fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Water {
    load: f64,
    room: f64,
}

impl Water {
    fn height(self) -> f64 {
        if self.room > EPSILON { (self.load / self.room).max(0.0) } else { 0.0 }
    }
}
