//! Where a slot may go and what that does: heights, potentials, room.

use crate::problem::MAX_RESOURCES;
use crate::state::{EPSILON, State, Vector, Why};

/// Room without a limit is taken for so many times the mean.
const BOUNDLESS: f64 = 1e3;

impl State<'_> {
    pub(crate) fn dimensions(&self) -> usize {
        self.goals.len()
    }

    /// Whether the bound on work is reached.
    pub(crate) fn exhausted(&self) -> bool {
        self.work >= self.work_max
    }

    /// What is above the aims of a node that has these heights.
    pub(crate) fn potential_at(&self, node: usize, height: &Vector) -> f64 {
        let mut sum = 0.0;
        for d in 0..MAX_RESOURCES {
            let over = (height[d] - self.aim[node][d]).max(0.0);
            sum += self.weight[d] * over * over;
        }
        sum
    }

    /// Brings what is kept of `node` beside its heights and limits up to date with them.
    pub(crate) fn look_again(&mut self, node: usize) {
        let mut spread = 0.0;
        for d in 0..MAX_RESOURCES {
            let below = self.limit[node][d].min(BOUNDLESS) + EPSILON - self.height[node][d];
            self.left[node][d] = below * self.room[node][d];
            spread += self.weight[d] * self.left[node][d] * self.left[node][d];
        }
        self.spread[node] = spread;
        self.potential[node] = self.potential_at(node, &self.height[node]);
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
                let slack = (self.goals[d].target - 1.0) * self.levels[d].rest[node];
                self.limit[node][d] = self.limit[node][d].max(kept[d] + slack).min(self.ceiling[node][d]);
                self.aim[node][d] = self.limit[node][d];
            }
        }
        self.look_again(node);
    }

    /// Whether `node` is above a limit.
    pub(crate) fn is_above(&self, node: usize) -> bool {
        (0..self.dimensions()).any(|d| self.height[node][d] > self.limit[node][d] + EPSILON)
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
            && self.zone[usize::from(slot)].is_none_or(|zone| self.problem.zones[node] == zone)
            && (self.vetoes.is_empty()
                || self.vetoes.binary_search(&(slot, u32::try_from(node).unwrap_or(u32::MAX))).is_err())
    }

    /// Whether `node` stays within its limits with `load` more: what a slot has not, it cannot worsen.
    pub(crate) fn fits(&self, node: usize, load: &Vector) -> bool {
        (0..MAX_RESOURCES).all(|d| load[d] <= self.left[node][d].max(0.0))
    }

    /// The node whose room is most like what `slot` takes, without going beyond its limits; where it is beyond one already, it
    /// may go a little further, for it will give other slots in return: by no more than `patience` of potential.
    ///
    /// Likeness is the cosine between the two, which packs vectors best of the simple rules (Panigrahy et al., *Heuristics for
    /// Vector Bin Packing*, 2011): what is hot and small goes where there is cpu and no memory.
    pub(crate) fn best_fit(&mut self, slot: u16, patience: f64) -> Option<usize> {
        let load = self.load[usize::from(slot)];
        let mut weighed = load;
        weighed.iter_mut().zip(&self.weight).for_each(|(load, weight)| *load *= weight);
        let mut best: Option<(f64, usize)> = None;
        self.work += self.left.len() as u64 / 2;
        for node in 0..self.left.len() {
            let left = &self.left[node];
            let (mut along, mut lacking, mut full) = (0.0, false, false);
            for d in 0..MAX_RESOURCES {
                along += left[d] * weighed[d];
                lacking |= load[d] > left[d].max(0.0);
                full |= load[d] > left[d].max(0.0) && left[d] >= 0.0;
            }
            // The square of the cosine with its sign, but for what the slot itself brings to it.
            let likeness = along * along.abs() / self.spread[node];
            if full || (lacking && patience <= 0.0) || best.is_some_and(|(most, _)| likeness <= most) {
                continue;
            }
            if self.allowed(slot, node) && (!lacking || self.bears(node, slot, patience)) {
                best = Some((likeness, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Whether `slot` costs `node` no more than `patience` of potential, below every ceiling.
    fn bears(&self, node: usize, slot: u16, patience: f64) -> bool {
        let height = self.with(node, slot);
        (0..self.dimensions()).all(|d| height[d] <= self.ceiling[node][d])
            && self.potential_at(node, &height) - self.potential[node] <= patience
    }

    /// Moves a slot, virtually.
    pub(crate) fn shift(&mut self, slot: u16, target: usize, why: Why) {
        let source = self.owner[usize::from(slot)] as usize;
        self.height[source] = self.without(source, slot);
        self.height[target] = self.with(target, slot);
        self.take(slot);
        self.put(slot, target);
        self.look_again(source);
        self.look_again(target);
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
