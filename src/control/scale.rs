//! What an autoscaler wants to know: how many shards there should be, and which node may be taken away. Pure.

use serde::{Deserialize, Serialize};

use super::drains::DrainStatus;
use super::scaler::ordinal;
use super::status::Status;
use crate::config::Victim;
use crate::model::{Address, Primary, Snapshot, Tag};

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
    /// By what the daemon knows; nothing before it has seen the cluster.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let snapshot = status.seen.as_deref()?;
        let draining = snapshot.primaries.iter().filter(|node| node.is(Tag::Draining));
        let draining: Vec<Address> = draining.map(|node| node.address.clone()).collect();
        let scaling = status.scaling.as_ref();
        let shards = snapshot.primaries.len();
        let growth = scaling.map_or(0, |scaling| scaling.growth as usize);
        let desired_shards = shards - spare(snapshot, status.victim) + growth;
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
        let blocked_by = status.drains.iter().find_map(|drain: &DrainStatus| drain.blocked_by.clone());
        let wanted_shards = scaling.map(|scaling| scaling.wanted);
        Some(Self { shards, desired_shards, wanted_shards, reason, draining, blocked_by })
    }
}

/// Whether a node may be taken away: why it may.
///
/// # Errors
/// Why it may not, for people.
pub fn terminable(name: &str, status: &Status, now_ms: u64) -> Result<String, String> {
    status.is_fresh(now_ms)?;
    let snapshot = status.seen.as_deref().ok_or("the cluster was not seen yet")?;
    if let Some((index, node)) = (0..).zip(&snapshot.primaries).find(|(_, node)| node.id.is_meant(name, &node.address))
    {
        let slots = snapshot.slots_of(index).len();
        if slots > 0 {
            return Err(format!("it owns {slots} slots: `ballast drain {}` empties it", node.address));
        }
        let migrations = &status.migrations;
        if migrations.iter().any(|running| running.source == node.id || running.target == node.id) {
            return Err("slots are being moved from or to it".to_owned());
        }
        if !node.is(Tag::Draining) {
            return Err(format!(
                "it is empty, but may get slots in the next cycle: `ballast drain {}` first",
                node.address
            ));
        }
        if status.drains.iter().any(|drain| drain.drain.id == node.id && drain.drain.forget) {
            return Err("it is empty, and the cluster forgets it in a moment".to_owned());
        }
        return Ok("it is drained and empty".to_owned());
    }
    let Some(replica) = snapshot.replicas.iter().find(|node| node.id.is_meant(name, &node.address)) else {
        // Unseen is not gone: a member that nobody could ask is among the strangers.
        if let Some(problem) = snapshot.blockers().next() {
            return Err(format!("it is not seen, but not all is seen: {problem}"));
        }
        return Ok("it is no member of the cluster".to_owned());
    };
    // Servers make an emptied primary a replica of whoever took its last slot (`cluster-allow-replica-migration`).
    match status.drains.iter().find(|drain| drain.drain.id == replica.id) {
        Some(drain) if drain.drain.forget => {
            return Err("it is empty, and the cluster forgets it in a moment".to_owned());
        }
        Some(_) => return Ok("it was drained, and has become a replica since".to_owned()),
        None => (),
    }
    let primary = replica.of.filter(|primary| !snapshot.slots_of(*primary).is_empty());
    let others = snapshot.replicas.iter().filter(|other| other.online && other.id != replica.id);
    match primary {
        Some(primary) if !others.into_iter().any(|other| other.of == Some(primary)) => {
            let address = &snapshot.primaries[primary as usize].address;
            Err(format!("it is the only replica of {address}, whose slots would be lost with it"))
        }
        _ => Ok("it is a replica whose primary has others, or no slots".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::{Owners, PolicyId, Replica};

    /// Four primaries, of which the last is empty; the first has one replica.
    fn status(tags: &[Tag]) -> Status {
        let mut snapshot = synthetic(4, 1);
        let owners = snapshot.owners.as_slice().iter().map(|owner| owner % 3).collect();
        snapshot.owners = Owners::new(owners);
        snapshot.primaries[3].tags = tags.to_vec();
        snapshot.replicas = vec![Replica {
            id: "e".repeat(40).parse().expect("an id"),
            address: "10.0.0.9:7000".parse().expect("an address"),
            of: Some(0),
            online: true,
            version: String::new(),
        }];
        let mut status = Status::starting("test", 0, 30_000);
        status.policy.id = Some(PolicyId { name: "p".into(), version: "1".into(), digest: "0".repeat(64) });
        status.snapshot = Some(snapshot.summary());
        status.seen = Some(Arc::new(snapshot));
        status
    }

    #[test]
    fn a_node_counts_as_wanted_until_it_is_drained_and_empty() {
        assert_eq!(Scale::of(&Status::starting("test", 0, 30_000)), None);
        let scale = |tags: &[Tag]| Scale::of(&status(tags)).map(|scale| (scale.shards, scale.desired_shards));
        assert_eq!(scale(&[Tag::Primary, Tag::Empty]), Some((4, 4)), "it will be used");
        assert_eq!(scale(&[Tag::Primary, Tag::Draining]), Some((4, 4)), "it still has slots");
        let spare = [Tag::Primary, Tag::Draining, Tag::Empty];
        assert_eq!(scale(&spare), Some((4, 3)));
        // While anything is amiss nobody is to be taken away.
        let mut unwell = status(&spare);
        let seen = Arc::make_mut(unwell.seen.as_mut().expect("seen"));
        seen.problems.push(crate::model::Problem::PrimaryUnreachable {
            node: "10.0.0.1:7000".parse().expect("an address"),
            detail: "silent".into(),
        });
        assert_eq!(Scale::of(&unwell).map(|scale| scale.desired_shards), Some(4));
        let now_ms = unwell.snapshot.as_ref().map_or(0, |seen| seen.taken_at_ms);
        assert!(terminable("10.9.9.9:1", &unwell, now_ms).is_err_and(|why| why.contains("not all is seen")));
    }

    #[test]
    fn where_the_last_ordinal_goes_an_empty_one_below_it_does_not_count() {
        let mut status = status(&[Tag::Primary, Tag::Draining, Tag::Empty]);
        status.victim = Victim::HighestOrdinal;
        let mut name = |hosts: [&str; 4]| {
            let seen = Arc::make_mut(status.seen.as_mut().expect("seen"));
            for (node, host) in seen.primaries.iter_mut().zip(hosts) {
                node.address = Address::new(host, 6379);
            }
            Scale::of(&status).map(|scale| scale.desired_shards)
        };
        assert_eq!(name(["v-0", "v-1", "v-2", "v-3"]), Some(3));
        assert_eq!(name(["v-0", "v-1", "v-3", "v-2"]), Some(4), "v-3 would be taken away, with its slots");
        assert_eq!(name(["10.0.0.1", "v-1", "v-2", "v-3"]), Some(4));
    }

    #[test]
    fn only_what_nobody_needs_may_be_taken_away() {
        let ask = |name: &str, tags: &[Tag]| {
            let status = status(tags);
            let now_ms = status.snapshot.as_ref().map_or(0, |seen| seen.taken_at_ms);
            terminable(name, &status, now_ms)
        };
        let empty = [Tag::Primary, Tag::Empty];
        assert!(ask("10.0.0.1:7000", &empty).expect_err("it has slots").contains("ballast drain 10.0.0.1:7000"));
        assert!(ask("10.0.0.1:7003", &empty).expect_err("it may get some").contains("may get slots"));
        assert_eq!(
            ask("10.0.0.1:7003", &[Tag::Primary, Tag::Empty, Tag::Draining]),
            Ok("it is drained and empty".into())
        );
        assert!(ask("10.0.0.9:7000", &empty).expect_err("the only one").contains("only replica of 10.0.0.1:7000"));
        assert!(ask("10.0.0.8:7000", &empty).is_ok(), "a stranger");
        let old = status(&empty);
        assert!(terminable("10.0.0.8:7000", &old, u64::MAX).is_err(), "what was seen long ago says nothing");
    }
}
