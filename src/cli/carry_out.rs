//! Carries out an approved plan, with its journal, its progress and Ctrl-C.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use clap::ValueEnum;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::advance::Advance;
use super::author;
use super::outcome::{Exit, Stop, refused};
use super::screen::Screen;
use super::signals::{Signal, Signals, stand_still};
use super::state;
use super::target::Connection;
use crate::clock::now_ms;
use crate::guard::ApprovedPlan;
use crate::migration::{
    self, Amount, Context, Intent, Journal as _, Pace, Progress, ProtocolChoice, Recovery, Settings, Stop as StopSign,
    Tally,
};
use crate::model::{Address, MigrationReport, SlotSet, Snapshot};
use crate::store::Store;

/// How slots are moved, where the configuration should not decide.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Manner {
    /// auto takes the best that both ends have, classic is SETSLOT and MIGRATE everywhere
    #[arg(long, value_enum)]
    protocol: Option<ProtocolWord>,
    /// How hard to lean on the servers
    #[arg(long, value_enum)]
    pace: Option<PaceWord>,
    /// Bytes that may move in a second
    #[arg(long, value_name = "SIZE", value_parser = crate::model::units::size::parse)]
    max_bytes_per_second: Option<u64>,
    /// The longest that one MIGRATE may keep its source from its clients; slots with larger keys stay
    #[arg(long, value_name = "DURATION", value_parser = crate::model::units::duration::parse)]
    max_block: Option<Duration>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolWord {
    Auto,
    Classic,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PaceWord {
    Gentle,
    Default,
    Fast,
}

impl Manner {
    fn settings(&self, configured: &Settings) -> Settings {
        Settings {
            protocol: match self.protocol {
                None => configured.protocol,
                Some(ProtocolWord::Auto) => ProtocolChoice::Auto,
                Some(ProtocolWord::Classic) => ProtocolChoice::Classic,
            },
            pace: match self.pace {
                None => configured.pace,
                Some(PaceWord::Gentle) => Pace::Gentle,
                Some(PaceWord::Default) => Pace::Default,
                Some(PaceWord::Fast) => Pace::Fast,
            },
            bytes_per_second: self.max_bytes_per_second.or(configured.bytes_per_second),
            max_block_ms: self
                .max_block
                .map_or(configured.max_block_ms, |block| u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1)),
            ..configured.clone()
        }
    }
}

/// Hands and journal for one cluster, held until dropped.
pub(super) struct Hands {
    journal: Arc<Store>,
    settings: Settings,
    cluster: Arc<dyn crate::cluster::Cluster>,
    /// Made when slots are moved for the first time: before that, Ctrl-C and Ctrl-Z do what they do everywhere.
    signals: Option<Signals>,
}

/// What was carried out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Done {
    pub(super) slots_moved: usize,
    pub(super) slots_stayed: usize,
    /// Slots of the plan whose turn had not come when it ended.
    pub(super) slots_not_begun: usize,
    /// Slots that may be open: the next command takes them up.
    pub(super) slots_in_doubt: usize,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) migrations: Vec<MigrationReport>,
    /// A person asked to stop before the end.
    pub(super) stopped: bool,
}

impl Done {
    /// Counts `other` in.
    pub(super) fn add(&mut self, other: Self) {
        self.slots_moved += other.slots_moved;
        self.slots_stayed += other.slots_stayed;
        self.slots_not_begun += other.slots_not_begun;
        self.slots_in_doubt = other.slots_in_doubt;
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.migrations.extend(other.migrations);
        self.stopped |= other.stopped;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.slots_stayed == 0 && self.slots_not_begun == 0 && !self.stopped
    }

    /// Every reason why slots stayed, with how many.
    pub(super) fn reasons(&self) -> BTreeMap<&str, usize> {
        let mut reasons = BTreeMap::new();
        for (_, reason) in self.migrations.iter().flat_map(|report| &report.stayed) {
            *reasons.entry(reason.as_str()).or_default() += 1;
        }
        reasons
    }
}

impl Hands {
    /// Opens the journal for the cluster in `snapshot`, and holds it.
    pub(super) fn open(connection: &Connection, snapshot: &Snapshot, manner: &Manner) -> anyhow::Result<Self> {
        Ok(Self {
            journal: Arc::new(state::open(snapshot)?),
            settings: manner.settings(&connection.config.migration),
            cluster: connection.cluster.clone(),
            signals: None,
        })
    }

    /// Ends what an earlier command left unfinished, as far as the cluster allows.
    pub(super) async fn recover(&self, snapshot: &Snapshot, screen: &Screen) -> anyhow::Result<Recovery> {
        let addresses: Vec<Address> = snapshot.primaries.iter().map(|node| node.address.clone()).collect();
        let recovery = migration::recover(&addresses, &self.quiet()).await?;
        for intent in &recovery.taken_up {
            let settled: SlotSet = intent.slots.iter().filter(|slot| recovery.settled.contains(*slot)).collect();
            if !settled.is_empty() {
                screen.note(&format!("slots {settled} {} were brought to an end", whose(intent)));
            }
        }
        Ok(recovery)
    }

    /// Opens the journal, ends what an earlier command left unfinished, and refuses when anything is left open.
    pub(super) async fn ready(
        connection: &Connection,
        snapshot: &Snapshot,
        manner: &Manner,
        screen: &Screen,
    ) -> anyhow::Result<Self> {
        let hands = Self::open(connection, snapshot, manner)?;
        let recovery = hands.recover(snapshot, screen).await?;
        if let Some((slot, reason)) = recovery.held.first() {
            let intent = recovery.taken_up.iter().find(|intent| intent.slots.contains(*slot));
            return Err(refused(
                format!(
                    "{} slots cannot be brought to an end: slot {slot} {}: {reason}",
                    recovery.held.len(),
                    intent.map_or_else(|| "of an interrupted migration".into(), whose)
                ),
                "'ballast check' shows what is wrong; 'ballast fix' mends what can be mended",
            ));
        }
        if let Some(foreign) = recovery.foreign.first() {
            return Err(refused(
                format!("slot {} is open on {}, and not by us", foreign.open.slot, foreign.open.node.short()),
                "is a daemon or another tool moving slots? if not, 'ballast fix' shows how to mend it, and does",
            ));
        }
        Ok(hands)
    }

    /// What it takes to move slots with nobody watching.
    pub(super) fn quiet(&self) -> Context {
        self.context(|_| {}, StopSign::never())
    }

    fn context(&self, progress: impl Fn(Progress) + Send + Sync + 'static, stop: StopSign) -> Context {
        Context {
            cluster: self.cluster.clone(),
            journal: self.journal.clone(),
            settings: self.settings.clone(),
            began_by: author::of_this_command(),
            progress: Arc::new(progress),
            stop,
        }
    }

    /// Waits for `work`, which opens no slot. Nothing comes of it when we are told to end meanwhile.
    pub(super) async fn idle<T>(&mut self, work: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
        match &mut self.signals {
            Some(signals) => Ok(signals.heard_during(work).await?),
            None => Ok(Some(work.await)),
        }
    }

    /// Moves what was approved. Ctrl-C or SIGTERM stops at the next step, with no slot left open; a second one at once.
    /// Ctrl-Z pauses there: the process stops when nothing is open, and goes on when it is continued.
    pub(super) async fn carry_out(
        &mut self,
        plan: ApprovedPlan,
        snapshot: &Snapshot,
        screen: &Screen,
    ) -> anyhow::Result<Done> {
        let planned = plan.moves().len();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let with_tally = {
            let tally = tally.clone();
            move |change: &mut dyn FnMut(&mut Tally)| change(&mut tally.lock().unwrap_or_else(PoisonError::into_inner))
        };
        with_tally(&mut |tally| tally.begin(Amount::of(plan.moves(), snapshot), now_ms()));
        let (mut handle, stop) = StopSign::new();
        let hearing = with_tally.clone();
        let context = self.context(move |progress| hearing(&mut |tally| tally.hear(progress.clone())), stop);
        let work = migration::execute(plan, snapshot, &context);
        tokio::pin!(work);

        let signals = match &mut self.signals {
            Some(signals) => signals,
            none => none.insert(Signals::listen()?),
        };
        let mut advance = Advance::new(screen);
        let mut ticks = tokio::time::interval_at(Instant::now() + advance.every(), advance.every());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut stopped, mut holding) = (false, false);
        let migrations = loop {
            tokio::select! {
                reports = &mut work => break reports,
                signal = signals.next() => match signal {
                    Signal::End if stopped => return Err(stopped_at_once()),
                    Signal::End => {
                        stopped = true;
                        handle.stop();
                        advance.note("stopping at the next step; once more stops at once");
                    }
                    Signal::Pause if stopped || holding => {}
                    Signal::Pause => {
                        holding = true;
                        handle.hold();
                        advance.note("pausing at the next step");
                    }
                },
                () = handle.held(), if holding && !stopped => {
                    advance.clear();
                    advance.note("paused, and no slot is open; 'fg' or SIGCONT goes on");
                    stand_still().await?;
                    advance.again();
                    advance.note("going on");
                    with_tally(&mut |tally| tally.rested(now_ms()));
                    holding = false;
                    handle.resume();
                }
                _ = ticks.tick() => with_tally(&mut |tally| {
                    tally.overall(now_ms()).iter().for_each(|overall| advance.show(overall));
                }),
            }
        };
        advance.clear();
        if holding && !stopped {
            // It was done before there was anything to hold; what comes next waits all the same.
            advance.note("paused, and no slot is open; 'fg' or SIGCONT goes on");
            stand_still().await?;
        }
        let slots_moved = migrations.iter().map(|report| report.moved.len()).sum();
        let slots_stayed = migrations.iter().map(|report| report.stayed.len()).sum();
        let in_doubt = self.journal.unfinished()?;
        Ok(Done {
            slots_moved,
            slots_stayed,
            slots_not_begun: planned.saturating_sub(slots_moved + slots_stayed),
            slots_in_doubt: in_doubt.iter().map(|(_, intent)| intent.slots.len()).sum(),
            keys: migrations.iter().map(|report| report.keys).sum(),
            bytes: migrations.iter().map(|report| report.bytes).sum(),
            migrations,
            stopped,
        })
    }
}

fn stopped_at_once() -> anyhow::Error {
    let message = "stopped at once; slots may be open".into();
    Stop { exit: Exit::Partly, message, hint: "the same command takes them up again".into() }.into()
}

/// `of a migration that alice@host … began at 2026-01-01T00:00:00Z (by hand)`.
fn whose(intent: &Intent) -> String {
    let who = if intent.began_by.is_empty() { "somebody" } else { &intent.began_by };
    let when = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(intent.started_at_ms));
    let why = if intent.reason.is_empty() { String::new() } else { format!(" ({})", intent.reason) };
    format!("of a migration that {who} began at {when}{why}")
}
