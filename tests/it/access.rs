//! Every way into a cluster that is locked: a password, a user with few rights, TLS, and addresses that are announced.
//!
//! The users are those of `docs/access.md`, word for word.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ballast::cluster::Command;
use ballast::lab::{Kind, LocalCluster, ServerSettings, TlsFiles};
use ballast::model::{SlotId, SlotSet};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::cli::Ballast;
use crate::daemon::child::{Home, Settings};
use crate::scene::link_to;
use crate::support::{eventually, start, turn};

const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "a%20pass:w@rd";
const CLASSIC: &[&str] = &["classic"];
const BOTH: &[&str] = &["classic", "atomic"];

/// Checks, records, moves slots in each of these ways, and verifies; as `who` says: a URL, or `--config` and a file.
async fn everything_works(ballast: &Ballast, cluster: &LocalCluster, who: &[&str], protocols: &[&str]) {
    fill(cluster).await;
    let check = ballast.json(0, &[&["check"], who].concat()).await;
    let problems = check["problems"].as_array().expect("a list").iter();
    let counts = cluster.nodes[0].server.program().has_slot_stats();
    let kept: Vec<&Value> = problems.filter(|problem| counts || problem["problem"] != "slot-stats-off").collect();
    assert_eq!(kept, Vec::<&Value>::new(), "nothing is kept from us");
    // Where a slot is open, more is asked: who holds keys of it.
    let flag = |what: String| cluster.nodes[1].server.call(Command::new(&format!("CLUSTER SETSLOT 0 {what}")));
    flag(format!("IMPORTING {}", cluster.nodes[0].id)).await.expect("taken");
    let check = ballast.json(3, &[&["check"], who].concat()).await;
    let findings = check["findings"].as_array().expect("a list");
    assert!(findings.iter().all(|finding| finding["finding"] != "untold"), "{findings:#?}");
    flag("STABLE".to_owned()).await.expect("taken");
    let record = ballast.home.path().join("record");
    let record = record.to_str().expect("Unicode");
    let recorded = ballast.json(0, &[&["verify"], who, &["--record", record]].concat()).await;
    assert!(recorded["recorded"].as_u64() > Some(100), "{recorded}");
    let [from, to] = [0, 1].map(|place| cluster.nodes[place].id.to_string());
    for (protocol, slots) in protocols.iter().zip(["0-39", "40-79"]) {
        let mut words = [&["reshard"], who, &["--from", &from, "--to", &to, "--slots", slots, "--yes"]].concat();
        if *protocol == "classic" {
            words.extend(["--protocol", "classic"]);
        }
        let moved = ballast.json(0, &words).await;
        let how = moved["migrations"].as_array().expect("a list");
        assert!(how.iter().all(|migration| migration["protocol"] == *protocol), "{moved}");
        assert_eq!(moved["slots_moved"], 40, "{moved}");
    }
    let verified = ballast.json(0, &[&["verify"], who, &["--against", record]].concat()).await;
    assert_eq!(verified["compared"]["same"], recorded["recorded"], "{verified}");
    ballast.json(0, &[&["plan"], who, &["--policy", "slots", "--sample", "1s"]].concat()).await;
}

/// Puts keys of every type into the slots that will move, and one of a hundred into others.
async fn fill(cluster: &LocalCluster) {
    let moving: SlotSet = (0..80).filter_map(SlotId::new).collect();
    let names = (0..).map(|n| format!("key:{n}")).filter(|name| moving.contains(SlotId::of_key(name.as_bytes())));
    let mut commands = Vec::new();
    for (n, name) in names.take(120).enumerate() {
        let words = ["SET * x", "RPUSH * a b", "HSET * f v", "SADD * m", "ZADD * 1 m", "XADD * 1-1 f v"][n % 6];
        commands.push(Command::new(&words.replace('*', &name)));
        if words.starts_with("XADD") {
            commands.push(Command::new(&format!("XGROUP CREATE {name} readers 0")));
        }
    }
    let link = link_to(&cluster.nodes[0], 0).await;
    let replies = link.call(&commands, PATIENCE).await.expect("replies");
    assert!(replies.iter().all(|reply| reply.clone().ok().is_ok()), "{replies:?}");
}

#[tokio::test]
async fn a_password_opens_everything_on_redis_7_0() {
    a_password_opens_everything(Kind::Redis70, CLASSIC).await;
}

#[tokio::test]
async fn a_password_opens_everything_on_valkey_9_1() {
    a_password_opens_everything(Kind::Valkey91, BOTH).await;
}

async fn a_password_opens_everything(kind: Kind, protocols: &[&str]) {
    let _turn = turn().await;
    let settings = ServerSettings { password: Some(PASSWORD.to_owned()), ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.settings(settings))).await;
    let ballast = Ballast::new();
    let address = cluster.nodes[0].server.address();
    let written = PASSWORD.replace('%', "%25").replace('@', "%40");
    everything_works(&ballast, &cluster, &[&format!("redis://:{written}@{address}")], protocols).await;
    let refused = ballast.run(&["verify", &format!("redis://{address}")]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("NOAUTH") && refused.err.contains("give the password"), "{}", refused.err);
}

#[tokio::test]
async fn the_documented_user_suffices_on_redis_6_2() {
    the_documented_user_suffices(Kind::Redis62, "Redis 6.2", CLASSIC).await;
}

#[tokio::test]
async fn the_documented_user_suffices_on_redis_7_0() {
    the_documented_user_suffices(Kind::Redis70, "Redis 7.0", CLASSIC).await;
}

#[tokio::test]
async fn the_documented_user_suffices_on_redis_8_6() {
    the_documented_user_suffices(Kind::Redis86, "Redis 8.6", BOTH).await;
}

#[tokio::test]
async fn the_documented_user_suffices_on_valkey_8_0() {
    the_documented_user_suffices(Kind::Valkey80, "Valkey 8.0", CLASSIC).await;
}

#[tokio::test]
async fn the_documented_user_suffices_on_valkey_9_1() {
    the_documented_user_suffices(Kind::Valkey91, "Valkey 9.1", BOTH).await;
}

/// Rights that are used only when something is amiss, when clients write meanwhile, or for types of modules.
const FOR_TROUBLE: &[&str] = &["cluster|bumpepoch", "cluster|cancelslotmigrations", "exists", "asking", "dump"];

async fn the_documented_user_suffices(kind: Kind, section: &str, protocols: &[&str]) {
    let _turn = turn().await;
    let [moves, verifies, replicates] = documented(section);
    let cluster = locked(kind, [&moves, &verifies, &replicates]).await;
    // Keys are sampled by how often they are used where the policy counts that, else by how long they were not.
    let often = &cluster.nodes[1].server;
    often.call(Command::new("CONFIG SET maxmemory-policy allkeys-lfu")).await.expect("set");
    let ballast = Ballast::new();
    let url = format!("redis://ballast:secret@{}", cluster.nodes[0].server.address());
    everything_works(&ballast, &cluster, &[&url], protocols).await;

    let used = used(&cluster).await;
    let program = cluster.nodes[0].server.program();
    let spared = |right: &str| match right {
        "object|freq" | "object|idletime" => program.has_slot_stats(),
        "memory|usage" => kind == Kind::Redis86,
        _ => FOR_TROUBLE.contains(&right),
    };
    let is_used = |right: &str| {
        // Redis 6.2 does not tell subcommands apart.
        let command = if kind == Kind::Redis62 { right.split('|').next().unwrap_or_default() } else { right };
        used.contains(command)
    };
    let rights = format!("{moves} {verifies}");
    let rights = rights.split(' ').filter_map(|word| word.strip_prefix('+'));
    let idle: Vec<&str> = rights.filter(|right| !spared(right) && !is_used(right)).collect();
    assert_eq!(idle, Vec::<&str>::new(), "rights that are granted and not used; used are {used:?}");
}

/// A cluster whose default user is off, with the users of these lines.
async fn locked(kind: Kind, [moves, verifies, replicates]: [&str; 3]) -> LocalCluster {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let user = |line: &str| words(&line.replacen("ACL SETUSER", "user", 1).replace("PASSWORD", "secret"));
    let settings = ServerSettings {
        user: Some("lab".to_owned()),
        password: Some("lab".to_owned()),
        more: vec![
            user("ACL SETUSER default off"),
            user("ACL SETUSER lab on >lab ~* &* +@all"),
            user(replicates),
            words("masteruser replicator"),
            words("masterauth secret"),
        ],
        ..ServerSettings::default()
    };
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.replicas(1).settings(settings))).await;
    for node in &cluster.nodes {
        for line in [moves, verifies] {
            node.server.call(Command::new(&line.replace("PASSWORD", "secret"))).await.expect("a user");
        }
        node.server.call(Command::new("CONFIG RESETSTAT")).await.expect("reset");
    }
    cluster
}

#[tokio::test]
async fn a_replica_s_rights_are_too_few_for_an_atomic_migration_of_valkey() {
    let _turn = turn().await;
    let ([moves, verifies, _], [_, _, replicates]) = (documented("Valkey 9.1"), documented("Valkey 8.0"));
    let cluster = locked(Kind::Valkey91, [&moves, &verifies, &replicates]).await;
    fill(&cluster).await;
    let url = format!("redis://ballast:secret@{}", cluster.nodes[0].server.address());
    let [from, to] = [0, 1].map(|place| cluster.nodes[place].id.to_string());
    let words = ["reshard", &url, "--from", &from, "--to", &to, "--slots", "0-39", "--yes", "-o", "json"];
    let ran = Ballast::new().run(&words).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    assert_ne!(ran.code, 0, "{report}");
    assert_eq!((&report["slots_moved"], &report["slots_stayed"]), (&Value::from(0), &Value::from(40)), "{report}");
    let reason = report["migrations"][0]["stayed"][0][1].as_str().expect("a reason");
    assert!(reason.contains("NOPERM"), "{report}");
    assert_eq!(cluster.open_slots().await.expect("asked"), Vec::new());
    Ballast::new().json(0, &["verify", &url]).await;
}

/// The commands that were executed on any node.
async fn used(cluster: &LocalCluster) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for node in &cluster.nodes {
        let stats = node.server.text(Command::new("INFO commandstats")).await.expect("a text");
        let lines = stats.lines().filter(|line| !line.contains(":calls=0,"));
        let names = lines.filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        used.extend(names.map(str::to_owned));
    }
    used
}

/// The three lines of a section of the document.
pub(crate) fn documented(section: &str) -> [String; 3] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let part = text.split(&format!("### {section}\n")).nth(1).expect("the section");
    let lines = part.lines().skip_while(|line| !line.starts_with("ACL SETUSER"));
    let lines: Vec<String> = lines.take_while(|line| line.starts_with("ACL SETUSER")).map(str::to_owned).collect();
    lines.try_into().expect("three lines")
}

fn certificate(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(file)
}

#[tokio::test]
async fn a_cluster_that_speaks_nothing_but_tls_is_served_on_valkey_9() {
    nothing_but_tls(Kind::Valkey9Tls, BOTH).await;
}

#[tokio::test]
async fn a_cluster_that_speaks_nothing_but_tls_is_served_on_redis_7_0() {
    nothing_but_tls(Kind::Redis70, CLASSIC).await;
}

#[tokio::test]
async fn a_cluster_that_speaks_nothing_but_tls_is_served_on_redis_8_6() {
    nothing_but_tls(Kind::Redis86, BOTH).await;
}

async fn nothing_but_tls(kind: Kind, protocols: &[&str]) {
    let _turn = turn().await;
    let files = TlsFiles {
        authority: certificate("ca.pem"),
        server: (certificate("server.pem"), certificate("server.key")),
        client: (certificate("client.pem"), certificate("client.key")),
    };
    let settings = ServerSettings { tls: Some(files), ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.settings(settings))).await;
    let ballast = Ballast::new();
    let file = ballast.home.path().join("daemon.toml");
    let text = format!(
        "[cluster]\nseeds = [\"rediss://{}\"]\n[cluster.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
        cluster.nodes[0].server.address(),
        certificate("ca.pem"),
        certificate("client.pem"),
        certificate("client.key")
    );
    std::fs::write(&file, text).expect("written");
    everything_works(&ballast, &cluster, &["--config", file.to_str().expect("Unicode")], protocols).await;
    let plain = ballast.run(&["check", &format!("redis://{}", cluster.nodes[0].server.address())]).await;
    assert_eq!(plain.code, 1, "{}{}", plain.out, plain.err);
}

#[tokio::test]
async fn nodes_that_are_known_by_names_are_served() {
    let _turn = turn().await;
    let more = [["cluster-announce-hostname", "localhost"], ["cluster-preferred-endpoint-type", "hostname"]];
    let more = more.map(|words| words.map(str::to_owned).to_vec()).to_vec();
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.settings(settings))).await;
    let port = cluster.nodes[0].server.address().port;
    everything_works(&Ballast::new(), &cluster, &[&format!("redis://localhost:{port}")], BOTH).await;
}

#[tokio::test]
async fn nodes_are_reached_where_they_are_announced() {
    for (kind, protocols) in [(Kind::Redis70, CLASSIC), (Kind::Valkey91, BOTH)] {
        let _turn = turn().await;
        let cluster = start(LocalCluster::of(kind)).await;
        let mut gates = Vec::new();
        for node in &cluster.nodes {
            let gate = Gate::to(node.server.address().port).await;
            let announce = Command::new("CONFIG SET cluster-announce-port").arg(gate.port);
            node.server.call(announce).await.expect("announced");
            gates.push(gate);
        }
        eventually("all know the announced ports", PATIENCE, async || {
            let mut views = Vec::new();
            for node in &cluster.nodes {
                views.extend(node.view().await.ok()?);
            }
            let announced = views.iter().filter(|view| gates.iter().any(|gate| gate.port == view.address.port));
            (announced.count() == 9).then_some(())
        })
        .await;
        let seed = cluster.nodes[0].server.address();
        everything_works(&Ballast::new(), &cluster, &[&format!("redis://{seed}")], protocols).await;
        for gate in &gates {
            assert!(gate.passed.load(Ordering::Relaxed) > 0, "{kind}: nobody came by an announced port");
        }
    }
}

/// A port that leads to another one, as a container's or a balancer's does.
struct Gate {
    port: u16,
    passed: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let passed = Arc::new(AtomicUsize::new(0));
        let count = passed.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut outside, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                open.spawn(async move {
                    if let Ok(mut inside) = TcpStream::connect(("127.0.0.1", target)).await {
                        // It ends when either side hangs up.
                        drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
                    }
                });
            }
        });
        Self { port, passed, task }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn nodes_that_announce_what_is_no_address_from_here_are_reached_by_the_map() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let mut map = String::new();
    for (place, node) in cluster.nodes.iter().enumerate() {
        // As behind a NAT: nobody listens there. Port 1 to 3 are nobody's without root.
        let port = place + 1;
        node.server.call(Command::new("CONFIG SET cluster-announce-port").arg(port)).await.expect("taken");
        map += &format!("\"127.0.0.1:{port}\" = \"{}\"\n", node.server.address());
    }
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    home.configure(&Settings {
        mode: "dry-run",
        more: format!("[cluster.announce_map]\n{map}"),
        ..Settings::default()
    });
    let daemon = home.start().await;
    let addresses = daemon.until("it reads all three", |status| {
        let nodes = status["nodes"].as_array()?;
        let announced = nodes
            .iter()
            .filter(|node| node["probe_usec"].is_number() && node["address"].as_str() < Some("127.0.0.1:4"));
        (announced.count() == 3 && status["snapshot"]["problems"].as_array()?.is_empty()).then_some(nodes.len())
    });
    assert_eq!(addresses.await, 3);
    daemon.stop().await;
}
