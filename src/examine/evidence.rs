//! What every node said, put beside each other.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::cluster::question::{AtomicProtocol, JobRecord};
use crate::collector::agree::{Silent, Topology, View, agree};
use crate::model::{Address, NodeId, NodeRecord, Role, SlotId, SlotSet};

/// Keys of one slot in one database of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Which slot.
    pub slot: SlotId,
    /// Which database.
    pub database: u32,
    /// How many keys.
    pub keys: u64,
    /// Of how many of them it was asked whether the slot's owner has them too.
    pub sampled: u64,
    /// How many of those the owner has too.
    pub doubled: u64,
    /// One of those, or else of the others.
    pub example: Option<String>,
}

/// What one node told.
#[derive(Debug, Clone, PartialEq)]
pub struct Testimony {
    /// The cluster as it sees it, itself included.
    pub view: View,
    /// Changes when the process does.
    pub run_id: String,
    /// Of a replica: whether its link to the primary is up.
    pub link_up: bool,
    /// Of a primary: keys in slots that it does not own, as far as they were audited, and in slots that are open.
    pub held: Vec<Held>,
    /// Of a primary: keys in slots that it neither owns nor imports, where the server counts them but does not say
    /// which slots they are in (Redis from 8.4 on).
    pub hidden: u64,
    /// Whether the server tells its replicas of `SETSLOT` (Valkey from 8.0 on).
    pub replicates_setslot: bool,
    /// How many databases may hold keys; absent where it is not to be had.
    pub databases: Option<u32>,
    /// How it moves slots atomically, where it can.
    pub atomic: Option<AtomicProtocol>,
    /// Unfinished atomic migrations.
    pub jobs: Vec<JobRecord>,
    /// What it was asked and did not tell, with its reason.
    pub untold: Vec<String>,
}

impl Testimony {
    /// Keys that it holds of `slot`, in all databases.
    #[must_use]
    pub fn keys_in(&self, slot: SlotId) -> u64 {
        self.held.iter().filter(|held| held.slot == slot).map(|held| held.keys).sum()
    }

    /// What it says of itself.
    #[must_use]
    pub fn itself(&self) -> &NodeRecord {
        &self.view.myself
    }

    /// Whether it calls itself a primary.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.view.myself.role == Role::Primary
    }
}

/// A node as people know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Party {
    /// Who.
    pub id: NodeId,
    /// Where; absent for a node that nobody knows.
    pub address: Option<Address>,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "unknown node {}", self.id.short()),
        }
    }
}

/// What all nodes said.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Those that answered, by id.
    pub nodes: BTreeMap<NodeId, Testimony>,
    /// Those that did not, and why.
    pub silent: Silent,
    /// What the views come to.
    pub topology: Topology,
    /// When they were asked, Unix time in milliseconds.
    pub taken_at_ms: u64,
}

impl Evidence {
    /// Puts testimonies together.
    #[must_use]
    pub fn new(nodes: Vec<Testimony>, silent: Silent, taken_at_ms: u64) -> Self {
        let views: Vec<View> = nodes.iter().map(|node| node.view.clone()).collect();
        let topology = agree(&views, &silent);
        let nodes = nodes.into_iter().map(|node| (node.view.myself.id.clone(), node)).collect();
        Self { nodes, silent, topology, taken_at_ms }
    }

    /// Primaries that answered, by id.
    pub fn primaries(&self) -> impl Iterator<Item = &Testimony> {
        self.nodes.values().filter(|node| node.is_primary())
    }

    /// Every member by the topology, heard or not.
    pub fn members(&self) -> impl Iterator<Item = &NodeRecord> {
        self.topology.primaries.iter().chain(&self.topology.replicas)
    }

    /// A node with its address, as far as anybody knows it.
    #[must_use]
    pub fn party(&self, id: &NodeId) -> Party {
        let address = self.members().find(|member| member.id == *id).map(|member| member.address.clone());
        Party { id: id.clone(), address }
    }

    /// The primary that answered of the shard that `id` is in: itself, or the one that it follows now.
    #[must_use]
    pub fn primary_of_shard(&self, id: &NodeId) -> Option<&Testimony> {
        let member = self.members().find(|member| member.id == *id)?;
        let primary = match &member.role {
            Role::Primary => id,
            Role::Replica { of } => of.as_ref()?,
        };
        self.nodes.get(primary).filter(|node| node.is_primary())
    }

    /// The primary with this id and all that follow it.
    #[must_use]
    pub fn shard(&self, primary: &NodeId) -> Vec<NodeId> {
        let follows = |node: &&NodeRecord| node.role == Role::Replica { of: Some(primary.clone()) };
        let replicas = self.topology.replicas.iter().filter(follows).map(|node| node.id.clone());
        std::iter::once(primary.clone()).chain(replicas).collect()
    }

    /// The members of the shard that `id` is in, itself included.
    #[must_use]
    pub fn kin(&self, id: &NodeId) -> Vec<NodeId> {
        let member = self.members().find(|member| member.id == *id);
        match member.map(|member| &member.role) {
            Some(Role::Replica { of: Some(primary) }) => self.shard(primary),
            _ => self.shard(id),
        }
    }

    /// Whether anybody who answered has this node in its list, whatever it thinks of it.
    #[must_use]
    pub fn knows(&self, id: &NodeId) -> bool {
        self.nodes.values().any(|node| node.view.story.iter().any(|record| record.id == *id))
    }

    /// Whether every primary was heard, and told all that it was asked.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let told = |primary: &NodeRecord| self.nodes.get(&primary.id).is_some_and(|node| node.untold.is_empty());
        self.topology.primaries.iter().all(told)
    }

    /// Slots with a flag on any node that answered.
    #[must_use]
    pub fn open(&self) -> SlotSet {
        self.topology.open.iter().map(|open| open.slot).collect()
    }

    /// Slots that an unfinished atomic migration moves: servers show and hide their keys as they please.
    #[must_use]
    pub fn in_jobs(&self) -> SlotSet {
        self.nodes.values().flat_map(|node| &node.jobs).flat_map(|job| job.slots.iter()).collect()
    }
}
