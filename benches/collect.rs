//! What collecting costs the servers: the cpu of each node's main thread per look, as a share of the default interval.
//!
//! `cargo bench --bench collect` fetches nothing and builds nothing but itself; `make servers` first. A cluster of
//! three primaries per server version, a hundred thousand keys, looks in a row after a first one. An idle server's own
//! work over the same time is measured before and taken off.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its result, and ends at the first trouble"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Cluster, Command, ask, question::Info};
use ballast::collector::{Collector, Marks, Settings};
use ballast::lab::{Kind, LocalCluster};
use ballast::model::{Address, SlotId};

const KEYS: usize = 100_000;
const LOOKS: u32 = 20;
/// The daemon's default cycle.
const INTERVAL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    println!("{:<14} {:>9} {:>14} {:>14}", "server", "look ms", "node cpu ms", "% of interval");
    let mut worst: f64 = 0.0;
    for kind in [Kind::Redis62, Kind::Redis70, Kind::Redis86, Kind::Valkey80, Kind::Valkey91] {
        worst = worst.max(measure(kind).await);
    }
    assert!(worst < 1.0, "collecting costs {worst:.2}% of a node's cpu; 1% is the limit");
}

/// Measures one kind of server; the largest share of the interval that a node spent, in percent.
async fn measure(kind: Kind) -> f64 {
    let cluster = LocalCluster::of(kind).unwrap().start().await.unwrap();
    fill(&cluster).await;
    let live: Arc<dyn Cluster> = Arc::new(LiveCluster::new(Access::default()));
    let mut collector = Collector::new(live.clone(), Settings::default());
    let nodes = cluster.addresses();
    collector.collect(&nodes, &Marks::default()).await.unwrap();

    let started = Instant::now();
    let before = cpu(&*live, &nodes).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle_seconds = started.elapsed().as_secs_f64();
    let idle: Vec<f64> = cpu(&*live, &nodes).await.iter().zip(&before).map(|(after, before)| after - before).collect();

    let started = Instant::now();
    let before = cpu(&*live, &nodes).await;
    for _ in 0..LOOKS {
        collector.collect(&nodes, &Marks::default()).await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = cpu(&*live, &nodes).await;
    let per_look = after
        .iter()
        .zip(&before)
        .zip(&idle)
        .map(|((after, before), idle)| (after - before - idle * seconds / idle_seconds) / f64::from(LOOKS));
    let most = per_look.fold(0.0, f64::max);
    let share = 100.0 * most / INTERVAL.as_secs_f64();
    let look_ms = 1e3 * seconds / f64::from(LOOKS);
    println!("{:<14} {look_ms:>9.1} {:>14.2} {share:>13.3}%", kind.to_string(), 1e3 * most);
    share
}

async fn fill(cluster: &LocalCluster) {
    let view = cluster.view().await.unwrap();
    for node in &cluster.nodes {
        let owned = &view.iter().find(|seen| seen.id == node.id).unwrap().slots;
        let keys = (0..KEYS).map(|number| format!("key:{number}"));
        let sets = keys
            .filter(|key| owned.contains(SlotId::of_key(key.as_bytes())))
            .map(|key| Command::new("SET").arg(key).bytes(vec![b'x'; 100]));
        let link = node.server.link().await.unwrap();
        for part in sets.collect::<Vec<_>>().chunks(1_000) {
            link.call(part, PATIENCE).await.unwrap();
        }
    }
}

/// Seconds of cpu of each node's main thread.
async fn cpu(cluster: &dyn Cluster, nodes: &[Address]) -> Vec<f64> {
    let mut seconds = Vec::new();
    for node in nodes {
        seconds.push(ask(cluster, node, &Info, PATIENCE).await.unwrap().cpu_seconds().unwrap());
    }
    seconds
}
