//! How good the estimates are where servers count nothing per slot: the same cluster is watched with and without
//! `CLUSTER SLOT-STATS`, under a Zipf load on keys of log-normal sizes.
//!
//! `cargo bench --bench estimate`. *Misplaced* is the share of the total that the estimate puts on wrong slots: half of
//! the sum of all differences. Beside it the same for the naive estimate, which goes by keys alone. *Rank* is Spearman's correlation
//! of the slots' order with the true one; *node* is how far off the worst node's sum is, as a part of it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its result, and ends at the first trouble"
)]

use std::sync::Arc;
use std::time::Duration;

use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Cluster, Command, Lane, LinkError, Reply};
use ballast::collector::{Collector, Marks, Settings};
use ballast::lab::{Kind, LocalCluster, ServerSettings};
use ballast::model::{Address, MetricSource, SlotId, Snapshot, resource};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KEYS: usize = 20_000;
const READS_PER_ROUND: usize = 30_000;
/// Looks, a second apart: enough for every slot to be sampled and for idle times to spread.
const ROUNDS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster whose servers do not know `SLOT-STATS`.
struct Blind(Arc<dyn Cluster>);

impl Cluster for Blind {
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
        let hide = |(command, reply): (&Command, Reply)| match reply {
            Reply::List(known) if command.words()[0] == b"COMMAND" => Reply::List(vec![Reply::Nil; known.len()]),
            reply => reply,
        };
        let seen = move |replies: Vec<Reply>| commands.iter().zip(replies).map(hide).collect();
        self.0.call(node, lane, commands, patience).map(move |replies| replies.map(seen)).boxed()
    }

    fn credentials(&self) -> Option<(Option<String>, String)> {
        self.0.credentials()
    }
}

#[tokio::main]
async fn main() {
    println!(
        "{:<12} {:<14} {:<10} {:>10} {:>10} {:>6} {:>6} {:>11}",
        "server", "uses known by", "column", "misplaced", "naive", "rank", "node", "confidence"
    );
    for kind in [Kind::Valkey91, Kind::Redis86] {
        for policy in ["noeviction", "allkeys-lfu"] {
            measure(kind, policy).await;
        }
    }
}

async fn measure(kind: Kind, policy: &str) {
    let more = vec![vec!["maxmemory-policy".to_owned(), policy.to_owned()]];
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = LocalCluster::of(kind).unwrap().settings(settings).start().await.unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let sets = (0..KEYS).map(|key| Command::new("SET").arg(key).bytes(vec![b'x'; size(&mut random)]));
    say(&cluster, sets.collect()).await;

    let live: Arc<dyn Cluster> = Arc::new(LiveCluster::new(Access::default()));
    let mut counting = Collector::new(live.clone(), Settings::default());
    let mut guessing = Collector::new(Arc::new(Blind(live)), Settings::default());
    let seeds = cluster.addresses();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    for _ in 1..ROUNDS {
        tick.tick().await;
        counting.collect(&seeds, &Marks::default()).await.unwrap();
        guessing.collect(&seeds, &Marks::default()).await.unwrap();
        say(&cluster, (0..READS_PER_ROUND).map(|_| Command::new("GET").arg(zipf(&mut random))).collect()).await;
    }
    let counted = counting.collect(&seeds, &Marks::default()).await.unwrap();
    let guessed = guessing.collect(&seeds, &Marks::default()).await.unwrap();
    for name in [resource::BYTES, resource::CPU_USEC, resource::NET_OUT] {
        let metric =
            |seen: &Snapshot| seen.metrics.iter().find(|metric| metric.name == format!("slot/{name}")).cloned();
        let (known, estimated) = (metric(&counted).unwrap(), metric(&guessed).unwrap());
        if known.source == MetricSource::Estimated {
            continue;
        }
        let (truth, guess) = (shares(&counted, name), shares(&guessed, name));
        println!(
            "{:<12} {policy:<14} {name:<10} {:>10.2} {:>10.2} {:>6.2} {:>6.2} {:>11.2}",
            format!("{kind:?}"),
            misplaced(&truth, &guess),
            misplaced(&truth, &shares(&guessed, resource::KEYS)),
            rank_correlation(&truth, &guess),
            node_error(&counted, &truth, &guess),
            estimated.confidence
        );
    }
}

/// Spearman's: Pearson's correlation of the ranks. Slots of the same value are in any order.
fn rank_correlation(truth: &[f64], guess: &[f64]) -> f64 {
    let ranks = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
        let mut ranks = vec![0.0; values.len()];
        order.iter().enumerate().for_each(|(rank, slot)| ranks[*slot] = rank as f64);
        ranks
    };
    let (truth, guess) = (ranks(truth), ranks(guess));
    let mean = (truth.len() as f64 - 1.0) / 2.0;
    let spread: f64 = truth.iter().map(|rank| (rank - mean).powi(2)).sum();
    truth.iter().zip(&guess).map(|(one, other)| (one - mean) * (other - mean)).sum::<f64>() / spread
}

/// The largest difference between the true share of a node and the estimated one, as a part of the true one.
fn node_error(snapshot: &Snapshot, truth: &[f64], guess: &[f64]) -> f64 {
    let sums = |values: &[f64]| {
        let mut sums = vec![0.0; snapshot.primaries.len()];
        values.iter().zip(snapshot.owners.as_slice()).for_each(|(value, owner)| sums[*owner as usize] += value);
        sums
    };
    sums(truth).iter().zip(sums(guess)).map(|(truth, guess)| (guess / truth - 1.0).abs()).fold(0.0, f64::max)
}

/// Log-normal, median 200 bytes.
fn size(random: &mut StdRng) -> usize {
    let normal: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    (200.0 * normal.exp()) as usize + 1
}

/// A key by Zipf's law with exponent 1, by inversion of its continuous form.
fn zipf(random: &mut StdRng) -> usize {
    ((KEYS as f64).powf(random.random::<f64>()) as usize - 1) * 7919 % KEYS
}

fn shares(snapshot: &Snapshot, name: &str) -> Vec<f64> {
    let column = snapshot.slot_column(name).unwrap();
    let sum: f64 = column.iter().sum();
    column.iter().map(|value| value / sum).collect()
}

fn misplaced(truth: &[f64], guess: &[f64]) -> f64 {
    truth.iter().zip(guess).map(|(truth, guess)| (truth - guess).abs()).sum::<f64>() / 2.0
}

/// Says each command to the owner of its key, which is its second word.
async fn say(cluster: &LocalCluster, commands: Vec<Command>) {
    let view = cluster.view().await.unwrap();
    for node in &cluster.nodes {
        let owned = &view.iter().find(|seen| seen.id == node.id).unwrap().slots;
        let mine = commands.iter().filter(|command| owned.contains(SlotId::of_key(&command.words()[1]))).cloned();
        let link = node.server.link().await.unwrap();
        for part in mine.collect::<Vec<_>>().chunks(1_000) {
            link.call(part, PATIENCE).await.unwrap();
        }
    }
}
