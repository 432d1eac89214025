//! The cluster and its nodes as last seen, as metrics: the numbers that the policy saw.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{CounterVec, Gauge, GaugeVec};

use super::family::Families;
use crate::control::{NodeRow, Scale, node_rows};
use crate::model::{Address, NO_OWNER, Problem, SLOT_COUNT, SlotId, Snapshot, Tag, resource};

/// Slots shown by their load: enough to see a giant one and its kin, few enough for any cluster.
const HOT_SLOTS: usize = 16;
/// What a node can be, by the worst that is known of it.
const STATES: [&str; 4] = ["ok", "loading", "suspect", "offline"];
/// Codes of errors that tell of slots, of fail-overs and of servers in need; there are as many others as modules and scripts invent.
const ERRORS: [&str; 12] = [
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "OOM",
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
];
const OTHER: &str = "other";
/// What is looked at: the cluster as a whole, and its nodes by their role.
pub(super) const SOURCES: [&str; 3] = [CLUSTER, PRIMARY, REPLICA];
pub(super) const CLUSTER: &str = "cluster";
pub(super) const PRIMARY: &str = "primary";
pub(super) const REPLICA: &str = "replica";
const ROLES: [&str; 2] = [PRIMARY, REPLICA];

#[derive(Debug)]
pub(super) struct Nodes {
    up: Gauge,
    members: GaugeVec,
    slots: GaugeVec,
    shards: Gauge,
    shards_desired: Gauge,
    taken_at: Gauge,
    problems: Gauge,
    collect_errors: CounterVec,
    server_errors: CounterVec,
    standby: Gauge,
    hot_slots: GaugeVec,
    /// One for each slot; absent unless they are wanted.
    every_slot: Option<Vec<Gauge>>,
    info: GaugeVec,
    figures: Vec<Figure>,
    /// Nodes that have series, with the labels of their `info`.
    shown: Mutex<BTreeMap<Address, [String; 4]>>,
}

/// A family with the label `node`, perhaps a second fixed label, and what it shows of a node.
#[derive(Debug)]
struct Figure {
    family: GaugeVec,
    second: Option<&'static str>,
    of: fn(&NodeRow) -> Option<f64>,
}

impl Nodes {
    pub(super) fn new(cluster: &Families<'_>) -> Self {
        let nodes = Self {
            up: cluster.gauge("ballast_cluster_up", "Whether the cluster could be seen in the last cycle."),
            members: cluster.gauges("ballast_cluster_nodes", "Nodes, by what they are and do.", &["role", "state"]),
            slots: cluster.gauges(
                "ballast_cluster_slots",
                "Slots: served, of these half-moved (open), and served by nobody (uncovered).",
                &["state"],
            ),
            shards: cluster.gauge("ballast_shards", "Primaries, empty ones included."),
            shards_desired: cluster.gauge(
                "ballast_shards_desired",
                "Primaries that are wanted; one that drains counts until it is empty.",
            ),
            taken_at: cluster.gauge("ballast_snapshot_timestamp_seconds", "When the cluster was last seen, Unix time."),
            problems: cluster.gauge(
                "ballast_cluster_problems",
                "Problems in the last snapshot; those that stop moves show in ballast_plan_moves_rejected_total.",
            ),
            collect_errors: cluster.counters(
                "ballast_collect_errors_total",
                "Looks at the cluster that failed, by what could not be asked.",
                "source",
                SOURCES,
            ),
            server_errors: cluster.counters(
                "ballast_server_errors_total",
                "Errors that primaries replied to anybody, by their code; as the servers count them.",
                "kind",
                ERRORS.into_iter().chain([OTHER]),
            ),
            standby: cluster.gauge("ballast_standby_nodes", "Nodes of the standby pool that are not in the cluster."),
            hot_slots: cluster.gauges(
                "ballast_hot_slot_cpu_seconds_per_second",
                "Load of the sixteen slots that load their primaries most.",
                &["slot"],
            ),
            every_slot: None,
            info: cluster.gauges(
                "ballast_node_info",
                "A primary of the cluster; always 1.",
                &["node", "node_id", "zone", "version"],
            ),
            figures: figures(cluster),
            shown: Mutex::default(),
        };
        nodes.members(&BTreeMap::new());
        nodes
    }

    /// Shows the load of each slot from now on.
    pub(super) fn show_every_slot(&mut self, cluster: &Families<'_>) {
        let family = cluster.gauges("ballast_slot_cpu_seconds_per_second", "Load of a slot on its primary.", &["slot"]);
        self.every_slot = Some(SlotId::all().map(|slot| family.with_label_values(&[&slot.to_string()])).collect());
    }

    /// The cluster could not be seen; what was seen before stays, with its time.
    pub(super) fn unseen(&self) {
        self.up.set(0.0);
        self.collect_errors.with_label_values(&[CLUSTER]).inc();
    }

    /// Shows what was seen.
    pub(super) fn seen(&self, snapshot: &Snapshot) {
        self.up.set(1.0);
        self.taken_at.set(snapshot.taken_at_ms as f64 / 1e3);
        self.problems.set(snapshot.problems.len() as f64);
        for problem in &snapshot.problems {
            match problem {
                Problem::PrimaryUnreachable { .. } => self.collect_errors.with_label_values(&[PRIMARY]).inc(),
                Problem::ReplicaUnreachable { .. } => self.collect_errors.with_label_values(&[REPLICA]).inc(),
                _ => (),
            }
        }
        for (code, count) in &snapshot.errors {
            let kind = if ERRORS.contains(&code.as_str()) { code } else { OTHER };
            self.server_errors.with_label_values(&[kind]).inc_by(*count as f64);
        }
        self.members(&count_members(snapshot));
        self.shards.set(snapshot.primaries.len() as f64);
        let uncovered = snapshot.owners.as_slice().iter().filter(|owner| **owner == NO_OWNER).count();
        let mut open: Vec<_> = snapshot.open_slots.iter().map(|open| open.slot).collect();
        open.sort_unstable();
        open.dedup();
        for (state, count) in [("served", SLOT_COUNT - uncovered), ("open", open.len()), ("uncovered", uncovered)] {
            self.slots.with_label_values(&[state]).set(count as f64);
        }
        self.hot_slots(snapshot);
        self.rows(&node_rows(snapshot));
    }

    /// How many shards are wanted: by what is known between two looks as well.
    pub(super) fn scale(&self, scale: &Scale) {
        self.shards_desired.set(scale.desired_shards as f64);
    }

    /// How many nodes of the standby pool may join.
    pub(super) fn standby(&self, count: usize) {
        self.standby.set(count as f64);
    }

    fn members(&self, counts: &BTreeMap<(&str, &str), u32>) {
        for role in ROLES {
            for state in STATES {
                let count = counts.get(&(role, state)).copied().unwrap_or(0);
                self.members.with_label_values(&[role, state]).set(f64::from(count));
            }
        }
    }

    fn hot_slots(&self, snapshot: &Snapshot) {
        self.hot_slots.reset();
        let Some(load) = snapshot.slot_column(resource::CPU_USEC) else { return };
        for (gauge, usec) in self.every_slot.iter().flatten().zip(load.iter()) {
            gauge.set(usec / 1e6);
        }
        let mut by_load: Vec<(usize, f64)> = load.iter().copied().enumerate().filter(|(_, load)| *load > 0.0).collect();
        by_load.sort_unstable_by(|one, other| other.1.total_cmp(&one.1));
        for (slot, usec) in by_load.into_iter().take(HOT_SLOTS) {
            self.hot_slots.with_label_values(&[&slot.to_string()]).set(usec / 1e6);
        }
    }

    /// Series of nodes that left go; those of nodes that stay are never absent, however a scrape falls.
    fn rows(&self, rows: &[NodeRow]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<Address, [String; 4]> = rows.iter().map(|row| (row.address.clone(), labels(row))).collect();
        for (address, labels) in shown.iter() {
            if now.get(address) != Some(labels) {
                // An error says that there is no such series: then it need not go.
                let _gone = self.info.remove_label_values(labels);
            }
            if !now.contains_key(address) {
                self.figures.iter().for_each(|figure| figure.remove(&address.to_string()));
            }
        }
        for row in rows {
            self.info.with_label_values(&labels(row)).set(1.0);
            self.figures.iter().for_each(|figure| figure.show(row));
        }
        *shown = now;
    }
}

impl Figure {
    fn show(&self, row: &NodeRow) {
        let node = row.address.to_string();
        match (self.of)(row) {
            Some(value) => match self.second {
                Some(second) => self.family.with_label_values(&[node.as_str(), second]).set(value),
                None => self.family.with_label_values(&[&node]).set(value),
            },
            None => self.remove(&node),
        }
    }

    fn remove(&self, node: &str) {
        // An error says that there is no such series: then it need not go.
        let _gone = match self.second {
            Some(second) => self.family.remove_label_values(&[node, second]),
            None => self.family.remove_label_values(&[node]),
        };
    }
}

fn figures(cluster: &Families<'_>) -> Vec<Figure> {
    let plain = |name: &str, help: &str, of: fn(&NodeRow) -> Option<f64>| Figure {
        family: cluster.gauges(name, help, &["node"]),
        second: None,
        of,
    };
    let load = cluster.gauges(
        "ballast_node_load_ratio",
        "Use of a resource, 0 to 1: of the main thread's core, of the memory that there is.",
        &["node", "resource"],
    );
    let network = cluster.gauges(
        "ballast_node_network_bytes_per_second",
        "Bytes to (in) and from (out) a primary's clients.",
        &["node", "direction"],
    );
    let with = |family: &GaugeVec, second, of| Figure { family: family.clone(), second: Some(second), of };
    vec![
        plain("ballast_node_slots", "Slots that a primary serves.", |row| Some(row.slots as f64)),
        plain("ballast_node_keys", "Keys that a primary holds.", |row| row.keys),
        plain("ballast_node_slot_bytes", "Bytes of a primary's slots; estimated where servers do not tell.", |row| {
            row.bytes
        }),
        plain("ballast_node_memory_used_bytes", "Memory that a primary uses.", |row| row.memory_used),
        plain("ballast_node_memory_max_bytes", "Memory that a primary may use; absent when unlimited.", |row| {
            row.memory_max
        }),
        plain("ballast_node_commands_per_second", "Commands that a primary executes.", |row| row.ops),
        plain("ballast_node_replicas", "Replicas in sync with a primary.", |row| row.replicas),
        plain("ballast_node_replication_lag_bytes", "Lag of a primary's slowest replica.", |row| row.replica_lag),
        plain("ballast_node_drain_slots_remaining", "Slots left on a primary that drains; absent for others.", |row| {
            row.tags.contains(&Tag::Draining).then_some(row.slots as f64)
        }),
        plain(
            "ballast_node_safe_to_terminate",
            "1 for a primary that drains and is empty, 0 for one that drains and is not; absent for others.",
            |row| row.tags.contains(&Tag::Draining).then_some(f64::from(u8::from(row.slots == 0))),
        ),
        with(&load, "cpu", |row| row.cpu),
        with(&load, "memory", |row| Some(row.memory_used? / row.memory_max.filter(|max| *max > 0.0)?)),
        with(&network, "in", |row| row.net_in),
        with(&network, "out", |row| row.net_out),
    ]
}

fn labels(row: &NodeRow) -> [String; 4] {
    [row.address.to_string(), row.id.to_string(), row.zone.clone(), row.version.clone()]
}

fn count_members(snapshot: &Snapshot) -> BTreeMap<(&'static str, &'static str), u32> {
    let mut counts = BTreeMap::new();
    for primary in &snapshot.primaries {
        let state = match primary {
            _ if primary.is(Tag::Suspect) => "suspect",
            _ if primary.is(Tag::Loading) => "loading",
            _ => "ok",
        };
        *counts.entry((PRIMARY, state)).or_default() += 1;
    }
    for replica in &snapshot.replicas {
        *counts.entry((REPLICA, if replica.online { "ok" } else { "offline" })).or_default() += 1;
    }
    counts
}
