//! What the benchmarks of slot migration share: filling clusters, and every way of moving slots that is compared.
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "each benchmark uses a part of this, and ends at the first trouble"
)]

pub(crate) mod bare;
pub(crate) mod data;
pub(crate) mod movers;

use std::time::Duration;

use ballast::cluster::{Command, Reply};
use ballast::lab::{Link, LocalCluster};
use ballast::model::{SLOT_COUNT, SlotSet};

/// How long one call may take: a MIGRATE of much data among them.
const PATIENCE: Duration = Duration::from_secs(120);

/// Linux tells processor time in hundredths of a second, whatever its kernel counts in.
const TICKS_A_SECOND: f64 = 100.0;

/// Slots that go from one node to another, by their places in the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) source: usize,
    pub(crate) target: usize,
    pub(crate) slots: SlotSet,
}

/// Every full primary gives its lowest slots, as `redis-cli` has it, in equal parts to every empty one.
pub(crate) async fn quarter(cluster: &LocalCluster, full: usize) -> Vec<Step> {
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

pub(crate) async fn newcomers_slots(cluster: &LocalCluster, full: usize) -> usize {
    cluster.wait_until_agreed().await.unwrap();
    let view = cluster.view().await.unwrap();
    let newcomers = cluster.nodes[full..].iter().filter_map(|node| view.iter().find(|seen| seen.id == node.id));
    newcomers.map(|seen| seen.slots.len()).sum()
}

pub(crate) async fn say_all(link: &Link, commands: impl Iterator<Item = Command>, batch: usize) {
    let mut commands = commands.peekable();
    while commands.peek().is_some() {
        let part: Vec<Command> = commands.by_ref().take(batch.max(1)).collect();
        say(link, &part).await;
    }
}

pub(crate) async fn say(link: &Link, commands: &[Command]) -> Vec<Reply> {
    let replies = link.call(commands, PATIENCE).await.unwrap();
    if let Some(Reply::Error(error)) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
        panic!("{error:?}");
    }
    replies
}

/// Processor seconds that a process took so far, with those of children that it has waited for (proc(5), `stat`).
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold spaces; utime, stime, cutime and cstime are the 12th to 15th words after it.
    let words = stat.rsplit_once(')').unwrap().1.split_whitespace();
    words.skip(11).take(4).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS_A_SECOND
}
