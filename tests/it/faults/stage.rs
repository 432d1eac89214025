//! A cluster with keys and a checking load, an engine at work in it, and what has to hold when all is over.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballast::clock::now_ms;
use ballast::cluster::Command;
use ballast::guard::ApprovedPlan;
use ballast::lab::load::{Client, KeySpace, Load, LoadSettings, find_duplicates, verify};
use ballast::lab::{Detour, Kind, LocalCluster, NodeView, Role, ServerSettings};
use ballast::migration::{self, Context, Journal, MemoryJournal, Pace, ProtocolChoice, Recovery, Settings, Stop};
use ballast::model::{MigrationReport, NodeId, Owners, Primary, SLOT_COUNT, SlotId, SlotSet, Snapshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::person;
use super::toll::Toll;
use super::tripwire::{Diary, Moment, Tripwire};
use crate::scene::approved;
use crate::support::{chain, detours, eventually, start};

/// Keys of a tenant share a slot: so few slots hold so many keys, and every move carries some.
const KEYS: usize = 1500;
const TENANTS: usize = 60;

/// Who does not answer for so long has crashed: nobody is frozen any more.
const CRASH_PATIENCE: Duration = Duration::from_secs(10);

/// Of each server's log, when a story has failed.
const LOG_LINES: usize = 40;

/// How long recovery gets: an election, a settle deadline and a crowded machine.
const MEND_PATIENCE: Duration = Duration::from_secs(120);

/// A server and a way to move slots in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way(pub(super) Kind, pub(super) ProtocolChoice);

/// Every way that the engine has, on the servers that differ in it.
pub(super) const WAYS: [Way; 5] = [
    Way(Kind::Redis70, ProtocolChoice::Classic),
    Way(Kind::Valkey80, ProtocolChoice::Classic),
    Way(Kind::Valkey91, ProtocolChoice::Classic),
    Way(Kind::Valkey91, ProtocolChoice::Auto),
    Way(Kind::Redis86, ProtocolChoice::Auto),
];

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = if self.1 == ProtocolChoice::Classic { "classic" } else { "atomic" };
        write!(f, "{} {protocol}", self.0)
    }
}

pub(super) struct Stage {
    pub(super) cluster: LocalCluster,
    pub(super) client: Arc<Client>,
    pub(super) keys: Arc<KeySpace>,
    /// Of the story that is played now.
    pub(super) diary: Diary,
    /// Of each Ballast that is at work: one, except in stories of two.
    pub(super) journals: Vec<Arc<MemoryJournal>>,
    /// The way of everybody but Ballast to each node, in the order of `cluster.nodes`, where it may be cut.
    pub(super) detours: Vec<Detour>,
    protocol: ProtocolChoice,
    /// What the last order was about.
    last: Mutex<SlotSet>,
}

/// What a cluster is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground {
    /// Of each primary.
    pub(super) replicas: usize,
    pub(super) node_timeout: Duration,
    /// Whether the ways between the nodes may be cut.
    pub(super) cuttable: bool,
}

impl Ground {
    /// With replicas, and a node time-out soon enough that stories with elections do not take for ever, late enough that
    /// a busy machine provokes none.
    pub(super) const ELECTIONS: Self = Self { replicas: 1, node_timeout: Duration::from_secs(3), cuttable: false };
    /// With replicas, and a node time-out longer than any story.
    pub(super) const NO_ELECTIONS: Self = Self { node_timeout: Duration::from_secs(60), ..Self::ELECTIONS };
    /// Without replicas, and a node time-out longer than any story: who dies has to come back.
    pub(super) const ALONE: Self = Self { replicas: 0, ..Self::NO_ELECTIONS };
    /// The same, and the ways between the nodes may be cut.
    pub(super) const CUTTABLE: Self = Self { cuttable: true, ..Self::ALONE };
}

/// A migration that is about to begin.
pub(super) struct Order {
    /// The places of both ends in `cluster.nodes`.
    pub(super) source: usize,
    pub(super) target: usize,
    pub(super) slots: SlotSet,
    plan: ApprovedPlan,
    snapshot: Snapshot,
}

/// What clients may have met in a story that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clients {
    /// Nothing: every request was served, every read showed the last write.
    Unharmed,
    /// Servers were gone for a while; when all is well again, nothing is missing.
    SawFailures,
}

impl Stage {
    /// A filled cluster of three primaries.
    pub(super) async fn of(Way(kind, protocol): Way, Ground { replicas, node_timeout, cuttable }: Ground) -> Self {
        // Valkey 8.0.1 dies of its own statistics soon after a failover (assertion in cluster_slot_stats.c:147).
        let no_statistics = vec!["cluster-slot-stats-enabled".to_owned(), "no".to_owned()];
        let more = if kind == Kind::Valkey80 { vec![no_statistics] } else { Vec::new() };
        // What survives a kill is what is on the disk.
        let settings = ServerSettings { node_timeout, append_only: true, more, ..ServerSettings::default() };
        let cluster = start(LocalCluster::of(kind).map(|builder| builder.replicas(replicas).settings(settings))).await;
        let detours = if cuttable { detours(&cluster).await } else { Vec::new() };
        let client = Arc::new(Client::connect(&cluster.addresses(), None).await.expect("the cluster answers"));
        let keys = Arc::new(KeySpace::of_tenants(KEYS, TENANTS, 1, SlotSet::default()));
        keys.fill(&client).await.expect("the cluster takes writes");
        Self {
            cluster,
            client,
            keys,
            diary: Diary::begin(),
            journals: vec![Arc::default()],
            detours,
            protocol,
            last: Mutex::default(),
        }
    }

    /// Writes and reads at a few hundred a second. With `wait_replicas`, only what replicas have counts as acknowledged.
    pub(super) fn load(&self, wait_replicas: u32) -> Load {
        let settings = LoadSettings { rate: 300.0, writes: 0.5, wait_replicas, ..LoadSettings::default() };
        Load::start(self.client.clone(), self.keys.clone(), &settings)
    }

    /// Waits until every primary has a replica, if it is to have one: after a failover they change shards.
    async fn until_followed(&self) {
        eventually("every primary has a replica", MEND_PATIENCE, async || {
            let view = self.cluster.view().await.ok()?;
            let followed =
                |node: &NodeView| view.iter().any(|other| other.role == Role::Replica(Some(node.id.clone())));
            view.iter().filter(|node| !node.slots.is_empty()).all(followed).then_some(())
        })
        .await;
    }

    /// Some slots with keys, and one without, from the primary that has most of them to the one that has fewest; others
    /// than the last time. (Redis 7.0.15 may lose a slot that goes straight back: `docs/traps.md`, 11.)
    pub(super) async fn order(&self, count: usize) -> Order {
        if self.has_replicas() {
            self.until_followed().await;
        }
        let view = self.cluster.view().await.expect("a view");
        let full: SlotSet = (0..self.keys.len()).map(|key| self.keys.slot(key)).collect();
        let mut primaries: Vec<&NodeView> =
            view.iter().filter(|node| node.role == Role::Primary && !node.slots.is_empty()).collect();
        let held = |node: &NodeView| node.slots.iter().filter(|slot| full.contains(*slot)).collect::<Vec<SlotId>>();
        primaries.sort_by_key(|node| std::cmp::Reverse(held(node).len()));
        let (source, target) = (primaries[0], primaries[primaries.len() - 1]);
        let mut last = self.last.lock().expect("no holder panics");
        let empty = source.slots.iter().find(|slot| !full.contains(*slot) && !last.contains(*slot));
        let others = held(source).into_iter().filter(|slot| !last.contains(*slot));
        *last = others.take(count).chain(empty).collect();
        self.order_of(&view, source, target, last.clone())
    }

    /// How many calls a migration takes when nothing goes wrong.
    pub(super) async fn undisturbed(&self, count: usize) -> usize {
        let wire = self.wire(None);
        let order = self.order(count).await;
        let reports = self.engine(&order, &wire).await.expect("the engine does not panic");
        let moved = reports.iter().flat_map(|report| report.moved.iter()).collect();
        assert_eq!(order.slots, moved, "{reports:?}");
        wire.calls()
    }

    pub(super) fn has_replicas(&self) -> bool {
        self.cluster.nodes.iter().any(|node| node.follows.is_some())
    }

    fn order_of(&self, view: &[NodeView], source: &NodeView, target: &NodeView, slots: SlotSet) -> Order {
        let snapshot = self.snapshot(view);
        let plan = approved(&snapshot, &target.id, &slots);
        let place = |node: &NodeView| self.cluster.nodes.iter().position(|known| known.id == node.id).expect("ours");
        Order { source: place(source), target: place(target), slots, plan, snapshot }
    }

    /// A way to the servers with a wire across one call.
    pub(super) fn wire(&self, at: Option<(usize, Moment)>) -> Arc<Tripwire> {
        Tripwire::at(at, &self.diary)
    }

    /// The engine at work, as a task that can be killed.
    pub(super) fn engine(&self, order: &Order, wire: &Arc<Tripwire>) -> JoinHandle<Vec<MigrationReport>> {
        self.engine_of(0, order, wire)
    }

    /// The same, of the Ballast with that journal.
    pub(super) fn engine_of(
        &self,
        journal: usize,
        order: &Order,
        wire: &Arc<Tripwire>,
    ) -> JoinHandle<Vec<MigrationReport>> {
        let context = self.context(journal, wire.clone());
        let (plan, snapshot) = (order.plan.clone(), order.snapshot.clone());
        tokio::spawn(async move { migration::execute(plan, &snapshot, &context).await })
    }

    fn context(&self, journal: usize, servers: Arc<Tripwire>) -> Context {
        Context {
            cluster: servers,
            journal: self.journals[journal].clone(),
            // Gentle has the smallest windows: a few slots make several.
            settings: Settings {
                protocol: self.protocol,
                pace: Pace::Gentle,
                settle_deadline_s: 10,
                ..Settings::default()
            },
            began_by: "test".into(),
            progress: Arc::new(|_| {}),
            stop: Stop::never(),
        }
    }

    /// Recovers until nothing is left to do, as a daemon does cycle by cycle. What only a person may decide is decided.
    pub(super) async fn mend(&mut self, toll: &mut Toll, story: &str) {
        self.supervise(toll).await;
        toll.found_open += self.cluster.open_slots().await.map_or(0, |open| open.len());
        self.diary.note("recovery begins");
        let deadline = Instant::now() + MEND_PATIENCE;
        let contexts: Vec<Context> = (0..self.journals.len()).map(|each| self.context(each, self.wire(None))).collect();
        loop {
            let mut left: BTreeSet<SlotId> = BTreeSet::new();
            let mut clear = true;
            let mut last = Recovery::default();
            for context in &contexts {
                let recovery = migration::recover(&self.cluster.addresses(), context).await.expect("in memory");
                toll.mended += recovery.settled.len();
                clear &= recovery.is_clear();
                left.extend(recovery.held.iter().map(|(slot, _)| *slot));
                left.extend(recovery.foreign.iter().map(|foreign| foreign.open.slot));
                last = recovery;
            }
            let settled = self.journals.iter().all(|journal| journal.unfinished().expect("in memory").is_empty());
            if clear && settled {
                return;
            }
            // Nobody's to end any more, and open all the same: both nodes hold a live copy of some key, or another tool
            // gave up.
            if settled {
                toll.left_to_a_person += left.len();
                self.diary.note(format_args!("a person decides {left:?}: {last:?}"));
                person::decide(self, &left).await;
            }
            if Instant::now() > deadline {
                self.note_views().await;
                panic!("{story}: it cannot be mended: {last:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts servers again that crashed by themselves, as whoever runs them would.
    async fn supervise(&mut self, toll: &mut Toll) {
        for node in &mut self.cluster.nodes {
            // One that crashed may stand for a while and write its report.
            let answers = timeout(CRASH_PATIENCE, node.server.call(Command::new("PING"))).await;
            if !matches!(answers, Ok(Ok(_))) {
                self.diary.note(format_args!("{} has crashed", node.server.address()));
                toll.crashed += 1;
                node.server.restart().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
            }
        }
    }

    /// Nothing is open, all agree, every acknowledged write is there, and every key is on exactly one primary.
    pub(super) async fn check(&self, load: Load, clients: Clients, toll: &mut Toll, story: &str) {
        if let Err(error) = self.cluster.wait_until_agreed().await {
            self.note_views().await;
            panic!("{story}: {}", chain(&error));
        }
        let report = load.stop().await;
        if clients == Clients::Unharmed {
            assert_eq!((report.failed, report.stale), (0, 0), "{story}: {report:?}");
        }
        let view = self.cluster.view().await.expect("a view");
        let reigns = |id: &NodeId| view.iter().any(|node| node.id == *id && node.role == Role::Primary);
        let open = self.cluster.open_slots().await.expect("all answer");
        let (open, on_replicas): (Vec<_>, Vec<_>) = open.into_iter().partition(|(id, _)| reigns(id));
        assert_eq!(open, Vec::new(), "{story}");
        // A source that comes back as a replica keeps its flags, and takes no word about them (valkey#998).
        assert!(clients == Clients::SawFailures || on_replicas.is_empty(), "{story}: {on_replicas:?}");
        toll.on_replicas += on_replicas.len();
        let verification =
            verify(&self.client, &self.keys).await.unwrap_or_else(|trouble| panic!("{story}: {trouble}"));
        if clients == Clients::SawFailures {
            toll.strays += person::sweep(self).await;
        }
        let placement = find_duplicates(&self.client, &self.keys).await.expect("all answer");
        if (verification.lost, placement.single) != (0, self.keys.len()) {
            self.note_views().await;
            panic!("{story}: {verification:?}; {placement:?}");
        }
    }

    /// What every node says, in the diary.
    async fn note_views(&self) {
        for node in &self.cluster.nodes {
            let nodes = node.server.text(Command::new("CLUSTER NODES")).await.unwrap_or_else(|error| chain(&error));
            let log = std::fs::read_to_string(node.server.directory().join("server.log")).unwrap_or_default();
            // Servers crash, too: their reports end with a long stack.
            let log: Vec<&str> = log.lines().filter(|line| line.contains(" * ") || line.contains(" # ")).collect();
            let said = format!("{nodes}\n{}", log[log.len().saturating_sub(LOG_LINES)..].join("\n"));
            self.diary.note(format_args!("{} says:\n{said}", node.server.address()));
        }
    }

    /// What a collector would have seen, as far as the guard and the engine look at it.
    fn snapshot(&self, view: &[NodeView]) -> Snapshot {
        let mut seen: Vec<&NodeView> =
            view.iter().filter(|node| node.role == Role::Primary && node.is_well()).collect();
        seen.sort_by(|a, b| a.id.cmp(&b.id));
        let mut owners = vec![u32::MAX; SLOT_COUNT];
        for (place, node) in (0..).zip(&seen) {
            for slot in &node.slots {
                owners[slot.index()] = place;
            }
        }
        let primary = |node: &&NodeView| Primary {
            id: node.id.clone(),
            // Its own, whatever it announces.
            address: self.cluster.nodes.iter().find(|known| known.id == node.id).expect("ours").server.address(),
            hostname: None,
            version: String::new(),
            zone: String::new(),
            tags: Vec::new(),
            config_epoch: 0,
        };
        Snapshot {
            generation: 1,
            taken_at_ms: now_ms(),
            window_s: 10,
            primaries: seen.iter().map(primary).collect(),
            owners: Owners::new(owners),
            ..Snapshot::default()
        }
    }
}
