//! The engine against every fault at every call, in memory: what each run leaves behind is checked against promise 1.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::toy::{Fault, Toy};
use super::{Context, MemoryJournal, Pace, Progress, Settings, Stop, StopHandle, execute, recover};
use crate::guard::{self, ApprovedPlan, Ledger, Limits};
use crate::model::{
    MigrationReport, NodeIndex, Owners, Plan, PolicyId, Primary, ProposedMove, SLOT_COUNT, SlotId, SlotSet, Snapshot,
};

const NODES: usize = 3;
const KEYS: usize = 5;
/// Long enough for everything but a call that never returns; short, since probes tick all the while.
const MOST_TIME: Duration = Duration::from_secs(60);

fn slots() -> Vec<SlotId> {
    (0..20).filter_map(SlotId::new).collect()
}

fn scene() -> (Arc<Toy>, Context) {
    scene_of(Toy::new(NODES, &slots(), KEYS))
}

/// Servers that refuse transactions: slots are closed one or two at a time.
fn scene_without_transactions() -> (Arc<Toy>, Context) {
    scene_of(Toy::new(NODES, &slots(), KEYS).without_transactions())
}

fn scene_of(toy: Toy) -> (Arc<Toy>, Context) {
    let toy = Arc::new(toy);
    let context = Context {
        cluster: toy.clone(),
        journal: Arc::new(MemoryJournal::default()),
        // Gentle has the smallest windows: sixteen slots, then four.
        settings: Settings { pace: Pace::Gentle, settle_deadline_s: 5, ..Settings::default() },
        began_by: "test".into(),
        progress: Arc::new(|_| {}),
        stop: Stop::never(),
    };
    (toy, context)
}

fn plan() -> (ApprovedPlan, Snapshot) {
    let primary = |place| Primary {
        id: Toy::id(place),
        address: Toy::address(place),
        hostname: None,
        version: String::new(),
        zone: String::new(),
        tags: Vec::new(),
        config_epoch: place as u64 + 1,
    };
    let snapshot = Snapshot {
        generation: 1,
        window_s: 10,
        primaries: (0..NODES).map(primary).collect(),
        owners: Owners::new(vec![0 as NodeIndex; SLOT_COUNT]),
        ..Snapshot::default()
    };
    let moves =
        slots().iter().map(|slot| ProposedMove { slot: slot.number(), target: 1, reason: "why not".into() }).collect();
    let policy = PolicyId { name: "test".into(), version: "0".into(), digest: String::new() };
    let plan = Plan { policy, generation: 1, moves, summary: String::new(), gauges: Vec::new() };
    let verdict = guard::review(&plan, &snapshot, &Limits::default().for_one_shot(), &Ledger::default(), 0);
    assert_eq!(verdict.refusals, Vec::new());
    (verdict.approved, snapshot)
}

fn moved(reports: &[MigrationReport]) -> SlotSet {
    reports.iter().flat_map(|report| report.moved.iter()).collect()
}

/// Every slot has one owner, nothing is open, and every key is there once, on its owner, with `value`.
fn check(toy: &Toy, value: u64, story: &str) {
    for slot in slots() {
        let owner = toy.settled_owner(slot).unwrap_or_else(|| panic!("{story}: slot {slot} is open or disputed"));
        let copies = toy.copies(slot);
        assert!(
            copies.iter().all(|(node, _, _)| *node == owner),
            "{story}: slot {slot} has keys off node {owner}: {copies:?}"
        );
        assert_eq!(copies.len(), KEYS, "{story}: slot {slot}: {copies:?}");
        assert!(copies.iter().all(|(_, _, seen)| *seen == value), "{story}: slot {slot} lost a write: {copies:?}");
    }
}

/// How many calls a migration takes when nothing goes wrong.
async fn undisturbed() -> usize {
    undisturbed_in(scene).await
}

async fn undisturbed_in(scene: fn() -> (Arc<Toy>, Context)) -> usize {
    let (toy, context) = scene();
    let (plan, snapshot) = plan();
    execute(plan, &snapshot, &context).await;
    toy.calls()
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_migration_moves_everything() {
    let (toy, context) = scene();
    let (plan, snapshot) = plan();
    let reports = execute(plan, &snapshot, &context).await;
    assert_eq!((moved(&reports), reports[0].keys), (slots().into_iter().collect(), 100));
    check(&toy, 0, "undisturbed");
    assert!(slots().iter().all(|slot| toy.settled_owner(*slot) == Some(1)));
}

#[tokio::test(start_paused = true)]
async fn any_fault_at_any_call_loses_nothing_and_leaves_nothing_open() {
    any_fault_at_any_call(scene).await;
}

#[tokio::test(start_paused = true)]
async fn any_fault_at_any_call_loses_nothing_where_slots_are_closed_one_by_one() {
    assert!(undisturbed_in(scene_without_transactions).await > undisturbed().await, "they are closed in more calls");
    any_fault_at_any_call(scene_without_transactions).await;
}

async fn any_fault_at_any_call(scene: fn() -> (Arc<Toy>, Context)) {
    let undisturbed = undisturbed_in(scene).await;
    let faults = [
        Fault::Unreachable,
        Fault::RepliesLost,
        Fault::MigrateBreaksOff,
        Fault::ReplicasLag,
        Fault::TransactionAborts,
        Fault::WeDie,
    ];
    for fault in faults {
        for call in 0..undisturbed {
            let story = format!("{fault:?} at call {call} of {undisturbed}");
            let (toy, context) = scene();
            toy.fail_at(call, fault);
            let (plan, snapshot) = plan();
            let run = tokio::time::timeout(MOST_TIME, execute(plan, &snapshot, &context)).await;
            assert_eq!(run.is_err(), fault == Fault::WeDie, "{story}");
            // Clients go on writing whatever became of us.
            for slot in slots() {
                for key in 0..KEYS {
                    toy.write(slot, format!("{slot}:{key}").as_bytes(), 0);
                }
            }
            let addresses: Vec<_> = (0..NODES).map(Toy::address).collect();
            let recovery = recover(&addresses, &context).await.expect("the journal is in memory");
            assert!(recovery.is_clear(), "{story}: {recovery:?}");
            assert!(context.journal.unfinished().expect("in memory").is_empty(), "{story}");
            check(&toy, 0, &story);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn writes_between_death_and_recovery_are_kept() {
    for scene in [scene, scene_without_transactions] {
        writes_between_death_and_recovery(scene).await;
    }
}

async fn writes_between_death_and_recovery(scene: fn() -> (Arc<Toy>, Context)) {
    for call in 0..undisturbed_in(scene).await {
        let story = format!("death at call {call}");
        let (toy, context) = scene();
        toy.fail_at(call, Fault::WeDie);
        let (plan, snapshot) = plan();
        drop(tokio::time::timeout(MOST_TIME, execute(plan, &snapshot, &context)).await);
        let mut unacknowledged = false;
        for slot in slots() {
            for key in 0..KEYS {
                let key = format!("{slot}:{key}").into_bytes();
                toy.write(slot, &key, 7);
                unacknowledged |= !toy.copies(slot).iter().any(|(_, seen, value)| *seen == key && *value == 7);
            }
        }
        let addresses: Vec<_> = (0..NODES).map(Toy::address).collect();
        let recovery = recover(&addresses, &context).await.expect("the journal is in memory");
        assert!(recovery.is_clear(), "{story}: {recovery:?}");
        if !unacknowledged {
            check(&toy, 7, &story);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stray_key_keeps_its_slot_where_it_is() {
    let (toy, context) = scene();
    let slot = slots()[2];
    toy.put(1, slot, "2:stray");
    let (plan, snapshot) = plan();
    let reports = execute(plan, &snapshot, &context).await;
    assert_eq!(moved(&reports).len(), 19);
    assert!(
        matches!(&reports[0].stayed[..], [(stayed, why)] if *stayed == slot && why.contains("stray")),
        "{reports:?}"
    );
    assert_eq!(toy.settled_owner(slot), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_slot_with_a_key_that_is_too_large_is_not_even_opened() {
    let (toy, context) = scene();
    let slot = slots()[2];
    toy.put(0, slot, "2:huge");
    let (plan, snapshot) = plan();
    let reports = execute(plan, &snapshot, &context).await;
    assert_eq!(moved(&reports).len(), 19);
    let [(stayed, why)] = &reports[0].stayed[..] else { panic!("{reports:?}") };
    assert_eq!(*stayed, slot);
    assert!(why.contains("pinned by key '2:huge' (hash of 1000000 members, 64MiB)"), "{why}");
    assert_eq!((toy.settled_owner(slot), toy.copies(slot).len()), (Some(0), KEYS + 1));

    // Whoever bears the stall may have it.
    let (toy, context) = scene();
    toy.put(0, slot, "2:huge");
    let bold = Context { settings: Settings { max_block_ms: 5000, ..context.settings }, ..context };
    let (plan, snapshot) = self::plan();
    assert_eq!(moved(&execute(plan, &snapshot, &bold).await).len(), 20);
    assert_eq!(toy.settled_owner(slot), Some(1));
}

/// A scene whose migrations are asked for something when one of them first says `step`.
fn asked_at(step: &'static str, ask: impl Fn(&StopHandle) + Send + Sync + 'static) -> (Arc<Toy>, Context, Heard) {
    let (toy, context) = scene();
    let (handle, stop) = Stop::new();
    let (handle, words) = (Arc::new(Mutex::new(handle)), Arc::new(Mutex::new(Vec::new())));
    let (asking, hearing) = (handle.clone(), words.clone());
    let progress = move |progress: Progress| {
        let mut words = hearing.lock().expect("no holder panics");
        if progress.step == step && words.iter().all(|word: &Progress| word.step != step) {
            ask(&asking.lock().expect("no holder panics"));
        }
        words.push(progress);
    };
    (toy, Context { progress: Arc::new(progress), stop, ..context }, Heard { handle, words })
}

struct Heard {
    handle: Arc<Mutex<StopHandle>>,
    words: Arc<Mutex<Vec<Progress>>>,
}

#[tokio::test(start_paused = true)]
async fn a_hold_closes_what_is_open_and_its_end_goes_on_with_the_rest() {
    let (toy, context, heard) = asked_at("transfer", StopHandle::hold);
    let (plan, snapshot) = plan();
    let mut work = std::pin::pin!(execute(plan, &snapshot, &context));
    // Long enough for anything that is not held.
    let held = tokio::time::timeout(MOST_TIME, &mut work).await;
    assert!(held.is_err(), "it waits");
    check(&toy, 0, "held");
    let owners = |owner| slots().iter().filter(|slot| toy.settled_owner(**slot) == Some(owner)).count();
    assert_eq!((owners(0), owners(1)), (4, 16), "the first window moved, the second was not opened");
    assert_eq!(context.journal.unfinished().expect("in memory"), Vec::new());

    heard.handle.lock().expect("no holder panics").resume();
    let reports = work.await;
    assert_eq!(moved(&reports), slots().into_iter().collect());
    assert!(reports.iter().all(|report| report.stayed.is_empty()), "{reports:?}");
    check(&toy, 0, "resumed");
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_what_is_open_and_says_what_was_not_begun() {
    for (what, stop_while_held) in [("asked once", false), ("asked while it was held", true)] {
        let (toy, context, heard) =
            asked_at("import", if stop_while_held { StopHandle::hold } else { StopHandle::stop });
        let (plan, snapshot) = plan();
        let mut work = std::pin::pin!(execute(plan, &snapshot, &context));
        if stop_while_held {
            assert!(tokio::time::timeout(MOST_TIME, &mut work).await.is_err());
            heard.handle.lock().expect("no holder panics").stop();
        }
        let reports = work.await;
        assert_eq!(moved(&reports).len(), 16, "{what}");
        check(&toy, 0, what);
        assert_eq!(context.journal.unfinished().expect("in memory"), Vec::new());
        if !stop_while_held {
            let stayed = &reports[0].stayed;
            assert!(
                stayed.len() == 4 && stayed.iter().all(|(_, why)| why.contains("before it was opened")),
                "{stayed:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_hears_who_and_why_and_every_step_with_its_time() {
    let (_, context, heard) = asked_at("nothing", |_| {});
    let (plan, mut snapshot) = plan();
    let column = |value: f64| -> crate::model::Column { vec![value; SLOT_COUNT].into() };
    snapshot.slot_columns.insert("keys".into(), column(5.0));
    snapshot.slot_columns.insert("bytes".into(), column(500.0));
    execute(plan, &snapshot, &context).await;
    let words = heard.words.lock().expect("no holder panics");
    let mut steps: Vec<&str> = words.iter().map(|word| word.step.as_str()).collect();
    steps.dedup();
    let window = ["vacancy", "weigh", "import", "migrate", "transfer", "verify", "assign", "tell", "confirm"];
    assert_eq!(steps, [window, window].concat());
    let last = words.last().expect("some");
    assert!(last.finished && words.iter().filter(|word| word.finished).count() == 1);
    assert_eq!((last.slots_moved, last.keys_moved, last.bytes_moved), (20, 100, 10_000));
    assert_eq!((last.keys_total, last.bytes_total), (Some(100), Some(10_000)));
    assert_eq!((last.began_by.as_str(), last.reason.as_str()), ("test", "why not"));
    assert!(words.is_sorted_by_key(|word| word.bytes_moved), "bytes only grow");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_lasts_is_told_every_second() {
    let (toy, context, heard) = asked_at("nothing", |_| {});
    toy.fail_at(undisturbed().await / 2, Fault::WeDie);
    let (plan, snapshot) = plan();
    drop(tokio::time::timeout(Duration::from_secs(60), execute(plan, &snapshot, &context)).await);
    let words = heard.words.lock().expect("no holder panics");
    let last = words.last().expect("some");
    assert!(words.iter().filter(|word| word.step == last.step && !word.finished).count() >= 59, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_is_being_settled_since_it_was_begun() {
    let (toy, context, heard) = asked_at("nothing", |_| {});
    toy.fail_at(undisturbed().await / 2, Fault::WeDie);
    let (plan, snapshot) = plan();
    drop(tokio::time::timeout(Duration::from_secs(60), execute(plan, &snapshot, &context)).await);
    let unfinished = context.journal.unfinished().expect("in memory").remove(0).1;
    // The node that would tell is away for good.
    for call in toy.calls()..toy.calls() + 1_000 {
        toy.fail_at(call, Fault::Unreachable);
    }
    heard.words.lock().expect("no holder panics").clear();
    let addresses: Vec<_> = (0..NODES).map(Toy::address).collect();
    let recovery = recover(&addresses, &context).await.expect("the journal is in memory");
    assert_eq!((recovery.held.len(), &recovery.taken_up), (20, &vec![unfinished.clone()]));
    let words = heard.words.lock().expect("no holder panics");
    let last = words.last().expect("it was told while it lasted");
    assert_eq!((last.step.as_str(), last.step_since_ms), ("settle", unfinished.started_at_ms));
    assert!(!last.finished, "{last:?}");
}
