//! Four times the load, and a quarter of it again: shards come from the standby pool and go back to it, and nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::load::{Client, KeySpace, Load, LoadSettings};
use ballast::lab::{Kind, LocalCluster, Server, ServerSettings};
use serde_json::Value;

use crate::daemon::child::{Daemon, Home, Settings};
use crate::daemon::{filled, nothing_is_lost};
use crate::support::{start, turn};

const KEYS: usize = 4_000;

/// Every request has a server reckon over a value, so that what it takes is the server's work and hardly noise.
fn load(client: &std::sync::Arc<Client>, keys: &std::sync::Arc<KeySpace>, rate: f64) -> Load {
    let settings = LoadSettings { rate, writes: 0.1, scripts: 0.9, skew: 0.0, ..LoadSettings::default() };
    Load::start(client.clone(), keys.clone(), &settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_the_load_takes_shards_from_standby_and_a_quarter_gives_them_back() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let program = Kind::Valkey91.program().expect("fetched");
    let mut spares = Vec::new();
    for _ in 0..2 {
        spares.push(Server::start(&program, &ServerSettings::default()).await.expect("starts"));
    }
    let (client, keys) = filled(&cluster, KEYS).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let balance = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/prebuilt/balance.wasm");
    home.put_policy(&std::fs::read(balance).expect("it is committed"));
    // What is measured follows the load within seconds, and moved slots count again as soon.
    let soon = [
        ("BALLAST_COLLECT__FAST_HALF_LIFE", "2s"),
        ("BALLAST_COLLECT__SLOW_HALF_LIFE", "4s"),
        ("BALLAST_COLLECT__FREEZE", "1s"),
    ];
    let daemon = home.start_with(&soon).await;

    // How much this load is here decides what is much.
    let quiet = load(&client, &keys, 50.0);
    let cores = cores_in_use(&daemon).await;
    let each = cores / 3.0;
    println!("{cores:.4} cores are in use");
    let standby: Vec<String> = spares.iter().map(|spare| format!("'{}'", spare.address())).collect();
    let more = format!(
        "[policy.parameters.size]\ngrow-above = {}\nfill-to = {}\nshrink-below = {}\n\
         [scaling]\nfollow = 'auto'\nmax_shards = 5\nout_after = '2s'\nin_after = '4s'\nrest = '6s'\n\
         [scaling.standby]\nlist = [{}]\n",
        2.0 * each,
        1.5 * each,
        1.2 * each,
        standby.join(", ")
    );
    home.configure(&Settings { more, ..Settings::default() });
    daemon.until("it follows", |status| status["last_cycle"]["scaling"]["wanted"].as_u64()).await;
    for _ in 0..3 {
        daemon.next_cycle().await;
    }
    assert_eq!(shards(&daemon.status().await), 3, "as it is, it is enough");
    nothing_failed(quiet.stop().await);

    let busy = load(&client, &keys, 200.0);
    let grown = daemon.until("five shards serve slots", |status| (serving(status) == 5).then(|| status.clone())).await;
    assert_eq!(shards(&grown), 5);
    let scale = daemon.get("/api/v1/scale").await;
    assert!(scale["desired_shards"].as_u64() == Some(5) && scale["wanted_shards"].as_u64() >= Some(5), "{scale}");
    nothing_failed(busy.stop().await);

    let quiet = load(&client, &keys, 50.0);
    daemon
        .until("three shards are left", |status| {
            (shards(status) == 3 && status["drains"].as_array()?.is_empty()).then_some(())
        })
        .await;
    // They stay: a quarter of the load on three is what it was at the beginning.
    for _ in 0..8 {
        let status = daemon.next_cycle().await;
        assert_eq!(status["scaling"]["growth"].as_u64(), Some(0), "{status:#}");
    }
    assert_eq!(shards(&daemon.status().await), 3);
    // Whoever went is as blank as it came: two of the five are, whichever.
    let all = cluster.nodes.iter().map(|node| &node.server).chain(&spares);
    let mut blank = BTreeSet::new();
    for server in all {
        let known = server.text(Command::new("CLUSTER NODES")).await.expect("answers");
        let keys = server.call(Command::new("DBSIZE")).await.expect("answers");
        if known.lines().count() == 1 {
            assert_eq!(keys, ballast::cluster::Reply::Int(0));
            blank.insert(server.address());
        }
    }
    assert_eq!(blank.len(), 2, "{blank:?}");
    let history = daemon.get("/api/v1/events?limit=200").await;
    let count = |what: &str| {
        let events = history["items"].as_array().into_iter().flatten();
        events.filter(|event| event["event"] == what).count()
    };
    let told = ["introduced", "drain-begun", "emptied", "left"].map(count);
    assert_eq!(told, [2, 2, 2, 2], "{history:#}");
    assert_eq!(count("scale-wanted"), 3, "once out, and in for each: {history:#}");
    daemon.stop().await;
    nothing_is_lost(quiet, &client, &keys, KEYS).await;
}

fn nothing_failed(report: ballast::lab::load::LoadReport) {
    assert_eq!((report.failed, report.stale), (0, 0), "{report:?}");
}

/// By all slots, once it has settled: no more than a twentieth apart in two looks.
async fn cores_in_use(daemon: &Daemon<'_>) -> f64 {
    let mut before = 0.0;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        daemon.next_cycle().await;
        let snapshot = daemon.get("/api/v1/snapshot").await;
        let usec: f64 = numbers(&snapshot["slot_columns"]["cpu-usec"]).sum();
        let now = usec / 1e6;
        if now > 0.0 && (now - before).abs() < 0.05 * now {
            return now;
        }
        before = now;
    }
}

/// The numbers of a column, however it is written.
fn numbers(column: &Value) -> impl Iterator<Item = f64> {
    column.as_array().into_iter().flatten().filter_map(Value::as_f64)
}

/// Primaries that there are.
fn shards(status: &Value) -> usize {
    status["nodes"].as_array().map_or(0, Vec::len)
}

/// Primaries that own a fair number of slots.
fn serving(status: &Value) -> usize {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.filter(|node| node["slots"].as_u64() > Some(100)).count()
}
