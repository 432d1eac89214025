//! Metrics as Prometheus' own tool sees them.

use std::io::Write;
use std::process::{Command, Stdio};

use ballast::lab::{Kind, LocalCluster, servers_directory};

use crate::daemon::child::{Home, Settings};
use crate::support::{start, turn};

#[test]
fn alerts_fire_when_they_should_and_say_what_is_so() {
    let promtool = servers_directory().join("prometheus/bin/promtool");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/alerts_test.yml");
    let tested = Command::new(&promtool).args(["test", "rules", rules]).output();
    let tested = tested.unwrap_or_else(|error| panic!("{}: {error}: run `make servers`", promtool.display()));
    let told = String::from_utf8_lossy(&tested.stderr) + String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{}: {told}", tested.status);
    // Whatever the rules name exists: a metric that was renamed would leave an alert that never fires.
    let names = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/alerts.yml")).expect("readable");
    let exported = ballast::metrics::Metrics::new("test").encode();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: Vec<&str> = names.split(|c| !is_name(c)).filter(|word| word.starts_with("ballast_")).collect();
    assert!(named.len() >= 2, "{named:?}");
    for name in named {
        assert!(exported.lines().any(|line| line.starts_with(&format!("{name}{{"))), "no metric {name}");
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
