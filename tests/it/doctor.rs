//! `ballast doctor` on real clusters that have something: each is found, and what it says to do mends it.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::{Kind, LocalCluster, ServerSettings};
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::access::documented;
use crate::cli::{Ballast, url};
use crate::support::{eventually, start, turn};

const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration of this name in the home of `ballast`, with a free port and a state directory of its own.
fn configured(ballast: &Ballast, name: &str, text: &str) -> String {
    let file = ballast.home.path().join(name);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let http = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    let state = if text.contains("[state]") { "" } else { "[state]\ndirectory = \"state\"\n" };
    std::fs::write(&file, format!("{text}{http}{state}")).expect("written");
    file.to_str().expect("Unicode").to_owned()
}

fn seeds(cluster: &LocalCluster) -> String {
    format!("[cluster]\nseeds = [\"{}\"]\n", url(&cluster.nodes[0].server))
}

/// Room that the guard can reckon with.
fn roomy() -> ServerSettings {
    ServerSettings { more: vec![vec!["maxmemory".to_owned(), "1gb".to_owned()]], ..ServerSettings::default() }
}

/// The lines about `topic`: verdict, what was found, and what is to be written.
fn about<'a>(report: &'a Value, topic: &str) -> Vec<(&'a str, &'a str, Vec<&'a str>)> {
    let lines = report["lines"].as_array().expect("a list").iter();
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    lines
        .filter(|line| line["topic"] == topic)
        .map(|line| {
            let write = line["fix"]["write"].as_array().into_iter().flatten().map(text).collect();
            (text(&line["verdict"]), text(&line["found"]), write)
        })
        .collect()
}

/// The only line about `topic`.
fn only<'a>(report: &'a Value, topic: &str) -> (&'a str, &'a str, Vec<&'a str>) {
    let mut lines = about(report, topic);
    assert_eq!(lines.len(), 1, "{topic}: {report:#}");
    lines.remove(0)
}

/// Says `command`, as it was printed, to every node.
async fn say(cluster: &LocalCluster, command: &str) {
    for node in &cluster.nodes {
        node.server.call(Command::new(command)).await.expect("taken");
    }
}

#[tokio::test]
async fn a_healthy_cluster_has_nothing() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.replicas(1).settings(roomy()))).await;
    let ballast = Ballast::new();
    let config = configured(&ballast, "daemon.toml", &seeds(&cluster));
    let report = ballast.json(0, &["doctor", "--config", &config]).await;
    assert_eq!((&report["kind"], &report["failed"], &report["warnings"]), (&"Doctor".into(), &0.into(), &0.into()));
    let topics =
        ["config", "policy", "state", "http", "nodes", "tls", "access", "clock", "versions", "statistics", "settings"];
    for topic in topics {
        assert_eq!(only(&report, topic).0, "ok", "{topic}: {report:#}");
    }
    assert!(only(&report, "nodes").1.starts_with("6 nodes reached"), "{report:#}");
    assert!(only(&report, "versions").1.starts_with("valkey 9.1."), "{report:#}");
    let policy = only(&report, "policy").1;
    assert!(policy.starts_with("balance ") && policy.contains("sha256:"), "{policy}");

    let text = ballast.run(&["doctor", "--config", &config]).await;
    assert!(text.out.ends_with("\nNothing failed.\n") && !text.out.contains('\x1b'), "{}", text.out);
    assert!(text.out.lines().all(|line| line.chars().count() <= 100), "{}", text.out);
    let left = std::fs::read_dir(ballast.home.path()).expect("readable").count();
    assert_eq!(left, 1, "nothing was made beside the configuration");
}

/// As `docs/access.md` says it, for those who let standby nodes join, where there are no functions.
const GROWS: &str = "ACL SETUSER ballast +cluster|meet";

/// As `docs/access.md` says it, for those who take nodes out.
const RETIRES: &str = "ACL SETUSER ballast +cluster|replicate +cluster|forget +cluster|reset";

#[tokio::test]
async fn a_missing_permission_is_named_and_the_printed_line_grants_it() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis70).map(|builder| builder.settings(roomy()))).await;
    let [moves, verifies, _] = documented("Redis 7.0");
    say(&cluster, &moves.replace("PASSWORD", "secret").replace(" +cluster|setslot", "")).await;
    let ballast = Ballast::new();
    std::fs::write(ballast.home.path().join("password"), "secret").expect("written");
    let user = "user = \"ballast\"\npassword_file = \"password\"\n";
    let config = configured(&ballast, "daemon.toml", &format!("{}{user}", seeds(&cluster)));

    let report = ballast.json(0, &["doctor", "--config", &config]).await;
    let (verdict, found, write) = only(&report, "access");
    assert_eq!((verdict, &write[..]), ("skip", &["ACL SETUSER ballast +acl|dryrun"][..]), "{found}");
    assert_eq!(only(&report, "clock").0, "ok", "INFO tells the time where TIME is refused");
    say(&cluster, write[0]).await;

    let report = ballast.json(3, &["doctor", "--config", &config]).await;
    let lines = about(&report, "access");
    let (verdict, found, write) = &lines[0];
    assert_eq!((*verdict, *found), ("fail", "user ballast lacks CLUSTER SETSLOT on all 3 nodes"));
    assert_eq!(&write[..], ["ACL SETUSER ballast +cluster|setslot"]);
    assert!(lines[1].0 == "skip" && lines[1].1.contains("`ballast verify`"), "{lines:?}");
    assert!(lines[2].0 == "skip" && lines[2].1.contains("`ballast drain --forget`"), "{lines:?}");
    assert_eq!(lines[2].2[0], RETIRES);
    assert!(lines[3].0 == "skip" && lines[3].1.contains("standby nodes"), "{lines:?}");
    assert_eq!(lines[3].2[0], format!("{GROWS} +function|dump +function|restore"));
    say(&cluster, lines[3].2[0]).await;
    say(&cluster, write[0]).await;
    say(&cluster, lines[1].2[0]).await;
    say(&cluster, lines[2].2[0]).await;
    let granted: Vec<&str> = lines[1].2[0].split(' ').filter(|word| word.starts_with('+')).collect();
    assert!(granted.iter().all(|right| verifies.contains(right)), "{granted:?}");

    let report = ballast.json(0, &["doctor", "--config", &config]).await;
    let (verdict, found, _) = only(&report, "access");
    assert!(verdict == "ok" && found.starts_with("user ballast may run the"), "{found}");
}

#[tokio::test]
async fn an_old_server_is_judged_by_the_rules_of_the_user() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis62).map(|builder| builder.settings(roomy()))).await;
    let [moves, verifies, _] = documented("Redis 6.2");
    say(&cluster, &moves.replace("PASSWORD", "secret").replace("+migrate", "+acl|getuser")).await;
    say(&cluster, &verifies).await;
    say(&cluster, RETIRES).await;
    say(&cluster, GROWS).await;
    let ballast = Ballast::new();
    let user = "user = \"ballast\"\npassword = \"secret\"\n";
    let config = configured(&ballast, "daemon.toml", &format!("{}{user}", seeds(&cluster)));
    let report = ballast.json(3, &["doctor", "--config", &config]).await;
    let (verdict, found, write) = only(&report, "access");
    assert_eq!((verdict, found), ("fail", "user ballast lacks MIGRATE on all 3 nodes"));
    say(&cluster, write[0]).await;
    let report = ballast.json(0, &["doctor", "--config", &config]).await;
    assert!(only(&report, "access").1.contains("no ACL DRYRUN before Redis 7.0"), "{report:#}");
    assert!(only(&report, "statistics").1.contains("sampled"), "{report:#}");
    assert!(about(&report, "config")[1].1.contains("cluster.password"), "a password in the file is a warning");
}

#[tokio::test]
async fn statistics_that_are_off_are_turned_on_by_what_is_printed() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey80).map(|builder| builder.settings(roomy()))).await;
    say(&cluster, "CONFIG SET cluster-slot-stats-enabled no").await;
    let ballast = Ballast::new();
    let config = configured(&ballast, "daemon.toml", &seeds(&cluster));
    let report = ballast.json(0, &["doctor", "--config", &config]).await;
    let (verdict, found, write) = only(&report, "statistics");
    assert!(verdict == "warn" && found.contains("could be counted and is not"), "{found}");
    assert_eq!(only(&report, "versions").0, "ok", "{report:#}");
    say(&cluster, write[0]).await;
    let report = ballast.json(0, &["doctor", "--config", &config]).await;
    assert_eq!(only(&report, "statistics").0, "ok", "{report:#}");
    // The build of the lab is one that is known for what its statistics do to it.
    assert!(about(&report, "versions")[1].1.contains("valkey#1912"), "{report:#}");
}

#[tokio::test]
async fn an_announced_address_that_cannot_be_reached_is_named() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.settings(roomy()))).await;
    let ballast = Ballast::new();
    let config = configured(&ballast, "daemon.toml", &seeds(&cluster));
    let (lost, own) = (&cluster.nodes[1], cluster.nodes[1].server.address().port);
    // Bound, so that nobody else listens there meanwhile, and not listened at.
    let reserved = TcpSocket::new_v4().expect("a socket");
    reserved.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let closed = reserved.local_addr().expect("bound").port();
    let announce = async |port: u16| {
        lost.server.call(Command::new("CONFIG SET cluster-announce-port").arg(port)).await.expect("announced");
        eventually("the others know the announced port", PATIENCE, async || {
            for node in &cluster.nodes {
                let seen = node.view().await.ok()?.into_iter().find(|view| view.id == lost.id)?;
                (seen.address.port == port).then_some(())?;
            }
            Some(())
        })
        .await;
    };
    announce(closed).await;
    let report = ballast.json(3, &["doctor", "--config", &config]).await;
    let (verdict, found, write) = only(&report, "nodes");
    assert_eq!(verdict, "fail");
    let where_ = format!("127.0.0.1:{closed}, where node {} announces itself, cannot be reached", lost.id.short());
    assert!(found.starts_with(&where_), "{found}");
    assert!(write.iter().any(|command| command.starts_with("CONFIG SET cluster-announce-port")), "{write:?}");
    announce(own).await;
    ballast.json(0, &["doctor", "--config", &config]).await;
}

#[tokio::test]
async fn all_mistakes_of_a_configuration_are_named_at_once() {
    let ballast = Ballast::new();
    let text =
        "[cluster]\nseeds = [\"redis://127.0.0.1:1\"]\n[limits]\nmemory_margin = 7\n[policy]\nsha256 = \"abc\"\n";
    let config = configured(&ballast, "daemon.toml", text);
    let report = ballast.json(3, &["doctor", "--config", &config]).await;
    let lines = about(&report, "config");
    let told = |key: &str| lines.iter().any(|(verdict, found, _)| *verdict == "fail" && found.starts_with(key));
    assert!(told("limits.memory_margin: 7 is out of range") && told("policy.sha256: "), "{report:#}");
    assert_eq!(report["failed"], 2, "{report:#}");
    let text = ballast.run(&["doctor", "--config", &config]).await;
    assert!(text.code == 3 && text.out.contains("daemon.toml:4:17"), "{}", text.out);
    let text = "[cluster]\nseeds = [\"redis://127.0.0.1:1\"]\nnmae = \"x\"\n[limits]\nmin_gian = 1\n";
    let report = ballast.json(3, &["doctor", "--config", &configured(&ballast, "typos.toml", text)]).await;
    let unknown = ["unknown field `nmae`", "unknown field `min_gian`"];
    let lines = about(&report, "config");
    assert!(unknown.iter().all(|words| lines.iter().any(|(_, found, _)| found.starts_with(words))), "{report:#}");
    let missing = ballast.json(3, &["doctor", "--config", "/no/such/daemon.toml"]).await;
    assert!(about(&missing, "config")[0].1.starts_with("cannot read /no/such/daemon.toml: "), "{missing:#}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_and_one_that_is_held_are_told() {
    let ballast = Ballast::new();
    let nowhere = "[cluster]\nseeds = [\"redis://127.0.0.1:1\"]\n";
    let here = ["doctor", "--config-only", "--config"];
    // Below a file, since root may write to any directory.
    let below = format!("{nowhere}[state]\ndirectory = \"file/state\"\n");
    std::fs::write(ballast.home.path().join("file"), "").expect("written");
    let config = configured(&ballast, "below.toml", &below);
    let report = ballast.json(3, &[&here[..], &[&config]].concat()).await;
    let (verdict, found, _) = only(&report, "state");
    assert!(verdict == "fail" && found.contains("cannot be made"), "{found}");

    let config = configured(&ballast, "daemon.toml", nowhere);
    let daemon = ballast.command(&["run", "--config", &config]).spawn().expect("it starts");
    let pid = daemon.id().expect("it runs").to_string();
    let report = eventually("the daemon answers", PATIENCE, async || {
        let ran = ballast.run(&[&here[..], &[&config, "-o", "json"]].concat()).await;
        let report: Value = serde_json::from_str(&ran.out).ok()?;
        only(&report, "http").1.starts_with("a Ballast ").then_some(report)
    })
    .await;
    let (verdict, found, _) = only(&report, "state");
    assert!(verdict == "ok" && found.contains(&format!("in use by process {pid} (ballast)")), "{found}");
    assert!(about(&report, "nodes").is_empty(), "no node was asked: {report:#}");

    // Another daemon that was to use the same directory.
    let config = configured(&ballast, "other.toml", nowhere);
    let report = ballast.json(0, &[&here[..], &[&config]].concat()).await;
    let (verdict, found, write) = only(&report, "state");
    assert!(verdict == "warn" && found.contains("no other daemon can start"), "{found}");
    assert!(write[0].starts_with("directory = "), "{write:?}");
}

#[tokio::test]
async fn the_command_line_describes_itself_and_its_configuration() {
    let ballast = Ballast::new();
    let text = "[cluster]\nseeds = [\"redis://ann:hunter2@10.1.2.3:7000\"]\n";
    let config = configured(&ballast, "daemon.toml", text);
    let shown = ballast.json(0, &["config", "show", "--config", &config]).await;
    let seeds = shown["settings"].as_array().expect("a list").iter().find(|one| one["key"] == "cluster.seeds");
    let seeds = seeds.expect("it is there");
    assert_eq!(
        (&seeds["value"][0], &seeds["origin"], &seeds["line"]),
        (&"redis://ann@10.1.2.3:7000".into(), &"file".into(), &2.into())
    );
    for words in [&["config", "show", "--config", &config][..], &["config", "show", "--redacted", "--config", &config]]
    {
        let ran = ballast.run(words).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(!ran.out.contains("hunter2"), "{}", ran.out);
        let redacted = words.contains(&"--redacted");
        assert_eq!(ran.out.contains("10.1.2.3"), !redacted, "{}", ran.out);
        assert_eq!(ran.out.contains(ballast.home.path().to_str().expect("Unicode")), !redacted, "{}", ran.out);
    }

    let pages = ballast.home.path().join("man1");
    let written = ballast.json(0, &["man", pages.to_str().expect("Unicode")]).await;
    let written = written["pages"].as_array().expect("a list");
    assert!(written.iter().all(|page| Path::new(page.as_str().expect("a path")).is_file()), "{written:?}");
    let script = ballast.run(&["completions", "bash"]).await;
    assert!(script.code == 0 && script.out.contains("doctor"), "{}", script.err);
}
