//! The demo, from outside: what it prints, how it exits, and that nothing of it remains.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ballast::lab::servers_directory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{eventually, turn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_evens_the_load_loses_nothing_and_leaves_nothing_behind() {
    let _turns = (turn().await, turn().await);
    let place = tempfile::tempdir().expect("a directory");
    // More time than it needs, for machines that are busy with other tests; it ends when everything has happened.
    let demo = demo(place.path(), &["-o", "json", "--seconds", "300"]);
    let output = tokio::task::spawn_blocking(|| demo.wait_with_output()).await.expect("joined").expect("it ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("standard output is one JSON document");
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("no {key} in {report}"));
    assert!(number("imbalance_before") > 1.5, "{report}");
    assert!(number("imbalance_after") < (number("floor") * 1.05).max(1.10), "{report}");
    assert!(number("slots_moved") > 0.0 && number("policy_calls") > 0.0, "{report}");
    assert!(number("writes_checked") > 30_000.0, "{report}");
    assert_eq!(report["writes_lost"], 0, "{report}");
    assert_eq!(report["policy_digest"].as_str().map(str::len), Some(64), "{report}");
    assert!(remains(place.path()).is_empty(), "{:?}", remains(place.path()));
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_behind() {
    let _turn = turn().await;
    let place = tempfile::tempdir().expect("a directory");
    let mut demo = demo(place.path(), &[]);
    let patience = Duration::from_secs(60);
    eventually("servers and daemon run", patience, async || {
        (remains(place.path()).iter().any(|what| what.contains("daemon.toml"))).then_some(())
    })
    .await;
    kill(Pid::from_raw(i32::try_from(demo.id()).expect("a process id")), Signal::SIGINT).expect("it runs");
    let status = eventually("it ends", patience, async || demo.try_wait().expect("it is ours")).await;
    assert_eq!(status.code(), Some(130));
    assert!(remains(place.path()).is_empty(), "{:?}", remains(place.path()));
}

/// Starts the demo with `place` for its temporary directories.
fn demo(place: &Path, arguments: &[&str]) -> Child {
    let servers = servers_directory().canonicalize().expect("servers were fetched: run `make servers`");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
    command.arg("demo").args(arguments).env("TMPDIR", place).env("BALLAST_SERVERS", servers);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the demo starts")
}

/// The files in `place`, and the command lines of processes that run in it or name it.
fn remains(place: &Path) -> Vec<String> {
    let files = fs::read_dir(place).expect("a directory").flatten().map(|entry| entry.path().display().to_string());
    let name = place.display().to_string();
    let processes = fs::read_dir("/proc").expect("/proc is there").flatten().filter_map(|entry| {
        let process = entry.path();
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = String::from_utf8_lossy(&fs::read(process.join("cmdline")).ok()?).replace('\0', " ");
        let inside = fs::read_link(process.join("cwd")).is_ok_and(|directory| directory.starts_with(place));
        (inside || line.contains(&name)).then_some(line)
    });
    files.chain(processes).collect()
}
