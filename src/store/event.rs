//! What happened besides cycles.

use serde::{Deserialize, Serialize};

use crate::model::{Address, Mode, NodeId, PolicyId, SlotSet};

/// Something that happened besides cycles, with who did it and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The daemon began to work.
    Started {
        /// Its version.
        version: String,
    },
    /// The daemon ended in order.
    Stopped {
        /// `SIGTERM` and the like.
        why: String,
    },
    /// The mode changed; or a person paused or resumed what was paused or running, for another reason or another time.
    Mode {
        /// Before.
        from: Mode,
        /// After.
        to: Mode,
        /// `operator`, `configuration`, `ballast`.
        who: String,
        /// The reason given.
        why: String,
    },
    /// Nodes that nobody had seen joining belong to the cluster from now on, since a person said so.
    NodesAccepted {
        /// Where they are reached.
        nodes: Vec<Address>,
        /// Who.
        who: String,
        /// The reason given.
        why: String,
    },
    /// A policy is in use from the next cycle on.
    PolicyLoaded {
        /// Which.
        policy: PolicyId,
        /// Where it came from.
        source: String,
    },
    /// A policy was refused; the one before it goes on.
    PolicyRefused {
        /// Where it came from.
        source: String,
        /// Stage and cause, for people.
        why: String,
    },
    /// A policy is asked beside the one that decides from the next cycle on.
    ShadowLoaded {
        /// As the configuration calls it.
        shadow: String,
        /// Which.
        policy: PolicyId,
    },
    /// A shadow's file was refused; the version before it goes on.
    ShadowRefused {
        /// As the configuration calls it.
        shadow: String,
        /// Stage and cause, for people.
        why: String,
    },
    /// A person let a shadow decide, or the configured policy again.
    Promoted {
        /// As the configuration calls it; absent for the configured policy.
        shadow: Option<String>,
        /// Who asked.
        who: String,
        /// The reason given.
        why: String,
    },
    /// The configuration was read again and is in use.
    ConfigLoaded {
        /// Keys that have another value than before; none at a start.
        #[serde(default)]
        changed: Vec<String>,
        /// Those whose change waits for a restart.
        needs_restart: Vec<String>,
    },
    /// The configuration was refused; the one before it goes on.
    ConfigRefused {
        /// What is wrong with it.
        why: String,
    },
    /// The moves of a cycle were ended before their time.
    Cancelled {
        /// The cycle.
        cycle: u64,
        /// Who asked.
        who: String,
        /// The reason given.
        why: String,
    },
    /// Another number of shards is wanted than there is, and something is done about it.
    ScaleWanted {
        /// Primaries that do not drain.
        shards: u32,
        /// So many would be right.
        wanted: u32,
        /// The policy's reason.
        why: String,
    },
    /// A node of the standby pool was let into the cluster.
    Introduced {
        /// Where it is reached.
        address: Address,
    },
    /// A plan waits for a person.
    PlanWaits {
        /// What it is called.
        plan: String,
        /// The cycle that proposed it.
        cycle: u64,
        /// Slots that would move.
        slots: usize,
        /// The policy's line for people.
        summary: String,
    },
    /// A plan was approved: the next cycle carries it out, if the guard approves as well.
    PlanApproved {
        /// What it is called.
        plan: String,
        /// Who approved.
        who: String,
        /// The reason given.
        why: String,
    },
    /// A plan waits no more, and was not carried out.
    PlanDropped {
        /// What it is called.
        plan: String,
        /// Who dropped it.
        who: String,
        /// The reason given.
        why: String,
    },
    /// A node is to be emptied.
    DrainBegun {
        /// Who.
        node: NodeId,
        /// Where it is reached.
        address: Address,
        /// Whether the cluster is to forget it then.
        forget: bool,
        /// Who asked.
        who: String,
        /// The reason given.
        why: String,
    },
    /// A node may have slots again.
    DrainEnded {
        /// Where it is reached.
        address: Address,
        /// Who asked.
        who: String,
        /// The reason given.
        why: String,
    },
    /// A node that was to be emptied owns no slot any more.
    Emptied {
        /// Where it is reached.
        address: Address,
    },
    /// A node that was to be emptied has left the cluster.
    Left {
        /// Where it was reached.
        address: Address,
    },
    /// Slots that an earlier run left open were closed.
    Recovered {
        /// How many.
        slots: usize,
    },
    /// Flags that ended migrations of ours had left behind were cleared.
    FlagsCleared {
        /// Of which slots.
        slots: SlotSet,
        /// The node that was told, with its address.
        node: String,
        /// Why that was right.
        why: String,
    },
}

impl Event {
    /// The names of all events, as history, API and webhooks write them.
    pub const NAMES: &[&str] = &[
        "started",
        "stopped",
        "mode",
        "nodes-accepted",
        "policy-loaded",
        "policy-refused",
        "shadow-loaded",
        "shadow-refused",
        "promoted",
        "config-loaded",
        "config-refused",
        "cancelled",
        "scale-wanted",
        "introduced",
        "plan-waits",
        "plan-approved",
        "plan-dropped",
        "drain-begun",
        "drain-ended",
        "emptied",
        "left",
        "recovered",
        "flags-cleared",
    ];

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::Mode { .. } => "mode",
            Self::NodesAccepted { .. } => "nodes-accepted",
            Self::PolicyLoaded { .. } => "policy-loaded",
            Self::PolicyRefused { .. } => "policy-refused",
            Self::ShadowLoaded { .. } => "shadow-loaded",
            Self::ShadowRefused { .. } => "shadow-refused",
            Self::Promoted { .. } => "promoted",
            Self::ConfigLoaded { .. } => "config-loaded",
            Self::ConfigRefused { .. } => "config-refused",
            Self::Cancelled { .. } => "cancelled",
            Self::ScaleWanted { .. } => "scale-wanted",
            Self::Introduced { .. } => "introduced",
            Self::PlanWaits { .. } => "plan-waits",
            Self::PlanApproved { .. } => "plan-approved",
            Self::PlanDropped { .. } => "plan-dropped",
            Self::DrainBegun { .. } => "drain-begun",
            Self::DrainEnded { .. } => "drain-ended",
            Self::Emptied { .. } => "emptied",
            Self::Left { .. } => "left",
            Self::Recovered { .. } => "recovered",
            Self::FlagsCleared { .. } => "flags-cleared",
        }
    }
}
