//! Carries out an approved plan, with its journal, its progress and Ctrl-C.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::outcome::{Exit, Stop, refused};
use super::screen::Screen;
use super::state;
use super::target::Connection;
use crate::guard::ApprovedPlan;
use crate::migration::{self, Context, Pace, Progress, ProtocolChoice, Recovery, Settings, Stop as StopSign};
use crate::model::{Address, MigrationReport, Snapshot};
use crate::store::Store;

/// How slots are moved, where the configuration should not decide.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Manner {
    /// auto takes the best that both ends have, classic is SETSLOT and MIGRATE everywhere
    #[arg(long, value_enum)]
    protocol: Option<ProtocolWord>,
    /// How hard to lean on the servers
    #[arg(long, value_enum)]
    pace: Option<PaceWord>,
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
    fn settings(self, configured: &Settings) -> Settings {
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
            ..configured.clone()
        }
    }
}

/// Hands and journal for one cluster, held until dropped.
pub(super) struct Hands {
    journal: Arc<Store>,
    settings: Settings,
    cluster: Arc<dyn crate::cluster::Cluster>,
}

/// What was carried out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Done {
    pub(super) slots_moved: usize,
    pub(super) slots_stayed: usize,
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
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.migrations.extend(other.migrations);
        self.stopped |= other.stopped;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.slots_stayed == 0 && !self.stopped
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
    pub(super) fn open(connection: &Connection, snapshot: &Snapshot, manner: Manner) -> anyhow::Result<Self> {
        Ok(Self {
            journal: Arc::new(state::open(snapshot)?),
            settings: manner.settings(&connection.config.migration),
            cluster: connection.cluster.clone(),
        })
    }

    /// Ends what an earlier command left unfinished, as far as the cluster allows.
    pub(super) async fn recover(&self, snapshot: &Snapshot, screen: &Screen) -> anyhow::Result<Recovery> {
        let addresses: Vec<Address> = snapshot.primaries.iter().map(|node| node.address.clone()).collect();
        let recovery = migration::recover(&addresses, &self.quiet()).await?;
        if !recovery.settled.is_empty() {
            screen.note(&format!("slots {} of an interrupted migration were brought to an end", recovery.settled));
        }
        Ok(recovery)
    }

    /// Opens the journal, ends what an earlier command left unfinished, and refuses when anything is left open.
    pub(super) async fn ready(
        connection: &Connection,
        snapshot: &Snapshot,
        manner: Manner,
        screen: &Screen,
    ) -> anyhow::Result<Self> {
        let hands = Self::open(connection, snapshot, manner)?;
        let recovery = hands.recover(snapshot, screen).await?;
        if let Some((slot, reason)) = recovery.held.first() {
            return Err(refused(
                format!(
                    "{} slots of an interrupted migration cannot be brought to an end: slot {slot}: {reason}",
                    recovery.held.len()
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
            progress: Arc::new(progress),
            stop,
        }
    }

    /// Moves what was approved. Ctrl-C or SIGTERM stops at the next step, with no slot left open; a second one at once.
    pub(super) async fn carry_out(
        &self,
        plan: ApprovedPlan,
        snapshot: &Snapshot,
        screen: &Screen,
    ) -> anyhow::Result<Done> {
        let bar = bar(plan.moves().len(), screen);
        let (handle, stop) = StopSign::new();
        let shown = bar.clone();
        let moved: Mutex<BTreeMap<String, usize>> = Mutex::default();
        let progress = move |progress: Progress| {
            let mut moved = moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.insert(format!("{}{}", progress.source, progress.slots), progress.slots_moved);
            shown.set_position(moved.values().sum::<usize>() as u64);
        };
        let context = self.context(progress, stop);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = migration::execute(plan, snapshot, &context);
        tokio::pin!(work);
        let mut stopped = false;
        let migrations = loop {
            tokio::select! {
                reports = &mut work => break reports,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stopped {
                return Err(Stop {
                    exit: Exit::Partly,
                    message: "stopped at once; slots may be open".into(),
                    hint: "the same command takes them up again".into(),
                }
                .into());
            }
            stopped = true;
            handle.stop();
            bar.suspend(|| screen.note("stopping at the next step; once more stops at once"));
        };
        bar.finish_and_clear();
        Ok(Done {
            slots_moved: migrations.iter().map(|report| report.moved.len()).sum(),
            slots_stayed: migrations.iter().map(|report| report.stayed.len()).sum(),
            keys: migrations.iter().map(|report| report.keys).sum(),
            bytes: migrations.iter().map(|report| report.bytes).sum(),
            migrations,
            stopped,
        })
    }
}

/// A bar with an estimate of the end on a terminal, nothing elsewhere.
fn bar(slots: usize, screen: &Screen) -> ProgressBar {
    if !screen.is_live() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("moving {bar:30} {pos}/{len} slots  {per_sec}  eta {eta}");
    let bar = ProgressBar::new(slots as u64);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
