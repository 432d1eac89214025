//! In which order to move: every prefix is a plan.
//!
//! A plan may be cut anywhere: by a budget, by the guard, by a failure. So at each step the source with most potential
//! gives next, and only to a target that this brings no higher than it was, ends, or may be; the node of a giant may for
//! a while be as high as the highest was. What cannot be ordered so is left out, except what leaves a draining node:
//! that must go, and its target rises only until it gives in its turn.

use crate::goals::Goals;
use crate::problem::{Duty, MAX_RESOURCES};
use crate::state::{EPSILON, State, Vector, Why};
use crate::view::Move;

/// How far above the highest that any node was one may go for a while, as a part of the mean, so that two can exchange slots.
const EXCHANGE: f64 = 0.01;

/// A move of the final plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) slot: u16,
    source: usize,
    target: usize,
    why: Why,
}

/// The moves from the problem's placement to the state's.
pub(crate) fn order(state: &State) -> Vec<Step> {
    let mut line = Line::new(state);
    let mut ordered = Vec::new();
    while let Some(step) = line.next_within_caps().or_else(|| line.next_in_turn()).or_else(|| line.next_drained()) {
        line.apply(&step);
        ordered.push(step);
    }
    ordered
}

/// What waits, and how the nodes stand after what has been ordered so far.
struct Line<'a> {
    state: &'a State<'a>,
    /// By source, what leaves it, in the order in which the search found it.
    queues: Vec<Vec<Step>>,
    /// Sources of which a move may fit; a source that is not, waits for another to give.
    waiting: Vec<bool>,
    height: Vec<Vector>,
    potential: Vec<f64>,
    caps: Vec<Vector>,
}

impl<'a> Line<'a> {
    fn new(state: &'a State<'a>) -> Self {
        let queues = queues(state);
        let height = state.height_before.clone();
        Self {
            waiting: queues.iter().map(|queue| !queue.is_empty()).collect(),
            potential: (0..height.len()).map(|node| state.potential_at(node, &height[node])).collect(),
            caps: (0..height.len()).map(|node| cap(state, node)).collect(),
            state,
            queues,
            height,
        }
    }

    fn next_within_caps(&mut self) -> Option<Step> {
        while let Some(source) = self.next_source() {
            match self.queues[source].iter().position(|step| self.fits(step)) {
                Some(place) => return Some(self.queues[source].remove(place)),
                None => self.waiting[source] = false,
            }
        }
        None
    }

    /// Where nodes wait for each other: the move that goes least above a cap, and no higher than any node was but for
    /// [`EXCHANGE`].
    fn next_in_turn(&mut self) -> Option<Step> {
        let mut best: Option<(f64, usize, usize)> = None;
        for (source, queue) in self.queues.iter().enumerate() {
            for (place, step) in queue.iter().enumerate() {
                let above = self.above(step);
                if above.is_finite() && best.is_none_or(|(least, ..)| above < least) {
                    best = Some((above, source, place));
                }
            }
        }
        best.map(|(_, source, place)| self.queues[source].remove(place))
    }

    /// How far `step` would lift its target above a cap; infinite when that is not to be.
    fn above(&self, step: &Step) -> f64 {
        let load = &self.state.load[usize::from(step.slot)];
        let mut above: f64 = 0.0;
        for d in 0..self.state.dimensions() {
            let after = self.height[step.target][d] + load[d] / self.state.room[step.target][d];
            let cap = self.caps[step.target][d];
            if load[d] > 0.0 && after > cap {
                if after > self.state.peak[d] + EXCHANGE || after > self.state.ceiling[step.target][d] {
                    return f64::INFINITY;
                }
                above = above.max(after - cap);
            }
        }
        above
    }

    /// The first move that leaves a draining node, whatever its target's cap says.
    fn next_drained(&mut self) -> Option<Step> {
        let drains = |node: &usize| self.state.problem.nodes[*node].duty == Duty::Draining;
        let source = (0..self.queues.len()).filter(drains).find(|node| !self.queues[*node].is_empty())?;
        Some(self.queues[source].remove(0))
    }

    fn fits(&self, step: &Step) -> bool {
        let load = &self.state.load[usize::from(step.slot)];
        let (height, room) = (&self.height[step.target], &self.state.room[step.target]);
        let cap = &self.caps[step.target];
        // Placing a giant is what helps most: its node may shed the rest afterwards, but never becomes a new maximum.
        let spare = |d: usize| if step.why == Why::Giant { self.state.peak[d] } else { 0.0 };
        (0..MAX_RESOURCES).all(|d| load[d] <= 0.0 || height[d] + load[d] / room[d] <= cap[d].max(spare(d)) + EPSILON)
    }

    fn apply(&mut self, step: &Step) {
        let load = &self.state.load[usize::from(step.slot)];
        for d in 0..MAX_RESOURCES {
            self.height[step.source][d] -= load[d] / self.state.room[step.source][d];
            self.height[step.target][d] += load[d] / self.state.room[step.target][d];
        }
        for node in [step.source, step.target] {
            self.potential[node] = self.state.potential_at(node, &self.height[node]);
        }
        // The source has more room now, so what waits to go there may fit.
        for (node, queue) in self.queues.iter().enumerate() {
            let woken = || queue.iter().any(|other| other.target == step.source);
            self.waiting[node] = !queue.is_empty() && (self.waiting[node] || node == step.source || woken());
        }
    }

    /// Draining nodes first, then whoever has most potential.
    fn next_source(&self) -> Option<usize> {
        let mut best: Option<(bool, f64, usize)> = None;
        for node in (0..self.queues.len()).filter(|node| self.waiting[*node]) {
            let drains = self.state.problem.nodes[node].duty == Duty::Draining;
            let potential = self.potential[node];
            if best.is_none_or(|(first, most, _)| (drains, potential) > (first, most)) {
                best = Some((drains, potential, node));
            }
        }
        best.map(|(_, _, node)| node)
    }
}

/// By source, what leaves it, in the order in which the search found it.
fn queues(state: &State) -> Vec<Vec<Step>> {
    let mut steps: Vec<(u32, Step)> = Vec::new();
    for (slot, moved) in (0..).zip(&state.moved) {
        if let Some((why, when)) = moved {
            let source = state.problem.owners[usize::from(slot)] as usize;
            let target = state.owner[usize::from(slot)] as usize;
            steps.push((*when, Step { slot, source, target, why: *why }));
        }
    }
    steps.sort_unstable_by_key(|(when, _)| *when);
    let mut queues = vec![Vec::new(); state.problem.nodes.len()];
    for (_, step) in steps {
        queues[step.source].push(step);
    }
    queues
}

/// What a node may have at any time: the most of what it had, what it may reach, and what it ends with unless that is
/// above all that any node had.
fn cap(state: &State, node: usize) -> Vector {
    let mut cap = state.limit[node];
    for (d, cap) in cap.iter_mut().enumerate() {
        *cap = cap.max(state.height_before[node][d]).max(state.height[node][d].min(state.peak[d]));
    }
    cap
}

/// The longest prefix within the budgets.
pub(crate) fn within_budget(state: &State, mut steps: Vec<Step>, goals: &Goals) -> Vec<Step> {
    let mut bytes = 0.0;
    let fits = steps.iter().take(goals.moves_max).take_while(|step| {
        bytes += state.problem.bytes[usize::from(step.slot)];
        bytes <= goals.bytes_max
    });
    let length = fits.count();
    steps.truncate(length);
    steps
}

/// The steps as moves, each with its reason.
pub(crate) fn explain(state: &State, steps: &[Step]) -> Vec<Move> {
    let explained = steps.iter().map(|step| Move {
        slot: step.slot,
        target: u32::try_from(step.target).unwrap_or(u32::MAX),
        reason: reason(state, step),
    });
    explained.collect()
}

fn reason(state: &State, step: &Step) -> String {
    let (source, target) = (&state.problem.nodes[step.source].name, &state.problem.nodes[step.target].name);
    match step.why {
        Why::Drain => format!("{source} is draining"),
        Why::Giant => format!("slot {} is larger than a fair share, and best on {target}", step.slot),
        Why::Fill => format!("{target} has room"),
        Why::Swap => format!("swapped between {source} and {target}"),
        Why::Relief => {
            let over = |d: usize| state.height_before[step.source][d] - state.limit[step.source][d];
            let worst = (0..state.dimensions()).max_by(|one, other| over(*one).total_cmp(&over(*other))).unwrap_or(0);
            let name = state.goals.get(worst).map_or("", |goal| goal.name.as_str());
            format!("{name} of {source} is {:.2} of the mean", state.height_before[step.source][worst])
        }
    }
}
