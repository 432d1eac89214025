//! Flags that a migration left behind on a node that missed its end: the daemon clears its own, and leaves others to a person.
//!
//! A replica that synchronises anew while a slot is open keeps the flag (docs/traps.md, 10). Here it is written into the file that
//! a server reads at its start, which comes to the same and can be done at will.

use std::fs;

use ballast::cluster::Command;
use ballast::lab::{Kind, LocalCluster, Role};
use ballast::model::NodeId;
use serde_json::{Value, json};

use crate::daemon::child::{Daemon, Home, PATIENCE, Settings};
use crate::support::{eventually, start, turn};

/// Valkey's replicas take the word that closes a slot, also when it closes nothing on their primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_on_a_replica_is_cleared_by_way_of_its_primary() {
    let _turn = turn().await;
    let mut cluster =
        start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.primaries(3).replicas(1).empty(1))).await;
    // An atomic migration sets no flags.
    let settings = Settings { protocol: "classic", ..Settings::default() };
    let home = Home::new(cluster.addresses()[0].clone(), &settings);
    let daemon = home.start().await;
    let (slot, source, target) = a_move(&daemon).await;
    // The target has no replica yet.
    let target = place(&cluster, &target);
    let replica = add_replica(&mut cluster, target, &daemon).await;
    leave_a_flag(&mut cluster, replica, &format!("[{slot}-<-{source}]")).await;
    eventually("the flag is cleared", PATIENCE, async || cluster.open_slots().await.ok()?.is_empty().then_some(()))
        .await;
    // It is told once a look has shown that it is so.
    let told = told_of(&daemon).await;
    assert_eq!((told.len(), &told[0]["slots"]), (1, &json!(slot.to_string())), "{told:?}");
    daemon.stop().await;
}

/// Redis tells its replicas nothing of slots: the flag waits until the replica leads, and would stop every move then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_that_a_new_primary_brings_along_is_cleared_if_it_is_ours_and_reported_if_not() {
    let _turn = turn().await;
    let mut cluster = start(LocalCluster::of(Kind::Redis70).map(|builder| builder.primaries(3).empty(1))).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let daemon = home.start().await;
    let (slot, source, target) = a_move(&daemon).await;
    let target = place(&cluster, &target);
    let replica = add_replica(&mut cluster, target, &daemon).await;
    leave_a_flag(&mut cluster, replica, &format!("[{slot}-<-{source}]")).await;
    promote(&cluster, replica).await;
    eventually("the flag is cleared", PATIENCE, async || cluster.open_slots().await.ok()?.is_empty().then_some(()))
        .await;
    assert_eq!(told_of(&daemon).await.len(), 1);

    // The other way round no migration of ours went: it stays, and stops what would move.
    let flag = Command::new("CLUSTER SETSLOT").arg(slot).arg("IMPORTING").arg(&cluster.nodes[replica].id);
    cluster.nodes[place(&cluster, &source)].server.call(flag).await.expect("taken");
    let cycle = daemon.status().await["last_cycle"]["cycle"].as_u64().expect("a number");
    daemon
        .until("three cycles more", |status| (status["last_cycle"]["cycle"].as_u64()? > cycle + 3).then_some(()))
        .await;
    assert_eq!(cluster.open_slots().await.expect("asked").len(), 1, "it is nobody's but a person's");
    assert_eq!(cleared(&daemon).await.len(), 1);
    daemon.stop().await;
}

/// A slot that the daemon has moved to the empty node, with its ends.
async fn a_move(daemon: &Daemon<'_>) -> (u16, NodeId, NodeId) {
    eventually("slots were moved", PATIENCE, async || {
        let journal = daemon.get("/api/v1/journal?limit=100").await;
        let entries = journal["items"].as_array()?;
        let entry = entries.iter().find(|entry| entry["ending"].is_string())?;
        let all_ended = entries.iter().all(|entry| entry["ending"].is_string());
        let first = entry["intent"]["slots"].as_str()?.split(['-', ',', ' ']).next()?.parse().ok()?;
        let end = |name: &str| entry["intent"][name].as_str()?.parse().ok();
        all_ended.then_some(())?;
        Some((first, end("source")?, end("target")?))
    })
    .await
}

/// While the daemon holds still: it would give slots to a node that is not yet a replica.
async fn add_replica(cluster: &mut LocalCluster, target: usize, daemon: &Daemon<'_>) -> usize {
    daemon.post("/api/v1/pause", "").await;
    let replica = cluster.add_replica(target).await.expect("a replica");
    daemon.post("/api/v1/resume", "").await;
    replica
}

fn place(cluster: &LocalCluster, id: &NodeId) -> usize {
    cluster.nodes.iter().position(|node| node.id == *id).expect("it is ours")
}

/// Starts a node anew with a flag in its file.
async fn leave_a_flag(cluster: &mut LocalCluster, place: usize, flag: &str) {
    let node = &mut cluster.nodes[place];
    let file = node.server.directory().join("nodes.conf");
    node.server.kill9();
    let text = fs::read_to_string(&file).expect("its file");
    let flagged = |line: &str| if line.contains("myself") { format!("{line} {flag}") } else { line.to_owned() };
    let text: Vec<String> = text.lines().map(flagged).collect();
    fs::write(&file, text.join("\n") + "\n").expect("writable");
    node.server.restart().await.expect("it starts again");
    let open = cluster.nodes[place].view().await.expect("a view");
    let own = open.iter().find(|seen| seen.id == cluster.nodes[place].id).expect("itself");
    assert!(!own.open.is_empty(), "it did not keep {flag}: {own:?}");
}

async fn promote(cluster: &LocalCluster, place: usize) {
    let node = &cluster.nodes[place];
    eventually("it leads its shard", PATIENCE, async || {
        let view = node.view().await.ok()?;
        let leads = view.iter().any(|seen| seen.id == node.id && seen.role == Role::Primary);
        if !leads {
            // Its link to the primary takes its time, and there is no key to lose.
            drop(node.server.call(Command::new("CLUSTER FAILOVER TAKEOVER")).await);
        }
        leads.then_some(())
    })
    .await;
}

/// The same, once there is any.
async fn told_of(daemon: &Daemon<'_>) -> Vec<Value> {
    let any = async || Some(cleared(daemon).await).filter(|told| !told.is_empty());
    eventually("it is told", PATIENCE, any).await
}

async fn cleared(daemon: &Daemon<'_>) -> Vec<Value> {
    let events = daemon.get("/api/v1/events?limit=1000").await;
    let items = events["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().filter(|event| event["event"] == "flags-cleared").collect()
}
