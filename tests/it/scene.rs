//! A cluster with keys in which slots are migrated, for the stories about migrations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ballast::clock::now_ms;
use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Command, Reply};
use ballast::guard::{self, ApprovedPlan, Ledger, Limits};
use ballast::lab::{Link, LocalCluster, Node, NodeView};
use ballast::migration::{self, Context, MemoryJournal, Pace, ProtocolChoice, Settings, Stop};
use ballast::model::{
    MigrationReport, NodeId, Owners, Plan, PolicyId, Primary, ProposedMove, Replica, SLOT_COUNT, SlotId, SlotSet,
    Snapshot,
};

use crate::support::chain;

/// Keys spread over all slots; a third of them lies on the source.
pub(crate) const KEYS: usize = 12_000;

/// A cluster with keys, and what it takes to migrate in it.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a LocalCluster,
    pub(crate) context: Context,
    /// Every one of them holds the same keys.
    pub(crate) databases: u32,
}

impl<'a> Scene<'a> {
    pub(crate) async fn new(cluster: &'a LocalCluster, protocol: ProtocolChoice) -> Self {
        let context = Context {
            cluster: Arc::new(LiveCluster::new(Access::default())),
            journal: Arc::new(MemoryJournal::default()),
            settings: Settings { protocol, pace: Pace::Default, settle_deadline_s: 5, ..Settings::default() },
            began_by: "test".into(),
            progress: Arc::new(|_| {}),
            stop: Stop::never(),
        };
        Self { cluster, context, databases: 1 }
    }

    /// Puts every key where it belongs.
    pub(crate) async fn fill(&self) {
        let view = self.cluster.view().await.expect("a view");
        for node in self.cluster.nodes.iter().filter(|node| node.follows.is_none()) {
            let slots = &view.iter().find(|seen| seen.id == node.id).expect("known").slots;
            let mine = (0..KEYS).filter(|n| slots.contains(SlotId::of_key(key(*n).as_bytes())));
            let commands: Vec<Command> = mine.map(|n| Command::new("SET").arg(key(n)).arg("first")).collect();
            for database in 0..self.databases {
                let link = link_to(node, database).await;
                for batch in commands.chunks(1000) {
                    let replies = link.call(batch, Duration::from_secs(10)).await.expect("replies");
                    assert!(replies.iter().all(|reply| !matches!(reply, Reply::Error(_))));
                }
            }
        }
    }

    pub(crate) async fn slots_of(&self, place: usize) -> SlotSet {
        let view = self.cluster.nodes[place].view().await.expect("a view");
        view.into_iter().find(|node| node.id == self.cluster.nodes[place].id).expect("itself").slots
    }

    pub(crate) async fn migrate(&self, to: usize, slots: &SlotSet) -> MigrationReport {
        let (plan, snapshot) = self.plan(to, slots).await;
        let mut reports = migration::execute(plan, &snapshot, &self.context).await;
        let mut whole = reports.remove(0);
        for part in reports {
            whole.moved = whole.moved.iter().chain(&part.moved).collect();
            whole.stayed.extend(part.stayed);
            whole.keys += part.keys;
        }
        whole
    }

    /// A plan that went through the guard, as every plan has to.
    pub(crate) async fn plan(&self, to: usize, slots: &SlotSet) -> (ApprovedPlan, Snapshot) {
        let snapshot = self.snapshot().await;
        // The guard's own tests show it refusing open slots; here the engine must.
        (approved(&snapshot, &self.cluster.nodes[to].id, slots), snapshot)
    }

    async fn snapshot(&self) -> Snapshot {
        let view = self.cluster.view().await.expect("a view");
        let mut primaries: Vec<Primary> = self
            .cluster
            .nodes
            .iter()
            .filter(|node| node.follows.is_none())
            .map(|node| Primary {
                id: node.id.clone(),
                address: node.server.address(),
                hostname: None,
                version: String::new(),
                zone: String::new(),
                tags: Vec::new(),
                config_epoch: 0,
            })
            .collect();
        primaries.sort_by(|a, b| a.id.cmp(&b.id));
        let place = |id: &NodeId| {
            primaries.iter().position(|primary| primary.id == *id).and_then(|place| u32::try_from(place).ok())
        };
        let mut owners = vec![u32::MAX; SLOT_COUNT];
        for seen in &view {
            for slot in &seen.slots {
                owners[slot.index()] = place(&seen.id).expect("a primary");
            }
        }
        let replicas = self.cluster.nodes.iter().filter_map(|replica| {
            let of = place(&self.cluster.nodes[replica.follows?].id);
            let address = replica.server.address();
            Some(Replica { id: replica.id.clone(), address, hostname: None, of, online: true, version: String::new() })
        });
        Snapshot {
            generation: 1,
            taken_at_ms: now_ms(),
            window_s: 10,
            replicas: replicas.collect(),
            primaries,
            owners: Owners::new(owners),
            ..Snapshot::default()
        }
    }

    /// Writes to keys of `slots` for as long as it is not told to stop, as a client does: it follows MOVED and ASK.
    /// What it returns was acknowledged.
    pub(crate) fn write_meanwhile(
        &self,
        slots: SlotSet,
    ) -> (Arc<AtomicBool>, tokio::task::JoinHandle<BTreeMap<String, String>>) {
        let stop = Arc::new(AtomicBool::new(false));
        let nodes: Vec<_> = self.cluster.nodes.iter().map(|node| node.server.address()).collect();
        let asked = stop.clone();
        let task = tokio::spawn(async move {
            let live = LiveCluster::new(Access::default());
            let mut acknowledged = BTreeMap::new();
            let keys: Vec<String> =
                (0..KEYS).map(key).filter(|key| slots.contains(SlotId::of_key(key.as_bytes()))).collect();
            let mut home: BTreeMap<SlotId, usize> = BTreeMap::new();
            for round in 0.. {
                for key in &keys {
                    if asked.load(Ordering::Relaxed) {
                        return acknowledged;
                    }
                    let value = format!("written-{round}");
                    if write(&live, &nodes, &mut home, key, &value).await {
                        acknowledged.insert(key.clone(), value);
                    }
                }
            }
            acknowledged
        });
        (stop, task)
    }

    /// No slot is open, every slot has one owner, all agree, and every key is on its owner and nowhere else.
    pub(crate) async fn check_settled(&self) {
        self.cluster.wait_until_agreed().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(self.cluster.open_slots().await.expect("asked"), Vec::new());
        let view = self.cluster.view().await.expect("a view");
        for database in 0..self.databases {
            let mut seen = BTreeSet::new();
            for node in self.cluster.nodes.iter().filter(|node| node.follows.is_none()) {
                let replies =
                    link_to(node, database).await.call(&[Command::new("KEYS *")], Duration::from_secs(5)).await;
                let Ok([Reply::List(keys)]) = replies.as_deref() else { panic!("a list, not {replies:?}") };
                for key in keys {
                    let key = key.clone().text().expect("a key");
                    assert_eq!(owner(&view, &key), Some(&node.id), "{key} is astray");
                    assert!(seen.insert(key.clone()), "{key} is on two nodes");
                }
            }
            let missing = (0..KEYS).filter(|n| !seen.contains(&key(*n))).count();
            assert_eq!(missing, 0, "keys of database {database} are gone");
        }
    }

    pub(crate) async fn check_values(&self, written: &BTreeMap<String, String>) {
        assert!(written.len() > 10, "the writer wrote");
        let view = self.cluster.view().await.expect("a view");
        for (key, value) in written {
            let node = self.cluster.nodes.iter().find(|node| Some(&node.id) == owner(&view, key)).expect("ours");
            assert_eq!(&node.server.text(Command::new("GET").arg(key)).await.expect("a value"), value, "{key}");
        }
    }
}

/// A plan for `slots` to go to `target`, as the guard approves it.
pub(crate) fn approved(snapshot: &Snapshot, target: &NodeId, slots: &SlotSet) -> ApprovedPlan {
    let target = snapshot.index_of(target).expect("a primary");
    let moves = slots.iter().map(|slot| ProposedMove { slot: slot.number(), target, reason: "test".into() });
    let plan = Plan {
        policy: PolicyId { name: "test".into(), version: "0".into(), digest: String::new() },
        generation: snapshot.generation,
        moves: moves.collect(),
        summary: String::new(),
        gauges: Vec::new(),
    };
    let verdict = guard::review(&plan, snapshot, &Limits::default().for_one_shot(), &Ledger::default(), now_ms());
    assert_eq!(verdict.refusals, Vec::new());
    verdict.approved
}

/// A connection that speaks to one database of a node.
pub(crate) async fn link_to(node: &Node, database: u32) -> Link {
    let link = node.server.link().await.expect("a link");
    if database > 0 {
        let replies = link.call(&[Command::new("SELECT").arg(database)], Duration::from_secs(5)).await;
        assert!(matches!(replies.as_deref(), Ok([Reply::Bytes(ok)]) if ok == b"OK"), "{replies:?}");
    }
    link
}

/// One write, as a cluster client makes it. Whether it was acknowledged.
async fn write(
    live: &LiveCluster,
    nodes: &[ballast::model::Address],
    home: &mut BTreeMap<SlotId, usize>,
    key: &str,
    value: &str,
) -> bool {
    use ballast::cluster::{Cluster, Lane};
    let slot = SlotId::of_key(key.as_bytes());
    let mut asking = false;
    let mut place = *home.entry(slot).or_insert(0);
    // Nobody serves a slot for as long as nodes do not agree, which takes what the machine takes.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let set = Command::new("SET").arg(key).arg(value);
        let commands = if asking { vec![Command::new("ASKING"), set] } else { vec![set] };
        let Ok(mut replies) = live.call(&nodes[place], Lane::Control, &commands, Duration::from_secs(5)).await else {
            return false;
        };
        match replies.pop() {
            Some(Reply::Error(error)) if error.code == "MOVED" || error.code == "ASK" => {
                let to = error.message.rsplit(' ').next().unwrap_or_default();
                place = nodes.iter().position(|node| node.to_string() == to).expect("one of ours");
                asking = error.code == "ASK";
                if !asking {
                    home.insert(slot, place);
                }
            }
            Some(Reply::Error(error)) if error.code == "TRYAGAIN" || error.code == "CLUSTERDOWN" => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Some(Reply::Bytes(_)) => return true,
            other => panic!("SET was answered {other:?}"),
        }
    }
    panic!("{key} was redirected for ten seconds");
}

fn owner<'a>(view: &'a [NodeView], key: &str) -> Option<&'a NodeId> {
    let slot = SlotId::of_key(key.as_bytes());
    view.iter().find(|node| node.slots.contains(slot)).map(|node| &node.id)
}

fn key(n: usize) -> String {
    format!("key:{n}")
}
