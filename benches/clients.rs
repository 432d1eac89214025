//! How the clients that people have take it when slots move under them, whoever moves them.
//!
//! `make bench-clients` prints a table in Markdown. A row is a fresh cluster of three full primaries and an empty one, a
//! client with an open-loop load (`benches/clients/README.md`), and somebody who gives the newcomer a quarter of the slots:
//! the real `ballast rebalance`, or `redis-cli` or `valkey-cli`. `BALLAST_BENCH_ONLY=valkey-9.1,ballast,ioredis` runs the
//! rows whose names have all of these words, `BALLAST_BENCH_ONLY=|` every row there is; without it, those of `docs/clients.md`.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints its result, and ends at the first trouble"
)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ballast::cluster::Command;
use ballast::lab::{Kind, LocalCluster, spawn};
use ballast::model::SLOT_COUNT;
use serde::Deserialize;
use tokio::time::sleep;

use common::data::{Data, fill};

/// Before slots move, and after; the second is the time in which a client has to show that it recovered.
const QUIET: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(5);

/// For a client to connect and write its keys once, and for a mover to end. Both take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Enough that every slot has something to move; their values have a hundred bytes.
const KEYS: usize = 100_000;

const SERVERS: [Kind; 4] = [Kind::Valkey91, Kind::Valkey80, Kind::Redis70, Kind::Redis86];

/// Who moves the slots.
#[derive(Clone, Copy, PartialEq)]
enum Mover {
    Ballast(&'static str),
    Cli,
    CliAtomic,
}

/// Which program, with which first words.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    Python(&'static str),
    Node(&'static str),
    /// With what `Cargo.lock` has.
    Rust(&'static str),
    /// With the newest tokio before 1.54: docs/clients.md.
    RustOlderTokio(&'static str),
}

const CLIENTS: [Client; 8] = [
    Client::Python("redis-py"),
    Client::Python("redis-py-asyncio"),
    Client::Python("valkey-glide"),
    Client::Node("ioredis"),
    Client::Node("iovalkey"),
    Client::Node("node-redis"),
    Client::Rust("cluster"),
    Client::Rust("cluster-async"),
];

/// The same again with what mends what the others suffer, and the client that shares its core with another.
const MORE_CLIENTS: [Client; 3] =
    [Client::Python("redis-py-asyncio-steps-0"), Client::Node("valkey-glide"), Client::RustOlderTokio("cluster-async")];

struct Row {
    kind: Kind,
    mover: Mover,
    client: Client,
    rate: u32,
    /// Whether it runs when nobody asked for rows by name.
    usual: bool,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in SERVERS {
        for mover in movers(kind) {
            // Atomic and classic, ours and theirs: a quarter of an hour. The rest differs in the server only.
            let usual = matches!(
                (kind, mover),
                (Kind::Valkey91, Mover::Ballast("default") | Mover::CliAtomic)
                    | (Kind::Redis70, Mover::Ballast("default") | Mover::Cli)
            );
            rows.extend(CLIENTS.map(|client| Row { kind, mover, client, rate: 1000, usual }));
            rows.extend(MORE_CLIENTS.map(|client| Row { kind, mover, client, rate: 1000, usual: false }));
        }
    }
    // The rate at which one client is known to hang, and the two that mend what others suffer.
    let stress = |mover, client, rate| Row { kind: Kind::Valkey91, mover, client, rate, usual: true };
    for mover in movers(Kind::Valkey91) {
        rows.push(stress(mover, Client::Rust("cluster-async"), 3000));
    }
    for mover in [Mover::Ballast("fast"), Mover::CliAtomic] {
        rows.push(stress(mover, Client::RustOlderTokio("cluster-async"), 3000));
    }
    rows.push(stress(Mover::Ballast("default"), Client::Python("redis-py-asyncio-steps-0"), 1000));
    rows
}

fn movers(kind: Kind) -> Vec<Mover> {
    let mut movers = vec![Mover::Ballast("default"), Mover::Ballast("fast"), Mover::Cli];
    if kind == Kind::Valkey91 {
        movers.push(Mover::CliAtomic);
    }
    movers
}

#[tokio::main]
async fn main() {
    let only = std::env::var("BALLAST_BENCH_ONLY").unwrap_or_default();
    let chosen = |row: &Row| {
        if only.is_empty() { row.usual } else { only.split(',').all(|word| row.name().contains(word)) }
    };
    println!(
        "| servers | mover | client | requests/s | moved in | errors | unanswered | longest stall | redirects \
         | p99 quiet / moving / after | recovered | lost |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|"
    );
    for row in rows().into_iter().filter(chosen) {
        row.measure().await;
    }
}

/// What a load program prints at its end; milliseconds.
#[derive(Deserialize)]
struct Report {
    client: String,
    errors: std::collections::BTreeMap<String, u64>,
    complaint: Option<String>,
    unanswered: u64,
    stall_ms: f64,
    phases: Phases,
    recovered: bool,
    lost: u64,
}

#[derive(Deserialize)]
struct Phases {
    quiet: Latency,
    moving: Latency,
    after: Latency,
}

#[derive(Deserialize)]
struct Latency {
    /// `None` when nothing was answered in this phase.
    p99_ms: Option<f64>,
}

impl Row {
    fn name(&self) -> String {
        format!("{} | {} | {} | {}", self.kind, self.mover.name(self.kind), self.client.name(), self.rate)
    }

    async fn measure(&self) {
        let cluster = LocalCluster::of(self.kind).unwrap().primaries(3).empty(1).start().await.unwrap();
        fill(&cluster.nodes[..3], Data::Strings(KEYS, 100)).await;
        let before = redirects(&cluster).await;
        let seeds: Vec<String> = cluster.nodes[..3].iter().map(|node| node.server.address().to_string()).collect();
        let mut load = Load::start(self.client.program(&seeds.join(","), self.rate));
        assert_eq!(load.line(), "ready", "{}", self.name());
        load.enter("quiet");
        sleep(QUIET).await;
        load.enter("moving");
        let took = self.mover.run(&cluster, self.kind).await;
        load.enter("after");
        sleep(AFTER).await;
        let report = load.end();
        let redirects = redirects(&cluster).await - before;
        let moved = cluster.nodes[3].view().await.unwrap().into_iter().find(|seen| seen.id == cluster.nodes[3].id);
        let moved = moved.unwrap().slots.len();
        assert!(moved.abs_diff(SLOT_COUNT / 4) <= 4, "{}: {moved} slots moved", self.name());
        self.print(&report, took, redirects);
    }

    fn print(&self, report: &Report, took: Duration, redirects: u64) {
        let errors: Vec<String> = report.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let errors = if errors.is_empty() { "0".to_owned() } else { errors.join(", ") };
        let p99 = |latency: &Latency| latency.p99_ms.map_or("–".to_owned(), |ms| format!("{ms:.1}"));
        let Phases { quiet, moving, after } = &report.phases;
        println!(
            "| {} | {} | {} | {} | {:.1} s | {errors} | {} | {:.0} ms | {redirects} | {} / {} / {} ms | {} | {} |",
            self.kind,
            self.mover.name(self.kind),
            report.client,
            self.rate,
            took.as_secs_f64(),
            report.unanswered,
            report.stall_ms,
            p99(quiet),
            p99(moving),
            p99(after),
            if report.recovered { "yes" } else { "**no**" },
            report.lost,
        );
        if let Some(complaint) = &report.complaint {
            eprintln!("  {}: the first error: {complaint}", self.name());
        }
    }
}

impl Mover {
    fn name(self, kind: Kind) -> String {
        let cli = cli_of(kind).1;
        match self {
            Self::Ballast(pace) => format!("ballast, pace {pace}"),
            Self::Cli => format!("{cli} rebalance"),
            Self::CliAtomic => format!("{cli} rebalance, atomic"),
        }
    }

    /// The whole command, as its users run it; how long it took.
    async fn run(self, cluster: &LocalCluster, kind: Kind) -> Duration {
        let node = cluster.nodes[0].server.address();
        let scratch = tempfile::tempdir().unwrap();
        let mut program = match self {
            Self::Ballast(pace) => {
                let mut program = Program::new(env!("CARGO_BIN_EXE_ballast"));
                program.args(["rebalance", &format!("redis://{node}"), "--policy", "slots", "--yes", "--pace", pace]);
                // How many slots a node has needs no sampling.
                program.args(["--sample", "1s"]).env("XDG_STATE_HOME", scratch.path());
                program
            }
            Self::Cli | Self::CliAtomic => {
                let (package, cli) = cli_of(kind);
                let mut program = Program::new(package.tool(cli).unwrap());
                program.args(["--cluster", "rebalance", &node.to_string(), "--cluster-use-empty-masters"]);
                if self == Self::CliAtomic {
                    program.arg("--cluster-use-atomic-slot-migration");
                }
                program
            }
        };
        let said = scratch.path().join("said");
        let output = File::create(&said).unwrap();
        program.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let begun = Instant::now();
        let mut child = Running(spawn(program).unwrap());
        let status = loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "{}: still moves", self.name(kind));
            sleep(Duration::from_millis(5)).await;
        };
        let took = begun.elapsed();
        let said = || std::fs::read_to_string(&said).unwrap();
        assert!(status.success(), "{}: {status}: {}", self.name(kind), said());
        took
    }
}

/// The package and the name of the command line that comes with a server; Debian's Valkey 9 has the one for 9.1.
fn cli_of(kind: Kind) -> (Kind, &'static str) {
    match kind {
        Kind::Redis62 | Kind::Redis70 | Kind::Redis86 => (kind, "redis-cli"),
        Kind::Valkey91 => (Kind::Valkey9Tls, "valkey-cli"),
        Kind::Valkey80 | Kind::Valkey9Tls => (kind, "valkey-cli"),
    }
}

impl Client {
    fn name(self) -> String {
        match self {
            Self::Python(name) => format!("{name} (Python)"),
            Self::Node(name) => format!("{name} (Node)"),
            Self::Rust(name) => format!("redis-rs {name}"),
            Self::RustOlderTokio(name) => format!("redis-rs {name}, older tokio"),
        }
    }

    fn program(self, seeds: &str, rate: u32) -> Program {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fetched = home.join("target/clients");
        let built = |place: PathBuf| Program::new(place.join("release/ballast-bench-clients"));
        let mut program = match self {
            Self::Python(name) => {
                let mut program = Program::new("python3");
                program.env("PYTHONPATH", fetched.join("python"));
                program.arg(home.join("benches/clients/python/load.py")).arg(name);
                program
            }
            Self::Node(name) => {
                let mut program = Program::new("node");
                program.env("BALLAST_CLIENTS", &fetched);
                program.arg(home.join("benches/clients/node/load.js")).arg(name);
                program
            }
            Self::Rust(name) => {
                let mut program = built(home.join("target/clients-rust"));
                program.arg(name);
                program
            }
            Self::RustOlderTokio(name) => {
                let mut program = built(home.join("target/clients-rust/older-tokio"));
                program.arg(name);
                program
            }
        };
        program.args(["--seeds", seeds, "--rate", &rate.to_string()]);
        program
    }
}

/// A process that is killed when its owner goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it is gone, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A load program that runs, and what it says, line by line.
struct Load {
    process: Running,
    lines: Receiver<String>,
}

impl Load {
    fn start(mut program: Program) -> Self {
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running(spawn(program).expect("scripts/clients fetches and builds it"));
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (said, lines) = channel();
        // It ends with the output.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)).ok();
        });
        Self { process, lines }
    }

    fn line(&self) -> String {
        tokio::task::block_in_place(|| self.lines.recv_timeout(PATIENCE)).expect("a line from the load program")
    }

    fn enter(&mut self, phase: &str) {
        let input = self.process.0.stdin.as_mut().unwrap();
        writeln!(input, "phase {phase}").and_then(|()| input.flush()).unwrap();
    }

    /// Closes its input, which ends it, and reads its report.
    fn end(mut self) -> Report {
        drop(self.process.0.stdin.take());
        serde_json::from_str(&self.line()).unwrap()
    }
}

/// MOVED and ASK that the servers have replied so far: comparable for all clients, whether or not they count themselves.
async fn redirects(cluster: &LocalCluster) -> u64 {
    let mut sum = 0;
    for node in &cluster.nodes {
        let info = node.server.text(Command::new("INFO").arg("errorstats")).await.unwrap();
        let counts = info.lines().filter_map(|line| {
            let count = line.strip_prefix("errorstat_MOVED:count=").or(line.strip_prefix("errorstat_ASK:count="))?;
            count.parse::<u64>().ok()
        });
        sum += counts.sum::<u64>();
    }
    sum
}
