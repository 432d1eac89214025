//! The load itself: it sees lost writes and doubled keys when there are some, and none when slots move as they should.

use std::sync::Arc;
use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::load::{Client, KeySpace, Load, LoadReport, LoadSettings, Phase, find_duplicates, verify};
use ballast::lab::{Kind, LocalCluster};
use ballast::model::{SlotId, SlotSet};

use crate::support::{eventually, start, turn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_by_the_book_lose_nothing() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis70)).await;
    let (client, keys) = filled(&cluster, 2000).await;
    let settings = LoadSettings { rate: 1000.0, writes: 0.5, scripts: 0.1, ..LoadSettings::default() };
    let load = Load::start(client.clone(), keys.clone(), &settings);
    load.enter(Phase::Migrating);
    for slot in (0..60).filter_map(SlotId::new) {
        move_slot(&cluster, slot, 0, 1).await;
    }
    eventually("a thousand writes are acknowledged", Duration::from_secs(30), async || {
        (load.report().writes > 1000).then_some(())
    })
    .await;
    let report = load.stop().await;
    assert_eq!((report.failed, report.stale), (0, 0), "{report:?}");
    assert!(report.redirected > 0, "slots moved under it");
    assert!(requests_of(&report, Phase::Migrating) > 1000, "{report:?}");

    let verification = verify(&client, &keys).await.expect("every key is read");
    assert_eq!(verification.lost, 0, "{verification:?}");
    assert_eq!(verification.checked, report.writes + 2000, "each write of the load, and one per filled key");
    let placement = find_duplicates(&client, &keys).await.expect("every primary answers");
    assert_eq!(placement.single, 2000, "{placement:?}");
}

#[tokio::test]
async fn a_key_that_vanished_and_one_that_went_back_in_time_are_found() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let (client, keys) = filled(&cluster, 300).await;
    assert_eq!(verify(&client, &keys).await.expect("read").lost, 0);
    let load = Load::start(client.clone(), keys.clone(), &LoadSettings { writes: 1.0, ..LoadSettings::default() });
    eventually("every key was written again", Duration::from_secs(30), async || {
        (load.report().writes > 3000).then_some(())
    })
    .await;
    load.stop().await;

    let string = (0..300).find(|number| keys.name(*number).contains("string")).expect("half of them are strings");
    let hash = (0..300).find(|number| keys.name(*number).contains("hash")).expect("a fifth of them are hashes");
    say(&cluster, Command::new("DEL").arg(keys.name(string)), keys.slot(string)).await;
    say(&cluster, Command::new("HSET").arg(keys.name(hash)).arg("version").arg(0), keys.slot(hash)).await;
    let verification = verify(&client, &keys).await.expect("read");
    assert_eq!(verification.lost, 2, "{verification:?}");
}

#[tokio::test]
async fn a_key_on_two_primaries_is_found() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let (client, keys) = filled(&cluster, 300).await;
    let key = (0..300).find(|number| keys.slot(*number).number() < 5000).expect("a third of them are there");
    let (source, target) = (&cluster.nodes[0], &cluster.nodes[1]);
    let importing = Command::new("CLUSTER SETSLOT").arg(keys.slot(key)).arg("IMPORTING").arg(&source.id);
    target.server.call(importing).await.expect("importing");
    let address = target.server.address();
    let copy = Command::new("MIGRATE").arg(&address.host).arg(address.port).arg(keys.name(key)).arg(0).arg(1000);
    source.server.call(copy.arg("COPY")).await.expect("copied");
    let placement = find_duplicates(&client, &keys).await.expect("every primary answers");
    assert_eq!(placement.duplicated, [keys.name(key)]);
    assert_eq!(placement.single, 299);
}

async fn filled(cluster: &LocalCluster, count: usize) -> (Arc<Client>, Arc<KeySpace>) {
    let client = Client::connect(&cluster.addresses(), None).await.expect("the cluster answers");
    let keys = KeySpace::new(count, 1, SlotSet::default());
    let filled = keys.fill(&client).await.expect("the cluster takes writes");
    assert_eq!(filled.keys, count);
    (Arc::new(client), Arc::new(keys))
}

async fn say(cluster: &LocalCluster, command: Command, slot: SlotId) {
    let owner = cluster.owner_of(slot).await.expect("a view").expect("every slot has an owner");
    let owner = cluster.nodes.iter().find(|node| node.id == owner).expect("the owner is ours");
    owner.server.call(command).await.expect("the owner obeys");
}

/// Moves a slot as the cluster tutorial says, one command at a time.
async fn move_slot(cluster: &LocalCluster, slot: SlotId, from: usize, to: usize) {
    let (source, target) = (&cluster.nodes[from], &cluster.nodes[to]);
    let set =
        |state: &str, node: &ballast::model::NodeId| Command::new("CLUSTER SETSLOT").arg(slot).arg(state).arg(node);
    target.server.call(set("IMPORTING", &source.id)).await.expect("importing");
    source.server.call(set("MIGRATING", &target.id)).await.expect("migrating");
    let address = target.server.address();
    loop {
        let keys = Command::new("CLUSTER GETKEYSINSLOT").arg(slot).arg(100);
        let keys = source.server.call(keys).await.map(|reply| reply.list().expect("a list")).expect("keys");
        if keys.is_empty() {
            break;
        }
        let migrate =
            Command::new("MIGRATE").arg(&address.host).arg(address.port).bytes("").arg(0).arg(5000).arg("KEYS");
        let migrate = keys.into_iter().fold(migrate, |command, key| command.bytes(key.bytes().expect("a name")));
        source.server.call(migrate).await.expect("migrated");
    }
    for node in [target, source] {
        node.server.call(set("NODE", &target.id)).await.expect("moved");
    }
}

fn requests_of(report: &LoadReport, phase: Phase) -> u64 {
    report.latency.iter().find(|(of, _)| *of == phase).map_or(0, |(_, latency)| latency.requests)
}
