//! Reviews what a policy proposes. Nothing moves that did not pass here.
//!
//! Pure: it knows the plan, the snapshot that it answers, the operator's [`Limits`] and the [`Ledger`] of what happened
//! before; time is an argument. It knows no server and no policy. Checks of the whole plan live in `whole`, those of one
//! move in `each`, those of sums in `budget`, and the one of the effect in `effect`. A plan is trimmed to what passes;
//! whatever is held back is a [`Refusal`].

mod budget;
mod each;
mod effect;
mod finding;
mod ledger;
mod limits;
mod past;
mod tally;
mod whole;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Move, Plan, Prediction, ProposedMove, Refusal, SLOT_COUNT, Snapshot};
use effect::Scale;
use finding::Finding;
pub use ledger::Ledger;
pub use limits::{Limits, OnUnknown};
pub(crate) use past::{DAY_MS, Past, members, strangers};
use tally::{Candidate, Tally};

/// What a review looks at; every check gets it whole.
struct Scene<'a> {
    snapshot: &'a Snapshot,
    limits: &'a Limits,
    ledger: &'a Ledger,
    now_ms: u64,
}

/// Moves that may be carried out. Only [`review`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApprovedPlan {
    generation: u64,
    moves: Vec<Move>,
}

impl ApprovedPlan {
    /// The moves, in the policy's order of preference.
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// The generation of the snapshot that was reviewed.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// The moves, for reports.
    #[must_use]
    pub fn into_moves(self) -> Vec<Move> {
        self.moves
    }
}

/// What came of a review.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What may be carried out.
    pub approved: ApprovedPlan,
    /// What was held back, and why.
    pub refusals: Vec<Refusal>,
    /// What the approved moves would do, by resource (`cpu`, `memory`, `network`), as far as it is measured.
    pub predictions: BTreeMap<String, Prediction>,
}

/// Reviews `plan` against the snapshot that it answers. `now_ms` is Unix time in milliseconds.
///
/// The work is bounded by the number of slots and primaries, whatever a policy returns: a plan needs no more moves than
/// there are slots, and what exceeds that is refused without a look.
#[must_use]
pub fn review(plan: &Plan, snapshot: &Snapshot, limits: &Limits, ledger: &Ledger, now_ms: u64) -> Verdict {
    let scene = Scene { snapshot, limits, ledger, now_ms };
    let scale = Scale::of(snapshot);
    let mut refusals = whole::refusals(plan, &scene);
    let mut moves = Vec::new();
    if refusals.is_empty() {
        let (passed, held) = trim(&plan.moves, &scene, &scale);
        moves = passed;
        refusals = held;
    }
    let predictions = scale.predictions(&moves);
    let moves = moves.into_iter().map(|candidate| candidate.into_move(snapshot)).collect();
    Verdict { approved: ApprovedPlan { generation: snapshot.generation, moves }, refusals, predictions }
}

/// Takes the moves one by one, in the policy's order: each is checked on top of those that passed before it.
fn trim<'a>(proposed: &'a [ProposedMove], scene: &Scene<'_>, scale: &Scale) -> (Vec<Candidate<'a>>, Vec<Refusal>) {
    let (looked_at, excess) = proposed.split_at(proposed.len().min(SLOT_COUNT));
    let mut tally = Tally::new(scene.snapshot);
    let mut passed = Vec::new();
    let mut capped = Vec::new();
    let mut held: BTreeMap<Finding, Vec<u16>> = BTreeMap::new();
    for proposal in looked_at {
        let finding = match each::examine(proposal, scene, &tally) {
            Ok(candidate) => match budget::examine(&candidate, scene, &tally) {
                None => {
                    tally.admit(&candidate);
                    passed.push(candidate);
                    continue;
                }
                Some(finding) => {
                    capped.push(candidate);
                    finding
                }
            },
            Err(finding) => finding,
        };
        held.entry(finding).or_default().push(proposal.slot);
    }
    if !excess.is_empty() {
        held.insert(Finding::TooManyMoves { excess: excess.len() }, distinct_slots(excess));
    }
    let worthless = scale.not_worth_it(&mut passed, &capped, scene);
    if !worthless.is_empty() {
        held.insert(Finding::SmallGain, worthless.iter().map(|candidate| candidate.slot.number()).collect());
    }
    let refusals = held.into_iter().map(|(finding, mut slots)| {
        slots.sort_unstable();
        slots.dedup();
        Refusal { check: finding.check(), slots, reason: finding.reason(scene) }
    });
    (passed, refusals.collect())
}

/// The slots that moves name, each once and in order, in one pass: a hostile plan may be millions of moves long.
fn distinct_slots(moves: &[ProposedMove]) -> Vec<u16> {
    let mut named = vec![false; usize::from(u16::MAX) + 1];
    for proposed in moves {
        named[usize::from(proposed.slot)] = true;
    }
    (0..=u16::MAX).filter(|slot| named[usize::from(*slot)]).collect()
}

#[cfg(test)]
mod tests;
