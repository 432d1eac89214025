//! Whom to take out when there are too many.

use super::Victim;
use crate::model::{NodeId, Snapshot, Tag};

/// Whom to take out, best first, by who chooses.
///
/// # Errors
/// Why nobody can be chosen, for people.
pub(crate) fn victims(victim: Victim, retire: &[NodeId], snapshot: &Snapshot) -> Result<Vec<NodeId>, String> {
    let stays =
        |id: &NodeId| snapshot.index_of(id).is_some_and(|index| !snapshot.primaries[index as usize].is(Tag::Draining));
    match victim {
        Victim::External => Err("scaling.victim is external: `ballast drain` names the node".to_owned()),
        Victim::Policy => {
            let victims: Vec<NodeId> = retire.iter().filter(|id| stays(id)).cloned().collect();
            if victims.is_empty() { Err("the policy names no node to take out".to_owned()) } else { Ok(victims) }
        }
        Victim::HighestOrdinal => {
            let named = snapshot.primaries.iter().map(|node| ordinal(node.host()).map(|named| (named, node)));
            let Some(mut named) = named.collect::<Option<Vec<_>>>() else {
                return Err(
                    "scaling.victim is highest-ordinal, and not every primary is called like name-7: let servers \
                            announce their host names (cluster-announce-hostname)"
                        .to_owned(),
                );
            };
            named.sort_by_key(|((_, ordinal), _)| *ordinal);
            let Some(((set, highest), last)) = named.pop() else { return Err("there is no primary".to_owned()) };
            // After a failover, a pod of the set of replicas may lead a shard: taking away the last pod of either set says
            // nothing about the other.
            if let Some(((other, _), _)) = named.iter().find(|((other, _), _)| *other != set) {
                return Err(format!(
                    "primaries are in two sets, {set} and {other}: hand the slots back first (CLUSTER FAILOVER)"
                ));
            }
            if !stays(&last.id) {
                return Err(format!("{set}-{highest} drains already"));
            }
            Ok(vec![last.id.clone()])
        }
    }
}

/// `valkey-7.valkey.svc` is the seventh of `valkey`.
pub(crate) fn ordinal(host: &str) -> Option<(&str, u32)> {
    let (set, ordinal) = host.split('.').next()?.rsplit_once('-')?;
    Some((set, ordinal.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::Address;

    #[test]
    fn whom_a_stateful_set_would_take_is_taken_or_nobody() {
        let mut snapshot = synthetic(4, 1);
        for (node, host) in snapshot.primaries.iter_mut().zip(["valkey-2.v", "valkey-10.v", "valkey-0.v", "valkey-1.v"])
        {
            node.hostname = Some(host.to_owned());
        }
        // Servers without host names may be reached by them all the same.
        snapshot.primaries[3].address = Address::new(snapshot.primaries[3].hostname.take().expect("given"), 6379);
        let chosen = |snapshot: &Snapshot| victims(Victim::HighestOrdinal, &[], snapshot);
        assert_eq!(chosen(&snapshot), Ok(vec![snapshot.primaries[1].id.clone()]), "by number, not by letters");
        snapshot.primaries[1].tags.push(Tag::Draining);
        assert!(chosen(&snapshot).is_err_and(|why| why.contains("valkey-10 drains already")));
        snapshot.primaries[0].hostname = Some("valkey-replica-2.v".to_owned());
        assert!(chosen(&snapshot).is_err_and(|why| why.contains("two sets")));
        snapshot.primaries[0].hostname = None;
        assert!(chosen(&snapshot).is_err_and(|why| why.contains("announce their host names")));
        let [first, drains] = [0, 1].map(|index: usize| snapshot.primaries[index].id.clone());
        assert_eq!(victims(Victim::Policy, &[drains, first.clone()], &snapshot), Ok(vec![first]));
        assert!(victims(Victim::External, &[], &snapshot).is_err());
    }
}
