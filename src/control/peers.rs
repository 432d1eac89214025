//! This daemon among others on the same cluster: whether it leads, and what it takes over when it does.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lease::{Lease, Peer, Role, Shared, SharedJournal, Term};
use crate::migration::JournalError;
use crate::model::SlotSet;

/// This daemon among others.
pub(super) struct Peers {
    pub(super) lease: Lease,
    pub(super) journal: SharedJournal,
    /// The term that was taken over.
    accepted: Option<Term>,
}

/// Who leads, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Whether this daemon may act.
    pub leads: bool,
    /// Who leads otherwise, if that is known.
    pub leader: Option<Peer>,
    /// For people.
    pub reason: String,
}

/// What a leader left behind.
pub(super) struct Inheritance {
    term: Term,
    pub(super) shared: Arc<Shared>,
}

impl Peers {
    pub(super) fn new(lease: Lease, journal: SharedJournal) -> Self {
        Self { lease, journal, accepted: None }
    }

    /// Whether this daemon may act.
    pub(super) fn leads(&self) -> bool {
        matches!(self.lease.role(), Role::Elected { term, .. } if self.accepted == Some(term))
    }

    pub(super) fn status(&self) -> LeaseStatus {
        let (leads, leader, reason) = match self.lease.role() {
            Role::Elected { .. } if self.leads() => (true, None, "it has the lease".to_owned()),
            Role::Elected { .. } => (false, None, "it has the lease, and takes over from the one before".to_owned()),
            Role::Follower { leader, .. } => {
                let reason = format!("{leader} leads");
                (false, Some(leader), reason)
            }
            Role::Unknown { why } => (false, None, format!("it is not known who leads: {why}")),
        };
        LeaseStatus { leads, leader, reason }
    }

    /// What is to be taken over before this daemon may act.
    pub(super) fn inheritance(&self) -> Option<Inheritance> {
        match self.lease.role() {
            Role::Elected { term, shared } if self.accepted != Some(term) => Some(Inheritance { term, shared }),
            _ => None,
        }
    }

    /// What the one who leads tells.
    pub(super) fn told(&self) -> Option<Arc<Shared>> {
        match self.lease.role() {
            Role::Follower { shared, .. } => Some(shared),
            _ => None,
        }
    }

    /// The slots that the one who leads may have open.
    pub(super) fn open(&self) -> SlotSet {
        match self.lease.role() {
            Role::Follower { begun, .. } => begun.iter().flat_map(|begun| begun.intent().slots.iter()).collect(),
            _ => SlotSet::default(),
        }
    }

    /// Takes over what was begun and not finished. From then on this daemon may act.
    ///
    /// # Errors
    /// When a journal cannot be read or written: it is tried again.
    pub(super) async fn take_over(&mut self, left: &Inheritance) -> Result<usize, JournalError> {
        let unfinished = self.journal.take_over(left.term).await?;
        self.lease.accept(left.term);
        self.accepted = Some(left.term);
        Ok(unfinished)
    }
}

/// A value that another daemon told, if it can be read: one of another version may not.
pub(super) fn read<T: DeserializeOwned>(shared: &Shared, key: &str) -> Option<T> {
    serde_json::from_str(shared.get(key)?).ok()
}
