//! What a state machine says next, and how it ends.

use std::time::Duration;

use crate::cluster::{Command, Lane};
use crate::model::{Address, SlotId, SlotSet};

/// Questions are answered at once, or the node is in trouble.
pub(super) const QUESTION_PATIENCE: Duration = Duration::from_secs(5);

/// Commands for one node, in one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Whom.
    pub(super) node: Address,
    /// On which connection.
    pub(super) lane: Lane,
    /// What.
    pub(super) commands: Vec<Command>,
    /// How long to wait for all replies.
    pub(super) patience: Duration,
}

/// What is known of copies that the target may hold already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Copies {
    /// There are none: the slots were not opened before.
    None,
    /// They are ours, and the source's are the newer ones.
    Ours,
    /// The source failed over or came back since: either copy may be the newer one.
    Suspect,
}

/// What a state machine wants next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Make these calls, to different nodes at the same time, and tell it the results in order.
    Calls(Vec<Call>),
    /// Rest, then ask again.
    Rest(Rest),
    /// It is over.
    Finished(Ending),
}

/// A time in which nothing is asked of the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) duration: Duration,
    pub(super) cause: Cause,
}

/// Why a migration rests, as [`PaceReport::rests`](crate::model::PaceReport::rests) tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// The source is left to its clients.
    #[default]
    Pace,
    /// The limit on bytes per second.
    Bandwidth,
    /// The source is left to its clients after an atomic portion, which kept it busy as a whole.
    Portion,
    /// What was refused is said again: replicas lag.
    Replicas,
    /// What was refused is said again: the keys of a slot do not leave their source.
    Stalled,
    /// The servers work by themselves.
    Job,
}

impl Cause {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pace => "pace",
            Self::Bandwidth => "bandwidth",
            Self::Portion => "portion",
            Self::Replicas => "replicas",
            Self::Stalled => "stalled",
            Self::Job => "job",
        }
    }
}

/// What became of the slots of one migration. Every slot is in exactly one of the first four.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ending {
    /// The target owns them.
    pub(super) moved: SlotSet,
    /// The source still owns them, nothing is open, and why.
    pub(super) stayed: Vec<(SlotId, String)>,
    /// The source still owns them: we were asked to hold or to stop before anything was done about them.
    pub(super) unopened: SlotSet,
    /// Nobody knows yet, or they are open: ask the cluster before anything else.
    pub(super) unsettled: Vec<(SlotId, String)>,
    /// Those of the unsettled that nobody but a person may go on with: both nodes hold a live copy of some key.
    pub(super) collided: SlotSet,
    /// Keys moved, as far as the protocol counts them.
    pub(super) keys: u64,
}
