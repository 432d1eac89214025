//! Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around.
//!
//! Pure: knows nothing of WebAssembly, so that it is tested as any function. The other languages' examples do the same
//! arithmetic in the same order, and give the same moves.

use serde_json::Value;

/// JSON Schema of the parameters.
pub const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"properties":{
"threshold-percent":{"type":"integer","minimum":100,"maximum":1000,"default":110,"description":"A node gives while it holds more than so many per cent of its fair share."},
"max-moves":{"type":"integer","minimum":1,"maximum":1000,"default":100,"description":"At most so many moves a plan."}}}"#;

/// What a person may set.
#[derive(Debug, Clone, Copy)]
pub struct Parameters {
    pub threshold_percent: f64,
    pub max_moves: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { threshold_percent: 110.0, max_moves: 100 }
    }
}

impl Parameters {
    /// Reads one JSON object; the error is for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Ok(Value::Object(written)) = serde_json::from_str(text) else {
            return Err("parameters: give one JSON object".into());
        };
        let mut parameters = Self::default();
        for (key, value) in &written {
            let whole = |least: u64, most: u64| {
                let number = value.as_u64().filter(|number| (least..=most).contains(number));
                number.ok_or_else(|| format!("{key}: give a whole number from {least} to {most}"))
            };
            match key.as_str() {
                "threshold-percent" => parameters.threshold_percent = whole(100, 1000)? as f64,
                "max-moves" => parameters.max_moves = whole(1, 1000)? as usize,
                _ => return Err(format!("unknown parameter '{key}': there are threshold-percent and max-moves")),
            }
        }
        Ok(parameters)
    }
}

/// What matters of a node.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Slots may go there.
    pub gets: bool,
    /// It must be emptied.
    pub drains: bool,
}

impl Node {
    pub fn of_tags(tags: &[String]) -> Self {
        let has = |tag: &str| tags.iter().any(|has| has == tag);
        Self { gets: !["cordoned", "draining", "loading", "suspect"].into_iter().any(has), drains: has("draining") }
    }
}

/// The cluster as this policy sees it.
#[derive(Debug, Clone)]
pub struct View {
    pub nodes: Vec<Node>,
    /// By slot, an index in `nodes` or something greater for nobody.
    pub owners: Vec<u32>,
    /// By slot.
    pub bytes: Vec<f64>,
    /// Slots and targets of moves that have begun.
    pub in_flight: Vec<(u16, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub slot: u16,
    pub target: u32,
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub moves: Vec<Move>,
    pub summary: String,
    /// The fullest node's bytes over its fair share, before any move; absent where nobody can take slots.
    pub imbalance: Option<f64>,
}

/// Draining nodes are emptied first, lowest slots first; then the fullest node gives while it is above the threshold.
/// Where nodes or slots are equal, the lowest index comes first. No slot moves twice.
pub fn plan(view: View, parameters: Parameters) -> Plan {
    let View { nodes, mut owners, bytes, in_flight } = view;
    let mut movable = vec![true; owners.len()];
    for (slot, target) in in_flight {
        // As good as there.
        owners[usize::from(slot)] = target;
        movable[usize::from(slot)] = false;
    }
    let mut load = vec![0.0; nodes.len()];
    for (owner, bytes) in owners.iter().zip(&bytes) {
        if let Some(load) = load.get_mut(*owner as usize) {
            *load += bytes;
        }
    }
    if !nodes.iter().any(|node| node.gets) {
        return Plan { moves: Vec::new(), summary: "no node can take slots".into(), imbalance: None };
    }
    let total = load.iter().fold(0.0, |sum, load| sum + load);
    let fair = total / nodes.iter().filter(|node| !node.drains).count() as f64;
    let fullest = nodes.iter().zip(&load).filter(|(node, _)| !node.drains).fold(0.0, |most, (_, load)| load.max(most));
    let imbalance = if fair > 0.0 { fullest / fair } else { 1.0 };

    let mut moves = Vec::new();
    for slot in 0..owners.len() {
        let giver = owners[slot] as usize;
        if moves.len() < parameters.max_moves && movable[slot] && nodes.get(giver).is_some_and(|node| node.drains) {
            let taker = emptiest(&nodes, &load);
            load[giver] -= bytes[slot];
            load[taker] += bytes[slot];
            owners[slot] = taker as u32;
            movable[slot] = false;
            moves.push(Move { slot: slot as u16, target: taker as u32, reason: "drain" });
        }
    }
    // Nodes that give no more: for the draining ones, everything was done above.
    let mut spent: Vec<bool> = nodes.iter().map(|node| node.drains).collect();
    while moves.len() < parameters.max_moves {
        let Some(giver) = fullest_of(&load, &spent) else { break };
        if 100.0 * load[giver] <= parameters.threshold_percent * fair {
            break;
        }
        let taker = emptiest(&nodes, &load);
        let half = (load[giver] - load[taker]) / 2.0;
        let mut best = None;
        let mut best_bytes = 0.0;
        // All slots for every move: zipped, so that no index has to be checked.
        for (slot, ((owner, movable), bytes)) in owners.iter().zip(&movable).zip(&bytes).enumerate() {
            if *owner as usize == giver && *movable && *bytes > best_bytes && *bytes <= half {
                best = Some(slot);
                best_bytes = *bytes;
            }
        }
        let Some(slot) = best else {
            spent[giver] = true;
            continue;
        };
        load[giver] -= best_bytes;
        load[taker] += best_bytes;
        owners[slot] = taker as u32;
        movable[slot] = false;
        moves.push(Move { slot: slot as u16, target: taker as u32, reason: "memory" });
    }
    let percent = (imbalance * 100.0) as u32;
    let summary = format!("moves: {}; the fullest node holds {percent}% of its fair share", moves.len());
    Plan { moves, summary, imbalance: Some(imbalance) }
}

/// Of the nodes that may get slots, the one with the least. There is one: `plan` looked.
fn emptiest(nodes: &[Node], load: &[f64]) -> usize {
    let mut least = None;
    for node in (0..nodes.len()).filter(|node| nodes[*node].gets) {
        if least.is_none_or(|least: usize| load[node] < load[least]) {
            least = Some(node);
        }
    }
    least.expect("some node gets slots")
}

/// Of the nodes that are not spent, the one with the most.
fn fullest_of(load: &[f64], spent: &[bool]) -> Option<usize> {
    let mut most = None;
    for node in (0..load.len()).filter(|node| !spent[*node]) {
        if most.is_none_or(|most: usize| load[node] > load[most]) {
            most = Some(node);
        }
    }
    most
}
