//! `ballast check` and `ballast fix` on what others leave behind: every shape of an open slot, keys that are astray, slots
//! that nobody owns, and tools that were killed.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use ballast::cluster::{Command, Reply};
use ballast::lab::{Kind, LocalCluster, Node, Role};
use ballast::model::{NodeId, SlotId, SlotSet};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::cli::{Ballast, url};
use crate::support::{chain, eventually, start, turn};

const PATIENCE: Duration = Duration::from_secs(30);
/// How often a tool is killed in the middle of a slot.
const CUTS: usize = 3;
/// Keys in each slot that a story is about.
const KEYS: usize = 20;

/// What each key should hold in the end.
#[derive(Default)]
struct Scene {
    expected: BTreeMap<String, String>,
}

fn slot(number: u16) -> SlotId {
    SlotId::new(number).expect("a slot")
}

/// A hash tag of the slot.
fn tag(number: u16) -> String {
    (0..).map(|n: u32| n.to_string()).find(|tag| SlotId::of_key(tag.as_bytes()).number() == number).expect("endless")
}

fn key(number: u16, place: usize) -> String {
    format!("k{place}:{{{}}}", tag(number))
}

async fn say(node: &Node, command: Command) -> Reply {
    node.server.call(command).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

async fn flag(node: &Node, number: u16, word: &str, other: Option<&Node>) {
    let command = Command::new("CLUSTER SETSLOT").arg(number).arg(word);
    say(node, other.map(|other| command.clone().arg(&other.id)).unwrap_or(command)).await;
}

async fn migrate(from: &Node, to: &Node, keys: &[String], how: &str) {
    let address = to.server.address();
    let command = Command::new("MIGRATE").arg(&address.host).arg(address.port).bytes("").arg(0).arg(5000);
    let command = if how.is_empty() { command } else { command.arg(how) };
    say(from, keys.iter().fold(command.arg("KEYS"), |command, key| command.arg(key))).await;
}

/// A write by a client that was told to go there.
async fn write_asking(node: &Node, key: &str, value: &str) {
    let link = node.server.link().await.expect("a link");
    let replies = link.call(&[Command::new("ASKING"), Command::new("SET").arg(key).arg(value)], PATIENCE).await;
    assert!(matches!(replies.as_deref(), Ok([_, Reply::Bytes(ok)]) if ok == b"OK"), "{replies:?}");
}

impl Scene {
    /// Fills a slot on its owner.
    async fn fill(&mut self, owner: &Node, number: u16) -> Vec<String> {
        let keys: Vec<String> = (0..KEYS).map(|place| key(number, place)).collect();
        for key in &keys {
            say(owner, Command::new("SET").arg(key).arg(format!("value of {key}"))).await;
            self.expected.insert(key.clone(), format!("value of {key}"));
        }
        keys
    }

    /// Fills a slot and moves its first half, as a resharder does that then dies.
    async fn half_move(&mut self, from: &Node, to: &Node, number: u16) -> Vec<String> {
        let keys = self.fill(from, number).await;
        flag(to, number, "IMPORTING", Some(from)).await;
        flag(from, number, "MIGRATING", Some(to)).await;
        migrate(from, to, &keys[..KEYS / 2], "").await;
        keys
    }

    /// Every key is on the owner of its slot and nowhere else, with its value; no slot is open; all agree.
    async fn verify(&self, cluster: &LocalCluster) {
        cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(cluster.open_slots().await.expect("asked"), Vec::new());
        let view = cluster.view().await.expect("a view");
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for member in view.iter().filter(|member| member.role == Role::Primary) {
            let node = cluster.nodes.iter().find(|node| node.id == member.id).expect("ours");
            for key in say(node, Command::new("KEYS *")).await.list().expect("a list") {
                let key = key.text().expect("a name");
                assert!(member.slots.contains(SlotId::of_key(key.as_bytes())), "{key} is astray");
                *seen.entry(key).or_default() += 1;
            }
        }
        for (key, value) in &self.expected {
            assert_eq!(seen.get(key), Some(&1), "{key}");
            let owner =
                view.iter().find(|member| member.slots.contains(SlotId::of_key(key.as_bytes()))).expect("owned");
            let node = cluster.nodes.iter().find(|node| node.id == owner.id).expect("ours");
            assert_eq!(&node.server.text(Command::new("GET").arg(key)).await.expect("a value"), value, "{key}");
        }
    }
}

/// The slots that `check` finds in a shape.
fn found(check: &Value, shape: &str) -> String {
    let findings = check["findings"].as_array().expect("a list");
    let of_shape = findings.iter().filter(|finding| finding["shape"] == shape || finding["finding"] == shape);
    let mut slots: Vec<SlotId> = Vec::new();
    for finding in of_shape {
        let set: SlotSet = finding["slots"].as_str().unwrap_or_default().parse().expect("slots");
        slots.extend(set.iter());
    }
    slots.into_iter().collect::<SlotSet>().to_string()
}

/// `check` finds nothing and all keys are where they belong.
async fn is_mended(ballast: &Ballast, cluster: &LocalCluster, scene: &Scene) {
    scene.verify(cluster).await;
    let url = url(&cluster.nodes[1].server);
    let check = ballast.json(0, &["check", &url]).await;
    assert_eq!(check["healthy"], true);
}

#[tokio::test]
async fn every_shape_of_an_open_slot_is_mended_on_redis_7_0() {
    every_shape_is_mended(Kind::Redis70).await;
}

#[tokio::test]
async fn every_shape_of_an_open_slot_is_mended_on_redis_8_6() {
    every_shape_is_mended(Kind::Redis86).await;
}

#[tokio::test]
async fn every_shape_of_an_open_slot_is_mended_on_valkey_9_1() {
    every_shape_is_mended(Kind::Valkey91).await;
}

async fn every_shape_is_mended(kind: Kind) {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(kind)).await;
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let mut scene = Scene::default();
    // Redis from 8.4 on does not say in which slots it holds keys that it does not serve.
    let hides = kind == Kind::Redis86;

    scene.fill(a, 0).await;
    flag(a, 0, "MIGRATING", Some(b)).await;
    scene.fill(a, 1).await;
    flag(b, 1, "IMPORTING", Some(a)).await;
    scene.half_move(a, b, 2).await;
    // Its source was closed by somebody who meant well.
    scene.half_move(a, b, 3).await;
    flag(a, 3, "STABLE", None).await;
    // A copy of some keys, and of a set whose members the two servers order differently.
    let keys = scene.half_move(a, b, 4).await;
    migrate(a, b, &keys[KEYS / 2..KEYS - 2], "COPY").await;
    let set = format!("set:{{{}}}", tag(4));
    // A slot that migrates takes no new keys.
    flag(a, 4, "STABLE", None).await;
    say(a, (0..700).fold(Command::new("SADD").arg(&set), |command, n| command.arg(n))).await;
    flag(a, 4, "MIGRATING", Some(b)).await;
    migrate(a, b, std::slice::from_ref(&set), "COPY").await;
    // The target lost its flag.
    scene.half_move(a, b, 5).await;
    flag(b, 5, "STABLE", None).await;
    // Keys astray behind no flag at all: some that the owner lacks, and one that it has.
    let keys = scene.half_move(a, b, 6).await;
    migrate(a, b, &keys[KEYS - 1..], "COPY").await;
    flag(a, 6, "STABLE", None).await;
    flag(b, 6, "STABLE", None).await;
    // A slot that goes to b, and a third that imports it too and was written to.
    scene.half_move(a, b, 7).await;
    flag(c, 7, "IMPORTING", Some(a)).await;
    write_asking(c, &key(7, 99), "only here").await;
    scene.expected.insert(key(7, 99), "only here".into());

    let url = url(&a.server);
    let check = ballast.json(3, &["check", &url]).await;
    assert_eq!(found(&check, "half-moved"), "2 4 7");
    assert_eq!(found(&check, "importing-only"), "1 3 7");
    assert_eq!(found(&check, "migrating-only"), "0 5");
    assert_eq!(found(&check, "strays"), if hides { "" } else { "6" });
    let hidden = check["findings"].as_array().expect("a list").iter().find(|found| found["finding"] == "hidden-strays");
    assert_eq!(hidden.map(|found| found["keys"].as_u64()), hides.then_some(Some(KEYS as u64 + 1)), "{check}");

    ballast.refused(2, &["fix", &url], &["no terminal", "--yes"]).await;
    let fix = ballast.json(0, &["fix", &url, "--yes"]).await;
    assert_eq!((&fix["kind"], &fix["healthy"]), (&Value::from("Fix"), &Value::from(true)));
    is_mended(&ballast, &cluster, &scene).await;
    assert_eq!(say(b, Command::new("SCARD").arg(&set)).await, Reply::Int(700));
    let owner = cluster.owner_of(slot(3)).await.expect("a view");
    assert_eq!(owner.as_ref(), Some(&a.id), "all agreed on it, however many keys b held");
}

#[tokio::test]
async fn different_values_are_never_chosen_between() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Redis70)).await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut scene = Scene::default();
    let keys = scene.half_move(a, b, 2).await;
    let open = keys[KEYS - 1].clone();
    write_asking(b, &open, "another").await;
    let keys = scene.fill(a, 3).await;
    let astray = keys[0].clone();
    flag(b, 3, "IMPORTING", Some(a)).await;
    write_asking(b, &astray, "another").await;
    flag(b, 3, "STABLE", None).await;

    let url = url(&a.server);
    let check = ballast.json(3, &["check", &url]).await;
    assert_eq!(found(&check, "strays"), "3");
    let strays = check["findings"].as_array().expect("a list").iter().find(|finding| finding["finding"] == "strays");
    assert_eq!(strays.map(|strays| &strays["held"][0]["doubled"]), Some(&Value::from(1)), "{check}");
    let fix = ballast.json(3, &["fix", &url, "--yes"]).await;
    let left = fix["left"].to_string();
    for words in [&open, &astray, "REPLACE KEYS", "DEL"] {
        assert!(left.contains(words), "{words}: {left}");
    }
    for key in [&open, &astray] {
        assert_eq!(a.server.text(Command::new("GET").arg(key)).await.expect("a value"), format!("value of {key}"));
        let link = b.server.link().await.expect("a link");
        flag(b, SlotId::of_key(key.as_bytes()).number(), "IMPORTING", Some(a)).await;
        let replies = link.call(&[Command::new("ASKING"), Command::new("GET").arg(key)], PATIENCE).await;
        assert!(matches!(replies.as_deref(), Ok([_, Reply::Bytes(value)]) if value == b"another"), "{replies:?}");
        // The person decides for what a has, as the advice says.
        let replies = link.call(&[Command::new("ASKING"), Command::new("DEL").arg(key)], PATIENCE).await;
        assert!(matches!(replies.as_deref(), Ok([_, Reply::Int(1)])), "{replies:?}");
    }
    ballast.json(0, &["fix", &url, "--yes"]).await;
    is_mended(&ballast, &cluster, &scene).await;
}

#[tokio::test]
async fn slots_that_lost_an_end_to_a_failover_and_slots_that_nobody_owns_are_mended() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Redis70).map(|builder| builder.replicas(1))).await;
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let mut scene = Scene::default();
    scene.half_move(a, b, 2).await;
    scene.half_move(c, b, 16_000).await;
    // From c to a: its target fails over, and the flag is lost; from a to b: the source does.
    scene.half_move(c, a, 16_001).await;
    // Nobody shall own these: one with keys on one node, one with keys on two, one without any.
    scene.fill(c, 16_100).await;
    scene.fill(c, 16_101).await;
    flag(b, 16_101, "IMPORTING", Some(c)).await;
    write_asking(b, &key(16_101, 99), "on b").await;
    scene.expected.insert(key(16_101, 99), "on b".into());
    flag(b, 16_101, "STABLE", None).await;
    fail_over(&cluster, 0).await;
    let successor = cluster.nodes.iter().find(|node| node.follows == Some(0)).expect("a replica");
    say(c, Command::new("CLUSTER DELSLOTS 16100 16101 16102")).await;

    let url = url(&b.server);
    let check = ballast.json(3, &["check", &url]).await;
    assert_eq!(found(&check, "importing-only"), "2");
    assert_eq!(found(&check, "migrating-only"), "16001");
    assert_eq!(found(&check, "half-moved"), "16000");
    let fix = ballast.json(4, &["fix", &url, "--yes"]).await;
    let left = fix["left"].to_string();
    assert!(left.contains("16101") && left.contains("--assign"), "{left}");
    assert!(!left.contains("16100") && !left.contains("16102"), "{left}");
    assert!(left.contains("slot 16000 is half-moved"), "no key travels while a slot has no owner: {left}");

    let assign = format!("16101={}", c.server.address());
    ballast.json(0, &["fix", &url, "--yes", "--assign", &assign]).await;
    is_mended(&ballast, &cluster, &scene).await;
    let owner = async |number| cluster.owner_of(slot(number)).await.expect("a view");
    assert_eq!(owner(2).await.as_ref(), Some(&successor.id), "clients wrote to it meanwhile");
    assert_eq!(owner(16_001).await.as_ref(), Some(&successor.id), "it held the keys that were sent");
    assert_eq!(owner(16_100).await.as_ref(), Some(&c.id));
}

/// Makes the replica of a primary take over.
async fn fail_over(cluster: &LocalCluster, primary: usize) {
    let replica = cluster.nodes.iter().find(|node| node.follows == Some(primary)).expect("a replica");
    let mut looks = 0;
    // A node that imports a slot never hears who owns it now, so that the cluster does not agree while slots are open.
    eventually("all see that the replica has taken over", PATIENCE, async || {
        // A server gives a manual failover five seconds, and forgets about it then.
        if looks % 300 == 0 {
            drop(replica.server.call(Command::new("CLUSTER FAILOVER")).await);
        }
        looks += 1;
        for node in &cluster.nodes {
            let view = node.view().await.ok()?;
            let role = |id: &NodeId| view.iter().find(|seen| seen.id == *id).map(|seen| &seen.role);
            let old = &cluster.nodes[primary].id;
            let over = role(&replica.id) == Some(&Role::Primary)
                && role(old) == Some(&Role::Replica(Some(replica.id.clone())));
            over.then_some(())?;
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_flag_that_only_a_replica_of_valkey_carries_is_cleared_through_its_primary() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let builder = LocalCluster::of(Kind::Valkey80).map(|builder| builder.replicas(1));
    let mut cluster = start(builder).await;
    // As it is after valkey#998: the flag came with the first synchronisation, and the word that cleared it did not.
    let source = cluster.nodes[1].id.clone();
    let replica = cluster.nodes.iter_mut().find(|node| node.follows == Some(0)).expect("a replica");
    replica.server.kill9();
    let path = replica.server.directory().join("nodes.conf");
    let text = std::fs::read_to_string(&path).expect("readable");
    let lines = text.lines().map(|line| {
        let mine = line.contains("myself");
        if mine { format!("{line} [9000-<-{source}]\n") } else { format!("{line}\n") }
    });
    std::fs::write(&path, lines.collect::<String>()).expect("written");
    replica.server.restart().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));

    let url = url(&cluster.nodes[0].server);
    let check = ballast.json(3, &["check", &url]).await;
    assert_eq!(found(&check, "on-replica"), "9000");
    ballast.json(0, &["fix", &url, "--yes"]).await;
    is_mended(&ballast, &cluster, &Scene::default()).await;
}

#[tokio::test]
async fn what_a_killed_redis_cli_leaves_is_mended() {
    what_a_killed_resharder_leaves_is_mended(Kind::Redis70, "redis-cli").await;
}

#[tokio::test]
async fn what_a_killed_valkey_cli_leaves_is_mended() {
    what_a_killed_resharder_leaves_is_mended(Kind::Valkey80, "valkey-cli").await;
}

#[tokio::test]
async fn nothing_is_mended_while_somebody_moves_slots() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Redis70)).await;
    let [b, c] = [&cluster.nodes[1], &cluster.nodes[2]];
    let mover = async {
        // To and fro, for as long as it takes.
        for turn in 0_u32.. {
            let (to, from) = if turn.is_multiple_of(2) { (b, c) } else { (c, b) };
            for number in 11_000..16_384 {
                flag(to, number, "IMPORTING", Some(from)).await;
                flag(from, number, "MIGRATING", Some(to)).await;
                flag(to, number, "NODE", Some(to)).await;
                flag(from, number, "NODE", Some(to)).await;
            }
        }
    };
    let url = url(&c.server);
    let busy = ["fix", &url, "--yes"];
    tokio::select! {
        () = mover => panic!("there are slots to move for longer than that"),
        () = ballast.refused(2, &busy, &["somebody is moving slots", "--force"]) => {}
    }
    // What it leaves in the middle of a slot is mended when it is gone.
    ballast.json(0, &["fix", &url, "--yes"]).await;
    is_mended(&ballast, &cluster, &Scene::default()).await;
}

/// The open slots, when what a killed tool had sent is carried out: as seen by many looks in a row.
async fn when_quiet(cluster: &LocalCluster) -> Vec<(NodeId, String)> {
    let (mut seen, mut looks) = (Vec::new(), 0);
    eventually("nothing changes any more", PATIENCE, async || {
        let now = cluster.open_slots().await.ok()?;
        looks = if now == seen { looks + 1 } else { 0 };
        seen.clone_from(&now);
        (looks >= 10).then_some(now)
    })
    .await
}

async fn what_a_killed_resharder_leaves_is_mended(kind: Kind, tool: &str) {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(kind)).await;
    let mut scene = Scene::default();
    for number in 0..30 {
        scene.fill(&cluster.nodes[0], number).await;
    }
    let url = url(&cluster.nodes[0].server);
    let seed = ballast::clock::now_ms();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cut = 0;
    // Some kills fall between two slots: so many in a row do not.
    for round in 0..20 {
        if cut == CUTS {
            break;
        }
        // It begins nothing while nodes do not agree.
        cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let (from, to) = (&cluster.nodes[round % 3], &cluster.nodes[(round + 1) % 3]);
        let mut resharder = tokio::process::Command::new(kind.tool(tool).expect("fetched"));
        resharder.args(["--cluster", "reshard", &from.server.address().to_string(), "--cluster-yes"]);
        resharder.args(["--cluster-from", from.id.as_str(), "--cluster-to", to.id.as_str()]);
        // One key at a time: there is something to be cut in the middle of.
        resharder.args(["--cluster-slots", "5000", "--cluster-pipeline", "1"]);
        resharder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = resharder.spawn().expect("it starts");
        eventually("it has opened a slot", PATIENCE, async || {
            (!cluster.open_slots().await.ok()?.is_empty()).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_micros(random.random_range(0..80_000))).await;
        child.kill().await.expect("killed");
        let left = when_quiet(&cluster).await;
        if left.is_empty() {
            continue;
        }
        cut += 1;
        let check = ballast.run(&["check", &url]).await;
        assert_eq!(check.code, 3, "seed {seed} round {round}: {left:?}\n{}", check.out);
        let number = left[0].1.split('-').next().expect("a slot");
        assert!(check.out.contains(&format!("slot {number} ")), "seed {seed}: {left:?}\n{}", check.out);
        let fix = ballast.run(&["fix", &url, "--yes"]).await;
        assert_eq!(fix.code, 0, "seed {seed} round {round}: {left:?}\n{}\n{}", fix.out, fix.err);
        is_mended(&ballast, &cluster, &scene).await;
    }
    assert_eq!(cut, CUTS, "something was left to mend; seed {seed}");
}
