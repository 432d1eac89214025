//! A view and goals, as numbers: slots with loads, nodes with capacities and duties.

use std::fmt;

use crate::goals::{Goals, ResourceGoal};
use crate::view::{NO_OWNER, View, ViewNode};

/// At most so many resources at once: loads are kept in arrays of this length.
pub const MAX_RESOURCES: usize = 4;

/// What a node does for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Gives and gets.
    Serving,
    /// Gives, gets nothing.
    Cordoned,
    /// Gives all it has. It does not count in the mean.
    Draining,
    /// Neither gives nor gets: it is loading, or somebody cannot reach it.
    Frozen,
}

/// A primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As people know it: its address.
    pub name: String,
    /// What it does for this plan.
    pub duty: Duty,
}

impl Node {
    /// Whether its utilisation is part of the imbalance.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.duty != Duty::Draining
    }

    /// Whether slots may go there.
    #[must_use]
    pub fn receives(&self) -> bool {
        self.duty == Duty::Serving
    }
}

/// One resource: what each slot takes of it and what each node has.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// How even it is to be.
    pub goal: ResourceGoal,
    /// Load by slot, zero or more.
    pub loads: Vec<f64>,
    /// Variance of each load's samples; empty when unknown.
    pub variance: Vec<f64>,
    /// Capacity by node, above zero.
    pub capacity: Vec<f64>,
    /// By node, the load that fills it, where that is known; otherwise only ratios mean something.
    pub full: Option<Vec<f64>>,
    /// Whether it counts: there is load, and it is not idle.
    pub active: bool,
    /// How far to trust the loads, 0 (a guess) to 1 (counted).
    pub confidence: f64,
}

impl Resource {
    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.goal.name
    }
}

/// What [`crate::solve`] works on.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Primaries.
    pub nodes: Vec<Node>,
    /// Node index by slot; a slot in flight already belongs to its target.
    pub owners: Vec<u32>,
    /// What to even, most important first.
    pub resources: Vec<Resource>,
    /// What moving a slot costs, by slot.
    pub bytes: Vec<f64>,
    /// Keys by slot; empty when unknown.
    pub keys: Vec<f64>,
    /// By slot: it must stay.
    pub pinned: Vec<bool>,
    /// Zone by node, an index into `zone_names`.
    pub zones: Vec<u32>,
    /// What the zones are called; nodes that tell none have the empty name.
    pub zone_names: Vec<String>,
    /// Whether slots stay in their zone.
    pub keep_zone: bool,
}

/// Why a view and goals make no problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemError(pub String);

impl fmt::Display for ProblemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProblemError {}

impl Problem {
    /// Reads a view with goals in mind.
    ///
    /// A resource whose column is missing is left out. When no resource is active, slot counts are evened, so that
    /// a cluster without load or data still uses its empty nodes.
    ///
    /// # Errors
    /// When goals contradict themselves, or columns do not fit the view.
    pub fn of(view: &View, goals: &Goals) -> Result<Self, ProblemError> {
        check(view, goals)?;
        let weights = weights(view);
        let nodes: Vec<Node> = view.nodes.iter().zip(&weights).map(|(node, weight)| read(node, *weight)).collect();
        let mut owners: Vec<u32> = view.owners.to_vec();
        let mut pinned = vec![false; owners.len()];
        for slot in &goals.pinned {
            pinned[usize::from(*slot)] = true;
        }
        for step in &view.in_flight {
            let slot = usize::from(step.slot);
            if slot < owners.len() && (step.target as usize) < nodes.len() {
                owners[slot] = step.target;
                pinned[slot] = true;
            }
        }
        let keys = column(view, "keys");
        let bytes = column(view, "bytes").or_else(|| keys.clone()).unwrap_or_else(|| vec![1.0; owners.len()]);
        let keys = keys.unwrap_or_default();
        let mut resources: Vec<Resource> =
            goals.resources.iter().filter_map(|goal| resource(view, goals, &nodes, &owners, goal)).collect();
        if !resources.iter().any(|resource| resource.active) {
            let goal = ResourceGoal::named("slots");
            resources.retain(|resource| resource.goal.name != goal.name);
            resources.truncate(MAX_RESOURCES - 1);
            resources.extend(resource(view, goals, &nodes, &owners, &goal));
        }
        let (zones, zone_names) = zones(view);
        if goals.zone_share_max < 1.0 {
            let weights: Vec<f64> =
                weights.iter().zip(&nodes).map(|(weight, node)| if node.counts() { *weight } else { 0.0 }).collect();
            let factors = zone_factors(&zones, &zone_names, &weights, goals.zone_share_max)?;
            for capacity in resources.iter_mut().map(|resource| &mut resource.capacity) {
                capacity.iter_mut().zip(&factors).for_each(|(capacity, factor)| *capacity *= factor);
            }
        }
        Ok(Self { nodes, owners, resources, bytes, keys, pinned, zones, zone_names, keep_zone: goals.keep_zone })
    }

    /// By slot, the zone that it may not leave; none where slots may go anywhere, or nobody in its zone takes slots.
    pub(crate) fn zones_to_keep(&self) -> Vec<Option<u32>> {
        if !self.keep_zone {
            return vec![None; self.owners.len()];
        }
        let mut takes = vec![false; self.zone_names.len()];
        let receiving = self.zones.iter().zip(&self.nodes).filter(|(_, node)| node.receives());
        receiving.for_each(|(zone, _)| takes[*zone as usize] = true);
        let kept = |owner: &u32| self.zones.get(*owner as usize).copied().filter(|zone| takes[*zone as usize]);
        self.owners.iter().map(kept).collect()
    }

    /// The resources that count, most important first.
    pub fn active(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(|resource| resource.active)
    }

    /// Whether a slot may move at all.
    pub(crate) fn movable(&self, slot: usize) -> bool {
        !self.pinned[slot] && self.nodes.get(self.owners[slot] as usize).is_some_and(|node| node.duty != Duty::Frozen)
    }
}

fn check(view: &View, goals: &Goals) -> Result<(), ProblemError> {
    let fail = |text: String| Err(ProblemError(text));
    let slots = view.owners.len();
    let nodes = view.nodes.len();
    if goals.resources.len() > MAX_RESOURCES {
        return fail(format!("resources: {} are given, at most {MAX_RESOURCES} are possible", goals.resources.len()));
    }
    for goal in &goals.resources {
        let positive = [goal.trigger, goal.target, goal.weight, goal.ceiling].iter().all(|value| *value > 0.0);
        if !positive || !goal.trigger.is_finite() || goal.target < 1.0 || goal.trigger < goal.target || goal.idle < 0.0
        {
            return fail(format!(
                "resource {}: 1 <= target <= trigger is expected, and positive weight and ceiling",
                goal.name
            ));
        }
        if goals.resources.iter().filter(|other| other.name == goal.name).count() > 1 {
            return fail(format!("resource {} is given twice", goal.name));
        }
    }
    if !(goals.zone_share_max > 0.0 && goals.zone_share_max <= 1.0) {
        return fail(format!(
            "zone-share-max: {} is not a share: it must be above 0 and at most 1",
            goals.zone_share_max
        ));
    }
    for (key, listed) in [("pinned", &goals.pinned), ("resting", &goals.resting)] {
        if let Some(slot) = listed.iter().find(|slot| usize::from(**slot) >= slots) {
            return fail(format!("{key}: {slot} is not a slot"));
        }
    }
    if let Some(veto) = goals.vetoes.iter().find(|veto| usize::from(veto.slot) >= slots || veto.node as usize >= nodes)
    {
        return fail(format!("vetoes: slot {} and node {} do not both exist", veto.slot, veto.node));
    }
    if let Some(owner) = view.owners.iter().find(|owner| **owner != NO_OWNER && **owner as usize >= nodes) {
        return fail(format!("owner {owner} is not one of {nodes} nodes"));
    }
    if let Some((name, _)) = view.slot_columns.iter().find(|(_, column)| column.len() != slots) {
        return fail(format!("slot column {name} has not {slots} values"));
    }
    if let Some((name, _)) = view.node_columns.iter().find(|(_, column)| column.len() != nodes) {
        return fail(format!("node column {name} has not {nodes} values"));
    }
    Ok(())
}

/// The operator's weight of each node; 1 where it is not known.
fn weights(view: &View) -> Vec<f64> {
    match view.node_columns.get("weight") {
        Some(column) => column.iter().map(|weight| if *weight >= 0.0 { *weight } else { 1.0 }).collect(),
        None => vec![1.0; view.nodes.len()],
    }
}

fn read(node: &ViewNode, weight: f64) -> Node {
    let duty = if node.is("loading") || node.is("suspect") {
        Duty::Frozen
    } else if node.is("draining") || weight == 0.0 {
        Duty::Draining
    } else if node.is("cordoned") {
        Duty::Cordoned
    } else {
        Duty::Serving
    };
    Node { name: if node.address.is_empty() { node.id.clone() } else { node.address.clone() }, duty }
}

/// Zone by node, and what they are called.
fn zones(view: &View) -> (Vec<u32>, Vec<String>) {
    let mut names: Vec<String> = view.nodes.iter().map(|node| node.zone.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let place = |node: &ViewNode| names.binary_search(&node.zone).map_or(0, |place| place as u32);
    (view.nodes.iter().map(place).collect(), names)
}

/// By how much each node's capacity counts less or more, so that no zone's share of all capacity is above `most`.
///
/// What a zone has above it is taken from it and dealt to the others in proportion, until none is above. Nodes without a zone
/// fail alone: they are never above.
fn zone_factors(zones: &[u32], names: &[String], weights: &[f64], most: f64) -> Result<Vec<f64>, ProblemError> {
    let total: f64 = weights.iter().sum();
    let mut shares = vec![0.0; names.len()];
    zones
        .iter()
        .zip(weights)
        .for_each(|(zone, weight)| shares[*zone as usize] += weight / total.max(f64::MIN_POSITIVE));
    let mut factors = vec![1.0; names.len()];
    for _ in 0..names.len() {
        let capped = |zone: usize| !names[zone].is_empty() && shares[zone] * factors[zone] >= most - 1e-12;
        let (full, free): (Vec<usize>, Vec<usize>) =
            (0..names.len()).filter(|zone| shares[*zone] > 0.0).partition(|zone| capped(*zone));
        let over: f64 = full.iter().map(|zone| shares[*zone] * factors[*zone] - most).sum();
        if over <= 1e-12 {
            break;
        }
        let others: f64 = free.iter().map(|zone| shares[*zone] * factors[*zone]).sum();
        if others <= 0.0 {
            let count = full.len();
            return Err(ProblemError(format!(
                "zone-share-max: {count} zones cannot carry all load with at most {most} each: it must be {:.2} or more",
                1.0 / count as f64
            )));
        }
        full.iter().for_each(|zone| factors[*zone] = most / shares[*zone]);
        free.iter().for_each(|zone| factors[*zone] *= 1.0 + over / others);
    }
    Ok(zones.iter().map(|zone| factors[*zone as usize]).collect())
}

/// A slot column; what is no load (negative, NaN, infinite) counts as none.
fn column(view: &View, name: &str) -> Option<Vec<f64>> {
    let column = view.slot_columns.get(name)?;
    Some(column.iter().map(|value| if value.is_finite() && *value > 0.0 { *value } else { 0.0 }).collect())
}

/// Variance of a slow mean ÷ that of a fast one: α/(2−α) of half-lives of 5 minutes and of 30 seconds.
const SLOW_VARIANCE: f64 = 0.1;

/// A rate by slot: its slow mean, unless the fast one differs by more than the noise of the measurement. And the variance of its
/// samples, less where the slow mean, which is that much surer, stands for it.
///
/// One command that was held up looks like a hot slot for a while; a load that has really changed stays changed until
/// its variance has settled, and is believed then.
fn rate(view: &View, goals: &Goals, owners: &[u32], name: &str) -> Option<(Vec<f64>, Vec<f64>)> {
    let fast = column(view, name)?;
    let slow = column(view, &format!("{name}/slow"));
    let variance = column(view, &format!("{name}/variance"));
    let (slow, mut variance) = match (slow, variance) {
        (Some(slow), Some(variance)) => (slow, variance),
        (_, variance) => return Some((fast, variance.unwrap_or_default())),
    };
    let beyond_noise = |fast: f64, slow: f64, variance: f64| {
        (fast - slow).abs() > goals.sigmas * (variance * goals.variance_factor).sqrt()
    };
    let known = fast.iter().zip(&slow).zip(&variance);
    let changed: Vec<bool> = known.map(|((fast, slow), variance)| beyond_noise(*fast, *slow, *variance)).collect();
    let mut rates = slow;
    for (rate, fast) in rates.iter_mut().zip(&fast).zip(&changed).filter_map(|(pair, changed)| changed.then_some(pair))
    {
        *rate = *fast;
    }
    // What is noise in a slot need not be noise in the sum over a node. Slots are chosen to move for what they seemed to
    // carry, and those that seemed to carry most were partly lucky: where they went, there is less load than planned,
    // and where they came from, more (the winner's curse). The node's own sum tells long before each slot's mean does.
    let mut sums = vec![[0.0; 3]; view.nodes.len()];
    for (slot, owner) in owners.iter().enumerate().filter(|(slot, _)| !changed[*slot]) {
        if let Some(sums) = sums.get_mut(*owner as usize) {
            let of_slot = [fast[slot], rates[slot], variance[slot]];
            sums.iter_mut().zip(of_slot).for_each(|(sum, value)| *sum += value);
        }
    }
    let correction = |[measured, expected, variance]: &[f64; 3]| {
        let surprised = *expected > 0.0 && beyond_noise(*measured, *expected, *variance);
        surprised.then(|| measured / expected)
    };
    let corrections: Vec<Option<f64>> = sums.iter().map(correction).collect();
    for (slot, owner) in owners.iter().enumerate().filter(|(slot, _)| !changed[*slot]) {
        match corrections.get(*owner as usize).copied().flatten() {
            Some(correction) => rates[slot] *= correction,
            None => variance[slot] *= SLOW_VARIANCE,
        }
    }
    Some((rates, variance))
}

/// Both together; one of unknown variance makes that of both unknown.
fn sum(one: Option<(Vec<f64>, Vec<f64>)>, other: Option<(Vec<f64>, Vec<f64>)>) -> Option<(Vec<f64>, Vec<f64>)> {
    let added = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one + other).collect();
    match (one, other) {
        (Some(one), Some(other)) => Some((added(&one.0, &other.0), added(&one.1, &other.1))),
        (one, other) => one.or(other),
    }
}

/// What each slot takes of a resource, and the variance of that where it is known.
fn loads(view: &View, goals: &Goals, owners: &[u32], name: &str) -> Option<(Vec<f64>, Vec<f64>)> {
    match name {
        "cpu" => rate(view, goals, owners, "cpu-usec"),
        "memory" => Some((column(view, "bytes").or_else(|| column(view, "keys"))?, Vec::new())),
        "network" => sum(rate(view, goals, owners, "net-in"), rate(view, goals, owners, "net-out")),
        "slots" => Some((vec![1.0; view.owners.len()], Vec::new())),
        name => rate(view, goals, owners, name),
    }
}

/// How far to trust the loads of a resource: as far as the least of its columns.
fn confidence(view: &View, name: &str) -> f64 {
    let columns = match name {
        "cpu" => vec!["cpu-usec"],
        "memory" => vec!["bytes"],
        "network" => vec!["net-in", "net-out"],
        name => vec![name],
    };
    columns.iter().filter_map(|column| view.confidence.get(*column)).copied().fold(1.0, f64::min)
}

fn resource(view: &View, goals: &Goals, nodes: &[Node], owners: &[u32], goal: &ResourceGoal) -> Option<Resource> {
    let weights = weights(view);
    let (loads, variance) = loads(view, goals, owners, &goal.name)?;
    // A node of weight zero is drained; it needs some capacity only to be no division by zero.
    let relative: Vec<f64> = weights.iter().map(|weight| if *weight > 0.0 { *weight } else { 1.0 }).collect();
    let memory_max = view.node_columns.get("memory-max").filter(|_| goal.name == "memory");
    let memory_known = view.slot_columns.contains_key("bytes")
        && memory_max.is_some_and(|column| {
            column.iter().zip(nodes).all(|(max, node)| (max.is_finite() && *max > 0.0) || !node.counts())
        });
    let (capacity, absolute) = match (goal.name.as_str(), memory_max) {
        // One core runs a server's commands: a million microseconds a second.
        ("cpu", _) => (relative.iter().map(|weight| weight * 1e6).collect(), true),
        ("memory", Some(max)) if memory_known => {
            (max.iter().map(|max| if max.is_finite() && *max > 0.0 { *max } else { 1.0 }).collect(), true)
        }
        _ => (relative, false),
    };
    let capacity: Vec<f64> = capacity;
    let total: f64 = loads.iter().zip(owners).filter(|(_, owner)| **owner != NO_OWNER).map(|(load, _)| load).sum();
    let room: f64 = capacity.iter().zip(nodes).filter(|(_, node)| node.counts()).map(|(capacity, _)| capacity).sum();
    let active = total > 0.0 && room > 0.0 && (!absolute || total / room >= goal.idle);
    let full = absolute.then(|| capacity.clone());
    let confidence = confidence(view, &goal.name);
    Some(Resource { goal: goal.clone(), loads, variance, capacity, full, active, confidence })
}
