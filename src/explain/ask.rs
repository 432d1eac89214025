//! Finds what a question is about in the history, and has it explained.

use super::{Explanation, Present, Told};
use crate::model::{CycleReport, Realised, SlotId};
use crate::store::{Event, Store, StoreError};

/// The last cycles that are searched for moves of a slot that were never begun.
const PROPOSALS_MAX: usize = 200;
/// A daemon that told of no cycle for so many of its cycles, and no less than a minute, is not at work.
const STALE_CYCLES: u64 = 5;
/// Events that are searched for what the mode was set by.
const EVENTS_MAX: usize = 1000;

/// What somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Everything about a cycle.
    Cycle(u64),
    /// Why a slot moved, or did not: at most so many times, the newest first.
    Slot(SlotId, usize),
    /// Why nothing moves, or what does.
    Now,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Unexplained {
    /// There is no such cycle, any more or yet.
    #[error("cycle {0} is not in the history")]
    Unknown(u64),
    /// There was no cycle yet.
    #[error("the history has no cycle yet: the daemon's first one takes a few seconds")]
    Empty,
    /// The history cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers `question` by what the history in `store` keeps.
///
/// # Errors
/// [`Unexplained`].
pub fn explain(question: Question, store: &Store, now_ms: u64) -> Result<Vec<Explanation>, Unexplained> {
    match question {
        Question::Cycle(cycle) => {
            let report = store.cycle(cycle)?.ok_or(Unexplained::Unknown(cycle))?;
            Ok(vec![Explanation::of_cycle(Chapter::of(report, store)?.told(), now_ms)])
        }
        Question::Slot(slot, limit) => of_slot(slot, limit, store, now_ms),
        Question::Now => Ok(vec![of_now(store, now_ms)?]),
    }
}

/// A cycle with what came of it later.
struct Chapter {
    report: CycleReport,
    realised: Option<(u64, Realised)>,
    repeatable: bool,
}

impl Chapter {
    fn of(report: CycleReport, store: &Store) -> Result<Self, StoreError> {
        let repeatable = store.is_repeatable(report.cycle)?;
        // Rates settle within a few cycles; a plan in between takes the promise's place.
        for cycle in report.cycle + 1..=report.cycle + 3 * Realised::AFTER_CYCLES {
            let realised = store.cycle(cycle)?.and_then(|later| later.realised);
            if let Some(realised) = realised.filter(|realised| realised.cycle == report.cycle) {
                return Ok(Self { report, realised: Some((cycle, realised)), repeatable });
            }
        }
        Ok(Self { report, realised: None, repeatable })
    }

    fn told(&self) -> Told<'_> {
        let realised = self.realised.as_ref().map(|(cycle, realised)| (*cycle, realised));
        Told { report: &self.report, realised, repeatable: self.repeatable }
    }
}

fn of_slot(slot: SlotId, limit: usize, store: &Store, now_ms: u64) -> Result<Vec<Explanation>, Unexplained> {
    let was_begun = |report: &CycleReport| {
        let mut migrations = report.migrations.iter();
        migrations.any(|it| it.moved.contains(slot) || it.stayed.iter().any(|(stayed, _)| *stayed == slot))
    };
    let mut reports = store.cycles_that(true, limit, was_begun)?;
    if reports.is_empty() {
        // Nobody ever began to move it: perhaps somebody wanted to.
        let was_wanted = |report: &CycleReport| {
            report.plan.iter().flat_map(|plan| &plan.moves).any(|step| step.slot == slot.number())
        };
        reports = store.cycles(PROPOSALS_MAX)?.into_iter().filter(was_wanted).take(limit).collect();
    }
    if reports.is_empty() {
        let answer = format!(
            "slot {slot} was not moved as far back as the history goes, and no plan of the last {PROPOSALS_MAX} cycles had it"
        );
        return Ok(vec![Explanation { answer, because: Vec::new() }]);
    }
    let explained = |report| Ok(Explanation::of_slot(slot, Chapter::of(report, store)?.told(), now_ms));
    reports.into_iter().map(explained).collect()
}

fn of_now(store: &Store, now_ms: u64) -> Result<Explanation, Unexplained> {
    let last = store.cycles(2)?;
    let newest = last.first().ok_or(Unexplained::Empty)?;
    let interval_ms = last.get(1).map_or(0, |before| newest.started_at_ms.saturating_sub(before.started_at_ms));
    let silence_ms = now_ms.saturating_sub(newest.started_at_ms);
    let stale = silence_ms > (STALE_CYCLES * interval_ms).max(60_000);
    let mode = store.events(EVENTS_MAX)?.into_iter().find_map(|stored| match stored.event {
        Event::Mode { to, who, why, .. } => Some((to, if why.is_empty() { who } else { why })),
        _ => None,
    });
    let begun = store.unfinished_migrations()?;
    let present = Present { mode, moving: begun.iter().map(|intent| intent.slots.len()).sum(), stale };
    let chapter = Chapter::of(newest.clone(), store)?;
    Ok(Explanation::of_now(chapter.told(), &present, now_ms))
}
