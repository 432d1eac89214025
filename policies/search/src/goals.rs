//! What a plan is to reach, and within which bounds.

use serde::{Deserialize, Serialize};

/// What a plan is to reach. Every key has a default, so `{}` is a complete set of goals; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Goals {
    /// What to even, most important first; at most four.
    pub resources: Vec<ResourceGoal>,
    /// Use nodes that own nothing or far too little, whatever the maximum is.
    pub use_empty: bool,
    /// At most so many moves.
    pub moves_max: usize,
    /// At most so many bytes.
    pub bytes_max: f64,
    /// Slots that must stay where they are.
    pub pinned: Vec<u16>,
    /// Slots that this plan leaves alone, since they moved a moment ago. Unlike pinned ones they change no floor.
    pub resting: Vec<u16>,
    /// Targets that a slot must not get.
    pub vetoes: Vec<Veto>,
    /// Slots stay in the zone that they are in, as long as anybody there takes slots.
    pub keep_zone: bool,
    /// No zone is to carry more than this share of the load, so that losing one loses no more; 1 sets no bound.
    pub zone_share_max: f64,
    /// Excess must be beyond so many standard deviations of the measurement, where variance is known.
    pub sigmas: f64,
    /// Variance of a smoothed rate ÷ variance of its samples: α/(2−α) for an EWMA. 0.115 is α = 0.2, a half-life of
    /// three samples.
    pub variance_factor: f64,
    /// Breaks ties.
    pub seed: u64,
    /// At most so many units of work; one unit is one slot or one node looked at.
    pub work_max: u64,
}

impl Default for Goals {
    fn default() -> Self {
        Self {
            resources: vec![ResourceGoal::named("cpu"), ResourceGoal::named("memory"), ResourceGoal::named("network")],
            use_empty: true,
            moves_max: usize::MAX,
            bytes_max: f64::MAX,
            pinned: Vec::new(),
            resting: Vec::new(),
            vetoes: Vec::new(),
            keep_zone: false,
            zone_share_max: 1.0,
            sigmas: 3.0,
            variance_factor: 0.115,
            seed: 0,
            // Ordinary plans need a tenth of it; all of it stays within a policy's usual deadline in WebAssembly.
            work_max: 2_000_000,
        }
    }
}

/// How even one resource is to be. Only `name` must be given; the rest is as [`ResourceGoal::named`] has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct ResourceGoal {
    /// `cpu`, `memory`, `network`, `keys`, `slots`, or the name of a slot column.
    pub name: String,
    /// Nothing happens for this resource until imbalance ÷ floor is above this.
    pub trigger: f64,
    /// What a plan then aims at: imbalance ÷ floor.
    pub target: f64,
    /// How much its excess counts beside that of other resources.
    pub weight: f64,
    /// Below this mean utilisation (of an absolute capacity) the resource is idle and does not count.
    pub idle: f64,
    /// No target is filled beyond this utilisation (of an absolute capacity).
    pub ceiling: f64,
}

/// A resource's goal as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    trigger: Option<f64>,
    target: Option<f64>,
    weight: Option<f64>,
    idle: Option<f64>,
    ceiling: Option<f64>,
}

impl From<Written> for ResourceGoal {
    fn from(written: Written) -> Self {
        let usual = Self::named(&written.name);
        Self {
            trigger: written.trigger.unwrap_or(usual.trigger),
            target: written.target.unwrap_or(usual.target),
            weight: written.weight.unwrap_or(usual.weight),
            idle: written.idle.unwrap_or(usual.idle),
            ceiling: written.ceiling.unwrap_or(usual.ceiling),
            name: written.name,
        }
    }
}

impl ResourceGoal {
    /// The default goal for a resource.
    ///
    /// `cpu` is what clients feel, so it is held closest. Memory and network cost bytes to even and hurt only near
    /// their limits, so they may lag behind.
    #[must_use]
    pub fn named(name: &str) -> Self {
        // Measured with 50 % sample noise: 1.15 and 1.05 moved 0.1 % of the data in 200 rounds of static load, where
        // 1.02 alone moved 8 %.
        let goal = Self { name: name.to_owned(), trigger: 1.15, target: 1.05, weight: 1.0, idle: 0.0, ceiling: 1.0 };
        match name {
            // A thousandth of a core is what health checks and a few clients make: not a load to move data for.
            "cpu" => Self { idle: 0.001, ..goal },
            // Nine tenths leave room for buffers and for copy-on-write.
            "memory" => Self { trigger: 1.2, target: 1.08, ceiling: 0.9, ..goal },
            "network" => Self { trigger: 1.5, target: 1.2, weight: 0.5, ..goal },
            _ => goal,
        }
    }
}

/// A target that a slot must not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Veto {
    /// The slot.
    pub slot: u16,
    /// The node's index.
    pub node: u32,
}
