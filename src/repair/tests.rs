//! What is prescribed for what was heard.

use super::*;
use crate::examine::tests::{Stage, from, id, of, slot, to};
use crate::model::{Address, LinkState, NodeRecord};

fn plan(stage: Stage) -> Vec<String> {
    prescribe(&stage.evidence(), &Assignments::new()).repairs.iter().map(ToString::to_string).collect()
}

#[test]
fn each_shape_of_an_open_slot_has_its_repair() {
    let stage = Stage::new;
    for (stage, repair) in [
        (stage().open('a', 7, to('b')).open('b', 7, from('a')), "finish moving slots 7 from a:7000 to b:7000"),
        (stage().open('a', 7, to('b')).holds('b', 7, 3), "finish moving slots 7 from a:7000 to b:7000"),
        (
            stage().open('a', 7, to('b')).says('b', |node| node.hidden = 3),
            "finish moving slots 7 from a:7000 to b:7000",
        ),
        (stage().open('a', 7, to('b')), "close slots 7 on a:7000"),
        (stage().open('a', 7, to('f')), "close slots 7 on a:7000"),
        (stage().open('b', 7, from('a')), "close slots 7 on b:7000"),
        (
            stage().open('b', 7, from('d')).holds('b', 7, 900),
            "bring the keys of slots 7 that b:7000 holds to their owner a:7000",
        ),
        (stage().open('b', 7, to('c')), "close slots 7 on b:7000"),
        (stage().holds('b', 7, 900), "bring the keys of slots 7 that b:7000 holds to their owner a:7000"),
        (stage().open('d', 7, from('b')).says('d', |node| node.replicates_setslot = true), "close slots 7 on a:7000"),
    ] {
        let plan = plan(stage);
        assert_eq!(plan.first().map(String::as_str), Some(repair), "{plan:?}");
    }
}

/// It may hold what clients wrote there, and come back with it.
#[test]
fn a_slot_is_not_closed_while_whoever_may_hold_keys_of_it_is_not_heard() {
    let refused = |evidence: &crate::examine::Evidence| {
        let prescription = prescribe(evidence, &Assignments::new());
        assert_eq!(prescription.repairs, []);
        assert!(prescription.refusals[0].what.contains("may hold keys of it"), "{prescription:?}");
    };
    let mut silent = Stage::new().open('a', 7, to('b')).evidence();
    silent.nodes.remove(&id('b'));
    refused(&silent);
    // As after a scale-out that died half-way: it owned nothing yet, and those who know it take it for dead.
    let stage = Stage::new().all_see(|records| {
        let (address, slots) = (Address::new("e", 7000), SlotSet::default());
        let e = NodeRecord { id: id('e'), address, state: LinkState::Failed, slots, ..of(records, 'b').clone() };
        records.push(e);
    });
    refused(&stage.open('a', 7, to('e')).evidence());
    let suspects = |records: &mut Vec<NodeRecord>| of(records, 'b').state = LinkState::Suspect;
    refused(&Stage::new().open('a', 7, to('b')).holds('b', 7, 3).sees('c', suspects).evidence());

    let refuses = |node: &mut crate::examine::Testimony| node.untold.push("NOPERM".into());
    let uncounted = Stage::new().open('a', 7, to('b')).says('b', refuses);
    assert_eq!(plan(uncounted), ["finish moving slots 7 from a:7000 to b:7000"]);
    let uncounted = Stage::new().open('b', 7, from('a')).says('b', refuses);
    assert_eq!(plan(uncounted), ["bring the keys of slots 7 that b:7000 holds to their owner a:7000"]);
}

#[test]
fn keys_come_home_only_when_their_owner_takes_keys_in() {
    let third = Stage::new().open('a', 7, to('b')).open('b', 7, from('a')).open('c', 7, from('a')).holds('c', 7, 1);
    assert_eq!(plan(third), ["finish moving slots 7 from a:7000 to b:7000"], "those of c come in the next round");
    let astray = Stage::new().open('a', 7, to('f')).holds('c', 7, 1);
    assert_eq!(plan(astray), ["close slots 7 on a:7000"]);
}

#[test]
fn a_flag_on_a_replica_of_redis_is_left_to_a_person() {
    let prescription = prescribe(&Stage::new().open('d', 7, from('b')).evidence(), &Assignments::new());
    assert_eq!(prescription.repairs, []);
    assert!(prescription.refusals[0].why.contains("promoted"), "{prescription:?}");
}

/// Slot 0 is nobody's: a says so itself, and the others believe that it is a's.
fn uncovered() -> Stage {
    Stage::new().sees('a', |records| of(records, 'a').slots = "1-5460".parse().expect("slots"))
}

#[test]
fn a_slot_that_nobody_owns_goes_to_the_only_one_with_keys_and_never_to_the_one_with_most() {
    assert_eq!(plan(uncovered()), ["give slots 0 to a:7000"], "others take it for the owner");
    assert_eq!(plan(uncovered().holds('b', 0, 1)), ["give slots 0 to b:7000"], "its only keys are there");
    let two = || uncovered().holds('b', 0, 1).holds('a', 0, 900).evidence();
    let refused = prescribe(&two(), &Assignments::new());
    assert_eq!(refused.repairs, []);
    assert!(refused.refusals[0].why.contains("no evidence of who owned them"), "{refused:?}");
    let named = Assignments::from([(slot(0), id('b'))]);
    let repairs = prescribe(&two(), &named).repairs;
    assert_eq!(repairs[0].to_string(), "give slots 0 to b:7000");
    assert_eq!(repairs[0].why(), "you named it");
}

#[test]
fn nobody_inherits_while_a_node_is_silent_or_hides_keys() {
    let mut evidence = uncovered().evidence();
    evidence.silent.insert(Address::new("e", 7000), "timed out".into());
    assert_eq!(prescribe(&evidence, &Assignments::new()).repairs, []);
    let hides = prescribe(&uncovered().says('b', |node| node.hidden = 1).evidence(), &Assignments::new());
    let first: Vec<String> = hides.repairs.iter().map(ToString::to_string).collect();
    assert_eq!(first, ["find the slots of the keys that b:7000 hides"]);
}

#[test]
fn somebody_at_work_shows_by_flags_that_change_or_keys_that_travel() {
    let open = || Stage::new().open('a', 7, to('b')).open('b', 7, from('a'));
    let with = |there: u64, here: u64| open().holds('a', 7, here).holds('b', 7, there).evidence();
    assert_eq!(at_work(&with(3, 9), &with(3, 9)), None);
    assert_eq!(at_work(&with(3, 9), &with(5, 9)), None, "clients write to the target");
    assert!(at_work(&with(3, 9), &with(5, 7)).is_some_and(|sign| sign.contains("keys of slot 7")));
    assert!(at_work(&with(3, 9), &Stage::new().evidence()).is_some_and(|sign| sign.contains("came or went")));
}

#[test]
fn what_holds_up_a_move_is_mended_before_it() {
    let stage = Stage::new().open('a', 7, to('b')).open('b', 7, from('a')).open('b', 8, from('a')).holds('b', 8, 2);
    let plan = plan(stage.open('c', 9, from('a')));
    let verbs: Vec<&str> = plan.iter().filter_map(|repair| repair.split(' ').next()).collect();
    assert_eq!(verbs, ["close", "bring", "finish"], "{plan:?}");
}
