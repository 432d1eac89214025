//! Why slots moved, and why they did not: in words, from what the history keeps.
//!
//! An [`Explanation`] says first what happened, then each thing that it hung on: the policy, its words, what the guard held
//! back, what was promised and what came of it. Explaining is pure; `ask` finds in the store what a question is about.

mod ask;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{CycleOutcome, CycleReport, Mode, Move, Realised, SlotId};
pub use ask::{Question, Unexplained, explain};
use words::{address, migration, moves, refusals};
pub use words::{ago, imbalance};

/// What happened, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What happened, in one sentence.
    pub answer: String,
    /// What it hung on, in the order in which it was decided.
    pub because: Vec<Reason>,
}

/// One thing that a decision hung on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// One word: `policy`, `guard`, `moved`.
    pub topic: String,
    /// For people.
    pub text: String,
}

/// One cycle with what came of it later, where that is known.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The cycle.
    pub report: &'a CycleReport,
    /// What came of its plan.
    pub realised: Option<(u64, &'a Realised)>,
    /// Whether all that it was decided by is kept.
    pub repeatable: bool,
}

/// What is known of the present besides the newest cycle, which may be over for long or under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// The mode, and why it is that one, by the last event that told of it.
    pub mode: Option<(Mode, String)>,
    /// Slots whose migration was begun and has not ended.
    pub moving: usize,
    /// Whether another cycle should have ended by now.
    pub stale: bool,
}

impl Explanation {
    fn new(answer: String) -> Self {
        Self { answer, because: Vec::new() }
    }

    fn because(&mut self, topic: &str, text: impl Into<String>) {
        self.because.push(Reason { topic: topic.to_owned(), text: text.into() });
    }

    /// Everything about one cycle.
    #[must_use]
    pub fn of_cycle(told: Told<'_>, now_ms: u64) -> Self {
        let report = told.report;
        let head =
            format!("cycle {}, {} ago, in mode {}", report.cycle, ago(report.started_at_ms, now_ms), report.mode);
        let mut explanation = Self::new(format!("{head}: {}", outcome(report)));
        explanation.decision(told);
        for step in moves(report) {
            explanation.because("move", step);
        }
        explanation.carried_out(told);
        explanation.how_to_repeat(told);
        explanation
    }

    /// What one cycle did to `slot`, or did not, and why.
    #[must_use]
    pub fn of_slot(slot: SlotId, told: Told<'_>, now_ms: u64) -> Self {
        let report = told.report;
        let when = format!("{} ago, in cycle {}", ago(report.started_at_ms, now_ms), report.cycle);
        let approved = report.approved.iter().find(|step| step.slot == slot);
        let route = |step: &Move| format!("from {} to {}", address(&step.from, report), address(&step.to, report));
        let moved = report.migrations.iter().any(|migration| migration.moved.contains(slot));
        let stayed =
            report.migrations.iter().flat_map(|migration| &migration.stayed).find(|(stayed, _)| *stayed == slot);
        let held = report.refusals.iter().find(|refusal| refusal.slots.contains(&slot.number()));
        let answer = match (approved, stayed, held) {
            (Some(step), _, _) if moved => format!("slot {slot} moved {}, {when}", route(step)),
            (Some(step), Some((_, why)), _) => {
                format!("slot {slot} should have moved {} and stayed, {when}: {why}", route(step))
            }
            (Some(step), None, _) if report.outcome == CycleOutcome::Planned && report.mode == Mode::Auto => {
                format!("slot {slot} would have moved {}, {when}, and somebody stopped it", route(step))
            }
            (Some(step), None, _) if report.outcome == CycleOutcome::Planned => {
                format!("slot {slot} would have moved {}, {when}, but the mode was {}", route(step), report.mode)
            }
            (Some(step), None, _) => {
                format!("slot {slot} should have moved {}, {when}; its move was not begun", route(step))
            }
            (None, _, Some(refusal)) => {
                format!("slot {slot} was held back {when} by the guard ({}): {}", refusal.check, refusal.reason)
            }
            (None, _, None) => format!("slot {slot} was not moved {when}"),
        };
        let mut explanation = Self::new(answer);
        let proposed = report.plan.iter().flat_map(|plan| &plan.moves).find(|step| step.slot == slot.number());
        let reason = approved.map(|step| &step.reason).or(proposed.map(|step| &step.reason));
        if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
            explanation.because("reason", reason);
        }
        explanation.decision(told);
        explanation.carried_out(told);
        explanation.how_to_repeat(told);
        explanation
    }

    /// Why nothing moves, or why something does: by what is under way, and by the newest cycle.
    #[must_use]
    pub fn of_now(told: Told<'_>, present: &Present, now_ms: u64) -> Self {
        let report = told.report;
        let approved = report.approved.len();
        let mode = present.mode.as_ref().map_or(report.mode, |(mode, _)| *mode);
        let blocked = report.snapshot.iter().flat_map(|seen| &seen.problems).find(|problem| problem.blocks_moves());
        let blocked = blocked.map(ToString::to_string);
        let answer = match (&report.outcome, mode) {
            _ if present.moving > 0 && mode.acts() => format!("slots move: {} are under way", present.moving),
            (_, Mode::Follower) => "nothing moves by this daemon: another one leads".to_owned(),
            (CycleOutcome::NotCollected { .. }, _) => "nothing moves: the cluster cannot be seen".to_owned(),
            (CycleOutcome::Planned, Mode::Auto) if report.mode == Mode::Auto => {
                format!("{approved} slots would move, and somebody stopped it")
            }
            (CycleOutcome::Planned, Mode::Auto) => {
                "the mode is auto now: the next cycle moves what is to move".to_owned()
            }
            (CycleOutcome::Planned, mode) => format!("nothing moves: {approved} slots would, and the mode is {mode}"),
            (_, Mode::Paused | Mode::Halted) => format!("nothing moves: the mode is {mode}"),
            (CycleOutcome::PolicyFailed { .. }, _) => "nothing moves: the policy gives no plan".to_owned(),
            (CycleOutcome::NoChange | CycleOutcome::Refused, _) if blocked.is_some() => {
                format!("nothing moves: {}", blocked.unwrap_or_default())
            }
            (CycleOutcome::NoChange, _) => "nothing moves: the policy is content".to_owned(),
            (CycleOutcome::Refused, _) => "nothing moves: the guard holds every move back".to_owned(),
            (CycleOutcome::Executed, _) => format!("slots move: {approved} did in the last cycle"),
            (CycleOutcome::Incomplete { .. }, _) if report.migrations.iter().all(|it| it.moved.is_empty()) => {
                "nothing moves, though it should".to_owned()
            }
            (CycleOutcome::Incomplete { .. }, _) => "slots move, but not all that should".to_owned(),
        };
        let mut explanation = Self::new(answer);
        let when = format!("cycle {}, {} ago: {}", report.cycle, ago(report.started_at_ms, now_ms), outcome(report));
        explanation.because("cycle", when);
        if present.stale {
            explanation.because("daemon", match present.moving {
                0 => "no cycle since: is it running? `ballast status` asks it",
                _ => "a cycle lasts for as long as its slots move: `ballast status` shows how far it is, if it is running",
            });
        }
        let why = present.mode.as_ref().map(|(_, why)| why.as_str());
        if let Some(why) = why.filter(|_| mode != Mode::Auto) {
            explanation.because("mode", why);
        }
        // A closed change window is dry-run as well, and a start that was told so.
        if mode == Mode::DryRun && why.is_none_or(|why| why.contains("the configuration says")) {
            explanation.because("remedy", "write mode = \"auto\" in the configuration to have plans carried out");
        }
        match mode {
            Mode::Paused | Mode::Halted => explanation.because("remedy", "`ballast resume` lets it go on"),
            Mode::Approval => explanation.because("remedy", "`ballast approve` shows the plan that waits"),
            _ => (),
        }
        explanation.decision(told);
        explanation.carried_out(told);
        explanation.how_to_repeat(told);
        explanation
    }

    /// What was seen, who decided, what the guard held back, and what was promised.
    fn decision(&mut self, told: Told<'_>) {
        let report = told.report;
        // Those that only make figures worse are the status's to tell.
        let problems = report.snapshot.iter().flat_map(|seen| &seen.problems);
        for problem in problems.filter(|problem| problem.blocks_moves()) {
            self.because("seen", problem.to_string());
        }
        if let Some(policy) = &report.policy {
            let said = report.plan.as_ref().map(|plan| plan.summary.as_str()).filter(|summary| !summary.is_empty());
            self.because("policy", said.map_or_else(|| policy.to_string(), |said| format!("{policy}: {said}")));
        }
        for text in refusals(report) {
            self.because("guard", text);
        }
        if let Some(text) = imbalance(&report.predictions, !report.approved.is_empty()) {
            self.because("imbalance", text);
        }
    }

    fn carried_out(&mut self, told: Told<'_>) {
        for report in &told.report.migrations {
            self.because("moved", migration(report, told.report));
        }
        if let Some((cycle, realised)) = told.realised {
            let came =
                |(name, (promised, seen)): (&String, &(f64, f64))| format!("{name} {seen:.2} ({promised:.2} promised)");
            let all: Vec<String> = realised.imbalance.iter().map(came).collect();
            self.because("came of it", format!("cycle {cycle}: {}", all.join(", ")));
        }
    }

    fn how_to_repeat(&mut self, told: Told<'_>) {
        if told.repeatable {
            self.because("repeat", format!("ballast plan --at {}", told.report.cycle));
        }
    }
}

/// How a cycle ended, in words.
fn outcome(report: &CycleReport) -> String {
    let proposed = report.plan.as_ref().map_or(0, |plan| plan.moves.len());
    let approved = report.approved.len();
    match &report.outcome {
        CycleOutcome::NoChange => "nothing to move".to_owned(),
        CycleOutcome::Planned => format!("{approved} of {proposed} moves approved, none carried out"),
        CycleOutcome::Executed => format!("{approved} slots moved, {proposed} were proposed"),
        CycleOutcome::Refused => format!("the guard held back all {proposed} moves"),
        CycleOutcome::PolicyFailed { kind, reason } => format!("the policy gave no plan ({kind}): {reason}"),
        CycleOutcome::NotCollected { reason } => format!("the cluster could not be seen: {reason}"),
        CycleOutcome::Incomplete { reason } => reason.clone(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.answer)?;
        let width = self.because.iter().map(|reason| reason.topic.len()).max().unwrap_or(0);
        self.because.iter().try_for_each(|reason| writeln!(f, "  {:width$}  {}", reason.topic, reason.text))
    }
}

#[cfg(test)]
mod tests;
