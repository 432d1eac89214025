//! A cluster with replicas and clients, a daemon at work in it, and what is done to all of them.

use std::sync::Arc;
use std::time::Duration;

use ballast::clock::now_ms;
use ballast::cluster::Command;
use ballast::lab::load::{Client, KeySpace, Load, LoadReport, LoadSettings};
use ballast::lab::{Detour, Kind, LabError, LocalCluster, NodeView, Role, ServerSettings, Traffic};
use ballast::model::{Address, NodeId, SlotId, SlotSet};
use ballast::store::Store;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use super::memory::Scale;
use super::script::{Event, Wishes};
use super::watch::Watch;
use crate::daemon::child::{Daemon, Home, PATIENCE, Settings, embedded_policy, with_remark};
use crate::support::{chain, detours, eventually, start};

pub(super) const KEYS: usize = 6_000;

/// Primaries of the beginning.
const FIRST: usize = 3;

/// Requests per second: what two cores can bear beside nine servers, a daemon, and relays in front of all of them.
const RATE: f64 = 300.0;

/// Longer than any cut, and than a machine that is busy with other things lets a server wait: a primary that was taken for dead stays
/// so for twice as long, and nobody takes over.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);

/// A drain waits for pauses, cuts and failovers to pass, and an emptied node for cycles in which nothing moves.
const DRAIN_PATIENCE: Duration = Duration::from_secs(600);

/// A replica that was told to take over may be refused its votes, and gives up after five seconds.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(10);

/// A migration that is to be killed has to begin within this time; else the daemon is killed where it is.
const MOVING_PATIENCE: Duration = Duration::from_secs(8);

/// Who does not answer for so long has crashed: nobody is frozen.
const CRASH_PATIENCE: Duration = Duration::from_secs(10);

/// A changed file that is not taken up within this time waits for the end of a cycle, which is then cancelled.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

/// After which a person looks at slots that keep everything from moving.
const PERSON: Duration = Duration::from_secs(10);

/// The policies that take turns.
const POLICIES: [&str; 2] = ["slots", "balance"];

pub(super) struct Stage<'h> {
    pub(super) cluster: LocalCluster,
    pub(super) client: Arc<Client>,
    pub(super) keys: Arc<KeySpace>,
    pub(super) load: Load,
    /// Of loads before this one.
    pub(super) reports: Vec<LoadReport>,
    pub(super) watch: Watch,
    pub(super) scale: Scale,
    pub(super) toll: Toll,
    home: &'h Home,
    daemon: Option<Daemon<'h>>,
    /// The way of everybody but the soak to each node, in the order of `cluster.nodes`.
    detours: Vec<Detour>,
    wishes: Wishes,
    /// Files written so far, so that no two are the same.
    written: usize,
    /// Which of the policies decides.
    policy: usize,
    /// A node that is being drained.
    leaver: Option<NodeId>,
    /// Since when nothing has moved because of slots that are open, and not by Ballast.
    held_since: Option<Instant>,
    seed: u64,
}

/// What came about besides events.
#[derive(Debug, Default)]
pub(super) struct Toll {
    pub(super) daemon_starts: usize,
    /// Flags that stood open when a daemon had been killed.
    pub(super) found_open: usize,
    /// Why Ballast halted, each time; it was resumed.
    pub(super) halts: Vec<String>,
    /// Servers that ended by themselves, and were started again.
    pub(super) crashes: usize,
    /// Slots that Ballast left to a person: why nothing moved, which slots, and when they were mended, in Unix milliseconds.
    pub(super) mended: Vec<(String, SlotSet, (u64, u64))>,
    /// Cycles that were cancelled, since a changed file waited for their end.
    pub(super) cancelled: usize,
    /// Failovers that the servers refused, or gave up.
    pub(super) not_succeeded: usize,
    /// Primaries that joined, and were replicas when somebody was to leave.
    pub(super) turned: usize,
}

/// A home for the daemons of a cluster; the configuration is written by the stage.
pub(super) fn home_of(cluster: &LocalCluster) -> Home {
    Home::new(cluster.addresses()[0].clone(), &Settings::default())
}

pub(super) async fn cluster_of(kind: Kind) -> LocalCluster {
    // Replicas take over when they are told to, and else not: what a primary has acknowledged and not replicated is gone in
    // an election, and that is not ours to judge.
    let mut more = vec![["cluster-replica-no-failover", "yes"].map(str::to_owned).to_vec()];
    if kind == Kind::Valkey80 {
        // 8.0.1 dies of its own statistics soon after a failover.
        more.push(["cluster-slot-stats-enabled", "no"].map(str::to_owned).to_vec());
    }
    let settings = ServerSettings { node_timeout: NODE_TIMEOUT, append_only: true, more, ..ServerSettings::default() };
    start(LocalCluster::of(kind).map(|builder| builder.replicas(1).settings(settings))).await
}

impl<'h> Stage<'h> {
    pub(super) async fn set(cluster: LocalCluster, home: &'h Home, seed: u64) -> Self {
        let detours = detours(&cluster).await;
        let client = Arc::new(Client::connect(&cluster.addresses(), None).await.expect("the cluster answers"));
        let hot: SlotSet = "100-131 6000-6007 12000-12001".parse().expect("slots");
        let keys = Arc::new(KeySpace::new(KEYS, seed, hot));
        keys.fill(&client).await.expect("the cluster takes writes");
        let load = Load::start(client.clone(), keys.clone(), &load_settings(seed, 0.8, 0.3));
        let watch = Watch::begin();
        watch.ask(cluster.addresses());
        let mut stage = Self {
            cluster,
            client,
            keys,
            load,
            reports: Vec::new(),
            watch,
            scale: Scale::begin(),
            toll: Toll::default(),
            home,
            daemon: None,
            detours,
            wishes: Wishes::default(),
            written: 0,
            policy: 0,
            leaver: None,
            held_since: None,
            seed,
        };
        stage.write_config();
        stage.start_daemon().await;
        stage
    }

    /// Has the event happen; what came of it, for people.
    pub(super) async fn happen(&mut self, event: &Event) -> String {
        let effect = match event {
            Event::ScaleOut => self.scale_out().await,
            Event::ScaleIn { who } => self.scale_in(*who).await,
            Event::Config { wishes, hup } => self.reconfigure(*wishes, *hup).await,
            Event::BrokenConfig => self.break_config().await,
            Event::Policy => self.other_policy().await,
            Event::BrokenPolicy => self.break_policy().await,
            Event::Kill { amid } => self.kill_daemon(*amid).await,
            Event::Pause { seconds, resumed } => self.pause(*seconds, *resumed).await,
            Event::Failover { who } => self.fail_over(*who).await,
            Event::ReplicaDies { who, ms } => self.kill_replica(*who, *ms).await,
            Event::Breaks { who, ms } => self.cut(*who, *ms, Traffic::Breaks).await,
            Event::Stalls { who, ms } => self.cut(*who, *ms, Traffic::Stalls).await,
            Event::Load { seed, skew, hot_share } => self.other_load(load_settings(*seed, *skew, *hot_share)).await,
        };
        self.supervise().await;
        self.attend().await;
        effect
    }

    pub(super) fn daemon(&self) -> &Daemon<'h> {
        self.daemon.as_ref().expect("one runs between events")
    }

    /// Has everything come to rest: nobody leaves any more, nothing is paused, and the daemon ends in order.
    pub(super) async fn rest(&mut self) {
        self.until_left().await;
        self.say(&["resume", "--reason", "the soak is over"]);
        // What an earlier daemon left open is closed before the first cycle.
        eventually("the daemon has ended a cycle", DRAIN_PATIENCE, async || {
            let status = self.attend().await;
            (status["totals"]["cycles"].as_u64() > Some(0)).then_some(())
        })
        .await;
        self.daemon.take().expect("it runs").stop().await;
        self.supervise().await;
        self.cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    async fn scale_out(&mut self) -> String {
        self.until_left().await;
        let place = self.cluster.join_primary().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let server = &self.cluster.nodes[place].server;
        self.detours.push(Detour::around(server).await.unwrap_or_else(|error| panic!("{}", chain(&error))));
        self.watch.ask(self.cluster.addresses());
        format!("{} joined", self.announced(place))
    }

    async fn scale_in(&mut self, who: usize) -> String {
        self.until_left().await;
        let primaries = self.until_known().await;
        if primaries.len() <= FIRST {
            // One that joined is a primary no more: servers make a replica of whoever loses his last slot, as in a failover amid a move.
            self.toll.turned += 1;
            let view = self.cluster.view().await.expect("a view");
            let seen = |node: &NodeView| {
                format!("{} {:?} {} slots {:?}", node.address, node.role, node.slots.len(), node.flags)
            };
            return format!("nobody can be spared: {}", view.iter().map(seen).collect::<Vec<_>>().join("; "));
        }
        let leaver = &primaries[who % primaries.len()];
        let all = primaries.len();
        self.say(&["drain", leaver.id.as_str(), "--forget", "--reason", "soak"]);
        self.leaver = Some(leaver.id.clone());
        format!("{} is to leave with {} slots, of {all} primaries", leaver.address, leaver.slots.len())
    }

    /// The primaries, once the daemon sees the same ones as the servers: a cycle that moves slots looks again at its end.
    async fn until_known(&self) -> Vec<NodeView> {
        eventually("the daemon knows all primaries", DRAIN_PATIENCE, async || {
            let mut view = self.cluster.view().await.ok()?;
            view.retain(|node| node.role == Role::Primary && node.is_well());
            let status = self.daemon().status().await;
            let rows = status["nodes"].as_array()?;
            let known = |node: &NodeView| rows.iter().any(|row| row["id"] == node.id.as_str());
            (rows.len() == view.len() && view.iter().all(known)).then_some(view)
        })
        .await
    }

    /// Waits until whoever is to leave has left, and switches it off.
    async fn until_left(&mut self) {
        let Some(leaver) = self.leaver.clone() else { return };
        let deadline = Instant::now() + DRAIN_PATIENCE;
        loop {
            let status = self.attend().await;
            let is_it = |row: &Value| row["id"] == leaver.as_str();
            let drains = status["drains"].as_array().is_some_and(|drains| drains.iter().any(is_it));
            if !drains && !status["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(is_it)) {
                break;
            }
            let log = self.daemon().log();
            assert!(Instant::now() < deadline, "{leaver} does not leave: {:#}\n{log}", status["drains"]);
            sleep(Duration::from_millis(100)).await;
        }
        let place = self.place(&leaver);
        let node = self.cluster.nodes.remove(place);
        self.watch.ask(self.cluster.addresses());
        drop((node, self.detours.remove(place)));
        self.leaver = None;
        // Its address is no seed any more.
        self.write_config();
    }

    async fn reconfigure(&mut self, wishes: Wishes, hup: bool) -> String {
        self.wishes = wishes;
        let reload = self.until_reloaded("config", true, |stage| {
            stage.write_config();
            if hup {
                stage.daemon().signal(Signal::SIGHUP);
            }
        });
        reload.await
    }

    async fn break_config(&mut self) -> String {
        let refusal = self
            .until_reloaded("config", false, |stage| {
                stage.home.write_config("mode = \"auto\"\n[cluster]\nseedz = []\n")
            })
            .await;
        self.until_reloaded("config", true, Self::write_config).await;
        refusal
    }

    async fn other_policy(&mut self) -> String {
        self.policy = (self.policy + 1) % POLICIES.len();
        self.until_reloaded("policy", true, Self::put_policy).await
    }

    async fn break_policy(&mut self) -> String {
        let refusal = self.until_reloaded("policy", false, |stage| stage.home.put_policy(b"<html>404</html>")).await;
        self.until_reloaded("policy", true, Self::put_policy).await;
        refusal
    }

    /// Changes a file, and waits until the daemon has taken it, or refused it.
    async fn until_reloaded(&mut self, what: &str, accepted: bool, change: impl FnOnce(&mut Self)) -> String {
        let before = self.daemon().status().await[what]["last_reload"]["at_ms"].clone();
        change(self);
        // A policy is taken up between cycles, and this one may move slots for minutes.
        let soon = timeout(RELOAD_PATIENCE, async {
            while self.daemon().status().await[what]["last_reload"]["at_ms"] == before {
                sleep(Duration::from_millis(25)).await;
            }
        });
        if soon.await.is_err() {
            // Refused when the cycle has just ended.
            let (code, _) = self.daemon().post("/api/v1/cancel", r#"{"reason": "a changed file waits"}"#).await;
            self.toll.cancelled += usize::from(code == 200);
        }
        self.daemon()
            .until("a changed file is taken up", |status| {
                let reload = &status[what]["last_reload"];
                let detail = reload["detail"].as_str()?.lines().next().unwrap_or_default().to_owned();
                (reload["at_ms"] != before && reload["accepted"] == accepted).then_some(detail)
            })
            .await
    }

    async fn kill_daemon(&mut self, amid: bool) -> String {
        if amid {
            let moving = |status: &Value| !status["moving"].is_null();
            // In vain where there is nothing to move.
            let _in_vain = timeout(MOVING_PATIENCE, async {
                while !moving(&self.daemon().status().await) {
                    sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
        self.daemon.take().expect("it runs").kill9().await;
        let open = self.cluster.open_slots().await.expect("all answer").len();
        self.toll.found_open += open;
        self.start_daemon().await;
        format!("{open} flags stood open")
    }

    async fn start_daemon(&mut self) {
        let daemon = self.home.start().await;
        self.toll.daemon_starts += 1;
        self.scale.weigh(daemon.pid());
        self.daemon = Some(daemon);
    }

    async fn pause(&mut self, seconds: u64, resumed: bool) -> String {
        self.say(&["pause", "--for", &format!("{seconds}s"), "--reason", "soak"]);
        let why = self
            .daemon()
            .until("it is paused", |status| (status["mode"] == "paused").then(|| status["mode_reason"].to_string()))
            .await;
        if resumed {
            sleep(Duration::from_secs(seconds) / 2).await;
            self.say(&["resume", "--reason", "soak"]);
        }
        why
    }

    async fn fail_over(&mut self, who: usize) -> String {
        let view = self.cluster.view().await.expect("a view");
        let leads = |id: &NodeId| view.iter().any(|node| node.id == *id && !node.slots.is_empty());
        // Who drains a node does not have it succeeded as well: its drain would end, and its slots stay in its shard.
        let may = |node: &&NodeView| match &node.role {
            Role::Replica(Some(primary)) => node.is_well() && leads(primary) && self.leaver.as_ref() != Some(primary),
            _ => false,
        };
        let replicas: Vec<&NodeView> = view.iter().filter(may).collect();
        let Some(replica) = (!replicas.is_empty()).then(|| replicas[who % replicas.len()]) else {
            self.toll.not_succeeded += 1;
            return "nobody could take over".to_owned();
        };
        let node = &self.cluster.nodes[self.place(&replica.id)];
        let began = Instant::now();
        let succeeded = match node.server.call(Command::new("CLUSTER FAILOVER")).await {
            Err(refusal) => Err(chain(&refusal)),
            Ok(_) => timeout(FAILOVER_PATIENCE, until_primary(node)).await.map_err(|_| "it gave up".to_owned()),
        };
        self.toll.not_succeeded += usize::from(succeeded.is_err());
        match succeeded {
            Ok(()) => format!("{} took over after {} ms", replica.address, began.elapsed().as_millis()),
            Err(why) => format!("{} did not take over: {why}", replica.address),
        }
    }

    async fn kill_replica(&mut self, who: usize, ms: u64) -> String {
        let view = self.cluster.view().await.expect("a view");
        let replicas: Vec<&NodeView> =
            view.iter().filter(|node| node.role != Role::Primary && node.is_well()).collect();
        if replicas.is_empty() {
            return "there is none".to_owned();
        }
        let place = self.place(&replicas[who % replicas.len()].id);
        // It was one a moment ago; nobody fails over meanwhile.
        self.cluster.nodes[place].server.kill9();
        sleep(Duration::from_millis(ms)).await;
        self.restart(place).await;
        format!("{} is back", self.announced(place))
    }

    async fn restart(&mut self, place: usize) {
        let server = &mut self.cluster.nodes[place].server;
        let told = async {
            server.restart().await?;
            self.detours[place].announce(server).await
        };
        told.await.unwrap_or_else(|error: LabError| panic!("{}", chain(&error)));
    }

    async fn cut(&mut self, who: usize, ms: u64, traffic: Traffic) -> String {
        let place = who % self.detours.len();
        self.detours[place].set(traffic);
        sleep(Duration::from_millis(ms)).await;
        self.detours[place].set(Traffic::Flows);
        format!("{} was out of reach", self.announced(place))
    }

    async fn other_load(&mut self, settings: LoadSettings) -> String {
        let next = Load::start(self.client.clone(), self.keys.clone(), &settings);
        let report = std::mem::replace(&mut self.load, next).stop().await;
        let told = format!("{} requests before", report.requests);
        self.reports.push(report);
        told
    }

    /// Starts servers again that crashed by themselves, as whoever runs them would.
    async fn supervise(&mut self) {
        for place in 0..self.cluster.nodes.len() {
            let node = &self.cluster.nodes[place];
            if !matches!(timeout(CRASH_PATIENCE, node.server.call(Command::new("PING"))).await, Ok(Ok(_))) {
                self.toll.crashes += 1;
                self.restart(place).await;
            }
        }
    }

    /// Does what whoever is called by an alert would: resumes a Ballast that has halted, and mends slots that it leaves to a
    /// person. Its status before.
    async fn attend(&mut self) -> Value {
        let status = self.daemon().status().await;
        if status["mode"] == "halted" {
            self.toll.halts.push(status["mode_reason"].as_str().unwrap_or_default().to_owned());
            self.say(&["resume", "--reason", "soak"]);
        }
        let refusals = status["last_cycle"]["refusals"].as_array().into_iter().flatten();
        match refusals
            .filter(|refusal| refusal["check"] == "foreign")
            .map(|refusal| refusal["reason"].to_string())
            .next()
        {
            None => self.held_since = None,
            Some(why) if self.held_since.get_or_insert_with(Instant::now).elapsed() > PERSON => {
                self.fix(why).await;
                self.held_since = None;
            }
            Some(_) => {}
        }
        status
    }

    /// `ballast fix`, as a person does it while the daemon pauses. What was open, what the journal says of it and what is done is
    /// told, since it should not have come to this.
    #[expect(clippy::print_stdout, reason = "what a test tells")]
    async fn fix(&mut self, why: String) {
        let open = self.cluster.open_slots().await.expect("all answer");
        let flags = open.iter().filter_map(|(_, flag)| flag.split_once("->").or_else(|| flag.split_once("-<")));
        let slots: SlotSet = flags.filter_map(|(slot, _)| slot.parse::<SlotId>().ok()).collect();
        println!("           {why}: {open:?}");
        let store = Store::look(&self.home.path().join("state")).expect("the daemon keeps its history there");
        let journal = store.journal(usize::MAX).expect("it can be read");
        let about = journal.iter().filter(|entry| entry.intent.slots.iter().any(|slot| slots.contains(slot)));
        for entry in about.take(3) {
            println!("           {}", serde_json::to_string(entry).expect("JSON"));
        }
        self.say(&["pause", "--reason", "a person mends slots"]);
        let from_ms = now_ms();
        let seed = format!("redis://{}", self.cluster.addresses()[0]);
        let mut fix = std::process::Command::new(env!("CARGO_BIN_EXE_ballast"));
        fix.args(["fix", &seed, "--yes"]).env("XDG_STATE_HOME", self.home.path().join("person"));
        let done = block_in_place(|| fix.output()).expect("it starts");
        println!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        self.say(&["resume", "--reason", "a person has mended slots"]);
        self.toll.mended.push((why, slots, (from_ms, now_ms())));
    }

    fn say(&self, words: &[&str]) {
        block_in_place(|| self.daemon().ballast(words));
    }

    fn place(&self, id: &NodeId) -> usize {
        self.cluster.nodes.iter().position(|node| node.id == *id).expect("it is ours")
    }

    fn announced(&self, place: usize) -> Address {
        Address::new("127.0.0.1", self.detours[place].port())
    }

    fn put_policy(&mut self) {
        self.written += 1;
        let remark = format!("soak {} {}", self.seed, self.written);
        self.home.put_policy(&with_remark(embedded_policy(POLICIES[self.policy]), &remark));
    }

    fn write_config(&mut self) {
        self.written += 1;
        let seeds: Vec<String> =
            (0..self.detours.len()).map(|place| format!("\"redis://{}\"", self.announced(place))).collect();
        let Wishes { interval_ms, pace, protocol, moves, heavy } = self.wishes;
        let weighs = |who: usize| {
            let node = self.announced(who % self.detours.len());
            format!("[[node]]\nmatch = \"{node}\"\nweight = 2.0")
        };
        // Moves to and fro are what the events ask for: no halt for them, and no rest in between.
        self.home.write_config(&format!(
            r#"
            # The {written}th.
            mode = "auto"
            [cluster]
            name = "soak"
            seeds = [{seeds}]
            [collect]
            interval = "{interval_ms}ms"
            fast_half_life = "5s"
            slow_half_life = "20s"
            [policy]
            file = "policy/policy.wasm"
            [limits]
            max_moves_per_cycle = {moves}
            max_moves_per_node = {moves}
            max_moves_per_hour = 100000000
            max_moves_per_day = 100000000
            slot_cool_down = "0s"
            pair_cool_down = "0s"
            return_cycles = 0
            [migration]
            protocol = "{protocol}"
            pace = "{pace}"
            [scaling]
            cpu_max = 1.0
            memory_max = 1.0
            [http]
            listen = "127.0.0.1:0"
            [log]
            format = "json"
            [state]
            directory = "state"
            {heavy}
            "#,
            heavy = heavy.map(weighs).unwrap_or_default(),
            written = self.written,
            seeds = seeds.join(", "),
        ));
    }
}

async fn until_primary(node: &ballast::lab::Node) {
    eventually("it is a primary", PATIENCE, async || {
        let view = node.view().await.ok()?;
        view.iter().any(|seen| seen.id == node.id && seen.role == Role::Primary).then_some(())
    })
    .await;
}

fn load_settings(seed: u64, skew: f64, hot_share: f64) -> LoadSettings {
    LoadSettings { rate: RATE, writes: 0.5, scripts: 0.1, seed, skew, hot_share, ..LoadSettings::default() }
}

/// The clock of whoever reads the lines of a soak.
pub(super) fn since(began_ms: u64) -> f64 {
    now_ms().saturating_sub(began_ms) as f64 / 1000.0
}
