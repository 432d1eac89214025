//! What a daemon tells people and programs: of nodes that nobody introduced, of what happens, and never of secrets.

use ballast::cluster::{Command, Reply};
use ballast::lab::{Kind, LocalCluster, ServerSettings};
use ballast::model::SlotSet;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::block_in_place;

use crate::cli::{Ballast, url};
use crate::daemon::child::{Daemon, Home, PATIENCE, Settings};
use crate::support::{eventually, start, turn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_saw_joining_holds_everything_up_until_a_person_accepts_it() {
    let _turn = turn().await;
    let uneven = ["0-14335", "14336-15359", "15360-16383"].map(|slots| slots.parse::<SlotSet>().expect("slots"));
    let mut cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.slots(uneven.to_vec()))).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("it knows three primaries", |status| (status["nodes"].as_array()?.len() == 3).then_some(())).await;
    daemon.stop().await;

    // While nobody looks, one joins and gets slots.
    let place = cluster.join_primary().await.expect("it joins");
    cluster.wait_until_agreed().await.expect("agreed");
    let stray = cluster.nodes[place].server.address().to_string();
    let by_hand =
        ["reshard", &url(&cluster.nodes[0].server), "--from", "all", "--to", &stray, "--slots", "20", "--yes"];
    Ballast::new().json(0, &by_hand).await;

    home.configure(&Settings::default());
    let daemon = home.start().await;
    let refused = |status: &Value| {
        let refusals = status["last_cycle"]["refusals"].as_array()?;
        let reason = refusals.iter().find(|refusal| refusal["check"] == "unknown-node")?["reason"].as_str()?;
        Some(reason.to_owned())
    };
    let why = daemon.until("its plan is refused", refused).await;
    assert!(why.contains(&format!("{stray} owns slots")) && why.contains("`ballast resume` accepts it"), "{why}");

    // The end of a pause is not that.
    let (_, paused) = daemon.post("/api/v1/pause", r#"{"reason": "release", "who": "ann", "for_s": 3600}"#).await;
    let paused = paused["done"].as_str().expect("a line");
    assert!(paused.starts_with("paused by ann until 20") && paused.ends_with(" UTC: release"), "{paused}");
    assert!(daemon.ballast(&["status"]).contains(paused), "{}", daemon.ballast(&["status"]));
    let (_, answer) = daemon.post("/api/v1/resume", r#"{"who": "ann"}"#).await;
    let once_more = format!("{stray} was never seen joining: `ballast resume` once more accepts it");
    assert!(answer["done"].as_str().is_some_and(|done| done.contains(&once_more)), "{answer}");
    let cycle = daemon.next_cycle().await;
    assert_eq!((&cycle["outcome"], &cycle["slots_moved"]), (&json!("refused"), &json!(0)), "{cycle:#}");

    let (_, answer) = daemon.post("/api/v1/resume", r#"{"who": "ann", "reason": "it is ours"}"#).await;
    assert!(
        answer["done"].as_str().is_some_and(|done| done.contains(&format!("{stray} belongs to the cluster now"))),
        "{answer}"
    );
    daemon.until("slots move", |status| (status["totals"]["slots_moved"].as_u64()? > 0).then_some(())).await;
    let accepted = event(&daemon, "nodes-accepted").await;
    assert_eq!(
        (&accepted["nodes"], &accepted["who"], &accepted["why"]),
        (&json!([stray]), &json!("ann"), &json!("it is ours"))
    );
    daemon.stop().await;
}

/// The newest event of that name.
async fn event(daemon: &Daemon<'_>, name: &str) -> Value {
    eventually(name, PATIENCE, async || {
        let events = daemon.get("/api/v1/events?limit=100").await;
        events["items"].as_array()?.iter().find(|event| event["event"] == name).cloned()
    })
    .await
}

/// The password of the cluster, the path of a receiver, and the key that signs for it.
const SECRETS: [&str; 3] = ["pw-7f3a9c", "path-51be02", "key-c0ffee77"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_to_know_is_told_and_no_secret_is_shown_anywhere() {
    let _turn = turn().await;
    let [password, path, key] = SECRETS;
    let settings = ServerSettings { password: Some(password.to_owned()), ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.settings(settings))).await;
    let receiver = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = receiver.local_addr().expect("bound");
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let more = |reason: &str| {
        format!(
            "{reason}\n[[webhook]]\nname = 'pager'\nurl = 'http://{at}/hooks/{path}'\nsecret_file = 'key'\n\
             events = ['started', 'mode']\n"
        )
    };
    std::fs::write(home.path().join("key"), key).expect("written");
    std::fs::write(home.path().join("password"), password).expect("written");
    let configure = |sections: &str| {
        home.configure(&Settings { mode: "dry-run", more: more(sections), ..Settings::default() });
        let file = home.path().join("daemon.toml");
        let text = std::fs::read_to_string(&file).expect("written");
        std::fs::write(&file, text.replace("name = \"test\"", "name = \"test\"\npassword_file = \"password\""))
            .expect("written");
    };
    configure("");
    let daemon = home.start().await;
    let first = take(&receiver).await;
    assert!(first.contains("\"event\":\"started\"") && first.contains("x-ballast-signature: sha256="), "{first}");
    daemon.until("it looks", |status| (status["nodes"].as_array()?.len() == 3).then_some(())).await;
    daemon.post("/api/v1/pause", r#"{"reason": "release", "who": "ann"}"#).await;
    // From nowhere to dry-run, and from there to paused.
    let told = [take(&receiver).await, take(&receiver).await];
    assert!(told[1].contains("\"to\":\"paused\"") && told[1].contains("\"cluster\":\"test\""), "{told:?}");
    let delivered = "ballast_webhook_calls_total{hook=\"pager\",result=\"delivered\",cluster=\"test\"} 3";
    eventually("three are counted", PATIENCE, async || {
        let (_, metrics) = daemon.get_text("/metrics").await;
        metrics.contains(delivered).then_some(())
    })
    .await;

    // A key of another name, and another path: named, and not shown.
    configure("[retired]\nkey = 1\n");
    let (code, refused) = daemon.post("/-/reload", "").await;
    assert_eq!(code, 409, "{refused}");
    configure("[scaling]\nmin_shards = 2\n");
    let (_, answer) = daemon.post("/-/reload", "").await;
    assert!(answer["done"].as_str().is_some_and(|done| done.contains("changed: scaling.min_shards")), "{answer}");
    let loaded = event(&daemon, "config-loaded").await;
    assert_eq!(loaded["changed"], json!(["scaling.min_shards"]), "{loaded}");

    // A node that is not let in by that password any more.
    let link = cluster.nodes[2].server.link().await.expect("a link");
    let lock = ["CONFIG SET requirepass another", "CLIENT KILL TYPE normal SKIPME yes"].map(Command::new);
    let replies = link.call(&lock, PATIENCE).await.expect("replies");
    assert!(replies.iter().all(|reply| !matches!(reply, Reply::Error(_))), "{replies:?}");
    daemon
        .until("it says so", |status| {
            let problems = status["snapshot"]["problems"].as_array()?;
            (!problems.is_empty()).then_some(())
        })
        .await;

    let config = home.path().join("daemon.toml");
    let config = config.to_str().expect("Unicode");
    let ballast = Ballast::new();
    let mut shown: Vec<(String, String)> = Vec::new();
    for path in [
        "/metrics",
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/cycles?limit=50",
        "/api/v1/snapshot",
        "/api/v1/journal",
    ] {
        shown.push((path.to_owned(), daemon.get_text(path).await.1));
    }
    shown.push(("a refusal".to_owned(), refused.to_string()));
    for words in [&["config", "show"][..], &["config", "show", "--redacted"], &["doctor"]] {
        let ran = ballast.run(&[words, &["--config", config]].concat()).await;
        shown.push((words.join(" "), ran.out + &ran.err));
    }
    shown.push(("status".to_owned(), block_in_place(|| daemon.ballast(&["status"]))));
    shown.push(("history".to_owned(), ballast.run(&["history", "--config", config]).await.out));
    shown.push(("log".to_owned(), daemon.log_lines().iter().map(Value::to_string).collect()));
    daemon.stop().await;
    for file in std::fs::read_dir(home.path().join("state")).expect("a directory").flatten() {
        if let Ok(bytes) = std::fs::read(file.path()) {
            shown.push((file.path().display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    assert!(shown.iter().any(|(what, _)| what.ends_with("ballast.sqlite3")), "the history is among them");
    for (what, text) in &shown {
        assert!(!text.is_empty() || what == "a refusal", "{what} shows nothing at all");
        for secret in SECRETS {
            assert!(!text.contains(secret), "{what} shows {secret}: {}", lines_with(text, secret));
        }
    }
    let of_config = &shown.iter().find(|(what, _)| what == "config show").expect("it is there").1;
    assert!(of_config.contains(&format!("http://{at}/***")), "{of_config}");
    let of_doctor = &shown.iter().find(|(what, _)| what == "doctor").expect("it is there").1;
    assert!(
        of_doctor.contains(&format!("'pager' takes connections at {at}; what it is told is signed")),
        "{of_doctor}"
    );
}

fn lines_with(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

/// Takes what is told next, with its head.
async fn take(receiver: &TcpListener) -> String {
    let told = async {
        loop {
            let (mut stream, _) = receiver.accept().await.expect("a connection");
            if let Some(told) = read(&mut stream).await {
                return told;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("told in time")
}

/// One request, answered; nothing from whoever only looks whether somebody listens.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if Some(body.len()) == length {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.expect("writable");
            return Some(text);
        }
    }
}
