//! `ballast policy show` and `promote`: the policies of a running daemon.

use serde::Serialize;
use serde_json::json;

use super::author;
use super::daemon::Daemon;
use super::outcome::{Exit, Outcome};
use super::screen::{Screen, since, table};
use crate::clock::now_ms;
use crate::control::{PolicyStatus, ShadowStatus, Status};
use crate::model::{ShadowReport, units};

/// What is shown: the policies of the status, and what the shadows would have done in the last cycle.
#[derive(Debug, Serialize)]
struct Loaded<'a> {
    policy: &'a PolicyStatus,
    promoted: &'a Option<String>,
    shadows: &'a [ShadowStatus],
    last_cycle: &'a [ShadowReport],
}

pub(super) async fn show(daemon: &Daemon, screen: &Screen) -> Outcome {
    let status: Status = daemon.reach(screen)?.get("/api/v1/status", "status").await?;
    let loaded = Loaded {
        policy: &status.policy,
        promoted: &status.promoted,
        shadows: &status.shadows,
        last_cycle: status.last_cycle.as_ref().map_or(&[], |cycle| &cycle.shadows),
    };
    screen.show("Policies", &loaded, || text(&loaded, now_ms()))?;
    Ok(Exit::Ok)
}

pub(super) async fn promote(shadow: Option<String>, reason: &str, daemon: &Daemon, screen: &Screen) -> Outcome {
    let body = json!({ "shadow": shadow, "reason": reason, "who": author::person() });
    daemon.reach(screen)?.ask("/api/v1/policy/promote", &body, screen).await
}

fn text(loaded: &Loaded<'_>, now_ms: u64) -> String {
    let policy = loaded.policy;
    let mut lines = Vec::new();
    let ago = |at_ms: u64| since(at_ms, now_ms);
    let bytes = |bytes: usize| units::size::format(bytes as u64);
    match &policy.id {
        Some(id) => {
            lines.push(format!("decides   {} {} from {}", id.name, id.version, policy.source));
            lines.push(format!("digest    sha256:{}", id.digest));
        }
        None => lines.push(format!("decides   nobody: {} is not loaded", policy.source)),
    }
    if let Some(shadow) = loaded.promoted {
        lines.push(format!("promoted  from shadow {shadow}, until the configuration names another policy"));
    }
    if let Some(since_ms) = policy.since_ms {
        lines.push(format!("in use    for {}", ago(since_ms)));
    }
    let (calls, faults, memory) = (policy.calls, policy.faults, bytes(policy.memory_bytes));
    lines.push(format!("calls     {calls}, {faults} of them failed; {memory} of memory"));
    if let Some(stand_in) = &policy.standing_in {
        lines.push(format!("stand-in  {stand_in} decides in its place after too many faults"));
    }
    if let Some(failure) = &policy.failure {
        lines.push(format!("failing   {failure}"));
    }
    for reload in &policy.reloads {
        let became = if reload.accepted { "taken" } else { "refused" };
        lines.push(format!("reload    {became} {} ago: {}", ago(reload.at_ms), reload.detail));
    }
    let rows: Vec<Vec<String>> = loaded.shadows.iter().map(|shadow| row(shadow, loaded.last_cycle)).collect();
    let mut text = lines.join("\n") + "\n";
    if !rows.is_empty() {
        text.push_str(&table(
            2,
            &["SHADOW", "POLICY", "CALLS", "FAULTS", "MOVES", "DISAGREES", "CPU AFTER", "SAYS"],
            &rows,
        ));
    }
    text
}

fn row(shadow: &ShadowStatus, last_cycle: &[ShadowReport]) -> Vec<String> {
    let last = last_cycle.iter().find(|report| report.name == shadow.name);
    let of_last = |show: &dyn Fn(&ShadowReport) -> String| last.map_or_else(|| "-".to_owned(), show);
    let says = |report: &ShadowReport| match &report.failure {
        Some((kind, reason)) => format!("{kind}: {reason}"),
        None => report.summary.clone(),
    };
    let cpu = |report: &ShadowReport| {
        report.predictions.get("cpu").map_or_else(|| "-".to_owned(), |cpu| format!("{:.2}", cpu.imbalance_after))
    };
    vec![
        shadow.name.clone(),
        shadow.policy.as_ref().map_or_else(|| "not loaded".to_owned(), ToString::to_string),
        shadow.calls.to_string(),
        shadow.faults.to_string(),
        of_last(&|report| format!("{} of {}", report.approved, report.proposed)),
        of_last(&|report| format!("{:.0}%", report.disagreement * 100.0)),
        of_last(&cpu),
        shadow.refused.clone().unwrap_or_else(|| of_last(&says)),
    ]
}
