//! Somebody else is at work in the same cluster: Ballast stops and says so, and nothing is lost.

use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::{Kind, spawn};
use ballast::migration::ProtocolChoice;
use ballast::model::SlotId;
use tokio::time::timeout;

use super::stage::{Clients, Ground, Order, Stage, WAYS, Way};
use super::toll::{Dice, Toll};
use super::tripwire::{Diary, Moment};
use crate::support::{eventually, turn};

/// Slots with keys in one migration.
const SLOTS: usize = 6;

/// How long a tool of others and an engine may be at work.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_somebody_else_opened_anywhere_stops_the_plan() {
    let _turn = turn().await;
    let stage = Stage::of(Way(Kind::Redis70, ProtocolChoice::Classic), Ground::ALONE).await;
    let order = stage.order(SLOTS).await;
    // Of a slot and a node that have no part in our plan.
    let third = third_of(&order);
    let nodes = &stage.cluster.nodes;
    let view = nodes[third].view().await.expect("a view");
    let own = view.into_iter().find(|node| node.id == nodes[third].id).expect("itself");
    let slot = own.slots.iter().next().expect("it has slots");
    let migrating = Command::new("CLUSTER SETSLOT").arg(slot).arg("MIGRATING").arg(&nodes[order.target].id);
    nodes[third].server.call(migrating).await.expect("set");

    let reports = stage.engine(&order, &stage.wire(None)).await.expect("the engine does not panic");
    assert!(reports.iter().all(|report| report.moved.is_empty()), "{reports:?}");
    let [(_, reason), ..] = &reports[0].stayed[..] else { panic!("{reports:?}") };
    assert!(reason.contains(&format!("slot {slot} is open")) && reason.contains("not by us"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_flag_somebody_else_turned_is_not_given_away() {
    let _turn = turn().await;
    let stage = Stage::of(Way(Kind::Redis70, ProtocolChoice::Classic), Ground::ALONE).await;
    for call in 0.. {
        let order = stage.order(SLOTS).await;
        let wire = stage.wire(Some((call, Moment::Before)));
        let mut engine = stage.engine(&order, &wire);
        tokio::select! {
            () = wire.reached() => {}
            reports = &mut engine => panic!("no flag stood at any call: {reports:?}"),
        }
        let (source, third) = (&stage.cluster.nodes[order.source], &stage.cluster.nodes[third_of(&order)]);
        let open = stage.cluster.open_slots().await.expect("all answer");
        let flag = open.iter().find_map(|(node, flag)| flag.split_once("->-").filter(|_| *node == source.id));
        let Some((slot, _)) = flag else {
            wire.release();
            engine.await.expect("the engine does not panic");
            continue;
        };
        let slot: SlotId = slot.parse().expect("a slot");
        let turned = Command::new("CLUSTER SETSLOT").arg(slot).arg("MIGRATING").arg(&third.id);
        source.server.call(turned).await.expect("the source owns it");
        wire.release();
        let reports = engine.await.expect("the engine does not panic");
        assert_eq!(stage.cluster.owner_of(slot).await.expect("a view").as_ref(), Some(&source.id), "{reports:?}");
        let reason = reports.iter().flat_map(|report| &report.stayed).find(|(stayed, _)| *stayed == slot);
        assert!(reason.is_some_and(|(_, reason)| reason.contains("somebody else")), "{reports:?}");
        return;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli_reshards_the_same_slots_at_the_same_time_and_nothing_is_lost() {
    for way in [WAYS[0], WAYS[1]] {
        let _turn = turn().await;
        let mut toll = Toll::of(format!("redis-cli reshards too, {way}"));
        let dice = Dice::cast(&toll.family);
        let mut stage = Stage::of(way, Ground::ALONE).await;
        for round in 0..dice.rounds(2) {
            stage.diary = Diary::begin();
            let order = stage.order(SLOTS).await;
            let load = stage.load(0);
            let story = format!("{}: round {round}", toll.family);
            // It takes the lowest slots of the same source, one after the other: it will come to ours.
            let mut cli = reshard(&stage, &order);
            eventually("redis-cli is at work", PATIENCE, async || {
                (!stage.cluster.open_slots().await.ok()?.is_empty()).then_some(())
            })
            .await;
            toll.injected += 1;
            let engine = stage.engine(&order, &stage.wire(None));
            let reports = timeout(PATIENCE, engine).await.expect("it does not hang").expect("it does not panic");
            stage.diary.note(format_args!("{reports:?}"));
            eventually("redis-cli has ended", PATIENCE, async || cli.try_wait().expect("our child")).await;
            stage.mend(&mut toll, &story).await;
            stage.check(load, Clients::Unharmed, &mut toll, &story).await;
        }
        println!("{toll}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ballasts_with_journals_of_their_own_lose_nothing() {
    for way in Dice::cast("ways").some_of(2, WAYS.to_vec()) {
        let _turn = turn().await;
        let mut toll = Toll::of(format!("two Ballasts, {way}"));
        let mut dice = Dice::cast(&toll.family);
        let mut stage = Stage::of(way, Ground::ALONE).await;
        stage.journals.push(Arc::default());
        let undisturbed = stage.undisturbed(SLOTS).await;
        for round in 0..dice.rounds(3) {
            stage.diary = Diary::begin();
            let order = stage.order(SLOTS).await;
            let load = stage.load(0);
            let (call, moment) = (dice.below(undisturbed), Moment::ALL[dice.below(Moment::ALL.len())]);
            let story = format!("{}: round {round}, {moment:?} call {call}", toll.family);
            // The one is halted while the other begins the same work by the same plan.
            let wire = stage.wire(Some((call, moment)));
            let mut ours = stage.engine(&order, &wire);
            let theirs = tokio::select! {
                () = wire.reached() => {
                    toll.injected += 1;
                    let theirs = stage.engine_of(1, &order, &stage.wire(None));
                    wire.release();
                    timeout(PATIENCE, ours).await.expect("it does not hang").expect("it does not panic");
                    theirs
                }
                _ = &mut ours => stage.engine_of(1, &order, &stage.wire(None)),
            };
            timeout(PATIENCE, theirs).await.expect("it does not hang").expect("it does not panic");
            stage.mend(&mut toll, &story).await;
            stage.check(load, Clients::Unharmed, &mut toll, &story).await;
        }
        println!("{toll}");
    }
}

fn third_of(order: &Order) -> usize {
    (0..3).find(|place| ![order.source, order.target].contains(place)).expect("three primaries")
}

/// `redis-cli --cluster reshard` of slots from our source to a node that is not our target.
fn reshard(stage: &Stage, order: &Order) -> Child {
    let nodes = &stage.cluster.nodes;
    let mut cli = Process::new(Kind::Redis70.tool("redis-cli").expect("fetched"));
    cli.args(["--cluster", "reshard", &nodes[0].server.address().to_string(), "--cluster-yes"]);
    cli.args(["--cluster-from", nodes[order.source].id.as_str(), "--cluster-to", nodes[third_of(order)].id.as_str()]);
    cli.args(["--cluster-slots", "400"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn(cli).expect("it starts")
}
