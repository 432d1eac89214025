//! Leading and following: what other daemons on the same cluster told, and taking over from them.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::super::command::Answer;
use super::super::keeper::key;
use super::super::peers::{Peers, read};
use super::{Control, Promotion};
use crate::clock::now_ms;
use crate::lease::Shared;
use crate::model::{Mode, Trigger};
use crate::store::Store;
use crate::telemetry::chain;

/// For so long an answer waits until the other daemons know of what it promises, and an end until the lease is given back.
const TELLING: Duration = Duration::from_secs(2);

/// So often it tries to take over before it leaves that to another daemon.
const TAKEOVERS_MAX: u32 = 3;

impl Control {
    /// Whether this daemon may act, as far as others go: it is the only one, or leads.
    pub(super) fn leads(&self) -> bool {
        self.peers.as_ref().is_none_or(Peers::leads)
    }

    /// Why this daemon does not lead, if it does not.
    pub(super) fn follows(&self) -> Option<String> {
        let peers = self.peers.as_ref().filter(|peers| !peers.leads())?;
        Some(peers.status().reason)
    }

    /// Another daemon leads, or this one does.
    pub(super) fn role_changed(&mut self) {
        let Some(peers) = &self.peers else { return };
        let (told, elected) = (peers.told(), peers.inheritance().is_some());
        if let Some(shared) = told {
            self.adopt(&shared);
        }
        if elected {
            // What was left behind is not to wait for a cycle's time.
            self.begin_soon(Trigger::Lead);
        }
        self.settle_mode(self.status.mode, "lease", false);
    }

    /// Takes over from the leader before, if there is anything to take over. No turn may be under way.
    pub(super) async fn take_lead(&mut self) {
        let Some(left) = self.peers.as_ref().and_then(|peers| peers.inheritance()) else { return };
        // What this daemon told itself it knows, and perhaps more: a pause that etcd did not take.
        if self.peers.as_ref().is_some_and(|peers| !peers.lease.told_itself(&left.shared)) {
            self.adopt(&left.shared);
        }
        let Some(peers) = &mut self.peers else { return };
        match peers.take_over(&left).await {
            Ok(unfinished) => {
                self.failed_takeovers = 0;
                info!(unfinished, "this daemon leads");
                self.tell_all();
                self.settle_mode(Mode::Follower, "lease", false);
            }
            Err(error) => {
                warn!(error = %chain(&error), "this daemon does not lead yet");
                self.failed_takeovers += 1;
                if self.failed_takeovers >= TAKEOVERS_MAX {
                    // Another one may be able to.
                    self.failed_takeovers = 0;
                    self.give_back().await;
                }
            }
        }
    }

    /// Takes what another daemon told for what is.
    fn adopt(&mut self, shared: &Shared) {
        if let Some(standing) = read(shared, key::STANDING) {
            self.standing = standing;
            keep_here(&self.keeper.store, key::STANDING, &self.standing);
        }
        if let Some(drains) = read(shared, key::DRAINS) {
            self.drains = drains;
            keep_here(&self.keeper.store, key::DRAINS, &self.drains);
            self.drains_no_more();
            self.show_drains();
        }
        if let Some(waiting) = read(shared, key::WAITING) {
            self.waiting_plan = waiting;
            self.show_waiting();
            keep_here(&self.keeper.store, key::WAITING, &self.waiting_plan);
        }
        if let Some(rejected) = read(shared, key::REJECTED) {
            self.rejected = rejected;
            keep_here(&self.keeper.store, key::REJECTED, &self.rejected);
        }
        let promotion = read::<Option<Promotion>>(shared, key::PROMOTION);
        let promotion = promotion.map(|kept| kept.filter(|kept| kept.holds(&self.config.policy)));
        if let Some(promotion) = promotion.filter(|promotion| *promotion != self.promotion) {
            self.promotion = promotion;
            keep_here(&self.keeper.store, key::PROMOTION, &self.promotion);
            let (source, parameters) = Promotion::decides(self.promotion.as_ref(), &self.config.policy);
            self.waiting = None;
            self.feed.turn_to(source, parameters);
        }
        self.status.scaling = read(shared, key::SCALING).flatten();
        // While a turn has the crew it looks and does nothing; the next time will do.
        let Some(crew) = &mut self.crew else { return };
        let store = &self.keeper.store;
        if let Some(past) = read(shared, key::PAST) {
            keep_here(store, key::PAST, &past);
            crew.past = past;
        }
        if let Some(scaler) = read(shared, key::SCALER) {
            keep_here(store, key::SCALER, &scaler);
            crew.sizing.scaler = scaler;
        }
        if let Some(members) = read(shared, key::MEMBERS) {
            keep_here(store, key::MEMBERS, &members);
            crew.members = Some(members);
        }
    }

    /// Tells the others everything: they may never have heard of it.
    fn tell_all(&self) {
        self.keeper.tell(key::STANDING, &self.standing);
        self.keeper.tell(key::DRAINS, &self.drains);
        self.keeper.tell(key::WAITING, &self.waiting_plan);
        self.keeper.tell(key::REJECTED, &self.rejected);
        self.keeper.tell(key::PROMOTION, &self.promotion);
        if let Some(crew) = &self.crew {
            self.keeper.tell(key::PAST, &crew.past);
            self.keeper.tell(key::SCALER, &crew.sizing.scaler);
            if let Some(members) = &crew.members {
                self.keeper.tell(key::MEMBERS, members);
            }
        }
    }

    /// An answer that promises something waits until the other daemons know of it.
    pub(super) async fn once_told(&self, answer: Answer) -> Answer {
        let (Some(peers), Ok(text)) = (&self.peers, &answer) else { return answer };
        match timeout(TELLING, peers.lease.flush()).await {
            Ok(true) => answer,
            _ => Ok(format!("{text}; the other daemons do not know of it yet, since etcd did not take it")),
        }
    }

    /// Lets another daemon lead at once.
    pub(super) async fn give_back(&self) {
        if let Some(peers) = &self.peers {
            let _late = timeout(TELLING, peers.lease.release()).await;
        }
    }

    /// Refuses orders of a daemon that does not lead: whoever does would not hear of them.
    pub(super) fn takes_orders(&self) -> Result<(), String> {
        match self.follows() {
            Some(why) => Err(format!("this daemon does not lead: {why}; ask the one that does")),
            None => Ok(()),
        }
    }

    /// Ends a pause whose time has come.
    pub(super) fn end_pause(&mut self) {
        if self.leads() && self.standing.expire(now_ms()) {
            self.keep_standing();
            self.settle_mode(Mode::Paused, "ballast", false);
        }
    }
}

fn keep_here<T: serde::Serialize>(store: &Store, key: &str, value: &T) {
    if let Err(error) = store.put(key, value) {
        warn!(key, error = %chain(&error), "a restart will not know what another daemon told");
    }
}
