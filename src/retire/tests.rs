//! What comes next for a node that shall leave.

use super::*;
use crate::collector::synthetic::synthetic;
use crate::model::{OpenDirection, OpenSlot, Owners, Replica};

/// Four primaries, the last one empty and draining, with two replicas; the first has a replica.
fn emptied() -> Snapshot {
    let mut snapshot = synthetic(4, 1);
    snapshot.problems.clear();
    let owners = snapshot.owners.as_slice().iter().map(|owner| owner % 3).collect::<Vec<_>>();
    snapshot.owners = Owners::new(owners);
    snapshot.primaries[3].tags = vec![Tag::Primary, Tag::Empty, Tag::Draining];
    let replica = |digit: &str, of| Replica {
        id: digit.repeat(40).parse().expect("an id"),
        address: format!("10.1.0.{of}:700{digit}").parse().expect("an address"),
        of: Some(of),
        online: true,
        hostname: None,
        version: String::new(),
    };
    snapshot.replicas = vec![replica("1", 0), replica("2", 3), replica("3", 3)];
    snapshot
}

#[test]
fn replicas_go_where_the_fewest_are_and_then_the_node_is_forgotten_by_all_others() {
    let mut snapshot = emptied();
    let node = snapshot.primaries[3].id.clone();
    let Next::Rehome(rehomings) = next(&node, &snapshot, Away::WaitedFor) else {
        panic!("{:?}", next(&node, &snapshot, Away::WaitedFor))
    };
    let homes: Vec<&NodeId> = rehomings.iter().map(|rehoming| &rehoming.primary).collect();
    assert_eq!(homes, [&snapshot.primaries[1].id, &snapshot.primaries[2].id], "the first has one already");

    (snapshot.replicas[1].of, snapshot.replicas[2].of) = (Some(1), Some(2));
    let Next::Forget(Farewell { others, answers: true }) = next(&node, &snapshot, Away::WaitedFor) else {
        panic!("{:?}", next(&node, &snapshot, Away::WaitedFor))
    };
    assert_eq!(others.len(), 6, "three primaries and three replicas");
    assert!(!others.contains(&snapshot.primaries[3].address));

    snapshot.primaries.pop();
    assert_eq!(next(&node, &snapshot, Away::WaitedFor), Next::Gone);
}

#[test]
fn what_an_interruption_left_half_forgotten_is_forgotten_by_the_rest() {
    let mut snapshot = emptied();
    snapshot.replicas.truncate(1);
    let node = snapshot.primaries[3].id.clone();
    let by = snapshot.primaries[0].address.clone();
    snapshot.problems.push(Problem::UnknownNode { node: node.clone(), by: by.clone() });
    assert!(
        matches!(next(&node, &snapshot, Away::WaitedFor), Next::Forget(_)),
        "{:?}",
        next(&node, &snapshot, Away::WaitedFor)
    );
    let other = snapshot.primaries[1].id.clone();
    snapshot.problems.push(Problem::UnknownNode { node: other, by });
    assert!(
        matches!(next(&node, &snapshot, Away::WaitedFor), Next::Wait(_)),
        "another one that is not known is a problem"
    );
}

#[test]
fn a_node_that_lost_its_last_slot_may_have_become_a_replica_and_leaves_all_the_same() {
    let mut snapshot = emptied();
    let node = snapshot.primaries.pop().expect("four");
    snapshot.replicas.truncate(1);
    snapshot.replicas.push(Replica {
        id: node.id.clone(),
        address: node.address,
        of: Some(0),
        online: true,
        hostname: None,
        version: String::new(),
    });
    let Next::Forget(Farewell { others, answers: true }) = next(&node.id, &snapshot, Away::WaitedFor) else {
        panic!("{:?}", next(&node.id, &snapshot, Away::WaitedFor))
    };
    assert_eq!(others.len(), 4);
}

#[test]
fn who_is_away_is_waited_for_and_then_left_behind() {
    let mut snapshot = emptied();
    (snapshot.replicas[1].of, snapshot.replicas[2].of) = (Some(1), Some(2));
    let (node, away) = (snapshot.primaries[3].id.clone(), snapshot.replicas[0].address.clone());
    snapshot.problems.push(Problem::ReplicaUnreachable {
        node: away.clone(),
        detail: "no reply".into(),
        failed: false,
    });
    assert!(matches!(next(&node, &snapshot, Away::WaitedFor), Next::Wait(why) if why.contains(&away.to_string())));
    let Next::Forget(farewell) = next(&node, &snapshot, Away::LeftBehind) else { panic!("it was waited for") };
    assert!(farewell.answers && farewell.others.len() == 5 && !farewell.others.contains(&away), "{farewell:?}");

    // The node itself is dead: the others forget it, and nobody asks it.
    let dead = snapshot.primaries.pop().expect("four");
    let by = snapshot.primaries[0].address.clone();
    snapshot.problems = vec![Problem::MemberFailed { id: Some(dead.id.clone()), node: dead.address, by }];
    assert!(matches!(next(&node, &snapshot, Away::WaitedFor), Next::Wait(_)), "unseen is not gone");
    let Next::Forget(farewell) = next(&node, &snapshot, Away::LeftBehind) else { panic!("it was waited for") };
    assert!(!farewell.answers && farewell.others.len() == 6, "{farewell:?}");
}

#[test]
fn nothing_is_done_while_it_owns_slots_or_anything_is_open_or_amiss() {
    let waits = |change: fn(&mut Snapshot), why: &str| {
        let mut snapshot = emptied();
        let node = snapshot.primaries[3].id.clone();
        change(&mut snapshot);
        match next(&node, &snapshot, Away::WaitedFor) {
            Next::Wait(reason) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{why}: {other:?}"),
        }
    };
    waits(|snapshot| *snapshot = synthetic(4, 1), "it owns 4096 slots");
    waits(|snapshot| snapshot.problems.push(Problem::WarmingUp), "");
    waits(
        |snapshot| {
            let (node, peer) = (snapshot.primaries[0].id.clone(), snapshot.primaries[3].id.clone());
            let slot = crate::model::SlotId::new(7).expect("a slot");
            snapshot.open_slots.push(OpenSlot { slot, node, direction: OpenDirection::Migrating(peer) });
        },
        "a slot is open",
    );
    waits(
        |snapshot| {
            snapshot.primaries[..3].iter_mut().for_each(|primary| primary.tags.push(Tag::Draining));
        },
        "no primary with slots stays",
    );
    waits(
        |snapshot| {
            snapshot.primaries.pop();
            snapshot.problems.push(Problem::WarmingUp);
        },
        "",
    );
}
