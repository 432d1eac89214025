//! The model cluster: who owns which slot, how busy nodes are, what they have counted. It knows no policy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::random::{Purpose, Random, gamma};
use super::workload::Loads;
use crate::collector::{Mark, Marks, ModelNode, ModelSlot};
use crate::model::{Address, LinkState, NodeId, NodeRecord, Role, SLOT_COUNT, SlotId, SlotSet};

/// Microseconds of cpu that a node takes per second for itself, and bytes that it needs without data.
const OWN_CPU: f64 = 2_000.0;
const OWN_BYTES: f64 = (64 << 20) as f64;

/// Round trip of a probe to an idle node.
const PROBE: Duration = Duration::from_micros(150);

/// A primary.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) address: Address,
    pub(super) zone: String,
    pub(super) weight: f64,
    /// Bytes; 0 is no limit.
    pub(super) memory_max: u64,
    pub(super) replicas: u32,
    pub(super) epoch: u64,
    pub(super) draining: bool,
    /// Serves nobody: it died, and its replica has not taken over yet.
    pub(super) down: bool,
    /// Does not answer us, though it serves.
    pub(super) silent: bool,
    /// Migrations that it is an end of.
    pub(super) migrations: u32,
    pub(super) counted: Counted,
}

/// Counters of a node since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    cpu_usec: f64,
    commands: f64,
    net_in: f64,
    net_out: f64,
}

/// What one look shows differs from the truth by so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Noise {
    /// Coefficient of variation of a cycle's sample, however large the load.
    pub(super) variation: f64,
    /// Microseconds of one command.
    pub(super) command_usec: f64,
    pub(super) cycle_ms: u64,
}

impl Noise {
    /// The coefficient of variation of what `usec` of load show after `window_ms`: the floor, and the commands' own number
    /// (Poisson). Longer windows show more.
    fn variation(&self, usec: f64, window_ms: f64) -> f64 {
        let commands = (usec / self.command_usec).max(1e-3);
        let windows = (window_ms / self.cycle_ms as f64).max(1e-3);
        (self.variation * self.variation / windows + 1.0 / commands).sqrt()
    }
}

/// The cluster.
pub(super) struct World {
    /// Members, by id: a place here is a primary's index in every snapshot.
    pub(super) nodes: Vec<Node>,
    /// Place of the owner, by slot.
    pub(super) owners: Vec<u32>,
    pub(super) loads: Loads,
    /// Share of a core that a migration takes.
    busy: f64,
    /// Of each node: cpu microseconds, bytes in and out per second, bytes held.
    sums: Vec<[f64; 4]>,
    /// By slot, what was not counted yet: cpu microseconds, bytes in, bytes out.
    pending: Vec<[f64; 3]>,
    counters: Vec<[f64; 3]>,
    counted_at_ms: u64,
    looked_at_ms: u64,
}

impl World {
    pub(super) fn new(nodes: Vec<Node>, owners: Vec<u32>, loads: Loads, busy: f64) -> Self {
        let mut world = Self {
            nodes,
            owners,
            loads,
            busy,
            sums: Vec::new(),
            pending: vec![[0.0; 3]; SLOT_COUNT],
            counters: vec![[0.0; 3]; SLOT_COUNT],
            counted_at_ms: 0,
            looked_at_ms: 0,
        };
        world.add_up();
        world
    }

    fn of_slot(&self, slot: usize) -> [f64; 4] {
        let Loads { cpu, net_in, net_out, bytes, .. } = &self.loads;
        [cpu[slot], net_in[slot], net_out[slot], bytes[slot]]
    }

    fn add_up(&mut self) {
        self.sums = vec![[0.0; 4]; self.nodes.len()];
        for slot in 0..SLOT_COUNT {
            let load = self.of_slot(slot);
            if let Some(sums) = self.sums.get_mut(self.owners[slot] as usize) {
                sums.iter_mut().zip(load).for_each(|(sum, load)| *sum += load);
            }
        }
    }

    /// Nodes count what `elapsed_ms` bring them. Slots are counted by [`Self::count_slots`].
    pub(super) fn pass(&mut self, elapsed_ms: u64, command_usec: f64) {
        let seconds = elapsed_ms as f64 / 1000.0;
        for (node, sums) in self.nodes.iter_mut().zip(&self.sums).filter(|(node, _)| !node.down) {
            let [cpu, net_in, net_out, _] = sums.map(|sum| sum * seconds);
            let moving = f64::from(node.migrations) * self.busy * 1e6 * seconds;
            node.counted.cpu_usec += cpu + moving + OWN_CPU * seconds;
            node.counted.commands += cpu / command_usec;
            node.counted.net_in += net_in;
            node.counted.net_out += net_out;
        }
    }

    /// Slots count what their present loads brought them until `now_ms`.
    fn count_slots(&mut self, now_ms: u64) {
        let seconds = (now_ms - self.counted_at_ms) as f64 / 1000.0;
        self.counted_at_ms = now_ms;
        for (slot, pending) in self.pending.iter_mut().enumerate() {
            pending[0] += self.loads.cpu[slot] * seconds;
            pending[1] += self.loads.net_in[slot] * seconds;
            pending[2] += self.loads.net_out[slot] * seconds;
        }
    }

    /// From `now_ms` on clients do something else.
    pub(super) fn change(&mut self, loads: Loads, now_ms: u64) {
        self.count_slots(now_ms);
        self.loads = loads;
        self.add_up();
    }

    /// What nodes would answer at `now_ms`.
    pub(super) fn answers(&mut self, now_ms: u64, noise: &Noise, seed: u64) -> Vec<ModelNode> {
        self.count_slots(now_ms);
        self.make_noise(now_ms, noise, seed);
        let mut answers: Vec<ModelNode> =
            self.nodes.iter().zip(&self.sums).map(|(node, sums)| node.answer(sums)).collect();
        for slot in SlotId::all() {
            let place = slot.index();
            let counted = ModelSlot {
                slot,
                keys: self.loads.keys[place],
                bytes: self.loads.bytes[place],
                counters: self.counters[place],
            };
            if let Some(owner) = answers.get_mut(self.owners[place] as usize) {
                owner.slots.push(counted);
            }
        }
        for answer in &mut answers {
            answer.record.slots = answer.slots.iter().map(|slot| slot.slot).collect();
        }
        answers
    }

    fn make_noise(&mut self, at_ms: u64, noise: &Noise, seed: u64) {
        let window_ms = at_ms.saturating_sub(self.looked_at_ms) as f64;
        self.looked_at_ms = at_ms;
        let mut random = Random::new(seed, Purpose::Noise(at_ms));
        let pairs = self.pending.chunks_exact_mut(2).zip(self.counters.chunks_exact_mut(2));
        for (pending, counters) in pairs {
            let normals = random.normal_pair();
            for ((pending, counters), normal) in pending.iter_mut().zip(counters).zip(normals) {
                // More commands are more bytes as well: one factor for all three.
                let factor = gamma(noise.variation(pending[0], window_ms), normal);
                counters.iter_mut().zip(*pending).for_each(|(counter, amount)| *counter += amount * factor);
                *pending = [0.0; 3];
            }
        }
    }

    /// What the operator says about nodes.
    pub(super) fn marks(&self) -> Marks {
        let mark = |node: &Node| Mark {
            draining: node.draining,
            zone: Some(node.zone.clone()),
            weight: Some(node.weight),
            ..Mark::default()
        };
        Marks(self.nodes.iter().map(|node| (node.id.to_string(), mark(node))).collect())
    }

    /// Those who do not answer.
    pub(super) fn silent(&self) -> BTreeMap<Address, String> {
        let silent = self.nodes.iter().filter(|node| !node.answers());
        silent.map(|node| (node.address.clone(), "no reply: the scenario says so".to_owned())).collect()
    }

    /// Gives slots to another owner.
    pub(super) fn hand_over(&mut self, slots: &SlotSet, to: usize) {
        for slot in slots {
            let load = self.of_slot(slot.index());
            let from = std::mem::replace(&mut self.owners[slot.index()], to as u32) as usize;
            self.sums[from].iter_mut().zip(load).for_each(|(sum, load)| *sum -= load);
            self.sums[to].iter_mut().zip(load).for_each(|(sum, load)| *sum += load);
        }
    }

    /// Microseconds a second that migrations take of a node.
    fn moving_cpu(&self, node: &Node) -> f64 {
        f64::from(node.migrations) * self.busy * 1e6
    }

    /// Share of its core that each serving node uses, migrations included. A core of weight 2 does twice as much.
    pub(super) fn utilisations(&self) -> impl Iterator<Item = f64> {
        let serving = self.nodes.iter().zip(&self.sums).filter(|(node, _)| !node.down);
        serving.map(|(node, sums)| (sums[0] + OWN_CPU + self.moving_cpu(node)) / (1e6 * node.weight))
    }

    /// The load of each node ÷ the mean, migrations left aside.
    pub(super) fn relative_loads(&self) -> Vec<f64> {
        let weights: f64 = self.nodes.iter().map(|node| node.weight).sum();
        let mean = self.sums.iter().map(|sums| sums[0]).sum::<f64>() / weights;
        self.nodes.iter().zip(&self.sums).map(|(node, sums)| sums[0] / node.weight / mean).collect()
    }

    /// Whether any node is to be emptied.
    pub(super) fn drains(&self) -> bool {
        self.nodes.iter().any(|node| node.draining)
    }

    /// Whether no node that is to be emptied owns a slot.
    pub(super) fn is_drained(&self) -> bool {
        !self.drains() || !self.owners.iter().any(|owner| self.nodes[*owner as usize].draining)
    }

    /// How many nodes are there that are not to be emptied.
    pub(super) fn staying(&self) -> usize {
        self.nodes.iter().filter(|node| !node.draining).count()
    }

    pub(super) fn owns_slots(&self, id: &NodeId) -> bool {
        self.place_of(id).is_some_and(|place| self.owners.contains(&(place as u32)))
    }

    pub(super) fn place_of(&self, id: &NodeId) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.id.cmp(id)).ok()
    }

    /// The zone of a member.
    pub(super) fn zone_of(&self, id: &NodeId) -> Option<&str> {
        Some(&self.nodes[self.place_of(id)?].zone)
    }

    pub(super) fn node_mut(&mut self, id: &NodeId) -> Option<&mut Node> {
        let place = self.place_of(id)?;
        Some(&mut self.nodes[place])
    }

    /// A node joins. Places of others change.
    pub(super) fn join(&mut self, node: Node) {
        let place = self.nodes.partition_point(|known| known.id < node.id);
        self.owners.iter_mut().filter(|owner| **owner as usize >= place).for_each(|owner| *owner += 1);
        self.nodes.insert(place, node);
        self.add_up();
    }

    /// A node that owns nothing leaves. Places of others change.
    pub(super) fn leave(&mut self, id: &NodeId) {
        let Some(place) = self.place_of(id) else { return };
        self.nodes.remove(place);
        self.owners.iter_mut().filter(|owner| **owner as usize > place).for_each(|owner| *owner -= 1);
        self.add_up();
    }

    /// The replica of a dead node takes its slots, and the dead one is forgotten.
    pub(super) fn promote(&mut self, dead: &NodeId, replica: (NodeId, Address, String), epoch: u64) {
        let Some(place) = self.place_of(dead) else { return };
        let mut heir = self.nodes[place].clone();
        (heir.id, heir.address, heir.zone) = replica;
        heir = Node {
            epoch,
            down: false,
            silent: false,
            migrations: 0,
            replicas: heir.replicas.saturating_sub(1),
            counted: Counted::default(),
            ..heir
        };
        let id = heir.id.clone();
        self.join(heir);
        let (Some(from), Some(to)) = (self.place_of(dead), self.place_of(&id)) else { return };
        self.owners.iter_mut().filter(|owner| **owner as usize == from).for_each(|owner| *owner = to as u32);
        self.leave(dead);
    }
}

impl Node {
    /// Whether it answers us.
    pub(super) const fn answers(&self) -> bool {
        !self.down && !self.silent
    }

    fn answer(&self, sums: &[f64; 4]) -> ModelNode {
        let busy = ((sums[0] + OWN_CPU) / (1e6 * self.weight)).min(0.99);
        ModelNode {
            record: NodeRecord {
                id: self.id.clone(),
                address: self.address.clone(),
                hostname: None,
                myself: false,
                role: Role::Primary,
                state: if self.down { LinkState::Failed } else { LinkState::Ok },
                config_epoch: self.epoch,
                slots: SlotSet::default(),
                open: Vec::new(),
            },
            // An id is one process's in this model: nothing restarts under its old name.
            run: self.id.to_string(),
            cpu_usec: self.counted.cpu_usec,
            commands: self.counted.commands,
            net_in: self.counted.net_in,
            net_out: self.counted.net_out,
            memory: OWN_BYTES + sums[3],
            memory_max: self.memory_max,
            replicas: self.replicas,
            probe: PROBE.div_f64(1.0 - busy),
            slots: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::case::node;
    use crate::simulate::scenario::Cluster;

    #[test]
    fn a_migration_takes_less_of_a_larger_node() {
        let nodes = (0..2).map(|number| Node { migrations: 1, ..node(number, &Cluster::of(2)) }).collect::<Vec<_>>();
        let nodes = vec![nodes[0].clone(), Node { weight: 2.0, ..nodes[1].clone() }];
        let none = vec![0.0; SLOT_COUNT];
        let loads = Loads {
            cpu: none.clone(),
            net_in: none.clone(),
            net_out: none.clone(),
            bytes: none.clone().into(),
            keys: none.into(),
        };
        let world = World::new(nodes, vec![0; SLOT_COUNT], loads, 0.2);
        let found: Vec<f64> = world.utilisations().collect();
        assert_eq!(found, [0.202, 0.101]);
    }
}
