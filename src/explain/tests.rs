//! What people are told.

use std::collections::BTreeMap;

use super::*;
use crate::collector::synthetic::synthetic;
use crate::model::{
    Address, MigrationReport, NodeId, PaceReport, Plan, PolicyId, Prediction, Problem, ProposedMove, Protocol, Refusal,
    RefusalCheck,
};

fn node(digit: &str) -> NodeId {
    digit.repeat(40).parse().expect("a node's id")
}

fn slot(number: u16) -> SlotId {
    SlotId::new(number).expect("a slot")
}

/// Slots 5 and 6 were to move for cpu; 7 was held back; 5 moved and 6 stayed.
fn report() -> CycleReport {
    let policy = PolicyId { name: "balance".into(), version: "0.1.0".into(), digest: "ab".repeat(32) };
    let propose = |slot| ProposedMove { slot, target: 1, reason: "cpu".into() };
    let step = |number| Move { slot: slot(number), from: node("a"), to: node("b"), reason: "cpu".into() };
    CycleReport {
        policy: Some(policy.clone()),
        plan: Some(Plan {
            policy,
            generation: 4,
            moves: vec![propose(5), propose(6), propose(7)],
            summary: "cpu is 1.9".into(),
            gauges: Vec::new(),
        }),
        approved: vec![step(5), step(6)],
        addresses: BTreeMap::from([
            (node("a"), "10.0.0.1:7000".parse().expect("an address")),
            (node("b"), "10.0.0.2:7000".parse().expect("an address")),
        ]),
        refusals: vec![Refusal {
            check: RefusalCheck::CoolDown,
            slots: vec![7],
            reason: "it moved 2 minutes ago".into(),
        }],
        predictions: BTreeMap::from([(
            "cpu".to_owned(),
            Prediction { imbalance_before: 1.92, imbalance_after: 1.06, floor: 1.0 },
        )]),
        migrations: vec![MigrationReport {
            source: node("a"),
            target: node("b"),
            protocol: Protocol::Classic,
            moved: "5".parse().expect("slots"),
            stayed: vec![(slot(6), "a key takes longer than max_block".into())],
            keys: 40,
            bytes: 4096,
            duration_ms: 300,
            pace: PaceReport::default(),
        }],
        outcome: CycleOutcome::Incomplete { reason: "1 of 2 slots moved".into() },
        ..CycleReport::begin(57, 0, Mode::Auto)
    }
}

fn has(text: &str, words: &[&str]) {
    words.iter().for_each(|words| assert!(text.contains(words), "'{words}' is missing in\n{text}"));
}

#[test]
fn a_slot_that_moved_says_where_to_when_why_and_what_came_of_it() {
    let report = report();
    let realised = Realised { cycle: 57, imbalance: BTreeMap::from([("cpu".to_owned(), (1.06, 1.04))]) };
    let told = Told { report: &report, realised: Some((60, &realised)), repeatable: true };
    let text = Explanation::of_slot(slot(5), told, 3_600_000).to_string();
    has(
        &text,
        &[
            "slot 5 moved from 10.0.0.1:7000 to 10.0.0.2:7000, 1h ago, in cycle 57",
            "reason      cpu",
            "balance 0.1.0 sha256:abababababab: cpu is 1.9",
            "cpu 1.92 -> 1.06 (at best 1.00)",
            "slot 5 of 10.0.0.1:7000 to 10.0.0.2:7000 (classic): 40 keys",
            "came of it  cycle 60: cpu 1.04 (1.06 promised)",
            "ballast plan --at 57",
        ],
    );
}

#[test]
fn a_slot_that_stayed_or_was_held_back_says_why() {
    let report = report();
    let told = Told { report: &report, realised: None, repeatable: true };
    let answer = |number| Explanation::of_slot(slot(number), told, 60_000).answer;
    has(&answer(6), &["should have moved from 10.0.0.1:7000", "and stayed", "a key takes longer than max_block"]);
    has(&answer(7), &["slot 7 was held back 1m ago, in cycle 57 by the guard (cool-down): it moved 2 minutes ago"]);
    has(&answer(8), &["slot 8 was not moved"]);
}

#[test]
fn a_cycle_tells_its_moves_by_their_ends() {
    let report = report();
    let text = Explanation::of_cycle(Told { report: &report, realised: None, repeatable: true }, 1_000).to_string();
    has(
        &text,
        &[
            "cycle 57, 1s ago, in mode auto: 1 of 2 slots moved",
            "slots 5-6 from 10.0.0.1:7000 to 10.0.0.2:7000: cpu",
            "1 slots held back (cool-down): it moved 2 minutes ago",
            "1 stayed, slot 6 since a key takes longer than max_block",
        ],
    );
}

#[test]
fn why_nothing_moves_names_the_cause_and_the_remedy() {
    let at = |outcome, mode, present: &Present| {
        let report = CycleReport { outcome, mode, ..report() };
        Explanation::of_now(Told { report: &report, realised: None, repeatable: true }, present, 5_000).to_string()
    };
    let now = |outcome, mode, why: Option<&str>| {
        at(outcome, mode, &Present { mode: why.map(|why| (mode, why.to_owned())), ..Present::default() })
    };
    let paused = now(CycleOutcome::Planned, Mode::Paused, Some("paused by ann: a release"));
    has(
        &paused,
        &["nothing moves: 2 slots would, and the mode is paused", "paused by ann: a release", "`ballast resume`"],
    );
    has(&now(CycleOutcome::Planned, Mode::DryRun, None), &["the mode is dry-run", "mode = \"auto\""]);
    has(&now(CycleOutcome::Refused, Mode::Auto, None), &["the guard holds every move back", "(cool-down)"]);
    let unseen = CycleOutcome::NotCollected { reason: "no seed answers".into() };
    has(&now(unseen, Mode::Auto, None), &["the cluster cannot be seen", "no seed answers"]);
    let faulty = CycleOutcome::PolicyFailed { kind: "deadline".into(), reason: "took longer than 2 s".into() };
    has(&now(faulty, Mode::Auto, None), &["the policy gives no plan", "(deadline): took longer than 2 s"]);
    has(&now(CycleOutcome::NoChange, Mode::Auto, None), &["the policy is content", "cpu is 1.9"]);
    // The newest cycle may be older than what somebody said since, and than what is under way.
    let paused = Present { mode: Some((Mode::Paused, "paused by ann: a release".into())), ..Present::default() };
    has(&at(CycleOutcome::Executed, Mode::Auto, &paused), &["nothing moves: the mode is paused", "`ballast resume`"]);
    let moving = Present { mode: Some((Mode::Auto, "resumed".into())), moving: 40, stale: true };
    let text = at(CycleOutcome::Planned, Mode::Paused, &moving);
    has(&text, &["slots move: 40 are under way", "a cycle lasts for as long as its slots move"]);
    assert!(!text.contains("resume`"), "{text}");
    let closed = Present { mode: Some((Mode::DryRun, "the next window opens at ten".into())), ..Present::default() };
    let text = at(CycleOutcome::Planned, Mode::DryRun, &closed);
    assert!(text.contains("window opens") && !text.contains("remedy"), "{text}");
    let mut seen = synthetic(3, 1);
    seen.problems.push(Problem::PrimaryUnreachable { node: Address::new("10.0.0.1", 7000), detail: "no reply".into() });
    let unwell = CycleReport { outcome: CycleOutcome::NoChange, snapshot: Some(seen.summary()), ..report() };
    let told = Told { report: &unwell, realised: None, repeatable: false };
    has(&Explanation::of_now(told, &Present::default(), 5_000).answer, &["nothing moves: primary 10.0.0.1:7000"]);
}
