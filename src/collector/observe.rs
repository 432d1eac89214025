//! Answers become a snapshot, and are remembered for the next one. Pure: where answers come from, it does not know.

use std::collections::{BTreeMap, BTreeSet};

use super::agree::{Silent, agree};
use super::ask::Answer;
use super::assemble::{Occasion, assemble};
use super::estimate::Samples;
use super::memory::Memory;
use super::settings::{Marks, Settings};
use crate::model::{NodeId, SlotSet, Snapshot};

/// What is remembered of a cluster from one look to the next.
#[derive(Debug)]
pub struct Observer {
    settings: Settings,
    memory: Memory,
    generation: u64,
}

impl Observer {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), memory: Memory::new(settings.half_lives()), generation: 0 }
    }

    /// Takes in what nodes answered. `taken_at_ms` is Unix time; the answers have a clock of their own.
    pub(super) fn see(
        &mut self,
        answers: &BTreeMap<NodeId, Answer>,
        silent: &Silent,
        marks: &Marks,
        taken_at_ms: u64,
    ) -> Snapshot {
        let views: Vec<_> = answers.values().filter_map(|answer| Some(answer.told.as_ref()?.view.clone())).collect();
        let topology = agree(&views, silent);
        for (place, primary) in (0..).zip(&topology.primaries) {
            if let Some(answer) = answers.get(&primary.id) {
                self.memory.learn(&primary.id, answer, |slot| topology.owners[slot.index()] == place);
            }
        }
        for replica in &topology.replicas {
            if let Some(answer) = answers.get(&replica.id) {
                // Its counters only: promoted, it needs no second look.
                self.memory.learn(&replica.id, answer, |_| false);
            }
        }
        let members: BTreeSet<&NodeId> =
            topology.primaries.iter().chain(&topology.replicas).map(|member| &member.id).collect();
        self.memory.keep_nodes(|id| members.contains(id));

        self.generation += 1;
        let occasion = Occasion {
            generation: self.generation,
            taken_at_ms,
            // After three half-lives seven eighths of the weight lie within.
            longest_window: self.settings.fast_half_life * 3,
        };
        assemble(&occasion, topology, answers, silent, &self.memory, marks)
    }

    /// Says that these slots have moved at `now_ms` of the answers' clock: see [`Settings::freeze`].
    pub fn slots_moved(&mut self, slots: &SlotSet, now_ms: u64) {
        let freeze_ms = u64::try_from(self.settings.freeze.as_millis()).unwrap_or(u64::MAX);
        self.memory.freeze(slots, now_ms.saturating_add(freeze_ms));
    }

    /// Which keys were sampled.
    pub(super) fn samples(&self) -> &Samples {
        &self.memory.samples
    }
}
