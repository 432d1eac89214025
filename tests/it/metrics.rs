//! Metrics as Prometheus' own tool sees them.

use std::io::Write;
use std::process::{Command, Stdio};

use ballast::lab::{Kind, LocalCluster, servers_directory};

use crate::daemon::child::{Home, Settings};
use crate::support::{start, turn};

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
