//! Slots too large for a fair share: each gets the node that suits it, before anything else is thought of.

use crate::problem::Duty;
use crate::state::{EPSILON, State, Why};

impl State<'_> {
    /// Puts giants where they are best and keeps them there.
    pub(crate) fn place_giants(&mut self) {
        let giants: Vec<(usize, u16, usize)> = (self.levels.iter().enumerate())
            .flat_map(|(d, levels)| levels.giants.iter().map(move |(slot, node)| (d, *slot, *node as usize)))
            .collect();
        for (d, slot, node) in giants {
            let owner = self.owner[usize::from(slot)] as usize;
            if self.locked[usize::from(slot)] {
                continue;
            }
            let drained = self.problem.nodes[owner].duty == Duty::Draining;
            if owner != node && (self.triggered[d] || drained) {
                let suits = self.allowed(slot, node) && self.bears_giant(node, d, slot);
                if let Some(house) = Some(node).filter(|_| suits).or_else(|| self.other_house(d, slot)) {
                    self.shift(slot, house, Why::Giant);
                }
                self.relevel(d, slot, node);
            }
            self.locked[usize::from(slot)] = !drained || self.owner[usize::from(slot)] as usize != owner;
        }
        for node in 0..self.height.len() {
            self.allow_kept(node);
        }
    }

    /// The largest node that can take a giant, where the one that was thought of cannot, and of those the one that is least
    /// above its limits with it; none where the giant is no worse off at home.
    fn other_house(&mut self, d: usize, slot: u16) -> Option<usize> {
        self.work += self.height.len() as u64;
        let home = self.owner[usize::from(slot)] as usize;
        let mut best: Option<(f64, f64, usize)> = None;
        for node in 0..self.height.len() {
            let free = self.levels[d].fixed[node].is_none() && self.allowed(slot, node);
            if !free || !self.bears_giant(node, d, slot) {
                continue;
            }
            let (room, potential) = (self.room[node][d], self.potential_at(node, &self.with(node, slot)));
            if best.is_none_or(|(largest, least, _)| room > largest || (room >= largest && potential < least)) {
                best = Some((room, potential, node));
            }
        }
        let larger = |room: f64| room > self.room[home][d] || !self.problem.nodes[home].counts();
        best.filter(|(room, ..)| larger(*room) || self.levels[d].fixed[home].is_some()).map(|(.., node)| node)
    }

    /// Where the giant `slot` did not come to `node`, the level that was meant for that is that of the node where it is.
    fn relevel(&mut self, d: usize, slot: u16, node: usize) {
        let house = self.owner[usize::from(slot)] as usize;
        if house == node || !self.problem.nodes[house].counts() || self.levels[d].fixed[house].is_some() {
            return;
        }
        let levels = &mut self.levels[d];
        levels.fixed[node] = None;
        levels.fixed[house] = Some(self.load[usize::from(slot)][d] / self.room[house][d]);
        levels
            .giants
            .iter_mut()
            .filter(|(giant, _)| *giant == slot)
            .for_each(|(_, at)| *at = u32::try_from(house).unwrap_or(u32::MAX));
        self.limit_to_level(node, d);
        self.limit_to_level(house, d);
    }

    /// Gives slots that are too large for the node that they are on, though not for every node, to a larger one, which then
    /// sheds others in their place: otherwise everything else would be driven out of their own.
    pub(crate) fn rehouse(&mut self) {
        let mut outsize: Vec<(f64, u16)> = Vec::new();
        for slot in (0..).take(self.owner.len()).filter(|slot| !self.locked[usize::from(*slot)]) {
            let owner = self.owner[usize::from(slot)] as usize;
            let above = |d: usize| self.load[usize::from(slot)][d] / self.room[owner][d] / self.limit[owner][d];
            let most = (0..self.dimensions()).map(above).fold(0.0, f64::max);
            if most > 1.0 && self.problem.nodes[owner].counts() {
                outsize.push((most, slot));
            }
        }
        outsize.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        for (_, slot) in outsize {
            if let Some(node) = self.best_house(slot) {
                self.shift(slot, node, Why::Giant);
                self.locked[usize::from(slot)] = true;
            }
        }
    }

    /// The node that is least above its limits with `slot`, of those that can shed enough to stay within them.
    fn best_house(&mut self, slot: u16) -> Option<usize> {
        self.work += self.owner.len() as u64;
        let load = self.load[usize::from(slot)];
        let mut best: Option<(f64, usize)> = None;
        for node in (0..self.height.len()).filter(|node| self.allowed(slot, *node)) {
            let kept = self.kept(node);
            let bears =
                (0..self.dimensions()).all(|d| kept[d] + load[d] / self.room[node][d] <= self.limit[node][d] + EPSILON);
            let potential = self.potential_at(node, &self.with(node, slot));
            if bears && best.is_none_or(|(least, _)| potential < least) {
                best = Some((potential, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Whether `node` can take a giant: it sheds what may move, and what must stay leaves room for it in all resources
    /// but `d`, in which it is the giant's alone.
    fn bears_giant(&self, node: usize, d: usize, slot: u16) -> bool {
        let (kept, load) = (self.kept(node), self.load[usize::from(slot)]);
        let home = self.owner[usize::from(slot)] as usize;
        (0..self.dimensions()).all(|other| {
            let height = kept[other] + load[other] / self.room[node][other];
            // One that no node can hold is still best where it is least too much.
            let ceiling = self.ceiling[node][other].max(load[other] / self.room[home][other]);
            height <= ceiling && (other == d || height <= self.limit[node][other] + EPSILON)
        })
    }
}
