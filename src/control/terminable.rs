//! Which node an autoscaler may take away, whatever number it obeys. Pure.

use super::status::Status;
use crate::model::Tag;

/// Whether a node may be taken away: why it may.
///
/// # Errors
/// Why it may not, for people.
pub fn terminable(name: &str, status: &Status, now_ms: u64) -> Result<String, String> {
    status.is_fresh(now_ms)?;
    let snapshot = status.seen.as_deref().ok_or("the cluster was not seen yet")?;
    let meant = snapshot.called(name).count();
    if meant > 1 {
        return Err(format!("'{name}' means {meant} nodes: give its address, or more digits of its id"));
    }
    if let Some((index, node)) = (0..).zip(&snapshot.primaries).find(|(_, node)| node.is_called(name)) {
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
    let Some(replica) = snapshot.replicas.iter().find(|node| node.is_called(name)) else {
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
    use crate::scaling::Victim;

    /// Four primaries, of which the last is empty; the first has one replica.
    fn status(tags: &[Tag]) -> Status {
        let mut snapshot = synthetic(4, 1);
        let owners = snapshot.owners.as_slice().iter().map(|owner| owner % 3).collect();
        snapshot.owners = Owners::new(owners);
        snapshot.primaries[3].tags = tags.to_vec();
        snapshot.replicas = vec![Replica {
            id: "e".repeat(40).parse().expect("an id"),
            address: "10.0.0.9:7000".parse().expect("an address"),
            hostname: None,
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
        assert_eq!(Status::starting("test", 0, 30_000).shards(), None);
        let scale = |tags: &[Tag]| status(tags).shards().map(|scale| (scale.shards, scale.desired_shards));
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
        assert_eq!(unwell.shards().map(|scale| scale.desired_shards), Some(4));
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
                node.hostname = Some(format!("{host}.valkey.svc"));
            }
            status.shards().map(|scale| scale.desired_shards)
        };
        assert_eq!(name(["v-0", "v-1", "v-2", "v-3"]), Some(3));
        assert_eq!(name(["v-0", "v-1", "v-3", "v-2"]), Some(4), "v-3 would be taken away, with its slots");
        assert_eq!(name(["v-0", "v-1", "v-4", "v-5"]), Some(5), "v-2 and v-3 are no primaries any more, and are pods");
        assert_eq!(name(["elsewhere", "v-1", "v-2", "v-3"]), Some(4));
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
