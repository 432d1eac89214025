//! `ballast status`: what a running daemon is doing, on one screen.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::outcome::{Exit, Outcome, Stop, refused};
use super::screen::{Screen, table};
use super::target::load;
use crate::clock::now_ms;
use crate::control::{NodeRow, Status};
use crate::model::units;

/// Which daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the daemon listens
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The daemon's configuration, which says where it listens
    #[arg(long, value_name = "FILE", env = "BALLAST_CONFIG")]
    config: Option<PathBuf>,
}

/// Where a daemon listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:9899";
/// The daemon answers from memory; a machine under load may take a second.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let url = match (&args.url, &args.config) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(path)) => match load(path, screen)?.listen {
            Some(address) => format!("http://{address}"),
            None => return Err(refused("the daemon does not listen: http.listen is \"off\"", "set http.listen")),
        },
        (None, None) => DEFAULT_URL.to_owned(),
    };
    let status = fetch(&url).await.map_err(|error| Stop {
        exit: Exit::Failed,
        message: format!("no status from {url}: {error:#}"),
        hint: "is the daemon running there? 'ballast status --url http://HOST:PORT' asks another one".into(),
    })?;
    screen.show("Status", &status, || text(&status))?;
    Ok(Exit::Ok)
}

async fn fetch(url: &str) -> anyhow::Result<Status> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let answer = client.get(format!("{url}/api/v1/status")).send().await?;
    if !answer.status().is_success() {
        bail!("it answered {}", answer.status());
    }
    answer.json().await.context("it answered something else than a status")
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    let ago = |at_ms: u64| {
        let seconds = now_ms().saturating_sub(at_ms) / 1000;
        humantime::format_duration(Duration::from_secs(seconds)).to_string()
    };
    let seen = status
        .snapshot
        .as_ref()
        .map_or("not seen yet".to_owned(), |seen| format!("seen {} ago", ago(seen.taken_at_ms)));
    let policy = status.policy.id.as_ref().map_or("none loaded".to_owned(), ToString::to_string);
    let why = if status.mode_reason.is_empty() { String::new() } else { format!(" ({})", status.mode_reason) };
    line(format!("{}  {}{why}  {seen}  policy {policy}", status.cluster, status.mode));
    for progress in &status.migrations {
        line(format!(
            "moving {}/{} slots from {} to {} ({})",
            progress.slots_moved,
            progress.slots.len(),
            progress.source.short(),
            progress.target.short(),
            progress.protocol
        ));
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
    for problem in status.snapshot.iter().flat_map(|seen| &seen.problems) {
        line(format!("! {problem}"));
    }
    let balance = status.balance.iter();
    let balance: Vec<String> = balance
        .map(|(name, balance)| format!("{name} {:.2} (floor {:.2})", balance.imbalance, balance.floor))
        .collect();
    if !balance.is_empty() {
        line(format!("imbalance: {}", balance.join(", ")));
    }
    let rows: Vec<Vec<String>> = status.nodes.iter().map(row).collect();
    text.push_str(&table(1, &["PRIMARY", "SLOTS", "CPU", "OPS/S", "MEMORY"], &rows));
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
    ]
}
