//! Asks every node that the seeds lead to. The only part that speaks, and it says nothing but questions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::rights::{RIGHTS, is_old};
use super::seen::{Clock, End, Node, Rights, Seen, Way};
use super::servers::READ;
use crate::clock::now_ms;
use crate::cluster::capability::{Abilities, ServerKind, Version};
use crate::cluster::question::{ClusterNodes, ConfigGet, DryRun, Info, ServerInfo, Time, UserRules};
use crate::cluster::{AskError, Cluster, LinkError, Question, ReplyError, ask};
use crate::config::Config;
use crate::migration::ProtocolChoice;
use crate::model::{Address, LinkState, NodeId, NodeRecord};
use crate::telemetry::chain;

/// Nodes asked at the same time.
const CONCURRENCY: usize = 32;
/// Rounds of asking: members lead to members.
const ROUNDS: usize = 4;
/// As whom somebody logs in who names no user.
pub(super) const DEFAULT_USER: &str = "default";

struct Asking<'a> {
    cluster: &'a dyn Cluster,
    /// Of one question.
    patience: Duration,
    user: &'a str,
    /// Slots may move atomically, so that it matters as whom servers log in to each other.
    atomic: bool,
}

/// What an address led to.
struct Met {
    end: End,
    node: Option<Node>,
    told: Vec<NodeRecord>,
}

/// Goes every way there is: to the seeds, and wherever a node says that another one is to be found.
pub(super) async fn everyone(cluster: &dyn Cluster, config: &Config) -> Seen {
    let user = config.cluster.access.user.as_deref().unwrap_or(DEFAULT_USER);
    let patience = config.cluster.connect_timeout.max(config.collector.node_patience);
    let atomic = config.migration.protocol == ProtocolChoice::Auto;
    let asking = Asking { cluster, patience, user, atomic };
    let seeds: BTreeSet<Address> = config.cluster.seeds.iter().cloned().collect();
    let mut seen = Seen::default();
    let mut announced: BTreeMap<Address, (BTreeSet<NodeId>, bool)> = BTreeMap::new();
    let mut asked: BTreeMap<Address, End> = BTreeMap::new();
    let mut next = seeds.clone();
    for _ in 0..ROUNDS {
        let met = stream::iter(std::mem::take(&mut next)).map(|address| async {
            let met = asking.go(&address).await;
            (address, met)
        });
        for (address, Met { end, node, told }) in met.buffer_unordered(CONCURRENCY).collect::<Vec<_>>().await {
            asked.insert(address, end);
            // One node may be known by several addresses.
            seen.nodes.extend(node.filter(|node| seen.nodes.iter().all(|known| known.id != node.id)));
            for record in told.into_iter().filter(|record| record.state != LinkState::Unknown) {
                let (ids, failed) = announced.entry(record.address).or_default();
                ids.insert(record.id);
                *failed |= record.state == LinkState::Failed;
            }
        }
        next = announced.keys().filter(|address| !asked.contains_key(address)).cloned().collect();
        if next.is_empty() {
            break;
        }
    }
    seen.nodes.sort_by(|one, other| one.address.cmp(&other.address));
    seen.ways = asked
        .into_iter()
        .map(|(address, end)| {
            let (announced, failed) = announced.remove(&address).unwrap_or_default();
            Way { seed: seeds.contains(&address), announced, failed, end, address }
        })
        .collect();
    seen
}

impl Asking<'_> {
    async fn go(&self, address: &Address) -> Met {
        match self.meet(address).await {
            Ok((node, told)) => Met { end: End::Node(node.id.clone()), node: Some(node), told },
            Err(end) => Met { end, node: None, told: Vec::new() },
        }
    }

    async fn meet(&self, address: &Address) -> Result<(Node, Vec<NodeRecord>), End> {
        self.resolve(address).await?;
        let info = self.ask(address, &Info).await.map_err(|error| end(&error, "info"))?;
        let told = self.ask(address, &ClusterNodes::of(address)).await.map_err(|error| end(&error, "cluster|nodes"))?;
        let itself = told.iter().find(|record| record.myself).ok_or(End::NoCluster)?.id.clone();
        let settings = self.ask(address, &ConfigGet::of(READ)).await.map_err(|error| reason(&error));
        let clock = self.clock(address).await;
        let can = self.ask(address, &Abilities).await.ok();
        let rights = self.rights(address, &info, self.user).await;
        let mut node = Node { id: itself, address: address.clone(), info, can, settings, clock, rights, peers: None };
        if let Some(peer) = peer(&node).filter(|_| self.atomic) {
            let rights = self.rights(address, &node.info, &peer).await;
            node.peers = Some((peer, rights));
        }
        Ok((node, told))
    }

    async fn ask<Q: Question>(&self, address: &Address, question: &Q) -> Result<Q::Answer, AskError> {
        ask(self.cluster, address, question, self.patience).await
    }

    async fn resolve(&self, address: &Address) -> Result<(), End> {
        if address.host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let found = timeout(self.patience, lookup_host((address.host.as_str(), address.port))).await;
        match found {
            Ok(Ok(mut places)) => places.next().map(drop).ok_or(End::NoName("it has no address".to_owned())),
            Ok(Err(error)) => Err(End::NoName(error.to_string())),
            Err(_) => Err(End::NoName(format!("no answer within {:?}", self.patience))),
        }
    }

    /// The connection stands by now, so that this is a bare round trip. `INFO`, which everybody may ask who gets this far,
    /// tells the time where `TIME` is refused.
    async fn clock(&self, address: &Address) -> Result<Clock, String> {
        let reading = Reading::begin();
        let error = match self.ask(address, &Time).await {
            Ok(theirs_ms) => return Ok(reading.end(theirs_ms)),
            Err(error) => error,
        };
        let reading = Reading::begin();
        let info = self.ask(address, &Info).await.map_err(|error| reason(&error))?;
        let theirs_us: i64 = info.number("server_time_usec").ok_or_else(|| reason(&error))?;
        Ok(reading.end(theirs_us / 1000))
    }

    async fn rights(&self, address: &Address, info: &ServerInfo, user: &str) -> Rights {
        if info.server().is_some_and(is_old) {
            let rules = self.ask(address, &UserRules { user: user.to_owned() }).await;
            return rules.map_or_else(|error| Rights::Untold(reason(&error)), Rights::Read);
        }
        let commands: BTreeSet<&str> = RIGHTS.iter().map(|right| right.trial).collect();
        let question =
            DryRun { user: user.to_owned(), commands: commands.iter().map(|words| (*words).to_owned()).collect() };
        match self.ask(address, &question).await {
            Ok(rulings) => Rights::Ruled(commands.into_iter().zip(rulings).collect()),
            Err(error) => Rights::Untold(reason(&error)),
        }
    }
}

/// A clock being read.
struct Reading {
    ours_ms: u64,
    started: Instant,
}

impl Reading {
    fn begin() -> Self {
        Self { ours_ms: now_ms(), started: Instant::now() }
    }

    fn end(self, theirs_ms: i64) -> Clock {
        let half_ms = i64::try_from(self.started.elapsed().as_millis() / 2).unwrap_or(i64::MAX);
        let ours_ms = i64::try_from(self.ours_ms).unwrap_or(i64::MAX).saturating_add(half_ms);
        // Our own clock and theirs are read in whole milliseconds.
        Clock { ahead_ms: theirs_ms.saturating_sub(ours_ms), give_or_take_ms: half_ms + 1 }
    }
}

/// The user as whom the source of an atomic migration logs in to its target, on servers where its rights matter.
fn peer(node: &Node) -> Option<String> {
    let server = node.server()?;
    if server.kind != ServerKind::Valkey || server.version < Version(9, 0, 0) {
        return None;
    }
    let set = |name| node.setting(name).filter(|user| !user.is_empty());
    node.settings.as_ref().ok()?;
    Some(set("primaryuser").or(set("masteruser")).unwrap_or(DEFAULT_USER).to_owned())
}

fn end(error: &AskError, right: &'static str) -> End {
    match error {
        AskError::Link(LinkError::Unreachable { detail, .. } | LinkError::Lost { detail, .. }) => {
            End::Silence(detail.clone())
        }
        AskError::Link(LinkError::Refused { detail, .. }) => End::TurnedAway(detail.clone()),
        AskError::Reply { cause: ReplyError::Refused(refusal), .. }
            if refusal.message.contains("cluster support disabled") =>
        {
            End::NoCluster
        }
        AskError::Reply { .. } => End::Refusal { right, why: reason(error) },
    }
}

/// Without the node's name, which whoever tells it knows.
fn reason(error: &AskError) -> String {
    match error {
        AskError::Link(error) => chain(error),
        AskError::Reply { cause, .. } => chain(cause),
    }
}
