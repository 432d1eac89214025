//! Servers die, freeze, fail over, change their epochs and get out of reach while slots move; the engine lives.

use std::time::Duration;

use tokio::time::timeout;

use super::stage::{Clients, Ground, Stage, WAYS, Way};
use super::strike::{Fault, Who, heal, strike};
use super::toll::{Dice, Toll};
use super::tripwire::{Diary, Moment};
use crate::support::turn;

/// Slots with keys in one migration.
const SLOTS: usize = 6;

/// How long the engine may be at one migration: its settle deadlines, and a crowded machine.
const ENGINE_PATIENCE: Duration = Duration::from_secs(120);

/// How often an instant is chosen until a migration lasts that long.
const ATTEMPTS: usize = 8;

/// Longer than a MIGRATE waits for its socket (1 s) and than the engine waits for an answer (5 s).
const LONGER_THAN_PATIENCE_MS: u64 = 7000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_crashes_and_comes_back_loses_nothing() {
    for way in sample("an end crashes", &WAYS, 2) {
        story("an end crashes", way, Ground::ALONE, &[Fault::Crash(Who::Source), Fault::Crash(Who::Target)], 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_fails_over_loses_nothing() {
    let faults = [Fault::Failover(Who::Source), Fault::Failover(Who::Target)];
    for way in sample("an end fails over", &WAYS, 2) {
        story("an end fails over", way, Ground::ELECTIONS, &faults, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_hand_loses_nothing() {
    // FORCE and TAKEOVER ask nobody, and servers lose by them what no tool can keep: `docs/traps.md`.
    let faults = [Fault::ManualFailover(Who::Source), Fault::ManualFailover(Who::Target)];
    for way in sample("a failover by hand", &WAYS, 2) {
        story("a failover by hand", way, Ground::ELECTIONS, &faults, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_frozen_for_longer_than_anybody_waits_loses_nothing() {
    let faults =
        [Fault::Freeze(Who::Source, LONGER_THAN_PATIENCE_MS), Fault::Freeze(Who::Target, LONGER_THAN_PATIENCE_MS)];
    for way in sample("an end is frozen", &[WAYS[0], WAYS[3]], 1) {
        story("an end is frozen", way, Ground::ALONE, &faults, 1).await;
        story("an end is frozen and voted failed", way, Ground::ELECTIONS, &faults, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_ballast_cannot_reach_for_a_while_loses_nothing() {
    let faults = [Fault::CutOff(Who::Source, 1500), Fault::CutOff(Who::Target, 1500)];
    for way in sample("an end is out of reach", &WAYS, 2) {
        story("an end is out of reach", way, Ground::ALONE, &faults, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_cannot_reach_each_other_for_a_while_lose_nothing() {
    for way in sample("the ends are severed", &WAYS, 2) {
        story("the ends are severed", way, Ground::CUTTABLE, &[Fault::Severed(1500), Fault::Swallowed(2500)], 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_have_no_part_in_it_may_die_meanwhile() {
    let faults = [
        Fault::Crash(Who::SourceReplica),
        Fault::Crash(Who::TargetReplica),
        Fault::Freeze(Who::Third, 1500),
        Fault::Failover(Who::Third),
    ];
    for way in sample("a bystander dies", &[WAYS[1], WAYS[3]], 1) {
        story("a bystander dies", way, Ground::ELECTIONS, &faults, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_that_change_and_writes_that_are_paused_lose_nothing() {
    let faults = [Fault::BumpEpochs, Fault::ClientPause(Who::Source, 700), Fault::ClientPause(Who::Target, 700)];
    for way in sample("epochs and pauses", &WAYS, 2) {
        story("epochs and pauses", way, Ground::NO_ELECTIONS, &faults, 1).await;
    }
}

/// Plays each of `faults` `rounds` times at seeded instants of migrations, and prints what came of it.
#[expect(clippy::print_stdout, reason = "what a test tells")]
async fn story(name: &str, way: Way, ground: Ground, faults: &[Fault], rounds: usize) {
    let _turn = turn().await;
    let mut toll = Toll::of(format!("{name}, {way}"));
    let mut dice = Dice::cast(&toll.family);
    let mut stage = Stage::of(way, ground).await;
    let undisturbed = stage.undisturbed(SLOTS).await;
    for _ in 0..dice.rounds(rounds) {
        for fault in faults {
            // Rounds take as long as they take: a migration may be over before a late call.
            for _ in 0..ATTEMPTS {
                let at = (dice.below(undisturbed), Moment::ALL[dice.below(Moment::ALL.len())]);
                if suffers(&mut stage, *fault, at, &mut toll).await {
                    break;
                }
            }
        }
    }
    println!("{toll}");
}

/// `few` of `ways`, or as many times more as we were asked for.
fn sample(family: &str, ways: &[Way], few: usize) -> Vec<Way> {
    Dice::cast(family).some_of(few, ways.to_vec())
}

/// Whether the fault struck before the migration was over.
async fn suffers(stage: &mut Stage, fault: Fault, at: (usize, Moment), toll: &mut Toll) -> bool {
    let story = format!("{}: {fault:?} {:?} call {}", toll.family, at.1, at.0);
    stage.diary = Diary::begin();
    let wait_replicas = u32::from(stage.has_replicas());
    let order = stage.order(SLOTS).await;
    let load = stage.load(wait_replicas);
    let wire = stage.wire(Some(at));
    let mut engine = stage.engine(&order, &wire);
    tokio::select! {
        () = wire.reached() => toll.injected += 1,
        reports = &mut engine => {
            drop(reports.expect("the engine does not panic"));
            stage.check(load, Clients::Unharmed, toll, &story).await;
            return false;
        }
    }
    let struck = strike(stage, fault, &order).await;
    stage.diary.note(format_args!("{fault:?}"));
    if let (Fault::CutOff(..), Some(place)) = (fault, struck) {
        wire.cut_off(Some(stage.cluster.nodes[place].server.address()));
    }
    wire.release();
    heal(stage, fault, struck).await;
    wire.cut_off(None);
    stage.diary.note("healed");
    let reports = timeout(ENGINE_PATIENCE, engine).await.unwrap_or_else(|_| panic!("{story}: the engine hangs"));
    drop(reports.expect("the engine does not panic"));
    stage.mend(toll, &story).await;
    stage.check(load, Clients::SawFailures, toll, &story).await;
    true
}
