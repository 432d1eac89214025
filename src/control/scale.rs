//! How many shards there are and should be: what an autoscaler obeys. Pure.

use serde::{Deserialize, Serialize};

use super::drains::DrainStatus;
use crate::model::{Address, Primary, ScalingReport, Snapshot, Tag};
use crate::scaling::{Victim, ordinal};

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

/// So many shards are needed: whoever obeys the number takes none away that has slots, or may get some.
///
/// Where that is always the one with the highest ordinal, the number is about ordinals: those below count, whatever has become of
/// them. While anything is amiss all count that are there: a node that is not seen well may be one of those that the number is about.
fn needed(snapshot: &Snapshot, victim: Victim) -> usize {
    let amiss = snapshot.blockers().next().is_some();
    let kept: Vec<&Primary> = snapshot.primaries.iter().filter(|node| amiss || !is_done(node)).collect();
    if victim != Victim::HighestOrdinal {
        return kept.len();
    }
    let ordinals: Option<Vec<usize>> =
        kept.iter().map(|node| ordinal(node.host()).map(|(_, ordinal)| ordinal as usize)).collect();
    match ordinals {
        Some(ordinals) => ordinals.into_iter().map(|ordinal| ordinal + 1).fold(kept.len(), usize::max),
        // Whoever has no ordinal may be anyone.
        None => snapshot.primaries.len(),
    }
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
        // What was wanted when there were fewer has come in part by now: whoever looks may see more than whoever said so.
        let staying = snapshot.primaries.iter().filter(|node| !node.is(Tag::Draining)).count();
        let growth = scaling
            .filter(|scaling| scaling.growth > 0)
            .map_or(0, |scaling| (scaling.shards as usize + scaling.growth as usize).saturating_sub(staying));
        let desired_shards = needed(snapshot, victim) + growth;
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
