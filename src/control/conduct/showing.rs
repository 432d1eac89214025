//! What others see: the status, after each turn, step and order.

use std::sync::Arc;

use tracing::warn;

use super::super::command::Notice;
use super::super::keeper::key;
use super::super::peers::Peers;
use super::super::status::{Activity, Balance, CycleSummary, node_rows};
use super::super::turn::Crew;
use super::Control;
use crate::clock::now_ms;
use crate::migration::Progress;
use crate::model::{CycleOutcome, Mode, Snapshot};
use crate::policy::{LoadedPolicy, Policy as _};

impl Control {
    /// Puts how far drains have come into the status: after each cycle, and when a drain or the mode changes. Adding up a node's
    /// slots is too much for every step of a migration.
    pub(super) fn show_drains(&mut self) {
        self.leaving.send_replace(self.drains.leaving());
        let (seen, last) = (self.status.seen.as_deref(), self.last.as_deref());
        self.status.drains = self.drains.status(seen, last, self.status.mode, now_ms());
    }

    /// Puts what a turn saw and did into the status.
    pub(super) fn show_turn(
        &mut self,
        crew: &Crew,
        cycle: CycleSummary,
        snapshot: Option<Arc<Snapshot>>,
        called: bool,
        advised: bool,
    ) {
        let status = &mut self.status;
        status.totals.cycles += 1;
        status.totals.policy_calls += u64::from(called);
        status.totals.slots_moved += cycle.slots_moved as u64;
        status.totals.keys_moved += cycle.keys_moved;
        status.totals.bytes_moved += cycle.bytes_moved;
        status.policy.calls = status.totals.policy_calls;
        status.policy.standing_in = crew.deciders.stand_in().map(|policy| policy.id().clone());
        if let Some(stats) = crew.deciders.current().map(LoadedPolicy::stats) {
            status.policy.faults_in_a_row = stats.faults_in_row;
            (status.policy.faults, status.policy.memory_bytes) = (stats.faults, stats.memory_bytes);
        }
        status.balance = cycle.predictions.iter().map(|(name, seen)| (name.clone(), Balance::from(seen))).collect();
        if let Some(snapshot) = snapshot {
            status.snapshot = Some(snapshot.summary());
            status.nodes = node_rows(&snapshot);
            status.open_slots.clone_from(&snapshot.open_slots);
            status.seen = Some(snapshot);
        }
        // A cycle in which nobody could be asked, or who was asked failed, says nothing about what is wanted.
        let asked =
            advised && !matches!(cycle.outcome, CycleOutcome::NotCollected { .. } | CycleOutcome::PolicyFailed { .. });
        if asked && cycle.mode != Mode::Follower && status.scaling != cycle.scaling {
            status.scaling.clone_from(&cycle.scaling);
            self.keeper.tell(key::SCALING, &status.scaling);
        }
        status.last_cycle = Some(cycle);
    }

    pub(super) fn show_progress(&mut self) {
        let doing = self.progress.borrow_and_update().clone();
        self.status.recovery = doing.recovery;
        self.status.activity = if self.ending.is_some() { Activity::Stopping } else { doing.activity };
        let migrations: Vec<Progress> = doing.moves.running().cloned().collect();
        let now_ms = now_ms();
        let overall = doing.moves.overall(now_ms);
        let stuck_after_ms = self.config.migration.stuck_after_s * 1000;
        let stuck = doing.moves.oldest_step_since_ms().is_some_and(|since_ms| since_ms + stuck_after_ms < now_ms);
        if stuck && !self.status.stuck {
            let oldest = migrations.iter().min_by_key(|progress| progress.step_since_ms);
            if let Some(Progress { source, target, step, slots, .. }) = oldest {
                warn!(%source, %target, step, %slots, "a step takes longer than it should; slots may be open meanwhile");
            }
        }
        if self.status.migrations != migrations || self.status.stuck != stuck || self.status.moving != overall {
            self.status.migrations.clone_from(&migrations);
            self.status.moving.clone_from(&overall);
            self.status.stuck = stuck;
            (self.notify)(Notice::Moving { migrations, overall, stuck });
        }
    }

    /// Lets everybody see what is known by now.
    pub(super) fn publish(&mut self) {
        self.status.shadows = self.shadows.status();
        self.status.lease = self.peers.as_ref().map(Peers::status);
        self.status.victim = self.config.scaling.victim;
        let scale = self.status.shards();
        if self.status.scale != scale {
            self.status.scale.clone_from(&scale);
            scale.into_iter().for_each(|scale| (self.notify)(Notice::Scale(scale)));
        }
        self.status.promoted = self.promotion.as_ref().map(|promotion| promotion.shadow.clone());
        self.shown.send_replace(Arc::new(self.status.clone()));
    }
}
