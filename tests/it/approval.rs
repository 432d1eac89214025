//! Slots move when a person has approved, or the clock allows it, and not before.

use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::daemon::child::{Daemon, Home, Settings};
use crate::daemon::{uneven, until_even};
use crate::support::turn;

fn moved(status: &Value) -> u64 {
    status["totals"]["slots_moved"].as_u64().unwrap_or(0)
}

async fn waiting(daemon: &Daemon<'_>) -> String {
    daemon
        .until("a plan waits", |status| {
            let waiting = &status["waiting"];
            waiting["approved_by"].is_null().then(|| waiting["plan"].as_str().map(str::to_owned)).flatten()
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_waits_until_a_person_or_a_file_approves_it() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let approval = "[approval]\nfile = 'approved'\n".to_owned();
    let settings = || Settings { mode: "approval", moves: 1000, more: approval.clone(), ..Settings::default() };
    let home = Home::new(cluster.addresses()[0].clone(), &settings());
    let daemon = home.start().await;
    let first = waiting(&daemon).await;
    daemon.next_cycle().await;
    let status = daemon.status().await;
    assert_eq!((moved(&status), &status["waiting"]["plan"]), (0, &json!(first)), "it waits, as it is");
    assert_eq!(status["waiting"]["slots"], 1000);
    let (code, refusal) = daemon.post("/api/v1/approve", r#"{"plan": "000000000000"}"#).await;
    assert!(code == 409 && refusal["error"].as_str().is_some_and(|why| why.contains(&first)), "{refusal}");

    // It survives a restart, and a person sees what it is.
    daemon.stop().await;
    let daemon = home.start().await;
    assert_eq!(waiting(&daemon).await, first);
    let shown = block_in_place(|| daemon.ballast(&["approve"]));
    assert!(shown.contains(&format!("plan {first} of slots")) && shown.contains("1000 slots"), "{shown}");
    daemon.until("it has seen the cluster", |status| status["snapshot"]["primaries"].as_u64()).await;
    let told = block_in_place(|| daemon.ballast(&["approve", &first, "--reason", "CHG-7"]));
    assert!(told.contains("is carried out in the next cycle"), "{told}");
    daemon.until("what was shown has moved", |status| (moved(status) == 1000).then_some(())).await;

    let second = waiting(&daemon).await;
    assert_ne!(first, second);
    std::fs::write(home.path().join("approved"), format!("# by the board\n{second}  # CHG-8\n")).expect("writable");
    daemon.until("the file's plan has moved", |status| (moved(status) == 2000).then_some(())).await;

    // Whoever drops a plan is not asked again about the same one.
    let third = waiting(&daemon).await;
    let (code, answer) = daemon.post("/api/v1/reject", &json!({"plan": third, "who": "ann"}).to_string()).await;
    assert_eq!(code, 200, "{answer}");
    daemon.next_cycle().await;
    assert!(daemon.status().await["waiting"].is_null());
    let events = daemon.get("/api/v1/events?limit=100").await;
    let told: Vec<&str> = events["items"]
        .as_array()
        .into_iter()
        .flatten()
        .rev()
        .filter_map(|event| event["event"].as_str().filter(|name| name.starts_with("plan-")))
        .collect();
    let once = ["plan-waits", "plan-approved"];
    assert_eq!(told, [once[0], once[1], once[0], once[1], once[0], "plan-dropped"], "{events:#}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_the_change_windows_nothing_moves() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let window = |cron: &str| format!("[[window]]\ncron = '{cron}'\nduration = '2m'\ntime_zone = 'Europe/Berlin'\n");
    // A leap day: years away, or over long ago.
    let closed = Settings { more: window("0 0 29 2 *"), ..Settings::default() };
    let home = Home::new(cluster.addresses()[0].clone(), &closed);
    let daemon = home.start().await;
    daemon.until("something was planned", |status| (status["last_cycle"]["outcome"] == "planned").then_some(())).await;
    let status = daemon.status().await;
    let why = status["mode_reason"].as_str().unwrap_or_default();
    assert!(
        status["mode"] == "dry-run" && why.contains("outside the change windows") && why.contains("-02-29 00:00 CET"),
        "{why}"
    );
    assert_eq!(moved(&status), 0);
    home.configure(&Settings { more: window("* * * * *"), ..Settings::default() });
    until_even(&daemon).await;
    daemon.stop().await;
}
