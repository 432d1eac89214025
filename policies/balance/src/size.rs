//! How many shards there should be: by how full the nodes are in the resource that is nearest to its end.
//!
//! Growing has a threshold of its own, well above the one for shrinking, and both lead between them, so that neither calls
//! for the other. Load that will come is counted as if it were here, but only while a forecast has lately been closer to what
//! came than taking the present for the future.

use std::collections::BTreeMap;

use ballast_policy_kit::{Advice, Failure, View};
use serde::{Deserialize, Serialize};

/// How full the nodes should be, as shares of what they have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Size {
    /// More shards are wanted when the nodes are fuller than this.
    pub grow_above: f64,
    /// So many that they are as full as this.
    pub fill_to: f64,
    /// One less is wanted when the others would be less full than this; 0 never.
    pub shrink_below: f64,
}

impl Default for Size {
    /// A main thread that is busy for 70 % of the time makes clients wait for more than twice as long as it works (M/M/1).
    fn default() -> Self {
        Self { grow_above: 0.7, fill_to: 0.55, shrink_below: 0.45 }
    }
}

impl Size {
    /// Refuses thresholds that would call for each other.
    ///
    /// # Errors
    /// For people.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { grow_above, fill_to, shrink_below } = *self;
        if 0.0 <= shrink_below && shrink_below < fill_to && fill_to < grow_above && grow_above <= 1.0 {
            return Ok(());
        }
        Err(format!(
            "size: shrink-below {shrink_below} < fill-to {fill_to} < grow-above {grow_above} is accepted, all from 0 to 1"
        ))
    }
}

/// Loads are kept by the quarter of an hour.
const QUARTER_MS: u64 = 900_000;
/// Today may be like yesterday.
const DAY: u64 = 96;
/// Forecasts look so far ahead: slots need time to move to a new node.
const AHEAD: u64 = 4;
/// What came is compared with what was expected over so many quarters, a day of them.
const TRIED: u64 = DAY;
/// A forecast has to be better than the present by this much.
const BETTER: f64 = 0.8;

/// The load of each quarter of an hour in the last three days, in cores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loads(BTreeMap<u64, f64>);

impl Loads {
    /// Takes note of the load at a time: the largest of a quarter of an hour counts.
    fn hear(&mut self, at_ms: u64, load: f64) {
        let now = at_ms / QUARTER_MS;
        // Four digits are more than any measurement has, and little to keep.
        let load = (load * 1e4).round() / 1e4;
        let known = self.0.entry(now).or_insert(load);
        *known = known.max(load);
        // A clock that was set back leaves times that never come.
        self.0.retain(|quarter, _| *quarter <= now && quarter + 3 * DAY > now);
    }

    /// The largest load that is to be expected until [`AHEAD`], if going by yesterday has been closer to what came than
    /// going by the present.
    fn expected(&self, at_ms: u64) -> Option<f64> {
        let now = at_ms / QUARTER_MS;
        let (mut by_yesterday, mut by_present, mut tried) = (0.0, 0.0, 0_u64);
        for quarter in now.saturating_sub(TRIED)..now {
            let load = |before: u64| self.0.get(&quarter.checked_sub(before)?).copied();
            if let (Some(came), Some(yesterday), Some(present)) = (load(0), load(DAY), load(AHEAD)) {
                by_yesterday += (came - yesterday).abs();
                by_present += (came - present).abs();
                tried += 1;
            }
        }
        // Half a day at least, or a quiet night would vouch for the morning.
        if tried < TRIED / 2 || by_yesterday > BETTER * by_present {
            return None;
        }
        let then = (1..=AHEAD).filter_map(|ahead| self.0.get(&(now + ahead).checked_sub(DAY)?));
        then.copied().reduce(f64::max)
    }
}

/// One resource: how much of it is used, and how much a node has.
struct Use {
    name: &'static str,
    used: f64,
    node: f64,
}

/// How many shards there should be.
///
/// # Errors
/// [`Failure::NotReady`] before loads are known.
pub(crate) fn advise(view: &View, size: &Size, loads: &mut Loads) -> Result<Advice, Failure> {
    let Some(cpu) = view.slot_columns.get("cpu-usec").filter(|_| view.window_s > 0) else {
        return Err(Failure::NotReady("how busy slots keep their nodes is not known yet".to_owned()));
    };
    let stays: Vec<usize> = (0..view.nodes.len()).filter(|index| !view.nodes[*index].is("draining")).collect();
    let count = stays.len().max(1);
    let now = cpu.iter().sum::<f64>() / 1e6;
    loads.hear(view.taken_at_ms, now);
    let expected = loads.expected(view.taken_at_ms).filter(|expected| *expected > now);
    let mut uses = vec![Use { name: "cpu", used: expected.unwrap_or(now), node: 1.0 }];
    let limits = view.node_columns.get("memory-max").map(|limits| stays.iter().map(|index| limits[*index]));
    if let (Some(limits), Some(bytes)) = (limits, view.slot_columns.get("bytes")) {
        let known: Vec<f64> = limits.filter(|limit| *limit > 0.0 && limit.is_finite()).collect();
        if known.len() == stays.len() {
            let node = known.iter().sum::<f64>() / known.len().max(1) as f64;
            uses.push(Use { name: "memory", used: bytes.iter().sum(), node });
        }
    }
    let fullness = |of: &Use, nodes: usize| of.used / of.node / nodes as f64;
    let fullest = uses.iter().max_by(|a, b| fullness(a, count).total_cmp(&fullness(b, count)));
    let Some(fullest) = fullest else { return Err(Failure::NotReady("nothing is measured".to_owned())) };
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let full = fullness(fullest, count);
    let what = format!("{} of {} is used by {count} shards", percent(full), fullest.name);
    let soon =
        if expected.is_some() && fullest.name == "cpu" { ", or will be within an hour, as yesterday" } else { "" };
    if full > size.grow_above {
        let needed = (fullest.used / fullest.node / size.fill_to).ceil().max(count as f64 + 1.0);
        let reason = format!("{what}{soon}, more than {}", percent(size.grow_above));
        return Ok(Advice { shards: needed.min(f64::from(u32::MAX)) as u32, retire: Vec::new(), reason });
    }
    let without_one = uses.iter().map(|of| fullness(of, count - 1)).fold(0.0, f64::max);
    if count > 1 && without_one < size.shrink_below {
        let reason = format!("{what}{soon}; one less would use {}", percent(without_one));
        return Ok(Advice { shards: shards(count - 1), retire: retire(view, &stays), reason });
    }
    Ok(Advice { shards: shards(count), retire: Vec::new(), reason: what })
}

fn shards(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whom to take out, best first: of the zone with the most nodes, then whoever has the fewest bytes to move.
fn retire(view: &View, stays: &[usize]) -> Vec<u32> {
    let mut held = vec![0.0; view.nodes.len()];
    let weights = view.slot_columns.get("bytes").or_else(|| view.slot_columns.get("keys"));
    for (slot, owner) in view.owners.iter().enumerate() {
        if let Some(held) = held.get_mut(*owner as usize) {
            *held += weights.map_or(1.0, |weights| weights[slot]);
        }
    }
    let in_zone =
        |index: usize| stays.iter().filter(|other| view.nodes[**other].zone == view.nodes[index].zone).count();
    let mut order = stays.to_vec();
    order.sort_by(|a, b| in_zone(*b).cmp(&in_zone(*a)).then(held[*a].total_cmp(&held[*b])).then(a.cmp(b)));
    order.into_iter().map(|index| u32::try_from(index).unwrap_or(u32::MAX)).collect()
}
