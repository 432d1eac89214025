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
mod functions;
mod governor;
mod home;
mod inquiry;
mod journal;
mod machine;
mod pace;
mod progress;
mod schedule;
mod settle;
mod stop;
#[cfg(test)]
mod story;
mod survey;
mod tally;
#[cfg(test)]
mod toy;
mod values;
mod wording;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;

pub use adopt::{Adopted, Adoption, adopt};
pub use executor::execute;
pub use fate::{Foreign, Recovery};
pub use home::{Double, Ends, Homecoming, bring_home, close, close_once, import_from, unhide};
pub use journal::{Intent, IntentId, Journal, JournalError, MemoryJournal};
pub use pace::Pace;
pub use progress::Progress;
pub(crate) use schedule::{Cargo, Migration, Schedule};
pub use settle::recover;
pub use stop::{Stop, StopHandle};
pub use tally::{Amount, Overall, Tally};

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
    /// Longest time that one MIGRATE may keep its source from everybody else, in milliseconds, 1 or more.
    ///
    /// A key that alone takes longer is found before its slot is opened; the slot then stays, unless it moves atomically.
    pub max_block_ms: u64,
    /// Bytes that may be moved in a second, by the memory that their keys take; none: as many as the pace allows.
    pub bytes_per_second: Option<u64>,
    /// Longest wait of one socket operation inside MIGRATE, in milliseconds.
    ///
    /// The server's own default in redis-cli is 60 s, four times the default node time-out: long enough for the source to
    /// be voted failed. One second is far above a healthy transfer and well below half a node time-out.
    pub migrate_timeout_ms: u64,
    /// Longest duration of one atomic migration before it is cancelled, in seconds: servers set no deadline of their own.
    pub atomic_deadline_s: u64,
    /// For how long an interrupted migration is taken up again before its slots are left to the next cycle, in seconds.
    pub settle_deadline_s: u64,
    /// A step that lasts longer than this is shown as stuck, in seconds. Nothing else follows from it.
    ///
    /// Two minutes: classic steps last milliseconds to seconds, and an atomic migration of the 256 slots that the default
    /// pace takes at once moves some 10 GB in that time. Who has larger slots raises it.
    pub stuck_after_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocol: ProtocolChoice::Auto,
            pace: Pace::Default,
            concurrency: 16,
            // As long as a slow command of an application: five milliseconds move 500 small keys, or half a megabyte.
            max_block_ms: 5,
            bytes_per_second: None,
            migrate_timeout_ms: 1000,
            atomic_deadline_s: 600,
            settle_deadline_s: 30,
            stuck_after_s: 120,
        }
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
    /// Who moves slots, for the journal: a person at a machine with a command, or a daemon with a policy.
    pub began_by: String,
    /// Told at every change, and every second while nothing changes; must not block.
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
    /// Who may ask us to hold or to stop.
    pub stop: Stop,
}
