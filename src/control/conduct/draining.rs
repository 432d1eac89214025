//! Nodes that somebody wants emptied: taken note of, kept over a restart, and told of.

use std::sync::Arc;

use tracing::{error, info};

use super::super::command::Answer;
use super::super::drains::{Drain, DrainWish};
use super::super::keeper::key;
use super::{Control, Happening};
use crate::clock::now_ms;
use crate::config::NodeRule;
use crate::model::{Primary, Snapshot, Tag};
use crate::telemetry::chain;

impl Control {
    /// Begins to empty a node.
    pub(super) fn drain(&mut self, wish: DrainWish) -> Answer {
        let (who, why) = (wish.who.clone(), wish.why.clone());
        let before = self.drains.clone();
        let seen = self.status.seen.clone();
        let drain = self.drains.begin(wish, seen.as_deref(), &self.config.scaling, now_ms())?.clone();
        if self.drains != before {
            let Drain { id, address, forget, .. } = drain.clone();
            info!(node = %address, forget, who, why, "a node is to be emptied");
            if let Err(error) = self.keep_drains() {
                self.drains = before;
                return Err(format!("it cannot be kept, so it does not begin: {error}"));
            }
            self.tell(Happening::DrainBegun { node: id, address, forget, who, why });
            self.show_drains();
        }
        let then = if drain.forget { ", and then the cluster forgets it" } else { "" };
        Ok(format!("{} is emptied from the next cycle on{then}", drain.address))
    }

    /// Lets a node have slots again.
    pub(super) fn undrain(&mut self, node: &str, who: String, why: String) -> Answer {
        let before = self.drains.clone();
        let Drain { address, id, forget, emptied, .. } = self.drains.end(&self.called(node))?;
        if let Err(error) = self.keep_drains() {
            self.drains = before;
            return Err(format!("it cannot be kept, so the drain goes on: {error}"));
        }
        self.drains_no_more();
        self.show_drains();
        info!(node = %address, who, why, "a node may have slots again");
        let follows = self.status.seen.as_deref().and_then(|seen| {
            let replica = seen.replicas.iter().find(|replica| replica.id == id)?;
            Some(&seen.primaries[replica.of? as usize].address)
        });
        let answer = match follows {
            None if forget && emptied => format!(
                "{address} may have slots again from the next cycle on; should it have left the cluster in this moment, \
                 `ballast add-node` brings it back"
            ),
            None => format!("{address} may have slots again from the next cycle on"),
            Some(primary) => format!(
                "{address} is not drained any more; when it lost its last slot, the servers made it a replica of {primary} \
                 (cluster-allow-replica-migration): CLUSTER RESET SOFT on it, and `ballast add-node` makes it a primary again"
            ),
        };
        self.tell(Happening::DrainEnded { address, who, why });
        Ok(answer)
    }

    /// The id of the primary or replica that somebody calls `name`, or that name where it means none or several.
    fn called(&self, name: &str) -> String {
        let Some(seen) = self.status.seen.as_ref().filter(|_| !self.drains.knows(name)) else { return name.to_owned() };
        match seen.called(name).collect::<Vec<_>>().as_slice() {
            [id] => id.to_string(),
            _ => name.to_owned(),
        }
    }

    /// Takes note of who is empty by now, and of who has left.
    pub(super) fn see_drains(&mut self, snapshot: &Snapshot) {
        // Whoever leads sees it, and tells of it.
        if !self.leads() {
            return;
        }
        let before = self.drains.clone();
        let (emptied, left) = self.drains.see(snapshot, now_ms());
        if self.drains != before
            && let Err(error) = self.keep_drains()
        {
            error!(error, "a restart will not know how far drains have come");
        }
        for Drain { address, .. } in emptied {
            info!(node = %address, "a drained node is empty");
            self.tell(Happening::Emptied { address });
        }
        for Drain { address, .. } in left {
            info!(node = %address, "a drained node has left the cluster");
            self.tell(Happening::Left { address });
        }
    }

    /// Forgets that a node was seen draining that nobody wants drained any more: it may get slots before the next look.
    pub(super) fn drains_no_more(&mut self) {
        let rules = self.rules();
        let Some(seen) = &mut self.status.seen else { return };
        let drains = |node: &Primary| rules.iter().any(|rule| rule.drain && rule.names(&node.id, &node.address));
        if seen.primaries.iter().any(|node| node.is(Tag::Draining) && !drains(node)) {
            for node in &mut Arc::make_mut(seen).primaries {
                if !drains(node) {
                    node.tags.retain(|tag| *tag != Tag::Draining);
                }
            }
        }
    }

    /// What is known of nodes: what the configuration says, and what drains.
    pub(super) fn rules(&self) -> Vec<NodeRule> {
        self.config.nodes.iter().cloned().chain(self.drains.rules()).collect()
    }

    fn keep_drains(&self) -> Result<(), String> {
        self.keeper.put(key::DRAINS, &self.drains).map_err(|error| chain(&error))
    }
}
