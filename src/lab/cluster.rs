//! A cluster of servers on this machine: formed, grown, asked, and gone when dropped.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};

use super::program::{Kind, Program};
use super::server::{POLL, Server, ServerSettings};
use super::view::{NodeView, Role, parse_nodes};
use super::{LabError, Result};
use crate::cluster::Command;
use crate::model::{Address, NodeId, SLOT_COUNT, SlotId, SlotSet};

/// How long nodes may take to agree. They need about two seconds; a machine may run several clusters at once.
const AGREE_PATIENCE: Duration = Duration::from_secs(40);

/// What a cluster shall be.
#[derive(Debug, Clone)]
pub struct Builder {
    programs: Vec<Program>,
    primaries: usize,
    replicas: usize,
    empty: usize,
    slots: Option<Vec<SlotSet>>,
    settings: ServerSettings,
}

/// A node of a local cluster.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub server: Server,
    /// Its name in the cluster.
    pub id: NodeId,
    /// The place in [`LocalCluster::nodes`] of the primary that it was started to follow; `None` for a primary.
    /// Failovers change what it is, not this.
    pub follows: Option<usize>,
}

/// A running cluster: primaries first, then empty primaries, then replicas, then whatever was added.
#[derive(Debug)]
pub struct LocalCluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    builder: Builder,
}

impl Builder {
    /// How many primaries share the slots. Three unless told otherwise.
    #[must_use]
    pub fn primaries(mut self, count: usize) -> Self {
        self.primaries = count;
        self
    }

    /// How many replicas each of them gets. None unless told otherwise.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// How many primaries without slots or replicas join. None unless told otherwise.
    #[must_use]
    pub fn empty(mut self, count: usize) -> Self {
        self.empty = count;
        self
    }

    /// One program per node, in the order of [`LocalCluster::nodes`], from the beginning again when they run out.
    #[must_use]
    pub fn programs(mut self, programs: Vec<Program>) -> Self {
        self.programs = programs;
        self
    }

    /// The slots of each primary; evenly parted unless told otherwise.
    #[must_use]
    pub fn slots(mut self, slots: Vec<SlotSet>) -> Self {
        self.primaries = slots.len();
        self.slots = Some(slots);
        self
    }

    /// `cluster-node-timeout`.
    #[must_use]
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.settings.node_timeout = timeout;
        self
    }

    /// How every server is set up.
    #[must_use]
    pub fn settings(mut self, settings: ServerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Starts the servers and waits until all agree and all replicas follow.
    ///
    /// # Errors
    /// [`LabError`]; whatever was started is gone then.
    pub async fn start(self) -> Result<LocalCluster> {
        LocalCluster::form(self).await
    }

    fn program(&self, place: usize) -> &Program {
        &self.programs[place % self.programs.len()]
    }

    /// Whom the node at `place` follows.
    fn follows(&self, place: usize) -> Option<usize> {
        place.checked_sub(self.primaries + self.empty).map(|replica| replica % self.primaries)
    }
}

impl LocalCluster {
    /// A cluster of one kind of server.
    ///
    /// # Errors
    /// [`LabError`] when the server is not there.
    pub fn of(kind: Kind) -> Result<Builder> {
        Ok(Self::of_programs(vec![kind.program()?]))
    }

    /// A cluster of mixed kinds: one per node, from the beginning again when they run out.
    ///
    /// # Errors
    /// [`LabError`] when one is not there.
    pub fn mixed(kinds: &[Kind]) -> Result<Builder> {
        Ok(Self::of_programs(kinds.iter().map(|kind| kind.program()).collect::<Result<_>>()?))
    }

    /// A cluster of given programs, as [`Builder::programs`].
    #[must_use]
    pub fn of_programs(programs: Vec<Program>) -> Builder {
        Builder { programs, primaries: 3, replicas: 0, empty: 0, slots: None, settings: ServerSettings::default() }
    }

    async fn form(builder: Builder) -> Result<Self> {
        let count = builder.primaries * (1 + builder.replicas) + builder.empty;
        let nodes = try_join_all((0..count).map(|place| Node::start(&builder, place, builder.follows(place)))).await?;
        let slots = builder.slots.clone().unwrap_or_else(|| even_slots(builder.primaries));
        for (node, slots) in nodes.iter().zip(&slots) {
            node.add_slots(slots).await?;
        }
        for (place, node) in nodes.iter().enumerate() {
            // Epochs of their own spare the nodes the election-like way to them.
            node.server.call(Command::new("CLUSTER SET-CONFIG-EPOCH").arg(place + 1)).await?;
        }
        let cluster = Self { nodes, builder };
        let (first, others) = cluster.nodes.split_first().expect("a cluster has nodes");
        for node in others {
            node.meet(first).await?;
        }
        cluster.wait_until_met().await?;
        for node in &cluster.nodes {
            cluster.follow(node).await?;
        }
        cluster.wait_until_agreed().await?;
        Ok(cluster)
    }

    /// Starts one more primary, without slots, and waits until all know it. Its place in `nodes` is returned.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn add_primary(&mut self) -> Result<usize> {
        self.add(None).await
    }

    /// Starts one more replica of the node at `primary`, and waits until it follows.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn add_replica(&mut self, primary: usize) -> Result<usize> {
        self.add(Some(primary)).await
    }

    /// As [`add_primary`](Self::add_primary), to a cluster whose slots move: waits until all have met, for until the moves
    /// are over they need not agree on owners.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn join_primary(&mut self) -> Result<usize> {
        self.join(None).await
    }

    async fn add(&mut self, follows: Option<usize>) -> Result<usize> {
        let place = self.join(follows).await?;
        self.follow(&self.nodes[place]).await?;
        self.wait_until_agreed().await?;
        Ok(place)
    }

    async fn join(&mut self, follows: Option<usize>) -> Result<usize> {
        let place = self.nodes.len();
        let node = Node::start(&self.builder, place, follows).await?;
        let known = self.nodes.iter().find(|node| node.server.pid().is_some()).expect("some node runs");
        node.meet(known).await?;
        self.nodes.push(node);
        self.wait_until_met().await?;
        Ok(place)
    }

    async fn follow(&self, node: &Node) -> Result<()> {
        if let Some(primary) = node.follows {
            node.server.call(Command::new("CLUSTER REPLICATE").arg(&self.nodes[primary].id)).await?;
        }
        Ok(())
    }

    /// The addresses of all nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.nodes.iter().map(|node| node.server.address()).collect()
    }

    /// What the first running node says of the cluster.
    ///
    /// # Errors
    /// [`LabError`] when no node answers.
    pub async fn view(&self) -> Result<Vec<NodeView>> {
        let node = self.nodes.iter().find(|node| node.server.pid().is_some()).expect("some node runs");
        node.view().await
    }

    /// Who owns `slot`, as the first running node says.
    ///
    /// # Errors
    /// [`LabError`] when no node answers.
    pub async fn owner_of(&self, slot: SlotId) -> Result<Option<NodeId>> {
        Ok(self.view().await?.into_iter().find(|node| node.slots.contains(slot)).map(|node| node.id))
    }

    /// Every open slot, as the node that carries the flag writes it. Only nodes that run are asked.
    ///
    /// # Errors
    /// [`LabError`] when one does not answer.
    pub async fn open_slots(&self) -> Result<Vec<(NodeId, String)>> {
        let mut open = Vec::new();
        for node in self.running() {
            let own = node.view().await?.into_iter().find(|view| view.id == node.id);
            open.extend(own.into_iter().flat_map(|view| view.open).map(|slot| (node.id.clone(), slot)));
        }
        Ok(open)
    }

    /// Waits until every running node sees the same cluster: no node is suspect, every slot has the same owner
    /// everywhere and every node the same role, `cluster_state` is ok, and every replica follows its primary with its
    /// link up on both ends.
    ///
    /// # Errors
    /// [`LabError::TimedOut`] with what was still missing.
    pub async fn wait_until_agreed(&self) -> Result<()> {
        wait_until("the cluster agrees", || self.disagreement()).await
    }

    async fn wait_until_met(&self) -> Result<()> {
        wait_until("all nodes have met", || async {
            for (node, seen) in self.views().await {
                if seen.iter().filter(|other| other.is_well()).count() != self.running().count() {
                    return Some(format!("{} knows {} nodes", node.server.address(), seen.len()));
                }
            }
            None
        })
        .await
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.server.pid().is_some())
    }

    async fn views(&self) -> Vec<(&Node, Vec<NodeView>)> {
        // A node that does not answer sees nobody, which is never what we wait for.
        let look = async |node| (node, Node::view(node).await.unwrap_or_default());
        join_all(self.running().map(look)).await
    }

    /// What keeps the cluster from being agreed, or `None`.
    async fn disagreement(&self) -> Option<String> {
        let views = self.views().await;
        let owners = |seen: &[NodeView]| {
            let mut owners: Vec<_> = seen.iter().map(|node| (node.id.clone(), node.slots.to_string())).collect();
            owners.retain(|(_, slots)| !slots.is_empty());
            owners.sort();
            owners
        };
        // Whom a node follows it knows first; until the others have heard, they take it for a primary.
        let role_of = |id: &NodeId| {
            let (_, seen) = views.iter().find(|(node, _)| node.id == *id)?;
            seen.iter().find(|view| view.id == *id).map(|view| &view.role)
        };
        let expected = owners(&views.first()?.1);
        for (node, seen) in &views {
            let address = node.server.address();
            let well = |other: &Node| seen.iter().any(|view| view.id == other.id && view.is_well());
            if let Some(other) = self.running().find(|other| !well(other)) {
                return Some(format!("{address} does not see {}", other.server.address()));
            }
            if owners(seen) != expected {
                return Some(format!("{address} sees other owners of slots"));
            }
            if let Some(view) = seen.iter().find(|view| role_of(&view.id).is_some_and(|role| *role != view.role)) {
                return Some(format!("{address} takes {} for another role than it has", view.address));
            }
            let info = node.server.text(Command::new("CLUSTER INFO")).await.unwrap_or_default();
            if !info.contains("cluster_state:ok") {
                return Some(format!("{address} says that the cluster is down"));
            }
            let replication = node.server.text(Command::new("INFO replication")).await.unwrap_or_default();
            if let Some(trouble) = replication_trouble(&node.id, seen, &replication) {
                return Some(format!("{address}: {trouble}"));
            }
        }
        None
    }
}

impl Node {
    async fn start(builder: &Builder, place: usize, follows: Option<usize>) -> Result<Self> {
        let server = Server::start(builder.program(place), &builder.settings).await?;
        let said = server.text(Command::new("CLUSTER MYID")).await?;
        let id = said.parse().map_err(|_| LabError::NotAServer { path: server.program().path.clone(), said })?;
        Ok(Self { server, id, follows })
    }

    /// What this node says of the cluster.
    ///
    /// # Errors
    /// [`LabError`] when it does not answer.
    pub async fn view(&self) -> Result<Vec<NodeView>> {
        Ok(parse_nodes(&self.server.text(Command::new("CLUSTER NODES")).await?))
    }

    async fn add_slots(&self, slots: &SlotSet) -> Result<()> {
        let command = if self.server.program().has_slot_ranges() {
            let ranges = slots.ranges();
            ranges
                .iter()
                .fold(Command::new("CLUSTER ADDSLOTSRANGE"), |command, (start, end)| command.arg(start).arg(end))
        } else {
            slots.iter().fold(Command::new("CLUSTER ADDSLOTS"), Command::arg)
        };
        if slots.is_empty() { Ok(()) } else { self.server.call(command).await.map(drop) }
    }

    async fn meet(&self, other: &Self) -> Result<()> {
        let address = other.server.address();
        self.server.call(Command::new("CLUSTER MEET").arg(&address.host).arg(address.port)).await.map(drop)
    }
}

/// What is wrong with the replication of the node `own`, by its `INFO replication` and its own view of the cluster.
fn replication_trouble(own: &NodeId, seen: &[NodeView], info: &str) -> Option<String> {
    let role = &seen.iter().find(|view| view.id == *own)?.role;
    match role {
        Role::Replica(_) => {
            (!info.contains("master_link_status:up")).then(|| "the link to the primary is not up".to_owned())
        }
        Role::Primary => {
            let follows = |view: &&NodeView| view.is_well() && view.role == Role::Replica(Some(own.clone()));
            let expected = seen.iter().filter(follows).count();
            let online = info.matches("state=online").count();
            (online < expected).then(|| format!("{online} of {expected} replicas are online"))
        }
    }
}

/// `count` ranges of slots that differ by one slot at most.
#[must_use]
fn even_slots(count: usize) -> Vec<SlotSet> {
    let end = |part: usize| SLOT_COUNT * part / count;
    (0..count).map(|part| SlotId::all().skip(end(part)).take(end(part + 1) - end(part)).collect()).collect()
}

/// Asks `trouble` until there is none.
async fn wait_until<F: Future<Output = Option<String>>>(what: &str, mut trouble: impl FnMut() -> F) -> Result<()> {
    let deadline = Instant::now() + AGREE_PATIENCE;
    loop {
        match trouble().await {
            None => return Ok(()),
            Some(trouble) if Instant::now() > deadline => {
                let what = format!("{what}: {trouble}");
                return Err(LabError::TimedOut { what, seconds: AGREE_PATIENCE.as_secs() });
            }
            Some(_) => sleep(POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_parts_cover_every_slot_once() {
        for count in [1, 3, 7] {
            let parts = even_slots(count);
            let sizes: Vec<usize> = parts.iter().map(SlotSet::len).collect();
            assert_eq!(sizes.iter().sum::<usize>(), SLOT_COUNT);
            assert!(sizes.iter().max() <= sizes.iter().min().map(|least| least + 1).as_ref(), "{sizes:?}");
        }
    }
}
