//! Checks of sums: how much may move in a cycle, at a node, in an hour and in a day.

use super::tally::{Candidate, Tally};
use super::{Finding, Scene};

type Check = fn(&Candidate<'_>, &Scene<'_>, &Tally) -> Option<Finding>;

const CHECKS: [Check; 3] = [move_caps, byte_caps, churn];

/// The first budget that has nothing left for this move.
pub(super) fn examine(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    CHECKS.iter().find_map(|check| check(candidate, scene, tally))
}

/// Moves in this cycle, and at each end.
fn move_caps(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    if tally.total_moves >= scene.limits.max_moves_per_cycle {
        return Some(Finding::CycleMoves);
    }
    [candidate.from, candidate.to]
        .into_iter()
        .find(|node| tally.moves[*node as usize] >= scene.limits.max_moves_per_node)
        .map(|node| Finding::NodeMoves { node })
}

/// Bytes in this cycle, and at each end. A slot of unknown size counts nothing here; room decides about it.
fn byte_caps(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    let bytes = candidate.bytes.unwrap_or(0);
    if tally.total_bytes.saturating_add(bytes) > scene.limits.max_bytes_per_cycle {
        return Some(Finding::CycleBytes);
    }
    [candidate.from, candidate.to]
        .into_iter()
        .find(|node| tally.bytes[*node as usize].saturating_add(bytes) > scene.limits.max_bytes_per_node)
        .map(|node| Finding::NodeBytes { node })
}

/// Moves and bytes in the past hour, and in the past day.
fn churn(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    let (limits, ledger) = (scene.limits, scene.ledger);
    let planned = u64::from(tally.total_moves);
    let bytes = tally.total_bytes.saturating_add(candidate.bytes.unwrap_or(0));
    let moves_spent = |before: u64, most: u32| before.saturating_add(planned) >= u64::from(most);
    let bytes_spent = |before: u64, most: u64| before.saturating_add(bytes) > most;
    if moves_spent(ledger.moves_past_hour, limits.max_moves_per_hour) {
        return Some(Finding::HourMoves);
    }
    if moves_spent(ledger.moves_past_day, limits.max_moves_per_day) {
        return Some(Finding::DayMoves);
    }
    if bytes_spent(ledger.bytes_past_hour, limits.max_bytes_per_hour) {
        return Some(Finding::HourBytes);
    }
    bytes_spent(ledger.bytes_past_day, limits.max_bytes_per_day).then_some(Finding::DayBytes)
}
