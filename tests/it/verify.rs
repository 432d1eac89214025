//! The verifier on real clusters: it finds each kind of fault that is planted, and none where slots merely move.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Command, Reply};
use ballast::lab::{Builder, Kind, LocalCluster, Node, ServerSettings};
use ballast::migration::ProtocolChoice;
use ballast::model::{SlotId, SlotSet};
use ballast::verify::{Compared, Finding, Report, Task, verify};

use crate::scene::{Scene, link_to};
use crate::support::{start, turn};

/// Verifies from the first node alone: the others are found.
async fn look(cluster: &LocalCluster, task: Task<'_>) -> Report {
    let live = LiveCluster::new(Access::default());
    verify(&live, &[cluster.nodes[0].server.address()], task).await.unwrap_or_else(|error| panic!("{error:?}"))
}

#[tokio::test]
async fn each_planted_fault_is_found_on_redis_6_2() {
    finds_what_is_planted(LocalCluster::of(Kind::Redis62), 1).await;
}

#[tokio::test]
async fn each_planted_fault_is_found_on_redis_8_6() {
    finds_what_is_planted(LocalCluster::of(Kind::Redis86), 1).await;
}

#[tokio::test]
async fn each_planted_fault_is_found_on_valkey_9_1_in_every_database() {
    let more = vec![vec!["cluster-databases".to_owned(), "4".to_owned()]];
    let settings = ServerSettings { more, ..ServerSettings::default() };
    finds_what_is_planted(LocalCluster::of(Kind::Valkey91).map(|builder| builder.settings(settings)), 4).await;
}

/// The faults, in the order of their kinds, as `kind key`.
async fn finds_what_is_planted(builder: Result<Builder, ballast::lab::LabError>, databases: u32) {
    let _turn = turn().await;
    let cluster = start(builder).await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("record");
    let database = databases - 1;
    for n in 0..500 {
        say(&cluster, database, Command::new("SET").arg(format!("other-{n}")).arg(n)).await;
    }
    for name in ["doubled", "lost", "changed", "persisted", "retyped", "hastened", "left"] {
        say(&cluster, database, Command::new("SET").arg(name).arg("as it was").arg("EX").arg(1000)).await;
    }
    let recorded = look(&cluster, Task::Record(&path)).await;
    assert_eq!((recorded.clean, recorded.recorded, recorded.keys()), (true, Some(507), 507), "{recorded:?}");
    let same = look(&cluster, Task::Against(&path)).await;
    assert_eq!(same.compared, Some(Compared { same: 507, ..Compared::default() }));
    assert!(same.clean, "{same:?}");

    plant(&cluster, database, "doubled", 1).await;
    plant(&cluster, database, "orphaned", 0).await;
    for command in [
        "DEL lost",
        "SET changed otherwise EX 1000",
        "PERSIST persisted",
        "DEL retyped",
        "RPUSH retyped x",
        "EXPIRE retyped 1000",
        "EXPIRE hastened 500",
        "SET new x",
    ] {
        say(&cluster, database, Command::new(command)).await;
    }
    let mut expected = vec![
        "changed changed",
        "duplicate doubled",
        "expiry-lost persisted",
        "expiry-moved hastened",
        "missing lost",
        "orphan orphaned",
        "type-changed retyped",
    ];
    if databases > 1 {
        say(&cluster, database, Command::new("MOVE left 0")).await;
        expected.insert(4, "missing left");
    }
    // Redis from 8.4 on shows nobody which keys it has that it should not have.
    let hides = cluster.nodes[0].server.program().version >= (8, 4) && databases == 1;
    if hides {
        expected.retain(|fault| !fault.starts_with("duplicate") && !fault.starts_with("orphan"));
        expected.extend(["hidden 1", "hidden 1"]);
        expected.sort_unstable();
    }
    let report = look(&cluster, Task::Against(&path)).await;
    assert_eq!(faults(&report), expected);
    for finding in &report.findings {
        match finding {
            Finding::Missing { name, found_in } if name.key == "left" => assert_eq!(*found_in, [0]),
            Finding::Missing { found_in, .. } => assert_eq!(*found_in, Vec::<u32>::new()),
            _ => {}
        }
    }
    let compared = report.compared.expect("compared");
    // The new key, those astray that are shown, and where there are databases the one that left.
    let new = 1 + if hides { 0 } else { 2 } + u64::from(databases > 1);
    assert_eq!((compared.different, compared.new), (expected.len() as u64 - 2, new));
    assert!(!report.clean);

    let places = faults(&look(&cluster, Task::Look).await);
    let astray = if hides { ["hidden 1", "hidden 1"] } else { ["duplicate doubled", "orphan orphaned"] };
    assert_eq!(places, astray, "places are looked at without a record too");
}

fn faults(report: &Report) -> Vec<String> {
    let name = |finding: &Finding| match finding {
        Finding::Duplicate { name, .. }
        | Finding::Orphan { name, .. }
        | Finding::Missing { name, .. }
        | Finding::Changed { name }
        | Finding::TypeChanged { name, .. }
        | Finding::ExpiryLost { name }
        | Finding::ExpiryMoved { name, .. } => name.key.clone(),
        Finding::Hidden { keys, .. } => keys.to_string(),
        other => panic!("nothing of the kind was planted: {other}"),
    };
    let mut faults: Vec<String> =
        report.findings.iter().map(|finding| format!("{} {}", finding.kind(), name(finding))).collect();
    faults.sort();
    faults
}

#[tokio::test]
async fn a_primary_that_is_silent_and_slots_in_dispute_are_found() {
    let _turn = turn().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("record");
    let mut cluster = start(LocalCluster::of(Kind::Valkey80)).await;
    let slot = slots_of(&cluster, 0).await.iter().next().expect("a slot");
    // What a node forgets of its own slots it does not tell the others.
    cluster.nodes[0].server.call(Command::new("CLUSTER DELSLOTS").arg(slot)).await.expect("taken");
    let report = look(&cluster, Task::Look).await;
    assert!(report.counts.contains_key("disagreement"), "{report:?}");
    cluster.nodes[0].server.call(Command::new("CLUSTER ADDSLOTS").arg(slot)).await.expect("taken");
    assert!(look(&cluster, Task::Look).await.clean);

    cluster.nodes[2].server.kill9();
    let silent = cluster.nodes[2].server.address();
    let report = look(&cluster, Task::Look).await;
    assert!(matches!(&report.findings[..], [Finding::Silent { node, .. }] if *node == silent), "{report:?}");
    let live = LiveCluster::new(Access::default());
    let refused = verify(&live, &[cluster.nodes[0].server.address()], Task::Record(&path)).await;
    let refused = refused.expect_err("it would not be whole").to_string();
    assert!(refused.contains("no record was written") && refused.contains(&silent.to_string()), "{refused}");
    assert!(!path.exists());
}

#[tokio::test]
async fn slots_that_move_by_the_book_are_no_fault_on_redis_7_0() {
    sees_nothing_amiss(Kind::Redis70, ProtocolChoice::Classic).await;
}

#[tokio::test]
async fn slots_that_move_by_the_book_are_no_fault_on_valkey_9_1() {
    sees_nothing_amiss(Kind::Valkey91, ProtocolChoice::Auto).await;
}

#[tokio::test]
async fn slots_that_move_by_the_book_are_no_fault_on_redis_8_6() {
    sees_nothing_amiss(Kind::Redis86, ProtocolChoice::Auto).await;
}

/// Verifies again and again, under writes, while slots move to and fro.
async fn sees_nothing_amiss(kind: Kind, protocol: ProtocolChoice) {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(kind)).await;
    let scene = Scene::new(&cluster, protocol).await;
    scene.fill().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("record");
    let slots: SlotSet = slots_of(&cluster, 0).await.iter().take(500).collect();

    let (stop, writer) = scene.write_meanwhile(slots.clone());
    let looks = while_moving(&scene, &slots, Task::Look, &cluster).await;
    let more = while_moving(&scene, &slots, Task::Record(&path), &cluster).await;
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("the writer ends").len() > 100);
    for report in looks.iter().chain(&more) {
        assert!(report.clean, "{report:?}");
    }
    look(&cluster, Task::Record(&path)).await;
    for report in while_moving(&scene, &slots, Task::Against(&path), &cluster).await {
        let compared = report.compared.clone().expect("compared");
        assert_eq!((report.clean, compared.same), (true, 12_000), "{report:?}");
    }
    scene.check_settled().await;
}

/// Moves `slots` to the second node and back, and verifies for as long as that takes.
async fn while_moving(scene: &Scene<'_>, slots: &SlotSet, task: Task<'_>, cluster: &LocalCluster) -> Vec<Report> {
    let over = Arc::new(AtomicBool::new(false));
    let moving = async {
        for to in [1, 0] {
            let report = scene.migrate(to, slots).await;
            assert_eq!(report.moved, *slots, "{:?}", report.stayed);
            // The guard wants an agreed cluster for the way back.
            cluster.wait_until_agreed().await.expect("agreed");
        }
        over.store(true, Ordering::Relaxed);
    };
    let looking = async {
        let mut reports = Vec::new();
        while !over.load(Ordering::Relaxed) {
            reports.push(look(cluster, task).await);
        }
        reports
    };
    tokio::join!(moving, looking).1
}

async fn slots_of(cluster: &LocalCluster, place: usize) -> SlotSet {
    let node = &cluster.nodes[place];
    node.view().await.expect("a view").into_iter().find(|view| view.id == node.id).expect("itself").slots
}

/// Says `command` to the owner of its key.
async fn say(cluster: &LocalCluster, database: u32, command: Command) {
    let slot = SlotId::of_key(&command.words()[1]);
    let link = link_to(owner_of(cluster, slot).await, database).await;
    let replies = link.call(std::slice::from_ref(&command), Duration::from_secs(5)).await.expect("a reply");
    assert!(!matches!(replies[..], [Reply::Error(_)] | []), "{command}: {replies:?}");
}

async fn owner_of(cluster: &LocalCluster, slot: SlotId) -> &Node {
    let owner = cluster.owner_of(slot).await.expect("a view").expect("an owner");
    cluster.nodes.iter().find(|node| node.id == owner).expect("ours")
}

/// Puts `key` on the primary at `place`, which does not own its slot, as an abandoned migration by hand leaves it.
async fn plant(cluster: &LocalCluster, database: u32, key: &str, place: usize) {
    let slot = SlotId::of_key(key.as_bytes());
    let owner = owner_of(cluster, slot).await;
    let other = &cluster.nodes[place];
    assert_ne!(owner.id, other.id, "it would not be astray");
    let importing = Command::new("CLUSTER SETSLOT").arg(slot).arg("IMPORTING").arg(&owner.id);
    other.server.call(importing).await.expect("importing");
    let set = [Command::new("ASKING"), Command::new("SET").arg(key).arg("stray")];
    let replies = link_to(other, database).await.call(&set, Duration::from_secs(5)).await;
    assert!(matches!(replies.as_deref(), Ok([_, Reply::Bytes(ok)]) if ok == b"OK"), "{replies:?}");
    other.server.call(Command::new("CLUSTER SETSLOT").arg(slot).arg("STABLE")).await.expect("stable");
}

#[tokio::test]
async fn what_is_no_record_is_refused_before_anything_is_asked() {
    let live = LiveCluster::new(Access::default());
    let nobody = ["127.0.0.1:1".parse().expect("an address")];
    let refused = verify(&live, &nobody, Task::Against(Path::new("Cargo.toml"))).await.expect_err("no record");
    assert!(ballast::telemetry::chain(&refused).contains("is no record"), "{refused}");
}
