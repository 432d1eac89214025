//! The journal when several daemons may lead: what is begun is noted in etcd as well, where the next leader finds it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::campaign::Lease;
use super::etcd::Change;
use super::{Begun, Term};
use crate::migration::{Intent, IntentId, Journal, JournalError};

/// A journal of this daemon's own, mirrored in etcd. Intents end here when they have ended there.
#[derive(Clone)]
pub struct SharedJournal {
    own: Arc<dyn Journal>,
    lease: Lease,
    /// Tells this daemon's names for intents from those of others.
    daemon: String,
}

impl SharedJournal {
    /// Mirrors `own`, whose keeper is called `daemon`: no other one may ever be called so.
    #[must_use]
    pub fn new(own: Arc<dyn Journal>, lease: Lease, daemon: String) -> Self {
        Self { own, lease, daemon }
    }

    fn key(&self, id: IntentId) -> String {
        self.lease.keys().begun(&format!("{}-{id}", self.daemon))
    }

    /// Makes what `term` found unfinished this daemon's own, and drops from its journal what others have finished.
    ///
    /// # Errors
    /// When a journal cannot be read or written. Then nothing may be done in this term yet; it can be tried again.
    pub async fn take_over(&self, term: Term, begun: &[Begun]) -> Result<(), JournalError> {
        let there: BTreeSet<&str> = begun.iter().map(|begun| begun.key.as_str()).collect();
        let mut ours = BTreeSet::new();
        for (id, _) in self.own.unfinished()? {
            let key = self.key(id);
            if there.contains(key.as_str()) {
                ours.insert(key);
            } else {
                self.own.finish(id, "settled by another daemon")?;
            }
        }
        for Begun { key, intent } in begun.iter().filter(|begun| !ours.contains(&begun.key)) {
            let id = self.own.begin(intent)?;
            let changes = [Change::Delete(key.clone()), Change::Put(self.key(id), written(intent))];
            let moved = self.lease.change_in(term, &changes).await;
            moved.or_else(|why| {
                self.own.finish(id, "not taken over")?;
                Err(refused("cannot take over a migration", why))
            })?;
        }
        Ok(())
    }

    /// Waits for etcd where a journal's caller must wait: nothing may happen before it is noted.
    fn change(&self, action: &'static str, changes: &[Change]) -> Result<(), JournalError> {
        let noted = block_in_place(|| Handle::current().block_on(self.lease.change(changes)));
        noted.map_err(|why| refused(action, why))
    }
}

impl Journal for SharedJournal {
    fn begin(&self, intent: &Intent) -> Result<IntentId, JournalError> {
        let id = self.own.begin(intent)?;
        let noted = self.change("cannot note a migration in etcd", &[Change::Put(self.key(id), written(intent))]);
        match noted {
            Ok(()) => Ok(id),
            // It may be noted all the same, when the answer was lost: a leader settles it then, and finds nothing open.
            Err(error) => {
                self.own.finish(id, "not begun")?;
                Err(error)
            }
        }
    }

    fn finish(&self, id: IntentId, ending: &str) -> Result<(), JournalError> {
        self.change("cannot note in etcd that a migration ended", &[Change::Delete(self.key(id))])?;
        self.own.finish(id, ending)
    }

    fn unfinished(&self) -> Result<Vec<(IntentId, Intent)>, JournalError> {
        self.own.unfinished()
    }
}

fn written(intent: &Intent) -> String {
    serde_json::to_string(intent).expect("an intent is made of texts and numbers")
}

fn refused(action: &'static str, why: String) -> JournalError {
    JournalError { action, cause: why.into() }
}
