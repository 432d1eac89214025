//! What the scenario brings: nodes die, join, fall silent, are drained.

use super::{Engine, Event};
use crate::model::NodeId;
use crate::simulate::case::{address, id};
use crate::simulate::scenario::Event as Happening;
use crate::simulate::workload::ms;

/// From its death to the moment when its replica serves: the servers' default node time-out, and a vote.
const FAILOVER_MS: u64 = 16_000;
/// Ids of replicas begin here.
const REPLICAS: u64 = 1 << 32;

impl Engine<'_> {
    pub(super) fn happen(&mut self, place: usize) {
        let case = self.case;
        match &case.events[place] {
            // Bursts are part of the workload.
            Happening::Burst { .. } => {}
            Happening::Fail { node, .. } => {
                let Some(id) = self.numbers.get(*node).cloned() else { return };
                self.fail(id);
            }
            Happening::FailZone { zone, .. } => {
                let of_zone = self.world.nodes.iter().filter(|node| node.zone == *zone);
                for id in of_zone.map(|node| node.id.clone()).collect::<Vec<_>>() {
                    self.fail(id);
                }
            }
            Happening::Join { nodes, .. } => {
                for _ in 0..*nodes {
                    self.join();
                }
            }
            Happening::Drain { nodes, .. } => {
                for number in nodes {
                    if let Some(id) = self.numbers.get(*number).cloned()
                        && let Some(node) = self.world.node_mut(&id)
                    {
                        node.draining = true;
                    }
                }
            }
            Happening::Silence { node, lasts, .. } => {
                let Some(id) = self.numbers.get(*node).cloned() else { return };
                if let Some(node) = self.world.node_mut(&id) {
                    node.silent = true;
                    self.at(self.now_ms + ms(*lasts), Event::Heard(id));
                }
            }
            Happening::Stuck { lasts, .. } => self.stuck_ms = ms(*lasts),
        }
        self.changed();
    }

    fn fail(&mut self, id: NodeId) {
        if let Some(node) = self.world.node_mut(&id) {
            node.down = true;
            self.at(self.now_ms + FAILOVER_MS, Event::Promoted(id));
        }
    }

    /// The zone after this one, where replicas of its primaries stand.
    fn next_zone(&self, zone: &str) -> String {
        let zones = &self.case.newcomers.zones;
        let place = zones.iter().position(|known| known == zone);
        place.map_or_else(|| zone.to_owned(), |place| zones[(place + 1) % zones.len()].clone())
    }

    pub(super) fn promote(&mut self, dead: &NodeId) {
        let heir = REPLICAS + self.promoted;
        self.promoted += 1;
        let epoch = self.next_epoch();
        let zone = self.next_zone(self.world.zone_of(dead).unwrap_or_default());
        self.world.promote(dead, (id(heir), address(heir - REPLICAS + (1 << 20)), zone), epoch);
        self.numbers.iter_mut().filter(|number| *number == dead).for_each(|number| *number = id(heir));
        // Whoever follows a known node is one of the cluster, as the daemon sees it as well.
        if let Some(members) = &mut self.members {
            members.insert(id(heir));
        }
        self.changed();
    }

    /// Epochs are unique, or the collector tells of a collision.
    pub(super) fn next_epoch(&self) -> u64 {
        self.world.nodes.iter().map(|node| node.epoch).max().unwrap_or(0) + 1
    }
}
