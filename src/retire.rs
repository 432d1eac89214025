//! Takes an emptied node out of the cluster: re-homes its replicas, has everybody forget it, and leaves it blank.
//!
//! What to do next follows from what is seen alone ([`next`]), so that a daemon that was interrupted goes on where the cluster
//! is. A node that owns slots, or may get some, is never touched.

mod leave;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::model::{Address, NodeId, NodeIndex, OpenDirection, OpenSlot, Problem, Snapshot, Tag};

pub use leave::{LeaveError, leave, rehome};

/// What is to be done for a node that shall leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Something has to happen first; why, for people.
    Wait(String),
    /// Its replicas are to follow others.
    Rehome(Vec<Rehoming>),
    /// The other nodes are to forget it.
    Forget(Farewell),
    /// It is no member of the cluster.
    Gone,
}

/// Who is to forget a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Everybody else who answers.
    pub others: Vec<Address>,
    /// Whether the node itself answers: then it is asked first, and left blank.
    pub answers: bool,
}

/// What members mean that do not answer: they know the node that leaves, and may tell others of it when they are back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// They are to be told as well.
    WaitedFor,
    /// They were waited for long enough.
    LeftBehind,
}

/// One replica and the primary that it is to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehoming {
    /// The replica.
    pub replica: Address,
    /// The primary, by the name that servers take.
    pub primary: NodeId,
    /// Where that primary is reached, for people.
    pub at: Address,
}

/// The next thing to do for `node` to leave the cluster of `snapshot`.
#[must_use]
pub fn next(node: &NodeId, snapshot: &Snapshot, away: Away) -> Next {
    let as_primary = snapshot.index_of(node);
    let as_replica = snapshot.replicas.iter().any(|replica| replica.id == *node);
    let failed = snapshot.has_failed(node);
    if as_primary.is_none() && !as_replica && !failed {
        // Unseen is not gone: a node that nobody could ask about may be there.
        return match snapshot.blockers().next() {
            Some(problem) => Next::Wait(problem.to_string()),
            None => Next::Gone,
        };
    }
    if let Some(index) = as_primary {
        let slots = snapshot.slots_of(index).len();
        if slots > 0 {
            return Next::Wait(format!("it owns {slots} slots"));
        }
    }
    // That some have forgotten it already is no reason for the others to wait: it is what an interruption leaves.
    let forgotten =
        |problem: &&Problem| matches!(problem, Problem::UnknownNode { node: unknown, .. } if unknown == node);
    if let Some(problem) = snapshot.blockers().find(|problem| !forgotten(problem)) {
        return Next::Wait(problem.to_string());
    }
    // Whoever is away would bring it back, and has to be told before it is asked to forget the others itself.
    if away == Away::WaitedFor
        && let Some((_, problem)) = silent(snapshot).next()
    {
        return Next::Wait(problem.to_string());
    }
    if failed && let Some(orphan) = snapshot.replicas.iter().find(|replica| replica.of.is_none() && replica.id != *node)
    {
        // A replica does not forget whom it follows, and would bring it back.
        return Next::Wait(format!(
            "{} may still follow it: have it follow another one (CLUSTER REPLICATE)",
            orphan.address
        ));
    }
    if snapshot.flags_of_primaries().any(|open| open.node == *node || peer(open) == node) {
        return Next::Wait("a slot is open from or to it".to_owned());
    }
    if snapshot.atomic_jobs.iter().any(|job| job.node == *node) {
        return Next::Wait("an atomic migration of it is under way".to_owned());
    }
    if let Some(index) = as_primary {
        let orphans: Vec<&Address> = followers(index, snapshot).collect();
        if !orphans.is_empty() {
            return homes(&orphans, snapshot);
        }
    }
    let silent: Vec<&Address> = silent(snapshot).map(|(at, _)| at).collect();
    let answer = |at: &Address| !silent.contains(&at);
    let others = snapshot.members().filter(|(id, at)| *id != node && answer(at)).map(|(_, at)| at.clone()).collect();
    let answers = !failed;
    if answers && let Some((_, problem)) = silent_self(node, snapshot) {
        // The others do not have it for dead: it may be there, and we cannot leave it blank.
        return Next::Wait(problem.to_string());
    }
    Next::Forget(Farewell { others, answers })
}

/// What is wrong with the node itself, if it does not answer.
fn silent_self<'a>(node: &NodeId, snapshot: &'a Snapshot) -> Option<(&'a Address, &'a Problem)> {
    let (_, at) = snapshot.members().find(|(id, _)| *id == node)?;
    silent(snapshot).find(|(silent, _)| *silent == at)
}

/// Whether anybody is away who would be waited for.
pub(crate) fn is_anyone_away(snapshot: &Snapshot) -> bool {
    silent(snapshot).next().is_some()
}

/// Members that do not answer and own nothing: where they should, and what is wrong.
fn silent(snapshot: &Snapshot) -> impl Iterator<Item = (&Address, &Problem)> {
    snapshot.problems.iter().filter_map(|problem| match problem {
        Problem::ReplicaUnreachable { node, .. } | Problem::MemberFailed { node, .. } => Some((node, problem)),
        _ => None,
    })
}

/// The other end of an open slot.
const fn peer(open: &OpenSlot) -> &NodeId {
    match &open.direction {
        OpenDirection::Importing(from) => from,
        OpenDirection::Migrating(to) => to,
    }
}

fn followers(primary: NodeIndex, snapshot: &Snapshot) -> impl Iterator<Item = &Address> {
    snapshot.replicas.iter().filter(move |replica| replica.of == Some(primary)).map(|replica| &replica.address)
}

/// Each orphan goes to the primary with the fewest replicas, of those that own slots and stay.
fn homes(orphans: &[&Address], snapshot: &Snapshot) -> Next {
    let stays = |index: NodeIndex| {
        let primary = &snapshot.primaries[index as usize];
        !snapshot.slots_of(index).is_empty() && !primary.is(Tag::Draining)
    };
    let all = (0..).zip(&snapshot.primaries).map(|(index, _)| index);
    let mut counts: BTreeMap<NodeIndex, usize> =
        all.filter(|index| stays(*index)).map(|index| (index, followers(index, snapshot).count())).collect();
    let mut rehomings = Vec::new();
    for orphan in orphans {
        let Some((index, count)) = counts.iter_mut().min_by_key(|(_, count)| **count) else {
            return Next::Wait("no primary with slots stays that its replicas could follow".to_owned());
        };
        *count += 1;
        let primary = &snapshot.primaries[*index as usize];
        let (primary, at) = (primary.id.clone(), primary.address.clone());
        rehomings.push(Rehoming { replica: (*orphan).clone(), primary, at });
    }
    Next::Rehome(rehomings)
}
