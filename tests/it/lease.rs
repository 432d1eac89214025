//! Two daemons on one cluster: one acts, the other takes over, and nothing is lost whatever becomes of either or of etcd.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::lab::load::{Client, KeySpace, Load, LoadSettings};
use ballast::lab::{LocalCluster, servers_directory};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::daemon::child::{Daemon, Home, PATIENCE, Settings};
use crate::daemon::{filled, nothing_is_lost, uneven, until_even, until_moving};
use crate::etcd::Etcd;
use crate::support::{eventually, turn};

const KEYS: usize = 20_000;
const TTL: Duration = Duration::from_secs(4);

/// Keys in the cluster, and a load over them that checks every write.
async fn under_load(cluster: &LocalCluster) -> (Load, Arc<Client>, Arc<KeySpace>) {
    let (client, keys) = filled(cluster, KEYS).await;
    let settings = LoadSettings { rate: 300.0, writes: 0.5, ..LoadSettings::default() };
    (Load::start(client.clone(), keys.clone(), &settings), client, keys)
}

/// Gentle, so that there is time to do something to whoever moves slots.
fn settings(etcd: &Etcd, name: &str, ttl: Duration) -> Settings {
    let (url, ttl) = (etcd.url(), ttl.as_secs());
    let lease = format!("[lease]\netcd = ['{url}']\nname = '{name}'\nttl = '{ttl}s'\n");
    Settings { protocol: "classic", pace: "gentle", moves: 96, more: lease, ..Settings::default() }
}

/// Two daemons' homes, which share a lease.
fn homes(cluster: &LocalCluster, etcd: &Etcd, ttl: Duration) -> [Home; 2] {
    ["one", "two"].map(|name| Home::new(cluster.addresses()[0].clone(), &settings(etcd, name, ttl)))
}

/// The same, to be done with.
fn quick(etcd: &Etcd, name: &str) -> Settings {
    Settings { pace: "fast", moves: 16384, ..settings(etcd, name, TTL) }
}

async fn leads(daemon: &Daemon<'_>) {
    daemon
        .until("it leads", |status| (status["lease"]["leads"] == true && status["mode"] == "auto").then_some(()))
        .await;
}

async fn follows(daemon: &Daemon<'_>, leader: &str) {
    let follows = |status: &Value| {
        let lease = &status["lease"];
        (lease["leader"]["name"] == leader && status["mode"] == "follower").then_some(())
    };
    daemon.until(&format!("it follows {leader}"), follows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_daemon_takes_up_the_migration_of_one_that_was_killed_though_its_clock_is_wrong() {
    let _turn = turn().await;
    let (etcd, cluster) = (Etcd::start().await, uneven().await);
    let (load, client, keys) = under_load(&cluster).await;
    let [one, two] = homes(&cluster, &etcd, TTL);
    let first = one.start().await;
    leads(&first).await;
    // By the clock on its wall it is three hours later; by that of the machine, since boot, it is not.
    let library = servers_directory().join("faketime/lib/libfaketime.so.1").canonicalize().expect("it was fetched");
    let library = library.to_str().expect("Unicode");
    let second =
        two.start_with(&[("LD_PRELOAD", library), ("FAKETIME", "+3h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]).await;
    follows(&second, "one").await;
    let ahead = second.status().await["started_at_ms"].as_u64().expect("a time")
        - first.status().await["started_at_ms"].as_u64().expect("a time");
    assert!(ahead > 2 * 3_600_000, "its clock is {ahead} ms ahead");

    until_moving(&first).await;
    eventually("a slot is open", PATIENCE, async || {
        (!cluster.open_slots().await.expect("all answer").is_empty()).then_some(())
    })
    .await;
    let killed = Instant::now();
    first.kill9().await;
    let settled = second.until("it leads and has settled what was open", |status| {
        (status["mode"] == "auto" && !status["recovery"].is_null()).then(|| status["recovery"].clone())
    });
    let recovery = settled.await;
    let took = killed.elapsed();
    println!("taken over and settled after {took:?} of a lease of {TTL:?}: {recovery}");
    assert!(took < 2 * TTL, "taken over after {took:?}");
    assert!(recovery["taken_up"].as_array().is_some_and(|taken_up| !taken_up.is_empty()), "{recovery}");
    assert_eq!(recovery["foreign"], serde_json::json!([]), "its own, by the journal in etcd");

    // Back again, it finds a leader, and its own journal says nothing any more.
    let first = one.start().await;
    follows(&first, "two").await;
    two.configure(&quick(&etcd, "two"));
    until_even(&second).await;
    second.stop().await;
    leads(&first).await;
    first.next_cycle().await;
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
    first.stop().await;
    nothing_is_lost(load, &client, &keys, KEYS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_finds_another_one_and_keeps_its_hands_off() {
    let _turn = turn().await;
    let (etcd, cluster) = (Etcd::start().await, uneven().await);
    let (load, client, keys) = under_load(&cluster).await;
    let [one, two] = homes(&cluster, &etcd, TTL);
    let first = one.start().await;
    leads(&first).await;
    let second = two.start().await;
    follows(&second, "one").await;
    for _ in 0..2 {
        until_moving(&first).await;
        first.signal(Signal::SIGSTOP);
        leads(&second).await;
        // Somebody else has gone on with its work for a while when it wakes up amid it.
        second.next_cycle().await;
        first.signal(Signal::SIGCONT);
        follows(&first, "two").await;
        // And back: the other one is frozen, and this one leads with what it knew from before.
        until_moving(&second).await;
        second.signal(Signal::SIGSTOP);
        leads(&first).await;
        first.next_cycle().await;
        second.signal(Signal::SIGCONT);
        follows(&second, "one").await;
    }
    for home in [(&one, "one"), (&two, "two")] {
        home.0.configure(&quick(&etcd, home.1));
    }
    until_even(&first).await;
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
    let (_, metrics) = second.get_text("/metrics").await;
    assert!(metrics.contains(r#"ballast_mode{mode="follower",cluster="test"} 1"#), "{metrics}");
    first.stop().await;
    second.stop().await;
    nothing_is_lost(load, &client, &keys, KEYS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_nobody_acts_and_what_was_open_is_closed() {
    let _turn = turn().await;
    let (mut etcd, cluster) = (Etcd::start().await, uneven().await);
    let (load, client, keys) = under_load(&cluster).await;
    let home = Home::new(cluster.addresses()[0].clone(), &settings(&etcd, "one", TTL));
    let daemon = home.start().await;
    leads(&daemon).await;
    until_moving(&daemon).await;
    etcd.kill();
    let why = daemon.until("it stops acting", |status| {
        (status["mode"] == "follower").then(|| status["mode_reason"].as_str().unwrap_or_default().to_owned())
    });
    let why = why.await;
    assert!(why.contains("not known who leads") && why.contains("etcd does not answer"), "{why}");
    // In order, while the lease still lasted.
    daemon.until("its moves have ended", |status| status["migrations"].as_array()?.is_empty().then_some(())).await;
    assert_eq!(cluster.open_slots().await.expect("all answer"), [], "{}", daemon.log());
    let (code, refusal) = daemon.post("/api/v1/pause", "{}").await;
    assert_eq!(code, 409, "{refusal}");
    assert!(refusal["error"].as_str().is_some_and(|why| why.contains("does not lead")), "{refusal}");
    etcd.restart().await;
    leads(&daemon).await;
    home.configure(&quick(&etcd, "one"));
    until_even(&daemon).await;
    daemon.stop().await;
    nothing_is_lost(load, &client, &keys, KEYS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_told_the_leader_holds_for_the_next_one_and_an_end_hands_over_at_once() {
    let _turn = turn().await;
    // A lease so long that nobody would see it run out here.
    let ttl = Duration::from_secs(300);
    let (etcd, cluster) = (Etcd::start().await, uneven().await);
    let [one, two] = homes(&cluster, &etcd, ttl);
    let first = one.start().await;
    leads(&first).await;
    let second = two.start().await;
    follows(&second, "one").await;
    let (code, answer) = second.post("/api/v1/pause", r#"{"who": "ann", "reason": "release"}"#).await;
    let refusal = answer["error"].as_str().unwrap_or_default();
    assert!(code == 409 && refusal.contains("one leads; ask the one that does"), "{answer}");

    first.until("it sees the cluster", |status| status["snapshot"]["primaries"].as_u64()).await;
    let (code, answer) = first.post("/api/v1/pause", r#"{"who": "ann", "reason": "release"}"#).await;
    assert_eq!(code, 200, "{answer}");
    let node = cluster.nodes[2].server.address().to_string();
    let (code, answer) = first.post(&format!("/api/v1/nodes/{node}/drain"), r#"{"who": "ann", "force": true}"#).await;
    assert_eq!(code, 200, "{answer}");
    let told = tokio::task::block_in_place(|| {
        let config = two.path().join("daemon.toml");
        Command::new(env!("CARGO_BIN_EXE_ballast"))
            .args(["doctor", "--config"])
            .arg(config)
            .output()
            .expect("it starts")
    });
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("etcd answers, and one leads"), "{told}");
    // Every daemon gives an autoscaler the same answer.
    second.until("it knows of the drain", |status| (status["drains"][0]["who"] == "ann").then_some(())).await;
    first.stop().await;
    let paused = second.until("it leads, and is paused", |status| {
        (status["mode"] == "paused").then(|| status["mode_reason"].as_str().unwrap_or_default().to_owned())
    });
    assert_eq!(paused.await, "paused by ann: release");
    assert_eq!(second.status().await["drains"][0]["who"], "ann");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_believe_that_they_lead_lose_nothing() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let (load, client, keys) = under_load(&cluster).await;
    // No lease at all: each takes itself for the only one.
    let settings = Settings { protocol: "classic", moves: 256, ..Settings::default() };
    let homes = [(); 2].map(|()| Home::new(cluster.addresses()[0].clone(), &settings));
    let daemons = [homes[0].start().await, homes[1].start().await];
    // Whoever meets the other's open slot or a slot that is gone leaves it; at the end all is even.
    let mut stood_back = 0;
    let mut seen = [0, 0];
    loop {
        let mut even = true;
        for (daemon, seen) in daemons.iter().zip(&mut seen) {
            let status = daemon.status().await;
            let last = &status["last_cycle"];
            let cycle = last["cycle"].as_u64().unwrap_or(0);
            let refused = last["outcome"] == "refused" || last["outcome"] == "incomplete";
            if cycle > *seen {
                stood_back += u32::from(refused);
                *seen = cycle;
            }
            if status["mode"] == "halted" {
                // After three cycles in a row that moved nothing, which is what it should do here.
                daemon.post("/api/v1/resume", "{}").await;
            }
            even &= last["outcome"] == "no-change";
        }
        if even {
            break;
        }
        assert!(seen.iter().all(|cycle| *cycle < 200), "they do not come to rest:\n{}", daemons[0].log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{stood_back} cycles stood back, of {seen:?}");
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
    let [first, second] = daemons;
    first.stop().await;
    second.stop().await;
    nothing_is_lost(load, &client, &keys, KEYS).await;
}
