//! The command line on real clusters: what scripts read and which exit codes they get.

use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::Duration;

use ballast::cluster::{Command, Reply};
use ballast::lab::{Kind, LocalCluster, Server, ServerSettings};
use ballast::model::{SLOT_COUNT, SlotId};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{eventually, start, turn};

/// The longest command here moves 4096 slots.
const PATIENCE: Duration = Duration::from_secs(120);
/// Enough for keys in every node's slots, wherever they go.
const KEYS: i64 = 512;

/// The program with a home of its own, and without a terminal.
pub(crate) struct Ballast {
    pub(crate) home: TempDir,
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ballast {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().expect("temporary directory") }
    }

    pub(crate) fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ballast"));
        command.args(words).env("XDG_STATE_HOME", self.home.path()).env_remove("BALLAST_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, words: &[&str]) -> Ran {
        let output = tokio::time::timeout(PATIENCE, self.command(words).output()).await;
        let Output { status, stdout, stderr } = output.expect("it ends in time").expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("Unicode");
        Ran { code: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
    }

    /// Runs with `-o json`, expects `code`, and returns the document.
    pub(crate) async fn json(&self, code: i32, words: &[&str]) -> Value {
        let ran = self.run(&[words, &["-o", "json"]].concat()).await;
        assert_eq!(ran.code, code, "{words:?}\n{}\n{}", ran.out, ran.err);
        let document: Value = serde_json::from_str(&ran.out).expect("one JSON document on standard output");
        assert_eq!(document["apiVersion"], "ballast/v1");
        document
    }

    /// Expects to be refused with `code`, for a reason that holds `words`, and nothing on standard output.
    pub(crate) async fn refused(&self, code: i32, command: &[&str], words: &[&str]) {
        let ran = self.run(command).await;
        assert_eq!(ran.code, code, "{command:?}\n{}\n{}", ran.out, ran.err);
        for word in words {
            assert!(ran.err.contains(word), "'{word}' is missing in:\n{}", ran.err);
        }
        assert_eq!(ran.out, "", "{command:?}");
    }
}

pub(crate) fn url(server: &Server) -> String {
    format!("redis://{}", server.address())
}

/// Sets keys all over the cluster; how many.
async fn fill(cluster: &LocalCluster) -> i64 {
    let tags: Vec<String> = (0..KEYS).map(|n| format!("key-{n}")).collect();
    for tag in &tags {
        let owner = cluster.owner_of(SlotId::of_key(tag.as_bytes())).await.expect("a view").expect("an owner");
        let node = cluster.nodes.iter().find(|node| node.id == owner).expect("ours");
        node.server.call(Command::new("SET").arg(tag).arg("x".repeat(100))).await.expect("taken");
    }
    KEYS
}

async fn keys(cluster: &LocalCluster) -> i64 {
    let mut sum = 0;
    for node in cluster.nodes.iter().filter(|node| node.follows.is_none()) {
        match node.server.call(Command::new("DBSIZE")).await.expect("answers") {
            Reply::Int(count) => sum += count,
            other => panic!("{other:?}"),
        }
    }
    sum
}

fn slots_of(check: &Value, server: &Server) -> u64 {
    let address = server.address().to_string();
    let primaries = check["primaries"].as_array().expect("a list");
    let row = primaries.iter().find(|row| row["address"] == address.as_str()).expect("listed");
    row["slots"].as_u64().expect("a number")
}

#[tokio::test]
async fn check_tells_healthy_from_unhealthy() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let url = url(&cluster.nodes[0].server);

    let check = ballast.json(0, &["check", &url]).await;
    assert_eq!((&check["kind"], &check["healthy"]), (&Value::from("Check"), &Value::from(true)));
    assert_eq!(check["slots_served"], SLOT_COUNT);
    let text = ballast.run(&["check", &url]).await;
    assert!(text.out.contains("The cluster is healthy."), "{}", text.out);
    assert!(!text.out.contains('\x1b'), "no colours without a terminal");

    let server = &cluster.nodes[0].server;
    server.call(Command::new("CLUSTER SETSLOT 0 MIGRATING").arg(&cluster.nodes[1].id)).await.expect("taken");
    let check = ballast.json(3, &["check", &url]).await;
    assert_eq!(check["healthy"], false);
    assert_eq!(check["open_slots"][0]["slot"], 0);
    let finding = &check["findings"][0];
    assert_eq!((&finding["finding"], &finding["shape"]), (&Value::from("open"), &Value::from("migrating-only")));
    assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("ballast fix")), "{finding}");
    let text = ballast.run(&["check", &url, "--skip-keys"]).await;
    assert!(text.out.contains("! slot 0 is migrating on") && text.out.contains("\n    if a daemon"), "{}", text.out);
    let foreign = ["reshard", &url, "--yes", "--slots", "9", "--from", "all", "--to"];
    let to = cluster.nodes[2].server.address().to_string();
    ballast.refused(2, &[&foreign[..], &[&to]].concat(), &["slot 0 is open", "not by us", "ballast fix"]).await;
}

#[tokio::test]
async fn verify_tells_what_changed_since_a_record() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let filled = fill(&cluster).await;
    let url = url(&cluster.nodes[0].server);
    let file = ballast.home.path().join("record");
    let file = file.to_str().expect("Unicode");
    let recorded = ballast.json(0, &["verify", &url, "--record", file]).await;
    assert_eq!((&recorded["kind"], &recorded["recorded"]), (&Value::from("Verify"), &Value::from(filled)));
    let same = ballast.run(&["verify", &url, "--against", file]).await;
    assert!(same.code == 0 && same.out.contains("Every key is where it belongs."), "{}{}", same.out, same.err);

    let owner = cluster.owner_of(SlotId::of_key(b"key-7")).await.expect("a view").expect("an owner");
    let node = cluster.nodes.iter().find(|node| node.id == owner).expect("ours");
    node.server.call(Command::new("DEL key-7")).await.expect("deleted");
    let report = ballast.json(3, &["verify", &url, "--against", file]).await;
    let finding = &report["findings"][0];
    assert_eq!((&finding["kind"], &finding["key"]), (&Value::from("missing"), &Value::from("key-7")), "{report}");
    assert_eq!((&report["clean"], &report["counts"]["missing"]), (&Value::from(false), &Value::from(1)));
    let text = ballast.run(&["verify", &url, "--against", file]).await;
    assert!(text.code == 3 && text.out.contains("! key-7 (slot "), "{}{}", text.out, text.err);

    ballast.refused(1, &["verify", &url, "--against", "Cargo.toml"], &["Cargo.toml is no record"]).await;
    ballast.refused(2, &["verify", &url, "--record", file, "--against", file], &["cannot be used with"]).await;
}

#[tokio::test]
async fn plan_shows_and_rebalance_moves_until_the_policy_is_content() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.empty(1))).await;
    let filled = fill(&cluster).await;
    let url = url(&cluster.nodes[0].server);
    let how = ["--policy", "slots", "--sample", "1s"];

    let file = ballast.home.path().join("plan.json");
    let words = ["plan", &url, "--detailed-exitcode", "--out", file.to_str().expect("Unicode")];
    let plan = ballast.json(10, &[&words[..], &how].concat()).await;
    assert_eq!(plan["kind"], "Plan");
    assert_eq!(plan["policy"]["name"], "slots");
    let moves = plan["moves"].as_array().expect("a list");
    let newcomer = cluster.nodes[3].server.address().to_string();
    assert!(!moves.is_empty() && moves.iter().all(|step| step["to_address"] == newcomer.as_str()), "{moves:?}");
    let written = std::fs::read_to_string(&file).expect("written");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON")["moves"], plan["moves"]);

    let rebalance = [&["rebalance", url.as_str()], &how[..]].concat();
    ballast.refused(2, &rebalance, &["no terminal", "--yes"]).await;
    let done = ballast.json(0, &[&rebalance[..], &["--yes"]].concat()).await;
    assert_eq!((&done["kind"], &done["content"]), (&Value::from("Rebalance"), &Value::from(true)));
    assert_eq!((done["slots_moved"].as_u64(), done["slots_stayed"].as_u64()), (Some(4096), Some(0)));
    assert_eq!(keys(&cluster).await, filled, "every key on one node");
    let check = ballast.json(0, &["check", &url]).await;
    assert!(cluster.nodes.iter().all(|node| slots_of(&check, &node.server) == 4096));

    let plan = ballast.json(0, &[&["plan", url.as_str(), "--detailed-exitcode"], &how[..]].concat()).await;
    assert_eq!(plan["moves"], Value::from(Vec::<Value>::new()));
    ballast.refused(2, &["plan", &url, "--policy", "nosuch"], &["no policy 'nosuch'", "balance"]).await;
}

#[tokio::test]
async fn what_was_planned_and_written_down_is_carried_out_as_it_stands_and_once() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.empty(1))).await;
    let filled = fill(&cluster).await;
    let url = url(&cluster.nodes[0].server);
    let file = ballast.home.path().join("plan.json");
    let file = file.to_str().expect("Unicode");
    let planned = ballast.run(&["plan", &url, "--policy", "slots", "--sample", "1s", "--out", file]).await;
    assert!(planned.err.contains(&format!("`ballast rebalance --plan {file}` carries this out")), "{}", planned.err);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("written")).expect("JSON");
    let moves = written["moves"].as_array().expect("a list").clone();

    let carry_out = ["rebalance", &url, "--sample", "1s", "--yes", "--plan", file];
    let done = ballast.json(0, &carry_out).await;
    assert_eq!((&done["rounds"], &done["policy"]["name"]), (&Value::from(1), &Value::from("slots")));
    assert_eq!(done["slots_moved"].as_u64(), Some(moves.len() as u64), "{done}");
    for step in &moves {
        let slot =
            SlotId::new(step["slot"].as_u64().and_then(|slot| slot.try_into().ok()).expect("small")).expect("a slot");
        let owner = cluster.owner_of(slot).await.expect("a view").expect("an owner");
        assert_eq!(owner.to_string(), step["to"].as_str().expect("an id"), "slot {slot}");
    }
    assert_eq!(keys(&cluster).await, filled, "every key on one node");

    let stale = ["the plan is older than the cluster", "are not where it saw them", "`ballast plan --out FILE`"];
    ballast.refused(2, &carry_out, &stale).await;
    ballast.refused(2, &["rebalance", &url, "--yes", "--plan", "Cargo.toml"], &["Cargo.toml: no plan"]).await;
    ballast.refused(2, &[&carry_out[..], &["--policy", "slots"]].concat(), &["cannot be used with"]).await;
}

#[tokio::test]
async fn reshard_moves_what_it_is_told_and_nothing_else() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let filled = fill(&cluster).await;
    let url = url(&cluster.nodes[0].server);
    let [a, b, c] = [0, 1, 2].map(|place| cluster.nodes[place].server.address().to_string());
    let before = ballast.json(0, &["check", &url]).await;
    let had = [0, 1, 2].map(|place| slots_of(&before, &cluster.nodes[place].server));

    let by_count = ["reshard", &url, "--from", "all", "--to", &c, "--slots", "100", "--yes"];
    let done = ballast.json(0, &by_count).await;
    assert_eq!((&done["kind"], &done["slots_moved"]), (&Value::from("Reshard"), &Value::from(100)));
    let id = cluster.nodes[1].id.to_string();
    let by_range =
        ["reshard", &url, "--from", &a, "--to", &id[..12], "--slots", "1000-1009,1020", "--protocol", "classic"];
    let done = ballast.json(0, &[&by_range[..], &["--yes"]].concat()).await;
    assert_eq!(done["migrations"][0]["protocol"], "classic");
    assert_eq!(done["migrations"][0]["moved"], "1000-1009 1020");
    let check = ballast.json(0, &["check", &url]).await;
    let now = [0, 1, 2].map(|place| slots_of(&check, &cluster.nodes[place].server));
    assert_eq!((now[1] + 50, now[2]), (had[1] + 11, had[2] + 100), "{had:?} {now:?}");
    assert_eq!(keys(&cluster).await, filled);

    let refusals: [(&[&str], &str); 3] = [
        (&["--yes"], "--slots"),
        (&["--slots", "5", "--from", &a, "--to", &a, "--yes"], "cannot give to itself"),
        (&["--slots", "16000-16001", "--from", &a, "--to", &b, "--yes"], "do not own slots 16000-16001"),
    ];
    for (words, reason) in refusals {
        ballast.refused(2, &[&["reshard", url.as_str()], words].concat(), &[reason]).await;
    }
}

#[tokio::test]
async fn a_command_that_was_killed_is_taken_up_by_the_next_one() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let filled = fill(&cluster).await;
    let url = url(&cluster.nodes[0].server);
    let to = cluster.nodes[2].server.address().to_string();
    let manner = ["--protocol", "classic", "--pace", "gentle", "--yes"];
    let why = ["--reason", "a new rack"];
    let words = [&["reshard", &url, "--from", "all", "--to", &to, "--slots", "2000"], &manner[..], &why].concat();

    let mut killed = ballast.command(&words).spawn().expect("it starts");
    // Slots stand open for milliseconds at a time, so most moments to look find none.
    eventually("a slot is open", PATIENCE, async || {
        assert!(killed.try_wait().expect("a process").is_none(), "it ended before a slot was seen open");
        (!cluster.open_slots().await.ok()?.is_empty()).then_some(())
    })
    .await;
    killed.kill().await.expect("killed");
    // The primaries may still disagree for a moment; what is open is ours in any case.
    let plan = ballast.run(&["plan", &url, "--policy", "slots", "--sample", "1s", "-o", "json"]).await;
    assert!(plan.out.contains("\"Plan\"") && !plan.out.contains("\"foreign\""), "{}{}", plan.out, plan.err);

    let ran = ballast.run(&words).await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let whose = ["with 'ballast reshard redis://127.0.0.1:", "(by hand: a new rack) were brought to an end"];
    assert!(whose.iter().all(|words| ran.err.contains(words)), "{}", ran.err);
    assert_eq!(cluster.open_slots().await.expect("a view"), []);
    assert_eq!(keys(&cluster).await, filled, "every key on one node");
    ballast.json(0, &["check", &url]).await;
}

#[tokio::test]
async fn ctrl_z_pauses_with_no_slot_open_and_ctrl_c_ends_what_the_same_command_goes_on_with() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let filled = fill(&cluster).await;
    let url = url(&cluster.nodes[0].server);
    let to = cluster.nodes[2].server.address().to_string();
    let manner = ["--protocol", "classic", "--pace", "gentle", "--yes", "-o", "json"];
    let reshard = |slots: &'static str| {
        [&["reshard", &url, "--from", "all", "--to", &to, "--slots", slots], &manner[..]].concat()
    };
    let owned = async || {
        let view = cluster.view().await.expect("a view");
        view.iter().find(|node| node.id == cluster.nodes[2].id).expect("known").slots.len()
    };
    let had = owned().await;

    let mut child = ballast.command(&reshard("0-1999")).spawn().expect("it starts");
    until_open(&mut child, &cluster).await;
    signal(&child, Signal::SIGTSTP);
    eventually("the process stands still", PATIENCE, async || (state_of(&child) == 'T').then_some(())).await;
    assert_eq!(cluster.open_slots().await.expect("a view"), [], "paused with nothing open");
    let amid = owned().await - had;
    assert!((1..2000).contains(&amid), "amid the moves: {amid}");
    assert_eq!(keys(&cluster).await, filled, "every key on one node");
    assert_eq!((owned().await - had, state_of(&child)), (amid, 'T'), "nothing moves");
    signal(&child, Signal::SIGCONT);
    let (code, done, told) = end_of(child).await;
    assert_eq!((code, done["slots_moved"].as_u64(), &done["stopped"]), (0, Some(2000), &false.into()), "{told}");
    assert!(told.contains("pausing at the next step") && told.contains("going on"), "{told}");

    let mut child = ballast.command(&reshard("2000-3999")).spawn().expect("it starts");
    until_open(&mut child, &cluster).await;
    signal(&child, Signal::SIGINT);
    let (code, done, told) = end_of(child).await;
    let moved = done["slots_moved"].as_u64().expect("a number");
    assert_eq!((code, &done["stopped"]), (4, &true.into()), "{told}");
    assert!((1..2000).contains(&moved), "{done:#}");
    assert!(told.contains(&format!("{moved} of 2000 slots moved")) && told.contains("no slot is left open"), "{told}");
    assert_eq!(cluster.open_slots().await.expect("a view"), []);
    let rest = ballast.json(0, &reshard("2000-3999")[..reshard("2000-3999").len() - 2]).await;
    assert_eq!(rest["slots_moved"].as_u64(), Some(2000 - moved), "the same command goes on");
    assert_eq!((owned().await - had, keys(&cluster).await), (4000, filled));
}

async fn until_open(child: &mut tokio::process::Child, cluster: &LocalCluster) {
    eventually("a slot is open", PATIENCE, async || {
        assert!(child.try_wait().expect("a process").is_none(), "it ended before a slot was seen open");
        (!cluster.open_slots().await.ok()?.is_empty()).then_some(())
    })
    .await;
}

fn pid_of(child: &tokio::process::Child) -> i32 {
    i32::try_from(child.id().expect("it was not waited for")).expect("a process id")
}

fn signal(child: &tokio::process::Child, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid_of(child)), signal).expect("sent");
}

/// The letter that the system has for what a process is at: T when it was stopped.
fn state_of(child: &tokio::process::Child) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid_of(child))).expect("it lives");
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).expect("a state")
}

/// Its exit code, its document, and what it told.
async fn end_of(child: tokio::process::Child) -> (i32, Value, String) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends in time");
    let Output { status, stdout, stderr } = output.expect("it was our child");
    let told = String::from_utf8(stderr).expect("Unicode");
    let document = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (status.code().expect("no signal"), document, told)
}

#[tokio::test]
async fn add_node_takes_empty_nodes_only_and_waits_until_all_agree() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let existing = url(&cluster.nodes[0].server);
    let library = "#!lua name=lib\nserver.register_function('one', function() return 1 end)";
    for node in &cluster.nodes {
        node.server.call(Command::new("FUNCTION LOAD").arg(library)).await.expect("loaded");
    }
    let program = Kind::Valkey91.program().expect("fetched");
    let server = async || Server::start(&program, &ServerSettings::default()).await.expect("started");

    let used = server().await;
    used.call(Command::new("CLUSTER ADDSLOTS 0")).await.expect("taken");
    ballast.refused(2, &["add-node", &url(&used), &existing, "--yes"], &["owns 1 slots", "CLUSTER RESET"]).await;

    let primary = server().await;
    ballast.refused(2, &["add-node", &url(&primary), &existing], &["no terminal", "--yes"]).await;
    let added = ballast.json(0, &["add-node", &url(&primary), &existing, "--yes"]).await;
    assert_eq!((&added["kind"], &added["role"]), (&Value::from("AddNode"), &Value::from("primary")));
    assert_eq!(added["known_by"], 4);
    let called = primary.call(Command::new("FCALL one 0")).await.expect("it has the function");
    assert_eq!(called, Reply::Int(1));

    let replica = server().await;
    let of = primary.address().to_string();
    let added = ballast.json(0, &["add-node", &url(&replica), &existing, "--replica-of", &of, "--yes"]).await;
    assert_eq!(added["role"], "replica");
    let check = ballast.json(0, &["check", &existing]).await;
    assert_eq!(
        (check["primaries"].as_array().map(Vec::len), check["replicas"].as_array().map(Vec::len)),
        (Some(4), Some(1))
    );
    ballast.refused(2, &["add-node", &url(&primary), &existing, "--yes"], &["in this cluster already"]).await;
}

#[tokio::test]
async fn run_serves_its_status_and_ends_in_order() {
    let _turn = turn().await;
    let ballast = Ballast::new();
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let file = ballast.home.path().join("daemon.toml");
    let text = format!(
        "[cluster]\nseeds = [\"{}\"]\n[collect]\ninterval = \"1s\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[state]\ndirectory = \"state\"\n",
        url(&cluster.nodes[0].server)
    );
    std::fs::write(&file, text).expect("written");
    let config = file.to_str().expect("Unicode");
    ballast.refused(1, &["status", "--config", config], &["no status from", "is the daemon running"]).await;

    let mut daemon = ballast.command(&["run", "--config", config]).spawn().expect("it starts");
    let status = eventually("the daemon has ended a cycle", PATIENCE, async || {
        let ran = ballast.run(&["status", "--config", config, "-o", "json"]).await;
        let status: Value = serde_json::from_str(&ran.out).ok()?;
        (ran.code == 0 && !status["last_cycle"].is_null()).then_some(status)
    })
    .await;
    assert_eq!((&status["kind"], &status["mode"]), (&Value::from("Status"), &Value::from("dry-run")));
    let shown = ballast.run(&["status", "--config", config]).await;
    assert!(shown.out.contains("dry-run") && shown.out.contains("last cycle"), "{}", shown.out);

    let pid = i32::try_from(daemon.id().expect("it runs")).expect("a process id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("sent");
    let status = tokio::time::timeout(PATIENCE, daemon.wait()).await.expect("it ends in time").expect("it ended");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_needs_no_cluster_works_without_one() {
    let ballast = Ballast::new();
    let version = ballast.json(0, &["version"]).await;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let contract = ballast.json(0, &["policy", "wit"]).await;
    assert!(contract["wit"].as_str().is_some_and(|wit| wit.contains("package ballast:policy@0.1.0;")), "{contract}");
    let checked = ballast.json(0, &["policy", "check", "slots"]).await;
    assert_eq!((&checked["kind"], &checked["policy"]["name"]), (&Value::from("PolicyCheck"), &Value::from("slots")));
    let broken = ballast.home.path().join("broken.wasm");
    std::fs::write(&broken, "not wasm").expect("written");
    ballast.refused(1, &["policy", "check", broken.to_str().expect("Unicode")], &["error:", "hint:"]).await;

    ballast.refused(2, &["check"], &["no cluster is named", "--config"]).await;
    ballast.refused(1, &["check", "redis://127.0.0.1:1"], &["no node answered", "hint:"]).await;
    ballast.refused(2, &["rebalanec"], &["a similar subcommand exists: 'rebalance'"]).await;
    let file = ballast.home.path().join("daemon.toml");
    std::fs::write(&file, "[limits]\nmin_gian = 1\n").expect("written");
    let place = format!("{}:2:1", file.display());
    let words = ["run", "--config", file.to_str().expect("Unicode")];
    ballast.refused(2, &words, &[&place, "unknown field `min_gian`"]).await;
}
