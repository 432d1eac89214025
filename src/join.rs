//! Lets a node join a cluster: whether it may, the functions that it needs, and the introduction.
//!
//! The counterpart of [`retire`](crate::retire). Whether the others have taken note of it, the next look shows.

use std::net::IpAddr;
use std::time::Duration;

use crate::cluster::question::{ClusterNodes, Info};
use crate::cluster::{AskError, Cluster, Command, Reply, ask, say};
use crate::model::{Address, NodeId, Snapshot};

/// A healthy node answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a node does not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is not fit for it.
    #[error("{why}")]
    Unfit {
        /// Why.
        why: String,
        /// What mends it.
        hint: &'static str,
    },
    /// It is one of the cluster's nodes, which may know it by another address.
    #[error("{node} is in this cluster already")]
    Member {
        /// Who.
        node: Address,
    },
    /// A node did not answer, or refused.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Its name means no address.
    #[error("{host} has no IP address")]
    Nameless {
        /// Its name.
        host: String,
        /// What the system said.
        #[source]
        cause: Option<std::io::Error>,
    },
}

/// Whether `new` may join the cluster of `seen`: in cluster mode, alone, without slots and keys. Its id.
///
/// # Errors
/// [`JoinError`], with what would make it fit.
pub async fn examine(cluster: &dyn Cluster, new: &Address, seen: &Snapshot) -> Result<NodeId, JoinError> {
    let unfit = |why: String, hint: &'static str| Err(JoinError::Unfit { why, hint });
    let info = ask(cluster, new, &Info, PATIENCE).await?;
    if info.get("cluster_enabled") != Some("1") {
        return unfit(format!("{new} does not run in cluster mode"), "start it with cluster-enabled yes");
    }
    let records = ask(cluster, new, &ClusterNodes::of(new), PATIENCE).await?;
    let Some(own) = records.iter().find(|node| node.myself) else {
        return unfit(format!("{new} does not name itself"), "is it a Redis or Valkey server?");
    };
    if seen.members().any(|(id, _)| *id == own.id) {
        return Err(JoinError::Member { node: new.clone() });
    }
    if records.len() > 1 || !own.slots.is_empty() {
        return unfit(
            format!("{new} knows {} other nodes and owns {} slots", records.len() - 1, own.slots.len()),
            "CLUSTER RESET on it makes it forget them",
        );
    }
    if info.database_with_keys().is_some() {
        return unfit(format!("{new} holds keys"), "FLUSHALL on it, if nobody needs them");
    }
    Ok(own.id.clone())
}

/// A primary must know the functions that the others know, or calls fail once it owns slots. Replicas get them with the data.
///
/// # Errors
/// [`JoinError`] of either end.
pub async fn copy_functions(cluster: &dyn Cluster, from: &Address, to: &Address) -> Result<(), JoinError> {
    let dump = match say(cluster, from, Command::new("FUNCTION DUMP"), PATIENCE).await {
        Ok(Reply::Bytes(dump)) => dump,
        Ok(_) => return Ok(()),
        // Servers before 7.0 have no functions.
        Err(AskError::Reply { cause, .. }) if cause.to_string().to_ascii_lowercase().contains("unknown command") => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    say(cluster, to, Command::new("FUNCTION RESTORE").bytes(dump).arg("REPLACE"), PATIENCE).await?;
    Ok(())
}

/// Introduces `new` to `existing`. Servers meet by IP address, and on a bus port that is not the client port plus 10000 only
/// if it is named.
///
/// # Errors
/// [`JoinError`]. Gossip takes a second or two after it was said.
pub async fn meet(cluster: &dyn Cluster, existing: &Address, new: &Address) -> Result<(), JoinError> {
    let ip: IpAddr = match new.host.parse() {
        Ok(ip) => ip,
        Err(_) => {
            let nameless = |cause| JoinError::Nameless { host: new.host.clone(), cause };
            let mut found =
                tokio::net::lookup_host((new.host.as_str(), new.port)).await.map_err(|e| nameless(Some(e)))?;
            found.next().ok_or_else(|| nameless(None))?.ip()
        }
    };
    let mut command = Command::new("CLUSTER MEET").arg(ip).arg(new.port);
    if let Ok(Reply::List(pair)) = say(cluster, new, Command::new("CONFIG GET cluster-port"), PATIENCE).await
        && let Some(Reply::Bytes(port)) = pair.into_iter().nth(1)
        && let Some(port) =
            String::from_utf8(port).ok().and_then(|text| text.parse::<u16>().ok()).filter(|port| *port != 0)
    {
        command = command.arg(port);
    }
    say(cluster, existing, command, PATIENCE).await?;
    Ok(())
}
