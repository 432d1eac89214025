//! Policies as the host loads and asks them, and what it says of those that are wrong. Hostile ones are in `attacks`.

mod attacks;
mod fuzz;

use std::sync::Arc;

use super::testing::{Fixture, embed, host, host_with, snapshot};
use super::*;

/// The plan of a fixture on three nodes.
fn plan_of(fixture: &Fixture) -> Result<Plan, PolicyFailure> {
    load(&fixture.module()).expect("it loads").plan(&snapshot(3))
}

fn load(bytes: &[u8]) -> Result<LoadedPolicy, LoadFailure> {
    load_in(&host(), bytes)
}

fn load_in(host: &PolicyHost, bytes: &[u8]) -> Result<LoadedPolicy, LoadFailure> {
    host.load_bytes(&Source::File("policies/fixture.wasm".into()), bytes.to_vec(), "{}")
}

#[track_caller]
fn fails(fixture: &Fixture, kind: FailureKind, words: &str) {
    let failure = plan_of(fixture).expect_err("it should fail");
    assert_eq!(failure.kind, kind, "{failure}");
    assert!(failure.reason.contains(words), "'{words}' is not in: {failure}");
    assert!(failure.to_string().starts_with("policy fixture 0.1.0 gave no plan"), "{failure}");
}

#[track_caller]
fn refuses(bytes: &[u8], stage: Stage, words: &str) {
    let failure = load(bytes).expect_err("it should be refused");
    assert_eq!(failure.stage, stage, "{failure}");
    assert!(failure.to_string().contains(words), "'{words}' is not in: {failure}");
    assert!(failure.policy.contains("policies/fixture.wasm"), "{failure}");
    assert!(!failure.next_step.is_empty(), "{failure}");
}

#[test]
fn a_small_policy_in_text_is_asked_and_answers() {
    let mut policy = load(&Fixture::default().module()).expect("it loads");
    assert_eq!(policy.id().to_string(), format!("fixture 0.1.0 sha256:{}", &policy.digest()[..12]));
    let plan = policy.plan(&snapshot(3)).expect("it answers");
    assert_eq!((plan.moves.len(), plan.summary.as_str(), plan.generation), (0, "content", 1));
    let stats = policy.stats();
    assert_eq!((stats.calls, stats.faults, stats.memory_bytes), (1, 0, 65536));
}

#[test]
fn the_cluster_answers_only_while_a_plan_is_made() {
    let early = Fixture {
        extra: r#"(import "ballast:policy/cluster@0.1.0" "generation" (func $generation (result i64)))"#.into(),
        configure: "(drop (call $generation))".into(),
        ..Fixture::default()
    };
    refuses(&early.module(), Stage::Configure, "answer only while `plan` or `advise` runs");
}

#[test]
fn columns_cross_as_they_are() {
    // Sums `owners` of three nodes over all slots and returns the sum as the number of the one move's target.
    let sums = Fixture {
        extra: r#"(import "ballast:policy/cluster@0.1.0" "owners" (func $owners (param i32)))"#.into(),
        plan: "(call $owners (i32.const 600))
            (local.set $at (i32.load offset=600 (i32.const 0)))
            (local.set $end (i32.add (local.get $at)
              (i32.mul (i32.const 4) (i32.load offset=604 (i32.const 0)))))
            (loop $next
              (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
              (local.set $at (i32.add (local.get $at) (i32.const 4)))
              (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
            (i32.store offset=516 (i32.const 0) (i32.const 640))
            (i32.store offset=520 (i32.const 0) (i32.const 1))
            (i32.store16 offset=640 (i32.const 0) (i32.const 0))
            (i32.store offset=644 (i32.const 0) (local.get $sum))
            (i32.store offset=648 (i32.const 0) (i32.const 0))
            (i32.store offset=652 (i32.const 0) (i32.const 0))"
            .into(),
        ..Fixture::default()
    };
    let snapshot = snapshot(3);
    let expected: u32 = snapshot.owners.as_slice().iter().sum();
    let plan = load(&sums.module()).expect("it loads").plan(&snapshot).expect("it answers");
    assert_eq!(plan.moves[0].target, expected);
}

#[test]
fn what_is_no_policy_is_refused_with_the_reason() {
    refuses(b"", Stage::Recognise, "the file is empty");
    refuses(b"#!/bin/sh\n", Stage::Recognise, "not WebAssembly");
    refuses(b"(module)", Stage::Recognise, "it looks like WebAssembly text");
    let whole = Fixture::default().module();
    refuses(&whole[..whole.len() / 2], Stage::Recognise, "it is cut short");
    refuses(&whole[..6], Stage::Recognise, "it is cut short");
    let mut damaged = whole.clone();
    damaged[9] = 0x7f;
    assert!(load(&damaged).is_err_and(|failure| failure.stage <= Stage::Componentize));
}

#[test]
fn what_cannot_be_read_is_refused_with_its_path() {
    for (path, words) in [("/no/such/policy.wasm", "No such file"), ("/dev/zero", "not a regular file")] {
        let failure = host().load(&Source::File(path.into()), "{}").expect_err("it is no policy");
        assert_eq!(failure.stage, Stage::Read);
        assert!(failure.to_string().contains(path) && failure.reason.contains(words), "{failure}");
    }
}

#[test]
fn a_core_module_without_its_type_is_told_how_to_get_one() {
    let module = wat::parse_str(r#"(module (import "env" "puts" (func (param i32))))"#).expect("it assembles");
    refuses(&module, Stage::Componentize, "imports env puts");
    refuses(&module, Stage::Componentize, "wasm-tools component embed");
}

#[test]
fn a_missing_export_is_named() {
    let export = r#"(export "ballast:policy/policy@0.1.0#describe")"#;
    let lacks = Fixture { replace: vec![(export, "")], ..Fixture::default() };
    refuses(&lacks.module(), Stage::Componentize, "describe");
}

#[test]
fn a_component_of_another_world_is_refused() {
    let empty = wat::parse_str("(component)").expect("it assembles");
    refuses(&empty, Stage::Link, "it does not export ballast:policy/policy@0.1.0; it exports nothing");
}

#[test]
fn a_policy_for_another_version_is_refused_with_both() {
    let text = Fixture::default().text().replace("@0.1.0", "@0.2.0");
    let module = embed(&text, "slot-policy", &WIT.replace("ballast:policy@0.1.0", "ballast:policy@0.2.0"));
    refuses(&module, Stage::Link, "built for ballast:policy@0.2.0, and this daemon speaks 0.1.0");
}

#[test]
fn a_policy_for_a_later_patch_version_is_taken() {
    let text = Fixture::default().text().replace("@0.1.0", "@0.1.7");
    let module = embed(&text, "slot-policy", &WIT.replace("ballast:policy@0.1.0", "ballast:policy@0.1.7"));
    let mut policy = load(&module).expect("it loads");
    policy.plan(&snapshot(3)).expect("it answers");
}

#[test]
fn wasi_is_refused_by_name() {
    let wasi = wat::parse_str(
        r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64))))))"#,
    );
    refuses(
        &wasi.expect("it assembles"),
        Stage::Link,
        "imports wasi:clocks/monotonic-clock@0.2.0, and a policy gets no WASI",
    );
}

#[test]
fn an_unknown_import_is_refused_by_name() {
    let module = wat::parse_str(r#"(component (import "acme:net/http" (func)))"#).expect("it assembles");
    refuses(&module, Stage::Link, "imports acme:net/http, which is not part of ballast:policy@0.1.0");
}

#[test]
fn a_function_that_this_version_lacks_is_refused_by_name() {
    let newer = WIT.replace("  generation: func() -> u64;", "  generation: func() -> u64;\n  weather: func() -> u64;");
    let fixture = Fixture {
        extra: r#"(import "ballast:policy/cluster@0.1.0" "weather" (func $weather (result i64)))"#.into(),
        plan: "(drop (call $weather))".into(),
        ..Fixture::default()
    };
    refuses(&embed(&fixture.text(), "slot-policy", &newer), Stage::Link, "weather");
}

#[test]
fn a_crash_while_describing_itself_is_a_refusal() {
    let crash = Fixture { describe: "unreachable".into(), ..Fixture::default() };
    refuses(&crash.module(), Stage::Describe, "`describe` gave up");
    let nameless = Fixture { name: "No Name", ..Fixture::default() };
    refuses(&nameless.module(), Stage::Describe, "its name is 'No Name'");
}

#[test]
fn needs_that_the_cluster_does_not_offer_are_refused_on_a_running_daemon() {
    let fixture = Fixture { needs: Some("slot/phase-of-moon"), ..Fixture::default() };
    let policy = load(&fixture.module()).expect("nothing is known of the cluster yet");
    let ground = Ground { parameters: "{}".into(), snapshot: Some(snapshot(3)), ..Ground::default() };
    let failure = host::try_on(policy, &ground).expect_err("the cluster has no such column");
    assert_eq!(failure.stage, Stage::Needs);
    assert!(failure.to_string().contains("fixture 0.1.0 from 'policies/fixture.wasm'"), "{failure}");
    assert!(failure.reason.contains("it needs slot/phase-of-moon"), "{failure}");
    let fixture = Fixture { needs: Some("phase-of-moon"), ..Fixture::default() };
    refuses(&fixture.module(), Stage::Describe, "metrics begin with 'slot/' or 'node/'");
}

#[test]
fn a_policy_that_fails_its_trial_is_refused() {
    let ground = Ground { parameters: "{}".into(), snapshot: Some(snapshot(3)), ..Ground::default() };
    let policy = load(&Fixture::planning("unreachable").module()).expect("it loads");
    let failure = host::try_on(policy, &ground).expect_err("it traps");
    assert_eq!(failure.stage, Stage::Trial);
    assert!(failure.reason.starts_with("trap: `plan` gave up"), "{failure}");
}

#[test]
fn a_pinned_digest_admits_no_other_file() {
    let pinned = host_with(Settings { sha256: Some("0".repeat(64)), ..Settings::default() });
    let failure = load_in(&pinned, &Fixture::default().module()).expect_err("another digest");
    assert_eq!(failure.stage, Stage::Pin);
    let module = Fixture::default().module();
    let pinned = host_with(Settings { sha256: Some(host::digest(&module)), ..Settings::default() });
    assert!(load_in(&pinned, &module).is_ok());
}

#[test]
fn after_a_fault_a_policy_rests_and_says_so() {
    let mut policy = load(&Fixture::planning("unreachable").module()).expect("it loads");
    let snapshot = snapshot(3);
    policy.plan(&snapshot).expect_err("it traps");
    let failure = policy.plan(&snapshot).expect_err("it rests");
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(
        failure.reason.starts_with("resting for 1 s after 1 faults in a row; the last: `plan` gave up"),
        "{failure}"
    );
    assert_eq!(policy.stats().calls, 1, "a resting policy is not called");
}

#[test]
fn the_same_view_gives_the_same_plan_twice() {
    let mut policy = load(&Fixture::default().module()).expect("it loads");
    let snapshot: Arc<Snapshot> = snapshot(10);
    assert_eq!(policy.plan(&snapshot), policy.plan(&snapshot));
}

/// Counts its calls in a byte, saves and restores it, returns it as the one move's slot, and traps at every third.
fn counter() -> Fixture {
    Fixture {
        world: "full-slot-policy",
        extra: "(global $count (mut i32) (i32.const 0))".into(),
        plan: "(global.set $count (i32.add (global.get $count) (i32.const 1)))
            (if (i32.eq (global.get $count) (i32.const 3)) (then unreachable))
            (i32.store offset=516 (i32.const 0) (i32.const 640))
            (i32.store offset=520 (i32.const 0) (i32.const 1))
            (i32.store16 offset=640 (i32.const 0) (global.get $count))"
            .into(),
        replace: vec![(
            "(func (export \"cabi_post_ballast",
            r#"(func (export "ballast:policy/state@0.1.0#save") (result i32)
              (i32.store8 offset=700 (i32.const 0) (global.get $count))
              (i32.store offset=704 (i32.const 0) (i32.const 700))
              (i32.store offset=708 (i32.const 0) (i32.const 1))
              (i32.const 704))
            (func (export "ballast:policy/state@0.1.0#restore")
              (param $by i32) (param $by_bytes i32) (param $data i32) (param $bytes i32) (result i32)
              (global.set $count (i32.add (i32.const 10) (i32.load8_u (local.get $data))))
              (i32.store8 offset=720 (i32.const 0) (i32.const 0))
              (i32.const 720))
            (func (export "ballast:policy/scaling@0.1.0#advise") (result i32)
              (i32.store8 offset=740 (i32.const 0) (i32.const 0))
              (i32.store offset=744 (i32.const 0) (i32.const 7))
              (i32.store offset=748 (i32.const 0) (i32.const 0))
              (i32.store offset=752 (i32.const 0) (i32.const 0))
              (i32.store offset=756 (i32.const 0) (i32.const 120))
              (i32.store offset=760 (i32.const 0) (i32.const 7))
              (i32.const 740))
            (func (export "cabi_post_ballast"#,
        )],
        ..Fixture::default()
    }
}

fn first_slot(plan: &Plan) -> u16 {
    plan.moves[0].slot
}

#[test]
fn what_a_policy_saved_survives_its_death() {
    let mut policy = load(&counter().module()).expect("it loads");
    let snapshot = snapshot(3);
    assert_eq!(policy.plan(&snapshot).map(|plan| first_slot(&plan)), Ok(1));
    assert_eq!(policy.plan(&snapshot).map(|plan| first_slot(&plan)), Ok(2));
    assert_eq!(policy.plan(&snapshot).map_err(|failure| failure.kind), Err(FailureKind::Trap));
    policy.end_rest();
    assert_eq!(policy.plan(&snapshot).map(|plan| first_slot(&plan)), Ok(13), "10 for being restored, 2 saved, 1 now");
    let stats = policy.stats();
    assert_eq!((stats.calls, stats.faults, stats.faults_in_row, stats.restarts), (4, 1, 0, 1));
}

#[test]
fn state_passes_from_one_version_to_the_next_and_the_trial_leaves_no_trace() {
    let mut old = load(&counter().module()).expect("it loads");
    let snapshot = snapshot(3);
    old.plan(&snapshot).expect("it answers");
    let ground =
        Ground { state: old.saved_state().cloned(), snapshot: Some(Arc::clone(&snapshot)), ..Ground::default() };
    let new = load(&Fixture { version: "0.2.0", ..counter() }.module()).expect("it loads");
    let mut new = host::try_on(new, &ground).expect("it passes its trial");
    assert_eq!(new.stats().calls, 0);
    assert_eq!(new.plan(&snapshot).map(|plan| first_slot(&plan)), Ok(12), "10 for being restored, 1 saved, 1 now");
}

#[test]
fn advice_about_shards_is_returned() {
    let mut policy = load(&counter().module()).expect("it loads");
    let advice = policy.advise(&snapshot(3)).expect("it answers").expect("it offers advice");
    assert_eq!((advice.shards, advice.reason.as_str()), (7, "content"));
    let mut plain = load(&Fixture::default().module()).expect("it loads");
    assert_eq!(plain.advise(&snapshot(3)), Ok(None));
}

#[test]
fn refused_parameters_leave_the_old_ones_in_force() {
    // Accepts two bytes only: "{}".
    let picky = Fixture {
        configure: "(if (i32.ne (local.get $bytes) (i32.const 2)) (then
              (i32.store8 offset=448 (i32.const 0) (i32.const 1))
              (i32.store offset=452 (i32.const 0) (i32.const 120))
              (i32.store offset=456 (i32.const 0) (i32.const 7))))"
            .into(),
        ..Fixture::default()
    };
    let mut policy = load(&picky.module()).expect("it loads");
    let failure = policy.configure(r#"{"x":1}"#).expect_err("refused");
    assert_eq!((failure.stage, failure.reason.as_str()), (Stage::Configure, "content"));
    assert_eq!(policy.parameters(), "{}");
    policy.plan(&snapshot(3)).expect("it goes on with the old ones");
}

#[test]
fn a_module_that_wants_preview1_gets_ours_and_its_output_is_logged() {
    let prints = Fixture {
        extra: r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#
            .into(),
        // One vector at 600 that points at "content".
        plan: "(i32.store offset=600 (i32.const 0) (i32.const 120)) (i32.store offset=604 (i32.const 0) (i32.const 7))
            (drop (call $write (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 640)))"
            .into(),
        ..Fixture::default()
    };
    let mut policy = load(&prints.module()).expect("it loads");
    policy.plan(&snapshot(3)).expect("it answers");
    assert_eq!(policy.log_lines(), ["content"]);
}

#[test]
fn goals_are_searched_for_on_the_same_view() {
    // Asks for the moves that the goals in memory lead to, and returns them as its own.
    let asks = |goals: &str| Fixture {
        extra: format!(
            r#"(import "ballast:policy/search@0.1.0" "solve" (func $solve (param i32 i32 i32)))
            (data (i32.const 2048) "{}")"#,
            goals.replace('"', "\\\"")
        ),
        // The result stands at 600: tag, then moves pointer and count, or the error's pointer and length.
        plan: format!(
            "(call $solve (i32.const 2048) (i32.const {}) (i32.const 600))
             (i32.store8 offset=512 (i32.const 0) (i32.load8_u offset=600 (i32.const 0)))
             (if (i32.load8_u offset=600 (i32.const 0))
               (then
                 (i32.store8 offset=516 (i32.const 0) (i32.const 2))
                 (i32.store offset=520 (i32.const 0) (i32.load offset=604 (i32.const 0)))
                 (i32.store offset=524 (i32.const 0) (i32.load offset=608 (i32.const 0))))
               (else
                 (i32.store offset=516 (i32.const 0) (i32.load offset=604 (i32.const 0)))
                 (i32.store offset=520 (i32.const 0) (i32.load offset=608 (i32.const 0)))))",
            goals.len()
        ),
        ..Fixture::default()
    };
    let plan = plan_of(&asks("{}")).expect("it answers");
    assert!(!plan.moves.is_empty(), "the cluster is far from even");
    fails(&asks(r#"{"no-such-goal":1}"#), FailureKind::Error, "no-such-goal");
}
