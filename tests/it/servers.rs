//! The lab itself: every kind of server forms a cluster, serves it, and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ballast::cluster::{Command, Reply};
use ballast::lab::{Kind, LocalCluster, Node, Program};
use ballast::model::SlotId;

use crate::support::{chain, eventually, start, turn};

#[tokio::test]
async fn redis_6_2_forms_a_cluster_and_leaves_nothing_behind() {
    forms_serves_and_leaves_nothing(Kind::Redis62).await;
}

#[tokio::test]
async fn redis_7_0_forms_a_cluster_and_leaves_nothing_behind() {
    forms_serves_and_leaves_nothing(Kind::Redis70).await;
}

#[tokio::test]
async fn redis_8_6_forms_a_cluster_and_leaves_nothing_behind() {
    forms_serves_and_leaves_nothing(Kind::Redis86).await;
}

#[tokio::test]
async fn valkey_8_0_forms_a_cluster_and_leaves_nothing_behind() {
    forms_serves_and_leaves_nothing(Kind::Valkey80).await;
}

#[tokio::test]
async fn valkey_9_1_forms_a_cluster_and_leaves_nothing_behind() {
    forms_serves_and_leaves_nothing(Kind::Valkey91).await;
}

#[tokio::test]
async fn valkey_9_with_tls_forms_a_cluster_and_leaves_nothing_behind() {
    forms_serves_and_leaves_nothing(Kind::Valkey9Tls).await;
}

async fn forms_serves_and_leaves_nothing(kind: Kind) {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.replicas(1))).await;
    let slot = SlotId::of_key(b"greeting");
    let owner = cluster.owner_of(slot).await.expect("a view").expect("every slot has an owner");
    let owner = &cluster.nodes.iter().find(|node| node.id == owner).expect("the owner is ours").server;
    owner.call(Command::new("SET greeting hello")).await.expect("the owner takes writes");
    assert_eq!(owner.text(Command::new("GET greeting")).await.expect("a value"), "hello");

    let left = left_behind(&cluster);
    assert_eq!(left.len(), 6);
    assert!(left.iter().all(|(process, directory)| process.exists() && directory.exists()));
    drop(cluster);
    for (process, directory) in left {
        assert!(!process.exists() && !directory.exists(), "{} or {} remains", process.display(), directory.display());
    }
}

#[tokio::test]
async fn a_cluster_of_mixed_versions_takes_in_a_primary() {
    let _turn = turn().await;
    let kinds = [Kind::Redis62, Kind::Redis70, Kind::Valkey91];
    let mut cluster = start(LocalCluster::mixed(&kinds)).await;
    let place = cluster.add_primary().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let view = cluster.nodes[place].view().await.expect("a view");
    assert_eq!(view.len(), 4, "the newcomer knows all");
    assert!(view.iter().any(|node| node.id == cluster.nodes[place].id && node.slots.is_empty()));
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_as_the_same_node() {
    let _turn = turn().await;
    let timeout = Duration::from_secs(1);
    let mut cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.node_timeout(timeout))).await;
    let id = cluster.nodes[1].id.clone();
    cluster.nodes[1].server.kill9();
    eventually("the others suspect it", Duration::from_secs(20), async || {
        let view = cluster.nodes[0].view().await.ok()?;
        view.iter().any(|node| node.id == id && !node.is_well()).then_some(())
    })
    .await;
    cluster.nodes[1].server.restart().await.expect("it starts again");
    cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(cluster.nodes[1].server.text(Command::new("CLUSTER MYID")).await.expect("an id"), id.to_string());
    assert!(matches!(cluster.nodes[1].server.call(Command::new("DBSIZE")).await, Ok(Reply::Int(0))));
}

/// What each node has on this machine: its place in /proc, and its directory.
fn left_behind(cluster: &LocalCluster) -> Vec<(PathBuf, PathBuf)> {
    let of = |node: &Node| {
        let pid = node.server.pid().expect("it runs");
        (Path::new("/proc").join(pid.to_string()), node.server.directory().to_owned())
    };
    cluster.nodes.iter().map(of).collect()
}

#[test]
fn a_server_that_was_not_fetched_is_named_with_the_fix() {
    let missing = Program::at(Path::new("no/such/server")).expect_err("it is not there");
    assert!(chain(&missing).starts_with("cannot run no/such/server"), "{}", chain(&missing));
}
