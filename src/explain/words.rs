//! Parts of a report as a person would say them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{CycleReport, MigrationReport, NodeId, Prediction, SlotSet, units};

/// Lines about moves, at most: a plan may have a thousand, and a person reads a screen.
const MOVES_MAX: usize = 12;

/// How long ago that was, in its two largest units: both are Unix times in milliseconds.
#[must_use]
pub fn ago(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1000;
    // Two units say enough: of two days nobody wants the seconds.
    let whole = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Where a node was reached, or what is left of its name.
pub(super) fn address(node: &NodeId, report: &CycleReport) -> String {
    report.addresses.get(node).map_or_else(|| node.short().to_string(), ToString::to_string)
}

/// What the guard let through, by ends and reason; the largest first.
pub(super) fn moves(report: &CycleReport) -> Vec<String> {
    let mut batches: BTreeMap<(&NodeId, &NodeId, &str), Vec<_>> = BTreeMap::new();
    for step in &report.approved {
        batches.entry((&step.from, &step.to, &step.reason)).or_default().push(step.slot);
    }
    let mut batches: Vec<_> = batches.into_iter().collect();
    batches.sort_by_key(|(_, slots)| std::cmp::Reverse(slots.len()));
    let left: usize = batches.iter().skip(MOVES_MAX).map(|(_, slots)| slots.len()).sum();
    let line = |((from, to, reason), slots): &((&NodeId, &NodeId, &str), Vec<_>)| {
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let which: SlotSet = slots.iter().copied().collect();
        format!("{} from {} to {}{because}", named(&which), address(from, report), address(to, report))
    };
    let mut lines: Vec<String> = batches.iter().take(MOVES_MAX).map(line).collect();
    if left > 0 {
        lines.push(format!("{left} slots more"));
    }
    lines
}

/// `slots 1-4,17`, or how many where that would be a long list.
fn named(slots: &SlotSet) -> String {
    let list = slots.to_string();
    match slots.len() {
        1 => format!("slot {list}"),
        _ if list.len() <= 40 => format!("slots {list}"),
        count => format!("{count} slots"),
    }
}

pub(super) fn refusals(report: &CycleReport) -> Vec<String> {
    let line = |refusal: &crate::model::Refusal| match refusal.slots.len() {
        0 => format!("({}) {}", refusal.check, refusal.reason),
        count => format!("{count} slots held back ({}): {}", refusal.check, refusal.reason),
    };
    report.refusals.iter().map(line).collect()
}

/// How even it was and, where anything `moves`, would be; nothing where nothing is measured.
#[must_use]
pub fn imbalance(predictions: &BTreeMap<String, Prediction>, moves: bool) -> Option<String> {
    let each = |(name, seen): (&String, &Prediction)| {
        let then = if moves { format!(" -> {:.2}", seen.imbalance_after) } else { String::new() };
        format!("{name} {:.2}{then} (at best {:.2})", seen.imbalance_before, seen.floor)
    };
    let all: Vec<String> = predictions.iter().map(each).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

pub(super) fn migration(migration: &MigrationReport, report: &CycleReport) -> String {
    let stayed = match migration.stayed.first() {
        None => String::new(),
        Some((slot, why)) => format!("; {} stayed, slot {slot} since {why}", migration.stayed.len()),
    };
    format!(
        "{} of {} to {} ({}): {} keys, {}, {:.1} s{stayed}",
        named(&migration.moved),
        address(&migration.source, report),
        address(&migration.target, report),
        migration.protocol,
        migration.keys,
        units::size::format(migration.bytes),
        migration.duration_ms as f64 / 1e3,
    )
}
