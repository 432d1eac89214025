//! Nodes come and go as the policy advises: when, whom, and whether the rest can bear it, the daemon's own module decides.

use std::sync::Arc;

use super::{EPOCH_MS, Engine, Event};
use crate::model::{NodeId, Snapshot};
use crate::policy::ScalingAdvice;
use crate::scaling::{Due, rest_suffices, victims};
use crate::simulate::case::node;
use crate::simulate::workload::ms;
use crate::simulate::world::Node;

impl Engine<'_> {
    /// Does about the number of shards what is due after this look.
    pub(super) fn size(&mut self, snapshot: &Arc<Snapshot>) {
        let (Some(settings), Some(policy)) = (&self.case.scaling, &mut self.policy) else { return };
        let advice = policy.advise(snapshot).unwrap_or_else(|failure| {
            self.measure.failed(self.now_ms, &failure);
            None
        });
        let shards = self.world.staying() as u32;
        let wanted = advice.as_ref().map(|advice| advice.shards);
        match (self.scaler.hear(EPOCH_MS + self.now_ms, shards, wanted, settings), advice) {
            (Due::More(more), _) => self.grow(more as usize),
            (Due::Fewer, Some(advice)) => self.shrink(&advice, snapshot),
            _ => {}
        }
    }

    /// Whoever was about to go stays; others have to come.
    fn grow(&mut self, more: usize) {
        let stay = std::mem::take(&mut self.leaving);
        for id in &stay {
            if let Some(node) = self.world.node_mut(id) {
                node.draining = false;
            }
        }
        if !stay.is_empty() {
            self.changed();
        }
        for _ in self.awaited + stay.len()..more {
            self.awaited += 1;
            self.at(self.now_ms + ms(self.case.newcomers.arrives_after), Event::Arrives);
        }
    }

    /// A node that was waited for is there.
    pub(super) fn arrive(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
        self.join();
        self.changed();
    }

    /// An empty primary joins.
    pub(super) fn join(&mut self) {
        let joining = Node { epoch: self.next_epoch(), ..node(self.joined, &self.case.newcomers) };
        self.joined += 1;
        self.numbers.push(joining.id.clone());
        self.world.join(joining);
    }

    /// One after the other, whoever asked.
    fn shrink(&mut self, advice: &ScalingAdvice, snapshot: &Snapshot) {
        let Some(settings) = self.case.scaling.as_ref().filter(|_| !self.world.drains()) else { return };
        let retire = advice.retire.iter().filter_map(|index| snapshot.primaries.get(*index as usize));
        let retire: Vec<NodeId> = retire.map(|primary| primary.id.clone()).collect();
        let bearable = |id: &NodeId| {
            snapshot.index_of(id).is_some_and(|index| rest_suffices(index as usize, snapshot, settings).is_ok())
        };
        let Some(goes) =
            victims(settings.victim, &retire, snapshot).ok().and_then(|all| all.into_iter().find(bearable))
        else {
            return;
        };
        if let Some(node) = self.world.node_mut(&goes) {
            node.draining = true;
            self.leaving.insert(goes);
            self.changed();
        }
    }

    /// Those that were emptied to be taken out are gone by now.
    pub(super) fn forget_emptied(&mut self) {
        let world = &self.world;
        let emptied: Vec<NodeId> = self.leaving.iter().filter(|id| !world.owns_slots(id)).cloned().collect();
        for id in &emptied {
            self.world.leave(id);
            self.leaving.remove(id);
        }
        if !emptied.is_empty() {
            self.changed();
        }
    }
}
