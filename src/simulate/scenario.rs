//! What a scenario file says. Units and defaults are here; whether it makes sense, [`sense`] knows, and what follows from
//! it, others.

mod event;
mod sense;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::collector;
use crate::guard::Limits;
use crate::model::units;
use crate::scaling::Scaling;
pub(super) use event::Event;

/// A cluster, its load over time, and what happens to it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its file's name, or the one that it is built in under.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// How long to simulate.
    pub hours: f64,
    /// Time from the start of one cycle to the start of the next. 10 s, as the daemon has it.
    #[serde(with = "units::duration", default = "ten_seconds")]
    pub cycle: Duration,
    /// Nothing is measured before: the collector's means and the first plan have to settle.
    #[serde(with = "units::duration", default)]
    pub warm_up: Duration,
    /// The nodes.
    pub cluster: Cluster,
    /// What clients do.
    pub load: Load,
    /// What slots hold.
    #[serde(default)]
    pub data: Data,
    /// What moving costs.
    #[serde(default)]
    pub migration: Migration,
    /// The guard's limits, as in the daemon's configuration.
    #[serde(default)]
    pub limits: Limits,
    /// The collector's settings, as in the daemon's configuration.
    #[serde(default)]
    pub collector: collector::Settings,
    /// When nodes come and go, as in the daemon's configuration; without it their number stays as events make it.
    #[serde(default)]
    pub scaling: Option<Scaling>,
    /// Parameters of policies, by their names.
    #[serde(default)]
    pub policy: BTreeMap<String, toml::Table>,
    /// What happens, in any order.
    #[serde(default)]
    pub event: Vec<Event>,
}

/// The nodes at the beginning.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Primaries.
    pub nodes: usize,
    /// Replicas of each.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Zones, dealt to nodes in turn.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Bytes of memory that each node has.
    #[serde(with = "units::size", default = "sixteen_gib")]
    pub memory: u64,
    /// Weights by node; nodes beyond the list have 1.
    #[serde(default)]
    pub weights: Vec<f64>,
    /// How slots are placed at the beginning.
    #[serde(default)]
    pub slots: Placement,
    /// How long it takes until a node that is wanted has joined.
    #[serde(with = "units::duration", default = "two_minutes")]
    pub arrives_after: Duration,
}

/// How slots are placed at the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// In even ranges, as Redis deals them: loads are as uneven as chance has it.
    #[default]
    Ranges,
    /// The largest slot to the node with the least load, and so on: nothing is left to improve.
    Balanced,
}

/// What clients do, in the mean and over time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Mean share of a core that nodes use at the beginning.
    pub utilisation: f64,
    /// Exponent of the Zipf distribution of accesses over keys; YCSB's is 0.99. 0: all keys alike.
    #[serde(default)]
    pub skew: f64,
    /// The coefficient of variation of what one cycle shows of a slot, however much it is used.
    #[serde(default)]
    pub noise: f64,
    /// What one command costs: so few of them fall into a cold slot's cycle that their number varies as well (Poisson).
    #[serde(with = "units::duration", default = "ten_microseconds")]
    pub command: Duration,
    /// The hottest slots change places with others, again and again.
    #[serde(default)]
    pub swap: Option<Swap>,
    /// The load of every slot goes up and down.
    #[serde(default)]
    pub wave: Option<Wave>,
    /// The load of every slot becomes that of another one.
    #[serde(default)]
    pub drift: Option<Drift>,
    /// Load goes to and fro between the two halves of the slots.
    #[serde(default)]
    pub flip: Option<Flip>,
    /// One slot takes so many times a node's fair share of the load.
    #[serde(default)]
    pub giant: Option<f64>,
}

/// The hottest slots change places with others.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// Time between two changes.
    #[serde(with = "units::duration")]
    pub every: Duration,
    /// How many of the hottest.
    pub slots: usize,
}

/// A sine over the base load.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// From one peak to the next.
    #[serde(with = "units::duration")]
    pub period: Duration,
    /// By which part of the mean it goes up and down, 0 to 1.
    pub swing: f64,
    /// Slots fall at random into so many groups of clients whose days begin one after the other. 1: all together.
    #[serde(default = "one_group")]
    pub groups: usize,
}

/// Each slot's load becomes that of another one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// How long that takes; then the next begins.
    #[serde(with = "units::duration")]
    pub over: Duration,
}

/// Load goes to and fro.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// How long each half has more.
    #[serde(with = "units::duration")]
    pub every: Duration,
    /// How many times as much as the other half.
    pub factor: f64,
}

/// What slots hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Mean bytes on a node at the beginning.
    #[serde(with = "units::size")]
    pub per_node: u64,
    /// Standard deviation of the logarithm of a slot's bytes (log-normal).
    pub spread: f64,
    /// Bytes of a key with its value.
    #[serde(with = "units::size")]
    pub key: u64,
    /// Whether what is hot is small.
    pub opposed: bool,
}

impl Default for Data {
    /// A quarter of the memory, slots that differ by half, keys of a cache.
    fn default() -> Self {
        Self { per_node: 4 << 30, spread: 0.5, key: 500, opposed: false }
    }
}

/// What moving costs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Migration {
    /// Bytes per second that one source sends.
    #[serde(with = "units::size")]
    pub bandwidth: u64,
    /// Share of a core that it takes on either end meanwhile.
    pub busy: f64,
    /// Time that a migration takes beside its bytes: looking at both ends, journal, hand-over.
    #[serde(with = "units::duration")]
    pub overhead: Duration,
    /// From a look at the cluster to the first migration: asking all nodes, the policy, the guard, and learning how quiet it is.
    #[serde(with = "units::duration")]
    pub delay: Duration,
}

impl Default for Migration {
    /// 16 MiB/s is what the default pace reaches with small keys; the other figures are of that order too.
    fn default() -> Self {
        let (overhead, delay) = (Duration::from_millis(200), Duration::from_secs(1));
        Self { bandwidth: 16 << 20, busy: 0.15, overhead, delay }
    }
}

/// Why a scenario cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// It is not what a scenario looks like; the text says where and what is accepted.
    #[error("{0}")]
    Unreadable(String),
    /// Keys have values that make no sense: each with its key.
    #[error("{}", .0.join("; "))]
    Senseless(Vec<String>),
}

impl Scenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`], naming the key.
    pub fn read(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let unreadable = |error: toml::de::Error| ScenarioError::Unreadable(error.to_string().trim_end().to_owned());
        let scenario = Self { name: name.to_owned(), ..toml::from_str(text).map_err(unreadable)? };
        let problems = sense::problems(&scenario);
        if problems.is_empty() { Ok(scenario) } else { Err(ScenarioError::Senseless(problems)) }
    }

    /// Simulates only so many hours; the warm-up then takes no more than a quarter of them.
    pub fn shorten(&mut self, hours: f64) {
        self.hours = hours;
        self.warm_up = self.warm_up.min(Duration::from_secs_f64(hours * 900.0));
    }
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

const fn ten_microseconds() -> Duration {
    Duration::from_micros(10)
}

const fn one() -> u32 {
    1
}

const fn one_group() -> usize {
    1
}

const fn sixteen_gib() -> u64 {
    16 << 30
}

impl Cluster {
    /// So many nodes that are like any other.
    pub(super) fn of(nodes: usize) -> Self {
        let placement = Placement::default();
        Self {
            nodes,
            replicas: one(),
            zones: Vec::new(),
            memory: sixteen_gib(),
            weights: Vec::new(),
            slots: placement,
            arrives_after: two_minutes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "summary = ''\nhours = 1\n[cluster]\nnodes = 3\n[load]\nutilisation = 0.5\n";

    fn problem(more: &str) -> String {
        Scenario::read("test", &format!("{LEAST}{more}")).expect_err(more).to_string()
    }

    #[test]
    fn a_scenario_needs_little_and_names_what_is_wrong() {
        assert!(Scenario::read("test", LEAST).is_ok());
        for (more, words) in [
            ("skwe = 1.0", "unknown field `skwe`"),
            ("skew = 9.0", "load.skew: 0 to 3 is accepted"),
            ("[limits]\nmin_gian = 1", "unknown field `min_gian`"),
            ("[migration]\nbandwidth = 'much'", "'much' is not a size"),
            ("[data]\nper_node = '32GiB'", "data.per_node: less than cluster.memory is accepted"),
            ("[[event]]\nkind = 'fail'\nat = '1m'\nnode = 3", "event.0.node: nodes are 0 to 2 at that time"),
            ("[[event]]\nkind = 'fail'\nat = '2h'\nnode = 1", "event.0.at: it must come before the 1 hours are over"),
            (
                "[[event]]\nkind = 'fail'\nat = '1m'\nnode = 1\n[[event]]\nkind = 'fail'\nat = '2m'\nnode = 1",
                "event.1.node: node 1 has no replica to take over",
            ),
            (
                "[[event]]\nkind = 'join'\nat = '2m'\nnodes = 1\n[[event]]\nkind = 'silence'\nat = '1m'\nnode = 3\n\
                 lasts = '1m'",
                "event.1.node: nodes are 0 to 2 at that time",
            ),
            ("[[event]]\nkind = 'drain'\nat = '1m'\nnodes = [0, 1, 2]", "event.0.nodes: one node at least"),
            ("[[event]]\nkind = 'fail'\nat = '1m'\nnode = 1\nlasts = '1m'", "unknown field `lasts`"),
            ("[[event]]\nkind = 'quake'\nat = '1m'", "unknown variant `quake`"),
            ("[scaling]\nmin_shard = 3", "unknown field `min_shard`"),
            ("[scaling]\ncpu_max = 8", "scaling.cpu_max: 8 is out of range: 0.1 to 1 is accepted"),
            ("[scaling]\nmin_shards = 4", "scaling.min_shards: cluster.nodes are 3"),
            ("[scaling]\nvictim = 'highest-ordinal'", "scaling.victim: policy and external are accepted"),
            ("[scaling]\nstandby = { dns = 'valkey:6379' }", "scaling.standby: nodes of a model come by themselves"),
        ] {
            let problem = problem(more);
            assert!(problem.contains(words), "{more}: {problem}");
        }
    }
}
