//! What strikes a cluster while slots move, and how it comes back.

use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::{LocalCluster, NodeView, Role, Traffic};
use tokio::time::{sleep, timeout};

use super::stage::{Order, Stage};
use crate::support::{chain, eventually};

/// Elections take a second or two; on a crowded machine, ten times that.
const ELECTION_PATIENCE: Duration = Duration::from_secs(60);

/// How often epochs are bumped in one storm.
const BUMPS: usize = 24;

/// A replica that was told to take over gives up after five seconds.
const MANUAL_FAILOVER: Duration = Duration::from_secs(6);

/// A node by what it is to the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Source,
    Target,
    SourceReplica,
    TargetReplica,
    /// A primary that has no part in it.
    Third,
}

/// What happens to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Killed, and started again at once.
    Crash(Who),
    /// Killed, and started again when its replica has taken over.
    Failover(Who),
    /// Frozen for so many milliseconds: connections stay, answers do not come.
    Freeze(Who, u64),
    /// Out of Ballast's reach for so many milliseconds, and of nobody else's.
    CutOff(Who, u64),
    /// Both ends in Ballast's reach and out of each other's, and of everybody else's, for so many milliseconds: connections break.
    Severed(u64),
    /// The same, and nobody is told: connections stand, and nothing arrives.
    Swallowed(u64),
    /// `CLUSTER FAILOVER` said to its replica.
    ManualFailover(Who),
    /// `CLUSTER BUMPEPOCH` said to every node but the two ends, again and again. Said to an end at the very moment of the
    /// hand-over, it makes the servers lose the slot: `docs/traps.md`, 11.
    BumpEpochs,
    /// `CLIENT PAUSE` for so many milliseconds.
    ClientPause(Who, u64),
}

/// Strikes; what has to come back later is returned.
pub(super) async fn strike(stage: &mut Stage, fault: Fault, order: &Order) -> Option<usize> {
    let cluster = &mut stage.cluster;
    let view = cluster.view().await.expect("a view");
    let place = |who| place_of(cluster, &view, order, who);
    match fault {
        Fault::Crash(who) | Fault::Failover(who) => {
            let place = place(who);
            cluster.nodes[place].server.kill9();
            Some(place)
        }
        Fault::Freeze(who, _) => {
            let place = place(who);
            cluster.nodes[place].server.pause();
            Some(place)
        }
        Fault::CutOff(who, _) => Some(place(who)),
        Fault::Severed(_) | Fault::Swallowed(_) => {
            let traffic = if matches!(fault, Fault::Severed(_)) { Traffic::Breaks } else { Traffic::Stalls };
            for end in [order.source, order.target] {
                stage.detours[end].set(traffic);
            }
            Some(order.source)
        }
        Fault::ManualFailover(who) => {
            let replica = match who {
                Who::Source => place(Who::SourceReplica),
                Who::Target => place(Who::TargetReplica),
                other => panic!("{other:?} is no primary of the migration"),
            };
            cluster.nodes[replica].server.call(Command::new("CLUSTER FAILOVER")).await.expect("a replica takes it");
            Some(place(who))
        }
        Fault::BumpEpochs => {
            let ends = [place(Who::Source), place(Who::Target)].map(|end| cluster.nodes[end].id.clone());
            for node in cluster.nodes.iter().filter(|node| !ends.contains(&node.id)).cycle().take(BUMPS) {
                node.server.call(Command::new("CLUSTER BUMPEPOCH")).await.expect("bumped");
            }
            None
        }
        Fault::ClientPause(who, ms) => {
            let pause = Command::new("CLIENT PAUSE").arg(ms).arg("WRITE");
            cluster.nodes[place(who)].server.call(pause).await.expect("paused");
            None
        }
    }
}

/// Brings back what was struck.
pub(super) async fn heal(stage: &mut Stage, fault: Fault, struck: Option<usize>) {
    let cluster = &mut stage.cluster;
    let Some(place) = struck else { return };
    match fault {
        Fault::Crash(_) => restart(cluster, place).await,
        Fault::Failover(_) => {
            until_succeeded(cluster, place).await;
            restart(cluster, place).await;
        }
        Fault::Freeze(_, ms) => {
            // The time is the point: longer than somebody's patience.
            sleep(Duration::from_millis(ms)).await;
            cluster.nodes[place].server.resume();
        }
        Fault::CutOff(_, ms) => sleep(Duration::from_millis(ms)).await,
        Fault::Severed(ms) | Fault::Swallowed(ms) => {
            sleep(Duration::from_millis(ms)).await;
            for detour in &stage.detours {
                detour.set(Traffic::Flows);
            }
        }
        Fault::ManualFailover(_) => {
            // The primaries may refuse their votes, for the replica's claims are older than the slots' new owner: then
            // it gives up, and nothing has happened.
            drop(timeout(MANUAL_FAILOVER, until_succeeded(cluster, place)).await);
        }
        Fault::BumpEpochs | Fault::ClientPause(..) => {}
    }
}

async fn restart(cluster: &mut LocalCluster, place: usize) {
    cluster.nodes[place].server.restart().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

/// Waits until the node at `place` owns nothing: a replica of it has taken over.
async fn until_succeeded(cluster: &LocalCluster, place: usize) {
    let id = &cluster.nodes[place].id;
    eventually("its replica has taken over", ELECTION_PATIENCE, async || {
        let view = cluster.view().await.ok()?;
        let owned = view.iter().find(|node| node.id == *id).map(|node| node.slots.len())?;
        (owned == 0).then_some(())
    })
    .await;
}

fn place_of(cluster: &LocalCluster, view: &[NodeView], order: &Order, who: Who) -> usize {
    let place = |node: &NodeView| cluster.nodes.iter().position(|known| known.id == node.id).expect("ours");
    let replica_of = |primary: usize| {
        let role = Role::Replica(Some(cluster.nodes[primary].id.clone()));
        place(view.iter().find(|node| node.role == role).expect("each primary has a replica"))
    };
    match who {
        Who::Source => order.source,
        Who::Target => order.target,
        Who::SourceReplica => replica_of(order.source),
        Who::TargetReplica => replica_of(order.target),
        Who::Third => {
            let mut owners = view.iter().filter(|node| !node.slots.is_empty()).map(place);
            owners.find(|place| ![order.source, order.target].contains(place)).expect("a third primary")
        }
    }
}
