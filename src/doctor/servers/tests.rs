use super::*;
use crate::config;
use crate::doctor::line::Verdict;
use crate::doctor::seen::{Clock, node};

const SEVEN: &str = "redis_version:7.0.15\r\nrole:master\r\n";

fn config(more: &str) -> Config {
    let text = format!("[cluster]\nseeds = [\"h:1\"]\n{more}");
    config::read(&text, None, []).unwrap_or_else(|error| panic!("{error}")).config
}

fn write(line: &Line) -> &str {
    line.fix.as_ref().and_then(|fix| fix.write.first()).map_or("", String::as_str)
}

/// Verdicts with the beginning of what was found.
fn verdicts(lines: &[Line]) -> Vec<Verdict> {
    lines.iter().map(|line| line.verdict).collect()
}

#[test]
fn clocks_warn_from_a_second_and_fail_from_half_a_minute() {
    let at = |ahead_ms, give_or_take_ms| {
        let node = node(1, SEVEN, &[]);
        clocks(&[Node { clock: Ok(Clock { ahead_ms, give_or_take_ms }), ..node }], "ann")
    };
    for (ahead_ms, give_or_take_ms, verdict) in [
        (999, 0, Verdict::Ok),
        (1_000, 0, Verdict::Warn),
        (1_200, 300, Verdict::Ok),
        (-1_400, 300, Verdict::Warn),
        (29_999, 0, Verdict::Warn),
        (-30_000, 0, Verdict::Fail),
    ] {
        assert_eq!(verdicts(&at(ahead_ms, give_or_take_ms)), [verdict], "{ahead_ms} ± {give_or_take_ms}");
    }
    assert_eq!(at(-61_000, 5)[0].found, "the clock of 10.0.0.1:7001 is 1m 1s behind ours");
    assert!(at(40, 5)[0].found.ends_with("within 40 ms of ours"));
}

#[test]
fn a_clock_that_is_not_told_is_skipped_with_the_way_to_have_it_told() {
    let lines = clocks(&[Node { clock: Err("NOPERM".into()), ..node(1, SEVEN, &[]) }], "ann");
    assert_eq!(verdicts(&lines), [Verdict::Skip]);
    assert!(write(&lines[0]) == "ACL SETUSER ann +time");
}

fn with_stats(place: u16, info: &str, slot_stats: SlotStatsState) -> Node {
    let mut node = node(place, info, &[]);
    node.can.as_mut().expect("known").slot_stats = slot_stats;
    node
}

#[test]
fn statistics_are_counted_sampled_or_turned_on_by_a_command() {
    let on = with_stats(1, "valkey_version:8.0.3", SlotStatsState::On);
    assert_eq!(statistics(std::slice::from_ref(&on))[0].found, "load of 1 node per slot, as the servers count it");
    let absent = statistics(&[with_stats(1, SEVEN, SlotStatsState::Absent)]);
    assert_eq!(verdicts(&absent), [Verdict::Ok]);
    assert!(absent[0].found.contains("is sampled: redis 7.0.15 cannot count it"), "{absent:?}");
    let off = statistics(&[on, with_stats(2, "valkey_version:8.0.3", SlotStatsState::Off)]);
    assert_eq!(verdicts(&off), [Verdict::Ok, Verdict::Warn]);
    assert_eq!(write(&off[1]), "CONFIG SET cluster-slot-stats-enabled yes");
    assert!(off[1].found.starts_with("10.0.0.1:7002: load per slot could be counted"), "{off:?}");
}

#[test]
fn a_build_that_dies_of_its_statistics_is_to_be_upgraded_first() {
    let advice = |info| {
        let lines = statistics(&[with_stats(1, info, SlotStatsState::Off)]);
        lines[0].fix.as_ref().expect("a fix").advice.clone()
    };
    assert!(advice("valkey_version:8.0.1").starts_with("upgrade first"));
    assert!(!advice("valkey_version:8.0.4").contains("upgrade"));
}

#[test]
fn a_migrate_that_waits_for_long_against_the_node_time_out_is_told() {
    let told = |node_timeout: &str, more: &str| {
        let nodes = [node(1, SEVEN, &[(NODE_TIMEOUT, node_timeout), ("maxmemory", "1000")])];
        settings(&nodes, &config(more), "ann")
    };
    let wait = |text: &str| format!("[migration]\nmigrate_timeout = \"{text}\"\n");
    assert_eq!(verdicts(&told("15000", "")), [Verdict::Ok]);
    assert_eq!(verdicts(&told("4000", "")), [Verdict::Ok]);
    assert_eq!(verdicts(&told("3999", "")), [Verdict::Warn]);
    let worst = told("2000", &wait("1s"));
    assert_eq!(verdicts(&worst), [Verdict::Fail]);
    assert_eq!(write(&worst[0]), "migrate_timeout = \"400ms\"");
    assert_eq!(verdicts(&told("2000", &wait("400ms"))), [Verdict::Ok], "the fix mends it");
}

#[test]
fn memory_that_nobody_knows_is_told_unless_somebody_says_it() {
    let told = |more: &str| settings(&[node(1, SEVEN, &[("maxmemory", "0")])], &config(more), "ann");
    assert_eq!(verdicts(&told("")), [Verdict::Warn]);
    assert_eq!(verdicts(&told("[limits]\nunknown_memory = \"refuse\"\n")), [Verdict::Fail]);
    assert_eq!(verdicts(&told("[[node]]\nmatch = \"10.0.*\"\nmemory = \"1GiB\"\n")), [Verdict::Ok]);
    let limited = [node(1, SEVEN, &[("maxmemory", "1000")])];
    assert_eq!(verdicts(&settings(&limited, &config(""), "ann")), [Verdict::Ok]);
    let replica = [node(1, "redis_version:7.0.15\r\nrole:slave\r\n", &[("maxmemory", "0")])];
    assert_eq!(verdicts(&settings(&replica, &config(""), "ann")), [Verdict::Ok], "nothing moves to a replica");
}

#[test]
fn draining_while_replicas_wander_is_told() {
    let nodes = [node(1, SEVEN, &[("maxmemory", "1000"), (REPLICA_MIGRATION, "yes")])];
    assert_eq!(verdicts(&settings(&nodes, &config(""), "ann")), [Verdict::Ok]);
    let lines = settings(&nodes, &config("[[node]]\nmatch = \"10.0.0.1:7001\"\ndrain = true\n"), "ann");
    assert_eq!(verdicts(&lines), [Verdict::Warn]);
    assert_eq!(write(&lines[0]), "CONFIG SET cluster-allow-replica-migration no");
}

#[test]
fn nodes_that_differ_in_what_must_be_the_same_are_told() {
    let of = |place, value| node(place, SEVEN, &[("maxmemory", "1000"), (FULL_COVERAGE, value)]);
    let lines = settings(&[of(1, "yes"), of(2, "yes"), of(3, "no")], &config(""), "ann");
    assert_eq!(verdicts(&lines), [Verdict::Warn]);
    assert_eq!(write(&lines[0]), "CONFIG SET cluster-require-full-coverage yes");
}

#[test]
fn settings_that_are_not_told_are_skipped() {
    let lines = settings(&[Node { settings: Err("NOPERM".into()), ..node(1, SEVEN, &[]) }], &config(""), "ann");
    assert_eq!(verdicts(&lines), [Verdict::Skip]);
}

#[test]
fn one_version_is_well_and_several_are_a_warning() {
    let lines = versions(&[node(1, SEVEN, &[]), node(2, SEVEN, &[])], &config(""));
    assert_eq!(lines, [Line::ok(Topic::Versions, "redis 7.0.15 on 2 nodes")]);
    let lines = versions(&[node(1, SEVEN, &[]), node(2, "valkey_version:8.1.3", &[])], &config(""));
    assert_eq!(lines[0].found, "nodes of several versions: redis 7.0.15 (1), valkey 8.1.3 (1)");
    assert_eq!(verdicts(&lines), [Verdict::Warn]);
}

#[test]
fn known_builds_are_named_where_it_matters() {
    let told = |info: &str, more: &str| versions(&[node(1, info, &[])], &config(more));
    let crashes = told("valkey_version:8.0.1", "");
    assert_eq!(verdicts(&crashes), [Verdict::Ok, Verdict::Warn]);
    assert!(crashes[1].found.contains("valkey#1912"), "{crashes:?}");
    let off = versions(&[with_stats(1, "valkey_version:8.0.1", SlotStatsState::Off)], &config(""));
    assert_eq!(verdicts(&off), [Verdict::Ok], "it counts nothing, so it does not end itself");
    assert_eq!(verdicts(&told("valkey_version:8.0.4", "")), [Verdict::Ok]);
    assert_eq!(verdicts(&told(SEVEN, "")), [Verdict::Ok]);
    assert_eq!(verdicts(&told(SEVEN, "[limits]\nslot_cool_down = \"5s\"\n")), [Verdict::Ok, Verdict::Warn]);
    assert_eq!(verdicts(&told("redis_version:5.0.7", "")), [Verdict::Ok, Verdict::Warn]);
    let mut broken = node(1, "valkey_version:9.1.1", &[]);
    broken.can.as_mut().expect("known").atomic_defect = Some("it fails (valkey#4545)");
    assert!(versions(&[broken], &config(""))[1].found.contains("valkey#4545"));
}
