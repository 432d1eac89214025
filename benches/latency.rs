//! What clients feel while slots move: ours at each pace beside `redis-cli`, and beside a bare order to move all at once.
//!
//! `make bench-latency`; `BALLAST_BENCH_ONLY=redis-7.0` runs rows whose names begin so, `BALLAST_BENCH_MOVERS=default,cli`
//! those movers, `BALLAST_BENCH_PAIRS=5` sets how many pairs are measured, `BALLAST_BENCH_KEYS`, `BALLAST_BENCH_RATE` the
//! data and the load.
//!
//! The load is open: 2,000 requests a second are due at their instants, whatever became of earlier ones, and latency counts
//! from there. Each pair is a quiet stretch and one in which a quarter of the slots moves to a fourth primary and back until
//! enough requests were due *meanwhile*. A figure is the median of the pairs; the longest stall is that of all of them.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints its result, and ends at the first trouble"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::lab::load::{Client, KeySpace, Latency, Load, LoadReport, LoadSettings, Phase, find_duplicates, verify};
use ballast::lab::{Kind, LocalCluster, ServerSettings};
use ballast::migration::{Pace, ProtocolChoice, Settings};
use ballast::model::SlotSet;

use common::data::{Data, fill};
use common::{Step, bare, movers, quarter};

/// Keys that the load asks for; they lie among those that only fill the servers.
const ASKED_KEYS: usize = 20_000;
/// Keys of 100 bytes that fill the servers: sixty for each slot.
const KEYS: usize = 1_000_000;
/// The first requests of a load meet cold connections and sleeping processors.
const WARM_UP: Duration = Duration::from_millis(500);
/// Requests due while slots move, over all pairs.
const REQUESTS: f64 = 20_000.0;

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    kind: Kind,
    protocol: ProtocolChoice,
    /// The package whose command line is the peer.
    peer: Kind,
}

const ROWS: [Row; 5] = {
    use Kind::{Redis70, Redis86, Valkey9Tls, Valkey80, Valkey91};
    use ProtocolChoice::{Auto, Classic};
    [
        Row { name: "redis-7.0", kind: Redis70, protocol: Classic, peer: Redis70 },
        Row { name: "valkey-8.0", kind: Valkey80, protocol: Classic, peer: Valkey80 },
        Row { name: "valkey-9.1 classic", kind: Valkey91, protocol: Classic, peer: Valkey9Tls },
        Row { name: "valkey-9.1 atomic", kind: Valkey91, protocol: Auto, peer: Valkey9Tls },
        Row { name: "redis-8.6 atomic", kind: Redis86, protocol: Auto, peer: Redis86 },
    ]
};

/// Who moves the slots.
#[derive(Clone, Copy, PartialEq)]
enum Mover {
    Ours(Pace),
    Cli,
    /// All slots of a source in one atomic job, all sources at once.
    Bare,
}

const MOVERS: [(&str, Mover); 5] = [
    ("gentle", Mover::Ours(Pace::Gentle)),
    ("default", Mover::Ours(Pace::Default)),
    ("fast", Mover::Ours(Pace::Fast)),
    ("cli", Mover::Cli),
    ("bare", Mover::Bare),
];

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[tokio::main]
async fn main() {
    let only = std::env::var("BALLAST_BENCH_ONLY").unwrap_or_default();
    let wanted = std::env::var("BALLAST_BENCH_MOVERS").unwrap_or_default();
    println!(
        "{:<20} {:<8} {:>8} {:>17} {:>19} {:>19} {:>10} {:>9} {:>6}",
        "servers",
        "mover",
        "keys/s",
        "p50 quiet/moving",
        "p99 quiet/moving",
        "p99.9 quiet/moving",
        "longest",
        "requests",
        "failed"
    );
    for row in ROWS.iter().filter(|row| row.name.starts_with(&only)) {
        for (name, mover) in
            MOVERS.iter().filter(|(name, _)| wanted.is_empty() || wanted.split(',').any(|one| one == *name))
        {
            if *mover != Mover::Bare || row.protocol == ProtocolChoice::Auto {
                row.measure(name, *mover).await;
            }
        }
    }
}

/// A quiet stretch and a moving one.
struct Pair {
    quiet: Latency,
    moving: Latency,
    keys: u64,
    took: Duration,
}

impl Row {
    async fn measure(&self, name: &str, mover: Mover) {
        let settings = ServerSettings {
            // The fourth primary is emptied again and again, and shall stay one.
            more: vec![vec!["cluster-allow-replica-migration".into(), "no".into()]],
            ..ServerSettings::default()
        };
        let builder = LocalCluster::of(self.kind).unwrap().primaries(3).empty(1).settings(settings);
        let cluster = builder.start().await.unwrap();
        fill(&cluster.nodes[..3], Data::Strings(number("BALLAST_BENCH_KEYS", KEYS), 100)).await;
        let client = Arc::new(Client::connect(&cluster.addresses(), None).await.unwrap());
        let keys = Arc::new(KeySpace::new(ASKED_KEYS, 1, SlotSet::default()));
        keys.fill(&client).await.unwrap();
        let there = quarter(&cluster, 3).await;
        let back: Vec<Step> = there
            .iter()
            .map(|step| Step { source: step.target, target: step.source, slots: step.slots.clone() })
            .collect();

        let count = number("BALLAST_BENCH_PAIRS", 5);
        let rate = number("BALLAST_BENCH_RATE", 2000) as f64;
        let stretch = Duration::from_secs_f64(REQUESTS / rate / count as f64);
        let (mut pairs, mut failed) = (Vec::new(), 0);
        for _ in 0..count {
            let load = Load::start(client.clone(), keys.clone(), &LoadSettings { rate, ..LoadSettings::default() });
            load.enter(None);
            tokio::time::sleep(WARM_UP).await;
            load.enter(Phase::Idle);
            tokio::time::sleep(stretch).await;
            load.enter(None);
            let (mut moved, mut took) = (0, Duration::ZERO);
            let mut steps = [&there, &back].into_iter().cycle();
            while took < stretch {
                for steps in steps.by_ref().take(2) {
                    took += self.move_slots(mover, &cluster, steps, &load).await;
                    moved += 1;
                }
            }
            let report = load.stop().await;
            let latency = |phase| latency(&report, phase);
            failed += report.failed + report.stale;
            if let Some(complaint) = &report.complaint {
                println!("  {complaint}");
            }
            let keys = moved * (number("BALLAST_BENCH_KEYS", KEYS) + ASKED_KEYS) as u64 / 4;
            pairs.push(Pair { quiet: latency(Phase::Idle), moving: latency(Phase::Migrating), keys, took });
        }
        assert_eq!(verify(&client, &keys).await.unwrap().lost, 0, "{name}: writes were lost");
        assert_eq!(find_duplicates(&client, &keys).await.unwrap().single, ASKED_KEYS, "{name}: keys are astray");
        self.print(name, &pairs, failed);
    }

    /// Requests that fall due meanwhile count as such; looking and planning beforehand is neither moving nor quiet.
    async fn move_slots(&self, mover: Mover, cluster: &LocalCluster, steps: &[Step], load: &Load) -> Duration {
        cluster.wait_until_agreed().await.unwrap();
        let ours = match mover {
            Mover::Ours(pace) => {
                let settings = Settings { protocol: self.protocol, pace, ..Settings::default() };
                Some(movers::ours(cluster, steps, settings).await)
            }
            _ => None,
        };
        load.enter(Phase::Migrating);
        let begun = Instant::now();
        match mover {
            Mover::Ours(_) => {
                // A thread of its own, as another process would have: the load shall not wait for ours to think.
                let (_, reports) = on_a_thread(ours.unwrap().go()).await;
                for report in &reports {
                    assert!(report.stayed.is_empty(), "{report:?}");
                }
                if std::env::var_os("BALLAST_BENCH_VERBOSE").is_some() {
                    println!("  {} migrations, {:?}", reports.len(), reports.last().map(|report| &report.pace));
                }
            }
            Mover::Cli => {
                let fourth = &cluster.nodes[3].id;
                let away = format!("{fourth}=0");
                let more: &[&str] = if steps[0].target == 3 {
                    &["--cluster-use-empty-masters", "--cluster-threshold", "1"]
                } else {
                    &["--cluster-use-empty-masters", "--cluster-threshold", "1", "--cluster-weight", &away]
                };
                movers::cli(cluster, self.kind, self.peer, &["rebalance"], more).await;
            }
            Mover::Bare if self.kind == Kind::Redis86 => drop(bare::import(cluster, steps).await),
            Mover::Bare => drop(bare::atomic(cluster, steps).await),
        }
        let took = begun.elapsed();
        load.enter(None);
        took
    }

    fn print(&self, name: &str, pairs: &[Pair], failed: u64) {
        let median = |of: &dyn Fn(&Pair) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let both = |of: &dyn Fn(&Latency) -> f64| {
            let ratio = median(&|pair: &Pair| of(&pair.moving) / of(&pair.quiet));
            format!(
                "{:.1}/{:.1} ×{ratio:.2}",
                median(&|pair: &Pair| of(&pair.quiet)),
                median(&|pair: &Pair| of(&pair.moving))
            )
        };
        let rate = median(&|pair: &Pair| pair.keys as f64 / pair.took.as_secs_f64());
        let longest = pairs.iter().map(|pair| pair.moving.max_ms).fold(0.0, f64::max);
        let requests: u64 = pairs.iter().map(|pair| pair.moving.requests).sum();
        println!(
            "{:<20} {name:<8} {rate:>8.0} {:>17} {:>19} {:>19} {longest:>7.1} ms {requests:>9} {failed:>6}",
            self.name,
            both(&|latency| latency.p50_ms),
            both(&|latency| latency.p99_ms),
            both(&|latency| latency.p999_ms),
        );
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn latency(report: &LoadReport, phase: Phase) -> Latency {
    report.latency.iter().find(|(of, _)| *of == phase).map(|(_, latency)| *latency).unwrap()
}
