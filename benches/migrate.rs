//! How fast slots move: ours against `redis-cli` and `valkey-cli`, and against servers driven without any checks.
//!
//! `make bench-migrate`; `BALLAST_BENCH_ONLY=valkey-8.0` runs that row, `BALLAST_BENCH_KEYS=300000`
//! fills with so many keys. Each figure comes from a fresh cluster with the same data: three full primaries and an empty
//! fourth, which gets a quarter of the slots. A peer's time is that of its whole command, ours that of the engine from
//! approved plan to last report; both are seconds while planning takes a part of one. A quarter of the keys ÷ that time is
//! the rate.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints its result, and ends at the first trouble"
)]

use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::clock::now_ms;
use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Command, Reply};
use ballast::collector::{Collector, Marks};
use ballast::guard::{self, Ledger, Limits};
use ballast::lab::{Kind, Link, LocalCluster, Node};
use ballast::migration::{self, Context, MemoryJournal, Pace, ProtocolChoice, Settings, Stop};
use ballast::model::{Plan, PolicyId, ProposedMove, SLOT_COUNT, SlotId, SlotSet};

const PATIENCE: Duration = Duration::from_secs(120);
const PIPELINES: [u32; 3] = [10, 100, 1000];

/// What the primaries are filled with.
#[derive(Clone, Copy)]
enum Data {
    /// So many strings of so many bytes.
    Strings(usize, usize),
    /// So many hashes and as many sorted sets, of so many members each.
    Collections(usize, usize),
    /// Nothing: only slots move.
    Nothing,
}

impl Data {
    fn keys(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Strings(count, _) => count as u64,
            Self::Collections(count, _) => 2 * count as u64,
        }
    }
}

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
    println!("{:<24} {:<34} {:>9} {:>9} {:>12} {:>8}", "servers", "mover", "moved", "seconds", "a second", "ours is");
    for row in rows().into_iter().filter(|row| only.is_empty() || row.name == only) {
        let ours = row.measure(Mover::Ours).await;
        row.print("ballast, pace fast", ours, ours);
        for mover in row.peers() {
            let figure = row.measure(mover).await;
            row.print(&mover.to_string(), figure, ours);
        }
    }
}

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
            Self::Ours => f.write_str("ballast"),
            Self::Cli(pipeline) => write!(f, "--cluster rebalance, pipeline {pipeline}"),
            Self::CliAtomic => f.write_str("--cluster rebalance, atomic"),
            Self::Bare => f.write_str("bare, nothing checked"),
        }
    }
}

/// What was moved, in the row's unit, and how long that took.
#[derive(Clone, Copy)]
struct Figure {
    moved: u64,
    took: Duration,
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
            "{:<24} {mover:<34} {:>9} {:>9.2} {:>8.0} {unit} {:>7.2}×",
            self.name,
            figure.moved,
            figure.took.as_secs_f64(),
            figure.rate(),
            ours.rate() / figure.rate()
        );
    }

    async fn measure(&self, mover: Mover) -> Figure {
        let (full, empty) = self.primaries;
        let cluster = LocalCluster::of(self.kind).unwrap().primaries(full).empty(empty).start().await.unwrap();
        fill(&cluster.nodes[..full], self.data).await;
        let plan = plan(&cluster, full).await;
        let took = match mover {
            Mover::Ours => self.ours(&cluster, &plan).await,
            Mover::Cli(pipeline) => self.cli(&cluster, &["--cluster-pipeline", &pipeline.to_string()]).await,
            Mover::CliAtomic => self.cli(&cluster, &["--cluster-use-atomic-slot-migration"]).await,
            Mover::Bare if self.protocol == ProtocolChoice::Classic => bare_classic(&cluster, &plan).await,
            Mover::Bare if self.kind == Kind::Redis86 => bare_import(&cluster, &plan).await,
            Mover::Bare => bare_atomic(&cluster, &plan).await,
        };
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
        Figure { moved, took }
    }

    async fn ours(&self, cluster: &LocalCluster, moves: &[Step]) -> Duration {
        let live = Arc::new(LiveCluster::new(Access::default()));
        let mut collector = Collector::new(live.clone(), ballast::collector::Settings::default());
        // Rates need two looks.
        collector.collect(&cluster.addresses(), &Marks::default()).await.unwrap();
        let snapshot = collector.collect(&cluster.addresses(), &Marks::default()).await.unwrap();
        let place = |node: usize| snapshot.index_of(&cluster.nodes[node].id).unwrap();
        let propose = |step: &Step, slot: SlotId| ProposedMove {
            slot: slot.number(),
            target: place(step.target),
            reason: "bench".into(),
        };
        let plan = Plan {
            policy: PolicyId { name: "bench".into(), version: "0".into(), digest: String::new() },
            generation: snapshot.generation,
            moves: moves.iter().flat_map(|step| step.slots.iter().map(|slot| propose(step, slot))).collect(),
            summary: String::new(),
            gauges: Vec::new(),
        };
        // Many slots in one go are the point here.
        let limits = Limits {
            max_moves_per_cycle: u32::MAX,
            max_moves_per_node: u32::MAX,
            max_bytes_per_cycle: u64::MAX,
            max_bytes_per_node: u64::MAX,
            ..Limits::default().for_one_shot()
        };
        let verdict = guard::review(&plan, &snapshot, &limits, &Ledger::default(), now_ms());
        if let Some(refusal) = verdict.refusals.first() {
            panic!("the guard refuses {}: {}", refusal.check, refusal.reason);
        }
        let context = Context {
            cluster: live,
            journal: Arc::new(MemoryJournal::default()),
            settings: Settings { protocol: self.protocol, pace: Pace::Fast, ..Settings::default() },
            began_by: "bench".into(),
            progress: Arc::new(|_| {}),
            stop: Stop::never(),
        };
        let begun = Instant::now();
        let reports = migration::execute(verdict.approved, &snapshot, &context).await;
        let took = begun.elapsed();
        for report in reports {
            assert!(report.stayed.is_empty(), "{report:?}");
        }
        took
    }

    /// The whole command, as its users run it.
    async fn cli(&self, cluster: &LocalCluster, more: &[&str]) -> Duration {
        let name =
            if matches!(self.kind, Kind::Redis62 | Kind::Redis70 | Kind::Redis86) { "redis-cli" } else { "valkey-cli" };
        let mut program = Program::new(self.peer.tool(name).unwrap());
        let node = cluster.nodes[0].server.address().to_string();
        program.args(["--cluster", "rebalance", &node, "--cluster-use-empty-masters"]).args(more);
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // It may start before gossip has told everyone of the newcomer; it then refuses at once.
        cluster.wait_until_agreed().await.unwrap();
        let begun = Instant::now();
        let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
        let took = begun.elapsed();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        took
    }
}

/// Slots that go from one node to another, by their places in the cluster.
struct Step {
    source: usize,
    target: usize,
    slots: SlotSet,
}

/// Every full primary gives its lowest slots, as `redis-cli` has it, in equal parts to every empty one.
async fn plan(cluster: &LocalCluster, full: usize) -> Vec<Step> {
    let view = cluster.view().await.unwrap();
    let share = SLOT_COUNT / cluster.nodes.len();
    let mut missing: Vec<usize> = vec![share; cluster.nodes.len() - full];
    let mut steps = Vec::new();
    for (source, node) in cluster.nodes.iter().enumerate().take(full) {
        let owned = &view.iter().find(|seen| seen.id == node.id).unwrap().slots;
        let spare = owned.len() - share;
        let mut given = owned.iter().take(spare);
        let left: usize = missing.iter().sum();
        for (newcomer, missing) in missing.iter_mut().enumerate() {
            let part = if source + 1 == full { *missing } else { spare * *missing / left };
            let slots: SlotSet = given.by_ref().take(part).collect();
            *missing -= slots.len();
            steps.push(Step { source, target: full + newcomer, slots });
        }
    }
    steps
}

async fn newcomers_slots(cluster: &LocalCluster, full: usize) -> usize {
    cluster.wait_until_agreed().await.unwrap();
    let view = cluster.view().await.unwrap();
    let newcomers = cluster.nodes[full..].iter().filter_map(|node| view.iter().find(|seen| seen.id == node.id));
    newcomers.map(|seen| seen.slots.len()).sum()
}

/// Fills each node with the keys of its slots.
async fn fill(nodes: &[Node], data: Data) {
    let fill = nodes.iter().map(|node| async move {
        let owned = node.view().await.unwrap().into_iter().find(|seen| seen.id == node.id).unwrap().slots;
        let link = node.server.link().await.unwrap();
        let mine = |count: usize| {
            (0..count).map(|n| format!("key:{n}")).filter({
                let owned = owned.clone();
                move |key| owned.contains(SlotId::of_key(key.as_bytes()))
            })
        };
        match data {
            Data::Nothing => {}
            Data::Strings(count, bytes) => {
                let value = vec![b'x'; bytes];
                let batch = (4 << 20) / (bytes + 50);
                say_all(&link, mine(count).map(|key| Command::new("SET").arg(key).bytes(value.clone())), batch).await;
            }
            Data::Collections(count, members) => {
                let hash = |key: &String| {
                    (0..members).fold(Command::new("HSET").arg(format!("h{key}")), |hash, n| {
                        hash.arg(format!("field:{n}")).arg(n)
                    })
                };
                let set = |key: &String| {
                    (0..members).fold(Command::new("ZADD").arg(format!("z{key}")), |set, n| {
                        set.arg(n).arg(format!("member:{n}"))
                    })
                };
                // Each by its own name's slot.
                let every: Vec<String> = (0..count).map(|n| format!("key:{n}")).collect();
                let both = every.iter().flat_map(|key| [(format!("h{key}"), hash(key)), (format!("z{key}"), set(key))]);
                let mine = both.filter(|(name, _)| owned.contains(SlotId::of_key(name.as_bytes())));
                say_all(&link, mine.map(|(_, command)| command), 10).await;
            }
        }
    });
    futures_util::future::join_all(fill).await;
}

async fn say_all(link: &Link, commands: impl Iterator<Item = Command>, batch: usize) {
    let mut commands = commands.peekable();
    while commands.peek().is_some() {
        let part: Vec<Command> = commands.by_ref().take(batch.max(1)).collect();
        say(link, &part).await;
    }
}

async fn say(link: &Link, commands: &[Command]) -> Vec<Reply> {
    let replies = link.call(commands, PATIENCE).await.unwrap();
    if let Some(Reply::Error(error)) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
        panic!("{error:?}");
    }
    replies
}

/// `SETSLOT`, `MIGRATE` and `SETSLOT` again, a hundred slots in a pipeline, each source by itself.
async fn bare_classic(cluster: &LocalCluster, steps: &[Step]) -> Duration {
    let begun = Instant::now();
    let moves = steps.iter().map(|step| async move {
        let (source, target) = (&cluster.nodes[step.source], &cluster.nodes[step.target]);
        let (from, to) = (source.server.link().await.unwrap(), target.server.link().await.unwrap());
        let slots: Vec<SlotId> = step.slots.iter().collect();
        let setslot =
            |slot: &SlotId, word: &str, node: &Node| Command::new("CLUSTER SETSLOT").arg(slot).arg(word).arg(&node.id);
        for part in slots.chunks(100) {
            say(&to, &part.iter().map(|slot| setslot(slot, "IMPORTING", source)).collect::<Vec<_>>()).await;
            say(&from, &part.iter().map(|slot| setslot(slot, "MIGRATING", target)).collect::<Vec<_>>()).await;
            let mut left: Vec<SlotId> = part.to_vec();
            while !left.is_empty() {
                let ask = |slot: &SlotId| Command::new("CLUSTER GETKEYSINSLOT").arg(slot).arg(1000);
                let keys = say(&from, &left.iter().map(ask).collect::<Vec<_>>()).await;
                let keys: Vec<Vec<Reply>> = keys.into_iter().map(|keys| keys.list().unwrap()).collect();
                let migrate = |keys: &Vec<Reply>| {
                    let address = target.server.address();
                    let head = Command::new("MIGRATE").arg(address.host).arg(address.port).bytes(Vec::new());
                    let head = head.arg(0).arg(10_000).arg("KEYS");
                    keys.iter().fold(head, |command, key| command.bytes(key.clone().bytes().unwrap()))
                };
                let some: Vec<Command> = keys.iter().filter(|keys| !keys.is_empty()).map(migrate).collect();
                if !some.is_empty() {
                    say(&from, &some).await;
                }
                let full = left.iter().zip(&keys).filter(|(_, keys)| keys.len() == 1000);
                left = full.map(|(slot, _)| *slot).collect();
            }
            for link in [&to, &from] {
                say(link, &part.iter().map(|slot| setslot(slot, "NODE", target)).collect::<Vec<_>>()).await;
            }
        }
    });
    futures_util::future::join_all(moves).await;
    begun.elapsed()
}

fn with_ranges(head: &'static str, slots: &SlotSet) -> Command {
    slots.ranges().into_iter().fold(Command::new(head), |command, (start, end)| command.arg(start).arg(end))
}

/// `CLUSTER MIGRATESLOTS` at every source at once, all of its slots in one job for each target.
async fn bare_atomic(cluster: &LocalCluster, steps: &[Step]) -> Duration {
    let begun = Instant::now();
    for step in steps {
        let command = with_ranges("CLUSTER MIGRATESLOTS SLOTSRANGE", &step.slots);
        let target = &cluster.nodes[step.target].id;
        cluster.nodes[step.source].server.call(command.arg("NODE").arg(target)).await.unwrap();
    }
    for step in steps {
        wait_for(cluster, step).await;
    }
    begun.elapsed()
}

/// `CLUSTER MIGRATION IMPORT` at the target, one task after another: a node has one at a time.
async fn bare_import(cluster: &LocalCluster, steps: &[Step]) -> Duration {
    let begun = Instant::now();
    for step in steps {
        let command = with_ranges("CLUSTER MIGRATION IMPORT", &step.slots);
        // The one before may still wind down at the target.
        while cluster.nodes[step.target].server.call(command.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        wait_for(cluster, step).await;
    }
    begun.elapsed()
}

async fn wait_for(cluster: &LocalCluster, step: &Step) {
    let target = &cluster.nodes[step.target];
    loop {
        let seen = target.view().await.unwrap().into_iter().find(|seen| seen.id == target.id).unwrap();
        if step.slots.iter().all(|slot| seen.slots.contains(slot)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
