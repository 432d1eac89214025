//! A placement in the making: heights of nodes, what they may reach, and the moves so far.
//!
//! Heights are load ÷ capacity in units of the mean, so all resources compare. The *potential* of a node is the
//! weighted sum of the squares of what is above its limits: a pure maximum would leave the search no slope to follow.

use crate::floor::{Levels, Shares};
use crate::goals::{Goals, ResourceGoal};
use crate::problem::{Duty, MAX_RESOURCES, Problem};
use crate::shapes::least_together;

/// One number per resource.
pub(crate) type Vector = [f64; MAX_RESOURCES];

/// Heights closer than this are the same.
pub(crate) const EPSILON: f64 = 1e-9;

/// How far below its limit a node above it is brought, as a part of the way to its floor. With nothing, every node that
/// was hot in one resource would end full to the brim in it, and take no slot that another resource must get rid of.
const SLACK: f64 = 0.25;

/// A node with less than this part of its share starves, however late the trigger is.
const SHORT: f64 = 0.25;

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
    /// The least that the largest height of all resources can be at once.
    pub(crate) together: f64,
    /// By slot: the zone that it has to keep.
    pub(crate) zone: Vec<Option<u32>>,
    pub(crate) weight: Vector,
    /// Whether the resource is above its trigger somewhere.
    pub(crate) triggered: [bool; MAX_RESOURCES],
    /// By slot: share of all load.
    pub(crate) load: Vec<Vector>,
    /// By node: share of all capacity.
    pub(crate) room: Vec<Vector>,
    pub(crate) height: Vec<Vector>,
    pub(crate) height_before: Vec<Vector>,
    /// By node, as shares of all load: how far it is below its limits, or above.
    pub(crate) left: Vec<Vector>,
    /// By node: the weighed square of what is left of its room.
    pub(crate) spread: Vec<f64>,
    /// By node: the weighed square of what is above its aims.
    pub(crate) potential: Vec<f64>,
    /// By node: what the resources that it has too much of were found to be worth when last looked at.
    pub(crate) prices: Vec<Vector>,
    /// By node: what a plan may bring it to.
    pub(crate) limit: Vec<Vector>,
    /// By node: what a node above its limit is brought to, a little lower, so that it has room for others' slots.
    pub(crate) aim: Vec<Vector>,
    /// By resource: the highest that any node was.
    pub(crate) peak: Vector,
    /// By node: what it may not be filled beyond.
    pub(crate) ceiling: Vec<Vector>,
    /// Nodes with far less than their share.
    pub(crate) starved: Vec<bool>,
    pub(crate) owner: Vec<u32>,
    /// By node.
    pub(crate) slots: Vec<Vec<u16>>,
    /// By slot: its place among its node's.
    place: Vec<u32>,
    /// By slot: what moving it costs, as a share of moving everything.
    pub(crate) cost: Vec<f64>,
    /// By resource: what the room of all nodes is worth, beside all bytes.
    pub(crate) scarcity: Vector,
    /// By slot: it is where it must be.
    pub(crate) locked: Vec<bool>,
    /// By slot: why it last moved, and when.
    pub(crate) moved: Vec<Option<(Why, u32)>>,
    pub(crate) vetoes: Vec<(u16, u32)>,
    pub(crate) clock: u32,
    pub(crate) seed: u64,
    pub(crate) work: u64,
    pub(crate) work_max: u64,
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
            together: 1.0,
            zone: problem.zones_to_keep(),
            weight: [0.0; MAX_RESOURCES],
            triggered: [false; MAX_RESOURCES],
            load: vec![[0.0; MAX_RESOURCES]; count],
            room: vec![[1.0; MAX_RESOURCES]; nodes],
            height: vec![[0.0; MAX_RESOURCES]; nodes],
            height_before: Vec::new(),
            left: vec![[0.0; MAX_RESOURCES]; nodes],
            spread: vec![0.0; nodes],
            potential: vec![0.0; nodes],
            prices: vec![[0.0; MAX_RESOURCES]; nodes],
            limit: vec![[f64::INFINITY; MAX_RESOURCES]; nodes],
            aim: vec![[f64::INFINITY; MAX_RESOURCES]; nodes],
            peak: [0.0; MAX_RESOURCES],
            ceiling: vec![[f64::INFINITY; MAX_RESOURCES]; nodes],
            starved: vec![false; nodes],
            owner: problem.owners.clone(),
            slots: vec![Vec::new(); nodes],
            place: vec![0; count],
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
        let mut measured: Vec<Vec<f64>> = Vec::new();
        for (d, resource) in active.iter().enumerate() {
            let shares = Shares::of(problem, resource);
            let levels = Levels::of(problem, &shares, &housed);
            housed.extend(&levels.giants);
            state.read_resource(d, resource.goal.weight, &shares);
            if let Some(full) = &resource.full {
                for node in 0..nodes {
                    state.ceiling[node][d] =
                        resource.goal.ceiling * full[node] / (shares.capacity[node] * shares.total);
                }
            }
            measured.push(noise(problem, &resource.variance, &shares, goals));
            state.levels.push(levels);
        }
        let counted = (0..nodes).filter(|node| problem.nodes[*node].counts());
        let room: Vec<Vector> = counted.map(|node| state.room[node]).collect();
        state.together = least_together(&state.load, &room, active.len());
        for (d, noise) in measured.iter().enumerate() {
            state.set_limits(d, noise, &mut hungry);
        }
        state.starved = hungry;
        for (slot, owner) in (0..).zip(&problem.owners) {
            if (*owner as usize) < nodes {
                state.put(slot, *owner as usize);
            }
        }
        state.height_before = state.height.clone();
        (0..nodes).for_each(|node| state.look_again(node));
        state
    }

    /// Puts `slot` among the slots of `node`.
    pub(crate) fn put(&mut self, slot: u16, node: usize) {
        self.place[usize::from(slot)] = u32::try_from(self.slots[node].len()).unwrap_or(u32::MAX);
        self.slots[node].push(slot);
        self.owner[usize::from(slot)] = u32::try_from(node).unwrap_or(u32::MAX);
    }

    /// Takes `slot` away from among the slots of its node.
    pub(crate) fn take(&mut self, slot: u16) {
        let (node, place) = (self.owner[usize::from(slot)] as usize, self.place[usize::from(slot)] as usize);
        self.slots[node].swap_remove(place);
        if let Some(last) = self.slots[node].get(place) {
            self.place[usize::from(*last)] = self.place[usize::from(slot)];
        }
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

    /// What `node` can be brought to in resource `d`, in units of the mean.
    pub(crate) fn level(&self, node: usize, d: usize) -> f64 {
        self.levels[d].level(node).max(self.together)
    }

    /// Finds out whether the resource is above its trigger, which nodes starve, and how high each node may become.
    fn set_limits(&mut self, d: usize, noise: &[f64], hungry: &mut [bool]) {
        let trigger = self.goals[d].trigger;
        let levels = &self.levels[d];
        let mut highest: f64 = 0.0;
        for (index, node) in self.problem.nodes.iter().enumerate() {
            if !node.counts() {
                hungry[index] = false;
                continue;
            }
            let height = self.height[index][d];
            highest = highest.max(height);
            let level = self.level(index, d);
            // Noise may double the trigger and no more: a cluster that is never measured well is still evened.
            let slack = (trigger - 1.0) * level;
            let doubtful = noise[index].min(2.0 * slack);
            self.triggered[d] |= node.duty != Duty::Frozen && height - level > slack.max(doubtful) + EPSILON;
            let mean = levels.mean[index];
            let short = height < (3.0 - 2.0 * trigger).max(SHORT) * mean && mean - height > doubtful;
            hungry[index] &= levels.fixed[index].is_none() && short;
        }
        self.peak[d] = highest;
        for node in 0..self.height.len() {
            self.limit_to_level(node, d);
        }
    }

    /// How high a plan may bring `node` in resource `d`, by the level that it can be brought to.
    pub(crate) fn limit_to_level(&mut self, node: usize, d: usize) {
        let duty = self.problem.nodes[node].duty;
        if matches!(duty, Duty::Draining | Duty::Frozen) {
            return;
        }
        let (level, target, highest) = (self.level(node, d), self.goals[d].target, self.peak[d]);
        // Beside a giant there is room for others as a part of it: they add no more to it than elsewhere to the rest.
        let aim = target * level;
        // The level of the rest may be above any maximum that there is or has to be: a plan may not go there.
        let aim = aim.min(highest.max(target * self.levels[d].least().0.max(self.together)));
        // A resource that is even enough only has to stay so: evening it further would cost moves.
        let limit = if self.triggered[d] { aim } else { aim.max(highest) };
        let limit = limit.min(self.ceiling[node][d]);
        let slack = (limit - level).max(0.0) * SLACK;
        self.limit[node][d] = limit;
        self.aim[node][d] = if self.height[node][d] > limit { limit - slack } else { limit };
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
