//! Nodes that are taken out: emptied by the policy, their replicas re-homed, forgotten everywhere, and nothing lost.

use ballast::cluster::Command;
use ballast::lab::load::{Load, LoadSettings};
use ballast::lab::{Kind, LocalCluster, ServerSettings};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::daemon::child::{Daemon, Home, PATIENCE, Settings};
use crate::daemon::{filled, nothing_is_lost};
use crate::support::{eventually, start, turn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_redis_7_0_is_emptied_and_forgotten_under_load() {
    is_emptied_and_forgotten_under_load(Kind::Redis70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_redis_8_6_is_emptied_and_forgotten_under_load() {
    is_emptied_and_forgotten_under_load(Kind::Redis86).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_valkey_9_1_is_emptied_and_forgotten_under_load() {
    is_emptied_and_forgotten_under_load(Kind::Valkey91).await;
}

const KEYS: usize = 4_000;

async fn is_emptied_and_forgotten_under_load(kind: Kind) {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.primaries(4).replicas(1))).await;
    let (client, keys) = filled(&cluster, KEYS).await;
    let settings = LoadSettings { rate: 300.0, writes: 0.5, ..LoadSettings::default() };
    let load = Load::start(client.clone(), keys.clone(), &settings);

    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let daemon = home.start().await;
    daemon.until("it sees four primaries", |status| (status["nodes"].as_array()?.len() == 4).then_some(())).await;
    let leaver = &cluster.nodes[3];
    let address = leaver.server.address().to_string();
    let (code, answer) = terminable(&daemon, &address).await;
    assert_eq!(code, 409, "{answer}");
    assert!(answer["error"].as_str().is_some_and(|why| why.contains("owns 4096 slots")), "{answer}");
    assert_eq!(scale(&daemon).await, (4, 4));

    let told = block_in_place(|| {
        daemon.ballast(&["drain", &address, "--forget", "--wait", "--timeout", "20s", "--reason", "too many"])
    });
    assert!(told.contains(&format!("{address} is empty and has left the cluster")), "{told}");
    eventually("three shards are left and wanted", PATIENCE, async || (scale(&daemon).await == (3, 3)).then_some(()))
        .await;
    let (code, answer) = terminable(&daemon, &address).await;
    assert_eq!((code, &answer["terminable"]), (200, &json!(true)), "{answer}");

    // Nobody knows it any more, and it knows nobody.
    for node in cluster.nodes.iter().filter(|node| node.id != leaver.id) {
        let known = node.server.text(Command::new("CLUSTER NODES")).await.expect("answers");
        assert!(!known.contains(leaver.id.as_str()), "{} still knows it:\n{known}", node.server.address());
    }
    let known = leaver.server.text(Command::new("CLUSTER NODES")).await.expect("answers");
    assert_eq!(known.lines().count(), 1, "{known}");
    // Its replica follows one that stays, and in sync: seven nodes are left, three of them primaries.
    eventually("all replicas are in sync with those that stay", PATIENCE, async || {
        let status = daemon.status().await;
        let nodes = status["nodes"].as_array()?;
        let replicas: f64 = nodes.iter().filter_map(|node| node["replicas"].as_f64()).sum();
        (nodes.len() == 3 && replicas == 4.0).then_some(())
    })
    .await;
    let history = daemon.get("/api/v1/events?limit=100").await;
    let happened = |what: &str| {
        let mut events = history["items"].as_array().into_iter().flatten();
        events.any(|event| event["event"] == what && event["address"] == address.as_str())
    };
    assert!(happened("drain-begun") && happened("emptied") && happened("left"), "{history:#}");
    assert_eq!(daemon.status().await["drains"], json!([]), "it is done with");
    daemon.stop().await;

    nothing_is_lost(load, &client, &keys, KEYS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_says_what_keeps_it_survives_a_restart_and_can_be_taken_back() {
    let _turn = turn().await;
    // Else the servers make a replica of a primary that loses its last slot.
    let stays = vec![["cluster-allow-replica-migration", "no"].map(str::to_owned).to_vec()];
    let settings = ServerSettings { more: stays, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.primaries(4).settings(settings))).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("it sees four primaries", |status| (status["nodes"].as_array()?.len() == 4).then_some(())).await;
    let address = cluster.nodes[1].server.address().to_string();
    let path = format!("/api/v1/nodes/{address}/drain");

    let (code, answer) = daemon.post(&path, r#"{"reason": "old machine", "who": "ann"}"#).await;
    assert_eq!(code, 200, "{answer}");
    let drain = daemon.get(&path).await;
    assert_eq!(
        (&drain["who"], &drain["blocked_by"]),
        (&json!("ann"), &json!("nothing moves in mode dry-run")),
        "{drain}"
    );
    // Another one would leave two.
    let other = cluster.nodes[2].server.address();
    daemon
        .until("it is seen draining", |status| tags(status, &address).contains(&json!("draining")).then_some(()))
        .await;
    let (code, refusal) = daemon.post(&format!("/api/v1/nodes/{other}/drain"), "").await;
    assert_eq!(code, 409, "{refusal}");
    assert!(refusal["error"].as_str().is_some_and(|why| why.contains("scaling.min_shards is 3")), "{refusal}");
    let (code, refusal) = daemon.post("/api/v1/nodes/nobody:1/drain", "").await;
    assert!(
        code == 409 && refusal["error"].as_str().is_some_and(|why| why.contains("no primary is called")),
        "{refusal}"
    );
    daemon.stop().await;

    home.configure(&Settings::default());
    let daemon = home.start().await;
    daemon.until("it is empty", |status| (slots(status, &address)? == 0).then_some(())).await;
    // Empty, and not to be forgotten: it stays, gets nothing, and may be taken away.
    daemon.next_cycle().await;
    assert_eq!(scale(&daemon).await, (4, 3));
    assert_eq!(terminable(&daemon, &address).await.0, 200);
    let (_, metrics) = daemon.get_text("/metrics").await;
    let shown = [
        r#"ballast_shards_desired{cluster="test"} 3"#.to_owned(),
        format!(r#"ballast_node_safe_to_terminate{{node="{address}",cluster="test"}} 1"#),
    ];
    shown.iter().for_each(|line| assert!(metrics.contains(line), "no {line} in {metrics}"));

    let told = block_in_place(|| daemon.ballast(&["undrain", &address, "--reason", "needed after all"]));
    assert!(told.contains("may have slots again"), "{told}");
    daemon.until("it has its part again", |status| (slots(status, &address)? > 4000).then_some(())).await;
    assert_eq!(scale(&daemon).await, (4, 4));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_last_pod_of_a_set_is_taken_away_names_decide_who_goes_and_how_many_are_wanted() {
    let _turn = turn().await;
    let stays = vec![["cluster-allow-replica-migration", "no"].map(str::to_owned).to_vec()];
    let settings = ServerSettings { more: stays, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.primaries(5).settings(settings))).await;
    for (ordinal, node) in cluster.nodes.iter().enumerate() {
        let named = Command::new("CONFIG SET cluster-announce-hostname").arg(format!("valkey-{ordinal}.valkey.svc"));
        node.server.call(named).await.expect("named");
    }
    let scaling = |more: &str| format!("[scaling]\nvictim = 'highest-ordinal'\n{more}");
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { more: scaling(""), ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("it sees five primaries", |status| (status["nodes"].as_array()?.len() == 5).then_some(())).await;
    eventually("all names are known", PATIENCE, async || {
        let snapshot = daemon.get("/api/v1/snapshot").await;
        let named = snapshot["primaries"].as_array()?.iter().filter(|node| node["hostname"].is_string()).count();
        (named == 5).then_some(())
    })
    .await;
    let last = cluster.nodes[4].server.address().to_string();
    let drain = |name: &str| format!("/api/v1/nodes/{name}/drain");
    let (code, refusal) = daemon.post(&drain("valkey-1.valkey.svc"), "").await;
    assert!(code == 409 && refusal["error"].as_str().is_some_and(|why| why.contains(&last)), "{refusal}");

    let (code, answer) = daemon.post(&drain("valkey-4.valkey.svc"), r#"{"forget": true}"#).await;
    assert_eq!(code, 200, "{answer}");
    let (code, status) = daemon.get_text(&drain("valkey-4.valkey.svc")).await;
    assert!(code == 200 || status.contains("not being drained"), "by the same name, unless it has left: {status}");
    eventually("the last one has left", PATIENCE, async || (scale(&daemon).await == (4, 4)).then_some(())).await;

    // What is emptied below the last one is a pod all the same: who obeys the number must not be led to the last one.
    let first = cluster.nodes[1].server.address().to_string();
    let emptied = format!("[[node]]\nmatch = '{first}'\ndrain = true\n");
    home.configure(&Settings { more: scaling(&emptied), ..Settings::default() });
    daemon.until("it is empty", |status| (slots(status, &first)? == 0).then_some(())).await;
    daemon.next_cycle().await;
    assert_eq!(scale(&daemon).await, (4, 4));
    let (code, answer) = terminable(&daemon, "valkey-3.valkey.svc:1").await;
    assert!(code == 200, "another port is another node: {answer}");
    let port = cluster.nodes[3].server.address().port;
    let (code, answer) = terminable(&daemon, &format!("valkey-3.valkey.svc:{port}")).await;
    assert!(code == 409 && answer["error"].as_str().is_some_and(|why| why.contains("slots")), "{answer}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_though_a_replica_is_gone_for_good_and_a_dead_one_is_not_said_to_have_left() {
    let _turn = turn().await;
    let mut cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.primaries(4).replicas(1))).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("it sees four primaries", |status| (status["nodes"].as_array()?.len() == 4).then_some(())).await;
    let address = cluster.nodes[3].server.address().to_string();
    let path = format!("/api/v1/nodes/{address}/drain");
    let (code, answer) = daemon.post(&path, r#"{"forget": true}"#).await;
    assert_eq!(code, 200, "{answer}");

    // It dies with all its slots: they are its replica's now, and nobody emptied anything.
    cluster.nodes[3].server.kill9();
    let leaver = &cluster.nodes[3];
    daemon
        .until("its replica serves", |status| {
            let nodes = status["nodes"].as_array()?;
            (nodes.len() == 4 && nodes.iter().all(|node| node["address"] != address.as_str())).then_some(())
        })
        .await;
    daemon.next_cycle().await;
    let drain = daemon.get(&path).await;
    assert_eq!(drain["slots_left"], json!(0), "{drain}");
    let history = daemon.get("/api/v1/events?limit=100").await;
    let happened = |what: &str| {
        let mut events = history["items"].as_array().into_iter().flatten();
        events.any(|event| event["event"] == what)
    };
    assert!(!happened("emptied") && !happened("left"), "{history:#}");
    daemon.stop().await;

    // In auto it is waited for, for as long as a restart may take; ten minutes later it is not.
    home.configure(&Settings::default());
    let daemon = home.start().await;
    let why = daemon
        .until("it says what it waits for", |status| {
            Some(status["drains"][0]["blocked_by"].as_str()?.to_owned()).filter(|why| why.contains("failed"))
        })
        .await;
    assert!(why.contains(&address), "{why}");
    daemon.stop().await;
    home.age_drains(std::time::Duration::from_secs(601));
    let daemon = home.start().await;
    daemon.until("it has left", |status| status["drains"].as_array()?.is_empty().then_some(())).await;
    for node in cluster.nodes.iter().filter(|node| node.id != leaver.id) {
        let known = node.server.text(Command::new("CLUSTER NODES")).await.expect("answers");
        assert!(!known.contains(leaver.id.as_str()), "{} still knows it:\n{known}", node.server.address());
    }
    daemon.stop().await;
}

/// Shards that there are, and that are wanted.
async fn scale(daemon: &Daemon<'_>) -> (u64, u64) {
    let scale = daemon.get("/api/v1/scale").await;
    let number = |name: &str| scale[name].as_u64().expect("a number");
    (number("shards"), number("desired_shards"))
}

async fn terminable(daemon: &Daemon<'_>, address: &str) -> (u16, Value) {
    let (code, text) = daemon.get_text(&format!("/api/v1/nodes/{address}/terminable")).await;
    (code, serde_json::from_str(&text).expect("a document"))
}

fn row<'s>(status: &'s Value, address: &str) -> Option<&'s Value> {
    status["nodes"].as_array()?.iter().find(|node| node["address"] == address)
}

fn tags(status: &Value, address: &str) -> Vec<Value> {
    row(status, address).and_then(|node| node["tags"].as_array().cloned()).unwrap_or_default()
}

fn slots(status: &Value, address: &str) -> Option<u64> {
    row(status, address)?["slots"].as_u64()
}
