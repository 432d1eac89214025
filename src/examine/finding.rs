//! What may be wrong with a cluster, in words: a sentence, how bad it is, and the remedy.

use std::fmt;

use serde::Serialize;

use super::evidence::{Held, Party};
use super::shape::Shape;
use crate::cluster::question::AtomicProtocol;
use crate::model::units::counted;
use crate::model::{Problem, SlotSet};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Data or redundancy is at stake, or moves cannot go on.
    Unhealthy,
    /// Nothing is wrong, and it may surprise.
    WorthKnowing,
}

/// Something about the cluster that a person should know.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "finding")]
pub enum Finding {
    /// What the views of the nodes come to.
    Seen(Problem),
    /// Several nodes are taken for the owner of slots.
    Contested {
        /// Which slots.
        slots: SlotSet,
        /// First the one that gossip will settle on.
        claimants: Vec<Party>,
    },
    /// Slots are half-moved.
    Open {
        /// In which way.
        #[serde(flatten)]
        shape: Shape,
        /// Which slots.
        slots: SlotSet,
        /// Keys of them on the node that does not own them.
        keys: u64,
    },
    /// A primary holds keys in slots that it neither owns nor imports.
    Strays {
        /// The primary.
        node: Party,
        /// Which slots.
        slots: SlotSet,
        /// Where they are.
        held: Vec<Held>,
    },
    /// A primary holds such keys, and its server does not say in which slots.
    HiddenStrays {
        /// The primary.
        node: Party,
        /// How many keys.
        keys: u64,
    },
    /// An atomic migration is not finished.
    Job {
        /// Who reports it.
        node: Party,
        /// The server's name for it.
        name: String,
        /// Which slots.
        slots: SlotSet,
        /// The server's word for its state.
        state: String,
        /// The server's word for what went wrong.
        message: String,
        /// How long it has been at it, in seconds, where the server tells.
        age_s: Option<u64>,
        /// Whether it looks as if it will not end by itself.
        stuck: bool,
        /// Whose words.
        #[serde(skip)]
        protocol: AtomicProtocol,
    },
    /// A replica is not connected to its primary.
    ReplicaCutOff {
        /// The replica.
        replica: Party,
        /// Its primary, if it knows one.
        primary: Option<Party>,
    },
    /// A primary owns no slot.
    Unused {
        /// Which.
        node: Party,
    },
    /// A node did not tell something, so that there may be more to find.
    Untold {
        /// The node.
        node: Party,
        /// What, and why.
        detail: String,
    },
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let unhealthy = match self {
            Self::Seen(problem) => {
                problem.blocks_moves() && *problem != Problem::WarmingUp
                    || matches!(problem, Problem::ReplicaUnreachable { .. } | Problem::SlotsOpen { .. })
            }
            Self::Contested { .. } | Self::Open { .. } | Self::Strays { .. } | Self::HiddenStrays { .. } => true,
            Self::Job { stuck, .. } => *stuck,
            Self::ReplicaCutOff { .. } => true,
            Self::Unused { .. } | Self::Untold { .. } => false,
        };
        if unhealthy { Severity::Unhealthy } else { Severity::WorthKnowing }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Seen(problem) => remedy_of(problem),
            Self::Contested { claimants, .. } => match claimants.first() {
                Some(first) => format!(
                    "gossip settles it within seconds, on {first}, which has the highest config epoch; if it does not, \
                     'ballast fix' raises that epoch"
                ),
                None => String::new(),
            },
            Self::Open { shape, .. } => remedy_of_shape(shape),
            Self::Strays { .. } => {
                "'ballast fix' compares them with the owner's: what the owner lacks goes there, equal \
                copies are deleted, and different ones are left to you"
                    .to_owned()
            }
            Self::HiddenStrays { .. } => "if slots have just left it, it is still deleting them: look again; else \
                'ballast fix' finds their slots and brings them home"
                .to_owned(),
            Self::Job { stuck: true, .. } => "'ballast fix' cancels it; its slots stay with their owner".to_owned(),
            Self::Job { .. } => "wait: it is at work".to_owned(),
            Self::ReplicaCutOff { .. } => {
                "look at its log: is the primary reachable from there, is the password right, is it still loading?"
                    .to_owned()
            }
            Self::Unused { .. } => {
                "'ballast rebalance' uses it, or 'CLUSTER REPLICATE ID' there makes it a replica".to_owned()
            }
            Self::Untold { .. } => "allow our user to ask for it".to_owned(),
        }
    }
}

fn remedy_of(problem: &Problem) -> String {
    match problem {
        Problem::PrimaryUnreachable { detail, .. } | Problem::ReplicaUnreachable { detail, .. } if is_turned_away(detail) => {
            "it runs and does not know our user, or its password: 'ballast doctor' says what to tell it"
        }
        Problem::PrimaryUnreachable { .. } => {
            "start it, or let a replica take over: 'CLUSTER FAILOVER FORCE' there; nothing else is safe meanwhile"
        }
        Problem::ReplicaUnreachable { .. } => "start it; if it is gone for good, 'CLUSTER FORGET ID' on every other node",
        Problem::NodeSuspected { .. } => "does the cluster bus (port + 10000) between the two pass?",
        Problem::NodeLoading { .. } => "wait until it has loaded",
        Problem::Disagreement { .. } => {
            "gossip settles it within seconds; if it does not, 'ballast fix' raises the epoch of the rightful owner"
        }
        Problem::SlotsUncovered { .. } => {
            "'ballast fix' gives them to the primary that holds their keys; where that is not clear, to the one that you \
             name: --assign SLOTS=NODE"
        }
        Problem::SlotsOpen { .. } => "'ballast fix' closes them",
        Problem::UnknownNode { .. } => {
            "wait if it has just joined; else 'CLUSTER MEET' introduces it, and 'CLUSTER FORGET ID' on every node ends it"
        }
        Problem::MemberFailed { .. } => "start it, or 'CLUSTER FORGET ID' on every other node",
        Problem::EpochCollision { .. } => "servers settle it by themselves within seconds; else 'ballast fix' does",
        Problem::SlotStatsOff { .. } | Problem::WarmingUp => "",
    }
    .to_owned()
}

/// Whether a node answered, and did not let us in.
fn is_turned_away(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["authentication failed", "noauth", "wrongpass", "noperm"].iter().any(|word| detail.contains(word))
}

fn remedy_of_shape(shape: &Shape) -> String {
    let busy = "if a daemon or another tool is moving it, wait; else";
    match shape {
        Shape::HalfMoved { .. } | Shape::MigratingOnly { target: Some(_), keys_there: true, .. } => {
            format!("{busy} 'ballast fix' finishes the move")
        }
        Shape::MigratingOnly { target: None, keys_there: true, .. } => {
            "bring that node back, or have all others forget it, then 'ballast fix': it may hold keys of them"
                .to_owned()
        }
        Shape::MigratingOnly { .. } => format!("{busy} 'ballast fix' closes it: the owner keeps it"),
        Shape::ImportingOnly { keys_there: true, .. } => {
            format!("{busy} 'ballast fix' brings the keys to the owner and closes it")
        }
        Shape::ImportingOnly { .. } => format!("{busy} 'ballast fix' closes it: there is nothing to bring back"),
        Shape::Meaningless { .. } => "'ballast fix' clears the flag".to_owned(),
        Shape::OnReplica { follows_setslot: true, primary: Some(_), .. } => {
            "'ballast fix' says STABLE to its primary, which passes it on".to_owned()
        }
        Shape::OnReplica { .. } => {
            "it does no harm while this is a replica, and cannot be cleared before; should it be \
            promoted, run 'ballast fix' then; to be rid of it now, make it anew: CLUSTER RESET SOFT, MEET, REPLICATE"
                .to_owned()
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen(problem) => write!(f, "{problem}"),
            Self::Contested { slots, claimants } => {
                let names: Vec<String> = claimants.iter().map(ToString::to_string).collect();
                write!(f, "{} taken to be owned by {}", are(slots), names.join(" and by "))
            }
            Self::Open { shape, slots, keys } => open(f, shape, slots, *keys),
            Self::Strays { node, slots, held } => {
                let sum = |count: fn(&Held) -> u64| held.iter().map(count).sum::<u64>();
                let (keys, sampled, doubled) = (sum(|h| h.keys), sum(|h| h.sampled), sum(|h| h.doubled));
                write!(f, "{node} holds {} in slots {slots}, which it does not own", of_keys(keys))?;
                let mut databases: Vec<String> =
                    held.iter().map(|held| held.database).map(|db| db.to_string()).collect();
                databases.dedup();
                databases.sort_unstable();
                databases.dedup();
                if databases != ["0"] {
                    write!(f, ", in databases {}", databases.join(", "))?;
                }
                if sampled > 0 {
                    write!(f, "; of {sampled} looked at, their owner has {doubled} too")?;
                }
                match held.iter().find_map(|held| held.example.as_ref()) {
                    Some(example) => write!(f, " (such as '{example}')"),
                    None => Ok(()),
                }
            }
            Self::HiddenStrays { node, keys } => {
                write!(f, "{node} holds {} in slots that it does not own, and does not say in which", of_keys(*keys))
            }
            Self::Job { node, slots, state, message, age_s, .. } => {
                write!(f, "an atomic migration of slots {slots}, reported by {node}, is '{state}'")?;
                if let Some(age) = age_s {
                    write!(f, " after {age} s")?;
                }
                if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
            }
            Self::ReplicaCutOff { replica, primary: Some(primary) } => {
                write!(f, "replica {replica} is not connected to its primary {primary}")
            }
            Self::ReplicaCutOff { replica, primary: None } => write!(f, "replica {replica} has no primary"),
            Self::Unused { node } => write!(f, "primary {node} owns no slot"),
            Self::Untold { node, detail } => write!(f, "{node} did not tell everything: {detail}"),
        }
    }
}

/// `slot 7 is`, `slots 1-4 are`.
fn are(slots: &SlotSet) -> String {
    format!("{} {}", named(slots), if slots.len() == 1 { "is" } else { "are" })
}

/// `slot 7`, `slots 1-4`.
fn named(slots: &SlotSet) -> String {
    format!("{} {slots}", if slots.len() == 1 { "slot" } else { "slots" })
}

fn of_keys(keys: u64) -> String {
    counted(keys, "key", "keys")
}

fn them(slots: &SlotSet) -> &'static str {
    if slots.len() == 1 { "it" } else { "them" }
}

/// `1 key of it`, `3 keys of them`.
fn of_them(keys: u64, slots: &SlotSet) -> String {
    format!("{} of {}", of_keys(keys), them(slots))
}

fn open(f: &mut fmt::Formatter<'_>, shape: &Shape, slots: &SlotSet, keys: u64) -> fmt::Result {
    match shape {
        Shape::HalfMoved { source, target } => {
            write!(f, "{} half-moved from {source} to {target}, which holds {}", are(slots), of_them(keys, slots))
        }
        Shape::MigratingOnly { source, to, target, keys_there } => {
            write!(f, "{} migrating on {source} to {to}, and nobody imports {}", are(slots), them(slots))?;
            match target {
                Some(target) if *keys_there && keys > 0 => write!(f, "; {target} holds {}", of_them(keys, slots)),
                Some(target) if *keys_there => write!(f, "; {target} may hold keys of {}", them(slots)),
                Some(_) => Ok(()),
                None if *keys_there => write!(f, "; that node is not well, and may hold keys of {}", them(slots)),
                None => write!(f, "; that node is no member"),
            }
        }
        Shape::ImportingOnly { importer, from, owner, .. } => {
            write!(f, "{} importing on {importer} from {from}, and ", are(slots))?;
            match owner {
                Some(owner) => {
                    let its = if slots.len() == 1 { "its" } else { "their" };
                    write!(f, "{its} owner {owner} does not migrate {} there", them(slots))?;
                }
                None => write!(f, "nobody is agreed to own {}", them(slots))?,
            }
            if keys > 0 { write!(f, "; {importer} holds {}", of_them(keys, slots)) } else { Ok(()) }
        }
        Shape::Meaningless { node } => {
            let carry = if slots.len() == 1 { "carries" } else { "carry" };
            write!(f, "{} {carry} a flag on {node} that says nothing there", named(slots))
        }
        Shape::OnReplica { replica, .. } => {
            write!(f, "replica {replica} carries a flag of {} that its primary does not", named(slots))
        }
    }
}
