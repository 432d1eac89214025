//! `slots`: even slot counts, by weight. What `redis-cli --cluster rebalance` does, with its traps mended.
//!
//! There a threshold of 0 turns balancing off; here it means exact. There an empty node of weight 0 may get a slot, and
//! empty nodes are left out unless asked; here weight 0 empties a node for good and empty nodes are used. There the
//! preview shows counts; here every slot is named, and goes in contiguous ranges where it can.
//! It looks at counts only: no load, no bytes.

mod count;

use std::collections::BTreeMap;

use ballast_policy_kit::{Columns, Description, Failure, Move, NO_OWNER, Policy, Proposal, View, ViewNode};
use count::{Seat, wanted};
use serde::{Deserialize, Serialize};

/// What an operator may set. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Parameters {
    /// Nothing happens until a node differs from its share by more than so many per cent of it. 0 is exact.
    pub threshold: f64,
    /// Weights by address or id, beyond those of the view; 0 empties a node.
    pub weights: BTreeMap<String, f64>,
    /// Give slots to nodes that have none.
    pub use_empty: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        // Two per cent, as the servers' own tool has it.
        Self { threshold: 2.0, weights: BTreeMap::new(), use_empty: true }
    }
}

/// The policy.
#[derive(Debug, Clone, Copy)]
pub struct Slots;

#[cfg(target_arch = "wasm32")]
ballast_policy_kit::export!(Slots);

impl Policy for Slots {
    type Parameters = Parameters;
    type Memory = ();

    fn describe() -> Description {
        Description {
            name: "slots",
            version: env!("CARGO_PKG_VERSION"),
            summary: "evens slot counts by weight",
            needs: Vec::new(),
            parameters_schema: include_str!("../parameters.schema.json").to_owned(),
        }
    }

    fn check(parameters: &Parameters) -> Result<(), String> {
        // A node that has all to get is off by 100: it must never be within the threshold.
        if !(0.0..100.0).contains(&parameters.threshold) {
            return Err(format!(
                "threshold: {} per cent: 0 up to, not including, 100 is accepted",
                parameters.threshold
            ));
        }
        let wrong = parameters.weights.iter().find(|(_, weight)| !weight.is_finite() || **weight < 0.0);
        wrong.map_or(Ok(()), |(node, weight)| Err(format!("weights: {node}: {weight} is not 0 or more")))
    }

    fn columns(_: &Parameters) -> Columns {
        Columns { slots: Vec::new(), nodes: vec!["weight".to_owned()] }
    }

    fn plan(view: &View, parameters: &Parameters, (): &mut ()) -> Result<Proposal, Failure> {
        plan(view, parameters)
    }
}

/// Plans.
///
/// # Errors
/// [`Failure::BadParameters`] when a weight names no node.
pub fn plan(view: &View, parameters: &Parameters) -> Result<Proposal, Failure> {
    let known = |name: &String| view.nodes.iter().any(|node| node.address == *name || node.id == *name);
    if let Some(name) = parameters.weights.keys().find(|name| !known(name)) {
        return Err(Failure::BadParameters(format!("weights: {name} is no primary of this cluster")));
    }
    let mut held = slots_by_node(view);
    let seats: Vec<Seat> = (0..view.nodes.len()).map(|node| seat(view, parameters, node, held[node].len())).collect();
    let wanted = wanted(&seats);
    let farthest = seats.iter().zip(&wanted).map(|(seat, wanted)| deviation(seat, *wanted)).fold(0.0, f64::max);
    let counts = |counts: &mut dyn Iterator<Item = usize>| {
        let (least, most) = counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)));
        format!("{least} to {most} slots a node")
    };
    let before = counts(&mut seats.iter().map(|seat| seat.slots));
    let gauges = |moves: usize| vec![("deviation".to_owned(), farthest), ("moves".to_owned(), moves as f64)];
    if farthest <= parameters.threshold {
        return Ok(Proposal { moves: Vec::new(), summary: format!("even: {before}"), gauges: gauges(0) });
    }
    let moves = deal(view, &seats, &wanted, &mut held);
    let after = counts(&mut wanted.iter().copied());
    let summary = format!("{} slots to move: from {before} to {after}", moves.len());
    Ok(Proposal { summary, gauges: gauges(moves.len()), moves })
}

/// Slots of each node, ascending, in-flight ones counted where they go and not listed.
fn slots_by_node(view: &View) -> Vec<Vec<u16>> {
    let mut held = vec![Vec::new(); view.nodes.len()];
    for (slot, owner) in (0..).zip(view.owners.iter()).filter(|(_, owner)| **owner != NO_OWNER) {
        if !view.in_flight.iter().any(|step| step.slot == slot)
            && let Some(slots) = held.get_mut(*owner as usize)
        {
            slots.push(slot);
        }
    }
    held
}

fn seat(view: &View, parameters: &Parameters, index: usize, free: usize) -> Seat {
    let node: &ViewNode = &view.nodes[index];
    let told = view.node_columns.get("weight").and_then(|column| column.get(index)).copied();
    let named = parameters.weights.get(&node.address).or_else(|| parameters.weights.get(&node.id)).copied();
    let weight = named.or(told).filter(|weight| weight.is_finite() && *weight >= 0.0).unwrap_or(1.0);
    let arriving = view.in_flight.iter().filter(|step| step.target as usize == index).count();
    let slots = free + arriving;
    let leaves = node.is("draining") || weight == 0.0;
    let held = node.is("loading") || node.is("suspect");
    let unused = slots == 0 && !parameters.use_empty;
    Seat {
        slots,
        weight: if leaves { 0.0 } else { weight },
        gives: !held,
        gets: !held && !leaves && !unused && !node.is("cordoned"),
    }
}

/// By how many per cent of its share a node is off; for one that should have nothing, of a single slot.
fn deviation(seat: &Seat, wanted: usize) -> f64 {
    100.0 * seat.slots.abs_diff(wanted) as f64 / wanted.max(1) as f64
}

/// Pairs the node that has most to give with the one that lacks most, and cuts contiguous ranges off the former's end.
fn deal(view: &View, seats: &[Seat], wanted: &[usize], held: &mut [Vec<u16>]) -> Vec<Move> {
    let mut now: Vec<usize> = seats.iter().map(|seat| seat.slots).collect();
    let mut moves = Vec::new();
    loop {
        let nodes = || 0..seats.len();
        // Nodes that must be emptied give first; ties go to the first in the list.
        let giver = nodes()
            .filter(|node| now[*node] > wanted[*node] && !held[*node].is_empty())
            .min_by_key(|node| (wanted[*node] > 0, wanted[*node].wrapping_sub(now[*node]), *node));
        let getter = nodes()
            .filter(|node| now[*node] < wanted[*node])
            .min_by_key(|node| (now[*node].wrapping_sub(wanted[*node]), *node));
        let (Some(giver), Some(getter)) = (giver, getter) else { break };
        let count = (now[giver] - wanted[giver]).min(wanted[getter] - now[getter]).min(held[giver].len());
        let cut = held[giver].len() - count;
        let (from, to) = (&view.nodes[giver].address, &view.nodes[getter].address);
        let reason = format!(
            "{from} has {} slots for a share of {}, {to} {} for {}",
            now[giver], wanted[giver], now[getter], wanted[getter]
        );
        let target = u32::try_from(getter).unwrap_or(NO_OWNER);
        let slots = held[giver].split_off(cut);
        moves.extend(slots.into_iter().map(|slot| Move { slot, target, reason: reason.clone() }));
        now[giver] -= count;
        now[getter] += count;
    }
    moves
}
