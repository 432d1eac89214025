//! One turn of the loop: settle what is open, look, ask the policy, review its answer, move slots.
//!
//! A turn runs beside the loop and owns, while it lasts, everything that only turns use: the [`Crew`]. It changes nothing
//! else; what came of it goes back as a [`Turn`]. Dropping it inside leaves at worst slots open, which the journal knows.

mod acting;
mod asking;
mod departures;
mod leavings;
mod reviewing;
mod sizing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::approval::Waiting;
use super::command::{Notice, Notify, tell};
use super::deciders::Deciders;
use super::drains::Drain;
use super::given::Given;
use super::keeper::{Keeper, key};
use super::marks::marks;
use super::promise::Promise;
use super::shadows::Shadows;
use super::standing::Effort;
use super::status::Activity;
use crate::clock::now_ms;
use crate::cluster::Cluster;
use crate::collector::Collector;
use crate::config::{Config, NodeRule};
use crate::guard::{Past, members, strangers};
use crate::migration::{self, Context, Intent, IntentId, Journal, JournalError, Recovery, Stop, Tally};
use crate::model::{Address, CycleOutcome, CycleReport, Mode, Move, NodeId, PolicyId, SlotSet, Snapshot, Trigger};
use crate::policy::{PolicyFailure, PolicyHost};
use crate::store::{Basis, Event};
use crate::telemetry::chain;

/// Everything that turns use and change, one turn at a time.
pub(super) struct Crew {
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) collector: Collector,
    pub(super) deciders: Deciders,
    pub(super) past: Past,
    /// The nodes that belong to the cluster; absent before the first look.
    pub(super) members: Option<BTreeSet<NodeId>>,
    /// What the last plan promised, until it can be said what came of it.
    pub(super) promise: Option<Promise>,
    /// How many shards are wanted, and since when.
    pub(super) sizing: Sizing,
    /// Flags that do not go away.
    pub(super) lasting: Lasting,
    /// What was seen last.
    pub(super) seen: Option<Arc<Snapshot>>,
}

/// What a turn is told.
pub(super) struct Orders {
    pub(super) cycle: u64,
    pub(super) trigger: Trigger,
    pub(super) mode: Mode,
    /// What to say when there is no policy to ask.
    pub(super) why_no_policy: String,
    pub(super) config: Arc<Config>,
    pub(super) keeper: Keeper,
    /// What is begun and not finished, also by daemons that led before.
    pub(super) journal: Arc<dyn Journal>,
    /// Slots that another daemon may have open, which leads.
    pub(super) theirs: SlotSet,
    pub(super) host: PolicyHost,
    pub(super) shadows: Shadows,
    /// What is known of nodes: what the configuration says, and what drains.
    pub(super) rules: Vec<NodeRule>,
    /// Nodes that are to leave once they are empty, as it is wanted now.
    pub(super) leaving: watch::Receiver<Vec<Drain>>,
    /// A plan that a person approved: it is carried out in the place of what the policy would say.
    pub(super) approved: Option<Waiting>,
    pub(super) stop: Stop,
    pub(super) doing: watch::Sender<Doing>,
    pub(super) notify: Notify,
}

pub(super) use leavings::Lasting;
pub(super) use sizing::{Fewer, Sizing};

/// What a turn is at, for the loop to show.
#[derive(Debug, Clone, Default)]
pub(super) struct Doing {
    pub(super) activity: Activity,
    pub(super) moves: Tally,
    /// What was settled when the turn began; absent when nothing was open.
    pub(super) recovery: Option<Recovery>,
}

/// What came of a turn.
pub(super) struct Turn {
    pub(super) report: CycleReport,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// What was settled before it; absent when nothing was open.
    pub(super) recovery: Option<Recovery>,
    pub(super) failure: Option<PolicyFailure>,
    /// Whether the policy was really called: one that rests after a fault is not.
    pub(super) called: bool,
    pub(super) effort: Effort,
    /// Moves that wait for a person.
    pub(super) proposed: Vec<Move>,
    /// Whom to empty, since fewer shards are wanted.
    pub(super) fewer: Option<Fewer>,
    /// Whether the policy was asked for its advice about the number of shards, and failed.
    pub(super) no_advice: bool,
    /// Whether those that were to go for want of work are to stay, since more shards are wanted.
    pub(super) stay: bool,
    /// What the decision hung on; absent when nobody was asked.
    given: Option<Given>,
}

impl Crew {
    /// Nodes that own slots and were never seen joining, and where they are reached.
    pub(super) fn strangers(&self) -> BTreeMap<NodeId, Address> {
        let (Some(known), Some(seen)) = (&self.members, &self.seen) else { return BTreeMap::new() };
        strangers(known, seen).map(|primary| (primary.id.clone(), primary.address.clone())).collect()
    }

    /// Where primaries were last seen.
    fn primaries(&self) -> Vec<Address> {
        let seen = self.seen.iter().flat_map(|snapshot| &snapshot.primaries);
        seen.map(|primary| primary.address.clone()).collect()
    }
}

impl Orders {
    /// What the journal says was begun and not finished.
    async fn unfinished(&self) -> Result<Vec<(IntentId, Intent)>, JournalError> {
        let journal = self.journal.clone();
        let read = tokio::task::spawn_blocking(move || journal.unfinished()).await;
        read.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()))
    }

    /// Keeps an event in the history, and shows it to whoever listens.
    fn tell(&self, event: Event) {
        tell(&self.keeper.store, &self.notify, event);
    }

    fn at(&self, activity: Activity) {
        self.doing.send_modify(|doing| doing.activity = activity);
    }

    /// What migrations need, with the journal of this daemon. `policy` is who wants them, if they are new.
    pub(super) fn context(&self, cluster: Arc<dyn Cluster>, policy: Option<&PolicyId>) -> Context {
        let doing = self.doing.clone();
        let policy = policy.map_or("none", |policy| &policy.name);
        Context {
            cluster,
            journal: self.journal.clone(),
            settings: self.config.migration.clone(),
            began_by: format!("daemon {}, policy {policy}, cycle {}", self.config.cluster.name, self.cycle),
            progress: Arc::new(move |progress| doing.send_modify(|doing| doing.moves.hear(progress))),
            stop: self.stop.clone(),
        }
    }
}

/// One turn, from what is open to what was moved.
pub(super) async fn take(mut crew: Crew, orders: Orders) -> (Crew, Turn) {
    let mut turn = Turn::begin(&orders);
    turn.recovery = settle(&mut crew, &orders).await;
    if let Some(snapshot) = look(&mut crew, &orders, &mut turn).await {
        leavings::clear(&mut crew, &orders, &snapshot).await;
        let plan = asking::decide(&mut crew, &orders, &mut turn, &snapshot).await;
        let ledger = reviewing::ledger(&mut crew, &orders).await;
        // Shadows are asked while slots move.
        let judged = reviewing::ask_shadows(&orders, &snapshot, plan.as_ref(), &ledger).await;
        if let Some(approved) = reviewing::review(&mut crew, &orders, &mut turn, &snapshot, plan, &ledger) {
            acting::act(&mut crew, &orders, &mut turn, &snapshot, approved).await;
        }
        departures::departures(&crew, &orders, &turn, &snapshot).await;
        sizing::arrivals(&mut crew, &orders, &turn, &snapshot).await;
        if let Some(judged) = judged {
            turn.report.shadows = judged.await.unwrap_or_default();
        }
    }
    keep(&orders, &turn).await;
    (crew, turn)
}

/// Keeps the report in the history; with all that it was decided by when something was proposed.
async fn keep(orders: &Orders, turn: &Turn) {
    let (store, retention) = (orders.keeper.store.clone(), orders.config.retention);
    let report = turn.report.clone();
    let decided = report.plan.as_ref().is_some_and(|plan| !plan.moves.is_empty());
    let basis = turn.snapshot.clone().zip(turn.given.clone()).filter(|_| decided);
    let keep = move || {
        let basis = basis.as_ref().map(|(snapshot, given)| Basis { snapshot, given });
        store.keep_cycle(&report, basis, &retention)
    };
    let kept = tokio::task::spawn_blocking(keep).await;
    if let Ok(Err(error)) = kept {
        error!(cycle = orders.cycle, error = %chain(&error), "the history misses a cycle");
    }
}

impl Turn {
    fn begin(orders: &Orders) -> Self {
        let begun = CycleReport::begin(orders.cycle, now_ms(), orders.mode);
        let report = CycleReport { trigger: orders.trigger, ..begun };
        Self {
            report,
            snapshot: None,
            recovery: None,
            failure: None,
            called: false,
            effort: Effort::None,
            proposed: Vec::new(),
            fewer: None,
            no_advice: false,
            stay: false,
            given: None,
        }
    }
}

/// Brings to an end what the journal says is unfinished: from before a crash, or in doubt since the last turn. In any
/// mode: leaving slots half-moved is no way to hold still.
pub(super) async fn settle(crew: &mut Crew, orders: &Orders) -> Option<Recovery> {
    if orders.mode == Mode::Follower {
        // What this daemon left open when it led, whoever leads now has taken up.
        return None;
    }
    match orders.unfinished().await {
        Ok(unfinished) if unfinished.is_empty() => {
            orders.doing.send_modify(|doing| {
                doing.moves.clear();
                doing.recovery = None;
            });
            return None;
        }
        Ok(unfinished) => info!(cycle = orders.cycle, migrations = unfinished.len(), "settling open migrations"),
        // Recovery will say why once more; nothing new begins either without the journal.
        Err(error) => warn!(error = %chain(&error), "the journal cannot be read"),
    }
    orders.at(Activity::Recovering);
    let mut addresses = crew.primaries();
    addresses.extend(orders.config.cluster.seeds.iter().cloned());
    match migration::recover(&addresses, &orders.context(crew.cluster.clone(), None)).await {
        Ok(recovery) => {
            crew.past.note_slots(now_ms(), &recovery.moved, 0);
            crew.collector.slots_moved(&recovery.moved);
            if !recovery.moved.is_empty() {
                acting::keep_past(crew, orders).await;
            }
            for (slot, why) in &recovery.held {
                warn!(cycle = orders.cycle, %slot, why, "slot stays open");
            }
            orders.doing.send_modify(|doing| doing.recovery = Some(recovery.clone()));
            Some(recovery)
        }
        Err(error) => {
            warn!(error = %chain(&error), "open migrations cannot be settled");
            None
        }
    }
}

async fn look(crew: &mut Crew, orders: &Orders, turn: &mut Turn) -> Option<Arc<Snapshot>> {
    orders.at(Activity::Collecting);
    let began = Instant::now();
    let marks = marks(&orders.rules, crew.seen.as_deref());
    let seen = crew.collector.collect(&orders.config.cluster.seeds, &marks).await;
    turn.report.timings.collect_ms = milliseconds(began);
    match seen {
        Ok(snapshot) => {
            let snapshot = Arc::new(snapshot);
            crew.seen = Some(snapshot.clone());
            learn_members(crew, orders, &snapshot).await;
            turn.report.snapshot = Some(snapshot.summary());
            turn.snapshot = Some(snapshot.clone());
            for (primary, took) in crew.collector.answered() {
                (orders.notify)(Notice::Answered { seconds: took.as_secs_f64(), primary });
            }
            // What follows may take minutes.
            (orders.notify)(Notice::Seen(snapshot.clone()));
            Some(snapshot)
        }
        Err(error) => {
            turn.report.outcome = CycleOutcome::NotCollected { reason: chain(&error) };
            None
        }
    }
}

/// Keeps the list of members, when it changed.
async fn learn_members(crew: &mut Crew, orders: &Orders, snapshot: &Snapshot) {
    let known = crew.members.clone();
    let now = members(crew.members.take(), snapshot);
    if known.as_ref() != Some(&now) {
        let (keeper, list) = (orders.keeper.clone(), now.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeper.put(key::MEMBERS, &list)).await {
            warn!(error = %chain(&error), "a restart will not know the cluster's new members");
        }
    }
    crew.members = Some(now);
}

/// Whether nodes may leave at the end of this turn.
async fn may_leave(orders: &Orders) -> bool {
    if !orders.mode.acts() || orders.stop.is_asked() {
        return false;
    }
    // A node may be the end of a migration that is in doubt.
    orders.unfinished().await.is_ok_and(|unfinished| unfinished.is_empty())
}

fn milliseconds(began: Instant) -> f64 {
    // To the microsecond: what is finer is no figure, and nobody reads it.
    (began.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
