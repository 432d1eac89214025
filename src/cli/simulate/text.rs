//! The table: one block for each scenario, one line for each policy.

use std::fmt::Write as _;

use super::super::screen::table;
use crate::model::units::size;
use crate::simulate::{Measures, Report, Run, ScenarioReport, Shards};

/// A heading, what it means, and its figure.
type Column = (&'static str, &'static str, fn(&Measures) -> String);

/// The same on the page.
pub(super) const COLUMNS: [Column; 14] = [
    ("CPU×", "mean cpu imbalance ÷ floor: 1 is as even as can be", |of| ratio(balance(of, "cpu").0)),
    ("MAX", "largest cpu imbalance ÷ floor", |of| ratio(balance(of, "cpu").1)),
    ("MEM×", "mean memory imbalance ÷ floor", |of| ratio(balance(of, "memory").0)),
    (
        "BACK",
        "disturbances after which cpu came to 1.10 × floor, and drained nodes were empty, for three cycles; of all",
        |of| {
            if of.disturbances == 0 { "-".into() } else { format!("{}/{}", of.recovered, of.disturbances) }
        },
    ),
    ("IN", "how long that took in the mean", |of| of.recovery_s.map_or("-".into(), time)),
    ("MOVED", "bytes moved", |of| size::format(of.bytes_moved as u64)),
    ("DATA", "bytes moved, as a share of all data", |of| percent(of.data_moved)),
    ("SLOTS", "slots moved", |of| of.moves.to_string()),
    ("AGAIN", "different slots moved twice or more", |of| of.moved_again.to_string()),
    ("PONG", "moves back to an owner that the slot left within 360 cycles", |of| of.ping_pongs.to_string()),
    ("PLANS", "cycles in which the policy proposed moves", |of| of.plans.to_string()),
    ("ERROR", "mean |predicted − realised| cpu imbalance", |of| {
        of.prediction_error.map_or("-".into(), |error| format!("{error:.3}"))
    }),
    (">90%", "share of the time in which a node used more than 90 % of its core", |of| percent(of.overloaded)),
    ("P99×", "99th percentile of latency ÷ that of idle nodes, mean over time", |of| {
        format!("{:.1}", of.p99_factor_mean)
    }),
];

fn balance(of: &Measures, resource: &str) -> (f64, f64) {
    of.balance.get(resource).map_or((1.0, 1.0), |balance| (balance.excess_mean, balance.excess_max))
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0".to_owned(),
        percent if percent < 10.0 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 100.0 => format!("{seconds:.0}s"),
        seconds if seconds < 6000.0 => format!("{:.0}m", seconds / 60.0),
        seconds => format!("{:.1}h", seconds / 3600.0),
    }
}

/// What is said of a scenario above its table.
pub(super) fn heading(scenario: &ScenarioReport) -> String {
    let ScenarioReport { hours, primaries, cycle_s, bytes, .. } = scenario;
    let digits = usize::from(*hours < 1.0);
    format!(
        "{hours:.digits$} h, {primaries} primaries, {} of data, a cycle of {cycle_s:.0} s",
        size::format(*bytes as u64)
    )
}

/// What went wrong or was held back, in words.
pub(super) fn remarks(scenario: &ScenarioReport, run: &Run) -> Vec<String> {
    let Measures { refusals, faults, failed_migrations, bytes_between_zones, .. } = &run.measures;
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    let mut remarks = Vec::new();
    if scenario.scales {
        let Shards { least, most, node_hours, more, fewer, turns } = run.measures.shards;
        let shards = if least == most { most.to_string() } else { format!("{least} to {most}") };
        let changes = if most > least { format!(": {more} more, {fewer} fewer, {turns} turns") } else { String::new() };
        remarks.push(format!("{shards} shards, {node_hours:.0} node hours{changes}"));
    }
    if !refusals.is_empty() {
        remarks.push(format!("slots held back by the guard: {}", list(refusals)));
    }
    if !faults.is_empty() {
        remarks.push(format!("cycles without a plan, for the policy failed: {}", list(faults)));
    }
    if let Some(why) = &run.measures.given_up {
        remarks.push(format!("not asked any more, since it failed each time: {why}"));
    }
    if *bytes_between_zones > 0.0 {
        remarks.push(format!("{} of what moved went to another zone", size::format(*bytes_between_zones as u64)));
    }
    if *failed_migrations > 0 {
        remarks.push(format!("{failed_migrations} migrations failed"));
    }
    remarks
}

/// One table of everything, for documents.
pub(super) fn markdown(report: &Report) -> String {
    let names: Vec<&str> = ["scenario", "policy"].into_iter().chain(COLUMNS.iter().map(|(name, ..)| *name)).collect();
    let mut text = format!("| {} |\n|---|---|{}\n", names.join(" | "), "---:|".repeat(COLUMNS.len()));
    for scenario in &report.scenarios {
        for (place, run) in scenario.runs.iter().enumerate() {
            let name = if place == 0 { format!("`{}`", scenario.name) } else { String::new() };
            let figures = COLUMNS.iter().map(|(_, _, figure)| figure(&run.measures));
            let cells: Vec<String> = [name, run.policy.replace('|', "\\|")].into_iter().chain(figures).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}

pub(super) fn text(report: &Report) -> String {
    let mut head = vec!["POLICY"];
    head.extend(COLUMNS.iter().map(|(name, ..)| *name));
    let mut text = String::new();
    for scenario in &report.scenarios {
        let _ = writeln!(text, "{} ({})\n{}", scenario.name, heading(scenario), scenario.summary);
        let row = |run: &Run| {
            let figures = COLUMNS.iter().map(|(_, _, figure)| figure(&run.measures));
            std::iter::once(run.policy.clone()).chain(figures).collect()
        };
        let rows: Vec<Vec<String>> = scenario.runs.iter().map(row).collect();
        text.push_str(&table(1, &head, &rows));
        for run in &scenario.runs {
            for remark in remarks(scenario, run) {
                let _ = writeln!(text, "- {}: {remark}", run.policy);
            }
        }
        text.push('\n');
    }
    for (name, meaning, _) in COLUMNS {
        let _ = writeln!(text, "{name:>6}  {meaning}");
    }
    text
}
