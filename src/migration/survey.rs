//! A look at nodes, and the check of both ends before slots are opened: the plan is older than the cluster.

use super::ProtocolChoice;
use super::call::{Call, QUESTION_PATIENCE};
use crate::cluster::capability::{Capabilities, ServerKind};
use crate::cluster::question::{AtomicProtocol, ClusterNodes, ServerInfo};
use crate::cluster::{Command, Lane, LinkError, Question, Reply, ReplyError};
use crate::model::{Address, LinkState, NodeId, NodeRecord, Role, SlotSet};

/// What one node says of itself and of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Where *we* reach it.
    pub(super) address: Address,
    /// Changes when the process does.
    pub(super) run_id: String,
    pub(super) nodes: Vec<NodeRecord>,
}

impl View {
    /// The node's own line.
    pub(super) fn itself(&self) -> Option<&NodeRecord> {
        self.nodes.iter().find(|node| node.myself)
    }

    /// The node and all that follow it, as it knows them.
    pub(super) fn shard(&self) -> Vec<NodeId> {
        let Some(itself) = self.itself() else { return Vec::new() };
        let follows = |node: &&NodeRecord| node.role == Role::Replica { of: Some(itself.id.clone()) };
        std::iter::once(itself).chain(self.nodes.iter().filter(follows)).map(|node| node.id.clone()).collect()
    }
}

/// What the node of that name says, if it was heard.
pub(super) fn view_of<'a>(views: &'a [View], id: &NodeId) -> Option<&'a View> {
    views.iter().find(|view| view.itself().is_some_and(|node| node.id == *id))
}

/// Asks a node for its [`View`].
#[derive(Debug)]
pub(super) struct WhoAreYou<'a>(pub(super) &'a Address);

impl Question for WhoAreYou<'_> {
    type Answer = View;

    fn commands(&self) -> Vec<Command> {
        let mut commands = ClusterNodes::of(self.0).commands();
        commands.push(Command::new("INFO server"));
        commands
    }

    fn read(&self, mut replies: Vec<Reply>) -> Result<View, ReplyError> {
        let info = ServerInfo::parse(&replies.pop().unwrap_or(Reply::Nil).text()?);
        let run_id = info.run_id().ok_or_else(|| Reply::Nil.unexpected("INFO server with a run id"))?.to_owned();
        Ok(View { address: self.0.clone(), run_id, nodes: ClusterNodes::of(self.0).read(replies)? })
    }
}

/// One end of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) id: NodeId,
    /// Where *we* reach it.
    pub(super) address: Address,
}

/// How slots get from one end to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) source: End,
    pub(super) target: End,
    /// Where the *source* reaches the target: what MIGRATE needs, whatever NAT stands between us and them.
    pub(super) target_from_source: Address,
    /// Databases that may hold keys, 1 except on Valkey 9 with `cluster-databases`.
    pub(super) databases: u32,
    /// The form of atomic migration that both ends have, if they share one.
    pub(super) atomic: Option<AtomicProtocol>,
    /// How the target tells the others of slots that it gets one by one.
    pub(super) telling: Telling,
    /// How many nodes the target knows, itself among them.
    pub(super) nodes: usize,
}

/// How a node that gets slots by `SETSLOT NODE` tells the others: each message makes every node look through its whole map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Once for all that it gets in one go.
    Once,
    /// Once for each slot that it was importing. Of those that it was not importing it tells nobody at once.
    EachImported,
    /// Once for each slot. Valkey from 8 on holds each `SETSLOT` back until replicas have it, which no transaction can: an
    /// `EXEC` with one was measured to end the server. And `STABLE` would take the flag from the replicas first.
    Each,
}

impl Telling {
    fn of(target: &View, can: Option<&Capabilities>) -> Self {
        let Some(can) = can else { return Self::Each };
        match can.server.kind {
            ServerKind::Redis if can.tells_of_each_slot() => Self::EachImported,
            ServerKind::Redis => Self::Once,
            ServerKind::Valkey if can.tells_of_each_slot() || target.shard().len() > 1 => Self::Each,
            ServerKind::Valkey => Self::Once,
        }
    }
}

impl Route {
    /// Asks both ends who they are and what they own: source, then target.
    pub(super) fn ask_both(&self) -> Vec<Call> {
        let ends = [&self.source.address, &self.target.address].into_iter();
        ends.map(|end| Call {
            node: end.clone(),
            lane: Lane::Control,
            commands: ClusterNodes::of(end).commands(),
            patience: QUESTION_PATIENCE,
        })
        .collect()
    }

    /// Reads what [`ask_both`](Self::ask_both) brought: what each end says of itself, where it said anything.
    pub(super) fn read_both(
        &self,
        results: Vec<Result<Vec<Reply>, LinkError>>,
    ) -> (Option<NodeRecord>, Option<NodeRecord>) {
        let ends = [&self.source.address, &self.target.address].into_iter();
        let mut words = ends.zip(results).map(|(end, result)| {
            let view = ClusterNodes::of(end).read(result.ok()?).ok()?;
            view.into_iter().find(|node| node.myself)
        });
        (words.next().flatten(), words.next().flatten())
    }
}

/// The form of atomic migration that both ends have, unless we are told to do without, or one did not say.
pub(super) fn common_form(
    choice: ProtocolChoice,
    from: Option<&Capabilities>,
    to: Option<&Capabilities>,
) -> Option<AtomicProtocol> {
    match (choice, from, to) {
        (ProtocolChoice::Auto, Some(from), Some(to)) => from.atomic_with(to),
        _ => None,
    }
}

/// Why a migration may not begin, in words.
pub(super) type Objection = String;

/// The way between two nodes, unless something speaks against it. `fresh`: nothing of `slots` has been opened yet.
pub(super) fn route(
    (source, target): (&View, &View),
    (can_from, can_to): (Option<&Capabilities>, Option<&Capabilities>),
    choice: ProtocolChoice,
    fresh: Option<&SlotSet>,
) -> Result<Route, Objection> {
    let (source_itself, target_itself) = (primary(source, "source")?, primary(target, "target")?);
    let target_from_source = healthy_primary(&source.nodes, &target_itself.id)
        .ok_or("the source does not see the target as a healthy primary")?
        .address
        .clone();
    healthy_primary(&target.nodes, &source_itself.id)
        .ok_or("the target does not see the source as a healthy primary")?;
    if let Some(slots) = fresh {
        let lost: SlotSet = slots.iter().filter(|slot| !source_itself.slots.contains(*slot)).collect();
        if !lost.is_empty() {
            return Err(format!("the source does not own slots {lost} any more"));
        }
        for (node, role) in [(source_itself, "source"), (target_itself, "target")] {
            let open: SlotSet = node.open.iter().map(|open| open.slot).filter(|slot| slots.contains(*slot)).collect();
            if !open.is_empty() {
                return Err(format!("slots {open} are open on the {role} already"));
            }
        }
    }
    let atomic = common_form(choice, can_from, can_to);
    Ok(Route {
        source: End { id: source_itself.id.clone(), address: source.address.clone() },
        target: End { id: target_itself.id.clone(), address: target.address.clone() },
        target_from_source,
        databases: if atomic.is_some() { 1 } else { databases(can_from, can_to)? },
        atomic,
        telling: Telling::of(target, can_to),
        nodes: target.nodes.len(),
    })
}

fn primary<'a>(view: &'a View, role: &str) -> Result<&'a NodeRecord, Objection> {
    let node = view.itself().ok_or_else(|| format!("the {role} does not list itself"))?;
    if node.role == Role::Primary { Ok(node) } else { Err(format!("the {role} is not a primary any more")) }
}

fn healthy_primary<'a>(nodes: &'a [NodeRecord], id: &NodeId) -> Option<&'a NodeRecord> {
    nodes.iter().find(|node| node.id == *id && node.role == Role::Primary && node.state == LinkState::Ok)
}

/// How many databases a classic migration has to empty. Not known is not one: what is left behind would be deleted.
fn databases(from: Option<&Capabilities>, to: Option<&Capabilities>) -> Result<u32, Objection> {
    let of = |can: Option<&Capabilities>, role: &str| {
        can.and_then(|can| can.databases).ok_or_else(|| {
            format!("how many databases the {role} has is not known: allow 'CONFIG GET' and 'COMMAND INFO'")
        })
    };
    let (source, target) = (of(from, "source")?, of(to, "target")?);
    if source > target {
        return Err(format!("the source has {source} databases and the target only {target}"));
    }
    Ok(source)
}
