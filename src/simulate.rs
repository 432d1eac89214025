//! `ballast simulate`: policies on a model cluster, by the daemon's own arithmetic.
//!
//! ```text
//!  scenario or history ─→ Case ─→ Engine ─→ Run ─→ Report
//!                                   ├ World: owners, loads, counters with noise ─answers→ collector::Observer ─→ Snapshot
//!                                   ├ the policy, guard::review, migration's Schedule: the same as in the daemon
//!                                   └ Judge and Measure: how even it really was, and what that cost
//! ```
//!
//! Pure: the same case, policies and seed give the same report. It knows no files, terminals or pages. What is modelled,
//! and what is not, `docs/simulate.md` tells.

mod builtin;
mod carry;
mod case;
mod engine;
mod history;
mod judge;
mod latency;
mod measure;
mod random;
mod report;
mod scenario;
mod series;
#[cfg(test)]
mod tests;
mod workload;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::policy::Policy;
pub use builtin::{builtin, builtin_names};
pub use case::Case;
use engine::{Engine, hours};
pub use history::{HistoryError, Recording};
pub use report::{Balance, Charts, Mark, Measures, PlanOutcome, Report, Run, ScenarioReport, Shards};
pub use scenario::{Scenario, ScenarioError};
pub use series::Series;

/// Who plays: what reports call it, and how to ask it; `None` leaves everything as it is.
pub struct Player {
    /// What reports call it.
    pub label: String,
    /// Fresh: nobody has asked it yet.
    pub policy: Option<Box<dyn Policy>>,
}

/// A run that has ended, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Of which case.
    pub case: &'a str,
    /// Of which player.
    pub player: &'a str,
    /// How many have ended.
    pub ended: usize,
    /// How many there are.
    pub all: usize,
}

/// Every case with its own players, on as many threads as there are cores. `told` hears of each run that ends.
#[must_use]
pub fn simulate(games: Vec<(Case, Vec<Player>)>, seed: u64, told: impl Fn(Progress<'_>) + Sync) -> Report {
    let (cases, players): (Vec<Case>, Vec<Vec<Player>>) = games.into_iter().unzip();
    let jobs: Vec<(usize, Player)> = players
        .into_iter()
        .enumerate()
        .flat_map(|(case, players)| players.into_iter().map(move |one| (case, one)))
        .collect();
    let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
    for (case, run) in run_all(&cases, jobs, &told) {
        runs[case].push(run);
    }
    let scenarios = cases.iter().zip(runs).map(|(case, runs)| summary(case, runs)).collect();
    Report { seed, scenarios }
}

/// Runs each job once; gives them in their order.
fn run_all(cases: &[Case], jobs: Vec<(usize, Player)>, told: &(impl Fn(Progress<'_>) + Sync)) -> Vec<(usize, Run)> {
    let jobs: Vec<Mutex<Option<(usize, Player)>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let done: Vec<Mutex<Option<(usize, Run)>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(place) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|place| *place < jobs.len()) {
            let job = jobs[place].lock().unwrap_or_else(PoisonError::into_inner).take();
            let (case, Player { label, policy }) = job.expect("each place is given once");
            let run = Engine::new(&cases[case], policy).run(&label);
            let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
            told(Progress { case: &cases[case].name, player: &label, ended, all: jobs.len() });
            *done[place].lock().unwrap_or_else(PoisonError::into_inner) = Some((case, run));
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    let done = done.into_iter().filter_map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner));
    done.collect()
}

fn mark(mark: &case::Mark) -> Mark {
    Mark { at_hours: hours(mark.at_ms), name: mark.name.to_owned(), disturbs: mark.disturbs }
}

fn summary(case: &Case, runs: Vec<Run>) -> ScenarioReport {
    ScenarioReport {
        name: case.name.clone(),
        summary: case.summary.clone(),
        hours: case.hours(),
        warm_up_hours: hours(case.warm_up_ms),
        cycle_s: case.cycle_ms as f64 / 1000.0,
        primaries: case.primaries(),
        scales: case.scaling.is_some(),
        bytes: case.bytes(),
        marks: case.marks.iter().map(mark).collect(),
        runs,
    }
}
