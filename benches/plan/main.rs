//! How good plans are and what they cost: against what is possible, against peers, and in WebAssembly.
//!
//! `make bench-plan`; `BALLAST_BENCH_ONLY=0.8` runs rows whose names hold all of these words, separated by commas. The library is asked natively and
//! as the policy `balance`; the peers are the greedy that most rebalancers use (the largest slot that fits, from the hottest to the
//! coldest node) and `redis-cli`'s even slot counts. What is possible: the floor and the fewest bytes, both proven with each
//! plan, and for small clusters the optimum by HiGHS (`exact.py`).
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark talks and stops at surprises")]

mod cases;
mod exact;
mod peers;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::policy::{Compiler, Policy as _, PolicyHost, Settings, Source, search_view};
use ballast_search::{Goals, Problem, Report, ResourceGoal, View, solve};

use cases::Case;

/// Calls of which the fastest counts: other work on the machine only ever adds.
const CALLS: usize = 5;

/// What is evened in every case.
fn resources() -> Vec<ResourceGoal> {
    let goal = |name| ResourceGoal { trigger: 1.1, target: 1.05, ..ResourceGoal::named(name) };
    ["cpu", "memory", "network", "ops"].map(goal).into()
}

fn main() {
    let only = std::env::var("BALLAST_BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.split(',').all(|word| name.contains(word));
    println!(
        "Four resources. excess: largest imbalance ÷ floor. bytes: of all, and ÷ the fewest possible. A node of four has twice the weight."
    );
    println!(
        "{:<22} {:>13} {:>6} {:>7} {:>6} {:>6} {:>7} {:>7} {:>8} | {:<30} | {:<22}",
        "case",
        "excess",
        "giants",
        "bytes",
        "÷least",
        "moves",
        "native",
        "wasm",
        "stop",
        "cpu alone: ours / greedy",
        "even counts"
    );
    let host = PolicyHost::new(Settings { compiler: Compiler::InProcess, deadline_ms: 60_000, ..Settings::default() });
    let host = host.unwrap();
    for case in cases::all().into_iter().filter(|case| wanted(&case.to_string())) {
        row(case, &host);
    }
    if wanted("exact") {
        exact::table();
    }
}

fn row(case: Case, host: &PolicyHost) {
    let snapshot = Arc::new(case.snapshot());
    let view = search_view(&snapshot);
    let goals = Goals { resources: resources(), ..Goals::default() };
    let problem = Problem::of(&view, &goals).unwrap();
    let report = solve(&problem, &goals).report;
    let native = fastest(|| solve(&problem, &goals));
    let parameters = serde_json::json!({"resources": resources()}).to_string();
    let mut policy = host.load(&Source::Embedded("balance".into()), &parameters).unwrap();
    let wasm = fastest(|| policy.plan(&snapshot).unwrap());
    let all: f64 = problem.bytes.iter().sum();
    println!(
        "{:<22} {:>5.2} -> {:>4.2} {:>6} {:>6.2}% {:>6} {:>6} {:>4} ms {:>4} ms {:>8} | {:<30} | {:<22}",
        case.to_string(),
        report.excess_before,
        report.excess_after,
        report.giants.len(),
        100.0 * report.bytes / all,
        ratio(report.bytes, report.bytes_least),
        report.moves,
        native.as_millis(),
        wasm.as_millis(),
        format!("{:?}", report.stop).to_lowercase(),
        against_greedy(&view),
        even_counts(&problem, &goals, &report),
    );
}

/// Ours and the greedy, both for cpu alone and without filling new nodes, which the greedy does not: excess, and the bytes of ours
/// at the greedy's own excess ÷ its bytes. Where the greedy stops at a giant with other nodes far above, bytes do not compare.
fn against_greedy(view: &View) -> String {
    let goals = |target: f64| Goals {
        resources: vec![ResourceGoal { trigger: 1.1_f64.max(target), target, ..ResourceGoal::named("cpu") }],
        use_empty: false,
        ..Goals::default()
    };
    let problem = Problem::of(view, &goals(1.05)).unwrap();
    let ours = solve(&problem, &goals(1.05)).report;
    let greedy = peers::greedy(&problem, &goals(1.05), 1.05);
    let bytes = if greedy.excess < 1.2 {
        let target = greedy.excess.max(1.05);
        let goals = goals(target);
        ratio(solve(&Problem::of(view, &goals).unwrap(), &goals).report.bytes, greedy.bytes)
    } else {
        "–".to_owned()
    };
    format!("{:.3} / {:.3}, bytes {bytes}", ours.excess_after, greedy.excess)
}

fn even_counts(problem: &Problem, goals: &Goals, ours: &Report) -> String {
    let counts = peers::even_counts(problem, goals);
    format!("{:.2}, our bytes {}", counts.excess, ratio(ours.bytes, counts.bytes))
}

fn ratio(one: f64, other: f64) -> String {
    if other > 0.0 { format!("{:.2}", one / other) } else { "–".to_owned() }
}

fn fastest<T>(mut call: impl FnMut() -> T) -> Duration {
    let timed = |_| {
        let started = Instant::now();
        black_box(call());
        started.elapsed()
    };
    (0..CALLS).map(timed).min().unwrap()
}
