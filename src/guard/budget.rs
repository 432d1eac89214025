//! Checks of sums: how much may move in a cycle, at a node and in an hour.

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

/// Moves and bytes in the past hour.
fn churn(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    let moves = scene.ledger.moves_past_hour.saturating_add(u64::from(tally.total_moves));
    if moves >= u64::from(scene.limits.max_moves_per_hour) {
        return Some(Finding::HourMoves);
    }
    let before = scene.ledger.bytes_past_hour.saturating_add(tally.total_bytes);
    let bytes = before.saturating_add(candidate.bytes.unwrap_or(0));
    (bytes > scene.limits.max_bytes_per_hour).then_some(Finding::HourBytes)
}
