//! Filling: nodes with far less than their share get some of it, whatever the maximum is.

use crate::problem::Duty;
use crate::relieve::best_first;
use crate::state::{EPSILON, State, Why};

impl State<'_> {
    /// Brings starved nodes near the level of the others, from the fullest.
    pub(crate) fn fill(&mut self) {
        for node in 0..self.problem.nodes.len() {
            let enough = self.enough(node);
            let mut spent = vec![false; self.problem.nodes.len()];
            while self.starved[node] && self.height[node][0] < enough && !self.exhausted() {
                let Some(donor) = self.fullest(node, &spent) else { break };
                spent[donor] = !self.feed(node, donor, enough);
            }
        }
    }

    pub(crate) fn still_starved(&self) -> bool {
        (0..self.starved.len()).any(|node| self.starved[node] && self.height[node][0] < self.enough(node))
    }

    /// Up to where a starved node is filled, by the first resource: as far below the mean as the trigger is above.
    pub(crate) fn enough(&self, node: usize) -> f64 {
        self.goals.first().map_or(0.0, |goal| (2.0 - goal.trigger) * self.levels[0].mean[node])
    }

    fn fullest(&self, hungry: usize, spent: &[bool]) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (node, spent) in spent.iter().enumerate() {
            let gives = matches!(self.problem.nodes[node].duty, Duty::Serving | Duty::Cordoned);
            let above = self.height[node][0] > self.levels[0].mean[node] && self.levels[0].fixed[node].is_none();
            if node != hungry && !spent && gives && above {
                best = best.filter(|other| self.height[*other][0] >= self.height[node][0]).or(Some(node));
            }
        }
        best
    }

    /// Moves what fills `node` most per byte from `donor`, until it is no longer the fullest by much.
    fn feed(&mut self, node: usize, donor: usize, enough: f64) -> bool {
        self.work += self.slots[donor].len() as u64;
        let lacking = enough - self.height[node][0];
        let mut scored: Vec<(f64, u64, u16)> = Vec::new();
        for slot in &self.slots[donor] {
            let load = self.load[usize::from(*slot)];
            let gain = (load[0] / self.room[node][0]).min(lacking);
            if !self.locked[usize::from(*slot)] && gain > EPSILON && self.allowed(*slot, node) && self.fits(node, &load)
            {
                scored.push((gain / self.cost[usize::from(*slot)], self.lot(*slot), *slot));
            }
        }
        let count = (self.slots[donor].len() / 64).max(4).min(scored.len());
        best_first(&mut scored, count);
        scored.truncate(count);
        let mut progress = false;
        for (_, _, slot) in scored {
            let (here, there) = (self.with(node, slot), self.without(donor, slot));
            let useful = self.height[node][0] < enough && there[0] >= here[0].min(enough);
            if useful && self.fits(node, &self.load[usize::from(slot)]) {
                self.shift(slot, node, Why::Fill);
                progress = true;
            }
        }
        progress
    }
}
