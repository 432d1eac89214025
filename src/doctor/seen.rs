//! What asking found out: values, from which each topic makes its lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::capability::{Capabilities, Server};
use crate::cluster::question::{Rules, Ruling, ServerInfo};
use crate::model::{Address, NodeId};

/// Everything that the cluster showed.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Every address that was tried: seeds, and what nodes announce.
    pub(super) ways: Vec<Way>,
    /// Every node that answered, once.
    pub(super) nodes: Vec<Node>,
}

/// One address, and where it leads.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) address: Address,
    /// It is in the configuration.
    pub(super) seed: bool,
    /// The nodes that are to be found there, by the cluster's word.
    pub(super) announced: BTreeSet<NodeId>,
    /// The cluster counts the node there as failed.
    pub(super) failed: bool,
    pub(super) end: End,
}

/// Where a way ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// At this node.
    Node(NodeId),
    /// Its name means nothing here.
    NoName(String),
    /// Nobody answers.
    Silence(String),
    /// A server that does not want us: password, user, certificate.
    TurnedAway(String),
    /// A server that refuses what everything begins with.
    Refusal {
        /// As an ACL calls it.
        right: &'static str,
        why: String,
    },
    /// A server that is in no cluster.
    NoCluster,
}

/// A node that answered.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) address: Address,
    pub(super) info: ServerInfo,
    pub(super) can: Option<Capabilities>,
    /// What it is set to; why it does not tell.
    pub(super) settings: Result<BTreeMap<String, String>, String>,
    /// Its clock; why it does not tell.
    pub(super) clock: Result<Clock, String>,
    /// What our user may do.
    pub(super) rights: Rights,
    /// What the user may do as whom servers log in to each other, where that matters.
    pub(super) peers: Option<(String, Rights)>,
}

/// A clock that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// How far it is ahead of ours, in milliseconds, by the middle of the round trip.
    pub(super) ahead_ms: i64,
    /// How far that may be off: half of the round trip.
    pub(super) give_or_take_ms: i64,
}

/// How what a user may do was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rights {
    /// The server ruled on each, by the command that was tried.
    Ruled(BTreeMap<&'static str, Ruling>),
    /// Its rules were read: no `ACL DRYRUN` before Redis 7.0.
    Read(Rules),
    /// The server did not tell.
    Untold(String),
}

impl Node {
    pub(super) fn server(&self) -> Option<Server> {
        self.info.server()
    }

    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref().ok()?.get(name).map(String::as_str)
    }
}

/// A node of one kind for tests, with nothing amiss.
#[cfg(test)]
pub(super) fn node(place: u16, info: &str, settings: &[(&str, &str)]) -> Node {
    use crate::cluster::capability::SlotStatsState;
    let info = ServerInfo::parse(info);
    let server = info.server().expect("a version");
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let id = format!("{place:040}").parse().expect("an id");
    Node {
        id,
        address: Address::new("10.0.0.1", 7000 + place),
        can: Some(Capabilities {
            server,
            slot_stats: SlotStatsState::On,
            slot_memory: false,
            atomic: None,
            databases: Some(1),
            atomic_defect: None,
        }),
        info,
        settings: Ok(settings),
        clock: Ok(Clock { ahead_ms: 0, give_or_take_ms: 0 }),
        rights: Rights::Ruled(BTreeMap::new()),
        peers: None,
    }
}
