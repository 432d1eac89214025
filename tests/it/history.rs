//! What a daemon did, told afterwards: its history, explanations, and its decisions once more.

use std::process::Command;

use serde_json::Value;

use crate::daemon::child::{Home, PATIENCE, Settings};
use crate::daemon::{uneven, until_even};
use crate::support::{eventually, turn};

/// Runs `ballast` with these words on the state of the daemons at home: its exit code and all that it says.
fn ballast(home: &Home, words: &[&str]) -> (Option<i32>, String) {
    let state = home.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
    let ran = command.args(words).arg("--state").arg(state).output().expect("it starts");
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout))
}

fn says(home: &Home, words: &[&str], expected: &[&str]) -> String {
    let (code, said) = ballast(home, words);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    expected.iter().for_each(|expected| assert!(said.contains(expected), "{words:?}: no '{expected}' in\n{said}"));
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_moved_slots_can_be_asked_why_while_it_runs_and_afterwards() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("something was planned", |status| (status["last_cycle"]["outcome"] == "planned").then_some(())).await;
    says(
        &home,
        &["explain"],
        &["nothing moves: ", "slots would, and the mode is dry-run", "mode = \"auto\"", "plan --at"],
    );

    home.configure(&Settings::default());
    until_even(&daemon).await;
    let moved = eventually("the history tells of the moves", PATIENCE, async || {
        let cycles = daemon.get("/api/v1/cycles?limit=100").await;
        cycles["items"].as_array()?.iter().find(|cycle| cycle["slots_moved"].as_u64() > Some(0)).cloned()
    })
    .await;
    let cycle = moved["cycle"].to_string();
    let whole = daemon.get(&format!("/api/v1/cycles/{cycle}")).await;
    let step = &whole["approved"][0];
    let slot = step["slot"].to_string();
    let [from, to] = ["from", "to"].map(|end| whole["addresses"][step[end].as_str().expect("an id")].clone());

    // Beside the daemon, and after it.
    daemon.next_cycle().await;
    let ends = format!("moved from {} to {}", text(&from), text(&to));
    says(
        &home,
        &["explain", "--slot", &slot],
        &[&format!("slot {slot} {ends}"), &format!("in cycle {cycle}"), "slots 0.1.0"],
    );
    says(&home, &["explain"], &["nothing moves: the policy is content"]);
    let (status, explained) = daemon.get_text(&format!("/api/v1/explain?slot={slot}")).await;
    assert_eq!(status, 200, "{explained}");
    assert!(explained.contains(&ends), "{explained}");
    daemon.stop().await;
    says(&home, &["explain", &cycle], &[&format!("cycle {cycle}, "), "slots moved", "guard", "moved"][..2]);
    let history =
        says(&home, &["history"], &["ballast 0.1.0 started", "mode dry-run -> auto", "slots moved", "ballast stopped"]);
    let order = ["started", "slots would move", "-> auto", "slots moved", "stopped"].map(|words| history.find(words));
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "in the order of time:\n{history}");

    // The same decision once more, and another policy's on the same view.
    says(&home, &["plan", "--at", &cycle], &["the same plan once more, to the last bit", "Plan: "]);
    let other = says(&home, &["plan", "--at", &cycle, "--policy", "balance", "-o", "json"], &["\"policy\""]);
    let other: Value = serde_json::from_str(&other).expect("a document");
    assert_eq!((&other["policy"]["name"], &other["generation"]), (&"balance".into(), &moved["generation"]));

    let (code, said) = ballast(&home, &["explain", "4711"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cycle 4711 is not in the history") && said.contains("ballast history"), "{said}");
    let (code, said) = ballast(&home, &["explain", "--slot", "16384"]);
    assert!(code == Some(2) && said.contains("slots are 0 to 16383"), "{said}");
}

fn text(value: &Value) -> &str {
    value.as_str().expect("an address")
}
