//! The `search` import: the planning library on the view of the current call.
//!
//! The library bounds itself in units of work, so that the same goals on the same view give the same moves on any
//! machine; how often a call may search is bounded by the settings.

use super::bindings::ballast::policy::search::Outcome;
use super::bindings::ballast::policy::types;
use super::view::View;

/// Searches for moves that meet `goals`. The error is for the policy's author.
pub(super) fn solve(view: &View, goals: &str) -> Result<Outcome, String> {
    let (moves, report) = ballast_search::solve_json(&view.for_search(), goals)?;
    let lower =
        |found: ballast_search::Move| types::Move { slot: found.slot, target: found.target, reason: found.reason };
    Ok(Outcome { moves: moves.into_iter().map(lower).collect(), report })
}
