//! Ours and the peers', as programs and as an engine.

use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::clock::now_ms;
use ballast::cluster::live::{Access, LiveCluster};
use ballast::collector::{Collector, Marks};
use ballast::guard::{self, ApprovedPlan, Ledger, Limits};
use ballast::lab::{Kind, LocalCluster};
use ballast::migration::{self, Context, MemoryJournal, Settings, Stop};
use ballast::model::{MigrationReport, Plan, PolicyId, ProposedMove, SlotId, Snapshot};

use super::Step;

/// Our engine, with a plan that was approved.
pub(crate) struct Ours {
    plan: ApprovedPlan,
    snapshot: Snapshot,
    context: Context,
}

impl Ours {
    /// Carries the plan out, and says how long that took: from approved plan to last report.
    pub(crate) async fn go(self) -> (Duration, Vec<MigrationReport>) {
        let begun = Instant::now();
        let reports = migration::execute(self.plan, &self.snapshot, &self.context).await;
        (begun.elapsed(), reports)
    }
}

/// Looks at the cluster and has the guard approve `moves`.
pub(crate) async fn ours(cluster: &LocalCluster, moves: &[Step], settings: Settings) -> Ours {
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
    // Many slots in one go are the point here, and moving them all back.
    let limits = Limits {
        min_slots: 0,
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
        settings,
        began_by: "bench".into(),
        progress: Arc::new(|_| {}),
        stop: Stop::never(),
    };
    Ours { plan: verdict.approved, snapshot, context }
}

/// `redis-cli` or `valkey-cli` with `--cluster` words, of the package `peer`, on a cluster of `kind`: the whole command, as
/// its users run it.
pub(crate) async fn cli(cluster: &LocalCluster, kind: Kind, peer: Kind, words: &[&str], more: &[&str]) -> Duration {
    let redis = matches!(kind, Kind::Redis62 | Kind::Redis70 | Kind::Redis86);
    let mut program = Program::new(peer.tool(if redis { "redis-cli" } else { "valkey-cli" }).unwrap());
    let node = cluster.nodes[0].server.address().to_string();
    program.arg("--cluster").args(words).arg(&node).args(more);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // It may start before gossip has told everyone of the newcomer; it then refuses at once.
    cluster.wait_until_agreed().await.unwrap();
    let begun = Instant::now();
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    let took = begun.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    took
}
