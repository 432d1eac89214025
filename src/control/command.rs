//! What others may ask of the loop, and what it tells them.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::drains::DrainWish;
use super::scale::Scale;
use super::status::Status;
use crate::clock::now_ms;
use crate::migration::{Overall, Progress};
use crate::model::{CycleReport, Snapshot};
use crate::store::{Event, Store, StoredEvent};
use crate::telemetry::chain;

/// What a person or a program asks of the loop.
#[derive(Debug)]
pub enum Command {
    /// Move nothing more. Migrations stop at their next step, with no slot left open.
    Pause {
        /// Who asks.
        who: String,
        /// Why.
        why: String,
        /// Unix time in milliseconds at which it ends by itself.
        until_ms: Option<u64>,
    },
    /// Go back to the configured mode, from paused or halted.
    Resume {
        /// Who asks.
        who: String,
        /// Why.
        why: String,
    },
    /// End the moves of this cycle at their next step, with no slot left open. The next cycle plans anew.
    Cancel {
        /// Who asks.
        who: String,
        /// Why.
        why: String,
    },
    /// Let a shadow decide, until the configuration names another policy.
    Promote {
        /// As the configuration calls it; the configured policy decides again when absent.
        shadow: Option<String>,
        /// Who asks.
        who: String,
        /// Why.
        why: String,
    },
    /// Empty a node, and have the cluster forget it if that is wished.
    Drain(DrainWish),
    /// Let a node have slots again.
    Undrain {
        /// The node: its address, its id or the beginning of that.
        node: String,
        /// Who asks.
        who: String,
        /// Why.
        why: String,
    },
    /// Let a plan that waits be carried out, or drop it.
    Judge {
        /// What the plan is called.
        plan: String,
        /// Whether it is approved.
        approve: bool,
        /// Who asks.
        who: String,
        /// Why.
        why: String,
    },
    /// Read configuration and policy again.
    Reload,
}

/// What became of a command: a line for people.
pub type Answer = Result<String, String>;

/// A command on its way, with where the answer goes.
pub(crate) type Request = (Command, oneshot::Sender<Answer>);

/// How others speak with the loop; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Arc<Status>>,
}

impl Handle {
    pub(crate) fn new(requests: mpsc::Sender<Request>, status: watch::Receiver<Arc<Status>>) -> Self {
        Self { requests, status }
    }

    /// What the daemon is doing now.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// What the daemon is doing, each time that it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Asks something of the loop, and waits for the answer. The loop answers between two events, in milliseconds.
    ///
    /// # Errors
    /// Why it was refused, for people.
    pub async fn ask(&self, command: Command) -> Answer {
        let (sender, answer) = oneshot::channel();
        let ending = || "the daemon is ending".to_owned();
        self.requests.send((command, sender)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

/// What the loop tells while it goes, in the order in which it happens. Metrics are a view of these.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Something happened besides a cycle.
    Event(StoredEvent),
    /// The cluster was seen.
    Seen(Arc<Snapshot>),
    /// A cycle ended.
    Cycle {
        /// Everything about it.
        report: Arc<CycleReport>,
        /// What it decided by; absent when the cluster could not be seen.
        snapshot: Option<Arc<Snapshot>>,
    },
    /// Moves have come further.
    Moving {
        /// All migrations that run, or are in doubt.
        migrations: Vec<Progress>,
        /// The plan's moves as a whole; absent while none is being carried out.
        overall: Option<Overall>,
        /// Whether a step has lasted for longer than the configuration finds normal.
        stuck: bool,
    },
    /// How many shards there are and should be.
    Scale(Scale),
    /// How many nodes of the standby pool are not in the cluster.
    Standby(usize),
    /// Bytes of linear memory that the policy holds.
    PolicyMemory(usize),
    /// A node has answered all that it is asked in a look.
    Answered {
        /// Seconds from the first question to the last answer.
        seconds: f64,
        /// Whether it is a primary.
        primary: bool,
    },
    /// Our own probe of a node came back, while slots are being moved or not.
    Probe {
        /// Seconds that it took.
        seconds: f64,
        /// Whether slots were being moved.
        migrating: bool,
    },
}

/// Where notices go; must not block.
pub(super) type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// Keeps an event in the history, and shows it to whoever listens.
pub(super) fn tell(store: &Store, notify: &Notify, event: Event) {
    let at_ms = now_ms();
    let id = store.keep_event(at_ms, &event).unwrap_or_else(|error| {
        warn!(error = %chain(&error), "the history misses an event");
        0
    });
    notify(Notice::Event(StoredEvent { id, at_ms, event }));
}
