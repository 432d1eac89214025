//! `balance`, the default policy: evens cpu, then memory, then network, against what each node has.
//!
//! It states goals and leaves the search to `ballast-search`. Its own are: what to aim at, when to begin, when to go on
//! (a plan may be cut by the guard; what was begun is brought to its target), and how to say it to people.
//! It does not know servers or moves in progress beyond what the view says.

use ballast_policy_kit::{Advice, Columns, Description, Failure, Policy, Proposal, View};
use ballast_search::{Goals, Problem, Report, ResourceGoal, Solution, Stop, Veto, solve};
use serde::{Deserialize, Serialize};

mod preset;
mod size;

pub use size::{Loads, Size};

/// Views further apart than this say nothing about what was between them.
const GAP_MAX_S: f64 = 600.0;

/// What an operator may set, over a preset. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Parameters {
    /// Nothing happens until the first resource's imbalance ÷ floor is above this. Absent: the resource's own default.
    pub trigger: Option<f64>,
    /// What a plan aims at for the first resource: imbalance ÷ floor. Absent: the resource's own default.
    pub target: Option<f64>,
    /// What to even, most important first; each with `trigger`, `target`, `weight`, `idle` and `ceiling` if wanted.
    pub resources: Vec<ResourceGoal>,
    /// Use nodes that own nothing, or far less than their share.
    pub use_empty: bool,
    /// Slots that must stay where they are.
    pub pinned: Vec<u16>,
    /// Nodes that must not get a slot: pairs of a slot and a node's address.
    pub vetoes: Vec<(u16, String)>,
    /// Slots stay in the zone that they are in.
    pub keep_zone: bool,
    /// No zone is to carry more than this share of the load; 1 sets no bound.
    pub zone_share_max: f64,
    /// A plan for cpu alone waits until the imbalance has cost clients so many times the seconds that its moves cost servers;
    /// 0 waits for nothing.
    pub patience: f64,
    /// A slot that moved stays for so many cycles: the daemon would refuse to move it sooner (`slot_cool_down`).
    pub rest_cycles: u64,
    /// At most so many moves in a plan.
    pub moves_max: usize,
    /// At most so many bytes in a plan.
    pub bytes_max: f64,
    /// An excess smaller than so many standard deviations of the measurement is taken for noise.
    pub sigmas: f64,
    /// Variance of a smoothed rate ÷ variance of its samples: α/(2−α) for an EWMA.
    pub variance_factor: f64,
    /// How full the nodes should be: what the advice about the number of shards goes by.
    pub size: Size,
}

impl Default for Parameters {
    fn default() -> Self {
        let goals = Goals::default();
        Self {
            trigger: None,
            target: None,
            resources: goals.resources,
            use_empty: goals.use_empty,
            pinned: goals.pinned,
            vetoes: Vec::new(),
            keep_zone: goals.keep_zone,
            zone_share_max: goals.zone_share_max,
            // What is paid then is at most twice what the better choice would have cost, whatever comes.
            patience: 1.0,
            // The daemon's cool-down of ten minutes, in its cycles of ten seconds.
            rest_cycles: 60,
            moves_max: 16384,
            bytes_max: goals.bytes_max,
            sigmas: goals.sigmas,
            variance_factor: goals.variance_factor,
            size: Size::default(),
        }
    }
}

/// What `balance` remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// A plan was begun and the target is not reached: go on below the trigger, so that a plan that was cut in
    /// slices does not end just under it.
    pub converging: bool,
    /// Seconds that clients have waited because of an imbalance that no plan was made for yet.
    pub lost_s: f64,
    /// When that was last added to: Unix time in milliseconds.
    pub lost_until_ms: u64,
    /// What the last plan wanted: slot and target. Which of it was done, the next view shows.
    pub wanted: Vec<(u16, u32)>,
    /// Slots that moved, each with the generation of the view that showed it.
    pub moved: Vec<(u16, u64)>,
    /// How much there was to do lately: what forecasts are made of.
    pub loads: Loads,
}

impl Memory {
    /// Takes note of what was done since the last plan, and forgets what has rested long enough.
    fn look(&mut self, view: &View, rest_cycles: u64) {
        let done = self.wanted.drain(..).filter(|(slot, target)| view.owners.get(usize::from(*slot)) == Some(target));
        self.moved.extend(done.map(|(slot, _)| (slot, view.generation)));
        // A daemon that starts anew counts from the beginning: what is from the future is from its past life.
        self.moved.retain(|(_, at)| *at <= view.generation && view.generation - *at < rest_cycles);
    }

    /// How many seconds `report`'s plan should still wait, going by what the imbalance has cost so far; 0 when it should be made.
    fn wait_s(&mut self, report: &Report, patience: f64, view: &View) -> f64 {
        let since_s = view.taken_at_ms.saturating_sub(self.lost_until_ms) as f64 / 1e3;
        let goes_on = self.lost_until_ms > 0 && since_s <= GAP_MAX_S;
        // Seen for the first time, it has lasted for as long as rates were measured.
        let (lost_s, since_s) = if goes_on { (self.lost_s, since_s) } else { (0.0, f64::from(view.window_s)) };
        let lost_s = lost_s + report.spared.max(0.0) * since_s;
        let missing_s = patience * report.effort - lost_s;
        if report.moves == 0 || report.pressing || self.converging || missing_s <= 0.0 {
            (self.lost_s, self.lost_until_ms) = (0.0, 0);
            return 0.0;
        }
        (self.lost_s, self.lost_until_ms) = (lost_s, view.taken_at_ms);
        missing_s / report.spared.max(f64::MIN_POSITIVE)
    }

    /// The slots to leave alone; none of a node that is drained, for those must go.
    fn resting(&self, view: &View) -> Vec<u16> {
        let drains = |slot: u16| {
            let owner = view.owners.get(usize::from(slot)).and_then(|owner| view.nodes.get(*owner as usize));
            owner.is_none_or(|node| node.is("draining"))
        };
        self.moved.iter().map(|(slot, _)| *slot).filter(|slot| !drains(*slot)).collect()
    }
}

/// The policy.
#[derive(Debug, Clone, Copy)]
pub struct Balance;

#[cfg(target_arch = "wasm32")]
ballast_policy_kit::export!(Balance);

impl Policy for Balance {
    type Parameters = Parameters;
    type Memory = Memory;

    fn describe() -> Description {
        Description {
            name: "balance",
            version: env!("CARGO_PKG_VERSION"),
            summary: "evens cpu, memory and network by load, at the least cost in bytes",
            // Every server tells keys; load is estimated or left out where it cannot be had.
            needs: vec!["slot/keys"],
            parameters_schema: include_str!("../parameters.schema.json").to_owned(),
        }
    }

    fn expand(written: serde_json::Value) -> Result<serde_json::Value, String> {
        preset::apply(written)
    }

    fn check(parameters: &Parameters) -> Result<(), String> {
        // An empty view has no columns to contradict, so this judges the goals alone.
        let vetoed = parameters.vetoes.iter().map(|(slot, _)| ("vetoes", slot));
        let mut named = parameters.pinned.iter().map(|slot| ("pinned", slot)).chain(vetoed);
        if let Some((key, slot)) = named.find(|(_, slot)| **slot > 16383) {
            return Err(format!("{key}: {slot} is not a slot: slots are 0 to 16383"));
        }
        if !(parameters.patience >= 0.0 && parameters.patience.is_finite()) {
            return Err(format!("patience: {} is no number from 0 up", parameters.patience));
        }
        parameters.size.check()?;
        let goals = Goals { pinned: Vec::new(), ..goals(parameters, false) };
        Problem::of(&View::default(), &goals).map(|_| ()).map_err(|error| error.to_string())
    }

    fn columns(parameters: &Parameters) -> Columns {
        let mut slots = vec!["bytes".to_owned(), "keys".to_owned()];
        for goal in &parameters.resources {
            let columns: &[&str] = match goal.name.as_str() {
                "cpu" => &["cpu-usec"],
                "network" => &["net-in", "net-out"],
                "memory" | "keys" | "slots" => &[],
                name => &[name],
            };
            for name in columns {
                slots.extend([(*name).to_owned(), format!("{name}/variance"), format!("{name}/slow")]);
            }
        }
        Columns { slots, nodes: vec!["memory-max".to_owned(), "weight".to_owned()] }
    }

    fn plan(view: &View, parameters: &Parameters, memory: &mut Memory) -> Result<Proposal, Failure> {
        plan(view, parameters, memory)
    }

    fn advise(view: &View, parameters: &Parameters, memory: &mut Memory) -> Result<Advice, Failure> {
        size::advise(view, &parameters.size, &mut memory.loads)
    }
}

/// Plans.
///
/// # Errors
/// [`Failure::NotReady`] before rates are known, [`Failure::BadParameters`] when goals and view do not fit.
pub fn plan(view: &View, parameters: &Parameters, memory: &mut Memory) -> Result<Proposal, Failure> {
    if view.window_s == 0 {
        return Err(Failure::NotReady("rates need two looks at the counters".to_owned()));
    }
    memory.look(view, parameters.rest_cycles);
    let vetoes = vetoes(view, parameters);
    let goals = Goals { resting: memory.resting(view), vetoes, ..goals(parameters, memory.converging) };
    let problem = Problem::of(view, &goals).map_err(|error| Failure::BadParameters(error.to_string()))?;
    let Solution { moves, report } = solve(&problem, &goals);
    let wait_s = memory.wait_s(&report, parameters.patience, view);
    let moves = if wait_s > 0.0 { Vec::new() } else { moves };
    memory.converging = !moves.is_empty();
    memory.wanted = moves.iter().map(|step| (step.slot, step.target)).collect();
    Ok(Proposal { summary: summary(&report, wait_s), moves, gauges: gauges(&report) })
}

/// The vetoes by index; those of nodes that are not there bind nobody.
fn vetoes(view: &View, parameters: &Parameters) -> Vec<Veto> {
    let node = |address: &String| (0..).zip(&view.nodes).find(|(_, node)| node.address == *address);
    let read = |(slot, address): &(u16, String)| Some(Veto { slot: *slot, node: node(address)?.0 });
    parameters.vetoes.iter().filter_map(read).collect()
}

/// The goals that these parameters mean; a plan that was begun goes on from half-way between target and trigger.
fn goals(parameters: &Parameters, converging: bool) -> Goals {
    let mut resources = parameters.resources.clone();
    if let Some(first) = resources.first_mut() {
        first.target = parameters.target.unwrap_or(first.target);
        first.trigger = parameters.trigger.unwrap_or(first.trigger);
    }
    if converging {
        for goal in &mut resources {
            goal.trigger = f64::midpoint(goal.trigger, goal.target);
        }
    }
    Goals {
        resources,
        use_empty: parameters.use_empty,
        moves_max: parameters.moves_max,
        bytes_max: parameters.bytes_max,
        pinned: parameters.pinned.clone(),
        keep_zone: parameters.keep_zone,
        zone_share_max: parameters.zone_share_max,
        sigmas: parameters.sigmas,
        variance_factor: parameters.variance_factor,
        ..Goals::default()
    }
}

/// "cpu 1.42 -> 1.05 (floor 1.00), memory 1.08: 312 slots, 4.1 MB".
fn summary(report: &Report, wait_s: f64) -> String {
    let active = report.resources.iter().filter(|resource| resource.active);
    let parts: Vec<String> = active
        .map(|resource| {
            let name = &resource.name;
            let floor = if resource.floor > 1.005 { format!(" (floor {:.2})", resource.floor) } else { String::new() };
            if report.moves == 0 {
                format!("{name} {:.2}{floor}", resource.before)
            } else {
                format!("{name} {:.2} -> {:.2}{floor}", resource.before, resource.after)
            }
        })
        .collect();
    let what = match report.stop {
        Stop::Content => "balanced".to_owned(),
        _ if report.moves == 0 => "no move helps".to_owned(),
        _ if wait_s > 0.0 => {
            let (moves, bytes) = (report.moves, bytes(report.bytes));
            format!("moving {moves} slots, {bytes}, pays if this lasts {} more", duration(wait_s))
        }
        _ => format!("{} slots, {}", report.moves, bytes(report.bytes)),
    };
    let mut text = format!("{what}: {}", parts.join(", "));
    if report.undrained > 0 {
        text.push_str(&format!("; {} slots find no room and stay on draining nodes", report.undrained));
    }
    for giant in report.giants.iter().take(2) {
        text.push_str("; ");
        text.push_str(&giant.advice);
    }
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 600.0 => format!("{:.0} s", seconds.ceil()),
        seconds if seconds < 36e3 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3600.0),
    }
}

fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1e3 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}

/// Headline first: imbalance, floor and excess of the most important active resource; then each by name.
fn gauges(report: &Report) -> Vec<(String, f64)> {
    let mut gauges = Vec::new();
    if let Some(first) = report.resources.iter().find(|resource| resource.active) {
        gauges.push(("imbalance".to_owned(), first.before));
        gauges.push(("imbalance-predicted".to_owned(), first.after));
        gauges.push(("floor".to_owned(), first.floor));
    }
    gauges.push(("excess".to_owned(), report.excess_before));
    gauges.push(("excess-predicted".to_owned(), report.excess_after));
    gauges.push(("giants".to_owned(), report.giants.len() as f64));
    gauges.push(("undrained".to_owned(), report.undrained as f64));
    gauges.push(("bytes-to-move".to_owned(), report.bytes));
    gauges.push(("work".to_owned(), report.work as f64));
    for resource in report.resources.iter().filter(|resource| resource.active) {
        let name: String = resource.name.chars().map(|letter| if letter == '/' { '-' } else { letter }).collect();
        gauges.push((format!("imbalance-{name}"), resource.before));
    }
    gauges
}
