//! The page: one file that needs nothing else. The table on top, then charts, one scenario after the other.

use std::fmt::Write as _;

use super::chart::{Chart, Line, escape};
use super::text::{COLUMNS, heading, remarks};
use crate::simulate::{Report, Run, ScenarioReport, Series};

const STYLE: &str = include_str!("page.css");

pub(super) fn page(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>Ballast: simulation</title><style>{STYLE}</style></head><body>\n\
         <h1>Simulation</h1>\n<p>Policies on a model cluster, seed {}, ballast {}. <b>none</b> moves nothing: the base line.</p>\n",
        report.seed,
        env!("CARGO_PKG_VERSION")
    );
    html.push_str(&table(report));
    for scenario in &report.scenarios {
        html.push_str(&section(scenario));
    }
    html.push_str("</body></html>\n");
    html
}

fn table(report: &Report) -> String {
    let mut html = "<div class=\"wide\"><table><thead><tr><th>policy</th>".to_owned();
    for (name, meaning, _) in COLUMNS {
        let _ = write!(html, "<th title=\"{}\">{}</th>", escape(meaning), escape(name));
    }
    html.push_str("</tr></thead>\n");
    for scenario in &report.scenarios {
        let name = escape(&scenario.name);
        let _ = write!(
            html,
            "<tbody><tr class=\"scenario\"><th colspan=\"{}\"><a href=\"#{name}\">{name}</a> <span>{}</span></th></tr>",
            COLUMNS.len() + 1,
            escape(&scenario.summary)
        );
        for run in &scenario.runs {
            let _ = write!(html, "<tr><td>{}</td>", escape(&run.policy));
            for (_, _, figure) in COLUMNS {
                let _ = write!(html, "<td>{}</td>", escape(&figure(&run.measures)));
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody>\n");
    }
    html.push_str("</table></div><details><summary>What the columns mean</summary><dl>");
    for (name, meaning, _) in COLUMNS {
        let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(meaning));
    }
    html.push_str("</dl></details>\n");
    html
}

fn section(scenario: &ScenarioReport) -> String {
    let name = escape(&scenario.name);
    let mut html = format!(
        "<section id=\"{name}\"><h2>{name}</h2><p>{} <span>{}</span></p>\n<div class=\"charts\">",
        escape(&scenario.summary),
        escape(&heading(scenario))
    );
    for chart in charts(scenario) {
        html.push_str(&chart.over_time(scenario.hours, scenario.warm_up_hours, &scenario.marks));
        html.push('\n');
    }
    html.push_str(&promises(scenario).scatter());
    html.push_str("</div>");
    let said = scenario.runs.iter().flat_map(|run| remarks(scenario, run).into_iter().map(move |remark| (run, remark)));
    let said: Vec<String> =
        said.map(|(run, remark)| format!("<li>{}: {}</li>", escape(&run.policy), escape(&remark))).collect();
    if !said.is_empty() {
        let _ = write!(html, "<ul>{}</ul>", said.concat());
    }
    html.push_str("</section>\n");
    html
}

fn charts(scenario: &ScenarioReport) -> Vec<Chart<'static>> {
    let chart = |title, y_label, (y_from, y_to), points: &dyn Fn(&Run) -> Vec<(f64, f64)>| Chart {
        title,
        x_label: "hours",
        y_label,
        y_from,
        y_to,
        lines: scenario.runs.iter().map(|run| Line { label: run.policy.clone(), points: points(run) }).collect(),
    };
    let gib = |(hours, bytes): (f64, f64)| (hours, bytes / f64::from(1 << 30));
    let percent = |(hours, share): (f64, f64)| (hours, share * 100.0);
    let mut charts = vec![
        chart("CPU: imbalance ÷ floor", "× the best possible", (1.0, 1.2), &|run| both_ends(&run.charts.cpu_excess)),
        chart("Memory: imbalance ÷ floor", "× the best possible", (1.0, 1.2), &|run| {
            both_ends(&run.charts.memory_excess)
        }),
        chart("The busiest node", "% of its core", (0.0, 100.0), &|run| {
            both_ends(&run.charts.hottest).into_iter().map(percent).collect()
        }),
        chart("Moved so far", "GiB", (0.0, 0.1), &|run| {
            both_ends(&run.charts.bytes_moved).into_iter().map(gib).collect()
        }),
        chart("Slots moved per hour", "slots an hour", (0.0, 10.0), &|run| steps(&run.charts.moves, scenario.hours)),
    ];
    if scenario.scales {
        charts.push(chart("Primaries", "nodes", (0.0, 4.0), &|run| both_ends(&run.charts.nodes)));
    }
    charts
}

/// Predicted against realised imbalance of each plan.
fn promises(scenario: &ScenarioReport) -> Chart<'static> {
    let points = |run: &Run| {
        let plans = run.plans.iter().filter_map(|plan| Some((plan.predicted, plan.realised?)));
        plans.collect::<Vec<_>>()
    };
    let lines: Vec<Line> =
        scenario.runs.iter().map(|run| Line { label: run.policy.clone(), points: points(run) }).collect();
    // Both axes are the same.
    let most = lines.iter().flat_map(|line| &line.points).fold(1.1, |most: f64, (x, y)| most.max(*x).max(*y));
    Chart {
        title: "Each plan: cpu imbalance, predicted and realised",
        x_label: "predicted imbalance",
        y_label: "realised",
        y_from: 1.0,
        y_to: most,
        lines,
    }
}

/// Least and most of each part, so that a short peak shows; one point where they are the same.
fn both_ends(series: &Series) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (place, (least, most)) in series.least.iter().zip(&series.most).enumerate() {
        let hours = (place as f64 + 0.5) * series.step_s / 3600.0;
        points.push((hours, *least));
        if most > least {
            points.push((hours, *most));
        }
    }
    points
}

/// Counts of equal parts of the time, as a staircase of rates per hour.
fn steps(counts: &[u64], hours: f64) -> Vec<(f64, f64)> {
    let width = hours / counts.len() as f64;
    let step = |(place, count): (usize, &u64)| {
        let from = place as f64 * width;
        let rate = *count as f64 / width;
        [(from, rate), (from + width, rate)]
    };
    counts.iter().enumerate().flat_map(step).collect()
}
