//! What we are about to do, written down before we do it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::model::{NodeId, OpenDirection, OpenSlot, Protocol, SlotSet};

/// A migration that we are about to begin: enough to take it up again after a crash, whoever failed over meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// From.
    pub source: NodeId,
    /// To.
    pub target: NodeId,
    /// The source and its replicas: one of them owns the slots after a failover of the source.
    pub source_shard: Vec<NodeId>,
    /// The target and its replicas.
    pub target_shard: Vec<NodeId>,
    /// The source's run id: another process may have come back with older keys.
    pub source_run_id: String,
    /// The source's config epoch: another one tells of a failover, even if the source is primary again.
    pub source_epoch: u64,
    /// Which slots.
    pub slots: SlotSet,
    /// Which way.
    pub protocol: Protocol,
    /// Unix time, milliseconds.
    pub started_at_ms: u64,
    /// Who began it. Empty in journals of earlier versions, as is `reason`.
    #[serde(default)]
    pub began_by: String,
    /// Why: what the policy or the person gave as the reason of these moves.
    #[serde(default)]
    pub reason: String,
}

impl Intent {
    /// The two nodes of such a flag, each with the shard, as it was when the migration began, that it has to be of for the flag to be of
    /// this migration: the one that carries it, and the one that it names.
    #[must_use]
    pub fn ends_of<'a>(&'a self, flag: &'a OpenSlot) -> [(&'a NodeId, &'a [NodeId]); 2] {
        match &flag.direction {
            OpenDirection::Migrating(to) => [(&flag.node, &self.source_shard), (to, &self.target_shard)],
            OpenDirection::Importing(from) => [(&flag.node, &self.target_shard), (from, &self.source_shard)],
        }
    }
}

/// A journal's name for an [`Intent`].
pub type IntentId = i64;

/// The journal could not be read or written; nothing may be begun without it.
#[derive(Debug, thiserror::Error)]
#[error("journal: {action}")]
pub struct JournalError {
    /// What was tried.
    pub action: &'static str,
    /// What went wrong.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// Keeps intents until they ended. Synchronous; what it returned from is durable.
pub trait Journal: Send + Sync {
    /// Notes an intent, before the first command of its migration.
    ///
    /// # Errors
    /// When it could not be made durable: the migration must not begin.
    fn begin(&self, intent: &Intent) -> Result<IntentId, JournalError>;

    /// Notes that an intent ended, and how, in words.
    ///
    /// # Errors
    /// When it could not be made durable. The migration is then settled again at the next start, which does no harm.
    fn finish(&self, id: IntentId, ending: &str) -> Result<(), JournalError>;

    /// Intents that have not ended, oldest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn unfinished(&self) -> Result<Vec<(IntentId, Intent)>, JournalError>;
}

/// A journal that is gone with the process; for tests and benchmarks.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<(IntentId, BTreeMap<IntentId, Intent>)>);

impl Journal for MemoryJournal {
    fn begin(&self, intent: &Intent) -> Result<IntentId, JournalError> {
        let mut state = self.0.lock().expect("no holder panics");
        state.0 += 1;
        let id = state.0;
        state.1.insert(id, intent.clone());
        Ok(id)
    }

    fn finish(&self, id: IntentId, _ending: &str) -> Result<(), JournalError> {
        self.0.lock().expect("no holder panics").1.remove(&id);
        Ok(())
    }

    fn unfinished(&self) -> Result<Vec<(IntentId, Intent)>, JournalError> {
        Ok(self.0.lock().expect("no holder panics").1.iter().map(|(id, intent)| (*id, intent.clone())).collect())
    }
}
