//! `ballast history`: what a daemon did, and what happened to it, in the order of time.

use std::time::Duration;

use serde::Serialize;

use super::archive::Archive;
use super::outcome::{Exit, Outcome};
use super::screen::Screen;
use crate::clock::now_ms;
use crate::control::CycleSummary;
use crate::explain::ago;
use crate::model::{CycleOutcome, CycleReport, units};
use crate::store::{Event, StoredEvent};

/// Whose history, and how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    archive: Archive,
    /// At most so many cycles, and as many events
    #[arg(short = 'n', long, value_name = "N", default_value_t = 40)]
    limit: usize,
    /// Nothing older
    #[arg(long, value_name = "DURATION", value_parser = units::duration::parse)]
    since: Option<Duration>,
    /// Only cycles that moved slots
    #[arg(long, conflicts_with = "all")]
    moves: bool,
    /// Cycles in which there was nothing to do as well
    #[arg(long)]
    all: bool,
}

/// One line of the history.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Cycle(Box<CycleSummary>),
    Event(StoredEvent),
}

#[derive(Serialize)]
struct History {
    items: Vec<Item>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Outcome {
    let store = args.archive.open(screen)?;
    let oldest_ms = args.since.map_or(0, |since| now_ms().saturating_sub(since.as_millis() as u64));
    let wanted = |report: &CycleReport| args.all || args.moves || report.outcome != CycleOutcome::NoChange;
    let cycles = store.cycles_that(args.moves, args.limit, wanted)?;
    let events = if args.moves { Vec::new() } else { store.events(args.limit)? };
    // The older of the two lists to the end of the younger: else there would be gaps that look like silence.
    let full_from = |full: bool, oldest: Option<u64>| oldest.filter(|_| full).unwrap_or(0);
    let complete_ms = full_from(cycles.len() == args.limit, cycles.last().map(|report| report.started_at_ms));
    let mut items: Vec<Item> = cycles.iter().map(|report| Item::Cycle(Box::new(report.into()))).collect();
    items.extend(events.into_iter().filter(|event| event.at_ms >= complete_ms).map(Item::Event));
    items.retain(|item| item.at_ms() >= oldest_ms);
    items.sort_by_key(Item::at_ms);
    let history = History { items };
    screen.show("History", &history, || text(&history.items))?;
    Ok(Exit::Ok)
}

impl Item {
    const fn at_ms(&self) -> u64 {
        match self {
            Self::Cycle(cycle) => cycle.started_at_ms,
            Self::Event(stored) => stored.at_ms,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Cycle(cycle) => cycle_words(cycle),
            Self::Event(stored) => event_words(&stored.event),
        }
    }
}

/// A line each, the newest at the bottom; what repeats itself once, with how often.
fn text(items: &[Item]) -> String {
    let now_ms = now_ms();
    let mut lines: Vec<(u64, String, String, usize)> = Vec::new();
    for item in items {
        let name = if let Item::Cycle(cycle) = item { cycle.cycle.to_string() } else { String::new() };
        let words = item.words();
        match lines.last_mut() {
            Some((_, last, before, times)) if *before == words && !name.is_empty() => {
                *last = name;
                *times += 1;
            }
            _ => lines.push((item.at_ms(), name, words, 1)),
        }
    }
    if lines.is_empty() {
        return "nothing happened, as far as that goes back\n".to_owned();
    }
    let line = |(at_ms, name, words, times): (u64, String, String, usize)| {
        let times = if times > 1 { format!("  ({times} cycles alike)") } else { String::new() };
        format!("{:>10} ago  {name:>6}  {words}{times}\n", ago(at_ms, now_ms))
    };
    lines.into_iter().map(line).collect()
}

fn cycle_words(cycle: &CycleSummary) -> String {
    let held: usize = cycle.refusals.iter().map(|refusal| refusal.slots).sum();
    let held = if held > 0 { format!(", {held} held back") } else { String::new() };
    let said =
        cycle.summary.as_deref().filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!(": {said}"));
    let approved = cycle.moves_approved;
    match &cycle.outcome {
        CycleOutcome::NoChange => format!("nothing to move{said}"),
        CycleOutcome::Planned => format!("{approved} slots would move ({}){held}{said}", cycle.mode),
        CycleOutcome::Executed => {
            let (keys, bytes) = (cycle.keys_moved, units::size::format(cycle.bytes_moved));
            format!("{} slots moved, {keys} keys, {bytes}{held}{said}", cycle.slots_moved)
        }
        CycleOutcome::Incomplete { reason } => format!("{reason}{held}"),
        CycleOutcome::Refused => {
            let why = cycle
                .refusals
                .first()
                .map_or_else(String::new, |first| format!(" ({}): {}", first.check, first.reason));
            format!("{held} by the guard{why}", held = format_args!("{} moves held back", cycle.moves_proposed))
        }
        CycleOutcome::PolicyFailed { kind, reason } => format!("the policy gave no plan ({kind}): {reason}"),
        CycleOutcome::NotCollected { reason } => format!("the cluster could not be seen: {reason}"),
    }
}

fn event_words(event: &Event) -> String {
    let because = |who: &str, why: &str| match why {
        "" => format!(" by {who}"),
        why => format!(" by {who}: {why}"),
    };
    match event {
        Event::Started { version } => format!("ballast {version} started"),
        Event::Stopped { why } => format!("ballast stopped: {why}"),
        Event::Mode { from, to, who, why } if from == to => format!("mode {to}{}", because(who, why)),
        Event::NodesAccepted { nodes, who, why } => {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            format!("{} accepted{}", nodes.join(", "), because(who, why))
        }
        Event::Mode { from, to, who, why } => format!("mode {from} -> {to}{}", because(who, why)),
        Event::PolicyLoaded { policy, source } => format!("policy {policy} in use, from {source}"),
        Event::PolicyRefused { source, why } => format!("policy {source} refused: {why}"),
        Event::ShadowLoaded { shadow, policy } => format!("shadow {shadow} is {policy}"),
        Event::ShadowRefused { shadow, why } => format!("shadow {shadow} refused: {why}"),
        Event::Promoted { shadow: Some(shadow), who, why } => format!("shadow {shadow} decides{}", because(who, why)),
        Event::Promoted { shadow: None, who, why } => format!("the configured policy decides{}", because(who, why)),
        Event::ConfigLoaded { changed, needs_restart } => {
            let of = |what: &str, keys: &[String]| match keys {
                [] => String::new(),
                keys => format!("; {what}: {}", keys.join(", ")),
            };
            format!("configuration in use{}{}", of("changed", changed), of("waits for a restart", needs_restart))
        }
        Event::ConfigRefused { why } => format!("configuration refused: {why}"),
        Event::Cancelled { cycle, who, why } => format!("moves of cycle {cycle} cancelled{}", because(who, why)),
        Event::PlanWaits { plan, slots, summary, .. } => {
            format!("plan {plan} waits for approval, {slots} slots: {summary}")
        }
        Event::PlanApproved { plan, who, why } => format!("plan {plan} was approved{}", because(who, why)),
        Event::PlanDropped { plan, who, why } => format!("plan {plan} was dropped{}", because(who, why)),
        Event::ScaleWanted { shards, wanted, why } => format!("{wanted} shards are wanted instead of {shards}: {why}"),
        Event::Introduced { address } => format!("{address} of the standby pool was let into the cluster"),
        Event::DrainBegun { address, forget, who, why, .. } => {
            let then = if *forget { ", and then forgotten" } else { "" };
            format!("{address} is to be emptied{then}{}", because(who, why))
        }
        Event::DrainEnded { address, who, why } => format!("{address} may have slots again{}", because(who, why)),
        Event::Emptied { address } => format!("{address} is empty"),
        Event::Left { address } => format!("{address} has left the cluster"),
        Event::FlagsCleared { slots, node, why } => {
            format!("flags of slots {slots} cleared on {node}, which a migration had left behind: {why}")
        }
        Event::Recovered { slots } => format!("{slots} slots settled that an earlier run had left open"),
    }
}
