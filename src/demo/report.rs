//! What the demo showed: as a document, as text, and whether that is what it promised.

use std::io::{Write, stdout};

use serde::Serialize;

use crate::lab::load::Latency;
use crate::model::Address;

/// Below this the load counts as even, whatever the floor.
pub(super) const EVEN: f64 = 1.10;

/// Or within this part of the floor: where one slot carries more than a node's share, nothing can do better.
pub(super) const NEAR_FLOOR: f64 = 1.05;

/// A primary in figures, as its server gave them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeFigures {
    /// Where.
    pub node: Address,
    /// Slots that it owns.
    pub slots: usize,
    /// Keys that it holds.
    pub keys: u64,
    /// Bytes of its data set.
    pub bytes: u64,
    /// Share of one core that the load's commands took.
    pub cpu: f64,
    /// The load's commands per second.
    pub ops: f64,
}

/// What the demo showed.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    /// The version of this document.
    #[serde(rename = "apiVersion")]
    pub api_version: &'static str,
    /// Which document this is.
    pub kind: &'static str,
    /// The server that ran.
    pub server: String,
    /// Seconds that the story took.
    pub seconds: f64,
    /// The largest cpu share ÷ the mean before Ballast started, measured at the servers.
    pub imbalance_before: f64,
    /// The same at the end, the newcomer included.
    pub imbalance_after: f64,
    /// The least imbalance that any placement of these slots could reach, as the daemon reckons.
    pub floor: f64,
    /// Slots moved.
    pub slots_moved: u64,
    /// Keys moved.
    pub keys_moved: u64,
    /// Bytes moved, estimated.
    pub bytes_moved: u64,
    /// Acknowledged writes whose effect was looked for.
    pub writes_checked: u64,
    /// Those whose effect was not there: keys at the end, and reads meanwhile.
    pub writes_lost: u64,
    /// Keys that were not on exactly one primary at the end.
    pub keys_misplaced: u64,
    /// Requests that failed for good, and what the first of them met.
    pub requests_failed: u64,
    /// See `requests_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    /// The digest of the policy in use at the end.
    pub policy_digest: String,
    /// Calls into WebAssembly for a plan.
    pub policy_calls: u64,
    /// Latency of requests while no slot moved.
    pub latency_idle: Latency,
    /// Latency of requests while slots moved.
    pub latency_migrating: Latency,
    /// The daemon's most memory, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon_memory_mib: Option<f64>,
    /// What happened in each act.
    pub acts: Vec<Act>,
    /// The primaries before.
    pub before: Vec<NodeFigures>,
    /// The primaries at the end.
    pub after: Vec<NodeFigures>,
}

/// One act of the story.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    /// What was to happen.
    pub name: &'static str,
    /// Whether it did, in time.
    pub done: bool,
    /// Seconds that it took.
    pub seconds: f64,
    /// How it went, for people.
    pub detail: String,
}

impl DemoReport {
    /// What fell short of the promise, for people; nothing when all is well.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        if !is_even(self.imbalance_after, self.floor) {
            let Self { imbalance_after, floor, .. } = self;
            found.push(format!("did not converge: imbalance {imbalance_after:.3}, floor {floor:.3}"));
        }
        if self.writes_lost > 0 {
            found.push(format!("{} of {} writes were lost", self.writes_lost, self.writes_checked));
        }
        if self.keys_misplaced > 0 {
            found.push(format!("{} keys are not on exactly one primary", self.keys_misplaced));
        }
        if let Some(failure) = &self.first_failure {
            found.push(format!("{} requests failed, the first: {failure}", self.requests_failed));
        }
        found.extend(self.acts.iter().filter(|act| !act.done).map(|act| format!("{}: {}", act.name, act.detail)));
        found
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string_pretty(self)? } else { self.text() };
        writeln!(stdout(), "{text}")?;
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |row: std::fmt::Arguments<'_>| text.push_str(&format!("{row}\n"));
        line(format_args!("{:<16} {:>13} {:>15} {:>13} {:>15} {:>15}", "", "slots", "keys", "MiB", "cpu", "ops/s"));
        for after in &self.after {
            let before = self.before.iter().find(|node| node.node == after.node);
            let pair =
                |show: fn(&NodeFigures) -> String| format!("{} → {}", before.map_or("-".into(), show), show(after));
            line(format_args!(
                "{:<16} {:>13} {:>15} {:>13} {:>15} {:>15}",
                after.node.to_string(),
                pair(|node| node.slots.to_string()),
                pair(|node| node.keys.to_string()),
                pair(|node| format!("{:.1}", node.bytes as f64 / f64::from(1 << 20))),
                pair(|node| format!("{:.1}%", node.cpu * 100.0)),
                pair(|node| format!("{:.0}", node.ops)),
            ));
        }
        let latency =
            |of: &Latency| format!("p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms", of.p50_ms, of.p99_ms, of.max_ms);
        line(format_args!(""));
        line(format_args!(
            "imbalance         {:.2} → {:.2} (1 is even; at best {:.2})",
            self.imbalance_before, self.imbalance_after, self.floor
        ));
        line(format_args!(
            "moved             {} slots, {} keys, {:.1} MiB",
            self.slots_moved,
            self.keys_moved,
            self.bytes_moved as f64 / f64::from(1 << 20)
        ));
        line(format_args!("latency idle      {}", latency(&self.latency_idle)));
        line(format_args!("latency migrating {}", latency(&self.latency_migrating)));
        line(format_args!("writes            {} checked, {} lost", self.writes_checked, self.writes_lost));
        let digest = self.policy_digest.get(..12).unwrap_or(&self.policy_digest);
        line(format_args!("policy            sha256:{digest}, called {} times", self.policy_calls));
        text.truncate(text.trim_end().len());
        text
    }
}

pub(super) fn is_even(imbalance: f64, floor: f64) -> bool {
    imbalance < EVEN || imbalance <= floor * NEAR_FLOOR
}
