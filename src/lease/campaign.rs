//! Seeks the lease, keeps it, and tells what this daemon is among its peers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::etcd::{Change, Entry, Etcd, EtcdError};
use super::fence::{Fence, since_boot};
use super::{Begun, Peer, Role, Settings, Shared, Term, Times};
use crate::telemetry::chain;

/// Notes that may wait for etcd.
const NOTES_MAX: usize = 256;

/// Under which name it is told who told the rest.
const BY: &str = "by";

/// In the place of an intent that another daemon has taken over: whoever noted it need not think that nobody ever knew.
pub(super) const TAKEN: &str = "taken";

/// Why nothing was changed in etcd.
pub(super) enum Unchanged {
    /// Nothing was, for certain.
    No(String),
    /// The answer was lost: it may have been.
    Perhaps(String),
}

impl Unchanged {
    /// Why, for people.
    pub(super) fn why(self) -> String {
        let (Self::No(why) | Self::Perhaps(why)) = self;
        why
    }
}

/// The campaign is over: its task has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended;

/// Something for the others to know.
enum Note {
    /// A value, in place of what was there.
    Keep(String, String),
    /// Everything before is to be in etcd; whether it is.
    Flush(oneshot::Sender<bool>),
    /// The lease is to be given back.
    Release(oneshot::Sender<()>),
}

/// The lease as this daemon sees it. Cheap to clone.
#[derive(Clone)]
pub struct Lease {
    etcd: Arc<Etcd>,
    fence: Fence,
    role: watch::Receiver<Role>,
    notes: mpsc::Sender<Note>,
    keys: Keys,
    daemon: String,
    _task: Arc<Task>,
}

/// Ends with the last [`Lease`].
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where things are in etcd.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    root: String,
}

impl Keys {
    pub(super) fn of(settings: &Settings, cluster: &str) -> Self {
        Self { root: format!("{}{cluster}/", settings.prefix) }
    }

    pub(super) fn leader(&self) -> String {
        format!("{}leader", self.root)
    }

    fn shared(&self, name: &str) -> String {
        format!("{}state/{name}", self.root)
    }

    pub(super) fn begun(&self, name: &str) -> String {
        format!("{}journal/{name}", self.root)
    }
}

impl Lease {
    /// Begins to seek the lease for the cluster that is called so, as this `peer`.
    /// `daemon` tells it from all others, for ever.
    ///
    /// # Errors
    /// [`EtcdError::Settings`]. That etcd does not answer is a [`Role`].
    pub fn seek(settings: &Settings, cluster: &str, peer: Peer, daemon: String) -> Result<Self, EtcdError> {
        let etcd = Arc::new(Etcd::new(settings)?);
        let fence = Fence::default();
        let keys = Keys::of(settings, cluster);
        let (known, role) = watch::channel(Role::Unknown { why: "etcd was not asked yet".to_owned() });
        let (notes, received) = mpsc::channel(NOTES_MAX);
        let campaign = Campaign {
            etcd: etcd.clone(),
            fence: fence.clone(),
            keys: keys.clone(),
            peer,
            ttl: settings.ttl,
            role: known,
            held: None,
            daemon: daemon.clone(),
            unsaid: BTreeMap::new(),
        };
        let task = Arc::new(Task(tokio::spawn(campaign.run(received))));
        Ok(Self { etcd, fence, role, notes, keys, daemon, _task: task })
    }

    /// What this daemon is now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    /// Waits until that changes, or was not looked at since it did.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn changed(&mut self) -> Result<(), Ended> {
        self.role.changed().await.map_err(|_| Ended)
    }

    /// What keeps commands from servers while this daemon may not act.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// What `term` inherited was taken over: from now on this daemon may act.
    pub fn accept(&self, term: Term) {
        self.fence.accept(term);
    }

    /// Tells the other daemons a value, once etcd takes it, if this one leads.
    pub fn keep(&self, name: &str, value: String) {
        if self.notes.try_send(Note::Keep(name.to_owned(), value)).is_err() {
            warn!(name, "the other daemons are not told of a change: too many wait already");
        }
    }

    /// Waits until what was told before is in etcd. Whether it is.
    pub async fn flush(&self) -> bool {
        let (done, answer) = oneshot::channel();
        self.notes.send(Note::Flush(done)).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Gives the lease back, so that another daemon leads at once.
    pub async fn release(&self) {
        let (done, answer) = oneshot::channel();
        if self.notes.send(Note::Release(done)).await.is_ok() {
            let _gone = answer.await;
        }
    }

    /// What tells this daemon from all others.
    pub(super) fn daemon(&self) -> &str {
        &self.daemon
    }

    /// Whether what is told there was told by this daemon: what it knows itself is as new, or newer.
    #[must_use]
    pub fn told_itself(&self, shared: &Shared) -> bool {
        shared.get(BY) == Some(&self.daemon)
    }

    /// Makes `changes` if this daemon leads in etcd's eyes as well.
    pub(super) async fn change(&self, changes: &[Change]) -> Result<(), Unchanged> {
        let Some(term) = self.fence.term() else { return Err(Unchanged::No("this daemon does not lead".to_owned())) };
        self.change_in(term, changes).await
    }

    /// The same in a `term` that is not accepted yet.
    pub(super) async fn change_in(&self, Term(created): Term, changes: &[Change]) -> Result<(), Unchanged> {
        match self.etcd.change((&self.keys.leader(), created), changes).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unchanged::No("another daemon leads by now".to_owned())),
            Err(error) => Err(Unchanged::Perhaps(chain(&error))),
        }
    }

    /// What was begun and not finished, as etcd has it now, and the names of what others have taken over.
    pub(super) async fn journal(&self) -> Result<(Vec<Begun>, BTreeSet<String>), EtcdError> {
        let found = self.etcd.all(&self.keys.begun("")).await?;
        let taken = found.iter().filter(|entry| entry.value == TAKEN).map(|entry| entry.key.clone());
        Ok((begun(&self.keys, &found), taken.collect()))
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }
}

/// The lease while it is ours.
struct Held {
    lease: i64,
    term: Term,
    times: Times,
    /// When the last renewal that worked was asked for, since boot.
    renewed: Duration,
    /// What was found when it became ours.
    shared: Arc<Shared>,
}

struct Campaign {
    etcd: Arc<Etcd>,
    fence: Fence,
    keys: Keys,
    peer: Peer,
    ttl: Duration,
    role: watch::Sender<Role>,
    held: Option<Held>,
    /// What this daemon is called where it must not be taken for another one.
    daemon: String,
    /// What etcd does not know yet.
    unsaid: BTreeMap<String, String>,
}

impl Campaign {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    next = Instant::now() + Times::of(self.ttl).renew;
                    self.look().await;
                    if self.held.is_some() && !self.unsaid.is_empty() {
                        self.say().await;
                    }
                }
                note = notes.recv() => match note {
                    None => return,
                    Some(Note::Keep(name, value)) => drop(self.unsaid.insert(name, value)),
                    Some(Note::Flush(done)) => {
                        let said = self.say().await;
                        let _gone = done.send(said);
                    }
                    Some(Note::Release(done)) => {
                        self.release().await;
                        let _gone = done.send(());
                        // Whoever gives it back is about to end.
                        next += self.ttl;
                    }
                },
            }
        }
    }

    /// Renews the lease, or sees whether it can be had.
    async fn look(&mut self) {
        let asked = since_boot();
        let answer = match &self.held {
            Some(held) => self.renew(held).await,
            None => self.seek(asked).await.map(Some),
        };
        match (answer, &mut self.held) {
            (Ok(Some(())), Some(held)) => {
                held.renewed = asked;
                self.fence.extend(held.term, asked + held.times.fence);
                let elected = Role::Elected { term: held.term, shared: held.shared.clone() };
                // Told once, and again after a time of doubt.
                self.tell(elected);
            }
            (Ok(None), Some(_)) => {
                self.fence.close();
                self.held = None;
                self.doubt("the lease ran out before it was renewed, or was taken away".to_owned());
            }
            // A follower; `seek` has told.
            (Ok(_), None) => {}
            (Err(error), held) => {
                let now = since_boot();
                match held {
                    // One lost renewal is nothing yet.
                    Some(held) if now < held.renewed + held.times.hold => {
                        warn!(error = %chain(&error), "the lease was not renewed");
                    }
                    Some(held) if now < held.renewed + held.times.fence => {
                        self.doubt(format!("the lease was not renewed: {}", chain(&error)));
                    }
                    // It may still turn out to be ours: a renewal that comes through says so.
                    _ => {
                        self.fence.close();
                        self.doubt(chain(&error));
                    }
                }
            }
        }
    }

    /// Renews the lease. Nothing when it is not ours any more: it has run out, or somebody took the leader's key away.
    async fn renew(&self, held: &Held) -> Result<Option<()>, EtcdError> {
        let Term(created) = held.term;
        let ours = self.etcd.renew(held.lease).await? && self.etcd.change((&self.keys.leader(), created), &[]).await?;
        Ok(ours.then_some(()))
    }

    /// Claims the lease if nobody has it, and tells who leads otherwise.
    async fn seek(&mut self, asked: Duration) -> Result<(), EtcdError> {
        let leader = self.keys.leader();
        let found = self.etcd.all(&self.keys.root).await?;
        if let Some(entry) = found.iter().find(|entry| entry.key == leader) {
            self.follow(entry, &found);
            return Ok(());
        }
        let (lease, lasts) = self.etcd.grant(self.ttl).await?;
        let ours = serde_json::to_string(&self.peer).expect("two texts");
        let claimed = self.etcd.claim(&leader, &ours, lease).await?;
        // Whoever led before writes nothing from here on: every change asks for the leader's key first.
        let found = self.etcd.all(&self.keys.root).await?;
        if claimed.lease != lease {
            self.etcd.revoke(lease).await?;
            self.follow(&claimed, &found);
            return Ok(());
        }
        let shared = Arc::new(self.shared(&found));
        let times = Times::of(lasts.min(self.ttl));
        self.unsaid.clear();
        info!(name = self.peer.name, "this daemon has the lease");
        self.held = Some(Held { lease, term: Term(claimed.created), times, renewed: asked, shared });
        Ok(())
    }

    fn follow(&self, leader: &Entry, found: &[Entry]) {
        let unnamed = || Peer { name: "another daemon".to_owned(), url: String::new() };
        let leader = serde_json::from_str(&leader.value).unwrap_or_else(|_| unnamed());
        let (shared, begun) = (Arc::new(self.shared(found)), Arc::new(begun(&self.keys, found)));
        self.tell(Role::Follower { leader, shared, begun });
    }

    fn shared(&self, found: &[Entry]) -> Shared {
        let prefix = self.keys.shared("");
        let named = |entry: &Entry| Some((entry.key.strip_prefix(&prefix)?.to_owned(), entry.value.clone()));
        found.iter().filter_map(named).collect()
    }

    /// Nobody can say who leads.
    fn doubt(&self, why: String) {
        self.tell(Role::Unknown { why });
    }

    /// Tells what this daemon is, if that is news.
    fn tell(&self, role: Role) {
        self.role.send_if_modified(|known| {
            let news = *known != role;
            if news {
                *known = role;
            }
            news
        });
    }

    /// Tells etcd what it does not know yet. Whether it knows all now.
    async fn say(&mut self) -> bool {
        let Some(Held { term: Term(created), .. }) = self.held else { return self.unsaid.is_empty() };
        // One at a time: a large one that etcd does not take keeps back no pause.
        let mut all = true;
        for (name, value) in self.unsaid.clone() {
            let changes =
                [Change::Put(self.keys.shared(&name), value), Change::Put(self.keys.shared(BY), self.daemon.clone())];
            match self.etcd.change((&self.keys.leader(), created), &changes).await {
                Ok(true) => drop(self.unsaid.remove(&name)),
                Ok(false) => return false,
                Err(error) => {
                    warn!(name, error = %chain(&error), "the other daemons are not told of a change yet");
                    all = false;
                }
            }
        }
        all
    }

    async fn release(&mut self) {
        // The next leader has to know what this one did last.
        self.say().await;
        self.fence.close();
        if let Some(held) = self.held.take()
            && let Err(error) = self.etcd.revoke(held.lease).await
        {
            warn!(error = %chain(&error), "the lease is not given back; it ends by itself");
        }
    }
}

fn begun(keys: &Keys, found: &[Entry]) -> Vec<Begun> {
    let prefix = keys.begun("");
    let read = |entry: &Entry| {
        let intent = serde_json::from_str(&entry.value);
        if let Err(error) = &intent {
            warn!(key = entry.key, %error, "a migration that another daemon noted cannot be read; its slots count as foreign");
        }
        Some(Begun { key: entry.key.clone(), intent: intent.ok()? })
    };
    let notes = found.iter().filter(|entry| entry.key.starts_with(&prefix) && entry.value != TAKEN);
    notes.filter_map(read).collect()
}
