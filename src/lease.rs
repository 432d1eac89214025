//! Which of several daemons may act: a lease in etcd, held by one of them at a time.
//!
//! Servers know nothing of leases, so holding one proves nothing to them. What a daemon does stays safe by looking at
//! owners and open slots before every step (`migration`); the lease keeps two from working against each other, and three
//! things keep a daemon that lost it without noticing from acting on:
//!
//! * [`Fenced`] turns commands away once the lease, by this machine's clock since boot, may have run out. That clock cannot
//!   be set and goes on while a process is frozen; other machines' clocks do not matter.
//! * A migration is noted in etcd before it begins, in one transaction with the question whether the lease is still ours.
//! * What is noted there, the next leader takes up.
//!
//! Times, for a lease of T: renewed every T/5, or two seconds; without a renewal, nothing new begins after 2T/5 and what is open is closed;
//! nothing is said to servers after 3T/4. Another daemon may lead after T.

mod campaign;
mod etcd;
mod fence;
mod journal;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::live::Password;
use crate::migration::Intent;

pub use campaign::{Ended, Lease};
pub use etcd::EtcdError;
pub use fence::{Fence, Fenced};
pub use journal::{NOT_BEGUN, SharedJournal};

/// Where the lease is, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `http://host:2379` or `https://…` of etcd's members; any of them will do.
    pub endpoints: Vec<String>,
    /// All keys begin with this and the cluster's name.
    pub prefix: String,
    /// How this daemon is called, for people; its host and port when absent.
    pub name: Option<String>,
    /// Where this daemon's HTTP faces are reached, for people; where they listen when absent.
    pub url: Option<String>,
    /// How long the lease lasts without a renewal.
    pub ttl: Duration,
    /// etcd's user.
    pub user: Option<String>,
    /// And password.
    pub password: Password,
    /// Whose certificates to accept; absent: those that the system does.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key to show.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A daemon, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// How it is called.
    pub name: String,
    /// Where it is reached; empty when nowhere.
    pub url: String,
}

impl fmt::Display for Peer {
    /// `ballast-1 (http://10.0.0.7:9899)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.url.is_empty() { Ok(()) } else { write!(f, " ({})", self.url) }
    }
}

/// What daemons tell each other: values by key, each a JSON document.
pub type Shared = BTreeMap<String, String>;

/// A time of leading, by the number of the change in etcd that began it: later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(i64);

/// A migration that some daemon has begun and not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its name in etcd.
    key: String,
    /// What was intended.
    intent: Intent,
}

impl Begun {
    /// What was intended.
    #[must_use]
    pub fn intent(&self) -> &Intent {
        &self.intent
    }
}

/// What this daemon is among its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nobody can say: etcd does not answer, or has not yet.
    Unknown {
        /// Why, for people.
        why: String,
    },
    /// Another one leads.
    Follower {
        /// Who.
        leader: Peer,
        /// What it tells.
        shared: Arc<Shared>,
        /// What it has begun and not finished.
        begun: Arc<Vec<Begun>>,
    },
    /// The lease is ours. Whoever reads this takes over what was left behind, and then [accepts](Lease::accept).
    Elected {
        /// Since when.
        term: Term,
        /// What the one before told.
        shared: Arc<Shared>,
    },
}

/// Between two renewals, however long the lease is: whoever follows looks as often, and sees that it was given back.
const RENEW_MAX: Duration = Duration::from_secs(2);

/// Who leads the daemons of the cluster that is called so, if anybody does.
///
/// # Errors
/// [`EtcdError`] when etcd cannot be asked.
pub async fn leader(settings: &Settings, cluster: &str) -> Result<Option<Peer>, EtcdError> {
    let keys = campaign::Keys::of(settings, cluster);
    let found = etcd::Etcd::new(settings)?.all(&keys.leader()).await?;
    Ok(found.first().and_then(|entry| serde_json::from_str(&entry.value).ok()))
}

/// How much of the lease's time may pass without a renewal.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Between two renewals, and between two looks at who leads.
    renew: Duration,
    /// Until nothing new is begun.
    hold: Duration,
    /// Until nothing is said to servers any more.
    fence: Duration,
}

impl Times {
    fn of(ttl: Duration) -> Self {
        Self { renew: (ttl / 5).min(RENEW_MAX), hold: ttl * 2 / 5, fence: ttl * 3 / 4 }
    }
}
