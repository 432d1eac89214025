//! What a scenario file says. Units and defaults are here; what follows from them, others know.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::collector;
use crate::guard::Limits;
use crate::model::{SLOT_COUNT, units};

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
    pub collect: collector::Settings,
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

/// Something that happens once. Nodes are numbered from 0, in the order of their joining.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Event {
    /// Some slots, at random, get many times their load.
    Burst {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// How many slots.
        slots: usize,
        /// How many times their load.
        factor: f64,
        /// How long it grows.
        #[serde(with = "units::duration")]
        ramp: Duration,
        /// How long it stays.
        #[serde(with = "units::duration")]
        lasts: Duration,
        /// How long it fades.
        #[serde(with = "units::duration")]
        fade: Duration,
    },
    /// A primary dies. Its replica takes over; the dead one is forgotten.
    Fail {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        node: usize,
    },
    /// Empty primaries join.
    Join {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// How many.
        nodes: usize,
    },
    /// Nodes are to be emptied.
    Drain {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        nodes: Vec<usize>,
    },
    /// A node serves its clients and does not answer us.
    Silence {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// Which.
        node: usize,
        /// For how long.
        #[serde(with = "units::duration")]
        lasts: Duration,
    },
    /// The next migration gets stuck.
    Stuck {
        /// When.
        #[serde(with = "units::duration")]
        at: Duration,
        /// For how long.
        #[serde(with = "units::duration")]
        lasts: Duration,
    },
}

impl Event {
    /// When it happens.
    #[must_use]
    pub const fn at(&self) -> Duration {
        match self {
            Self::Burst { at, .. }
            | Self::Fail { at, .. }
            | Self::Join { at, .. }
            | Self::Drain { at, .. }
            | Self::Silence { at, .. }
            | Self::Stuck { at, .. } => *at,
        }
    }
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
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

/// Why a scenario cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// It is not what a scenario looks like; the text says where and what is accepted.
    #[error("scenario {name}: {message}")]
    Unreadable {
        /// Which.
        name: String,
        /// What the reader said.
        message: String,
    },
    /// Keys have values that make no sense.
    #[error("scenario {name}: {}", problems.join("; "))]
    Senseless {
        /// Which.
        name: String,
        /// Each with its key.
        problems: Vec<String>,
    },
}

impl Scenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`], naming the key.
    pub fn read(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let unreadable =
            |error: toml::de::Error| ScenarioError::Unreadable { name: name.to_owned(), message: error.to_string() };
        let scenario = Self { name: name.to_owned(), ..toml::from_str(text).map_err(unreadable)? };
        let problems = scenario.problems();
        if problems.is_empty() {
            Ok(scenario)
        } else {
            Err(ScenarioError::Senseless { name: name.to_owned(), problems })
        }
    }

    /// Simulates only so many hours; the warm-up then takes no more than a quarter of them.
    pub fn shorten(&mut self, hours: f64) {
        self.hours = hours;
        self.warm_up = self.warm_up.min(Duration::from_secs_f64(hours * 900.0));
    }

    /// Everything that makes no sense, each with its key.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |fine: bool, key: &str, accepted: &str| {
            if !fine {
                problems.push(format!("{key}: {accepted}"));
            }
        };
        let Self { cluster, load, data, migration, .. } = self;
        require(self.hours > 0.0 && self.hours <= 10_000.0, "hours", "more than 0 and at most 10000 are accepted");
        require(self.cycle >= Duration::from_secs(1), "cycle", "1s or more is accepted");
        require(self.warm_up.as_secs_f64() < self.hours * 3600.0, "warm_up", "it must end before hours are over");
        require((2..=1000).contains(&cluster.nodes), "cluster.nodes", "2 to 1000 are accepted");
        require(cluster.weights.iter().all(|weight| *weight > 0.0), "cluster.weights", "numbers above 0 are accepted");
        require(load.utilisation > 0.0 && load.utilisation < 1.0, "load.utilisation", "between 0 and 1 is accepted");
        require((0.0..=3.0).contains(&load.skew), "load.skew", "0 to 3 is accepted");
        require((0.0..=2.0).contains(&load.noise), "load.noise", "0 to 2 is accepted");
        require(!load.command.is_zero(), "load.command", "more than nothing is accepted");
        require(
            load.swap.as_ref().is_none_or(|swap| swap.slots <= SLOT_COUNT / 2 && swap.every >= self.cycle),
            "load.swap",
            "at most 8192 slots, every cycle or less often",
        );
        require(
            load.wave.as_ref().is_none_or(|wave| {
                (0.0..=1.0).contains(&wave.swing) && (1..=64).contains(&wave.groups) && wave.period >= self.cycle
            }),
            "load.wave",
            "a swing of 0 to 1, 1 to 64 groups and a period of a cycle or more are accepted",
        );
        require(load.drift.as_ref().is_none_or(|drift| drift.over >= self.cycle), "load.drift.over", "a cycle or more");
        require(
            load.flip.as_ref().is_none_or(|flip| flip.factor >= 1.0 && flip.every >= Duration::from_secs(1)),
            "load.flip",
            "a factor of 1 or more, every second or less often",
        );
        let giant = load.giant.is_none_or(|giant| giant > 0.0 && giant < cluster.nodes as f64);
        require(giant, "load.giant", "more than 0 and less than all nodes' shares is accepted");
        require(data.per_node > 0 && data.key > 0, "data", "per_node and key above 0 are accepted");
        require((0.0..=3.0).contains(&data.spread), "data.spread", "0 to 3 is accepted");
        require(migration.bandwidth > 0, "migration.bandwidth", "more than 0 is accepted");
        require((0.0..=1.0).contains(&migration.busy), "migration.busy", "0 to 1 is accepted");
        let joined: usize =
            self.event.iter().map(|event| if let Event::Join { nodes, .. } = event { *nodes } else { 0 }).sum();
        let known = |node: usize| node < cluster.nodes + joined;
        for (place, event) in self.event.iter().enumerate() {
            let (fine, key, accepted) = match event {
                Event::Burst { slots, factor, .. } => {
                    (*slots <= SLOT_COUNT && *factor >= 0.0, "slots", "at most 16384 slots and a factor of 0 or more")
                }
                Event::Fail { node, .. } => (known(*node) && cluster.replicas > 0, "node", "a node with a replica"),
                Event::Silence { node, .. } => (known(*node), "node", "the number of a node"),
                Event::Drain { nodes, .. } => (nodes.iter().all(|node| known(*node)), "nodes", "numbers of nodes"),
                Event::Join { nodes, .. } => ((1..=1000).contains(nodes), "nodes", "1 to 1000"),
                Event::Stuck { .. } => (true, "", ""),
            };
            require(fine, &format!("event.{place}.{key}"), accepted);
            let in_time = event.at().as_secs_f64() <= self.hours * 3600.0;
            require(in_time, &format!("event.{place}.at"), "it must come before hours are over");
        }
        problems
    }
}

impl Cluster {
    /// So many nodes that are like any other.
    pub(super) fn of(nodes: usize) -> Self {
        let placement = Placement::default();
        Self { nodes, replicas: one(), zones: Vec::new(), memory: sixteen_gib(), weights: Vec::new(), slots: placement }
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
            ("[[event]]\nkind = 'fail'\nat = '1m'\nnode = 3", "event.0.node: a node with a replica"),
            ("[[event]]\nkind = 'fail'\nat = '2h'\nnode = 1", "event.0.at: it must come before hours are over"),
            ("[[event]]\nkind = 'fail'\nat = '1m'\nnode = 1\nlasts = '1m'", "unknown field `lasts`"),
            ("[[event]]\nkind = 'quake'\nat = '1m'", "unknown variant `quake`"),
        ] {
            let problem = problem(more);
            assert!(problem.contains("scenario test") && problem.contains(words), "{more}: {problem}");
        }
    }
}
