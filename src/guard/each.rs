//! Checks of one move, on top of those that passed before it.

use super::tally::{Candidate, Tally, bytes_of};
use super::{Finding, OnUnknown, Scene};
use crate::model::{ProposedMove, SlotId, Tag, resource};

type Check = fn(&Candidate<'_>, &Scene<'_>, &Tally) -> Option<Finding>;

const CHECKS: [Check; 6] = [one_owner, target, open_slot, cool_down, last_slot, room];

/// The move with its ends, or the first reason against it.
pub(super) fn examine<'a>(
    proposal: &'a ProposedMove,
    scene: &Scene<'_>,
    tally: &Tally,
) -> Result<Candidate<'a>, Finding> {
    let candidate = known(proposal, scene)?;
    CHECKS.iter().find_map(|check| check(&candidate, scene, tally)).map_or(Ok(candidate), Err)
}

/// The slot and the target exist, somebody serves the slot, and the target is somebody else.
fn known<'a>(proposal: &'a ProposedMove, scene: &Scene<'_>) -> Result<Candidate<'a>, Finding> {
    let slot = SlotId::new(proposal.slot).ok_or(Finding::NoSuchSlot)?;
    let to = proposal.target;
    if to as usize >= scene.snapshot.primaries.len() {
        return Err(Finding::NoSuchTarget);
    }
    let from = scene.snapshot.owners.get(slot).ok_or(Finding::NoOwner)?;
    if from == to {
        return Err(Finding::AlreadyThere);
    }
    Ok(Candidate { slot, from, to, bytes: bytes_of(slot, scene.snapshot), reason: &proposal.reason })
}

/// A slot moves at most once in a plan.
fn one_owner(candidate: &Candidate<'_>, _: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    tally.has_moved(candidate.slot).then_some(Finding::MovesTwice)
}

/// The target accepts slots.
fn target(candidate: &Candidate<'_>, scene: &Scene<'_>, _: &Tally) -> Option<Finding> {
    let target = &scene.snapshot.primaries[candidate.to as usize];
    [Tag::Draining, Tag::Cordoned, Tag::Loading, Tag::Suspect]
        .into_iter()
        .find(|tag| target.is(*tag))
        .map(|tag| Finding::Unwilling { target: candidate.to, tag })
}

/// The slot is not open, not in flight, and not in an atomic migration.
fn open_slot(candidate: &Candidate<'_>, _: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    tally.is_busy(candidate.slot).then_some(Finding::Busy)
}

/// The slot rested since it last moved, and the pair since it last failed.
fn cool_down(candidate: &Candidate<'_>, scene: &Scene<'_>, _: &Tally) -> Option<Finding> {
    let rests = |since_ms: u64, pause: std::time::Duration| {
        u128::from(scene.now_ms.saturating_sub(since_ms)) < pause.as_millis()
    };
    let (source, target) =
        (&scene.snapshot.primaries[candidate.from as usize], &scene.snapshot.primaries[candidate.to as usize]);
    let moved = scene.ledger.last_moved_ms.get(&candidate.slot);
    if !source.is(Tag::Draining) && moved.is_some_and(|at| rests(*at, scene.limits.slot_cool_down)) {
        return Some(Finding::SlotRests);
    }
    if scene.ledger.pair_failed_ms.is_empty() {
        return None;
    }
    let failed = scene.ledger.pair_failed_ms.get(&(source.id.clone(), target.id.clone()));
    failed
        .is_some_and(|at| rests(*at, scene.limits.pair_cool_down))
        .then_some(Finding::PairRests { from: candidate.from, to: candidate.to })
}

/// The source keeps a slot, unless it is draining.
fn last_slot(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    let source = &scene.snapshot.primaries[candidate.from as usize];
    let left = tally.slots[candidate.from as usize];
    (!source.is(Tag::Draining) && left <= scene.limits.min_slots).then_some(Finding::LastSlot { from: candidate.from })
}

/// The target has memory for the slot, with margin, on top of what moves there already.
fn room(candidate: &Candidate<'_>, scene: &Scene<'_>, tally: &Tally) -> Option<Finding> {
    let target = candidate.to;
    let read = |name| {
        let value = scene.snapshot.node_column(name).and_then(|column| column.get(target as usize)).copied();
        value.filter(|value| value.is_finite())
    };
    let (Some(used), Some(max)) = (read(resource::MEMORY_USED), read(resource::MEMORY_MAX)) else {
        return (scene.limits.unknown_memory == OnUnknown::Refuse).then_some(Finding::UnknownRoom { target });
    };
    let Some(bytes) = candidate.bytes else {
        return Some(Finding::UnknownSize { target });
    };
    let promised = tally.bytes_in[target as usize] as f64;
    let usable = max * (1.0 - scene.limits.memory_margin);
    (used + promised + bytes as f64 > usable).then_some(Finding::NoRoom { target })
}
