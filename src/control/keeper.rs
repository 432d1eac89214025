//! What outlives this process: kept in its own store and, where several daemons share a lease, told to the others.

use std::sync::Arc;

use serde::Serialize;

use crate::lease::Lease;
use crate::store::{Store, StoreError};

/// Keys of what is kept in the state directory.
pub(super) mod key {
    pub(in crate::control) const STANDING: &str = "standing";
    pub(in crate::control) const MEMBERS: &str = "members";
    pub(in crate::control) const PROMOTION: &str = "promotion";
    pub(in crate::control) const SCALER: &str = "scaler";
    pub(in crate::control) const WAITING: &str = "waiting-plan";
    pub(in crate::control) const REJECTED: &str = "rejected-plan";
    pub(in crate::control) const SCALING: &str = "scaling";
    pub(in crate::control) const DRAINS: &str = "drains";
    pub(in crate::control) const PAST: &str = "past";
}

/// Keeps values by key. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) store: Arc<Store>,
    pub(super) lease: Option<Lease>,
}

impl Keeper {
    /// Keeps `value` here, and tells the others of it.
    pub(super) fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        self.store.put(key, value)?;
        self.tell(key, value);
        Ok(())
    }

    /// Tells the others what this daemon finds in its history by itself.
    pub(super) fn tell<T: Serialize>(&self, key: &str, value: &T) {
        if let Some(lease) = &self.lease {
            lease.keep(key, serde_json::to_string(value).expect("what is kept is made of plain values"));
        }
    }
}
