//! The migration engine on real servers: every kind, both protocols, under writes, cut short at any moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ballast::cluster::{Command, Reply};
use ballast::guard::ApprovedPlan;
use ballast::lab::{Kind, LocalCluster, ServerSettings};
use ballast::migration::{self, Context, Journal as _, MemoryJournal, ProtocolChoice, Settings};
use ballast::model::{SlotId, SlotSet, Snapshot};
use tokio::time::sleep;

use crate::cli::{Ballast, url};
use crate::scene::{KEYS, Scene};
use crate::support::{chain, eventually, turn};

#[tokio::test]
async fn redis_6_2_moves_slots_classically() {
    moves_a_part_of_a_primary(Kind::Redis62, ProtocolChoice::Auto, "classic").await;
}

#[tokio::test]
async fn redis_7_0_moves_slots_classically() {
    moves_a_part_of_a_primary(Kind::Redis70, ProtocolChoice::Auto, "classic").await;
}

#[tokio::test]
async fn valkey_8_0_moves_slots_classically() {
    moves_a_part_of_a_primary(Kind::Valkey80, ProtocolChoice::Auto, "classic").await;
}

#[tokio::test]
async fn valkey_9_1_moves_slots_classically_when_told_to() {
    moves_a_part_of_a_primary(Kind::Valkey91, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn valkey_9_1_moves_slots_atomically() {
    moves_a_part_of_a_primary(Kind::Valkey91, ProtocolChoice::Auto, "atomic").await;
}

#[tokio::test]
async fn redis_8_6_moves_slots_atomically() {
    moves_a_part_of_a_primary(Kind::Redis86, ProtocolChoice::Auto, "atomic").await;
}

#[tokio::test]
async fn redis_8_6_moves_slots_classically_when_told_to() {
    moves_a_part_of_a_primary(Kind::Redis86, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn a_migration_cut_short_at_any_moment_is_brought_to_its_end() {
    for (kind, protocol) in [
        (Kind::Redis70, ProtocolChoice::Classic),
        (Kind::Valkey91, ProtocolChoice::Classic),
        (Kind::Valkey91, ProtocolChoice::Auto),
    ] {
        let _turn = turn().await;
        let cluster = start(kind, 0).await;
        let scene = Scene::new(&cluster, protocol).await;
        scene.fill().await;
        for (round, words) in [2, 9, 30].into_iter().enumerate() {
            let slots = scene.slots_of(0).await.iter().take(300).collect();
            let (plan, snapshot) = scene.plan(1, &slots).await;
            let cut = cut_after(words, plan, &snapshot, &scene.context).await;
            let recovery =
                migration::recover(&cluster.addresses(), &scene.context).await.expect("the journal is readable");
            assert!(recovery.is_clear(), "{kind:?} {protocol:?} round {round}, cut: {cut}: {recovery:?}");
            assert_eq!(scene.context.journal.unfinished().expect("readable"), Vec::new());
            scene.check_settled().await;
        }
    }
}

/// Carries a plan out until so many words were said of it, which is at every step and round, and drops it: what a kill
/// does to it, for no step is finished and nothing is tidied up. Whether it came to that.
async fn cut_after(words: usize, plan: ApprovedPlan, snapshot: &Snapshot, context: &Context) -> bool {
    let (said, mut heard) = tokio::sync::watch::channel(0);
    let progress = Arc::new(move |_| said.send_modify(|words| *words += 1));
    let context = Context { progress, ..context.clone() };
    tokio::select! {
        _ = migration::execute(plan, snapshot, &context) => false,
        _ = heard.wait_for(|said| *said >= words) => true,
    }
}

#[tokio::test]
async fn a_classic_migration_that_is_taken_up_again_empties_every_database() {
    let _turn = turn().await;
    let more = vec![vec!["cluster-databases".to_owned(), "2".to_owned()]];
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = LocalCluster::of(Kind::Valkey91).expect("fetched").settings(settings).start().await;
    let cluster = cluster.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let scene = Scene { databases: 2, ..Scene::new(&cluster, ProtocolChoice::Classic).await };
    scene.fill().await;
    // At first the daemon was told to do it classically; the one that takes it up is free to choose.
    let auto = Settings { protocol: ProtocolChoice::Auto, ..scene.context.settings };
    let successor = Context { settings: auto, ..scene.context.clone() };
    let mut cut = 0;
    for words in [5, 14, 26, 40, 61] {
        let slots = scene.slots_of(0).await.iter().take(300).collect();
        let (plan, snapshot) = scene.plan(1, &slots).await;
        cut_after(words, plan, &snapshot, &scene.context).await;
        cut += usize::from(!cluster.open_slots().await.expect("asked").is_empty());
        let recovery = migration::recover(&cluster.addresses(), &successor).await.expect("the journal is readable");
        assert!(recovery.is_clear(), "{recovery:?}");
        scene.check_settled().await;
    }
    assert!(cut > 0, "something was left to take up");
}

/// Whoever says STABLE by hand, and whoever forgets a node, takes flags away and leaves the keys where they are. Clients write anew what
/// they miss then: nobody but who compares values may go on.
#[tokio::test]
async fn a_half_moved_slot_whose_flags_were_taken_away_is_left_as_it_is_until_its_keys_are_brought_home() {
    for kind in [Kind::Redis70, Kind::Redis86, Kind::Valkey91] {
        let _turn = turn().await;
        let cluster = start(kind, 0).await;
        let scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
        scene.fill().await;
        let [source, target] = [&cluster.nodes[0].server, &cluster.nodes[1].server];
        let ballast = Ballast::new();
        let mut rounds = 0;
        for words in [8, 14, 20, 26, 33, 40] {
            if rounds == 2 {
                break;
            }
            let slots = scene.slots_of(0).await.iter().take(300).collect();
            let (plan, snapshot) = scene.plan(1, &slots).await;
            cut_after(words, plan, &snapshot, &scene.context).await;
            let owned = scene.slots_of(0).await;
            let open = cluster.open_slots().await.expect("asked");
            let number = |flag: &str| flag.trim_start_matches('[').split('-').next()?.parse::<SlotSet>().ok();
            let open: SlotSet = open.iter().filter_map(|(_, flag)| number(flag)?.iter().next()).collect();
            let mut apart = Vec::new();
            for slot in open.iter().filter(|slot| owned.contains(*slot)) {
                let keys = target.call(Command::new("CLUSTER COUNTKEYSINSLOT").arg(slot)).await.expect("counted");
                if matches!(keys, Reply::Int(1..)) {
                    apart.push(slot);
                }
                // The second time the target keeps its flag.
                for node in &[source, target][..2 - rounds] {
                    node.call(Command::new("CLUSTER SETSLOT").arg(slot).arg("STABLE")).await.expect("closed");
                }
            }
            // Some had been given to the target, and the source had not heard so.
            cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
            let owned = scene.slots_of(0).await;
            apart.retain(|slot| owned.contains(*slot));
            let recover = async || {
                migration::recover(&cluster.addresses(), &scene.context).await.expect("the journal is readable")
            };
            if let Some(slot) = apart.first() {
                rounds += 1;
                let mut gone = None;
                for key in (0..KEYS).map(|n| format!("key:{n}")).filter(|key| SlotId::of_key(key.as_bytes()) == *slot) {
                    if source.call(Command::new("EXISTS").arg(&key)).await.expect("said") == Reply::Int(0) {
                        gone = Some(key);
                    }
                }
                let gone = gone.expect("a key has gone to the target");
                source.call(Command::new("SET").arg(&gone).arg("written anew")).await.expect("written");
                let recovery = recover().await;
                let why = recovery.held.iter().find(|(held, _)| held == slot).map(|(_, why)| why.as_str());
                assert!(
                    why.is_some_and(|why| why.contains("`ballast fix` brings them home")),
                    "{kind:?}: {recovery:?}"
                );
                let open = cluster.open_slots().await.expect("asked").len();
                assert_eq!(open, if rounds == 1 { 0 } else { apart.len() }, "{kind:?}: nothing is opened or left open");
                assert_eq!(source.text(Command::new("GET").arg(&gone)).await.expect("a value"), "written anew");
                source.call(Command::new("DEL").arg(&gone)).await.expect("deleted");
                ballast.json(0, &["fix", &url(source), "--yes"]).await;
            }
            let recovery = recover().await;
            assert!(recovery.is_clear(), "{kind:?} after {words}: {recovery:?}");
            assert_eq!(scene.context.journal.unfinished().expect("readable"), Vec::new());
            scene.check_settled().await;
        }
        assert!(rounds > 0, "{kind:?}: some slot had keys on the target");
    }
}

/// Replicas move between shards: who succeeds the source may have followed somebody else when the migration began.
#[tokio::test]
async fn a_source_that_is_succeeded_by_a_newcomer_of_its_shard_holds_nothing_up() {
    for kind in [Kind::Redis70, Kind::Valkey80, Kind::Valkey91] {
        let _turn = turn().await;
        let cluster = start(kind, 1).await;
        let scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
        scene.fill().await;
        let heir = cluster.nodes.iter().find(|node| node.follows == Some(0)).expect("a replica");
        let mut open = Vec::new();
        for words in [8, 14, 20, 26] {
            let slots = scene.slots_of(0).await.iter().take(300).collect();
            let (plan, snapshot) = scene.plan(1, &slots).await;
            cut_after(words, plan, &snapshot, &scene.context).await;
            open = cluster.open_slots().await.expect("asked");
            if !open.is_empty() {
                break;
            }
            migration::recover(&cluster.addresses(), &scene.context).await.expect("the journal is readable");
        }
        assert!(!open.is_empty(), "{kind:?}: something was left open");
        // As the journal has it when the heir was somebody else's replica.
        let journal = MemoryJournal::default();
        for (_, mut intent) in scene.context.journal.unfinished().expect("readable") {
            intent.source_shard.retain(|member| *member != heir.id);
            journal.begin(&intent).expect("noted");
        }
        let mut looks = 0;
        eventually("the heir takes over", Duration::from_secs(60), async || {
            let info = heir.server.text(Command::new("INFO replication")).await.ok()?;
            // Said again, it begins anew: only once it has had its five seconds.
            if !info.contains("role:master") && looks % 12 == 0 {
                drop(heir.server.call(Command::new("CLUSTER FAILOVER")).await);
            }
            looks += 1;
            sleep(Duration::from_millis(500)).await;
            info.contains("role:master").then_some(())
        })
        .await;
        let context = Context { journal: Arc::new(journal), ..scene.context.clone() };
        let recovery = eventually("everything is settled", Duration::from_secs(60), async || {
            let recovery = migration::recover(&cluster.addresses(), &context).await.expect("the journal is readable");
            recovery.is_clear().then_some(recovery)
        })
        .await;
        assert!(!recovery.settled.is_empty(), "{kind:?}: {recovery:?}");
        assert_eq!(context.journal.unfinished().expect("readable"), Vec::new());
        assert_eq!(cluster.open_slots().await.expect("asked"), Vec::new(), "{kind:?}");
        cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let ballast = Ballast::new();
        let record = ballast.home.path().join("record");
        let words = ["verify", &url(&heir.server), "--record", record.to_str().expect("Unicode")];
        assert_eq!(ballast.json(0, &words).await["recorded"], KEYS, "{kind:?}: every key, once and where it belongs");
    }
}

#[tokio::test]
async fn stray_keys_on_the_target_keep_a_slot_where_it_is() {
    let _turn = turn().await;
    let cluster = start(Kind::Redis70, 0).await;
    let scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
    scene.fill().await;
    let slots: SlotSet = scene.slots_of(0).await.iter().take(8).collect();
    let slot = slots.iter().next().expect("a slot");
    let (source, target) = (&cluster.nodes[0], &cluster.nodes[1]);
    // As a migration by hand leaves it: a key on a node that does not own its slot.
    target
        .server
        .call(Command::new("CLUSTER SETSLOT").arg(slot).arg("IMPORTING").arg(&source.id))
        .await
        .expect("importing");
    let key = (0..).map(|n| format!("stray-{n}")).find(|key| SlotId::of_key(key.as_bytes()) == slot).expect("endless");
    let link = target.server.link().await.expect("a link");
    let replies =
        link.call(&[Command::new("ASKING"), Command::new("SET").arg(&key).arg("x")], Duration::from_secs(5)).await;
    assert!(matches!(replies.as_deref(), Ok([_, Reply::Bytes(ok)]) if ok == b"OK"), "{replies:?}");
    target.server.call(Command::new("CLUSTER SETSLOT").arg(slot).arg("STABLE")).await.expect("stable");

    let report = scene.migrate(1, &slots).await;
    assert_eq!(report.moved.len(), 7);
    assert!(
        matches!(&report.stayed[..], [(stayed, reason)] if *stayed == slot && reason.contains("stray")),
        "{report:?}"
    );
    assert_eq!(cluster.open_slots().await.expect("asked"), Vec::new());
}

#[tokio::test]
async fn foreign_open_slots_are_named_and_left_alone() {
    let _turn = turn().await;
    let cluster = start(Kind::Valkey91, 0).await;
    let scene = Scene::new(&cluster, ProtocolChoice::Auto).await;
    let slot = scene.slots_of(0).await.iter().next().expect("a slot");
    let opened = Command::new("CLUSTER SETSLOT").arg(slot).arg("MIGRATING").arg(&cluster.nodes[1].id);
    cluster.nodes[0].server.call(opened).await.expect("migrating");
    let recovery = migration::recover(&cluster.addresses(), &scene.context).await.expect("the journal is readable");
    assert_eq!(recovery.foreign.iter().map(|foreign| foreign.open.slot).collect::<Vec<_>>(), vec![slot]);
    assert_eq!(cluster.open_slots().await.expect("asked").len(), 1, "it is not ours to close");

    let report = scene.migrate(1, &[slot].into_iter().collect()).await;
    assert!(report.moved.is_empty() && report.stayed[0].1.contains("open"), "{report:?}");
}

#[tokio::test]
async fn a_target_without_room_gets_nothing_and_nothing_stays_open() {
    let _turn = turn().await;
    let cluster = start(Kind::Redis70, 0).await;
    let scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
    scene.fill().await;
    let full = Command::new("CONFIG SET maxmemory 1mb maxmemory-policy noeviction");
    cluster.nodes[1].server.call(full).await.expect("set");
    let slots: SlotSet = scene.slots_of(0).await.iter().take(40).collect();
    let report = scene.migrate(1, &slots).await;
    // Slots without keys need no room.
    assert!(report.stayed.len() > 5, "{report:?}");
    assert!(
        report.stayed.iter().all(|(_, reason)| reason.contains("OOM")),
        "the server's reason is passed on: {report:?}"
    );
    assert_eq!(report.keys, 0);
    scene.check_settled().await;
}

async fn moves_a_part_of_a_primary(kind: Kind, protocol: ProtocolChoice, expected: &str) {
    let _turn = turn().await;
    let cluster = start(kind, 1).await;
    let scene = Scene::new(&cluster, protocol).await;
    scene.fill().await;
    let slots: SlotSet = scene.slots_of(0).await.iter().take(500).collect();

    let (stop, writer) = scene.write_meanwhile(slots.clone());
    let report = scene.migrate(1, &slots).await;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.expect("the writer ends");

    assert_eq!((report.protocol.as_str(), &report.moved), (expected, &slots), "{:?}", report.stayed);
    assert!(report.keys > 100 || expected == "atomic", "{report:?}");
    scene.check_settled().await;
    scene.check_values(&written).await;
    assert_eq!(scene.context.journal.unfinished().expect("readable"), Vec::new());
}

async fn start(kind: Kind, replicas: usize) -> LocalCluster {
    let started = match LocalCluster::of(kind) {
        Ok(builder) => builder.replicas(replicas).start().await,
        Err(error) => Err(error),
    };
    started.unwrap_or_else(|error| panic!("{}", chain(&error)))
}
