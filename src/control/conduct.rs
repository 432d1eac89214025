//! The loop itself: hears one event after the other, and owns everything that they change.
//!
//! Turns run beside it, so that it answers while slots move: a pause stops them at their next step, a new policy or
//! configuration waits for the turn to end.

mod approving;
mod draining;
mod leading;
mod line;
mod reloads;
mod showing;
mod sizing;

pub(super) use sizing::WHO;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::RunError;
use super::alarm::Alarm;
use super::approval::Waiting;
use super::command::{Answer, Command, Notice, Request};
use super::config_watch::ConfigWatch;
use super::drains::Drains;
use super::feed::Feed;
use super::keeper::Keeper;
use super::peers::Peers;
use super::promotion::Promotion;
use super::shadows::Shadows;
use super::signals::{Signal, Signals};
use super::standing::Standing;
use super::status::{Activity, CycleSummary, Status};
use super::supervisor::Supervisor;
use super::turn::{self, Crew, Doing, Notify, Orders, Turn};
use crate::clock::now_ms;
use crate::config::{Config, Hours};
use crate::guard::all_members;
use crate::migration::{Stop, StopHandle};
use crate::model::{CycleOutcome, CycleReport, Mode, Trigger, resource};
use crate::policy::{self, LoadedPolicy};
use crate::store::{Event as Happening, Store, StoredEvent};
use crate::telemetry::chain;

/// Keys of what is kept in the state directory.
pub(super) const STANDING: &str = "standing";
pub(super) const MEMBERS: &str = "members";
pub(super) const PROMOTION: &str = "promotion";
pub(super) const SCALER: &str = "scaler";
const WAITING: &str = "waiting-plan";
const REJECTED: &str = "rejected-plan";
const SCALING: &str = "scaling";
const DRAINS: &str = "drains";
/// What other daemons are told besides.
pub(super) const PAST: &str = "past";

/// After the time in which open slots are settled, this is left for everything else before an ending daemon gives up.
const ENDING_SLACK: Duration = Duration::from_secs(30);

/// How long a change window's next edge is waited for before the clock is looked at again.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// Everything that can happen.
enum Event {
    /// It is time for the next turn.
    Tick,
    /// A turn ended.
    TurnOver(Box<(Crew, Turn)>),
    /// A turn has come further.
    Progress,
    /// A version of the policy was judged.
    Policy(policy::Reload),
    /// The configuration's file has another content.
    ConfigChanged,
    /// A change window may have opened or closed.
    Hours,
    /// Another daemon leads, or this one does.
    Role,
    /// Somebody asks.
    Asked(Request),
    /// The system says.
    Signal(Signal),
    /// Ending took too long.
    PatienceOver,
    /// Whoever started us wants a sign of life.
    SignOfLife,
}

/// A turn under way.
struct Running {
    turn: JoinHandle<(Crew, Turn)>,
    stop: StopHandle,
}

/// An end under way.
struct Ending {
    why: &'static str,
    give_up_at: Instant,
}

/// What the loop begins with.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) forced: Option<Mode>,
    pub(super) keeper: Keeper,
    pub(super) peers: Option<Peers>,
    pub(super) crew: Crew,
    pub(super) feed: Feed,
    pub(super) promotion: Option<Promotion>,
    pub(super) shadows: Shadows,
    pub(super) signals: Signals,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) shown: watch::Sender<Arc<Status>>,
    pub(super) status: Status,
    pub(super) notify: Notify,
}

/// The one owner of state.
pub(super) struct Control {
    config: Arc<Config>,
    /// A mode that stands in the place of the configured one, whatever is configured later.
    forced: Option<Mode>,
    keeper: Keeper,
    /// Absent when no other daemon may lead.
    peers: Option<Peers>,
    failed_takeovers: u32,
    standing: Standing,
    alarm: Alarm,
    drains: Drains,
    /// A plan that waits for a person.
    waiting_plan: Option<Waiting>,
    /// The plan that a person dropped last: it is not shown again.
    rejected: Option<String>,
    /// Whether slots may move by the clock, as it was looked at last.
    hours: Hours,
    /// Absent while a turn has it.
    crew: Option<Crew>,
    running: Option<Running>,
    ending: Option<Ending>,
    /// A policy that waits for the turn to end.
    waiting: Option<Box<LoadedPolicy>>,
    /// Whether a person accepted the nodes as they are while a turn had the list of them.
    accept_members: bool,
    next_cycle: u64,
    next_turn_at: Instant,
    /// Why the next turn begins when it does.
    trigger: Trigger,
    /// The cycle that ended last.
    last: Option<Arc<CycleReport>>,
    doing: watch::Sender<Doing>,
    progress: watch::Receiver<Doing>,
    feed: Feed,
    /// Who decides in the configured policy's place.
    promotion: Option<Promotion>,
    shadows: Shadows,
    config_watch: ConfigWatch,
    signals: Signals,
    requests: mpsc::Receiver<Request>,
    status: Status,
    shown: watch::Sender<Arc<Status>>,
    notify: Notify,
    supervisor: Supervisor,
}

impl Control {
    pub(super) fn new(start: Start) -> Result<Self, RunError> {
        let (doing, progress) = watch::channel(Doing::default());
        let hours = Hours::of(&start.config.windows, now_ms());
        let mut control = Self {
            config_watch: ConfigWatch::new(start.config.path.as_deref()),
            config: Arc::new(start.config),
            forced: start.forced,
            standing: start.keeper.store.get(STANDING)?.unwrap_or_default(),
            alarm: Alarm::default(),
            drains: start.keeper.store.get(DRAINS)?.unwrap_or_default(),
            waiting_plan: start.keeper.store.get(WAITING)?.flatten(),
            rejected: start.keeper.store.get(REJECTED)?.flatten(),
            hours,
            next_cycle: start.keeper.store.next_cycle()?,
            keeper: start.keeper,
            peers: start.peers,
            failed_takeovers: 0,
            crew: Some(start.crew),
            running: None,
            ending: None,
            waiting: None,
            accept_members: false,
            next_turn_at: Instant::now(),
            trigger: Trigger::Start,
            last: None,
            doing,
            progress,
            feed: start.feed,
            promotion: start.promotion,
            shadows: start.shadows,
            signals: start.signals,
            requests: start.requests,
            status: start.status,
            shown: start.shown,
            notify: start.notify,
            supervisor: Supervisor::of_environment(),
        };
        control.show_waiting();
        control.status.policy.source = control.feed.source().to_string();
        control.tell(Happening::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        control.tell(Happening::ConfigLoaded { needs_restart: Vec::new() });
        // From dry-run, the mode of a daemon that was told nothing, to what it is told and remembers.
        control.settle_mode(Mode::DryRun, "ballast", true);
        control.publish();
        Ok(control)
    }

    /// Runs until told to end.
    pub(super) async fn conduct(mut self) -> Result<(), RunError> {
        self.supervisor.ready();
        loop {
            match self.next().await {
                Event::Tick => {
                    self.take_lead().await;
                    self.read_approvals().await;
                    self.look_at_clock();
                    self.begin_turn();
                }
                Event::TurnOver(over) => self.turn_over(over.0, over.1),
                Event::Progress => self.show_progress(),
                Event::Policy(reload) => self.take_policy(reload),
                Event::ConfigChanged => self.config_changed().await,
                Event::Role => self.role_changed(),
                Event::Hours => self.look_at_clock(),
                Event::Asked((command, answer)) => self.answer(command, answer).await,
                Event::Signal(Signal::Reload) => drop(self.reload_config().await),
                Event::Signal(Signal::End(why)) => self.end(why)?,
                Event::PatienceOver => return Err(RunError::NotClosed),
                Event::SignOfLife => self.supervisor.lives(),
            }
            if let Some(ending) = &self.ending
                && self.running.is_none()
            {
                let why = ending.why;
                return self.close(why).await;
            }
            self.publish();
        }
    }

    /// Waits for whatever happens next. Everything that is waited for here may be dropped half-way.
    async fn next(&mut self) -> Event {
        let running = self.running.is_some();
        let turn_over = async {
            match &mut self.running {
                // A turn that panics is a bug of ours; going on without its crew is not possible.
                Some(running) => {
                    (&mut running.turn).await.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()))
                }
                None => std::future::pending().await,
            }
        };
        let role = async {
            let changed = match &mut self.peers {
                Some(peers) => peers.lease.changed().await.is_ok(),
                None => false,
            };
            if !changed {
                // Alone, or the campaign is over, which ends with the daemon.
                std::future::pending::<()>().await;
            }
        };
        let hours = async {
            match self.hours.until_ms {
                // Not at once for as long as it takes: the clock on the wall may be set meanwhile.
                Some(until_ms) => {
                    let left = Duration::from_millis(until_ms.saturating_sub(now_ms()));
                    tokio::time::sleep(left.min(CLOCK_LOOK)).await;
                }
                None => std::future::pending().await,
            }
        };
        let give_up = async {
            match &self.ending {
                Some(ending) => sleep_until(ending.give_up_at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = self.signals.next() => Event::Signal(signal),
            () = give_up => Event::PatienceOver,
            () = self.supervisor.is_due() => Event::SignOfLife,
            over = turn_over => Event::TurnOver(Box::new(over)),
            () = role => Event::Role,
            () = hours => Event::Hours,
            Some(request) = self.requests.recv() => Event::Asked(request),
            reload = self.feed.next() => Event::Policy(reload),
            () = self.config_watch.changed() => Event::ConfigChanged,
            Ok(()) = self.progress.changed() => Event::Progress,
            () = sleep_until(self.next_turn_at), if !running && self.ending.is_none() => Event::Tick,
        }
    }

    /// The next turn begins as soon as none is under way.
    fn begin_soon(&mut self, trigger: Trigger) {
        self.next_turn_at = Instant::now();
        self.trigger = trigger;
    }

    fn begin_turn(&mut self) {
        self.end_pause();
        let Some(mut crew) = self.crew.take() else { return };
        if let Some(policy) = self.waiting.take() {
            self.swap_policy(&mut crew, *policy);
        }
        if std::mem::take(&mut self.accept_members) {
            crew.members = self.status.seen.as_deref().map(all_members);
            if let Some(members) = &crew.members
                && let Err(error) = self.keeper.put(MEMBERS, members)
            {
                warn!(error = %chain(&error), "a restart will not know that these nodes were accepted");
            }
        }
        let (stop, stopped) = Stop::new();
        let orders = self.orders(stopped);
        self.next_cycle += 1;
        self.next_turn_at = Instant::now() + self.config.interval;
        self.trigger = Trigger::Interval;
        self.running = Some(Running { turn: tokio::spawn(turn::take(crew, orders)), stop });
    }

    fn orders(&self, stop: Stop) -> Orders {
        Orders {
            cycle: self.next_cycle,
            trigger: self.trigger,
            mode: self.mode().0,
            why_no_policy: self.status.why_no_policy(),
            config: self.config.clone(),
            keeper: self.keeper.clone(),
            journal: match &self.peers {
                Some(peers) => Arc::new(peers.journal.clone()),
                None => self.keeper.store.clone(),
            },
            host: self.feed.host().clone(),
            shadows: self.shadows.clone(),
            theirs: self.peers.as_ref().map(Peers::open).unwrap_or_default(),
            rules: self.rules(),
            leaving: self.drains.leaving(),
            approved: self.approved(),
            stop,
            doing: self.doing.clone(),
            notify: self.notify.clone(),
        }
    }

    fn turn_over(&mut self, crew: Crew, mut turn: Turn) {
        self.running = None;
        self.doing.send_modify(|doing| {
            doing.activity = Activity::Idle;
            doing.moves.end();
        });
        if let Some(snapshot) = turn.snapshot.clone() {
            self.see_plan(&mut turn, &snapshot);
        }
        let report = Arc::new(turn.report);
        line::log(&report, self.status.last_cycle.as_ref());
        let reason = match &report.outcome {
            CycleOutcome::Incomplete { reason } => reason.as_str(),
            _ => "",
        };
        if self.standing.learn(turn.effort, reason) {
            self.keep_standing();
        }
        let alarm = turn.snapshot.as_ref().and_then(|seen| self.alarm.hear(&report, seen, &self.config.limits));
        if let Some(why) = alarm {
            self.standing.halt(why);
            self.keep_standing();
        }
        self.settle_mode(report.mode, "ballast", false);

        if let Some(snapshot) = &turn.snapshot {
            let state = crew.deciders.current().and_then(|policy| policy.saved_state().cloned());
            self.feed.saw(snapshot.clone(), state);
            for usec in
                snapshot.node_column(resource::PROBE_USEC).unwrap_or_default().iter().filter(|usec| usec.is_finite())
            {
                (self.notify)(Notice::Probe { seconds: usec / 1e6, migrating: false });
            }
        }
        if let Some(policy) = crew.deciders.current() {
            (self.notify)(Notice::PolicyMemory(policy.stats().memory_bytes));
        }
        if let Some(snapshot) = &turn.snapshot {
            self.see_drains(snapshot);
        }
        let before = self.last.replace(report.clone());
        if let Some(recovery) = &turn.recovery {
            self.tell(Happening::Recovered { slots: recovery.settled.len() });
        }
        self.show_turn(&crew, CycleSummary::from(&*report), turn.snapshot.clone(), turn.called);
        self.size(&report, before.as_deref(), turn.fewer);
        self.show_drains();
        self.show_scale();
        self.status.policy.failure = turn.failure.map(|failure| failure.to_string());
        (self.notify)(Notice::Cycle { report, snapshot: turn.snapshot });
        self.crew = Some(crew);
        self.show_progress();
    }

    async fn answer(&mut self, command: Command, answer: oneshot::Sender<Answer>) {
        let outcome = match self.takes_orders() {
            // Its configuration is a daemon's own.
            Err(refusal) if !matches!(command, Command::Reload) => Err(refusal),
            _ => self.obey(command).await,
        };
        let outcome = self.once_told(outcome).await;
        self.publish();
        // Whoever asked may have gone.
        let _gone = answer.send(outcome);
    }

    async fn obey(&mut self, command: Command) -> Answer {
        match command {
            Command::Reload => self.reload_config().await,
            Command::Pause { who, why, until_ms } => {
                let before = self.mode().0;
                self.standing.pause(who.clone(), why, until_ms);
                self.keep_standing();
                self.settle_mode(before, &who, false);
                Ok(self.mode().1)
            }
            Command::Resume { who, why } => {
                let before = self.mode().0;
                self.standing.resume();
                self.alarm.reset();
                self.keep_standing();
                self.accept_members = true;
                self.settle_mode_as(before, &who, &why, false);
                self.begin_soon(Trigger::Command);
                Ok(self.mode().1)
            }
            Command::Cancel { who, why } => self.cancel(who, why),
            Command::Drain(wish) => {
                let answer = self.drain(wish)?;
                self.begin_soon(Trigger::Command);
                Ok(answer)
            }
            Command::Judge { plan, approve, who, why } => self.judge(&plan, approve, who, why),
            Command::Undrain { node, who, why } => {
                let answer = self.undrain(&node, who, why)?;
                self.begin_soon(Trigger::Command);
                Ok(answer)
            }
            Command::Promote { shadow, who, why } => self.promote(shadow, who, why),
        }
    }

    fn cancel(&mut self, who: String, why: String) -> Answer {
        let Some(running) = &self.running else { return Err("no cycle is under way: nothing is moved".to_owned()) };
        running.stop.stop();
        // The number of the next one was counted when this one began.
        let cycle = self.next_cycle - 1;
        info!(cycle, who, why, "cancelled: its moves end at the next step");
        let answer = format!("the moves of cycle {cycle} end at the next step; the next cycle plans anew");
        self.tell(Happening::Cancelled { cycle, who, why });
        Ok(answer)
    }

    fn mode(&self) -> (Mode, String) {
        if let Some(why) = self.follows() {
            return (Mode::Follower, why);
        }
        let (mode, why) = match self.forced {
            None => self.standing.mode(self.config.mode),
            Some(forced) => self.standing.mode_with(forced, format!("it was started to do no more than {forced}")),
        };
        if mode.acts() && !self.hours.open { (Mode::DryRun, self.hours.why.clone()) } else { (mode, why) }
    }

    /// Sees whether slots may move at this hour.
    fn look_at_clock(&mut self) {
        let hours = Hours::of(&self.config.windows, now_ms());
        if hours != self.hours {
            self.hours = hours;
            self.settle_mode(self.status.mode, "windows", false);
        }
    }

    /// Shows the mode, tells of its change from `before`, and stops migrations in a mode that forbids them.
    fn settle_mode(&mut self, before: Mode, who: &str, always: bool) {
        self.settle_mode_as(before, who, "", always);
    }

    /// The same, with the reason that `who` gave besides the mode's own.
    fn settle_mode_as(&mut self, before: Mode, who: &str, given: &str, always: bool) {
        let (mode, why) = self.mode();
        let changed = self.status.mode != mode || before != mode;
        self.status.mode = mode;
        self.status.mode_reason.clone_from(&why);
        self.show_drains();
        if !mode.acts()
            && let Some(running) = &self.running
        {
            running.stop.stop();
        }
        if changed || always {
            self.supervisor.says(&format!("mode {mode}: {why}"));
            match mode {
                Mode::Halted => error!(%mode, who, why, "mode changed"),
                _ => info!(%mode, who, why, "mode changed"),
            }
            let why = if given.is_empty() { why } else { format!("{given} ({why})") };
            self.tell(Happening::Mode { from: before, to: mode, who: who.to_owned(), why });
        }
    }

    /// The first time, finish the step and close; the second time, stop at once.
    fn end(&mut self, why: &'static str) -> Result<(), RunError> {
        if self.ending.is_some() {
            return Err(RunError::StoppedAtOnce);
        }
        info!(why, "ending: what is open is closed first; the same signal again stops at once");
        let settle = Duration::from_secs(self.config.migration.settle_deadline_s);
        self.ending = Some(Ending { why, give_up_at: Instant::now() + settle + ENDING_SLACK });
        self.status.activity = Activity::Stopping;
        self.supervisor.stopping();
        if let Some(running) = &self.running {
            running.stop.stop();
        }
        Ok(())
    }

    /// Closes what is open, and says that the end was in order.
    async fn close(&mut self, why: &str) -> Result<(), RunError> {
        let Some(mut crew) = self.crew.take() else { return Ok(()) };
        let leads = self.leads();
        let orders = self.orders(Stop::never());
        let give_up_at = self.ending.as_ref().map_or_else(Instant::now, |ending| ending.give_up_at);
        let settled = tokio::select! {
            settled = turn::settle(&mut crew, &orders), if leads => settled,
            () = std::future::ready(()), if !leads => None,
            () = sleep_until(give_up_at) => return Err(RunError::NotClosed),
            Signal::End(_) = self.signals.next() => return Err(RunError::StoppedAtOnce),
        };
        // What this daemon left open when it led, whoever leads now has taken up; while nobody does, it may stand open.
        let led = self.peers.as_ref().is_some_and(|peers| peers.told().is_some());
        let closed = orders.journal.unfinished().is_ok_and(|unfinished| unfinished.is_empty());
        if settled.is_some_and(|recovery| !recovery.held.is_empty()) || !(closed || led) {
            return Err(RunError::NotClosed);
        }
        self.give_back().await;
        self.tell(Happening::Stopped { why: why.to_owned() });
        info!(why, "ended; no slot of ours is open");
        Ok(())
    }

    fn keep_standing(&self) {
        if let Err(error) = self.keeper.put(STANDING, &self.standing) {
            error!(error = %chain(&error), "a restart will not know of this mode");
        }
    }

    /// Keeps an event in the history, and shows it to whoever listens.
    fn tell(&self, event: Happening) {
        tell(&self.keeper.store, &self.notify, event);
    }
}

/// Keeps an event in the history, and shows it to whoever listens.
pub(super) fn tell(store: &Store, notify: &Notify, event: Happening) {
    let at_ms = now_ms();
    let id = store.keep_event(at_ms, &event).unwrap_or_else(|error| {
        warn!(error = %chain(&error), "the history misses an event");
        0
    });
    notify(Notice::Event(StoredEvent { id, at_ms, event }));
}

/// Three cycles, or half a minute: one lost cycle is normal, three are not.
pub(super) fn stale_after_ms(interval: Duration) -> u64 {
    let three = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).saturating_mul(3);
    three.max(30_000)
}
