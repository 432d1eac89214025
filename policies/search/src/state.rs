//! A placement in the making: heights of nodes, what they may reach, and the moves so far.
//!
//! Heights are load ÷ capacity in units of the mean, so all resources compare. The *potential* of a node is the
//! weighted sum of the squares of what is above its limits: a pure maximum would leave the search no slope to follow.

use crate::floor::{Levels, Shares};
use crate::goals::{Goals, ResourceGoal};
use crate::problem::{Duty, MAX_RESOURCES, Problem};

/// One number per resource.
pub(crate) type Vector = [f64; MAX_RESOURCES];

/// Heights closer than this are the same.
pub(crate) const EPSILON: f64 = 1e-9;

/// How far below its limit a node above it is brought, as a part of the way to its floor. With nothing, every node that
/// was hot in one resource would end full to the brim in it, and take no slot that another resource must get rid of.
const SLACK: f64 = 0.25;
const ALIGN: f64 = 0.5;

/// Why a slot moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Drain,
    Giant,
    Relief,
    Fill,
    Swap,
}

pub(crate) struct State<'a> {
    pub(crate) problem: &'a Problem,
    /// The goals of the active resources, in order.
    pub(crate) goals: Vec<&'a ResourceGoal>,
    /// By active resource.
    pub(crate) levels: Vec<Levels>,
    pub(crate) weight: Vector,
    /// Whether the resource is above its trigger somewhere.
    pub(crate) triggered: [bool; MAX_RESOURCES],
    /// By slot: share of all load.
    pub(crate) load: Vec<Vector>,
    /// By node: share of all capacity.
    pub(crate) room: Vec<Vector>,
    pub(crate) height: Vec<Vector>,
    pub(crate) height_before: Vec<Vector>,
    /// By node: what a plan may bring it to.
    pub(crate) limit: Vec<Vector>,
    /// By node: what a node above its limit is brought to, a little lower, so that it has room for others' slots.
    pub(crate) aim: Vec<Vector>,
    /// By resource: the highest that any node was.
    pub(crate) peak: Vector,
    /// By resource: what no target may be filled beyond.
    pub(crate) ceiling: Vector,
    /// Nodes with far less than their share.
    pub(crate) starved: Vec<bool>,
    pub(crate) owner: Vec<u32>,
    /// By node.
    pub(crate) slots: Vec<Vec<u16>>,
    /// By slot: what moving it costs, as a share of moving everything.
    pub(crate) cost: Vec<f64>,
    /// By resource: what the room of all nodes is worth, beside all bytes.
    pub(crate) scarcity: Vector,
    /// By slot: it is where it must be.
    pub(crate) locked: Vec<bool>,
    /// By slot: why it last moved, and when.
    pub(crate) moved: Vec<Option<(Why, u32)>>,
    vetoes: Vec<(u16, u32)>,
    clock: u32,
    seed: u64,
    pub(crate) work: u64,
    work_max: u64,
}

impl<'a> State<'a> {
    pub(crate) fn new(problem: &'a Problem, goals: &Goals) -> Self {
        let nodes = problem.nodes.len();
        let count = problem.owners.len();
        let active: Vec<_> = problem.active().take(MAX_RESOURCES).collect();
        let mut state = Self {
            problem,
            goals: active.iter().map(|resource| &resource.goal).collect(),
            levels: Vec::new(),
            weight: [0.0; MAX_RESOURCES],
            triggered: [false; MAX_RESOURCES],
            load: vec![[0.0; MAX_RESOURCES]; count],
            room: vec![[1.0; MAX_RESOURCES]; nodes],
            height: vec![[0.0; MAX_RESOURCES]; nodes],
            height_before: Vec::new(),
            limit: vec![[f64::INFINITY; MAX_RESOURCES]; nodes],
            aim: vec![[f64::INFINITY; MAX_RESOURCES]; nodes],
            peak: [0.0; MAX_RESOURCES],
            ceiling: [f64::INFINITY; MAX_RESOURCES],
            starved: vec![false; nodes],
            owner: problem.owners.clone(),
            slots: vec![Vec::new(); nodes],
            cost: costs(&problem.bytes),
            scarcity: [0.0; MAX_RESOURCES],
            locked: (0..count).map(|slot| !problem.movable(slot)).collect(),
            moved: vec![None; count],
            vetoes: goals.vetoes.iter().map(|veto| (veto.slot, veto.node)).collect(),
            clock: 0,
            seed: goals.seed,
            work: 0,
            work_max: goals.work_max,
        };
        state.vetoes.sort_unstable();
        for slot in &goals.resting {
            state.locked[usize::from(*slot)] = true;
        }
        let mut hungry: Vec<bool> =
            problem.nodes.iter().map(|node| goals.use_empty && node.receives() && !active.is_empty()).collect();
        let mut housed: Vec<(u16, u32)> = Vec::new();
        for (d, resource) in active.iter().enumerate() {
            let shares = Shares::of(problem, resource);
            let levels = Levels::of(problem, &shares, &housed);
            housed.extend(&levels.giants);
            state.read_resource(d, resource.goal.weight, &shares);
            if resource.absolute {
                state.ceiling[d] = resource.goal.ceiling * shares.room / shares.total;
            }
            let noise = noise(problem, &resource.variance, &shares, goals);
            state.set_limits(d, &levels, &noise, &mut hungry);
            state.levels.push(levels);
        }
        state.starved = hungry;
        for (slot, owner) in (0..).zip(&problem.owners) {
            if let Some(slots) = state.slots.get_mut(*owner as usize) {
                slots.push(slot);
            }
        }
        state.height_before = state.height.clone();
        state
    }

    fn read_resource(&mut self, d: usize, weight: f64, shares: &Shares) {
        self.weight[d] = weight;
        for (node, room) in shares.capacity.iter().enumerate() {
            self.room[node][d] = *room;
        }
        for (slot, load) in shares.load.iter().enumerate() {
            self.load[slot][d] = *load;
            let owner = self.owner[slot] as usize;
            if let Some(height) = self.height.get_mut(owner) {
                height[d] += load / self.room[owner][d];
            }
        }
    }

    /// Finds out whether the resource is above its trigger, which nodes starve, and how high each node may become.
    fn set_limits(&mut self, d: usize, levels: &Levels, noise: &[f64], hungry: &mut [bool]) {
        let (trigger, target, rest) = (self.goals[d].trigger, self.goals[d].target, levels.rest);
        let mut highest: f64 = 0.0;
        for (index, node) in self.problem.nodes.iter().enumerate() {
            if !node.counts() {
                hungry[index] = false;
                continue;
            }
            let height = self.height[index][d];
            highest = highest.max(height);
            let base = levels.fixed[index].unwrap_or(rest);
            // Noise may double the trigger and no more: a cluster that is never measured well is still evened.
            let slack = (trigger - 1.0) * base.max(rest);
            let doubtful = noise[index].min(2.0 * slack);
            self.triggered[d] |= node.duty != Duty::Frozen && height - base > slack.max(doubtful) + EPSILON;
            let short = height < (3.0 - 2.0 * trigger) * levels.mean && levels.mean - height > doubtful;
            hungry[index] &= levels.fixed[index].is_none() && short;
        }
        self.peak[d] = highest;
        for (index, node) in self.problem.nodes.iter().enumerate() {
            if !node.counts() || node.duty == Duty::Frozen {
                continue;
            }
            let base = levels.fixed[index].unwrap_or(rest).max(rest);
            // Beside a giant there is room for others as a part of it: they add no more to it than elsewhere to the rest.
            let aim = target * base;
            // The level of the rest may be above any maximum that there is or has to be: a plan may not go there.
            let aim = aim.min(highest.max(target * levels.least().0));
            // A resource that is even enough only has to stay so: evening it further would cost moves.
            let limit = if self.triggered[d] { aim } else { aim.max(highest) };
            let limit = limit.min(self.ceiling[d]);
            let slack = (limit - base).max(0.0) * SLACK;
            self.limit[index][d] = limit;
            self.aim[index][d] = if self.height[index][d] > limit { limit - slack } else { limit };
        }
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.goals.len()
    }

    /// Whether the bound on work is reached.
    pub(crate) fn exhausted(&self) -> bool {
        self.work >= self.work_max
    }

    /// What is above the limits of a node that has these heights.
    pub(crate) fn potential_at(&self, node: usize, height: &Vector) -> f64 {
        let mut sum = 0.0;
        for d in 0..MAX_RESOURCES {
            let over = (height[d] - self.aim[node][d]).max(0.0);
            sum += self.weight[d] * over * over;
        }
        sum
    }

    pub(crate) fn potential(&self, node: usize) -> f64 {
        self.potential_at(node, &self.height[node])
    }

    /// What of `node` cannot leave it.
    pub(crate) fn kept(&self, node: usize) -> Vector {
        let mut kept = [0.0; MAX_RESOURCES];
        for slot in self.slots[node].iter().filter(|slot| self.locked[usize::from(**slot)]) {
            for d in 0..MAX_RESOURCES {
                kept[d] += self.load[usize::from(*slot)][d] / self.room[node][d];
            }
        }
        kept
    }

    /// Lets `node` keep what cannot leave it: otherwise everything else would be driven out to no avail.
    pub(crate) fn allow_kept(&mut self, node: usize) {
        let kept = self.kept(node);
        for d in 0..self.dimensions() {
            if kept[d] > self.aim[node][d] {
                let slack = (self.goals[d].target - 1.0) * self.levels[d].rest;
                self.limit[node][d] = self.limit[node][d].max(kept[d] + slack).min(self.ceiling[d]);
                self.aim[node][d] = self.limit[node][d];
            }
        }
    }

    /// Whether `node` is above a limit.
    pub(crate) fn is_above(&self, node: usize) -> bool {
        (0..MAX_RESOURCES).any(|d| self.height[node][d] > self.limit[node][d] + EPSILON)
    }

    pub(crate) fn with(&self, node: usize, slot: u16) -> Vector {
        self.shifted(node, &self.load[usize::from(slot)], 1.0)
    }

    pub(crate) fn without(&self, node: usize, slot: u16) -> Vector {
        self.shifted(node, &self.load[usize::from(slot)], -1.0)
    }

    pub(crate) fn shifted(&self, node: usize, load: &Vector, sign: f64) -> Vector {
        let mut height = self.height[node];
        for d in 0..MAX_RESOURCES {
            height[d] += sign * load[d] / self.room[node][d];
        }
        height
    }

    /// Whether `node` may get `slot` at all.
    pub(crate) fn allowed(&self, slot: u16, node: usize) -> bool {
        self.problem.nodes[node].receives()
            && self.owner[usize::from(slot)] as usize != node
            && (self.vetoes.is_empty()
                || self.vetoes.binary_search(&(slot, u32::try_from(node).unwrap_or(u32::MAX))).is_err())
    }

    /// Whether `node` stays within its limits with `load` more: what a slot has not, it cannot worsen.
    pub(crate) fn fits(&self, node: usize, load: &Vector) -> bool {
        let (height, limit, room) = (&self.height[node], &self.limit[node], &self.room[node]);
        (0..MAX_RESOURCES).all(|d| load[d] <= 0.0 || height[d] + load[d] / room[d] <= limit[d] + EPSILON)
    }

    /// The node whose room is most like what `slot` takes, without going beyond its limits; where it is beyond one already, it
    /// may go a little further, for it will give other slots in return: by no more than `patience` of potential.
    pub(crate) fn best_fit(&mut self, slot: u16, patience: f64) -> Option<usize> {
        let load = self.load[usize::from(slot)];
        let mut best: Option<(f64, usize)> = None;
        self.work += self.problem.nodes.len() as u64;
        for node in 0..self.problem.nodes.len() {
            if !self.allowed(slot, node) || !self.fits_or_is_above(node, &load) {
                continue;
            }
            let (mut along, mut square) = (0.0, 0.0);
            for d in 0..MAX_RESOURCES {
                let left = (self.limit[node][d].min(1e3) - self.height[node][d]) * self.room[node][d];
                along += self.weight[d] * left * load[d];
                square += self.weight[d] * left * left;
            }
            let likeness = along / square.powf(ALIGN);
            if best.is_none_or(|(most, _)| likeness > most) {
                if !self.fits(node, &load) {
                    let harm = self.potential_at(node, &self.with(node, slot)) - self.potential(node);
                    if harm > patience { continue; }
                }
                best = Some((likeness, node));
            }
        }
        best.map(|(_, node)| node)
    }

    fn fits_or_is_above(&self, node: usize, load: &Vector) -> bool {
        let (height, limit, room) = (&self.height[node], &self.limit[node], &self.room[node]);
        (0..MAX_RESOURCES).all(|d| {
            let after = height[d] + load[d] / room[d];
            load[d] <= 0.0 || after <= limit[d] + EPSILON || (height[d] > limit[d] && after <= self.ceiling[d])
        })
    }

    /// Moves a slot, virtually.
    pub(crate) fn shift(&mut self, slot: u16, target: usize, why: Why) {
        let source = self.owner[usize::from(slot)] as usize;
        self.height[source] = self.without(source, slot);
        self.height[target] = self.with(target, slot);
        if let Some(place) = self.slots[source].iter().position(|other| *other == slot) {
            self.slots[source].swap_remove(place);
        }
        self.slots[target].push(slot);
        self.owner[usize::from(slot)] = u32::try_from(target).unwrap_or(u32::MAX);
        self.clock += 1;
        let home = self.owner[usize::from(slot)] == self.problem.owners[usize::from(slot)];
        self.moved[usize::from(slot)] = (!home).then_some((why, self.clock));
    }

    /// Breaks ties the same way every time for the same seed.
    pub(crate) fn lot(&self, slot: u16) -> u64 {
        let mut mixed = (u64::from(slot) ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^= mixed >> 29;
        mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }
}

/// By slot: its share of all bytes, plus what any move costs whatever its size: a twentieth of an average slot.
fn costs(bytes: &[f64]) -> Vec<f64> {
    let total: f64 = bytes.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let slots = bytes.len().max(1) as f64;
    bytes.iter().map(|bytes| bytes / total + 0.05 / slots).collect()
}

/// By node: how far from the truth its height may be, at the number of standard deviations that the goals name.
fn noise(problem: &Problem, variance: &[f64], shares: &Shares, goals: &Goals) -> Vec<f64> {
    let mut sums = vec![0.0; problem.nodes.len()];
    for (variance, owner) in variance.iter().zip(&problem.owners) {
        if let Some(sum) = sums.get_mut(*owner as usize) {
            *sum += if variance.is_finite() { variance.max(0.0) } else { 0.0 };
        }
    }
    let deviation = |variance: f64| (variance * goals.variance_factor).sqrt() * goals.sigmas;
    let per_height = |node: usize| shares.total.max(f64::MIN_POSITIVE) * shares.capacity[node];
    sums.iter().enumerate().map(|(node, variance)| deviation(*variance) / per_height(node)).collect()
}
