//! Carries out an approved plan in the model: the daemon's own schedule, and time by bytes.

use crate::cluster::question::AtomicProtocol;
use crate::guard::ApprovedPlan;
use crate::migration::{Cargo, Migration, Pace, Schedule};
use crate::model::{MigrationReport, NodeId, PaceReport, SlotId, SlotSet};

use super::scenario;
use super::world::World;

/// A plan under way.
pub(super) struct Carrying {
    schedule: Schedule,
    running: Vec<Running>,
    pub(super) reports: Vec<MigrationReport>,
}

struct Running {
    number: u64,
    migration: Migration,
    began_ms: u64,
}

impl Carrying {
    pub(super) fn of(plan: &ApprovedPlan, world: &World) -> Self {
        let cargo =
            |slot: SlotId| Cargo { slot, keys: world.loads.keys[slot.index()], bytes: world.loads.bytes[slot.index()] };
        let pace = Pace::Default;
        let form = |_: &NodeId, _: &NodeId| Some(AtomicProtocol::ValkeyMigrateSlots);
        let schedule = Schedule::new(plan.moves(), form, cargo, pace, pace.migrations());
        Self { schedule, running: Vec::new(), reports: Vec::new() }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.running.is_empty() && !self.schedule.is_waiting()
    }

    /// Begins what may run now; gives number and end of each.
    pub(super) fn begin(
        &mut self,
        world: &mut World,
        now_ms: u64,
        next: &mut u64,
        costs: &scenario::Migration,
    ) -> Vec<(u64, u64)> {
        let mut begun = Vec::new();
        while let Some(migration) = self.schedule.start_next(|_| Pace::Default.portion()) {
            let willing = |id: &NodeId| world.place_of(id).is_some_and(|place| world.nodes[place].answers());
            if !willing(&migration.source) || !willing(&migration.target) {
                self.fail(&migration, now_ms, now_ms, "an end does not answer");
                continue;
            }
            for end in [&migration.source, &migration.target] {
                world.node_mut(end).expect("it answers").migrations += 1;
            }
            let seconds = bytes(world, &migration.slots) / costs.bandwidth as f64 + costs.overhead.as_secs_f64();
            *next += 1;
            begun.push((*next, now_ms + (seconds * 1000.0).ceil() as u64));
            self.running.push(Running { number: *next, migration, began_ms: now_ms });
        }
        begun
    }

    /// The migration of this number ends: its slots change their owner, unless an end is gone. Gives what has moved.
    pub(super) fn end(&mut self, number: u64, world: &mut World, now_ms: u64) -> Option<MigrationReport> {
        let place = self.running.iter().position(|running| running.number == number)?;
        let Running { migration, began_ms, .. } = self.running.swap_remove(place);
        for end in [&migration.source, &migration.target] {
            if let Some(node) = world.node_mut(end) {
                node.migrations = node.migrations.saturating_sub(1);
            }
        }
        let serves = |id: &NodeId| world.place_of(id).filter(|place| !world.nodes[*place].down);
        let (Some(_), Some(target)) = (serves(&migration.source), serves(&migration.target)) else {
            self.fail(&migration, began_ms, now_ms, "an end died");
            return None;
        };
        world.hand_over(&migration.slots, target);
        self.schedule.finished(&migration);
        let bytes = bytes(world, &migration.slots);
        let keys = migration.slots.iter().map(|slot| world.loads.keys[slot.index()]).sum::<f64>();
        let moved = MigrationReport {
            moved: migration.slots.clone(),
            keys: keys as u64,
            bytes: bytes as u64,
            ..report(&migration, began_ms, now_ms)
        };
        self.reports.push(moved.clone());
        Some(moved)
    }

    /// As in the daemon, nothing else begins after a migration that ended in doubt.
    fn fail(&mut self, migration: &Migration, began_ms: u64, now_ms: u64, why: &str) {
        self.schedule.finished(migration);
        self.schedule.cancel_waiting();
        let stayed = migration.slots.iter().map(|slot| (slot, why.to_owned())).collect();
        self.reports.push(MigrationReport { stayed, ..report(migration, began_ms, now_ms) });
    }
}

fn bytes(world: &World, slots: &SlotSet) -> f64 {
    slots.iter().map(|slot| world.loads.bytes[slot.index()]).sum()
}

fn report(migration: &Migration, began_ms: u64, now_ms: u64) -> MigrationReport {
    MigrationReport {
        source: migration.source.clone(),
        target: migration.target.clone(),
        protocol: migration.protocol(),
        moved: SlotSet::default(),
        stayed: Vec::new(),
        keys: 0,
        bytes: 0,
        duration_ms: now_ms - began_ms,
        pace: PaceReport::default(),
    }
}
