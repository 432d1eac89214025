//! Metrics as Prometheus' own tool sees them.

use std::io::Write;
use std::process::{Command, Stdio};

use ballast::lab::{Kind, LocalCluster, servers_directory};

use crate::daemon::child::{Home, Settings};
use crate::support::{start, turn};

const PROMETHEUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus");

#[test]
fn alerts_fire_when_they_should_and_say_what_is_so() {
    let promtool = servers_directory().join("prometheus/bin/promtool");
    for rules in ["alerts_test.yml", "recording_test.yml"] {
        let rules = format!("{PROMETHEUS}/{rules}");
        let tested = Command::new(&promtool).args(["test", "rules", &rules]).output();
        let tested = tested.unwrap_or_else(|error| panic!("{}: {error}: run `make servers`", promtool.display()));
        let told = String::from_utf8_lossy(&tested.stderr) + String::from_utf8_lossy(&tested.stdout);
        assert!(tested.status.success(), "{rules}: {}: {told}", tested.status);
    }
}

#[test]
fn whatever_the_alerts_name_is_exported() {
    // A metric that was renamed would leave an alert that never fires. Many have no series before there is a node: the source
    // is asked for their names.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics");
    let files = std::fs::read_dir(folder).expect("our source").map(|entry| entry.expect("an entry").path());
    let source: String = files.map(|file| std::fs::read_to_string(file).expect("text")).collect();
    let alerts = std::fs::read_to_string(format!("{PROMETHEUS}/alerts.yml")).expect("readable");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: Vec<&str> = alerts.split(|c| !is_name(c)).filter(|word| word.starts_with("ballast_")).collect();
    assert!(named.len() >= 20, "{named:?}");
    for name in named {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(source.contains(&format!("\"{family}\"")), "no metric {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_to_complain_about() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.replicas(1))).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let daemon = home.start().await;
    daemon
        .until("a policy has answered", |status| (status["last_cycle"]["outcome"] == "no-change").then_some(()))
        .await;
    let (code, text) = daemon.get_text("/metrics").await;
    assert_eq!(code, 200);

    let promtool = servers_directory().join("prometheus/bin/promtool");
    let mut check = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: run `make servers`", promtool.display()));
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let checked = check.wait_with_output().expect("it ends");
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && complaints.is_empty(), "{}: {complaints}", checked.status);

    for line in [
        r#"ballast_cluster_up{cluster="test"} 1"#,
        r#"ballast_cluster_nodes{role="primary",state="ok",cluster="test"} 3"#,
        r#"ballast_cluster_nodes{role="replica",state="ok",cluster="test"} 3"#,
        r#"ballast_cluster_slots{state="served",cluster="test"} 16384"#,
        r#"ballast_mode{mode="auto",cluster="test"} 1"#,
    ] {
        assert!(text.lines().any(|candidate| candidate == line), "no line `{line}` in\n{text}");
    }
    let series = text.lines().filter(|line| line.starts_with("ballast_") && line.contains(r#"cluster="test""#)).count();
    println!("{series} series of a cluster with three primaries, {} bytes", text.len());
    daemon.stop().await;
}
