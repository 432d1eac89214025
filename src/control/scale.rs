//! How many shards there are and should be: what an autoscaler obeys. Pure.

use serde::{Deserialize, Serialize};

use super::drains::DrainStatus;
use super::scaler::ordinal;
use crate::config::Victim;
use crate::model::{Address, Primary, ScalingReport, Snapshot, Tag};

/// How many shards there are and should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Primaries, empty ones included.
    pub shards: usize,
    /// Those that are wanted: a node that drains counts until it is empty, so that whoever obeys this number never takes one away
    /// that still has slots.
    pub desired_shards: usize,
    /// So many would be right, in the policy's eyes; absent when it says nothing.
    pub wanted_shards: Option<u32>,
    /// Why.
    pub reason: String,
    /// Where nodes are reached that drain, the empty ones included.
    pub draining: Vec<Address>,
    /// Why a drain does not go on, for people.
    pub blocked_by: Option<String>,
}

/// Primaries that are empty for good: whoever obeys what is left of the number takes one of them away.
///
/// Where that is always the one with the highest ordinal, an empty one below one with slots does not count. While anything is
/// amiss none does: a node that is not seen well may be one of those that the number is about.
fn spare(snapshot: &Snapshot, victim: Victim) -> usize {
    if snapshot.blockers().next().is_some() {
        return 0;
    }
    let spare = snapshot.primaries.iter().filter(|node| is_done(node));
    if victim != Victim::HighestOrdinal {
        return spare.count();
    }
    let kept = snapshot.primaries.iter().filter(|node| !is_done(node)).map(|node| ordinal(&node.address.host));
    // Whoever has no ordinal may be anyone.
    let Some(kept) = kept.collect::<Option<Vec<_>>>() else { return 0 };
    let highest = kept.into_iter().map(|(_, ordinal)| ordinal).max();
    spare.filter(|node| ordinal(&node.address.host).is_some_and(|(_, ordinal)| Some(ordinal) > highest)).count()
}

/// Whether a node was to be emptied, and is.
fn is_done(node: &Primary) -> bool {
    node.is(Tag::Draining) && node.is(Tag::Empty)
}

impl Scale {
    /// By the cluster as it was seen, by what was advised, and by how drains go on.
    #[must_use]
    pub fn of(snapshot: &Snapshot, scaling: Option<&ScalingReport>, drains: &[DrainStatus], victim: Victim) -> Self {
        let draining = snapshot.primaries.iter().filter(|node| node.is(Tag::Draining));
        let draining: Vec<Address> = draining.map(|node| node.address.clone()).collect();
        let shards = snapshot.primaries.len();
        let growth = scaling.map_or(0, |scaling| scaling.growth as usize);
        let desired_shards = shards - spare(snapshot, victim) + growth;
        let empty = snapshot.primaries.iter().filter(|node| is_done(node)).count();
        let mut reason = match draining.len() {
            0 => "nothing drains".to_owned(),
            1 => format!("1 node drains{}", if empty == 1 { ", and is empty" } else { "" }),
            count => format!("{count} nodes drain, {empty} of them empty"),
        };
        if let Some(scaling) = scaling {
            let waits = scaling.waits.iter().map(|waits| format!(" ({waits})")).collect::<String>();
            reason = format!("{}{waits}; {reason}", scaling.reason);
        }
        let blocked_by = drains.iter().find_map(|drain| drain.blocked_by.clone());
        let wanted_shards = scaling.map(|scaling| scaling.wanted);
        Self { shards, desired_shards, wanted_shards, reason, draining, blocked_by }
    }
}
