//! The daemon on real clusters: what it does by itself, what it is told, and how it ends.

pub(crate) mod child;

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::cluster::Command;
use ballast::lab::load::{
    Client, KeySpace, Load, LoadReport, LoadSettings, Placement, Verification, find_duplicates, verify,
};
use ballast::lab::{Builder, Kind, LabError, LocalCluster};
use ballast::model::SlotSet;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::time::sleep;

use crate::support::{eventually, start, turn};
use child::{Daemon, Home, PATIENCE, Settings, slots_policy, with_remark};

/// Nearly everything is on the first primary.
const UNEVEN: [&str; 3] = ["0-14335", "14336-15359", "15360-16383"];
const EVEN: std::ops::RangeInclusive<u64> = 5300..=5600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evens_an_uneven_cluster_by_itself() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let daemon = home.start().await;
    until_even(&daemon).await;
    let status = daemon.status().await;
    assert!(status["totals"]["slots_moved"].as_u64() > Some(8000), "{status:#}");
    assert!(status["totals"]["policy_calls"].as_u64() > Some(0), "{status:#}");
    assert_eq!(daemon.get_text("/readyz").await, (200, "ready\n".to_owned()));
    let moved = eventually("the history tells of the moves", PATIENCE, async || {
        let cycles = daemon.get("/api/v1/cycles?limit=100").await;
        cycles["items"].as_array()?.iter().find(|cycle| cycle["slots_moved"].as_u64() > Some(0)).cloned()
    })
    .await;
    let whole = daemon.get(&format!("/api/v1/cycles/{}", moved["cycle"])).await;
    assert_eq!(
        whole["approved"].as_array().map(Vec::len),
        moved["moves_approved"].as_u64().map(|count| count as usize)
    );
    let decided_by = daemon.get(&format!("/api/v1/snapshot?cycle={}", moved["cycle"])).await;
    assert_eq!(decided_by["generation"], moved["generation"]);
    daemon.stop().await;
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_nothing_in_dry_run_until_told_otherwise() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("something was planned", |status| (status["last_cycle"]["outcome"] == "planned").then_some(())).await;
    let cycle = daemon.next_cycle().await;
    assert_eq!((&cycle["outcome"], cycle["slots_moved"].as_u64()), (&"planned".into(), Some(0)), "{cycle:#}");
    assert!(cycle["moves_approved"].as_u64() > Some(0), "{cycle:#}");
    assert_eq!(slots(&daemon.status().await), [14336, 1024, 1024]);

    home.configure(&Settings::default());
    until_even(&daemon).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_policy_decides_the_next_cycle_and_a_broken_one_never() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let program = home.path().join("ballast");
    std::fs::copy(env!("CARGO_BIN_EXE_ballast"), &program).expect("copied");
    let daemon = home.start_of(&program).await;
    let first = daemon.until("a policy plans", digest_of_last_plan).await;
    // As an upgrade would: the daemon goes on until somebody restarts it.
    std::fs::remove_file(&program).expect("removed");

    home.put_policy(&with_remark(slots_policy(), "the second"));
    let second = daemon
        .until("the second policy plans", |status| digest_of_last_plan(status).filter(|digest| *digest != first))
        .await;

    home.put_policy(b"<html>404</html>");
    let refusal = daemon
        .until("the broken policy is refused", |status| {
            let reload = &status["policy"]["last_reload"];
            (reload["accepted"] == false).then(|| reload["detail"].as_str().unwrap_or_default().to_owned())
        })
        .await;
    assert!(refusal.contains("refused at stage recognise"), "{refusal}");
    let cycle = daemon.next_cycle().await;
    assert_eq!(cycle["policy"]["digest"], second.as_str(), "the one before goes on");
    let (_, metrics) = daemon.get_text("/metrics").await;
    assert!(metrics.contains(r#"ballast_policy_last_reload_successful{cluster="test"} 0"#), "{metrics}");
    assert_eq!(daemon.get_text("/readyz").await.0, 200);
    daemon.stop().await;
}

/// The daemon's usual configuration, with other policies.
fn with_policies(home: &Home, policy: &str, shadows: &str) -> String {
    let text = std::fs::read_to_string(home.path().join("daemon.toml")).expect("it is there");
    text.replace("file = \"policy/policy.wasm\"", policy) + shadows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_is_asked_beside_the_policy_and_decides_once_it_is_promoted() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let shadows =
        "\n[[shadow]]\nname = \"counts\"\npolicy = \"slots\"\n[[shadow]]\nname = \"none\"\nfile = \"absent.wasm\"\n";
    home.write_config(&with_policies(&home, "name = \"balance\"\nparameters = { use-empty = false }", shadows));
    let daemon = home.start().await;
    let shadow = daemon
        .until("both have planned", |status| {
            let last = &status["last_cycle"];
            let shadows = last["shadows"].as_array().filter(|_| last["policy"]["name"] == "balance")?;
            shadows.iter().find(|shadow| shadow["name"] == "counts" && shadow["proposed"].as_u64() > Some(0)).cloned()
        })
        .await;
    // Without load `balance` evens slots as well, one way or another: what counts is that both are told apart.
    assert_eq!(shadow["policy"]["name"], "slots", "{shadow:#}");
    assert!(shadow["approved"].as_u64() > Some(0) && shadow["disagreement"].is_number(), "{shadow:#}");
    let status = daemon.status().await;
    assert_eq!(status["policy"]["id"]["name"], "balance", "{status:#}");
    assert_eq!(status["last_cycle"]["policy"]["name"], "balance", "the shadow decides nothing");
    let absent =
        status["shadows"].as_array().and_then(|shadows| shadows.iter().find(|shadow| shadow["name"] == "none"));
    assert!(
        absent.is_some_and(|absent| absent["refused"].as_str().is_some_and(|why| why.contains("read"))),
        "{status:#}"
    );
    let (_, metrics) = daemon.get_text("/metrics").await;
    for series in [
        r#"ballast_shadow_disagreement_ratio{shadow="counts",cluster="test"}"#,
        r#"ballast_shadow_calls_total{result="plan",shadow="counts",cluster="test"}"#,
        r#"ballast_shadow_calls_total{result="not-loaded",shadow="none",cluster="test"}"#,
        r#"ballast_shadow_predicted_imbalance_ratio{resource="cpu",shadow="counts"#,
    ] {
        assert!(metrics.contains(series), "{series} is not in {metrics}");
    }
    let absent = r#"ballast_shadow_disagreement_ratio{shadow="none""#;
    assert!(!metrics.contains(absent), "who gives no plan disagrees with nobody: {metrics}");
    let shown = daemon.ballast(&["policy", "show"]);
    assert!(shown.contains("counts") && shown.contains("slots 0.1.0") && shown.contains("not loaded"), "{shown}");

    let (code, answer) = daemon.post("/api/v1/policy/promote", r#"{"shadow": "nobody"}"#).await;
    assert!(code == 409 && answer["error"].as_str().is_some_and(|why| why.contains("counts, none")), "{answer:#}");
    daemon.ballast(&["policy", "promote", "counts", "--reason", "it counts"]);
    let decides = |name: &'static str| {
        move |status: &Value| (status["last_cycle"]["policy"]["name"] == name).then(|| status["promoted"].clone())
    };
    assert_eq!(daemon.until("the shadow decides", decides("slots")).await, "counts");
    daemon.stop().await;

    let daemon = home.start().await;
    assert_eq!(daemon.until("the shadow decides again", decides("slots")).await, "counts");
    daemon.ballast(&["policy", "promote", "--undo"]);
    assert_eq!(daemon.until("the configured policy decides", decides("balance")).await, Value::Null);
    let events = daemon.get("/api/v1/events?limit=100").await;
    let promoted = |event: &&Value| event["event"] == "promoted";
    assert_eq!(events["items"].as_array().map(|items| items.iter().filter(promoted).count()), Some(2), "{events:#}");

    // Fewer shadows from now on: their series go.
    home.configure(&Settings { mode: "dry-run", ..Settings::default() });
    daemon.until("no shadow is left", |status| status["shadows"].as_array()?.is_empty().then_some(())).await;
    daemon.next_cycle().await;
    let (_, metrics) = daemon.get_text("/metrics").await;
    assert!(!metrics.contains("shadow=\"counts\""), "{metrics}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_changes_nothing_and_is_shown() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    home.write_config("mode = 'auto'\n[cluster]\nseeds = ['redis://127.0.0.1:1']\n[limits]\nmax_movse_per_cycle = 1\n");
    let refusal = daemon
        .until("the configuration is refused", |status| {
            let reload = &status["config"]["last_reload"];
            (reload["accepted"] == false).then(|| reload["detail"].as_str().unwrap_or_default().to_owned())
        })
        .await;
    assert!(refusal.contains("daemon.toml:5:") && refusal.contains("max_moves_per_cycle"), "{refusal}");
    let cycle = daemon.next_cycle().await;
    assert_eq!(cycle["mode"], "dry-run", "the configuration before goes on");
    daemon.signal(Signal::SIGHUP);
    let (code, answer) = daemon.post("/-/reload", "").await;
    assert_eq!(code, 409, "{answer:#}");
    let (_, metrics) = daemon.get_text("/metrics").await;
    assert!(metrics.contains("\nballast_config_last_reload_successful 0"), "{metrics}");

    home.configure(&Settings { mode: "auto", moves: 1, ..Settings::default() });
    daemon.until("the mended configuration is in use", |status| (status["mode"] == "auto").then_some(())).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stops_the_moves_and_outlives_a_restart() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { moves: 200, ..Settings::default() });
    let daemon = home.start().await;
    until_moving(&daemon).await;
    let (code, answer) = daemon.post("/api/v1/pause", r#"{"reason": "release", "who": "ann"}"#).await;
    assert_eq!((code, &answer["done"]), (200, &"paused by ann: release".into()));
    let paused = daemon.next_cycle().await;
    assert_eq!((&paused["mode"], &paused["slots_moved"]), (&"paused".into(), &0.into()), "{paused:#}");
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
    daemon.stop().await;

    let daemon = home.start().await;
    let cycle = daemon.next_cycle().await;
    assert_eq!((&cycle["mode"], &cycle["slots_moved"]), (&"paused".into(), &0.into()), "{cycle:#}");
    daemon.post("/api/v1/resume", r#"{"reason": "release is out", "who": "ann"}"#).await;
    let last = daemon.get("/api/v1/events?limit=1").await["items"][0].clone();
    let told = (&last["event"], &last["who"], &last["why"]);
    assert_eq!(told, (&"mode".into(), &"ann".into(), &"release is out (the configuration says auto)".into()));
    home.configure(&Settings::default());
    until_even(&daemon).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_can_be_watched_cancelled_paused_and_resumed() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let (client, keys) = filled(&cluster, 5_000).await;
    let settings = Settings { protocol: "classic", pace: "gentle", ..Settings::default() };
    let home = Home::new(cluster.addresses()[0].clone(), &settings);
    let daemon = home.start().await;
    let (running, moving) = daemon
        .until("some keys have moved", |status| {
            let running = status["migrations"].as_array()?.first()?.clone();
            let moving = status["moving"].clone();
            (moving["keys_moved"].as_u64() > Some(50)).then_some((running, moving))
        })
        .await;
    assert_eq!((running["protocol"].as_str(), running["finished"].as_bool()), (Some("classic"), Some(false)));
    assert!(running["step"].as_str().is_some_and(|step| !step.is_empty()), "{running:#}");
    let who = running["began_by"].as_str().unwrap_or_default();
    assert!(who.starts_with("daemon test, policy slots, cycle "), "{running:#}");
    assert!(moving["total"]["slots"].as_u64() > Some(8000) && moving["total"]["keys"].as_u64() > Some(1000));
    assert!(moving["bytes_moved"].as_u64() > Some(0), "{moving:#}");
    let shown = daemon.ballast(&["status"]);
    assert!(["moving  ", " keys", "began by daemon test"].iter().all(|word| shown.contains(word)), "{shown}");
    let (_, metrics) = daemon.get_text("/metrics").await;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{"))).expect("exported");
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    assert!(value("ballast_move_keys_total") > 50.0 && value("ballast_move_bytes_total") > 0.0, "while they move");
    assert!(value("ballast_moves_oldest_step_start_timestamp_seconds") > 1.7e9);
    assert_eq!(value("ballast_moves_stuck"), 0.0);

    let cycle = daemon.status().await["last_cycle"]["cycle"].as_u64().unwrap_or(0) + 1;
    let said = daemon.ballast(&["cancel", "--reason", "the wrong hour"]);
    assert!(said.contains(&format!("the moves of cycle {cycle} end at the next step")), "{said}");
    let ended = daemon
        .until("the cancelled cycle is over", |status| {
            let last = &status["last_cycle"];
            (last["cycle"] == cycle).then(|| last.clone())
        })
        .await;
    assert_eq!(ended["outcome"], "incomplete", "{ended:#}");
    let events = daemon.get("/api/v1/events").await;
    let cancelled = events["items"].as_array().expect("a list").iter().find(|item| item["event"] == "cancelled");
    assert_eq!(cancelled.expect("it is in the history")["why"], "the wrong hour");
    // The next cycle plans anew.
    until_moving(&daemon).await;

    let said = daemon.ballast(&["pause", "--for", "2h", "--reason", "release"]);
    assert!(said.starts_with("paused by ") && said.contains('@') && said.trim_end().ends_with(": release"), "{said}");
    let paused = daemon.next_cycle().await;
    assert_eq!((&paused["mode"], &paused["slots_moved"]), (&"paused".into(), &0.into()), "{paused:#}");
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
    let journal = daemon.get("/api/v1/journal?limit=1000").await;
    let entries = journal["items"].as_array().expect("a list");
    assert!(entries.len() >= 2 && entries.iter().all(|entry| entry["ending"].is_string()), "{journal:#}");
    let status = daemon.status().await;
    assert_eq!((&status["migrations"], &status["moving"]), (&Value::Array(Vec::new()), &Value::Null));

    home.configure(&Settings::default());
    // Whoever resumes does not wait for a file to be noticed: the next cycle begins at once.
    assert_eq!(daemon.post("/-/reload", "").await.0, 200);
    daemon.ballast(&["resume"]);
    until_even(&daemon).await;
    daemon.stop().await;
    let placement = find_duplicates(&client, &keys).await.expect("all answer");
    assert_eq!(placement.single, 5_000, "{placement:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_stuck_shows_in_metrics_and_log_until_it_goes_on() {
    let _turn = turn().await;
    // Long enough that nobody is voted failed while one of them is frozen.
    let cluster = start(builder().map(|builder| builder.node_timeout(Duration::from_secs(60)))).await;
    let settings = Settings { protocol: "classic", pace: "gentle", stuck_after: "1s", ..Settings::default() };
    let home = Home::new(cluster.addresses()[0].clone(), &settings);
    let daemon = home.start().await;
    let shows = async |line: &str| {
        let (_, metrics) = daemon.get_text("/metrics").await;
        metrics.lines().any(|candidate| candidate == line).then_some(())
    };
    until_moving(&daemon).await;
    shows(r#"ballast_moves_stuck{cluster="test"} 0"#).await.expect("it goes on");
    cluster.nodes[1].server.pause();
    cluster.nodes[2].server.pause();
    eventually("the step is stuck", PATIENCE, async || shows(r#"ballast_moves_stuck{cluster="test"} 1"#).await).await;
    cluster.nodes[1].server.resume();
    cluster.nodes[2].server.resume();
    assert!(daemon.log_lines().iter().any(|line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("a step takes longer than it should"))
    }));
    eventually("it goes on", PATIENCE, async || shows(r#"ballast_moves_stuck{cluster="test"} 0"#).await).await;
    daemon.stop().await;
    assert_eq!(cluster.open_slots().await.expect("all answer"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_amid_a_rebalance_leaves_no_slot_open() {
    let _turn = turn().await;
    for protocol in ["classic", "auto"] {
        let cluster = uneven().await;
        let (client, keys) = filled(&cluster, 5_000).await;
        let home =
            Home::new(cluster.addresses()[0].clone(), &Settings { protocol, pace: "gentle", ..Settings::default() });
        let daemon = home.start().await;
        until_moving(&daemon).await;
        daemon.stop().await;
        assert_eq!(cluster.open_slots().await.expect("all answer"), [], "{protocol}");
        let placement = find_duplicates(&client, &keys).await.expect("all answer");
        assert_eq!(placement.single, 5_000, "{protocol}: {placement:?}");
        assert_ne!(slot_counts(&cluster).await, [5461, 5461, 5462], "{protocol}: it was amid a rebalance");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once_and_the_next_start_mends_it() {
    let _turn = turn().await;
    // Long enough that nobody is voted failed while one of them is frozen.
    let cluster = start(builder().map(|builder| builder.node_timeout(Duration::from_secs(60)))).await;
    let (client, keys) = filled(&cluster, 5_000).await;
    let settings = Settings { protocol: "classic", pace: "gentle", ..Settings::default() };
    let home = Home::new(cluster.addresses()[0].clone(), &settings);
    let daemon = home.start().await;
    until_moving(&daemon).await;
    cluster.nodes[1].server.pause();
    cluster.nodes[2].server.pause();
    daemon.signal(Signal::SIGTERM);
    daemon.until("it tries to close what is open", |status| (status["activity"] == "stopping").then_some(())).await;
    daemon.signal(Signal::SIGTERM);
    let asked_again = Instant::now();
    assert_eq!(daemon.ended().await.code(), Some(1), "it did not end in order");
    assert!(asked_again.elapsed() < Duration::from_secs(10), "{:?}", asked_again.elapsed());
    cluster.nodes[1].server.resume();
    cluster.nodes[2].server.resume();

    home.configure(&Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.next_cycle().await;
    assert_eq!(cluster.open_slots().await.expect("all answer"), [], "{}", daemon.log());
    daemon.stop().await;
    let placement = find_duplicates(&client, &keys).await.expect("all answer");
    assert_eq!(placement.single, 5_000, "{placement:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_somebody_else_opened_holds_everything_and_is_named() {
    let _turn = turn().await;
    let cluster = uneven().await;
    let (source, target) = (&cluster.nodes[2], &cluster.nodes[0]);
    let set = |words: &str| Command::new("CLUSTER SETSLOT").arg(16000).arg(words);
    target.server.call(set("IMPORTING").arg(&source.id)).await.expect("importing");
    source.server.call(set("MIGRATING").arg(&target.id)).await.expect("migrating");
    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let daemon = home.start().await;
    let refusal = daemon
        .until("the plan is refused", |status| {
            let last = &status["last_cycle"];
            (last["outcome"] == "refused").then(|| last["refusals"].clone())
        })
        .await;
    assert_eq!(refusal[0]["check"], "foreign", "{refusal:#}");
    assert!(refusal[0]["reason"].as_str().is_some_and(|reason| reason.contains("16000")), "{refusal:#}");
    let status = daemon.status().await;
    assert_eq!(status["open_slots"].as_array().map(Vec::len), Some(2), "{status:#}");
    assert_eq!(slots(&status), [14336, 1024, 1024]);

    for node in [source, target] {
        node.server.call(set("STABLE")).await.expect("closed");
    }
    until_even(&daemon).await;
    daemon.stop().await;
}

/// `BALLAST_TEST_KILLS` asks for more than three kills, `BALLAST_TEST_SEED` for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_closes_its_slots_at_the_next_start_and_nothing_is_lost() {
    let _turn = turn().await;
    let number = |name: &str, default: u64| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (kills, seed) = (number("BALLAST_TEST_KILLS", 3), number("BALLAST_TEST_SEED", 1));
    println!("{kills} kills, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = uneven().await;
    let (client, keys) = filled(&cluster, 20_000).await;
    let load = Load::start(
        client.clone(),
        keys.clone(),
        &LoadSettings { rate: 500.0, writes: 0.5, ..LoadSettings::default() },
    );
    let home = Home::new(cluster.addresses()[0].clone(), &Settings::default());
    let mut found_open = 0;
    for kill in 0..kills {
        let protocol = if kill % 2 == 0 { "classic" } else { "auto" };
        home.configure(&Settings { protocol, pace: "gentle", ..Settings::default() });
        let daemon = home.start().await;
        until_moving(&daemon).await;
        // The moment is the point of this pause: anywhere in a migration.
        sleep(Duration::from_micros(random.random_range(0..400_000))).await;
        daemon.kill9().await;
        let open = cluster.open_slots().await.expect("all answer").len();
        println!("kill {kill}, {protocol}: {open} flags stand open");
        found_open += open;

        home.configure(&Settings { mode: "dry-run", ..Settings::default() });
        let daemon = home.start().await;
        daemon.next_cycle().await;
        assert_eq!(cluster.open_slots().await.expect("all answer"), [], "after kill {kill}:\n{}", daemon.log());
        daemon.stop().await;
    }
    println!("{found_open} flags stood open after the kills");
    home.configure(&Settings::default());
    let daemon = home.start().await;
    until_even(&daemon).await;
    daemon.stop().await;

    nothing_is_lost(load, &client, &keys, 20_000).await;
}

/// Ends the load: no request failed, no write is lost, and each of so many keys is on one node.
pub(crate) async fn nothing_is_lost(load: Load, client: &Client, keys: &KeySpace, count: usize) {
    Losses::after(load, client, keys).await.are_none(count);
}

/// What a load met, and where its keys are when it is over.
#[derive(Debug)]
pub(crate) struct Losses {
    pub(crate) report: LoadReport,
    pub(crate) verification: Verification,
    pub(crate) placement: Placement,
}

impl Losses {
    /// Ends the load, and looks.
    pub(crate) async fn after(load: Load, client: &Client, keys: &KeySpace) -> Self {
        let report = load.stop().await;
        let verification = verify(client, keys).await.expect("every key is read");
        let placement = find_duplicates(client, keys).await.expect("all answer");
        Self { report, verification, placement }
    }

    /// No request failed, no write is lost, and each of so many keys is on one node.
    pub(crate) fn are_none(&self, count: usize) {
        let Self { report, verification, placement } = self;
        assert_eq!((report.failed, report.stale), (0, 0), "{report:?}");
        assert_eq!(verification.lost, 0, "{verification:?}");
        assert_eq!(placement.single, count, "{placement:?}");
    }
}

pub(crate) async fn uneven() -> LocalCluster {
    start(builder()).await
}

fn builder() -> Result<Builder, LabError> {
    let slots = UNEVEN.map(|slots| slots.parse::<SlotSet>().expect("slots")).to_vec();
    LocalCluster::of(Kind::Valkey91).map(|builder| builder.slots(slots))
}

pub(crate) async fn filled(cluster: &LocalCluster, count: usize) -> (Arc<Client>, Arc<KeySpace>) {
    let client = Client::connect(&cluster.addresses(), None).await.expect("the cluster answers");
    let keys = KeySpace::new(count, 1, SlotSet::default());
    keys.fill(&client).await.expect("the cluster takes writes");
    (Arc::new(client), Arc::new(keys))
}

pub(crate) async fn until_even(daemon: &Daemon<'_>) {
    let even = |status: &Value| slots(status).iter().all(|count| EVEN.contains(count)).then_some(());
    daemon
        .until("the slots are even", |status| {
            even(status).filter(|()| status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3))
        })
        .await;
}

/// Waits until slots are being moved, and more are to come.
pub(crate) async fn until_moving(daemon: &Daemon<'_>) {
    daemon
        .until("slots are being moved", |status| {
            status["migrations"].as_array().filter(|running| !running.is_empty()).map(drop)
        })
        .await;
}

/// Slots by node as the daemon sees them, most first.
fn slots(status: &Value) -> Vec<u64> {
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let mut counts: Vec<u64> = nodes.iter().filter_map(|node| node["slots"].as_u64()).collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    counts
}

/// Slots by node as the servers see them, fewest first.
async fn slot_counts(cluster: &LocalCluster) -> Vec<usize> {
    let mut counts: Vec<usize> = cluster.view().await.expect("answers").iter().map(|node| node.slots.len()).collect();
    counts.sort_unstable();
    counts
}

fn digest_of_last_plan(status: &Value) -> Option<String> {
    let last = &status["last_cycle"];
    (last["outcome"] == "planned").then(|| last["policy"]["digest"].as_str().unwrap_or_default().to_owned())
}
