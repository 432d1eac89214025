//! `ballast add-node`: lets a node join, with the checks that redis-cli makes, and waits until all agree.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::look::Eye;
use super::outcome::{Exit, Outcome, refused, timed_out};
use super::screen::Screen;
use super::target::Target;
use crate::cluster::live::Url;
use crate::cluster::question::{ClusterNodes, Info};
use crate::cluster::{Cluster, Command, ask, say};
use crate::join::{self, JoinError};
use crate::model::{Address, LinkState, NodeId, NodeRecord, Role, SlotSet, Snapshot};
use crate::telemetry::chain;

/// Who joins whom.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node that joins: empty, and in no cluster yet
    new: Url,
    #[command(flatten)]
    target: Target,
    /// Joins as a replica of this primary, by address or id; without a value, of the one with the fewest replicas
    #[arg(long, value_name = "NODE", num_args = 0..=1, default_missing_value = "")]
    replica_of: Option<String>,
    /// How long to wait until all nodes agree
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::model::units::duration::parse)]
    timeout: Duration,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
}

/// What joined.
#[derive(Serialize)]
struct Added {
    id: NodeId,
    address: Address,
    role: &'static str,
    replica_of: Option<NodeId>,
    /// Nodes that know it.
    known_by: usize,
}

/// A healthy node answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks while gossip spreads, which takes seconds.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    screen.can_ask(args.yes)?;
    let connection = args.target.connect(screen)?;
    let cluster = &*connection.cluster;
    let new = &args.new.address;
    let seen = Eye::new(&connection).glance().await?;
    let unwell: Vec<String> = seen
        .blockers()
        .filter(|problem| **problem != crate::model::Problem::WarmingUp)
        .map(ToString::to_string)
        .collect();
    if !unwell.is_empty() {
        return Err(refused(
            format!("the cluster is not healthy: {}", unwell.join("; ")),
            "'ballast check' shows more",
        ));
    }
    let primary = args.replica_of.as_deref().map(|name| primary_for(name, &seen)).transpose()?;
    let id = join::examine(cluster, new, &seen).await.map_err(|error| match error {
        JoinError::Unfit { why, hint } => refused(why, hint),
        member @ JoinError::Member { .. } => refused(member.to_string(), "'ballast check' lists its nodes"),
        other => other.into(),
    })?;
    let existing = &seen.primaries.first().context("the cluster has no primary")?.address;

    let role =
        primary.map_or("a primary".to_owned(), |index| format!("a replica of {}", super::nodes::address(index, &seen)));
    if !screen.confirm(&format!("Let {new} join the cluster of {existing} as {role}?"), args.yes)? {
        screen.note("nothing was changed");
        return Ok(Exit::Refused);
    }

    let deadline = Instant::now() + args.timeout;
    if primary.is_none() {
        let copied = join::copy_functions(cluster, existing, new).await;
        copied.context("the functions of the cluster cannot be copied to the new node")?;
    }
    join::meet(cluster, existing, new).await?;
    let known_by = wait_until_met(cluster, &seen, new, &id, deadline).await?;
    let replica_of = primary.map(|index| seen.primaries[index as usize].id.clone());
    if let Some(primary) = &replica_of {
        replicate(cluster, new, primary, deadline).await?;
        wait_until_followed(cluster, &seen, new, &id, primary, deadline).await?;
    }
    let role = if replica_of.is_some() { "replica" } else { "primary" };
    let added = Added { id, address: new.clone(), role, replica_of, known_by };
    screen.show("AddNode", &added, || {
        let next = if added.replica_of.is_none() { "; 'ballast rebalance --policy slots' gives it slots" } else { "" };
        format!("{} joined as a {role}, known by {known_by} nodes{next}\n", added.address)
    })?;
    Ok(Exit::Ok)
}

/// The primary that is named, or the one with the fewest replicas.
fn primary_for(name: &str, seen: &Snapshot) -> anyhow::Result<u32> {
    if !name.is_empty() {
        return super::nodes::primary(name, seen);
    }
    let replicas = |index: u32| seen.replicas.iter().filter(|replica| replica.of == Some(index)).count();
    let serving = (0..).zip(&seen.primaries).filter(|(_, primary)| !primary.is(crate::model::Tag::Empty));
    let fewest = serving.map(|(index, _)| index).min_by_key(|index| replicas(*index));
    fewest.ok_or_else(|| refused("no primary owns slots", "name one: --replica-of ADDRESS"))
}

/// What every member says, the new one included; nothing for one that does not answer.
async fn views(cluster: &dyn Cluster, seen: &Snapshot, new: &Address) -> Vec<(Address, Option<Vec<NodeRecord>>)> {
    let members = seen.members().map(|(_, address)| address).chain([new]);
    let asked = members.map(|member| async move {
        (member.clone(), ask(cluster, member, &ClusterNodes::of(member), PATIENCE).await.ok())
    });
    futures_util::future::join_all(asked).await
}

/// Waits until every member knows the new node and it knows them; how many that are.
async fn wait_until_met(
    cluster: &dyn Cluster,
    seen: &Snapshot,
    new: &Address,
    id: &NodeId,
    deadline: Instant,
) -> anyhow::Result<usize> {
    let count = seen.primaries.len() + seen.replicas.len() + 1;
    wait(deadline, &format!("{new} is known everywhere"), || async {
        let well = |node: &&NodeRecord| node.state == LinkState::Ok;
        let mut agreed = None;
        for (member, view) in views(cluster, seen, new).await {
            let view = view.unwrap_or_default();
            let knows = view.iter().any(|node| node.id == *id && node.state == LinkState::Ok);
            if !knows || view.iter().filter(well).count() < count {
                return Some(format!("{member} does not know all {count} nodes yet"));
            }
            // A newcomer hears of a primary first and of its slots a packet later.
            let owners = owners(&view);
            if *agreed.get_or_insert_with(|| owners.clone()) != owners {
                return Some(format!("{member} sees other owners of slots than the others yet"));
            }
        }
        None
    })
    .await?;
    Ok(count)
}

/// Who owns what, as a node sees it.
fn owners(view: &[NodeRecord]) -> BTreeMap<NodeId, SlotSet> {
    let owns = view.iter().filter(|node| !node.slots.is_empty());
    owns.map(|node| (node.id.clone(), node.slots.clone())).collect()
}

/// A node that has just met the others may not know the primary yet.
async fn replicate(cluster: &dyn Cluster, new: &Address, primary: &NodeId, deadline: Instant) -> anyhow::Result<()> {
    wait(deadline, "the new node follows its primary", || async {
        let outcome = say(cluster, new, Command::new("CLUSTER REPLICATE").arg(primary), PATIENCE).await;
        outcome.err().map(|error| chain(&error))
    })
    .await
}

async fn wait_until_followed(
    cluster: &dyn Cluster,
    seen: &Snapshot,
    new: &Address,
    id: &NodeId,
    primary: &NodeId,
    deadline: Instant,
) -> anyhow::Result<()> {
    wait(deadline, "all nodes see the new replica, and it is in sync", || async {
        for (member, view) in views(cluster, seen, new).await {
            let role = view.unwrap_or_default().into_iter().find(|node| node.id == *id).map(|node| node.role);
            if role != Some(Role::Replica { of: Some(primary.clone()) }) {
                return Some(format!("{member} does not see it as a replica yet"));
            }
        }
        let up = ask(cluster, new, &Info, PATIENCE).await.is_ok_and(|info| info.primary_link_up());
        (!up).then(|| "its link to the primary is not up yet".to_owned())
    })
    .await
}

/// Looks until nothing is missing; at the deadline, fails with what still is.
async fn wait<F: Future<Output = Option<String>>>(
    deadline: Instant,
    what: &str,
    mut missing: impl FnMut() -> F,
) -> anyhow::Result<()> {
    loop {
        let Some(missing) = missing().await else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(timed_out(
                format!("waited in vain until {what}: {missing}"),
                "can all nodes reach each other's cluster bus port? 'ballast check' shows what they see",
            ));
        }
        sleep(PAUSE).await;
    }
}
