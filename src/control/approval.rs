//! A plan that waits for a person. Pure.
//!
//! What is approved is what was shown: these slots, from these nodes to those. It holds for as long as the cluster is as the
//! plan saw it; another owner of one of its slots, or a node that is gone, voids it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Move, Plan, PolicyId, Prediction, ProposedMove, Snapshot};

/// A plan that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What it is called: made of its moves and of when it was proposed.
    pub plan: String,
    /// The cycle that proposed it.
    pub cycle: u64,
    /// Unix time, milliseconds.
    pub since_ms: u64,
    /// Unix time in milliseconds until which it can be approved.
    pub until_ms: u64,
    /// Whose it is.
    pub policy: PolicyId,
    /// The policy's line for people.
    pub summary: String,
    /// What the guard let through, and would move.
    pub moves: Vec<Move>,
    /// How even the cluster was and would be, by resource: what these moves would do, and not all that the policy proposed.
    #[serde(default)]
    pub predictions: BTreeMap<String, Prediction>,
    /// Bytes that would move, where they are known.
    pub bytes: Option<u64>,
    /// Who approved it; absent while nobody has.
    pub approved_by: Option<String>,
}

/// Tells plans of other moves apart.
#[must_use]
pub(super) fn digest(moves: &[Move]) -> String {
    let mut digest = Sha256::new();
    for step in moves {
        digest.update(format!("{} {} {}\n", step.slot, step.from, step.to));
    }
    hex::encode(digest.finalize())
}

/// What a plan of these moves is called that waits since then: who approved it once has not approved it for another time.
#[must_use]
pub(super) fn name(moves: &[Move], since_ms: u64) -> String {
    let called = Sha256::digest(format!("{since_ms} {}", digest(moves)));
    hex::encode(called)[..12].to_owned()
}

impl Waiting {
    /// Why it holds no more, if so.
    pub(super) fn void(&self, snapshot: &Snapshot, now_ms: u64) -> Option<String> {
        if now_ms >= self.until_ms {
            return Some("nobody approved it in time".to_owned());
        }
        self.moves.iter().find_map(|step| {
            if snapshot.index_of(&step.to).is_none() {
                return Some(format!("{} is no primary any more", step.to.short()));
            }
            let owner = snapshot.owner_of(step.slot).map(|owner| &owner.id);
            (owner != Some(&step.from)).then(|| format!("slot {} is not where it was", step.slot))
        })
    }

    /// As a plan for the guard to review once more, on what is seen now.
    pub(super) fn plan(&self, snapshot: &Snapshot) -> Plan {
        let proposed = self.moves.iter().filter_map(|step| {
            let target = snapshot.index_of(&step.to)?;
            Some(ProposedMove { slot: step.slot.number(), target, reason: step.reason.clone() })
        });
        Plan {
            policy: self.policy.clone(),
            generation: snapshot.generation,
            moves: proposed.collect(),
            summary: self.summary.clone(),
            gauges: Vec::new(),
        }
    }
}

/// The plans that a file approves: the first word of each line; what follows a # is for people.
pub(super) fn approved_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split('#').next().unwrap_or_default().split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::SlotId;

    fn waiting(snapshot: &Snapshot) -> Waiting {
        let slot = SlotId::new(7).expect("a slot");
        let from = snapshot.owner_of(slot).expect("owned").id.clone();
        let to = snapshot.primaries.iter().find(|node| node.id != from).expect("another").id.clone();
        let moves = vec![Move { slot, from, to, reason: "hot".into() }];
        Waiting {
            plan: name(&moves, 0),
            cycle: 1,
            since_ms: 0,
            until_ms: 1_000,
            policy: PolicyId { name: "p".into(), version: "1".into(), digest: "0".repeat(64) },
            summary: String::new(),
            moves,
            predictions: BTreeMap::new(),
            bytes: None,
            approved_by: None,
        }
    }

    #[test]
    fn it_holds_while_the_cluster_is_as_it_was() {
        let mut snapshot = synthetic(3, 1);
        let waiting = waiting(&snapshot);
        assert_eq!(waiting.void(&snapshot, 999), None);
        assert_eq!(waiting.plan(&snapshot).moves.len(), 1);
        assert!(waiting.void(&snapshot, 1_000).is_some_and(|why| why.contains("in time")));
        let mut owners = snapshot.owners.as_slice().to_vec();
        owners[7] = snapshot.index_of(&waiting.moves[0].to).expect("there");
        snapshot.owners = crate::model::Owners::new(owners);
        assert!(waiting.void(&snapshot, 0).is_some_and(|why| why.contains("slot 7 is not where it was")));
    }

    #[test]
    fn another_plan_has_another_name() {
        let snapshot = synthetic(3, 1);
        let mut moves = waiting(&snapshot).moves;
        let (first, same) = (name(&moves, 0), digest(&moves));
        assert_ne!(first, name(&moves, 1), "for another time");
        moves[0].slot = SlotId::new(8).expect("a slot");
        assert_ne!(first, name(&moves, 0));
        assert_ne!(same, digest(&moves));
        assert_eq!(first.len(), 12);
    }

    #[test]
    fn a_file_names_plans_line_by_line() {
        let text = "# approved by the board\nabc123  # CHG-7\n\n  def456\n";
        assert_eq!(approved_in(text).collect::<Vec<_>>(), ["abc123", "def456"]);
    }
}
