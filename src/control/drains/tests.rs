//! What may be drained, how far it has come, and why it does not go on.

use std::sync::Arc;

use super::*;
use crate::collector::synthetic::synthetic;
use crate::model::{CycleOutcome, Move, NodeColumn, Owners, Problem, Refusal, RefusalCheck, Tag};

/// Five primaries, each busy for a part of 0.4, with two fifths of their memory in use.
fn seen() -> Snapshot {
    let mut snapshot = synthetic(5, 1);
    snapshot.problems.clear();
    for (name, value) in [(resource::CPU, 0.4), (resource::MEMORY_USED, 4e9), (resource::MEMORY_MAX, 10e9)] {
        snapshot.node_columns.insert(name.to_owned(), NodeColumn(vec![value; 5]));
    }
    snapshot
}

fn wish(node: &str) -> DrainWish {
    DrainWish { node: node.to_owned(), forget: false, force: false, who: "ann".into(), why: "too many".into() }
}

fn begin(snapshot: &Snapshot, wish: DrainWish) -> Result<Drains, String> {
    let mut drains = Drains::default();
    drains.begin(wish, Some(snapshot), &Scaling::default(), 1_000).cloned().map(|_| drains)
}

#[test]
fn a_node_is_drained_by_address_or_id_while_the_rest_suffices() {
    let snapshot = seen();
    let node = &snapshot.primaries[2];
    for name in [node.address.to_string(), node.id.to_string(), node.id.as_str()[..].to_uppercase()] {
        let drains = begin(&snapshot, wish(&name)).expect("the rest suffices");
        assert_eq!(drains.0[0].id, node.id, "{name}");
        assert_eq!(
            drains.rules().map(|rule| (rule.pattern, rule.drain)).collect::<Vec<_>>(),
            [(node.id.to_string(), true)]
        );
    }
    let refused = |change: fn(&mut Snapshot), why: &str| {
        let mut snapshot = seen();
        change(&mut snapshot);
        let error = begin(&snapshot, wish("10.0.0.1:7001")).expect_err("too little is left");
        assert!(error.contains(why) && error.contains("--force"), "{error}");
        let forced = DrainWish { force: true, ..wish("10.0.0.1:7001") };
        begin(&snapshot, forced).expect("it was forced");
    };
    refused(|snapshot| snapshot.primaries[4].tags.push(Tag::Draining), "after the loss of one more");
    refused(
        |snapshot| snapshot.primaries[3..].iter_mut().for_each(|primary| primary.tags.push(Tag::Draining)),
        "2 primaries would be left, and scaling.min_shards is 3",
    );
    refused(
        |snapshot| drop(snapshot.node_columns.insert(resource::MEMORY_USED.to_owned(), NodeColumn(vec![7e9; 5]))),
        "the rest would use 88% of its memory",
    );
    refused(
        |snapshot| drop(snapshot.node_columns.insert(resource::CPU.to_owned(), NodeColumn(vec![0.5; 5]))),
        "the rest would be busy 83% of the time",
    );
    // What is not known stops nobody.
    let mut unknown = seen();
    unknown.node_columns.clear();
    begin(&unknown, wish("10.0.0.1:7001")).expect("nothing speaks against it");

    let error = begin(&snapshot, wish("10.0.0.9:7000")).expect_err("there is none");
    assert!(error.contains("no primary is called '10.0.0.9:7000'") && error.contains("10.0.0.1:7001"), "{error}");
}

#[test]
fn a_drain_tells_when_it_is_done_and_what_keeps_it() {
    let mut snapshot = seen();
    let node = snapshot.primaries[1].id.clone();
    let mut drains = begin(&snapshot, wish("10.0.0.1:7001")).expect("it begins");
    assert_eq!(drains.see(&snapshot, 3_000), (Vec::new(), Vec::new()));
    let blocked = |drains: &Drains, snapshot: &Snapshot, report: &CycleReport, mode| {
        drains.status(Some(snapshot), Some(report), mode, 3_000)[0].blocked_by.clone()
    };
    let before = CycleReport::begin(1, 500, Mode::Auto);
    assert_eq!(blocked(&drains, &snapshot, &before, Mode::Auto), None, "that cycle did not know of it");
    assert_eq!(blocked(&drains, &snapshot, &before, Mode::DryRun).as_deref(), Some("nothing moves in mode dry-run"));
    let after = CycleReport::begin(2, 2_000, Mode::Auto);
    let blocked_by = blocked(&drains, &snapshot, &after, Mode::Auto).expect("the policy leaves it");
    assert!(blocked_by.contains("proposes to move none of its slots"), "{blocked_by}");
    let slot = snapshot.slots_of(1).iter().next().expect("it owns slots");
    let refusal = Refusal { check: RefusalCheck::Room, slots: vec![slot.number()], reason: "nobody has room".into() };
    let refused = CycleReport { refusals: vec![refusal], outcome: CycleOutcome::Refused, ..after.clone() };
    let blocked_by = blocked(&drains, &snapshot, &refused, Mode::Auto).expect("the guard holds them");
    assert!(blocked_by.contains("(room): nobody has room"), "{blocked_by}");
    let step = Move { slot, from: node.clone(), to: snapshot.primaries[0].id.clone(), reason: String::new() };
    let some = CycleReport { approved: vec![step], ..refused };
    assert_eq!(blocked(&drains, &snapshot, &some, Mode::Auto), None, "a part of them is let through");
    snapshot.problems.push(Problem::WarmingUp);
    assert!(blocked(&drains, &snapshot, &after, Mode::Auto).is_some());
    snapshot.problems.clear();

    let owners = snapshot.owners.as_slice().iter().map(|owner| if *owner == 1 { 0 } else { *owner });
    snapshot.owners = Owners::new(owners.collect());
    let (emptied, left) = drains.see(&snapshot, 3_000);
    assert_eq!((emptied.len(), left.len()), (1, 0));
    assert_eq!(drains.see(&snapshot, 3_000), (Vec::new(), Vec::new()), "it is told once");
    let status = &drains.status(Some(&snapshot), Some(&after), Mode::DryRun, 3_000)[0];
    assert_eq!((status.slots_left, status.blocked_by.as_ref()), (Some(0), None), "it is done");

    let mut gone = snapshot.clone();
    gone.primaries.retain(|primary| primary.id != node);
    let owners = gone.owners.as_slice().iter().map(|owner| owner.saturating_sub(u32::from(*owner > 1)));
    gone.owners = Owners::new(owners.collect());
    gone.problems.push(Problem::WarmingUp);
    assert_eq!(drains.see(&gone, 4_000).1.len(), 0, "unseen is not gone");
    gone.problems.clear();
    assert_eq!(drains.see(&gone, 4_000).1.len(), 1);
    assert!(drains.end("10.0.0.1:7001").expect_err("it is gone").contains("is not being drained"));
}

#[test]
fn what_somebody_asks_for_by_hand_is_theirs_and_not_the_scalers_any_more() {
    let snapshot = seen();
    let by_itself =
        DrainWish { forget: true, who: BY_SCALING.into(), why: "28% is used".into(), ..wish("10.0.0.1:7001") };
    let mut drains = begin(&snapshot, by_itself).expect("it begins");
    assert_eq!(drains.of(BY_SCALING).count(), 1);
    drains.begin(wish("10.0.0.1:7001"), Some(&snapshot), &Scaling::default(), 9_000).expect("it is known");
    assert_eq!((drains.of(BY_SCALING).count(), drains.0[0].who.as_str(), drains.0[0].forget), (0, "ann", true));
}

#[test]
fn a_drained_node_that_died_was_not_emptied_and_has_not_left_until_the_others_have_forgotten_it() {
    let mut snapshot = seen();
    let dead = snapshot.primaries.remove(1);
    let heir = snapshot.primaries.len() as u32 - 1;
    let owners = snapshot.owners.as_slice().iter().map(|owner| match owner {
        1 => heir,
        owner => owner.saturating_sub(u32::from(*owner > 1)),
    });
    snapshot.owners = Owners::new(owners.collect());
    let mut drains = begin(&seen(), DrainWish { forget: true, ..wish("10.0.0.1:7001") }).expect("it begins");
    let by = snapshot.primaries[0].address.clone();
    snapshot.problems.push(Problem::MemberFailed { id: Some(dead.id.clone()), node: dead.address, by });
    assert_eq!(drains.see(&snapshot, 3_000), (Vec::new(), Vec::new()));
    let blocked = |now_ms| drains.status(Some(&snapshot), None, Mode::Auto, now_ms)[0].blocked_by.clone();
    assert!(blocked(4_000).is_some_and(|why| why.contains("as failed")), "it may come back");
    assert_eq!(blocked(3_001 + AWAY_MS), None, "it was waited for");
    snapshot.problems.clear();
    assert_eq!(drains.see(&snapshot, 5_000).1.len(), 1, "forgotten");
}

#[test]
fn asking_once_more_may_add_the_wish_to_forget_and_nothing_else() {
    let snapshot = Arc::new(seen());
    let mut drains = begin(&snapshot, wish("10.0.0.1:7001")).expect("it begins");
    assert!(drains.leaving().is_empty());
    let again = DrainWish { forget: true, who: "bob".into(), ..wish("10.0.0.1:7001") };
    drains.begin(again, Some(&snapshot), &Scaling::default(), 9_000).expect("it is known");
    assert_eq!((drains.0.len(), drains.0[0].since_ms, drains.0[0].who.as_str()), (1, 1_000, "ann"));
    assert_eq!(drains.leaving().len(), 1);
    assert_eq!(drains.end("10.0.0.1:7001").map(|drain| drain.id), Ok(snapshot.primaries[1].id.clone()));
    assert!(drains.status(Some(&snapshot), None, Mode::Auto, 9_000).is_empty());
}
