//! A cluster with keys and a checking load, an engine at work in it, and what has to hold when all is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ballast::clock::now_ms;
use ballast::cluster::Cluster;
use ballast::cluster::live::{Access, LiveCluster};
use ballast::guard::{self, ApprovedPlan, Ledger, Limits};
use ballast::lab::load::{Client, KeySpace, Load, LoadSettings, find_duplicates, verify};
use ballast::lab::{Builder, Kind, LocalCluster, NodeView, Role};
use ballast::migration::{self, Context, Journal, MemoryJournal, Pace, ProtocolChoice, Settings, Stop};
use ballast::model::{
    MigrationReport, Owners, Plan, PolicyId, Primary, ProposedMove, SLOT_COUNT, SlotId, SlotSet, Snapshot,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::toll::Toll;
use super::tripwire::Tripwire;
use crate::support::{chain, start};

/// Keys of a tenant share a slot: so few slots hold so many keys, and every move carries some.
const KEYS: usize = 1500;
const TENANTS: usize = 60;

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
    journal: Arc<MemoryJournal>,
    protocol: ProtocolChoice,
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
    /// A filled cluster of three primaries. `set` says what else it is.
    pub(super) async fn of(Way(kind, protocol): Way, set: impl FnOnce(Builder) -> Builder) -> Self {
        let cluster = start(LocalCluster::of(kind).map(set)).await;
        let client = Arc::new(Client::connect(&cluster.addresses(), None).await.expect("the cluster answers"));
        let keys = Arc::new(KeySpace::of_tenants(KEYS, TENANTS, 1, SlotSet::default()));
        keys.fill(&client).await.expect("the cluster takes writes");
        Self { cluster, client, keys, journal: Arc::default(), protocol }
    }

    /// Writes and reads at a few hundred a second. With `wait_replicas`, only what replicas have counts as acknowledged.
    pub(super) fn load(&self, wait_replicas: u32) -> Load {
        let settings = LoadSettings { rate: 300.0, writes: 0.5, wait_replicas, ..LoadSettings::default() };
        Load::start(self.client.clone(), self.keys.clone(), &settings)
    }

    /// Some slots with keys, and one without, from the primary that has most of them to the one that has fewest.
    pub(super) async fn order(&self, count: usize) -> Order {
        let view = self.cluster.view().await.expect("a view");
        let full: SlotSet = (0..self.keys.len()).map(|key| self.keys.slot(key)).collect();
        let mut primaries: Vec<&NodeView> =
            view.iter().filter(|node| node.role == Role::Primary && !node.slots.is_empty()).collect();
        let held = |node: &NodeView| node.slots.iter().filter(|slot| full.contains(*slot)).collect::<Vec<SlotId>>();
        primaries.sort_by_key(|node| std::cmp::Reverse(held(node).len()));
        let (source, target) = (primaries[0], primaries[primaries.len() - 1]);
        let empty = source.slots.iter().find(|slot| !full.contains(*slot));
        let slots = held(source).into_iter().take(count).chain(empty).collect();
        self.order_of(&view, source, target, slots)
    }

    fn order_of(&self, view: &[NodeView], source: &NodeView, target: &NodeView, slots: SlotSet) -> Order {
        let snapshot = snapshot(view);
        let to = snapshot.index_of(&target.id).expect("a primary");
        let moves = slots.iter().map(|slot| ProposedMove { slot: slot.number(), target: to, reason: "test".into() });
        let plan = Plan {
            policy: PolicyId { name: "test".into(), version: "0".into(), digest: String::new() },
            generation: snapshot.generation,
            moves: moves.collect(),
            summary: String::new(),
            gauges: Vec::new(),
        };
        let limits = Limits::default().for_one_shot();
        let verdict = guard::review(&plan, &snapshot, &limits, &Ledger::default(), now_ms());
        assert_eq!(verdict.refusals, Vec::new());
        let place = |node: &NodeView| self.cluster.nodes.iter().position(|known| known.id == node.id).expect("ours");
        Order { source: place(source), target: place(target), slots, plan: verdict.approved, snapshot }
    }

    /// The engine at work, as a task that can be killed.
    pub(super) fn engine(&self, order: &Order, wire: &Arc<Tripwire>) -> JoinHandle<Vec<MigrationReport>> {
        let (plan, snapshot, context) = (order.plan.clone(), order.snapshot.clone(), self.context(wire.clone()));
        tokio::spawn(async move { migration::execute(plan, &snapshot, &context).await })
    }

    pub(super) fn context(&self, servers: Arc<dyn Cluster>) -> Context {
        Context {
            cluster: servers,
            journal: self.journal.clone(),
            // Gentle has the smallest windows: a few slots make several.
            settings: Settings {
                protocol: self.protocol,
                pace: Pace::Gentle,
                settle_deadline_s: 10,
                ..Settings::default()
            },
            progress: Arc::new(|_| {}),
            stop: Stop::never(),
        }
    }

    /// Recovers until nothing is left to do, as a daemon does cycle by cycle. What only a person may decide is decided.
    pub(super) async fn mend(&self, toll: &mut Toll, story: &str) {
        toll.found_open += self.cluster.open_slots().await.map_or(0, |open| open.len());
        let deadline = Instant::now() + MEND_PATIENCE;
        // As a new process would, without the connections of the old one.
        let context = self.context(Arc::new(LiveCluster::new(Access::default())));
        loop {
            let recovery = migration::recover(&self.cluster.addresses(), &context).await.expect("in memory");
            toll.mended += recovery.settled.len();
            if recovery.is_clear() {
                break;
            }
            let settled = self.journal.unfinished().expect("in memory").is_empty();
            if settled {
                toll.left_to_a_person += recovery.held.len();
                panic!("{story}: a person has to decide: {recovery:?}");
            }
            assert!(Instant::now() < deadline, "{story}: it cannot be mended: {recovery:?}");
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.journal.unfinished().expect("in memory"), Vec::new(), "{story}");
    }

    /// Nothing is open, all agree, every acknowledged write is there, and every key is on exactly one primary.
    pub(super) async fn check(&self, load: Load, clients: Clients, story: &str) {
        self.cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{story}: {}", chain(&error)));
        let report = load.stop().await;
        if clients == Clients::Unharmed {
            assert_eq!((report.failed, report.stale), (0, 0), "{story}: {report:?}");
        }
        assert_eq!(self.cluster.open_slots().await.expect("all answer"), Vec::new(), "{story}");
        let verification =
            verify(&self.client, &self.keys).await.unwrap_or_else(|trouble| panic!("{story}: {trouble}"));
        assert_eq!(verification.lost, 0, "{story}: {verification:?}");
        let placement = find_duplicates(&self.client, &self.keys).await.expect("all answer");
        assert_eq!(placement.single, self.keys.len(), "{story}: {placement:?}");
    }
}

/// What a collector would have seen, as far as the guard and the engine look at it.
fn snapshot(view: &[NodeView]) -> Snapshot {
    let mut seen: Vec<&NodeView> = view.iter().filter(|node| node.role == Role::Primary && node.is_well()).collect();
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    let mut owners = vec![u32::MAX; SLOT_COUNT];
    for (place, node) in (0..).zip(&seen) {
        for slot in &node.slots {
            owners[slot.index()] = place;
        }
    }
    let primary = |node: &&NodeView| Primary {
        id: node.id.clone(),
        address: node.address.clone(),
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
        replicas: Vec::new(),
        owners: Owners::new(owners),
        slot_columns: BTreeMap::new(),
        node_columns: BTreeMap::new(),
        metrics: Vec::new(),
        open_slots: Vec::new(),
        atomic_jobs: Vec::new(),
        in_flight: Vec::new(),
        problems: Vec::new(),
    }
}
