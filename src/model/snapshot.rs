//! What was seen of a cluster at one instant, with its problems.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::plan::Move;
use super::slot::{SLOT_COUNT, SlotId, SlotSet};
use super::topology::{Address, NodeId, OpenSlot};

/// Names of the columns that a policy may ask for. They are public interface: a name never changes its meaning.
///
/// Slot columns hold one number per slot. Those ending in `-usec`, `-in`, `-out` are rates per second over the
/// snapshot's window, smoothed (fast EWMA); each rate also has `NAME/variance` (of the smoothed estimate's samples,
/// unit squared) and `NAME/slow` (slow EWMA). Node columns hold one number per primary, NaN where unknown.
pub mod resource {
    /// Slot: microseconds of the server's main thread per second.
    pub const CPU_USEC: &str = "cpu-usec";
    /// Slot: bytes of memory, keys and values with their overhead.
    pub const BYTES: &str = "bytes";
    /// Slot: how many keys.
    pub const KEYS: &str = "keys";
    /// Slot and node: bytes received per second.
    pub const NET_IN: &str = "net-in";
    /// Slot and node: bytes sent per second.
    pub const NET_OUT: &str = "net-out";
    /// Node: share of one core that the main thread uses, 0 to 1.
    pub const CPU: &str = "cpu";
    /// Node: commands per second.
    pub const OPS: &str = "ops";
    /// Node: bytes of memory in use.
    pub const MEMORY_USED: &str = "memory-used";
    /// Node: `maxmemory` in bytes, or what the operator says the node has; NaN when neither is known.
    pub const MEMORY_MAX: &str = "memory-max";
    /// Node: the operator's weight of a node, 1 unless configured.
    pub const WEIGHT: &str = "weight";
    /// Node: how many replicas are connected and in sync.
    pub const REPLICAS: &str = "replicas";
    /// Node: the largest replication lag among its replicas, in bytes.
    pub const REPLICA_LAG: &str = "replica-lag";
    /// Node: round trip of our own probe, in microseconds.
    pub const PROBE_USEC: &str = "probe-usec";
}

/// [`SLOT_COUNT`] numbers, by slot; shared, since every cycle hands them to policy, guard and page.
pub type Column = Arc<[f64]>;

/// A primary's place in [`Snapshot::primaries`]; policies name nodes by it.
pub type NodeIndex = u32;

/// In [`Owners`]: nobody serves the slot.
pub const NO_OWNER: NodeIndex = u32::MAX;

/// Who serves each slot.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners(Arc<[NodeIndex]>);

/// Nobody serves any slot.
impl Default for Owners {
    fn default() -> Self {
        Self::new(vec![NO_OWNER; SLOT_COUNT])
    }
}

impl Owners {
    /// Owners by slot; `by_slot` has [`SLOT_COUNT`] entries, [`NO_OWNER`] where nobody serves the slot.
    ///
    /// # Panics
    /// When the length is another one: that is a bug of the caller.
    #[must_use]
    pub fn new(by_slot: Vec<NodeIndex>) -> Self {
        assert_eq!(by_slot.len(), SLOT_COUNT, "one owner per slot");
        Self(by_slot.into())
    }

    /// The primary that serves `slot`.
    #[must_use]
    pub fn get(&self, slot: SlotId) -> Option<NodeIndex> {
        Some(self.0[slot.index()]).filter(|owner| *owner != NO_OWNER)
    }

    /// All entries, by slot, [`NO_OWNER`] where nobody serves it.
    #[must_use]
    pub fn as_slice(&self) -> &[NodeIndex] {
        &self.0
    }
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owners({} slots)", self.0.iter().filter(|owner| **owner != NO_OWNER).count())
    }
}

/// One number per primary; NaN where it is unknown (written as `null`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Option<f64>>", into = "Vec<Option<f64>>")]
pub struct NodeColumn(pub Vec<f64>);

impl From<Vec<Option<f64>>> for NodeColumn {
    fn from(values: Vec<Option<f64>>) -> Self {
        Self(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}

impl From<NodeColumn> for Vec<Option<f64>> {
    fn from(column: NodeColumn) -> Self {
        column.0.into_iter().map(|value| value.is_finite().then_some(value)).collect()
    }
}

/// A fact about a primary that policies read as text. The set is open: policies ignore what they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// Every node in the list has it.
    Primary,
    /// Owns no slot.
    Empty,
    /// Gets nothing more.
    Cordoned,
    /// Must be emptied.
    Draining,
    /// Is still reading its data set.
    Loading,
    /// Some node cannot reach it, or we cannot.
    Suspect,
}

impl Tag {
    /// The tag as policies and people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Empty => "empty",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Loading => "loading",
            Self::Suspect => "suspect",
        }
    }
}

/// A primary of the cluster, empty ones included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Primary {
    /// Who.
    pub id: NodeId,
    /// Where clients reach it.
    pub address: Address,
    /// What it announces as its host name (`cluster-announce-hostname`), if it does.
    #[serde(default)]
    pub hostname: Option<String>,
    /// `redis 7.0.15`, `valkey 9.1.0`; empty while it has not answered.
    pub version: String,
    /// Failure domain; empty when unknown.
    pub zone: String,
    /// What else is to know, sorted.
    pub tags: Vec<Tag>,
    /// The epoch of its slot claims.
    pub config_epoch: u64,
}

impl Primary {
    /// Whether the primary carries `tag`.
    #[must_use]
    pub fn is(&self, tag: Tag) -> bool {
        self.tags.contains(&tag)
    }

    /// The name of its machine, as far as that is known.
    #[must_use]
    pub fn host(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.address.host)
    }

    /// Whether a person who says `name` means it.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        means(name, &self.id, self.hostname.as_deref(), &self.address)
    }
}

/// Whether a person who says `name` means this node: by its address, its id or the beginning of it, or its host name, with the port or
/// without.
pub(crate) fn means(name: &str, id: &NodeId, hostname: Option<&str>, address: &Address) -> bool {
    let by_host = |host: &str| name == host || name == format!("{host}:{}", address.port);
    id.is_meant(name, address) || hostname.is_some_and(by_host)
}

/// A replica of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Who.
    pub id: NodeId,
    /// Where clients reach it.
    pub address: Address,
    /// What it announces as its host name, if it does.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The primary that it follows, if it is one of [`Snapshot::primaries`].
    pub of: Option<NodeIndex>,
    /// Whether its link to the primary is up.
    pub online: bool,
    /// `redis 7.0.15`, `valkey 9.1.0`; empty while it has not answered.
    pub version: String,
}

impl Replica {
    /// Whether a person who says `name` means it.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        means(name, &self.id, self.hostname.as_deref(), &self.address)
    }
}

/// An atomic slot migration that a server reports as unfinished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtomicJob {
    /// The server's name for the job.
    pub name: String,
    /// The node that reported it.
    pub node: NodeId,
    /// The slots that it moves.
    pub slots: SlotSet,
    /// The server's word for its state.
    pub state: String,
}

/// Where a column's numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricSource {
    /// Servers counted it.
    Measured,
    /// We apportioned a node's total by samples: see the metric's confidence.
    Estimated,
}

/// What a column means and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricInfo {
    /// `slot/cpu-usec`, `node/memory-used`.
    pub name: String,
    /// Unit of each number.
    pub unit: String,
    /// One line for people.
    pub help: String,
    /// Measured or estimated; estimated as soon as one primary's part is.
    pub source: MetricSource,
    /// 0 (a guess) to 1 (counted).
    pub confidence: f64,
}

/// Something about the cluster that a person may have to know. Those that [`Problem::blocks_moves`] stop all moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "problem")]
pub enum Problem {
    /// We could not ask a primary.
    PrimaryUnreachable {
        /// Where it should answer.
        node: Address,
        /// What went wrong.
        detail: String,
    },
    /// We could not ask a replica; its shard has less redundancy than it seems.
    ReplicaUnreachable {
        /// Where it should answer.
        node: Address,
        /// What went wrong.
        detail: String,
        /// Whether primaries see it as failed.
        #[serde(default)]
        failed: bool,
    },
    /// A node sees another one as failed or possibly failed.
    NodeSuspected {
        /// The suspect.
        node: Address,
        /// Who says so.
        by: Address,
        /// `fail` rather than `fail?`.
        failed: bool,
    },
    /// A server is still reading its data set.
    NodeLoading {
        /// Which.
        node: Address,
    },
    /// Two primaries tell different stories about who owns some slots.
    Disagreement {
        /// One.
        node: Address,
        /// The other.
        other: Address,
        /// The slots that they see differently.
        slots: SlotSet,
    },
    /// Nobody serves these slots.
    SlotsUncovered {
        /// Which.
        slots: SlotSet,
    },
    /// Slots are half-moved: flags stand on a node. Whether they are ours, the journal says.
    SlotsOpen {
        /// The node with the flags.
        node: Address,
        /// Which slots.
        slots: SlotSet,
    },
    /// A member that some node does not know, or knows without address or in handshake.
    UnknownNode {
        /// Its id.
        node: NodeId,
        /// Who does not know it (yet, or any more).
        by: Address,
    },
    /// A member that owns no slot has failed. It is no longer counted as a primary; it may return, or be forgotten.
    MemberFailed {
        /// Its id; absent in what older versions kept.
        #[serde(default)]
        id: Option<NodeId>,
        /// Where it should answer.
        node: Address,
        /// Who says so.
        by: Address,
    },
    /// Two primaries have the same config epoch: a slot conflict between them has no winner yet.
    EpochCollision {
        /// One.
        node: Address,
        /// The other.
        other: Address,
        /// The epoch.
        epoch: u64,
    },
    /// A server does not count load per slot; its columns are estimated.
    SlotStatsOff {
        /// Which.
        node: Address,
        /// How to turn them on, or why that cannot be.
        detail: String,
    },
    /// Rates need two looks at the counters; there was one so far.
    WarmingUp,
}

impl Problem {
    /// Whether no slot may move while this lasts.
    #[must_use]
    pub const fn blocks_moves(&self) -> bool {
        match self {
            Self::PrimaryUnreachable { .. }
            | Self::NodeLoading { .. }
            | Self::Disagreement { .. }
            | Self::SlotsUncovered { .. }
            | Self::EpochCollision { .. }
            | Self::NodeSuspected { .. }
            | Self::UnknownNode { .. }
            | Self::WarmingUp => true,
            // Open slots stop moves only when they are not ours: the guard asks the journal.
            Self::SlotsOpen { .. }
            | Self::ReplicaUnreachable { .. }
            | Self::MemberFailed { .. }
            | Self::SlotStatsOff { .. } => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrimaryUnreachable { node, detail } => write!(f, "primary {node} cannot be reached: {detail}"),
            Self::ReplicaUnreachable { node, detail, .. } => write!(f, "replica {node} cannot be reached: {detail}"),
            Self::NodeSuspected { node, by, failed: true } => write!(f, "{by} sees {node} as failed"),
            Self::NodeSuspected { node, by, failed: false } => write!(f, "{by} cannot reach {node}"),
            Self::NodeLoading { node } => write!(f, "{node} is still loading its data set"),
            Self::Disagreement { node, other, slots } => write!(f, "{node} and {other} disagree about slots {slots}"),
            Self::SlotsUncovered { slots } => write!(f, "nobody serves slots {slots}"),
            Self::SlotsOpen { node, slots } => write!(f, "slots {slots} are open on {node}"),
            Self::UnknownNode { node, by } => write!(f, "{by} does not know the address of node {}", node.short()),
            Self::MemberFailed { node, by, .. } => write!(f, "{by} sees {node}, which owns no slot, as failed"),
            Self::EpochCollision { node, other, epoch } => write!(f, "{node} and {other} share config epoch {epoch}"),
            Self::SlotStatsOff { node, detail } => write!(f, "{node} does not count load per slot: {detail}"),
            Self::WarmingUp => f.write_str("counters were read once so far; rates need two looks"),
        }
    }
}

/// Everything that was seen at one instant. What a policy decides by, and what a replay needs. By default, nothing was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts snapshots since the daemon started.
    pub generation: u64,
    /// Unix time, milliseconds.
    pub taken_at_ms: u64,
    /// Seconds over which rates were measured; 0 while there are none.
    pub window_s: u32,
    /// Primaries, ordered by id, so that an index means the same node in the next snapshot of an unchanged cluster.
    pub primaries: Vec<Primary>,
    /// Replicas, ordered by id.
    pub replicas: Vec<Replica>,
    /// Who serves each slot.
    pub owners: Owners,
    /// By name: see [`resource`].
    pub slot_columns: BTreeMap<String, Column>,
    /// By name: see [`resource`].
    pub node_columns: BTreeMap<String, NodeColumn>,
    /// What the columns mean.
    pub metrics: Vec<MetricInfo>,
    /// Errors that primaries replied since the look before, by code such as `MOVED` or `TRYAGAIN`.
    #[serde(default)]
    pub errors: BTreeMap<String, u64>,
    /// Every importing or migrating flag on any node.
    pub open_slots: Vec<OpenSlot>,
    /// Every unfinished atomic migration on any node.
    pub atomic_jobs: Vec<AtomicJob>,
    /// Moves that Ballast has begun and not finished; `owners` may still show the old owner.
    pub in_flight: Vec<Move>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Why a name means no primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPrimary {
    /// Ids of several begin so.
    Several,
    /// It is a replica.
    Replica,
    /// No node is called so.
    Nobody,
}

impl Snapshot {
    /// The place of the primary with this id.
    #[must_use]
    pub fn index_of(&self, id: &NodeId) -> Option<NodeIndex> {
        let place = self.primaries.binary_search_by(|primary| primary.id.cmp(id)).ok()?;
        u32::try_from(place).ok()
    }

    /// Every node, with where it is reached: primaries, then replicas.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Address)> {
        let primaries = self.primaries.iter().map(|node| (&node.id, &node.address));
        primaries.chain(self.replicas.iter().map(|node| (&node.id, &node.address)))
    }

    /// The flags that mean something to clients: those of primaries. A replica of Valkey may keep one whose slot is long closed, and
    /// takes no word about it (docs/traps.md, 10).
    pub fn flags_of_primaries(&self) -> impl Iterator<Item = &OpenSlot> {
        self.open_slots.iter().filter(|open| self.index_of(&open.node).is_some())
    }

    /// The primary with this id.
    #[must_use]
    pub fn primary(&self, id: &NodeId) -> Option<&Primary> {
        self.index_of(id).map(|index| &self.primaries[index as usize])
    }

    /// The place of the primary that a person calls `name`: its address, its id or the beginning of that.
    ///
    /// # Errors
    /// [`NoPrimary`] when that means none, or several.
    pub fn primary_called(&self, name: &str) -> Result<NodeIndex, NoPrimary> {
        let mut found = (0..).zip(&self.primaries).filter(|(_, node)| node.is_called(name));
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => Err(NoPrimary::Several),
            (None, _) if self.replicas.iter().any(|node| node.is_called(name)) => Err(NoPrimary::Replica),
            (None, _) => Err(NoPrimary::Nobody),
        }
    }

    /// Whether this member owns nothing and is seen as failed.
    #[must_use]
    pub fn has_failed(&self, node: &NodeId) -> bool {
        let replica = self.replicas.iter().find(|replica| replica.id == *node).map(|replica| &replica.address);
        self.problems.iter().any(|problem| match problem {
            Problem::MemberFailed { id, .. } => id.as_ref() == Some(node),
            Problem::ReplicaUnreachable { node: at, failed, .. } => *failed && Some(at) == replica,
            _ => false,
        })
    }

    /// Every node that a person who says `name` may mean.
    pub fn called(&self, name: &str) -> impl Iterator<Item = &NodeId> {
        let primaries = self.primaries.iter().filter(move |node| node.is_called(name)).map(|node| &node.id);
        primaries.chain(self.replicas.iter().filter(move |node| node.is_called(name)).map(|node| &node.id))
    }

    /// Where those of these nodes are reached that are primaries.
    #[must_use]
    pub fn addresses<'a>(&self, ids: impl IntoIterator<Item = &'a NodeId>) -> BTreeMap<NodeId, Address> {
        ids.into_iter().filter_map(|id| Some((id.clone(), self.primary(id)?.address.clone()))).collect()
    }

    /// The primary that serves `slot`.
    #[must_use]
    pub fn owner_of(&self, slot: SlotId) -> Option<&Primary> {
        self.owners.get(slot).and_then(|owner| self.primaries.get(owner as usize))
    }

    /// The slots of the primary at `index`.
    #[must_use]
    pub fn slots_of(&self, index: NodeIndex) -> SlotSet {
        SlotId::all().filter(|slot| self.owners.get(*slot) == Some(index)).collect()
    }

    /// A slot column by name.
    #[must_use]
    pub fn slot_column(&self, name: &str) -> Option<&Column> {
        self.slot_columns.get(name)
    }

    /// A node column by name; NaN where unknown.
    #[must_use]
    pub fn node_column(&self, name: &str) -> Option<&[f64]> {
        self.node_columns.get(name).map(|column| column.0.as_slice())
    }

    /// The sum of a slot column over each primary's slots.
    #[must_use]
    pub fn sum_by_primary(&self, name: &str) -> Option<Vec<f64>> {
        let column = self.slot_column(name)?;
        let mut sums = vec![0.0; self.primaries.len()];
        for (owner, value) in self.owners.as_slice().iter().zip(column.iter()) {
            if let Some(sum) = sums.get_mut(*owner as usize) {
                *sum += value;
            }
        }
        Some(sums)
    }

    /// The problems that stop all moves.
    pub fn blockers(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.blocks_moves())
    }

    /// The figures that reports, status and metrics show.
    #[must_use]
    pub fn summary(&self) -> SnapshotSummary {
        SnapshotSummary {
            generation: self.generation,
            taken_at_ms: self.taken_at_ms,
            window_s: self.window_s,
            primaries: self.primaries.len(),
            replicas: self.replicas.len(),
            open_slots: self.open_slots.len(),
            problems: self.problems.clone(),
        }
    }
}

/// A snapshot without its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// As in [`Snapshot`].
    pub generation: u64,
    /// Unix time, milliseconds.
    pub taken_at_ms: u64,
    /// Seconds over which rates were measured; 0 while there are none.
    pub window_s: u32,
    /// How many primaries, empty ones included.
    pub primaries: usize,
    /// How many replicas.
    pub replicas: usize,
    /// How many open-slot flags stand on all nodes together.
    pub open_slots: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}
