//! Stories about series: which exist from the start, and which come and go.

use std::sync::Arc;

use super::*;
use crate::migration::{Amount, Overall, Progress};
use crate::model::{
    Address, CycleOutcome, CycleReport, MigrationReport, Mode, NodeColumn, Owners, Plan, Prediction, Primary, Protocol,
    RefusalCheck, SLOT_COUNT, ShadowReport, Snapshot, Spread, Tag, resource,
};
use crate::store::{Event, StoredEvent};

#[test]
fn every_value_of_a_closed_label_exists_from_the_start() {
    let text = Metrics::new("test").encode();
    for check in RefusalCheck::ALL {
        has(&text, &format!(r#"ballast_plan_moves_rejected_total{{guard="{check}"}} 0"#));
    }
    for mode in Mode::ALL {
        has(&text, &format!(r#"ballast_mode{{mode="{mode}"}} 0"#));
    }
    has(&text, r#"ballast_policy_calls_total{result="memory-limit"} 0"#);
    has(&text, r#"ballast_moves_total{method="atomic",result="moved"} 0"#);
    has(&text, r#"ballast_probe_duration_seconds_count{phase="migrating"} 0"#);
    has(&text, r#"ballast_plans_total{outcome="executed",trigger="command"} 0"#);
    has(&text, r#"ballast_collect_duration_seconds_count{source="replica"} 0"#);
    has(&text, "ballast_migrate_batch_duration_seconds_count 0");
}

#[test]
fn series_of_the_cluster_carry_its_name_and_those_of_the_process_do_not() {
    let metrics = Metrics::new("prod");
    see(&metrics, &snapshot(3));
    metrics.http_request("/metrics", "GET", 200, 0.001);
    for line in metrics.encode().lines().filter(|line| !line.starts_with('#')) {
        let of_process = ["process_", "ballast_build_", "ballast_config_", "ballast_http_"];
        let expected = !of_process.iter().any(|prefix| line.starts_with(prefix));
        assert_eq!(line.contains(r#"cluster="prod""#), expected, "{line}");
    }
}

#[test]
fn every_slot_is_shown_where_that_is_wanted() {
    let metrics = Metrics::new("test").with_every_slot();
    see(&metrics, &snapshot(3));
    let text = metrics.encode();
    assert_eq!(text.matches("\nballast_slot_cpu_seconds_per_second{").count(), SLOT_COUNT);
    has(&text, r#"ballast_slot_cpu_seconds_per_second{slot="16383"} 0.016383"#);
}

/// Prometheus pays for each series for as long as it keeps anything: none may come unnoticed, least of all one for each node.
#[test]
fn as_many_series_as_were_agreed_at_six_nodes_and_at_a_thousand() {
    let (six, thousand) = (series_with(6), series_with(1000));
    assert_eq!((six, thousand), (OF_THE_CLUSTER + 6 * OF_A_NODE, OF_THE_CLUSTER + 1000 * OF_A_NODE));
    let metrics = Metrics::new("test");
    see(&metrics, &snapshot(1000));
    assert!(metrics.encode().len() < 2 << 20, "{} bytes at a thousand nodes", metrics.encode().len());
}

/// Those of nodes left out.
const OF_THE_CLUSTER: usize = 271;
const OF_A_NODE: usize = 13;

#[test]
fn series_of_a_node_go_when_it_leaves() {
    let metrics = Metrics::new("test");
    see(&metrics, &snapshot(3));
    has(&metrics.encode(), r#"ballast_node_slots{node="10.0.0.2:6379"} 5461"#);
    see(&metrics, &snapshot(2));
    let text = metrics.encode();
    assert!(!text.contains("10.0.0.2"), "{text}");
    has(&text, r#"ballast_node_load_ratio{node="10.0.0.1:6379",resource="cpu"} 0.5"#);
}

#[test]
fn a_node_that_is_upgraded_is_shown_once() {
    let metrics = Metrics::new("test");
    let mut seen = snapshot(1);
    see(&metrics, &seen);
    seen.primaries[0].version = "valkey 9.9.9".into();
    see(&metrics, &seen);
    assert_eq!(metrics.encode().matches("ballast_node_info{").count(), 1);
}

#[test]
fn a_cluster_that_cannot_be_seen_is_down_and_keeps_its_last_figures() {
    let metrics = Metrics::new("test");
    see(&metrics, &snapshot(3));
    let report = report(CycleOutcome::NotCollected { reason: "no seed answers".into() });
    metrics.observe(&Notice::Cycle { report: Arc::new(report), snapshot: None });
    let text = metrics.encode();
    has(&text, r#"ballast_cluster_up 0"#);
    has(&text, r#"ballast_plans_total{outcome="not-collected",trigger="interval"} 1"#);
    has(&text, r#"ballast_snapshot_timestamp_seconds 1700000000"#);
}

#[test]
fn what_a_shadow_was_counted_outlasts_a_cluster_that_cannot_be_seen_but_not_the_shadow() {
    let metrics = Metrics::new("test");
    let seen = Some(Arc::new(snapshot(3)));
    let shadow = ShadowReport { name: "new".into(), proposed: 3, approved: 2, ..ShadowReport::default() };
    let with = Arc::new(CycleReport { shadows: vec![shadow], ..report(CycleOutcome::NoChange) });
    let counted = r#"ballast_shadow_moves_total{shadow="new",verdict="approved"} 2"#;
    metrics.observe(&Notice::Cycle { report: with, snapshot: seen.clone() });
    has(&metrics.encode(), counted);
    let unseen = report(CycleOutcome::NotCollected { reason: "no seed answers".into() });
    metrics.observe(&Notice::Cycle { report: Arc::new(unseen), snapshot: None });
    has(&metrics.encode(), counted);
    metrics.observe(&Notice::Cycle { report: Arc::new(report(CycleOutcome::NoChange)), snapshot: seen });
    assert!(!metrics.encode().contains("ballast_shadow_moves_total{"), "the shadow is gone");
}

#[test]
fn one_mode_and_one_policy_are_shown() {
    let metrics = Metrics::new("test");
    let mode = |from, to| Event::Mode { from, to, who: "operator".into(), why: "release".into() };
    let loaded = |digit: &str| Event::PolicyLoaded {
        policy: crate::model::PolicyId { name: "p".into(), version: "1".into(), digest: digit.repeat(64) },
        source: "p.wasm".into(),
    };
    for event in [mode(Mode::DryRun, Mode::Auto), mode(Mode::Auto, Mode::Paused), loaded("a"), loaded("b")] {
        metrics.observe(&Notice::Event(StoredEvent { id: 1, at_ms: 5_000, event }));
    }
    let text = metrics.encode();
    has(&text, r#"ballast_mode{mode="paused"} 1"#);
    has(&text, r#"ballast_mode{mode="auto"} 0"#);
    assert_eq!(text.matches("ballast_policy_info{").count(), 1);
    has(&text, r#"ballast_policy_last_reload_success_timestamp_seconds 5"#);
}

/// Whether there is this sample; the cluster's name, which another test is about, is left out.
fn has(text: &str, line: &str) {
    let text =
        text.replace(r#"{cluster="test","#, "{").replace(r#",cluster="test""#, "").replace(r#"{cluster="test"}"#, "");
    assert!(text.lines().any(|candidate| candidate == line), "no line `{line}` in\n{text}");
}

fn see(metrics: &Metrics, snapshot: &Snapshot) {
    let (report, snapshot) = (Arc::new(report(CycleOutcome::NoChange)), Arc::new(snapshot.clone()));
    metrics.observe(&Notice::Seen(snapshot.clone()));
    metrics.observe(&Notice::Cycle { report, snapshot: Some(snapshot) });
}

/// How many series there are with so many primaries, without those of the process crate.
fn series_with(primaries: usize) -> usize {
    let metrics = Metrics::new("test");
    see(&metrics, &snapshot(primaries));
    metrics.encode().lines().filter(|line| line.starts_with("ballast_")).count()
}

fn report(outcome: CycleOutcome) -> CycleReport {
    CycleReport { outcome, ..CycleReport::begin(1, 0, Mode::Auto) }
}

fn snapshot(primaries: usize) -> Snapshot {
    let load: Arc<[f64]> = (0..16384).map(f64::from).collect();
    let half = NodeColumn(vec![0.5; primaries]);
    let many = NodeColumn(vec![1e9; primaries]);
    let nodes = [
        (resource::CPU, &half),
        (resource::OPS, &many),
        (resource::MEMORY_USED, &many),
        (resource::MEMORY_MAX, &many),
        (resource::NET_IN, &many),
        (resource::NET_OUT, &many),
        (resource::REPLICAS, &many),
        (resource::REPLICA_LAG, &many),
    ];
    Snapshot {
        generation: 1,
        taken_at_ms: 1_700_000_000_000,
        window_s: 10,
        primaries: (0..primaries)
            .map(|place| Primary {
                id: format!("{place:040x}").parse().expect("node id"),
                address: Address::new(format!("10.0.0.{place}"), 6379),
                hostname: None,
                version: "valkey 9.1.0".into(),
                zone: String::new(),
                tags: Vec::new(),
                config_epoch: 1,
            })
            .collect(),
        owners: Owners::new((0..SLOT_COUNT).map(|slot| u32::try_from(slot % primaries).expect("few")).collect()),
        slot_columns: [resource::CPU_USEC, resource::KEYS, resource::BYTES]
            .map(|name| (name.to_owned(), load.clone()))
            .into(),
        node_columns: nodes.map(|(name, column)| (name.to_owned(), column.clone())).into(),
        ..Snapshot::default()
    }
}

#[test]
fn keys_and_bytes_are_counted_while_they_move_and_once_only() {
    let metrics = Metrics::new("test");
    let moving = |keys, bytes| {
        let overall = Overall {
            slots_moved: 1,
            slots_waiting: 40,
            keys_moved: keys,
            bytes_moved: bytes,
            total: Amount { slots: 50, keys: Some(1_000), bytes: Some(9_000) },
            keys_per_s: None,
            bytes_per_s: None,
            eta_ms: None,
        };
        metrics.observe(&Notice::Moving { migrations: vec![progress(7_000)], overall: Some(overall), stuck: false });
    };
    moving(100, 900);
    moving(250, 2_250);
    let text = metrics.encode();
    has(&text, "ballast_move_keys_total 250");
    has(&text, "ballast_move_bytes_total 2250");
    has(&text, "ballast_moves_pending 40");
    let mut over = report(CycleOutcome::Executed);
    over.migrations = vec![MigrationReport {
        source: node("a"),
        target: node("b"),
        protocol: Protocol::Classic,
        moved: "0-9".parse().expect("slots"),
        stayed: Vec::new(),
        keys: 300,
        // The estimate was a little high; a counter does not go back.
        bytes: 2_200,
        duration_ms: 5,
        pace: crate::model::PaceReport {
            rounds: Spread { counts: [0, 0, 3, 1, 0, 0, 0, 0, 0, 2], seconds: 1.5 },
            share: 0.5,
            eased: [("latency".to_owned(), 7)].into(),
            ..crate::model::PaceReport::default()
        },
    }];
    metrics.observe(&Notice::Cycle { report: Arc::new(over), snapshot: None });
    metrics.observe(&Notice::Moving { migrations: Vec::new(), overall: None, stuck: false });
    moving(10, 90);
    let text = metrics.encode();
    has(&text, "ballast_move_pace_ratio 0.5");
    has(&text, r#"ballast_migrate_batch_duration_seconds_bucket{le="0.002"} 3"#);
    has(&text, r#"ballast_migrate_batch_duration_seconds_bucket{le="0.5"} 4"#);
    has(&text, r#"ballast_migrate_batch_duration_seconds_bucket{le="+Inf"} 6"#);
    has(&text, "ballast_migrate_batch_duration_seconds_sum 1.5");
    has(&text, "ballast_move_eased_total{reason=\"latency\"} 7");
    has(&text, "ballast_move_keys_total 310");
    has(&text, "ballast_move_bytes_total 2340");
}

#[test]
fn the_oldest_step_and_whether_it_is_stuck_are_shown_while_it_lasts() {
    let metrics = Metrics::new("test");
    has(&metrics.encode(), "ballast_moves_oldest_step_start_timestamp_seconds 0");
    let migrations = vec![progress(9_000), progress(7_500)];
    metrics.observe(&Notice::Moving { migrations, overall: None, stuck: true });
    has(&metrics.encode(), "ballast_moves_oldest_step_start_timestamp_seconds 7.5");
    has(&metrics.encode(), "ballast_moves_stuck 1");
    metrics.observe(&Notice::Moving { migrations: Vec::new(), overall: None, stuck: false });
    has(&metrics.encode(), "ballast_moves_oldest_step_start_timestamp_seconds 0");
    has(&metrics.encode(), "ballast_moves_stuck 0");
}

fn node(digit: &str) -> crate::model::NodeId {
    digit.repeat(40).parse().expect("node id")
}

fn progress(step_since_ms: u64) -> Progress {
    Progress {
        source: node("a"),
        target: node("b"),
        protocol: Protocol::Classic,
        began_by: "test".into(),
        reason: String::new(),
        slots: "0-9".parse().expect("slots"),
        slots_moved: 1,
        keys_moved: 1,
        keys_total: None,
        bytes_moved: 1,
        bytes_total: None,
        step: "transfer".into(),
        step_since_ms,
        started_at_ms: 5_000,
        told_at_ms: 10_000,
        finished: false,
    }
}

#[test]
fn errors_of_servers_are_counted_by_kind_and_unknown_ones_together() {
    let metrics = Metrics::new("test");
    let mut snapshot = snapshot(3);
    snapshot.errors = [("TRYAGAIN".to_owned(), 3), ("MYMODULE".to_owned(), 2), ("WRONGTYPE".to_owned(), 1)].into();
    see(&metrics, &snapshot);
    let text = metrics.encode();
    has(&text, "ballast_server_errors_total{kind=\"TRYAGAIN\"} 3");
    has(&text, "ballast_server_errors_total{kind=\"other\"} 3");
    has(&text, "ballast_server_errors_total{kind=\"MOVED\"} 0");
}

#[test]
fn whoever_leads_says_so_and_how_often_that_changed() {
    let metrics = Metrics::new("test");
    let mode = |from, to| {
        let event = Event::Mode { from, to, who: "configuration".into(), why: String::new() };
        metrics.observe(&Notice::Event(StoredEvent { id: 1, at_ms: 5, event }));
        metrics.encode()
    };
    has(&mode(Mode::DryRun, Mode::Follower), "ballast_leader 0");
    let text = mode(Mode::Follower, Mode::Auto);
    has(&text, "ballast_leader 1");
    has(&text, "ballast_leader_transitions_total 2");
    has(&mode(Mode::Auto, Mode::Paused), "ballast_leader_transitions_total 2");
}

/// What `docs/metrics.md` lists is what there is: names, labels, kinds and words.
#[test]
fn the_documentation_lists_every_metric() {
    let metrics = Metrics::new("test").with_every_slot();
    see(&metrics, &snapshot(3));
    let shadow = ShadowReport {
        name: "new".into(),
        policy: Some(policy()),
        predictions: [("cpu".to_owned(), Prediction { imbalance_before: 2.0, imbalance_after: 1.0, floor: 1.0 })]
            .into(),
        ..ShadowReport::default()
    };
    let plan = Plan {
        policy: policy(),
        generation: 1,
        moves: Vec::new(),
        summary: String::new(),
        gauges: vec![("spread".to_owned(), 1.0)],
    };
    let told = CycleReport { shadows: vec![shadow], plan: Some(plan), ..report(CycleOutcome::NoChange) };
    metrics.observe(&Notice::Cycle { report: Arc::new(told), snapshot: Some(Arc::new(draining())) });
    metrics.observe(&Notice::Seen(Arc::new(draining())));
    let loaded = Event::PolicyLoaded { policy: policy(), source: "p.wasm".into() };
    metrics.observe(&Notice::Event(StoredEvent { id: 1, at_ms: 5_000, event: loaded }));
    metrics.http_request("/metrics", "GET", 200, 0.001);
    metrics.webhook("chat", "delivered", 1);

    let listed = list(&metrics.encode());
    let written = include_str!("../../docs/metrics.md");
    let missing: Vec<&String> = listed.iter().filter(|row| !written.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks:\n{}", missing.into_iter().cloned().collect::<String>());
    let rows = written.lines().filter(|line| line.starts_with("| `ballast_")).count();
    assert_eq!(rows, listed.len(), "docs/metrics.md lists metrics that do not exist");
}

/// A row of a table for each family of ours.
fn list(text: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let (mut help, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            help = told.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(told) = line.strip_prefix("# TYPE ") {
            kind = told.split_once(' ').map_or("", |(_, kind)| kind);
        } else if !help.is_empty() && line.starts_with("ballast_") {
            let end = line.find(['{', ' ']).expect("a sample has a value");
            let name = ["_bucket", "_sum", "_count"].iter().fold(&line[..end], |name, suffix| match kind {
                "histogram" => name.strip_suffix(suffix).unwrap_or(name),
                _ => name,
            });
            let labels = line[end..].split(['{', ',']).filter_map(|label| Some(label.split_once("=\"")?.0));
            let labels: Vec<String> =
                labels.filter(|label| !["cluster", "le"].contains(label)).map(|label| format!("`{label}`")).collect();
            rows.push(format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
            help = "";
        }
    }
    rows
}

fn policy() -> crate::model::PolicyId {
    crate::model::PolicyId { name: "p".into(), version: "1".into(), digest: "a".repeat(64) }
}

fn draining() -> Snapshot {
    let mut snapshot = snapshot(3);
    snapshot.primaries[0].tags.push(Tag::Draining);
    snapshot
}
