//! What came of a simulation, as values: every table, document and page is a view of this.

use std::collections::BTreeMap;

use serde::Serialize;

use super::series::Series;

/// All scenarios with all policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What chance was decided by.
    pub seed: u64,
    /// One by one.
    pub scenarios: Vec<ScenarioReport>,
}

/// One scenario with all policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Simulated hours.
    pub hours: f64,
    /// Hours at the beginning that no figure counts.
    pub warm_up_hours: f64,
    /// Seconds from one cycle to the next.
    pub cycle_s: f64,
    /// Primaries at the beginning.
    pub primaries: usize,
    /// Whether their number follows what policies advise.
    pub scales: bool,
    /// Bytes of all slots at the beginning.
    pub bytes: f64,
    /// What happened, and when.
    pub marks: Vec<Mark>,
    /// In the order in which policies were given; the first one does nothing.
    pub runs: Vec<Run>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Hours from the beginning.
    pub at_hours: f64,
    /// What.
    pub name: String,
    /// Whether it disturbed the balance: those count in `disturbances`.
    pub disturbs: bool,
}

/// One policy in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// As it was asked for.
    pub policy: String,
    /// The figures.
    pub measures: Measures,
    /// Every plan of which something was carried out.
    pub plans: Vec<PlanOutcome>,
    /// Over time.
    pub charts: Charts,
}

/// How even one resource was, after the warm-up, weighted by time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Balance {
    /// Largest utilisation ÷ mean, in the mean.
    pub imbalance_mean: f64,
    /// The largest.
    pub imbalance_max: f64,
    /// Imbalance ÷ floor, in the mean.
    pub excess_mean: f64,
    /// The largest.
    pub excess_max: f64,
    /// Excess beyond 1, summed over time, in hours.
    pub excess_hours: f64,
}

/// How many shards there were. Nodes that are to be emptied cost, and are no shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Shards {
    /// The fewest.
    pub least: usize,
    /// The most.
    pub most: usize,
    /// Hours of all nodes, those that drain included: what they cost.
    pub node_hours: f64,
    /// How many came, or stayed after all.
    pub more: u64,
    /// How many went, or died.
    pub fewer: u64,
    /// How often their number turned: grew after it had shrunk, or the other way round.
    pub turns: u64,
}

/// The figures of one run, after the warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Measures {
    /// By resource.
    pub balance: BTreeMap<String, Balance>,
    /// Bytes moved.
    pub bytes_moved: f64,
    /// The same as a share of all data.
    pub data_moved: f64,
    /// How many shards there were.
    pub shards: Shards,
    /// Bytes moved from one zone to another.
    pub bytes_between_zones: f64,
    /// Slots moved, each time counted.
    pub moves: u64,
    /// Different slots moved twice or more.
    pub moved_again: u64,
    /// Moves that brought a slot back to an owner that it left a short while before: see `docs/simulate.md`.
    pub ping_pongs: u64,
    /// How much node loads went to and fro beyond where they ended, per node, in mean loads.
    pub thrashing: f64,
    /// Cycles in which the policy proposed moves.
    pub plans: u64,
    /// Slots held back by the guard, by check.
    pub refusals: BTreeMap<String, u64>,
    /// Cycles in which the policy failed, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Why the policy was not asked any more before the end, in its last words; absent when it was.
    pub given_up: Option<String>,
    /// Migrations of which slots stayed.
    pub failed_migrations: u64,
    /// Mean |predicted − realised| of the cpu's imbalance over plans; absent without a plan.
    pub prediction_error: Option<f64>,
    /// How often the balance was disturbed after the warm-up.
    pub disturbances: u64,
    /// Of those, how often cpu excess came to 1.10 and drained nodes were empty, for three cycles, before the next one.
    pub recovered: u64,
    /// Seconds that it took in the mean, of those that recovered.
    pub recovery_s: Option<f64>,
    /// Share of the time in which a node used more than nine tenths of a core.
    pub overloaded: f64,
    /// 99th percentile of latency, as a multiple of idle nodes', in the mean over time.
    pub p99_factor_mean: f64,
    /// The largest.
    pub p99_factor_max: f64,
}

/// What a plan promised and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanOutcome {
    /// Hours from the beginning.
    pub at_hours: f64,
    /// What the policy said.
    pub summary: String,
    /// Slots moved.
    pub moves: u64,
    /// Bytes moved.
    pub bytes: f64,
    /// Seconds from the first migration to the last.
    pub took_s: f64,
    /// The cpu's imbalance before, really.
    pub before: f64,
    /// The same, as the guard predicted it for afterwards.
    pub predicted: f64,
    /// The same, really, three cycles after the plan ended or when the next one began; absent when the run ended first.
    pub realised: Option<f64>,
}

/// Figures over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charts {
    /// Imbalance ÷ floor of the cpu.
    pub cpu_excess: Series,
    /// Imbalance ÷ floor of the memory.
    pub memory_excess: Series,
    /// Largest utilisation of a node.
    pub hottest: Series,
    /// Bytes moved so far.
    pub bytes_moved: Series,
    /// How many primaries there are.
    pub nodes: Series,
    /// Slots moved in each of as many equal parts of the time.
    pub moves: Vec<u64>,
}
