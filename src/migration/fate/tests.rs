//! What becomes of a slot, by what is said of it.

use super::*;
use crate::model::{Address, LinkState};

fn id(name: char) -> NodeId {
    name.to_string().repeat(40).parse().expect("hexadecimal")
}

fn record(name: char, slots: &str, myself: bool) -> NodeRecord {
    NodeRecord {
        id: id(name),
        address: Address::new("127.0.0.1", 7000),
        hostname: None,
        myself,
        role: Role::Primary,
        state: LinkState::Ok,
        config_epoch: 1,
        slots: slots.parse().expect("slots"),
        open: Vec::new(),
    }
}

/// What the primary `name` says of itself.
fn view(name: char, slots: &str, open: &[OpenDirection]) -> View {
    let slot = SlotId::new(7).expect("in range");
    let mut itself = record(name, slots, true);
    itself.open =
        open.iter().map(|direction| OpenSlot { slot, node: id(name), direction: direction.clone() }).collect();
    View { address: itself.address.clone(), run_id: name.to_string(), nodes: vec![itself] }
}

/// A target that sees `owner` own the slot.
fn target(name: char, owner: char, open: &[OpenDirection]) -> View {
    let mut view = view(name, "", open);
    view.nodes.push(record(owner, "7", false));
    view
}

fn intent() -> Intent {
    Intent {
        source: id('a'),
        target: id('b'),
        source_shard: vec![id('a'), id('c')],
        target_shard: vec![id('b'), id('d')],
        source_run_id: "a".into(),
        source_epoch: 1,
        slots: "7".parse().expect("slots"),
        protocol: Protocol::Classic,
        started_at_ms: 0,
        began_by: String::new(),
        reason: String::new(),
    }
}

fn fate_of(views: &[View]) -> Fate {
    fates(&intent(), views, Jobs::None).pop().expect("one slot").1
}

fn resume(source: char, target: char, copies: Copies) -> Fate {
    Fate::Resume { source: id(source), target: id(target), copies }
}

fn ask(owner: char, target: char, suspect: bool) -> Fate {
    Fate::Ask(Inquiry { owner: id(owner), target: id(target), suspect, open: false })
}

/// The same view, of a node that has this one in its list as a primary without slots.
fn knowing(mut view: View, name: char) -> View {
    view.nodes.push(record(name, "", false));
    view
}

fn to(name: char) -> OpenDirection {
    OpenDirection::Migrating(id(name))
}

fn from(name: char) -> OpenDirection {
    OpenDirection::Importing(id(name))
}

#[test]
fn a_slot_that_was_never_opened_is_left_alone() {
    let atomic = Intent { protocol: Protocol::Atomic, ..intent() };
    let views = [view('a', "0-100", &[]), target('b', 'a', &[])];
    assert!(matches!(fates(&atomic, &views, Jobs::None)[0].1, Fate::Stayed(_)), "the servers clean up");
    assert_eq!(fate_of(&views), ask('a', 'b', false), "unless keys are there");
}

#[test]
fn a_half_moved_slot_goes_forward() {
    let ours = |target_name| resume('a', target_name, Copies::Ours);
    assert_eq!(fate_of(&[view('a', "7", &[to('b')]), target('b', 'a', &[from('a')])]), ours('b'));
    assert_eq!(fate_of(&[view('a', "7", &[to('b')]), target('d', 'a', &[])]), ours('d'), "target failed over");
    assert!(matches!(fate_of(&[view('a', "7", &[to('b')])]), Fate::Hold(_)), "no target");
    let two = [view('a', "7", &[to('b')]), target('b', 'a', &[]), target('d', 'a', &[])];
    assert!(matches!(fate_of(&two), Fate::Hold(_)), "two targets");
    assert!(matches!(fate_of(&[view('a', "7", &[to('b')]), target('b', 'e', &[])]), Fate::Hold(_)), "not agreed");
}

#[test]
fn copies_are_suspect_once_the_source_is_not_what_it_was() {
    let failed_over = [view('c', "7", &[]), target('b', 'c', &[from('c')])];
    assert_eq!(fate_of(&failed_over), resume('c', 'b', Copies::Suspect));
    let mut restarted = view('a', "7", &[to('b')]);
    restarted.run_id = "another".into();
    assert_eq!(fate_of(&[restarted, target('b', 'a', &[])]), resume('a', 'b', Copies::Suspect));
    let mut back_in_power = view('a', "7", &[]);
    back_in_power.nodes[0].config_epoch = 9;
    assert_eq!(fate_of(&[back_in_power, target('b', 'a', &[from('a')])]), resume('a', 'b', Copies::Suspect));
    // As long as it gives the slot away its clients are sent to the target; without that flag they write anew what has gone.
    let closed = [view('a', "7", &[]), target('b', 'a', &[from('a')])];
    let importing = Inquiry { owner: id('a'), target: id('b'), suspect: false, open: true };
    assert_eq!(fate_of(&closed), Fate::Ask(importing));
    let elsewhere = [view('a', "7", &[]), target('b', 'a', &[]), view('f', "", &[from('a')])];
    assert!(matches!(fate_of(&elsewhere), Fate::Hold(_)), "somebody else imports it");
}

#[test]
fn a_replica_that_leads_another_shard_now_is_no_second_primary() {
    let mut source = view('a', "7", &[to('b')]);
    source.nodes.push(record('c', "9", false));
    let mut elsewhere = view('c', "9", &[]);
    let target = target('b', 'a', &[from('a')]);
    let hold = fate_of(&[source.clone(), elsewhere.clone(), target.clone()]);
    assert!(matches!(hold, Fate::Hold(_)), "it takes the source for its replica: {hold:?}");
    elsewhere.nodes.push(record('a', "7", false));
    assert_eq!(fate_of(&[source, elsewhere, target]), resume('a', 'b', Copies::Ours));
}

/// Found by the soak: the target took the last slot of a shard, whose nodes followed it from then on, and one of them succeeded it
/// amid the next move.
#[test]
fn a_flag_that_follows_the_target_to_its_successor_is_ours() {
    let flag = |name: char, direction: OpenDirection| view(name, if name == 'a' { "7" } else { "" }, &[direction]);
    let scene =
        |to_whom: char, leader: char| [flag('a', to(to_whom)), target('e', 'a', &[from('a')]), follows('b', leader)];
    assert_eq!(fate_of(&scene('e', 'e')), resume('a', 'e', Copies::Ours));
    assert!(foreign(&[intent()], &scene('e', 'e')).is_empty());
    assert!(matches!(fate_of(&scene('f', 'e')), Fate::Hold(_)), "it names a third one");
    assert_eq!(foreign(&[intent()], &scene('f', 'e')).len(), 1);
    let elsewhere = [flag('f', to('e')), target('e', 'a', &[]), follows('b', 'e')];
    assert_eq!(foreign(&[intent()], &elsewhere).len(), 1, "our source does not carry it");
}

fn follows(name: char, primary: char) -> View {
    let mut follower = view(name, "", &[]);
    follower.nodes[0].role = Role::Replica { of: Some(id(primary)) };
    follower
}

#[test]
fn a_source_is_succeeded_by_whom_it_follows() {
    let suspect = resume('e', 'b', Copies::Suspect);
    let renamed = [view('e', "7", &[to('b')]), target('b', 'e', &[from('e')]), follows('a', 'e')];
    assert_eq!(fate_of(&renamed), suspect);
    assert!(foreign(&[intent()], &renamed).is_empty());
    let as_it_was = [view('e', "7", &[to('b')]), target('b', 'e', &[from('a')]), follows('a', 'e')];
    assert_eq!(fate_of(&as_it_was), suspect);
    let bare = [view('e', "7", &[]), target('b', 'e', &[]), follows('a', 'e')];
    assert_eq!(fate_of(&bare), ask('e', 'b', true), "no flag is left");
    let deaf = [view('e', "7", &[]), knowing(target('b', 'a', &[from('a')]), 'e'), follows('a', 'e')];
    assert_eq!(fate_of(&deaf), Fate::Rebind { owner: id('e'), target: id('b') }, "Redis");
    let mut heir = view('e', "7", &[to('b')]);
    heir.nodes.push(record('a', "", false));
    let silent = [heir.clone(), target('b', 'e', &[from('a')])];
    assert!(matches!(fate_of(&silent), Fate::Hold(_)), "nobody says whom it succeeded");
    heir.nodes[0].open.clear();
    assert_eq!(fate_of(&[heir, target('b', 'e', &[])]), ask('e', 'b', true), "it may be the source's heir");
}

#[test]
fn successions_are_followed_to_their_end() {
    let chain = [view('f', "7", &[]), target('b', 'f', &[]), follows('a', 'e'), follows('e', 'f')];
    assert_eq!(fate_of(&chain), ask('f', 'b', true));
    let mut half_moved = chain;
    half_moved[1] = target('b', 'f', &[from('f')]);
    assert_eq!(fate_of(&half_moved), resume('f', 'b', Copies::Suspect));
    let mut owner = view('f', "7", &[]);
    owner.nodes.push(record('a', "", false));
    let ring = [owner, target('b', 'f', &[from('f')]), follows('a', 'e'), follows('e', 'a')];
    assert!(matches!(fate_of(&ring), Fate::Hold(_)));
}

#[test]
fn a_source_that_follows_the_target_has_no_heir() {
    assert_eq!(fate_of(&[follows('a', 'b'), view('b', "7", &[])]), Fate::Moved);
    assert_eq!(fate_of(&[follows('a', 'e'), follows('b', 'e'), view('e', "7", &[])]), Fate::Moved);
    let elsewhere = [follows('a', 'b'), view('b', "", &[]), view('e', "7", &[])];
    assert!(matches!(fate_of(&elsewhere), Fate::Stayed(_)));
}

#[test]
fn ends_that_change_places_are_told_apart_by_their_own_words() {
    let apart = [follows('a', 'd'), follows('b', 'c')];
    let moved = [apart[0].clone(), apart[1].clone(), view('d', "", &[]), view('c', "7", &[])];
    assert_eq!(fate_of(&moved), Fate::Moved);
    let back = [apart[0].clone(), apart[1].clone(), view('d', "7", &[to('c')]), target('c', 'd', &[from('d')])];
    assert_eq!(fate_of(&back), resume('d', 'c', Copies::Suspect));
}

#[test]
fn a_replica_of_the_target_that_leads_the_sources_shard_has_not_got_the_slot() {
    let views = [view('d', "7", &[]), knowing(target('b', 'a', &[from('a')]), 'd'), follows('a', 'd')];
    assert_eq!(fate_of(&views), Fate::Rebind { owner: id('d'), target: id('b') });
}

#[test]
fn a_target_that_moved_on_after_it_was_succeeded_names_nobody() {
    let scene = |open: &[OpenDirection]| {
        [view('a', "7", &[to('b')]), follows('b', 'e'), view('d', "9", &[]), target('e', 'a', open)]
    };
    assert!(matches!(fate_of(&scene(&[])), Fate::Hold(_)), "d may hold the keys");
    assert_eq!(fate_of(&scene(&[from('a')])), resume('a', 'e', Copies::Ours), "it imports");
    let arrived = [view('a', "", &[]), follows('b', 'e'), view('d', "7", &[]), view('e', "", &[])];
    assert_eq!(fate_of(&arrived), Fate::Moved);
}

#[test]
fn a_silent_target_is_succeeded_by_who_outlived_it() {
    let mut relative = target('d', 'a', &[]);
    relative.nodes.push(record('b', "", false));
    let source = view('a', "7", &[to('b')]);
    assert!(matches!(fate_of(&[source.clone(), relative.clone()]), Fate::Hold(_)), "it lives, and we cannot reach it");
    relative.nodes[2].state = LinkState::Failed;
    assert_eq!(fate_of(&[source, relative]), resume('a', 'd', Copies::Ours));
}

#[test]
fn a_target_that_follows_the_source_has_thrown_its_keys_away() {
    let all = [view('a', "7", &[to('b')]), follows('b', 'a'), follows('d', 'a')];
    assert_eq!(fate_of(&all), Fate::Close { owner: id('a') });
    assert!(matches!(fate_of(&all[..2]), Fate::Hold(_)), "d may hold some");
    let closed = [view('a', "7", &[]), follows('b', 'a'), follows('d', 'a')];
    assert!(matches!(fate_of(&closed), Fate::Stayed(_)), "nothing is open");
}

#[test]
fn a_flag_on_a_third_node_is_somebody_elses() {
    let views = [view('a', "7", &[to('b')]), target('b', 'a', &[from('a')]), view('f', "", &[from('a')])];
    assert_eq!(fate_of(&views), resume('a', 'b', Copies::Ours), "it is told with the others who got the slot");
    assert_eq!(foreign(&[intent()], &views).len(), 1);
}

/// Flags go when a node that they name is forgotten, and when a person says so; keys do not.
#[test]
fn a_slot_without_flags_stayed_only_if_the_target_holds_none_of_it() {
    assert_eq!(fate_of(&[view('a', "7", &[]), target('b', 'a', &[])]), ask('a', 'b', false));
    assert_eq!(fate_of(&[view('a', "7", &[]), target('d', 'a', &[])]), ask('a', 'd', false), "b was forgotten");
    // The target is silent.
    let mut source = view('a', "7", &[]);
    source.nodes.push(record('b', "", false));
    assert!(matches!(fate_of(&[source.clone()]), Fate::Hold(_)), "d, whom the flag may have named, was forgotten");
    source.nodes.push(record('d', "", false));
    assert!(matches!(fate_of(&[source]), Fate::Stayed(_)), "whoever it named is known: the flag was never set");
    let mut alone = view('a', "7", &[]);
    assert!(matches!(fate_of(std::slice::from_ref(&alone)), Fate::Stayed(_)), "nobody of the target is left");
    alone.run_id = "another".into();
    assert!(matches!(fate_of(std::slice::from_ref(&alone)), Fate::Stayed(_)), "nor would anybody ever say more");
    assert!(matches!(fate_of(&[knowing(alone, 'e')]), Fate::Hold(_)), "e may know of the target");
}

#[test]
fn a_target_is_succeeded_by_whom_it_follows() {
    // When we began, the source's replica was c; since then it moved to the target's shard, and leads it.
    let mut demoted = view('b', "", &[]);
    demoted.nodes[0].role = Role::Replica { of: Some(id('c')) };
    assert_eq!(fate_of(&[view('a', "9", &[]), demoted.clone(), view('c', "7", &[])]), Fate::Moved);
    let successor = target('c', 'a', &[]);
    assert_eq!(fate_of(&[view('a', "7", &[to('b')]), demoted, successor]), resume('a', 'c', Copies::Ours));
}

#[test]
fn a_target_that_imports_cannot_hear_that_the_source_failed_over() {
    let rebind = Fate::Rebind { owner: id('c'), target: id('b') };
    let source = view('c', "7", &[]);
    let believes = target('b', 'a', &[from('a')]);
    assert_eq!(fate_of(&[source.clone(), knowing(believes.clone(), 'c')]), rebind, "it believes in the old one");
    let demoted = knowing(view('b', "", &[from('a')]), 'c');
    assert_eq!(fate_of(&[source.clone(), demoted]), rebind, "it has seen the old one demoted");
    // Told too early it would refuse the new owner, and lose its flag all the same.
    assert!(matches!(fate_of(&[source.clone(), believes]), Fate::Hold(_)), "c is no primary to it yet");
    assert_eq!(fate_of(&[source, target('b', 'a', &[])]), ask('c', 'b', true), "nothing is open");
    let same_reign = view('a', "7", &[to('b')]);
    assert!(matches!(fate_of(&[same_reign, target('b', 'e', &[from('a')])]), Fate::Hold(_)), "it knows another");
}

#[test]
fn a_slot_with_its_target_is_moved_once_its_source_was_heard() {
    assert_eq!(fate_of(&[view('a', "", &[]), view('b', "7", &[])]), Fate::Moved);
    assert_eq!(fate_of(&[view('a', "", &[]), view('d', "7", &[])]), Fate::Moved, "its replica took over");
    assert_eq!(fate_of(&[view('a', "", &[to('b')]), view('b', "7", &[])]), Fate::Close { owner: id('b') });
    let mut lonely = view('b', "7", &[]);
    assert_eq!(fate_of(std::slice::from_ref(&lonely)), Fate::Moved, "nobody knows the source any more");
    lonely.nodes.push(record('a', "", false));
    assert!(matches!(fate_of(&[lonely]), Fate::Hold(_)), "it may come back with its flag");
}

#[test]
fn doubt_holds() {
    assert!(matches!(fate_of(&[view('a', "7", &[]), view('b', "7", &[])]), Fate::Hold(_)));
    assert!(matches!(fate_of(&[view('b', "", &[])]), Fate::Hold(_)));
    assert!(matches!(fate_of(&[view('a', "7", &[to('e')]), target('b', 'a', &[])]), Fate::Hold(_)), "foreign flag");
    assert!(matches!(fate_of(&[view('e', "7", &[]), view('b', "", &[])]), Fate::Stayed(_)), "moved by others");
    let atomic = Intent { protocol: Protocol::Atomic, ..intent() };
    let views = [view('a', "7", &[]), target('b', 'a', &[])];
    assert!(matches!(fates(&atomic, &views, Jobs::Unknown)[0].1, Fate::Hold(_)));
    assert_eq!(fates(&atomic, &views, Jobs::Running)[0].1, resume('a', 'b', Copies::Ours));
}

#[test]
fn open_slots_outside_the_journal_are_foreign() {
    let views = [view('a', "7", &[to('b')])];
    assert_eq!(foreign(&[], &views).len(), 1);
    assert_eq!(foreign(&[intent()], &views).len(), 0);
    assert_eq!(foreign(&[intent()], &[view('a', "7", &[to('e')])]).len(), 1, "our slot, their flag");
}
