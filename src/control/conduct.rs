//! The loop itself: hears one event after the other, and owns everything that they change.
//!
//! Turns run beside it, so that it answers while slots move: a pause stops them at their next step, a new policy or
//! configuration waits for the turn to end.

mod approving;
mod draining;
mod ending;
mod leading;
mod line;
mod modes;
mod obeying;
mod reloads;
mod showing;
mod sizing;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use self::ending::Ending;
use super::RunError;
use super::alarm::Alarm;
use super::approval::Waiting;
use super::command::{Notify, Request, tell};
use super::config_watch::ConfigWatch;
use super::drains::{Drain, Drains};
use super::feed::Feed;
use super::keeper::{Keeper, key};
use super::peers::Peers;
use super::promotion::Promotion;
use super::shadows::Shadows;
use super::signals::{Signal, Signals};
use super::standing::Standing;
use super::status::Status;
use super::supervisor::Supervisor;
use super::turn::{Crew, Doing, Turn};
use crate::clock::now_ms;
use crate::config::{Config, Hours, Setting};
use crate::migration::StopHandle;
use crate::model::{Address, CycleReport, Mode, NodeId, Trigger};
use crate::policy::{self, LoadedPolicy};
use crate::store::Event as Happening;

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

/// Nodes that somebody accepts into the cluster as we know it.
struct Accepted {
    nodes: BTreeMap<NodeId, Address>,
    who: String,
    why: String,
}

/// What the loop begins with.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) settings: Vec<Setting>,
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
    /// The same, key by key, as the file and the environment say it.
    settings: Vec<Setting>,
    /// A mode that stands in the place of the configured one, whatever is configured later.
    forced: Option<Mode>,
    keeper: Keeper,
    /// Absent when no other daemon may lead.
    peers: Option<Peers>,
    failed_takeovers: u32,
    standing: Standing,
    alarm: Alarm,
    drains: Drains,
    /// Those of them that are to leave the cluster, for the turn under way.
    leaving: watch::Sender<Vec<Drain>>,
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
    /// Nodes that were never seen joining and are accepted: the next turn takes them in.
    accepted: Option<Accepted>,
    /// Where nodes are reached that own slots and were never seen joining, as of the last turn.
    strangers: BTreeMap<NodeId, Address>,
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
        let drains: Drains = start.keeper.store.get(key::DRAINS)?.unwrap_or_default();
        let mut control = Self {
            config_watch: ConfigWatch::new(start.config.path.as_deref()),
            config: Arc::new(start.config),
            settings: start.settings,
            forced: start.forced,
            standing: start.keeper.store.get(key::STANDING)?.unwrap_or_default(),
            alarm: Alarm::default(),
            leaving: watch::Sender::new(drains.leaving()),
            drains,
            waiting_plan: start.keeper.store.get(key::WAITING)?.flatten(),
            rejected: start.keeper.store.get(key::REJECTED)?.flatten(),
            hours,
            next_cycle: start.keeper.store.next_cycle()?,
            keeper: start.keeper,
            peers: start.peers,
            failed_takeovers: 0,
            crew: Some(start.crew),
            running: None,
            ending: None,
            waiting: None,
            accepted: None,
            strangers: BTreeMap::new(),
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
        control.tell(Happening::ConfigLoaded { changed: Vec::new(), needs_restart: Vec::new() });
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

    /// Keeps an event in the history, and shows it to whoever listens.
    fn tell(&self, event: Happening) {
        tell(&self.keeper.store, &self.notify, event);
    }
}

/// Three cycles, or half a minute: one lost cycle is normal, three are not.
pub(super) fn stale_after_ms(interval: Duration) -> u64 {
    let three = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).saturating_mul(3);
    three.max(30_000)
}
