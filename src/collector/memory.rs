//! What is remembered from one look to the next: counters, smoothed rates, samples. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ask::{Answer, SlotReading};
use super::estimate::{self, Load, Samples};
use super::rates::{HalfLives, Meter, Reading, Smoothed, Window};
use crate::model::{NodeId, SLOT_COUNT, SlotId, SlotSet};

/// What is remembered of a slot. It stays with the slot when the slot moves.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotMemory {
    owner: Option<NodeId>,
    frozen_until_ms: u64,
    /// Cpu microseconds, bytes in, bytes out.
    meter: Meter<3>,
    pub(super) keys: f64,
    pub(super) bytes: f64,
}

impl SlotMemory {
    /// Rates per second: cpu microseconds, bytes in, bytes out.
    pub(super) fn loads(&self) -> &[Smoothed; 3] {
        self.meter.smoothed()
    }
}

/// What is remembered of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeMemory {
    /// Cpu microseconds, commands, bytes in, bytes out.
    meter: Meter<4>,
    /// Errors that it replied: since which start, by code, and how many more than at the look before.
    run: Arc<str>,
    replied: BTreeMap<String, (u64, u64)>,
    pub(super) keys: f64,
    /// How far its slots' bytes and loads are to be trusted; `None` where the server counts them itself.
    pub(super) estimated_bytes: Option<f64>,
    pub(super) estimated_loads: Option<f64>,
}

impl NodeMemory {
    /// Rates per second: cpu microseconds, commands, bytes in, bytes out; `None` after one look only.
    pub(super) fn rates(&self) -> Option<&[Smoothed; 4]> {
        (self.meter.watched_s() > 0.0).then(|| self.meter.smoothed())
    }

    /// Errors that it replied since the look before, by code; none at the first look.
    pub(super) fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.replied.iter().map(|(code, (_, more))| (code.as_str(), *more)).filter(|(_, more)| *more > 0)
    }

    /// Takes in what it has replied since its start. What a server replied before we first saw it is not ours to count.
    fn learn_errors<'a>(&mut self, run: &Arc<str>, replied: impl Iterator<Item = (&'a str, u64)>) {
        let first = self.run.is_empty();
        if self.run != *run {
            self.run = run.clone();
            self.replied.clear();
        }
        self.replied.values_mut().for_each(|(_, more)| *more = 0);
        for (code, count) in replied {
            let (before, more) = self.replied.entry(code.to_owned()).or_insert((if first { count } else { 0 }, 0));
            *more = count.saturating_sub(*before);
            *before = count;
        }
    }

    /// Seconds over which its rates were measured.
    pub(super) fn watched_s(&self) -> f64 {
        self.meter.watched_s()
    }
}

/// Everything that is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    half_lives: HalfLives,
    pub(super) slots: Vec<SlotMemory>,
    pub(super) nodes: BTreeMap<NodeId, NodeMemory>,
    pub(super) samples: Samples,
}

impl Memory {
    pub(super) fn new(half_lives: HalfLives) -> Self {
        let slots = vec![SlotMemory::default(); SLOT_COUNT];
        Self { half_lives, slots, nodes: BTreeMap::new(), samples: Samples::default() }
    }

    /// Leaves the rates of these slots as they are until `until_ms`, and starts counting anew then.
    pub(super) fn freeze(&mut self, slots: &SlotSet, until_ms: u64) {
        for slot in slots {
            let slot = &mut self.slots[slot.index()];
            slot.frozen_until_ms = until_ms;
            slot.meter.forget_reading();
        }
    }

    /// Forgets nodes that are gone.
    pub(super) fn keep_nodes(&mut self, exists: impl Fn(&NodeId) -> bool) {
        self.nodes.retain(|id, _| exists(id));
    }

    /// Takes in what the node `id` answered; `owned` says which slots it owns in everybody's eyes.
    pub(super) fn learn(&mut self, id: &NodeId, answer: &Answer, owned: impl Fn(SlotId) -> bool) {
        let run: Arc<str> = answer.info.run_id().unwrap_or_default().into();
        let node = self.nodes.entry(id.clone()).or_default();
        let info = &answer.info;
        node.learn_errors(&run, info.errors());
        let counters = [
            info.cpu_seconds().map(|seconds| seconds * 1e6),
            info.commands_processed().map(|count| count as f64),
            info.net_in().map(|bytes| bytes as f64),
            info.net_out().map(|bytes| bytes as f64),
        ]
        .map(|counter| counter.unwrap_or(0.0));
        let window = node.meter.read(Reading { run: run.clone(), at_ms: answer.at_ms, counters }, self.half_lives);

        let Some(told) = &answer.told else { return };
        for (slot, sample) in &told.samples {
            self.samples.remember(*slot, answer.at_ms, *sample);
        }
        let readings: Vec<&SlotReading> = told.slots.iter().filter(|reading| owned(reading.slot)).collect();
        self.learn_sizes(id, answer, &readings);
        self.learn_loads(id, answer, &run, window, &readings);
    }

    fn learn_sizes(&mut self, id: &NodeId, answer: &Answer, readings: &[&SlotReading]) {
        let keys: Vec<(SlotId, u64)> = readings.iter().map(|reading| (reading.slot, reading.keys)).collect();
        let counted = readings.iter().all(|reading| reading.memory.is_some());
        let dataset = answer.info.used_memory_dataset().map(|bytes| bytes as f64);
        let estimate = (!counted).then(|| estimate::bytes(&keys, &self.samples, dataset));
        for (place, reading) in readings.iter().enumerate() {
            let slot = &mut self.slots[reading.slot.index()];
            slot.keys = reading.keys as f64;
            slot.bytes = match &estimate {
                Some(estimate) => estimate.by_slot[place],
                None => reading.memory.unwrap_or_default() as f64,
            };
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.keys = keys.iter().map(|(_, keys)| *keys as f64).sum();
            node.estimated_bytes = estimate.map(|estimate| estimate.confidence);
        }
    }

    fn learn_loads(
        &mut self,
        id: &NodeId,
        answer: &Answer,
        run: &Arc<str>,
        window: Option<Window<4>>,
        readings: &[&SlotReading],
    ) {
        let counted = readings.iter().all(|reading| reading.counters.is_some());
        let keys: Vec<(SlotId, u64)> = readings.iter().map(|reading| (reading.slot, reading.keys)).collect();
        let shares = |load| estimate::load_shares(&keys, &self.samples, load, answer.info.counts_uses());
        let estimate = (!counted).then(|| (shares(Load::Accesses), shares(Load::Traffic)));
        for (place, reading) in readings.iter().enumerate() {
            let slot = &mut self.slots[reading.slot.index()];
            if slot.owner.as_ref() != Some(id) {
                slot.owner = Some(id.clone());
                slot.meter.forget_reading();
            }
            if reading.at_ms < slot.frozen_until_ms {
                continue;
            }
            match (&estimate, reading.counters) {
                (None, Some(counters)) => {
                    let reading = Reading { run: run.clone(), at_ms: reading.at_ms, counters };
                    slot.meter.read(reading, self.half_lives);
                }
                (Some((accesses, traffic)), _) => {
                    slot.meter.forget_reading();
                    if let Some(Window { seconds, rates: [cpu, _, net_in, net_out] }) = window {
                        let (accesses, traffic) = (accesses.by_slot[place], traffic.by_slot[place]);
                        let rates = [cpu * accesses, net_in * accesses, net_out * traffic];
                        slot.meter.add(Window { seconds, rates }, self.half_lives);
                    }
                }
                (None, None) => {}
            }
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.estimated_loads = estimate.map(|(accesses, _)| accesses.confidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ask::Told;
    use super::*;
    use crate::cluster::capability::{Capabilities, Server, ServerKind, SlotStatsState, Version};
    use crate::cluster::question::{ClusterNodes, ServerInfo};
    use crate::collector::agree::View;
    use crate::model::Address;

    const HALF_LIVES: HalfLives = HalfLives { fast_s: 30.0, slow_s: 300.0 };
    const SLOT: u16 = 7;

    fn slot() -> SlotId {
        SlotId::new(SLOT).expect("a slot")
    }

    fn id(name: char) -> NodeId {
        name.to_string().repeat(40).parse().expect("forty hexadecimal digits")
    }

    /// What a node that owns one slot answers at a time: cpu in µs of the node, and of the slot where it counts.
    fn answer(name: char, at_ms: u64, node_cpu: u64, slot_cpu: Option<u64>) -> Answer {
        let node = Address::new("h", 7000);
        let records =
            ClusterNodes::of(&node).parse(&format!("{} h:7000@1 myself,master - 0 0 1 connected 7", id(name)));
        let seconds = node_cpu as f64 / 1e6;
        let info = format!("run_id:{name}\nused_cpu_user:{seconds}\nused_cpu_sys:0\nused_memory_dataset:5000\n");
        let counters = slot_cpu.map(|cpu| [cpu as f64, 0.0, 0.0]);
        let told = Told {
            view: View::new(records.expect("readable")).expect("it describes itself"),
            capabilities: Capabilities {
                server: Server { kind: ServerKind::Valkey, version: Version(8, 0, 0) },
                slot_stats: SlotStatsState::On,
                slot_memory: false,
                atomic: None,
                databases: Some(1),
                atomic_defect: None,
            },
            probe: Duration::ZERO,
            jobs: Vec::new(),
            slots: vec![SlotReading { slot: slot(), at_ms, keys: 10, counters, memory: None }],
            samples: Vec::new(),
        };
        Answer { node, at_ms, took: Duration::ZERO, info: ServerInfo::parse(&info), told: Some(told) }
    }

    fn learn(memory: &mut Memory, name: char, at_ms: u64, slot_cpu: u64) -> f64 {
        memory.learn(&id(name), &answer(name, at_ms, slot_cpu, Some(slot_cpu)), |_| true);
        cpu(memory)
    }

    fn cpu(memory: &Memory) -> f64 {
        memory.slots[SLOT as usize].loads()[0].fast
    }

    #[test]
    fn errors_are_counted_from_the_first_look_on_and_anew_after_a_restart() {
        let mut node = NodeMemory::default();
        let mut look = |run: &str, counts: &[(&str, u64)]| -> Vec<(String, u64)> {
            node.learn_errors(&run.into(), counts.iter().copied());
            node.errors().map(|(code, more)| (code.to_owned(), more)).collect()
        };
        assert_eq!(look("a", &[("MOVED", 7)]), []);
        assert_eq!(look("a", &[("ASK", 2), ("MOVED", 10)]), [("ASK".into(), 2), ("MOVED".into(), 3)]);
        assert_eq!(look("a", &[("ASK", 2), ("MOVED", 10)]), []);
        assert_eq!(look("b", &[("MOVED", 4)]), [("MOVED".into(), 4)]);
    }

    #[test]
    fn a_slot_keeps_its_rate_when_it_moves() {
        let mut memory = Memory::new(HALF_LIVES);
        learn(&mut memory, 'a', 0, 0);
        assert_eq!(learn(&mut memory, 'a', 10_000, 1_000), 100.0);
        assert_eq!(learn(&mut memory, 'b', 20_000, 50), 100.0, "the new owner counts from its own beginning");
        assert_eq!(learn(&mut memory, 'b', 30_000, 1_050), 100.0, "and goes on from there");
        assert_eq!(learn(&mut memory, 'a', 40_000, 90_000), 100.0, "back again, its old count means nothing");
    }

    #[test]
    fn what_a_move_costs_is_not_taken_for_load() {
        let mut memory = Memory::new(HALF_LIVES);
        learn(&mut memory, 'a', 0, 0);
        learn(&mut memory, 'a', 10_000, 1_000);
        memory.freeze(&[slot()].into_iter().collect(), 35_000);
        for (at_ms, total) in [(20_000, 900_000), (30_000, 1_900_000), (40_000, 2_000_000)] {
            assert_eq!(learn(&mut memory, 'a', at_ms, total), 100.0, "at {at_ms}");
        }
        assert_eq!(learn(&mut memory, 'a', 50_000, 2_001_000), 100.0, "thawed, it counts anew");
    }

    #[test]
    fn a_node_s_load_goes_to_its_slots_where_they_are_not_counted() {
        let mut memory = Memory::new(HALF_LIVES);
        for (at_ms, cpu) in [(0, 0), (10_000, 5_000_000)] {
            memory.learn(&id('a'), &answer('a', at_ms, cpu, None), |_| true);
        }
        assert_eq!(cpu(&memory), 500_000.0, "its only slot bears all of it");
        assert_eq!(memory.slots[SLOT as usize].bytes, 5_000.0, "and all of the bytes");
        assert!(memory.nodes[&id('a')].estimated_loads.is_some_and(|confidence| confidence < 0.5));
    }

    #[test]
    fn a_claim_that_others_do_not_share_is_not_learnt() {
        let mut memory = Memory::new(HALF_LIVES);
        memory.learn(&id('a'), &answer('a', 0, 0, Some(0)), |_| false);
        assert_eq!(memory.slots[SLOT as usize].keys, 0.0);
    }
}
