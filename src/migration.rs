//! Moves slots online.
//!
//! A plan becomes `schedule`d migrations: batches of slots from one primary to another. Each migration is first written
//! to the `journal`, then driven by a pure state machine (`classic` or `atomic`) that says which `Call`s come next
//! and hears what the servers replied; `machine` only carries words to and fro. Whatever ends without a certain outcome
//! is `settle`d: ask again, and go forward or back by the `fate` that the cluster itself tells. What others left half-done
//! is finished by the same means (`adopt`), and keys that are astray are brought `home`.

mod adopt;
mod atomic;
mod call;
mod classic;
mod executor;
mod fate;
mod home;
mod journal;
mod machine;
mod pace;
mod schedule;
mod settle;
#[cfg(test)]
mod story;
mod survey;
#[cfg(test)]
mod toy;
mod values;
mod wording;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::model::{NodeId, SlotSet};

pub use adopt::{Adopted, Adoption, adopt};
pub use executor::execute;
pub use fate::{Foreign, Recovery};
pub use home::{Double, Ends, Homecoming, bring_home, close, import_from, unhide};
pub use journal::{Intent, IntentId, Journal, JournalError, MemoryJournal};
pub use pace::Pace;
pub use settle::recover;

/// Which way slots may be moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolChoice {
    /// The best that both ends have: atomic where they share a form of it, classic elsewhere.
    #[default]
    Auto,
    /// `SETSLOT` and `MIGRATE` everywhere.
    Classic,
}

/// How slots are moved: section `[migration]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which way slots may be moved.
    pub protocol: ProtocolChoice,
    /// How hard we may lean on the servers.
    pub pace: Pace,
    /// Most migrations that run at the same time, 1 to 64. The pace says how many of them it takes.
    pub concurrency: usize,
    /// Longest wait of one socket operation inside MIGRATE, in milliseconds.
    ///
    /// The server's own default in redis-cli is 60 s, four times the default node time-out: long enough for the source to
    /// be voted failed. One second is far above a healthy transfer and well below half a node time-out.
    pub migrate_timeout_ms: u64,
    /// Longest duration of one atomic migration before it is cancelled, in seconds: servers set no deadline of their own.
    pub atomic_deadline_s: u64,
    /// For how long an interrupted migration is taken up again before its slots are left to the next cycle, in seconds.
    pub settle_deadline_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocol: ProtocolChoice::Auto,
            pace: Pace::Default,
            concurrency: 16,
            migrate_timeout_ms: 1000,
            atomic_deadline_s: 600,
            settle_deadline_s: 30,
        }
    }
}

/// How far a migration has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// From.
    pub source: NodeId,
    /// To.
    pub target: NodeId,
    /// `classic` or `atomic`.
    pub protocol: String,
    /// All slots of this migration.
    pub slots: SlotSet,
    /// How many of them the target owns.
    pub slots_moved: usize,
    /// Keys moved so far, as far as the protocol counts them.
    pub keys_moved: u64,
    /// Unix time of its start, milliseconds.
    pub started_at_ms: u64,
    /// Whether it is over.
    pub finished: bool,
}

/// Asks migrations to stop at the next step boundary; cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Stop(tokio::sync::watch::Receiver<bool>);

/// The other end of a [`Stop`]. Dropping it does not stop anything.
#[derive(Debug)]
pub struct StopHandle(tokio::sync::watch::Sender<bool>);

impl Stop {
    /// A handle, and what it stops.
    #[must_use]
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        (StopHandle(sender), Self(receiver))
    }

    /// One that is never asked to stop.
    #[must_use]
    pub fn never() -> Self {
        Self::new().1
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}

impl StopHandle {
    /// Asks to stop. Slots that are open are closed first.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// What a migration needs besides its plan.
#[derive(Clone)]
pub struct Context {
    /// The servers.
    pub cluster: Arc<dyn Cluster>,
    /// Where intents are kept until they ended.
    pub journal: Arc<dyn Journal>,
    /// How to move.
    pub settings: Settings,
    /// Told at every change; must not block.
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
    /// Who may ask us to stop.
    pub stop: Stop,
}
