//! One turn of the loop: settle what is open, look, ask the policy, review its answer, move slots.
//!
//! A turn runs beside the loop and owns, while it lasts, everything that only turns use: the [`Crew`]. It changes nothing
//! else; what came of it goes back as a [`Turn`]. Dropping it inside leaves at worst slots open, which the journal knows.

mod departures;
mod leavings;
mod sizing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::Notice;
use super::approval::Waiting;
use super::conduct::{MEMBERS, PAST, tell};
use super::deciders::{Deciders, Successor};
use super::drains::Drain;
use super::given::Given;
use super::keeper::Keeper;
use super::marks::marks;
use super::probes;
use super::promise::Promise;
use super::shadows::{Case, Shadows};
use super::standing::Effort;
use super::status::Activity;
use crate::clock::now_ms;
use crate::cluster::Cluster;
use crate::collector::Collector;
use crate::config::{Config, Follow, NodeRule};
use crate::guard::{self, ApprovedPlan, Ledger, Past, members};
use crate::migration::{self, Amount, Context, Intent, IntentId, Journal, JournalError, Recovery, Stop, Tally};
use crate::model::{
    Address, CycleOutcome, CycleReport, MigrationReport, Mode, Move, NodeId, Plan, PolicyId, ShadowReport, SlotSet,
    Snapshot, Trigger,
};
use crate::policy::{Policy as _, PolicyFailure, PolicyHost, Source};
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
    /// Nodes that are to leave once they are empty.
    pub(super) leaving: Vec<Drain>,
    /// A plan that a person approved: it is carried out in the place of what the policy would say.
    pub(super) approved: Option<Waiting>,
    pub(super) stop: Stop,
    pub(super) doing: watch::Sender<Doing>,
    pub(super) notify: Notify,
}

pub(super) use leavings::Lasting;
pub(super) use sizing::{Fewer, Sizing};

/// Where notices go; must not block.
pub(super) type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

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
    /// What the decision hung on; absent when nobody was asked.
    given: Option<Given>,
}

impl Crew {
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
        let plan = decide(&mut crew, &orders, &mut turn, &snapshot).await;
        let ledger = ledger(&mut crew, &orders).await;
        // Shadows are asked while slots move.
        let judged = ask_shadows(&orders, &snapshot, plan.as_ref(), &ledger).await;
        if let Some(approved) = review(&mut crew, &orders, &mut turn, &snapshot, plan, &ledger) {
            act(&mut crew, &orders, &mut turn, &snapshot, approved).await;
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
            crew.past.note_slots(now_ms(), &recovery.settled, 0);
            crew.collector.slots_moved(&recovery.settled);
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
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeper.put(MEMBERS, &list)).await {
            warn!(error = %chain(&error), "a restart will not know the cluster's new members");
        }
    }
    crew.members = Some(now);
}

/// After too many faults, puts another policy in the place of the one that fails, if that is wanted.
async fn relieve(crew: &mut Crew, orders: &Orders) {
    let settings = &orders.config.policy.settings;
    let faults = crew.deciders.current().map_or(0, |policy| policy.stats().faults_in_row);
    match crew.deciders.successor(faults, settings.on_failure, settings.faults_before_fallback) {
        None => return,
        Some(Successor::Previous) => crew.deciders.recall(),
        Some(Successor::Balance) => {
            let host = orders.host.clone();
            let load = move || host.load(&Source::Embedded("balance".to_owned()), "{}");
            match tokio::task::spawn_blocking(load).await {
                Ok(Ok(balance)) => crew.deciders.relieve_by(balance),
                Ok(Err(failure)) => warn!(reason = %failure, "the embedded policy cannot stand in"),
                Err(bug) => std::panic::resume_unwind(bug.into_panic()),
            }
        }
    }
    if let Some(policy) = crew.deciders.stand_in() {
        warn!(policy = %policy.id(), faults, "another policy stands in until a new one is loaded");
    }
}

/// Asks the policy, on a thread that may be blocked for as long as its deadline allows.
async fn decide(crew: &mut Crew, orders: &Orders, turn: &mut Turn, snapshot: &Arc<Snapshot>) -> Option<Plan> {
    orders.at(Activity::Planning);
    if let Some(plan) = carry_on(orders, turn, snapshot) {
        return Some(plan);
    }
    relieve(crew, orders).await;
    let Some(mut policy) = crew.deciders.take() else {
        let reason = orders.why_no_policy.clone();
        turn.report.outcome = CycleOutcome::PolicyFailed { kind: "not-loaded".to_owned(), reason };
        return None;
    };
    turn.report.policy = Some(policy.id().clone());
    turn.given = Some(Given {
        policy: policy.id().digest.clone(),
        parameters: policy.parameters().to_owned(),
        remembered: policy.saved_state().cloned(),
        limits: orders.config.limits.clone(),
        ledger: Ledger::default(),
        reviewed_at_ms: 0,
    });
    let view = snapshot.clone();
    let began = Instant::now();
    let calls = policy.stats().calls;
    let follow = orders.config.scaling.follow;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = policy.plan(&view);
        let advice = (follow != Follow::Off && answer.is_ok()).then(|| policy.advise(&view));
        (policy, answer, advice)
    });
    let (policy, answer, advice) = asked.await.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()));
    turn.report.timings.policy_ms = milliseconds(began);
    turn.called = policy.stats().calls > calls;
    if turn.called {
        turn.report.log = policy.log_lines().iter().take(LOG_LINES).map(|line| begin_of(line)).collect();
    }
    crew.deciders.put_back(policy);
    sizing::hear(crew, orders, turn, snapshot, advice).await;
    match answer {
        Ok(plan) => Some(plan),
        Err(failure) => {
            let kind = failure.kind().to_owned();
            turn.report.outcome = CycleOutcome::PolicyFailed { kind, reason: failure.to_string() };
            turn.failure = Some(failure);
            None
        }
    }
}

/// So many lines of a policy's log are kept with a cycle, and so many bytes of each: the daemon's log has them whole.
const LOG_LINES: usize = 20;
const LOG_BYTES: usize = 240;

fn begin_of(line: &str) -> String {
    let end = line.floor_char_boundary(LOG_BYTES);
    let rest = if end < line.len() { "…" } else { "" };
    format!("{}{rest}", &line[..end])
}

/// The plan that a person approved, while the cluster is as it was.
fn carry_on(orders: &Orders, turn: &mut Turn, snapshot: &Snapshot) -> Option<Plan> {
    let approved = orders.approved.as_ref().filter(|approved| approved.void(snapshot, now_ms()).is_none())?;
    turn.report.policy = Some(approved.policy.clone());
    Some(approved.plan(snapshot))
}

/// What the guard has to know of the past.
async fn ledger(crew: &mut Crew, orders: &Orders) -> Ledger {
    let ours: SlotSet = match orders.unfinished().await {
        Ok(intents) => intents.iter().flat_map(|(_, intent)| intent.slots.iter()).chain(orders.theirs.iter()).collect(),
        // Then every open slot counts as foreign, and nothing moves.
        Err(_) => SlotSet::default(),
    };
    crew.past.ledger(now_ms(), ours, crew.members.clone())
}

/// Has shadows asked about the same view, and judged as the deciding policy is.
async fn ask_shadows(
    orders: &Orders,
    snapshot: &Arc<Snapshot>,
    plan: Option<&Plan>,
    ledger: &Ledger,
) -> Option<oneshot::Receiver<Vec<ShadowReport>>> {
    if orders.config.shadows.is_empty() {
        return None;
    }
    let case = Case {
        snapshot: snapshot.clone(),
        plan: plan.cloned(),
        limits: orders.config.limits.clone(),
        ledger: ledger.clone(),
    };
    Some(orders.shadows.judge(case).await)
}

/// What may be carried out now. Without a plan an empty one is reviewed: its predictions say how even the cluster is.
fn review(
    crew: &mut Crew,
    orders: &Orders,
    turn: &mut Turn,
    snapshot: &Snapshot,
    plan: Option<Plan>,
    ledger: &Ledger,
) -> Option<ApprovedPlan> {
    let began = Instant::now();
    let asked = plan.is_some();
    let plan = plan.unwrap_or_else(|| nothing(snapshot));
    let reviewed_at_ms = now_ms();
    let verdict = guard::review(&plan, snapshot, &orders.config.limits, ledger, reviewed_at_ms);
    if let Some(given) = &mut turn.given {
        given.ledger = ledger.clone();
        given.reviewed_at_ms = reviewed_at_ms;
    }
    turn.report.timings.review_ms = milliseconds(began);
    if crew.promise.as_ref().is_some_and(|promise| promise.is_due(orders.cycle)) {
        turn.report.realised = crew.promise.take().map(|promise| promise.realised(&verdict.predictions));
    }
    turn.report.predictions = verdict.predictions;
    if !asked {
        return None;
    }
    turn.report.refusals = verdict.refusals;
    turn.report.approved = verdict.approved.moves().to_vec();
    turn.report.addresses = snapshot.addresses(turn.report.approved.iter().flat_map(|step| [&step.from, &step.to]));
    turn.report.outcome = match (plan.moves.is_empty(), verdict.approved.is_empty()) {
        (true, _) => CycleOutcome::NoChange,
        (false, true) => CycleOutcome::Refused,
        (false, false) => CycleOutcome::Planned,
    };
    turn.report.plan = Some(plan);
    if verdict.approved.is_empty() || orders.stop.is_asked() {
        return None;
    }
    match orders.mode {
        Mode::Auto => Some(verdict.approved),
        // What a person has seen, and nothing that a policy says besides.
        Mode::Approval if turn.given.is_none() => Some(verdict.approved),
        Mode::Approval => {
            turn.proposed = verdict.approved.into_moves();
            None
        }
        _ => None,
    }
}

/// A plan that moves nothing.
fn nothing(snapshot: &Snapshot) -> Plan {
    Plan {
        policy: PolicyId { name: String::new(), version: String::new(), digest: String::new() },
        generation: snapshot.generation,
        moves: Vec::new(),
        summary: String::new(),
        gauges: Vec::new(),
    }
}

async fn act(crew: &mut Crew, orders: &Orders, turn: &mut Turn, snapshot: &Snapshot, approved: ApprovedPlan) {
    orders.at(Activity::Migrating);
    let began = Instant::now();
    let planned = approved.moves().len();
    let context = orders.context(crew.cluster.clone(), turn.report.policy.as_ref());
    let total = Amount::of(approved.moves(), snapshot);
    orders.doing.send_modify(|doing| doing.moves.begin(total, now_ms()));
    let notify = orders.notify.clone();
    let moving = migration::execute(approved, snapshot, &context);
    let primaries = crew.primaries();
    let probing = probes::while_moving(&*context.cluster, &primaries, &notify);
    // The probes go on until the moving is over, and are dropped with it: a question dropped half-way harms nothing.
    let reports = tokio::select! { reports = moving => reports, () = probing => Vec::new() };
    turn.report.timings.migrate_ms = milliseconds(began);
    let now_ms = now_ms();
    for report in &reports {
        crew.past.note(now_ms, report);
        crew.collector.slots_moved(&report.moved);
    }
    let moved: usize = reports.iter().map(|report| report.moved.len()).sum();
    let stopped = orders.stop.is_asked();
    turn.effort = match moved {
        0 if stopped => Effort::None,
        0 => Effort::Vain,
        _ => Effort::Fruitful,
    };
    turn.report.outcome = match moved == planned {
        true => CycleOutcome::Executed,
        false => CycleOutcome::Incomplete { reason: why_incomplete(planned, moved, stopped, &reports) },
    };
    turn.report.migrations = reports;
    if moved > 0 {
        // What an earlier plan promised, these moves have changed.
        crew.promise = Promise::of(&turn.report);
        orders.keeper.tell(PAST, &crew.past);
    }
}

/// Whether nodes may leave at the end of this turn.
async fn may_leave(orders: &Orders) -> bool {
    if !orders.mode.acts() || orders.stop.is_asked() {
        return false;
    }
    // A node may be the end of a migration that is in doubt.
    orders.unfinished().await.is_ok_and(|unfinished| unfinished.is_empty())
}

fn why_incomplete(planned: usize, moved: usize, stopped: bool, reports: &[MigrationReport]) -> String {
    let stayed = reports.iter().flat_map(|report| &report.stayed).next();
    match stayed {
        Some((slot, why)) => format!("{moved} of {planned} slots moved; slot {slot} stayed: {why}"),
        None if stopped => format!("{moved} of {planned} slots moved before it was asked to stop"),
        None => format!("{moved} of {planned} slots moved; the others were not begun after one ended in doubt"),
    }
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_policy_is_cut_between_characters() {
        assert_eq!(begin_of("short"), "short");
        assert_eq!(begin_of(&"é".repeat(LOG_BYTES)), "é".repeat(LOG_BYTES / 2) + "…");
        assert!(begin_of(&format!("a{}", "é".repeat(LOG_BYTES))).len() <= LOG_BYTES + "…".len());
    }
}
