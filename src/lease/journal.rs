//! The journal when several daemons may lead: what is begun is noted in etcd as well, where the next leader finds it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::campaign::{Lease, TAKEN, Unchanged};
use super::etcd::Change;
use super::{Begun, Term};
use crate::migration::{Intent, IntentId, Journal, JournalError};

/// What the daemon's own journal says of a migration that etcd did not take note of, and that did not begin.
pub const NOT_BEGUN: &str = "not begun";

/// A journal of this daemon's own, mirrored in etcd. Intents end here when they have ended there.
#[derive(Clone)]
pub struct SharedJournal {
    own: Arc<dyn Journal>,
    lease: Lease,
}

impl SharedJournal {
    /// Mirrors `own`.
    #[must_use]
    pub fn new(own: Arc<dyn Journal>, lease: Lease) -> Self {
        Self { own, lease }
    }

    fn key(&self, id: IntentId) -> String {
        self.lease.keys().begun(&format!("{}-{id}", self.lease.daemon()))
    }

    /// Makes what etcd has unfinished this daemon's own, and drops from its journal what others have taken over. Returns how many
    /// are unfinished.
    ///
    /// An intent of ours that etcd never had is noted there: it is from before there was a lease, or etcd lost what it had.
    ///
    /// # Errors
    /// When a journal cannot be read or written. Then nothing may be done in this term yet; it can be tried again.
    pub async fn take_over(&self, term: Term) -> Result<usize, JournalError> {
        const ACTION: &str = "cannot take over what was begun";
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| JournalError { action: ACTION, cause };
        // Asked anew at each attempt: the one before may have come half-way.
        let (begun, taken) = self.lease.journal().await.map_err(|error| failed(Box::new(error)))?;
        let there = |key: &str, intent: &Intent| begun.iter().any(|begun| begun.key == key && begun.intent == *intent);
        let mut ours = BTreeSet::new();
        for (id, intent) in self.own.unfinished()? {
            let key = self.key(id);
            if taken.contains(&key) {
                self.own.finish(id, "settled by another daemon")?;
                self.tell(term, &[Change::Delete(key)]).await.map_err(failed)?;
            } else {
                if !there(&key, &intent) {
                    self.tell(term, &[Change::Put(key.clone(), written(&intent))]).await.map_err(failed)?;
                }
                ours.insert(key);
            }
        }
        let others: Vec<&Begun> = begun.iter().filter(|begun| !ours.contains(&begun.key)).collect();
        for Begun { key, intent } in others {
            let id = self.own.begin(intent)?;
            let own = self.key(id);
            let mut changes = vec![Change::Put(own.clone(), written(intent))];
            if own != *key {
                changes.push(Change::Put(key.clone(), TAKEN.to_owned()));
            }
            // Left unfinished here when the answer is lost: it is settled once more then, which does no harm.
            self.tell(term, &changes).await.map_err(failed)?;
            ours.insert(own);
        }
        Ok(ours.len())
    }

    async fn tell(&self, term: Term, changes: &[Change]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let told = self.lease.change_in(term, changes).await;
        told.map_err(|unchanged| unchanged.why().into())
    }

    /// Waits for etcd where a journal's caller must wait: nothing may happen before it is noted.
    fn change(&self, changes: &[Change]) -> Result<(), Unchanged> {
        block_in_place(|| Handle::current().block_on(self.lease.change(changes)))
    }
}

impl Journal for SharedJournal {
    fn begin(&self, intent: &Intent) -> Result<IntentId, JournalError> {
        let id = self.own.begin(intent)?;
        let why = match self.change(&[Change::Put(self.key(id), written(intent))]) {
            Ok(()) => return Ok(id),
            Err(Unchanged::No(why)) => {
                self.own.finish(id, NOT_BEGUN)?;
                why
            }
            // It may be noted: so it stays here as well, until it is settled, which finds nothing open.
            Err(Unchanged::Perhaps(why)) => why,
        };
        Err(refused("cannot note a migration in etcd", why))
    }

    fn finish(&self, id: IntentId, ending: &str) -> Result<(), JournalError> {
        self.change(&[Change::Delete(self.key(id))])
            .map_err(|unchanged| refused("cannot note in etcd that a migration ended", unchanged.why()))?;
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
