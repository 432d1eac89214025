//! The commands by which a node leaves.

use std::time::Duration;

use futures_util::future::join_all;

use crate::cluster::question::{ClusterNodes, Info};
use crate::cluster::{AskError, Cluster, Command, ask, say};
use crate::model::{Address, NodeId};

use super::{Farewell, Rehoming};

/// Each of these commands is answered at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a node is still there. Nothing of it needs mending: the next look decides anew.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// What the node itself says speaks against it.
    #[error("{node} does not leave: {why}")]
    Unfit {
        /// The node.
        node: Address,
        /// For people.
        why: String,
    },
    /// A node did not answer, or refused.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Has each replica follow another primary.
///
/// # Errors
/// [`LeaveError::Ask`] of the first that does not; those before it have changed.
pub async fn rehome(cluster: &dyn Cluster, rehomings: &[Rehoming]) -> Result<(), LeaveError> {
    for Rehoming { replica, primary, .. } in rehomings {
        say(cluster, replica, Command::new("CLUSTER REPLICATE").arg(primary), PATIENCE).await?;
    }
    Ok(())
}

/// Has `others` forget the node, and the node forget them. The node itself is asked first, whatever others say of it: one that
/// owns slots or, as a primary, holds keys does not leave.
///
/// Who was told to forget takes the node for a stranger for a minute (`CLUSTER FORGET`), in which nobody brings it back by gossip;
/// when some could not be told, it comes back, and all are told again after the next look.
///
/// # Errors
/// [`LeaveError`].
pub async fn leave(cluster: &dyn Cluster, node: &Address, id: &NodeId, farewell: &Farewell) -> Result<(), LeaveError> {
    // One that all have for dead owns nothing and answers nobody.
    if farewell.answers {
        examine(cluster, node, id).await?;
    }
    let told = farewell.others.iter().map(|other| forget(cluster, other, id));
    join_all(told).await.into_iter().collect::<Result<(), LeaveError>>()?;
    if farewell.answers {
        // SOFT keeps its name: who knew it by that still finds it among the spare ones.
        say(cluster, node, Command::new("CLUSTER RESET SOFT"), PATIENCE).await?;
    }
    Ok(())
}

async fn examine(cluster: &dyn Cluster, node: &Address, id: &NodeId) -> Result<(), LeaveError> {
    let unfit = |why: String| LeaveError::Unfit { node: node.clone(), why };
    let records = ask(cluster, node, &ClusterNodes::of(node), PATIENCE).await?;
    let own = records.iter().find(|record| record.myself).ok_or_else(|| unfit("it does not name itself".to_owned()))?;
    if own.id != *id {
        return Err(unfit(format!("another node answers there: {}", own.id)));
    }
    if !own.slots.is_empty() {
        return Err(unfit(format!("it owns slots {} in its own view", own.slots)));
    }
    if !own.open.is_empty() {
        return Err(unfit("a slot is open in its own view".to_owned()));
    }
    let follows = matches!(own.role, crate::model::Role::Replica { .. });
    let info = ask(cluster, node, &Info, PATIENCE).await?;
    match info.database_with_keys() {
        Some(database) if !follows => Err(unfit(format!(
            "it holds keys in database {database}, though it owns no slot: `ballast check` shows which"
        ))),
        _ => Ok(()),
    }
}

/// Who does not know it any more has done it already: servers from Redis 7.2 and Valkey on tell each other.
async fn forget(cluster: &dyn Cluster, other: &Address, id: &NodeId) -> Result<(), LeaveError> {
    match say(cluster, other, Command::new("CLUSTER FORGET").arg(id), PATIENCE).await {
        Err(AskError::Reply { cause, .. }) if cause.to_string().to_ascii_lowercase().contains("unknown node") => Ok(()),
        told => Ok(told.map(drop)?),
    }
}
