//! Mends what an examination found: first a plan in words (`prescribe`, pure), then one step at a time (`perform`).
//!
//! Who owns a slot is never decided by how many keys somebody holds. What counts, in this order: what all primaries agree
//! on; the only claimant; of several claimants the one with the highest config epoch, for that is how gossip will settle
//! it. A slot that nobody claims goes to the only node that holds keys of it; where several do, a person has to say.

mod perform;
mod prescribe;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;

use serde::Serialize;

pub use perform::{Performed, perform};
pub use prescribe::{Assignments, Prescription, Refusal, prescribe};
pub use work::at_work;

use crate::cluster::question::AtomicProtocol;
use crate::examine::Party;
use crate::model::SlotSet;

/// One step that mends something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "repair")]
pub enum Repair {
    /// Cancels atomic migrations that will not end by themselves.
    Cancel {
        /// Who is told: the source on Valkey, the target on Redis.
        node: Party,
        /// Every migration that this cancels, by the server's names.
        jobs: Vec<String>,
        /// Their slots.
        slots: SlotSet,
        /// In whose words.
        #[serde(skip)]
        protocol: AtomicProtocol,
    },
    /// Gives a primary a config epoch of its own above all others.
    RaiseEpoch {
        /// Who.
        node: Party,
        /// Why.
        reason: String,
    },
    /// Gives slots that nobody owns to a primary.
    Assign {
        /// Which slots.
        slots: SlotSet,
        /// To whom.
        node: Party,
        /// Why to this one.
        reason: String,
    },
    /// Clears flags.
    Close {
        /// Of which slots.
        slots: SlotSet,
        /// On whom.
        node: Party,
        /// Why that is right.
        reason: String,
    },
    /// Finishes a move.
    Finish {
        /// Of which slots.
        slots: SlotSet,
        /// From.
        source: Party,
        /// To.
        target: Party,
    },
    /// Finds out which slots keys are in that a server hides.
    Unhide {
        /// The server.
        node: Party,
    },
    /// Brings keys to the owner of their slots.
    BringHome {
        /// Which slots.
        slots: SlotSet,
        /// Who holds them.
        from: Party,
        /// Their owner.
        to: Party,
    },
}

impl Repair {
    /// The slots that it is about.
    #[must_use]
    pub fn slots(&self) -> SlotSet {
        match self {
            Self::Cancel { slots, .. }
            | Self::Assign { slots, .. }
            | Self::Close { slots, .. }
            | Self::Finish { slots, .. }
            | Self::BringHome { slots, .. } => slots.clone(),
            Self::RaiseEpoch { .. } | Self::Unhide { .. } => SlotSet::default(),
        }
    }

    /// Why it is right.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Cancel { .. } => "it will not end by itself; its slots stay with whoever owns them then".to_owned(),
            Self::RaiseEpoch { reason, .. } | Self::Assign { reason, .. } | Self::Close { reason, .. } => {
                reason.clone()
            }
            Self::Finish { source, target, .. } => format!(
                "writes may have been acknowledged on {target} already, and {source} sends clients there: forward loses \
                 none of them"
            ),
            Self::Unhide { .. } => {
                "it counts keys that it does not show, and shows those of importing slots".to_owned()
            }
            Self::BringHome { from, to, .. } => format!(
                "all agree that {to} owns the slots, so clients do not find what {from} holds; it may be all that is left \
                 of acknowledged writes"
            ),
        }
    }

    /// What is said to the servers, for people.
    #[must_use]
    pub fn commands(&self) -> String {
        match self {
            Self::Cancel { node, protocol: AtomicProtocol::ValkeyMigrateSlots, .. } => {
                format!("CLUSTER CANCELSLOTMIGRATIONS on {node}: it has no others")
            }
            Self::Cancel { node, jobs, .. } => format!("CLUSTER MIGRATION CANCEL ID {} on {node}", jobs.join(", ")),
            Self::RaiseEpoch { node, .. } => format!("CLUSTER BUMPEPOCH on {node}"),
            Self::Assign { slots, node, .. } => {
                format!(
                    "CLUSTER ADDSLOTS {slots} and BUMPEPOCH on {node} (after DELSLOTS there, if it takes another for the owner)"
                )
            }
            Self::Close { slots, node, .. } => format!("CLUSTER SETSLOT {slots} STABLE on {node}"),
            Self::Finish { slots, source, target } => format!(
                "copies on {target} equal to {source}'s are deleted; SETSLOT {slots} IMPORTING on {target}, MIGRATING on \
                 {source}; MIGRATE without REPLACE until {source} counts none; SETSLOT NODE on {target}, then everywhere"
            ),
            Self::Unhide { node } => {
                format!(
                    "SETSLOT IMPORTING and COUNTKEYSINSLOT for each slot that {node} does not own, STABLE where there are none"
                )
            }
            Self::BringHome { slots, from, to } => format!(
                "SETSLOT {slots} IMPORTING on {from}; MIGRATE without REPLACE to {to} of what it lacks, DEL on {from} of \
                 copies equal to {to}'s; SETSLOT STABLE on {from}; different copies stay"
            ),
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancel { node, slots, jobs, .. } => {
                write!(f, "cancel the atomic migrations {} of slots {slots} on {node}", jobs.join(", "))
            }
            Self::RaiseEpoch { node, .. } => write!(f, "raise the config epoch of {node}"),
            Self::Assign { slots, node, .. } => write!(f, "give slots {slots} to {node}"),
            Self::Close { slots, node, .. } => write!(f, "close slots {slots} on {node}"),
            Self::Finish { slots, source, target } => {
                write!(f, "finish moving slots {slots} from {source} to {target}")
            }
            Self::Unhide { node } => write!(f, "find the slots of the keys that {node} hides"),
            Self::BringHome { slots, from, to } => {
                write!(f, "bring the keys of slots {slots} that {from} holds to their owner {to}")
            }
        }
    }
}
