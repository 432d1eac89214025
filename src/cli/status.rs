//! `ballast status`: what a running daemon is doing, on one screen.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::advance::{line as moves, seconds};
use super::daemon::Daemon;
use super::outcome::{Exit, Outcome};
use super::screen::{Screen, since, table};
use crate::clock::now_ms;
use crate::control::{NodeRow, Status};
use crate::migration::Progress;
use crate::model::{Address, NodeId, Problem, Tag, units};

/// Which daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Shows it again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// Between two looks at a daemon that is watched.
const LOOK: Duration = Duration::from_secs(1);
/// Puts the cursor to the beginning of a terminal, and clears it.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let line = args.daemon.reach(screen)?;
    let look = || line.get::<Status>("/api/v1/status", "status");
    let status = look().await?;
    if !args.watch {
        screen.show("Status", &status, || text(&status))?;
        return Ok(Exit::Ok);
    }
    let clear = if screen.is_painted() { CLEAR } else { "" };
    let mut seen = Ok(status);
    loop {
        match &seen {
            Ok(status) => screen.show("Status", status, || format!("{clear}{}", text(status)))?,
            // It may be restarted: whoever watches wants to see it come back.
            Err(error) => screen.note(&format!("{error:#}")),
        }
        sleep(LOOK).await;
        seen = look().await;
    }
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    let ago = |at_ms: u64| since(at_ms, now_ms());
    let seen = status
        .snapshot
        .as_ref()
        .map_or("not seen yet".to_owned(), |seen| format!("seen {} ago", ago(seen.taken_at_ms)));
    let policy = status.policy.id.as_ref().map_or("none loaded".to_owned(), ToString::to_string);
    let why = if status.mode_reason.is_empty() { String::new() } else { format!(" ({})", status.mode_reason) };
    line(format!("{}  {}{why}  {seen}  policy {policy}", status.cluster, status.mode));
    if let Some(lease) = &status.lease {
        line(format!("lease: {}", lease.reason));
    }
    if let Some(scale) = &status.scale {
        let wanted = scale.wanted_shards.map_or(scale.shards, |wanted| wanted as usize);
        if [scale.desired_shards, wanted] != [scale.shards; 2] || !scale.draining.is_empty() {
            line(format!("shards: {}, {} desired: {}", scale.shards, scale.desired_shards, scale.reason));
        }
    }
    if !status.config.needs_restart.is_empty() {
        line(format!("! waits for a restart: {}", status.config.needs_restart.join(", ")));
    }
    if let Some(waiting) = &status.waiting {
        let slots = waiting.slots;
        line(match &waiting.approved_by {
            Some(who) => format!("plan {} of {slots} slots is approved by {who}", waiting.plan),
            None => format!("plan {} of {slots} slots waits: `ballast approve {}`", waiting.plan, waiting.plan),
        });
    }
    if let Some(overall) = &status.moving {
        line(format!("moving  {}", moves(overall)));
    }
    for progress in &status.migrations {
        line(migration(progress, &status.nodes, now_ms()));
    }
    status.drains.iter().for_each(|drain| line(super::drain::words(drain)));
    if status.stuck {
        line("! a step takes longer than migration.stuck_after finds normal".to_owned());
    }
    if let Some(cycle) = &status.last_cycle {
        line(format!(
            "last cycle {} ago: {}; {} moves proposed, {} approved, {} slots moved",
            ago(cycle.started_at_ms),
            cycle.outcome.as_str(),
            cycle.moves_proposed,
            cycle.moves_approved,
            cycle.slots_moved
        ));
        if let Some(summary) = cycle.summary.as_ref().filter(|summary| !summary.is_empty()) {
            line(format!("  {summary}"));
        }
        for refusal in &cycle.refusals {
            line(format!("  held back: {} slots ({}): {}", refusal.slots, refusal.check, refusal.reason));
        }
    }
    if let Some(failure) = &status.policy.failure {
        line(format!("policy: {failure}"));
    }
    for reload in [&status.policy.last_reload, &status.config.last_reload].into_iter().flatten() {
        if !reload.accepted {
            line(format!("not taken, {} ago: {}", ago(reload.at_ms), reload.detail));
        }
    }
    status.snapshot.iter().flat_map(|seen| told_once(&seen.problems)).for_each(|problem| line(format!("! {problem}")));
    let balance = status.balance.iter();
    let balance: Vec<String> = balance
        .map(|(name, balance)| format!("{name} {:.2} (floor {:.2})", balance.imbalance, balance.floor))
        .collect();
    if !balance.is_empty() {
        line(format!("imbalance: {}", balance.join(", ")));
    }
    let rows: Vec<Vec<String>> = status.nodes.iter().map(row).collect();
    text.push_str(&table(1, &["PRIMARY", "SLOTS", "CPU", "OPS/S", "MEMORY", ""], &rows));
    text
}

fn migration(progress: &Progress, nodes: &[NodeRow], now_ms: u64) -> String {
    let Progress { protocol, step, began_by, reason, .. } = progress;
    let at = |id: &NodeId| {
        let node = nodes.iter().find(|node| node.id == *id);
        node.map_or_else(|| id.short().to_owned(), |node| node.address.to_string())
    };
    let mut text = format!(
        "  {}/{} slots from {} to {} ({protocol}): {step} for {}",
        progress.slots_moved,
        progress.slots.len(),
        at(&progress.source),
        at(&progress.target),
        seconds(now_ms.saturating_sub(progress.step_since_ms)),
    );
    for (word, known) in [("began by", began_by), ("because", reason)] {
        if !known.is_empty() {
            text.push_str(&format!("; {word} {known}"));
        }
    }
    text
}

fn row(node: &NodeRow) -> Vec<String> {
    let shown = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| "?".into(), show);
    vec![
        node.address.to_string(),
        node.slots.to_string(),
        shown(node.cpu, |cpu| format!("{:.0}%", cpu * 100.0)),
        shown(node.ops, |ops| format!("{ops:.0}")),
        shown(node.memory_used, |bytes| units::size::format(bytes as u64)),
        remark(&node.tags).to_owned(),
    ]
}

/// What else is to know of a node.
fn remark(tags: &[Tag]) -> &'static str {
    let is = |tag| tags.contains(&tag);
    match (is(Tag::Draining), is(Tag::Empty), is(Tag::Cordoned)) {
        (true, true, _) => "drained",
        (true, ..) => "draining",
        (_, true, _) => "empty",
        (.., true) => "cordoned",
        _ => "",
    }
}

/// Problems in words; what most nodes share, once.
pub(super) fn told_once<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Vec<String> {
    let mut uncounted: BTreeMap<&str, Vec<&Address>> = BTreeMap::new();
    let mut told = Vec::new();
    for problem in problems {
        match problem {
            Problem::SlotStatsOff { node, detail } => uncounted.entry(detail).or_default().push(node),
            _ => told.push(problem.to_string()),
        }
    }
    told.extend(uncounted.into_iter().map(|(detail, nodes)| match nodes.as_slice() {
        [node] => Problem::SlotStatsOff { node: (*node).clone(), detail: detail.to_owned() }.to_string(),
        [first, others @ ..] => format!("{first} and {} others do not count load per slot: {detail}", others.len()),
        [] => String::new(),
    }));
    told
}
