//! How fast slots move: ours against `redis-cli` and `valkey-cli`, and against servers driven without any checks.
//!
//! `make bench-migrate`; `BALLAST_BENCH_ONLY=valkey-8.0` runs that row (`limit`: how well a limit of bytes is kept), `BALLAST_BENCH_MOVERS=ballast,bare` those movers,
//! `BALLAST_BENCH_KEYS=300000` fills with so many keys, `BALLAST_BENCH_REPEATS=3` prints the median of three. Each figure comes from a fresh cluster with the same data: three full primaries and an empty
//! fourth, which gets a quarter of the slots. A peer's time is that of its whole command, ours that of the engine from
//! approved plan to last report; both are seconds while planning takes a part of one. A quarter of the keys ÷ that time is
//! the rate. The last columns are processor seconds: on two cores, which everyone shares, they are what is scarce.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints its result, and ends at the first trouble"
)]

mod common;

use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::{Kind, LocalCluster};
use ballast::migration::{Pace, ProtocolChoice, Settings};
use ballast::model::SLOT_COUNT;

use common::data::{Data, fill};
use common::{bare, movers, newcomers_slots, processor_seconds, quarter};

const PIPELINES: [u32; 3] = [10, 100, 1000];

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    kind: Kind,
    protocol: ProtocolChoice,
    data: Data,
    /// Full primaries, and empty ones that join.
    primaries: (usize, usize),
    /// The package whose command line is the peer.
    peer: Kind,
}

fn rows() -> Vec<Row> {
    let keys = |default: usize| {
        std::env::var("BALLAST_BENCH_KEYS").ok().map_or(default, |keys| keys.parse().expect("a number of keys"))
    };
    let row = |name, kind, protocol, keys, peer| Row {
        name,
        kind,
        protocol,
        data: Data::Strings(keys, 100),
        primaries: (3, 1),
        peer,
    };
    use Kind::{Redis70, Redis86, Valkey9Tls, Valkey80, Valkey91};
    use ProtocolChoice::{Auto, Classic};
    let few = |name, kind, protocol, data, peer| Row { data, ..row(name, kind, protocol, 0, peer) };
    vec![
        row("redis-7.0", Redis70, Classic, keys(1_600_000), Redis70),
        row("valkey-8.0", Valkey80, Classic, keys(1_200_000), Valkey80),
        row("valkey-9.1 classic", Valkey91, Classic, keys(1_200_000), Valkey9Tls),
        row("valkey-9.1 atomic", Valkey91, Auto, keys(4_000_000), Valkey9Tls),
        row("redis-8.6 atomic", Redis86, Auto, keys(4_000_000), Redis86),
        few("redis-7.0 1 KiB", Redis70, Classic, Data::Strings(keys(400_000), 1024), Redis70),
        few("redis-7.0 100 KiB", Redis70, Classic, Data::Strings(keys(8_000), 100 * 1024), Redis70),
        few("redis-7.0 collections", Redis70, Classic, Data::Collections(keys(400), 10_000), Redis70),
        Row { primaries: (1, 9), ..few("redis-7.0 empty slots", Redis70, Classic, Data::Nothing, Redis70) },
        Row { primaries: (1, 9), ..few("valkey-9.1 empty slots", Valkey91, Auto, Data::Nothing, Valkey9Tls) },
    ]
}

#[tokio::main]
async fn main() {
    let only = std::env::var("BALLAST_BENCH_ONLY").unwrap_or_default();
    let movers = std::env::var("BALLAST_BENCH_MOVERS").unwrap_or_default();
    let wanted = |mover: &Mover| movers.split(',').any(|word| mover.to_string().contains(word));
    println!(
        "{:<24} {:<34} {:>9} {:>9} {:>12} {:>8} {:>9} {:>9}",
        "servers", "mover", "moved", "seconds", "a second", "ours is", "mover cpu", "their cpu"
    );
    for row in rows().into_iter().filter(|row| only.is_empty() || row.name == only) {
        let mut ours = None;
        for mover in [Mover::Ours].into_iter().chain(row.peers()).filter(wanted) {
            let figure = row.median(mover).await;
            row.print(&mover.to_string(), figure, *ours.get_or_insert(figure));
        }
    }
    if only.is_empty() || only == "limit" {
        for row in limited_rows() {
            row.limited().await;
        }
    }
}

/// Where `max_bytes_per_second` is tried.
fn limited_rows() -> [Row; 3] {
    let row = |name, kind, protocol| Row {
        name,
        kind,
        protocol,
        data: Data::Strings(200_000, 1024),
        primaries: (3, 1),
        peer: kind,
    };
    [
        row("redis-7.0", Kind::Redis70, ProtocolChoice::Classic),
        row("valkey-9.1 atomic", Kind::Valkey91, ProtocolChoice::Auto),
        row("redis-8.6 atomic", Kind::Redis86, ProtocolChoice::Auto),
    ]
}

/// Bytes a second that a limited mover may move.
const LIMIT: u64 = 8 << 20;

/// Who moves the slots.
#[derive(Clone, Copy, PartialEq)]
enum Mover {
    Ours,
    /// `--cluster rebalance` with this many keys per MIGRATE.
    Cli(u32),
    /// The same with the servers' own atomic migration.
    CliAtomic,
    /// The least that has to be said to the servers, all sources at once, nothing checked.
    Bare,
}

impl std::fmt::Display for Mover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours => f.write_str("ballast, pace fast"),
            Self::Cli(pipeline) => write!(f, "--cluster rebalance, pipeline {pipeline}"),
            Self::CliAtomic => f.write_str("--cluster rebalance, atomic"),
            Self::Bare => f.write_str("bare, nothing checked"),
        }
    }
}

/// What was moved, in the row's unit, how long that took, and the processor seconds of the mover and of the servers.
#[derive(Clone, Copy)]
struct Figure {
    moved: u64,
    took: Duration,
    mover: f64,
    servers: f64,
}

impl Figure {
    fn rate(self) -> f64 {
        self.moved as f64 / self.took.as_secs_f64()
    }
}

impl Row {
    fn peers(&self) -> Vec<Mover> {
        let mut peers = vec![Mover::Bare];
        if self.protocol == ProtocolChoice::Auto && self.kind == Kind::Valkey91 {
            peers.push(Mover::CliAtomic);
        }
        match self.data {
            // Without keys the pipeline says nothing.
            Data::Nothing => peers.push(Mover::Cli(PIPELINES[0])),
            _ => peers.extend(PIPELINES.map(Mover::Cli)),
        }
        peers
    }

    fn print(&self, mover: &str, figure: Figure, ours: Figure) {
        let unit = if matches!(self.data, Data::Nothing) { "slots" } else { "keys" };
        println!(
            "{:<24} {mover:<34} {:>9} {:>9.2} {:>7.0} {unit} {:>7.2}× {:>9.2} {:>9.2}",
            self.name,
            figure.moved,
            figure.took.as_secs_f64(),
            figure.rate(),
            ours.rate() / figure.rate(),
            figure.mover,
            figure.servers
        );
    }

    /// How well a limit is kept, by what the target's memory grew.
    async fn limited(&self) {
        let (full, empty) = self.primaries;
        let cluster = LocalCluster::of(self.kind).unwrap().primaries(full).empty(empty).start().await.unwrap();
        fill(&cluster.nodes[..full], self.data).await;
        let plan = quarter(&cluster, full).await;
        let memory = async || {
            let text = cluster.nodes[full].server.text(Command::new("INFO memory")).await.unwrap();
            text.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok()).unwrap()
        };
        let before = memory().await;
        // Fast, so that nothing but the limit holds it back.
        let settings = Settings {
            protocol: self.protocol,
            pace: Pace::Fast,
            bytes_per_second: Some(LIMIT),
            ..Settings::default()
        };
        let (took, _) = movers::ours(&cluster, &plan, settings).await.go().await;
        let grown = memory().await - before;
        let rate = grown as f64 / took.as_secs_f64();
        println!(
            "{:<24} limit {} bytes/s: {grown} bytes in {:.2} s, {:.1}% of the limit",
            self.name,
            LIMIT,
            took.as_secs_f64(),
            rate / LIMIT as f64 * 100.0
        );
    }

    async fn median(&self, mover: Mover) -> Figure {
        let repeats = std::env::var("BALLAST_BENCH_REPEATS").map_or(1, |count| count.parse().expect("a number"));
        let mut figures = Vec::new();
        for _ in 0..repeats {
            figures.push(self.measure(mover).await);
        }
        figures.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        figures[figures.len() / 2]
    }

    async fn measure(&self, mover: Mover) -> Figure {
        let (full, empty) = self.primaries;
        let cluster = LocalCluster::of(self.kind).unwrap().primaries(full).empty(empty).start().await.unwrap();
        fill(&cluster.nodes[..full], self.data).await;
        let plan = quarter(&cluster, full).await;
        let processors = || {
            let servers = cluster.nodes.iter().filter_map(|node| node.server.pid()).map(processor_seconds);
            (processor_seconds(std::process::id()), servers.sum::<f64>())
        };
        let before = processors();
        let took = match mover {
            Mover::Ours => {
                let mut settings = Settings { protocol: self.protocol, pace: Pace::Fast, ..Settings::default() };
                if matches!(self.data, Data::Collections(..)) {
                    // Else every slot stays, pinned by a collection that takes longer: the peers ask nobody.
                    settings.max_block_ms = 50;
                }
                let (took, reports) = movers::ours(&cluster, &plan, settings).await.go().await;
                for report in reports {
                    assert!(report.stayed.is_empty(), "{report:?}");
                }
                took
            }
            Mover::Cli(pipeline) => self.cli(&cluster, &["--cluster-pipeline", &pipeline.to_string()]).await,
            Mover::CliAtomic => self.cli(&cluster, &["--cluster-use-atomic-slot-migration"]).await,
            Mover::Bare if self.protocol == ProtocolChoice::Classic => bare::classic(&cluster, &plan).await,
            Mover::Bare if self.kind == Kind::Redis86 => bare::import(&cluster, &plan).await,
            Mover::Bare => bare::atomic(&cluster, &plan).await,
        };
        let after = processors();
        let slots = newcomers_slots(&cluster, full).await;
        let expected = SLOT_COUNT * empty / (full + empty);
        // redis-cli leaves a slot more or less behind.
        assert!(slots.abs_diff(expected) <= full + empty, "{mover}: {slots} slots moved, not {expected}");
        let mut keys = Vec::new();
        for node in &cluster.nodes {
            keys.push(node.server.call(Command::new("DBSIZE")).await.unwrap().int().unwrap() as u64);
        }
        assert_eq!(keys.iter().sum::<u64>(), self.data.keys(), "{mover}: keys were lost, or are on two nodes");
        let moved = if self.data.keys() == 0 { slots as u64 } else { keys[full..].iter().sum() };
        Figure { moved, took, mover: after.0 - before.0, servers: after.1 - before.1 }
    }

    async fn cli(&self, cluster: &LocalCluster, more: &[&str]) -> Duration {
        let words = [&["--cluster-use-empty-masters"], more].concat();
        movers::cli(cluster, self.kind, self.peer, &["rebalance"], &words).await
    }
}
