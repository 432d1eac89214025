//! Hostile and clumsy policies: each does its worst, and is contained with a message that says what it did.

use super::*;

#[test]
fn a_trap_is_a_failure_and_not_the_end() {
    fails(&Fixture::planning("unreachable"), FailureKind::Trap, "`plan` gave up (a panic");
}

#[test]
fn an_endless_loop_ends_at_the_deadline() {
    let quick = host_with(Settings { deadline_ms: 50, ..Settings::default() });
    let mut policy = load_in(&quick, &Fixture::planning("(loop $for_ever (br $for_ever))").module()).expect("it loads");
    let failure = policy.plan(&snapshot(3)).expect_err("it never returns");
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Deadline, "`plan` took longer than 50 ms"));
}

#[test]
fn a_hoarder_meets_its_limit() {
    let hoard = Fixture::planning("(loop $more (drop (memory.grow (i32.const 256))) (br $more))");
    fails(&hoard, FailureKind::MemoryLimit, "MiB of memory, 256 MiB are allowed");
}

#[test]
fn memory_is_counted_over_all_memories_of_an_instance() {
    let two = Fixture {
        extra: "(memory $other 1)".into(),
        plan: "(drop (memory.grow 0 (i32.const 2000))) (drop (memory.grow $other (i32.const 2200)))".into(),
        replace: vec![
            ("(memory (export \"memory\") 1)", ""),
            ("(memory $other 1)", "(memory (export \"memory\") 1) (memory $other 1)"),
        ],
        ..Fixture::default()
    };
    fails(&two, FailureKind::MemoryLimit, "wanted 263 MiB of memory, 256 MiB are allowed");
}

#[test]
fn a_table_hoarder_meets_its_limit() {
    let hoard = Fixture {
        extra: "(table $many 1 funcref)".into(),
        plan: "(drop (table.grow $many (ref.null func) (i32.const 1000000)))".into(),
        ..Fixture::default()
    };
    fails(&hoard, FailureKind::MemoryLimit, "wanted 1000001 table elements, 100000 are allowed");
}

#[test]
fn endless_recursion_uses_up_the_stack() {
    let deep = Fixture {
        extra: "(func $deep (param i64) (result i64)
            (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))"
            .into(),
        plan: "(drop (call $deep (i64.const 0)))".into(),
        ..Fixture::default()
    };
    fails(&deep, FailureKind::Trap, "used up its 512 KiB of stack");
    fails(&deep, FailureKind::Trap, ", in deep");
}

#[test]
fn a_shadow_stack_that_runs_below_zero_is_called_recursion() {
    fails(
        &Fixture::planning("(i32.store (i32.const -64) (i32.const 1))"),
        FailureKind::Trap,
        "just below address 0: probably a stack overflow",
    );
}

#[test]
fn a_wild_pointer_is_named_as_one() {
    fails(
        &Fixture::planning("(i32.store (i32.const 0x40000000) (i32.const 1))"),
        FailureKind::Trap,
        "read or wrote outside its memory",
    );
}

/// `count` moves, all zeroes, from address 65536 on.
fn many_moves(count: u32) -> Fixture {
    // A move takes 16 bytes: slot, target, reason pointer and length.
    Fixture::planning(&format!(
        "(drop (memory.grow (i32.const {})))
         (i32.store offset=516 (i32.const 0) (i32.const 65536))
         (i32.store offset=520 (i32.const 0) (i32.const {count}))",
        count / 4096 + 1
    ))
}

#[test]
fn a_million_moves_are_too_many_to_copy() {
    fails(&many_moves(1_000_000), FailureKind::Invalid, "returned more than the 16 MiB that one call may transfer");
}

#[test]
fn more_moves_than_slots_are_refused_by_number() {
    fails(&many_moves(16_385), FailureKind::Invalid, "proposed 16385 moves; at most 16384 are allowed");
    assert_eq!(plan_of(&many_moves(16_384)).map(|plan| plan.moves.len()), Ok(16_384));
}

#[test]
fn a_huge_string_is_too_much_to_copy() {
    let huge = Fixture::planning(
        "(drop (memory.grow (i32.const 1700)))
         (i32.store offset=524 (i32.const 0) (i32.const 65536))
         (i32.store offset=528 (i32.const 0) (i32.const 100000000))",
    );
    fails(&huge, FailureKind::Invalid, "returned more than the 16 MiB");
}

#[test]
fn a_long_summary_is_cut() {
    let long = Fixture::planning(
        "(memory.fill (i32.const 8192) (i32.const 97) (i32.const 5000))
         (i32.store offset=524 (i32.const 0) (i32.const 8192))
         (i32.store offset=528 (i32.const 0) (i32.const 5000))",
    );
    assert_eq!(plan_of(&long).map(|plan| plan.summary), Ok("a".repeat(1024)));
}

#[test]
fn a_forged_list_length_breaks_the_interface() {
    let forged = Fixture::planning("(i32.store offset=520 (i32.const 0) (i32.const 100000000))");
    fails(&forged, FailureKind::Invalid, "");
    let forged = Fixture::planning(
        "(i32.store offset=516 (i32.const 0) (i32.const 65000)) (i32.store offset=520 (i32.const 0) (i32.const 1000))",
    );
    fails(&forged, FailureKind::Invalid, "out of bounds of memory");
}

#[test]
fn text_that_is_no_text_breaks_the_interface() {
    fails(&Fixture::planning("(i32.store8 offset=120 (i32.const 0) (i32.const 255))"), FailureKind::Invalid, "utf-8");
}

#[test]
fn nonsense_moves_pass_through_to_the_guard() {
    let nonsense = Fixture::planning(
        "(i32.store offset=516 (i32.const 0) (i32.const 8192))
         (i32.store offset=520 (i32.const 0) (i32.const 1))
         (i32.store16 offset=8192 (i32.const 0) (i32.const 60000))
         (i32.store offset=8196 (i32.const 0) (i32.const 999))",
    );
    let moves = plan_of(&nonsense).expect("it answers").moves;
    assert_eq!(moves, [crate::model::ProposedMove { slot: 60000, target: 999, reason: String::new() }]);
}

#[test]
fn gauges_that_are_no_numbers_are_dropped() {
    // A gauge takes 16 bytes: name pointer and length, value.
    let gauges = Fixture::planning(
        "(i32.store offset=532 (i32.const 0) (i32.const 8192))
         (i32.store offset=536 (i32.const 0) (i32.const 3))
         (i32.store offset=8192 (i32.const 0) (i32.const 120)) (i32.store offset=8196 (i32.const 0) (i32.const 7))
         (f64.store offset=8200 (i32.const 0) (f64.const nan))
         (i32.store offset=8208 (i32.const 0) (i32.const 120)) (i32.store offset=8212 (i32.const 0) (i32.const 7))
         (f64.store offset=8216 (i32.const 0) (f64.const 1.5))
         (i32.store offset=8224 (i32.const 0) (i32.const 120)) (i32.store offset=8228 (i32.const 0) (i32.const 7))
         (f64.store offset=8232 (i32.const 0) (f64.const inf))",
    );
    assert_eq!(plan_of(&gauges).map(|plan| plan.gauges), Ok(vec![("content".to_owned(), 1.5)]));
}

#[test]
fn own_failures_keep_their_words() {
    // failure at 516: case, text pointer, length.
    let says = |case: u8| {
        Fixture::planning(&format!(
            "(i32.store8 offset=512 (i32.const 0) (i32.const 1))
             (i32.store8 offset=516 (i32.const 0) (i32.const {case}))
             (i32.store offset=520 (i32.const 0) (i32.const 120))
             (i32.store offset=524 (i32.const 0) (i32.const 7))"
        ))
    };
    fails(&says(0), FailureKind::Error, "its parameters do not fit: content");
    fails(&says(1), FailureKind::NotReady, "content");
    fails(&says(2), FailureKind::Error, "content");
}

/// Imports `log` and floods it.
fn flood(times: u32, bytes: u32) -> Fixture {
    Fixture {
        extra: r#"(import "ballast:policy/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#.into(),
        plan: format!(
            "(drop (memory.grow (i32.const 20)))
             (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1000000))
             (local.set $left (i32.const {times}))
             (loop $again
               (call $log (i32.const 0) (i32.const 65536) (i32.const {bytes}))
               (local.set $left (i32.sub (local.get $left) (i32.const 1)))
               (br_if $again (local.get $left)))"
        ),
        ..Fixture::default()
    }
}

#[test]
fn a_log_flood_keeps_a_hundred_lines_of_four_kilobytes() {
    let mut policy = load(&flood(300, 10_000).module()).expect("it loads");
    policy.plan(&snapshot(3)).expect("it answers");
    assert_eq!(policy.log_lines().len(), 100);
    assert!(policy.log_lines().iter().all(|line| line.len() == 4096));
}

#[test]
fn a_dying_policy_is_quoted() {
    let last_words = Fixture {
        extra: r#"(import "ballast:policy/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#.into(),
        plan: "(call $log (i32.const 3) (i32.const 120) (i32.const 7)) unreachable".into(),
        ..Fixture::default()
    };
    fails(&last_words, FailureKind::Trap, "; its last line: content");
}

#[test]
fn a_log_flood_without_end_meets_the_deadline() {
    let quick = host_with(Settings { deadline_ms: 100, ..Settings::default() });
    let mut policy = load_in(&quick, &flood(1_000_000, 1_000_000).module()).expect("it loads");
    assert_eq!(policy.plan(&snapshot(3)).map_err(|failure| failure.kind), Err(FailureKind::Deadline));
}

#[test]
fn memory_that_grows_from_call_to_call_meets_its_limit_and_a_fresh_instance_goes_on() {
    let tight = host_with(Settings { memory_mib: 8, ..Settings::default() });
    let leaky = Fixture::planning("(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))");
    let mut policy = load_in(&tight, &leaky.module()).expect("it loads");
    let snapshot = snapshot(3);
    let kinds: Vec<_> = (0..10).map(|_| policy.plan(&snapshot).map_err(|failure| failure.kind)).collect();
    let died = kinds.iter().position(Result::is_err).expect("a megabyte a call is too much for eight");
    assert_eq!(kinds[died].as_ref().err(), Some(&FailureKind::MemoryLimit));
    policy.end_rest();
    assert!(policy.plan(&snapshot).is_ok(), "the next instance begins small");
    assert!(policy.stats().memory_bytes < 3 << 20, "{:?}", policy.stats());
}

#[test]
fn a_flood_of_gauges_is_cut_to_sixteen() {
    // Two thousand times the same gauge, whose value is 0.
    let flood = Fixture::planning(
        "(drop (memory.grow (i32.const 2)))
         (local.set $at (i32.const 65536))
         (local.set $left (i32.const 2000))
         (loop $next
           (i32.store (local.get $at) (i32.const 120)) (i32.store offset=4 (local.get $at) (i32.const 7))
           (local.set $at (i32.add (local.get $at) (i32.const 16)))
           (local.set $left (i32.sub (local.get $left) (i32.const 1)))
           (br_if $next (local.get $left)))
         (i32.store offset=532 (i32.const 0) (i32.const 65536))
         (i32.store offset=536 (i32.const 0) (i32.const 2000))",
    );
    assert_eq!(plan_of(&flood).expect("it answers").gauges.len(), 16);
}

#[test]
fn calls_of_the_host_without_end_meet_the_deadline() {
    // Each copies a thousand addresses; the memory is used again and again.
    let quick = host_with(Settings { deadline_ms: 100, transfer_mib: 1024, ..Settings::default() });
    let asks = Fixture {
        extra: r#"(import "ballast:policy/cluster@0.1.0" "nodes" (func $nodes (param i32)))"#.into(),
        plan: "(loop $again (global.set $heap (i32.const 4096)) (call $nodes (i32.const 600)) (br $again))".into(),
        ..Fixture::default()
    };
    let mut policy = load_in(&quick, &asks.module()).expect("it loads");
    let failure = policy.plan(&snapshot(1000)).expect_err("it never returns");
    assert_eq!(failure.kind, FailureKind::Deadline, "{failure}");
}

#[test]
fn searches_beyond_four_are_refused_in_words() {
    let asks = Fixture {
        extra: r#"(import "ballast:policy/search@0.1.0" "solve" (func $solve (param i32 i32 i32)))
            (data (i32.const 2048) "{}")"#
            .into(),
        plan: "(local.set $left (i32.const 5))
            (loop $again
              (global.set $heap (i32.const 4096))
              (call $solve (i32.const 2048) (i32.const 2) (i32.const 600))
              (local.set $left (i32.sub (local.get $left) (i32.const 1)))
              (br_if $again (local.get $left)))
            (i32.store8 offset=512 (i32.const 0) (i32.load8_u offset=600 (i32.const 0)))
            (i32.store8 offset=516 (i32.const 0) (i32.const 2))
            (i32.store offset=520 (i32.const 0) (i32.load offset=604 (i32.const 0)))
            (i32.store offset=524 (i32.const 0) (i32.load offset=608 (i32.const 0)))"
            .into(),
        ..Fixture::default()
    };
    fails(&asks, FailureKind::Error, "at most 4 searches a call are allowed");
}

#[test]
fn state_without_end_is_dropped_and_foreign_state_is_a_cold_start() {
    let states = |save: &str, restore: &str| Fixture {
        world: "stateful-slot-policy",
        replace: vec![(
            "(func (export \"cabi_post_ballast",
            String::leak(format!(
                r#"(func (export "ballast:policy/state@0.1.0#save") (result i32)
                  {save}
                  (i32.store offset=704 (i32.const 0) (i32.const 65536))
                  (i32.const 704))
                (func (export "ballast:policy/state@0.1.0#restore")
                  (param $by i32) (param $by_bytes i32) (param $data i32) (param $bytes i32) (result i32)
                  {restore}
                  (i32.const 720))
                (func (export "cabi_post_ballast"#
            )),
        )],
        ..Fixture::default()
    };
    let two_mib = "(drop (memory.grow (i32.const 40))) (i32.store offset=708 (i32.const 0) (i32.const 2097152))";
    let mut hoarder = load(&states(two_mib, "").module()).expect("it loads");
    hoarder.plan(&snapshot(3)).expect("it answers");
    assert_eq!(hoarder.saved_state(), None, "more than a megabyte is not kept");

    let saved = SavedState { policy: "fixture".into(), version: "9.9.9".into(), data: b"of another version".to_vec() };
    let refusing = "(i32.store8 offset=720 (i32.const 0) (i32.const 1))
        (i32.store offset=724 (i32.const 0) (i32.const 120)) (i32.store offset=728 (i32.const 0) (i32.const 7))";
    for restore in [refusing, "unreachable"] {
        let mut policy = load(&states("", restore).module()).expect("it loads");
        policy.restore(&saved);
        assert!(policy.plan(&snapshot(3)).is_ok(), "it starts cold: {restore}");
    }
}

#[test]
fn a_huge_type_section_is_refused() {
    let types = "(type (func))".repeat(1_000_100);
    let flood = Fixture { extra: types, ..Fixture::default() };
    refuses(&flood.module(), Stage::Componentize, "limit");
}

#[test]
fn a_component_of_many_instances_is_refused() {
    let instances = "(core instance (instantiate $empty))".repeat(1_100);
    let many = format!("(component (core module $empty) {instances})");
    let failure = load(&wat::parse_str(many).expect("text")).expect_err("a thousand instances are too many");
    assert!(matches!(failure.stage, Stage::Recognise | Stage::Compile | Stage::Link), "{failure}");
}

#[test]
fn names_that_are_none_are_refused() {
    for name in
        ["Caps", "sp ace", "semi;colon", "", "quite-a-long-name-of-more-than-sixty-four-characters-all-in-all-ok"]
    {
        let fixture = Fixture { name, ..Fixture::default() };
        let failure = load(&fixture.module()).expect_err("it is no name");
        assert_eq!(failure.stage, Stage::Describe, "{failure}");
    }
}
