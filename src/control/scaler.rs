//! When a wish for more or fewer shards is acted on. Pure.
//!
//! A policy wishes anew in each cycle. Wishes that last are followed, growing soon and shrinking late; never in soon after
//! out; out at once what was about to go.

use serde::{Deserialize, Serialize};

use crate::config::{Scaling, Victim};
use crate::model::{NodeId, Snapshot, Tag};

/// Who asks for drains that nobody asked for by hand.
pub(super) const WHO: &str = "scaling";

/// What is remembered of wishes. Kept in the state directory, so that a restart does not shrink what has just grown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scaler {
    more_since_ms: Option<u64>,
    fewer_since_ms: Option<u64>,
    /// When shards were added last, by whoever.
    grown_at_ms: u64,
    /// How many there were, those that drain not counted.
    shards: u32,
}

/// What is to be done about the number of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing, and why if something is wished.
    Nothing(Option<String>),
    /// So many more.
    More(u32),
    /// One less.
    Fewer,
}

impl Scaler {
    /// `shards` are there that do not drain, and so many are `wanted`, if anybody says.
    pub(super) fn hear(&mut self, now_ms: u64, shards: u32, wanted: Option<u32>, settings: &Scaling) -> Due {
        if self.shards > 0 && shards > self.shards {
            self.grown_at_ms = now_ms;
        }
        self.shards = shards;
        // A cycle without advice says nothing: wishes neither end nor ripen.
        if wanted.is_none() {
            return Due::Nothing(None);
        }
        let wanted =
            wanted.map(|wanted| wanted.clamp(settings.min_shards, settings.max_shards.max(settings.min_shards)));
        let more = wanted.filter(|wanted| *wanted > shards);
        let fewer = wanted.filter(|wanted| *wanted < shards);
        self.more_since_ms = more.and(self.more_since_ms.or(Some(now_ms)));
        self.fewer_since_ms = fewer.and(self.fewer_since_ms.or(Some(now_ms)));
        let left = |since_ms: u64, after: std::time::Duration| {
            let over_ms = since_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            over_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)
        };
        if let (Some(since_ms), Some(wanted)) = (self.more_since_ms, more) {
            return match left(since_ms, settings.out_after) {
                Some(left_ms) => Due::Nothing(Some(format!(
                    "{wanted} shards are wanted; if still so in {} s, more are added",
                    left_ms / 1000
                ))),
                None => Due::More(wanted - shards),
            };
        }
        if let (Some(since_ms), Some(wanted)) = (self.fewer_since_ms, fewer) {
            let still = left(since_ms, settings.in_after);
            // Never grown is not grown at the beginning of time.
            let rest = (self.grown_at_ms > 0).then(|| left(self.grown_at_ms, settings.rest)).flatten();
            return match still.max(rest) {
                Some(left_ms) => Due::Nothing(Some(format!(
                    "{wanted} shards would do; if still so in {} s, one is emptied",
                    left_ms / 1000
                ))),
                None => Due::Fewer,
            };
        }
        Due::Nothing(None)
    }
}

/// Whom to take out, best first, by who chooses.
///
/// # Errors
/// Why nobody can be chosen, for people.
pub(super) fn victims(victim: Victim, retire: &[NodeId], snapshot: &Snapshot) -> Result<Vec<NodeId>, String> {
    let stays =
        |id: &NodeId| snapshot.index_of(id).is_some_and(|index| !snapshot.primaries[index as usize].is(Tag::Draining));
    match victim {
        Victim::External => Err("scaling.victim is external: `ballast drain` names the node".to_owned()),
        Victim::Policy => {
            let victims: Vec<NodeId> = retire.iter().filter(|id| stays(id)).cloned().collect();
            if victims.is_empty() { Err("the policy names no node to take out".to_owned()) } else { Ok(victims) }
        }
        Victim::HighestOrdinal => {
            let named = snapshot.primaries.iter().map(|node| ordinal(&node.address.host).map(|named| (named, node)));
            let Some(mut named) = named.collect::<Option<Vec<_>>>() else {
                return Err(
                    "scaling.victim is highest-ordinal, and not every primary is called like name-7: let servers \
                            announce host names (cluster-announce-hostname, cluster-preferred-endpoint-type)"
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
pub(super) fn ordinal(host: &str) -> Option<(&str, u32)> {
    let (set, ordinal) = host.split('.').next()?.rsplit_once('-')?;
    Some((set, ordinal.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::Address;

    const MINUTE_MS: u64 = 60_000;

    fn settings() -> Scaling {
        Scaling {
            out_after: Duration::from_secs(60),
            in_after: Duration::from_secs(600),
            rest: Duration::from_secs(1800),
            ..Scaling::default()
        }
    }

    #[test]
    fn a_wish_is_followed_once_it_has_lasted() {
        let mut scaler = Scaler::default();
        let mut hear = |minute: u64, shards, wanted| scaler.hear(minute * MINUTE_MS, shards, Some(wanted), &settings());
        assert_eq!(hear(0, 4, 4), Due::Nothing(None));
        assert!(
            matches!(hear(1, 4, 6), Due::Nothing(Some(why)) if why.contains("6 shards are wanted; if still so in 60 s"))
        );
        assert_eq!(hear(2, 4, 6), Due::More(2));
        assert_eq!(hear(3, 5, 6), Due::More(1), "one has joined");
        let mut silent = scaler.clone();
        assert_eq!(silent.hear(4 * MINUTE_MS, 5, None, &settings()), Due::Nothing(None));
        assert_eq!(silent.hear(5 * MINUTE_MS, 5, Some(6), &settings()), Due::More(1), "it goes on");
        let mut hear = |minute: u64, shards, wanted| scaler.hear(minute * MINUTE_MS, shards, Some(wanted), &settings());
        assert_eq!(hear(4, 6, 6), Due::Nothing(None));
        assert!(matches!(hear(5, 6, 4), Due::Nothing(Some(_))));
        assert!(matches!(hear(16, 6, 4), Due::Nothing(Some(why)) if why.contains("in 1080 s")), "in after out");
        assert_eq!(hear(17, 6, 6), Due::Nothing(None), "the wish is gone");
        assert!(matches!(hear(33, 6, 5), Due::Nothing(Some(_))), "and begins anew");
        assert!(matches!(hear(34, 6, 5), Due::Nothing(Some(_))));
        assert_eq!(hear(43, 6, 5), Due::Fewer);
        assert_eq!(hear(44, 5, 5), Due::Nothing(None), "it drains, and does not count");
    }

    #[test]
    fn wishes_end_at_the_floor_and_the_ceiling() {
        let settings = Scaling { max_shards: 6, out_after: Duration::ZERO, in_after: Duration::ZERO, ..settings() };
        let due = |shards, wanted| Scaler::default().hear(1, shards, wanted, &settings);
        assert_eq!(due(4, Some(100)), Due::More(2));
        assert_eq!(due(3, Some(1)), Due::Nothing(None));
        assert_eq!(due(4, Some(1)), Due::Fewer);
        assert_eq!(due(4, None), Due::Nothing(None));
    }

    #[test]
    fn a_restart_remembers_what_has_just_grown() {
        let settings = Scaling { in_after: Duration::ZERO, ..settings() };
        let mut scaler = Scaler::default();
        scaler.hear(1_000, 3, None, &settings);
        scaler.hear(2_000, 4, None, &settings);
        let kept = serde_json::to_string(&scaler).expect("plain");
        let mut scaler: Scaler = serde_json::from_str(&kept).expect("the same");
        assert!(matches!(scaler.hear(3_000, 4, Some(3), &settings), Due::Nothing(Some(_))));
    }

    #[test]
    fn whom_a_stateful_set_would_take_is_taken_or_nobody() {
        let mut snapshot = synthetic(4, 1);
        for (node, host) in snapshot.primaries.iter_mut().zip(["valkey-2.v", "valkey-10.v", "valkey-0.v", "valkey-1.v"])
        {
            node.address = Address::new(host, 6379);
        }
        let chosen = |snapshot: &Snapshot| victims(Victim::HighestOrdinal, &[], snapshot);
        assert_eq!(chosen(&snapshot), Ok(vec![snapshot.primaries[1].id.clone()]), "by number, not by letters");
        snapshot.primaries[1].tags.push(Tag::Draining);
        assert!(chosen(&snapshot).is_err_and(|why| why.contains("valkey-10 drains already")));
        snapshot.primaries[0].address = Address::new("valkey-replica-2.v", 6379);
        assert!(chosen(&snapshot).is_err_and(|why| why.contains("two sets")));
        snapshot.primaries[0].address = Address::new("10.0.0.1", 6379);
        assert!(chosen(&snapshot).is_err_and(|why| why.contains("announce host names")));
        let [first, drains] = [0, 1].map(|index: usize| snapshot.primaries[index].id.clone());
        assert_eq!(victims(Victim::Policy, &[drains, first.clone()], &snapshot), Ok(vec![first]));
        assert!(victims(Victim::External, &[], &snapshot).is_err());
    }
}
