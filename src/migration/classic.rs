//! Moves slots with `SETSLOT` and `MIGRATE`: every server can. Pure: no clock, no connection.
//!
//! Slots are taken in windows; each phase is one pipeline for the whole window, or for as many of its slots as the servers
//! have time for in one go, so that a server saves its cluster file once per phase instead of once per slot.
//!
//! ```text
//! Vacancy     target  COUNTKEYSINSLOT = 0: stray copies would collide later           (not when resuming)
//!             source  COUNTKEYSINSLOT: what is to come
//! Weigh       source  how large its keys are: see `weigh`. A slot with one that would keep the source too long stays
//! Import      target  SETSLOT IMPORTING
//! Migrate     source  SETSLOT MIGRATING
//! Transfer    source  rounds of MIGRATE … KEYS and GETKEYSINSLOT, in every database, until no key is left
//! Verify      source  ROLE, and COUNTKEYSINSLOT = 0 in every database: what is left when NODE is told is deleted
//! AssignTarget        SETSLOT IMPORTING again, then NODE: without the flag the target would claim without a new epoch.
//!                     Where it tells all nodes of each such slot by itself: one transaction, and the flag for the last one
//! Tell        source  SETSLOT NODE                                                 (a source without slots may refuse it)
//!             The others hear it from the target. Verify, AssignTarget and Tell again with the next few, until the window is
//!             through
//! Confirm     both    CLUSTER NODES: no flag is left, the target owns the slots by a higher epoch, else BUMPEPOCH
//! ```
//!
//! A slot whose transfer cannot succeed is retracted, target first: once the target is stable no client can create a key
//! there, and if it then holds none, the source may be stable too. If it does hold keys, the slot is opened again and left
//! for `settle`.

mod closing;
mod opening;
mod retraction;
mod transfer;
mod weigh;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use super::call::{Call, Cause, Copies, Ending, Next, QUESTION_PATIENCE, Rest};
use super::pace::{Allowance, Pace, Round};
use super::survey::{Route, Telling};
use super::wording;
use crate::cluster::{Command, Lane, LinkError, Reply, ServerError};
use crate::model::{Address, SlotId, SlotSet};
use transfer::Sent;
use weigh::Weighing;
use window::OpenSlot;

/// What a classic migration is to do.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) route: Route,
    pub(super) slots: Vec<SlotId>,
    pub(super) pace: Pace,
    pub(super) migrate_timeout_ms: u64,
    pub(super) credentials: Option<(Option<String>, String)>,
    /// Bytes of a key that was not weighed: the mean of these slots, as the plan saw them.
    pub(super) mean_bytes: u64,
    /// The slots whose keys are weighed before they are opened.
    pub(super) weigh: SlotSet,
    /// What is known of copies that the target may hold already.
    pub(super) copies: Copies,
}

/// Valkey 8+ executes `SETSLOT` on replicas first and waits two seconds for each command.
const SETSLOT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a slot may refuse to get emptier before it is left open for later.
const MOST_STALLS: u32 = 10;
/// How often a `SETSLOT` is said again while replicas lag.
const MOST_RETRIES: u32 = 6;
/// Keys of all slots in hand together, as far as they are counted beforehand: their names are held in memory.
const MOST_KEYS_IN_HAND: u64 = 100_000;

/// The state machine.
#[derive(Debug)]
pub(super) struct Classic {
    job: Job,
    phase: Phase,
    waiting: VecDeque<SlotId>,
    /// The slots being moved now.
    window: Vec<OpenSlot>,
    /// Those of them that are being closed.
    closing: Vec<SlotId>,
    /// Those that were: the target said yes to them.
    assigned: Vec<SlotId>,
    /// Slots of this window that have to be closed without moving, and why.
    retracted: Vec<(SlotId, String)>,
    /// The weighing of the window's slots, while it lasts.
    weighing: Option<Weighing>,
    /// Whether slots may be given to the target in one transaction; not known before it was asked.
    may_transact: Option<bool>,
    /// Keys that the target had evicted when we began.
    evicted: Option<u64>,
    allowance: Allowance,
    round: Round,
    /// What the calls under way in `Transfer` were about, in order.
    sent: Vec<Sent>,
    /// Rest before the next call.
    rest: Rest,
    /// For how long a node was kept by `SETSLOT` that was not rested for yet.
    charged: Duration,
    /// After a MIGRATE that did not succeed, one at a time with the whole time-out, until one does.
    cautious: bool,
    moved: Vec<SlotId>,
    stayed: Vec<(SlotId, String)>,
    unopened: Vec<SlotId>,
    unsettled: Vec<(SlotId, String)>,
    collided: Vec<SlotId>,
    keys: u64,
    /// Bytes moved since they were last asked for.
    fresh_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Vacancy,
    Weigh,
    Import { attempt: u32 },
    Migrate { attempt: u32 },
    Transfer,
    Verify { attempt: u32 },
    AssignTarget { attempt: u32 },
    Tell,
    Confirm { bumped: bool },
    BumpEpoch,
    RetractTarget,
    RetractCheck,
    RetractSource { attempt: u32 },
    Reopen,
    Over,
}

impl Classic {
    pub(super) fn new(job: Job) -> Self {
        let mut machine = Self {
            phase: Phase::Over,
            waiting: job.slots.iter().copied().collect(),
            window: Vec::new(),
            closing: Vec::new(),
            assigned: Vec::new(),
            retracted: Vec::new(),
            weighing: None,
            may_transact: None,
            evicted: None,
            allowance: Allowance { round: Duration::ZERO, call: Duration::MAX, duty: 1.0 },
            round: Round::new(),
            sent: Vec::new(),
            rest: Rest::default(),
            charged: Duration::ZERO,
            cautious: false,
            moved: Vec::new(),
            stayed: Vec::new(),
            unopened: Vec::new(),
            unsettled: Vec::new(),
            collided: Vec::new(),
            keys: 0,
            fresh_bytes: 0,
            job,
        };
        machine.next_window();
        machine
    }

    /// The slots that the target owns, and keys moved, so far.
    pub(super) fn progress(&self) -> (&[SlotId], u64) {
        (&self.moved, self.keys)
    }

    /// The step under way, for people.
    pub(super) fn step(&self) -> &'static str {
        match self.phase {
            Phase::Vacancy => "vacancy",
            Phase::Weigh => "weigh",
            Phase::Import { .. } => "import",
            Phase::Migrate { .. } => "migrate",
            Phase::Transfer => "transfer",
            Phase::Verify { .. } => "verify",
            Phase::AssignTarget { .. } => "assign",
            Phase::Tell => "tell",
            Phase::Confirm { .. } | Phase::BumpEpoch => "confirm",
            Phase::RetractTarget | Phase::RetractCheck | Phase::RetractSource { .. } | Phase::Reopen => "retract",
            Phase::Over => "over",
        }
    }

    /// From now on, what it may take.
    pub(super) fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Bytes moved since this was last asked.
    pub(super) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.fresh_bytes)
    }

    /// Opens no further slot: what is open is brought to its end.
    pub(super) fn stop(&mut self) {
        let untouched = self.take_untouched();
        self.unopened.extend(untouched);
    }

    /// Opens no further slot, for a reason that lies in these nodes.
    pub(super) fn refuse(&mut self, why: &str) {
        let untouched = self.take_untouched();
        self.stayed.extend(untouched.into_iter().map(|slot| (slot, why.to_owned())));
    }

    /// The slots to which nothing has happened yet, which are then no longer ours.
    fn take_untouched(&mut self) -> Vec<SlotId> {
        let mut untouched = Vec::new();
        if matches!(self.phase, Phase::Vacancy | Phase::Weigh) {
            untouched.extend(self.window.drain(..).map(|open| open.slot));
            self.phase = Phase::Over;
        }
        untouched.extend(self.waiting.drain(..));
        untouched
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        if !self.rest.duration.is_zero() {
            return Next::Rest(std::mem::take(&mut self.rest));
        }
        let (source, target) = (self.job.route.source.clone(), self.job.route.target.clone());
        let slots: Vec<SlotId> = self.window.iter().map(|open| open.slot).collect();
        Next::Calls(match self.phase {
            Phase::Vacancy => {
                let count = || wording::count_keys(&slots, self.job.route.databases);
                let transaction = self.asks_to_transact().then(wording::transaction).into_iter().flatten();
                let at_target = std::iter::once(wording::stats()).chain(transaction).chain(count()).collect();
                vec![
                    call(&target.address, Lane::Control, at_target, QUESTION_PATIENCE),
                    call(&source.address, Lane::Control, count(), QUESTION_PATIENCE),
                ]
            }
            Phase::Weigh => {
                let room = self.allowance.round;
                let commands = self.weighing.as_mut().and_then(|weighing| weighing.commands(room)).unwrap_or_default();
                vec![call(&source.address, Lane::Transfer, commands, QUESTION_PATIENCE)]
            }
            Phase::Import { .. } => {
                self.setslot(&target.address, each(&slots, |slot| wording::importing(slot, &source.id)))
            }
            Phase::Migrate { .. } => {
                self.setslot(&source.address, each(&slots, |slot| wording::migrating(slot, &target.id)))
            }
            Phase::Transfer => vec![self.transfer()],
            Phase::Verify { .. } | Phase::AssignTarget { .. } | Phase::Tell => self.close(),
            Phase::Confirm { .. } => self.job.route.ask_both(),
            Phase::BumpEpoch => self.setslot(&target.address, vec![Command::new("CLUSTER BUMPEPOCH")]),
            Phase::RetractTarget | Phase::RetractCheck | Phase::RetractSource { .. } | Phase::Reopen => self.retract(),
            Phase::Over => {
                return Next::Finished(Ending {
                    moved: self.moved.iter().copied().collect(),
                    stayed: self.stayed.clone(),
                    unopened: self.unopened.iter().copied().collect(),
                    unsettled: self.unsettled.clone(),
                    collided: self.collided.iter().copied().collect(),
                    keys: self.keys,
                });
            }
        })
    }

    /// Hears what the calls of [`next`](Self::next) brought, and how long they took.
    pub(super) fn hear(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>, took: Duration) {
        if results.iter().all(Result::is_ok) {
            self.charge_for_setting(took);
        }
        match self.phase {
            Phase::Tell => self.told(),
            Phase::Confirm { bumped } => self.confirm(results, bumped),
            Phase::Vacancy => {
                self.round.learn_way(took);
                self.hear_counts(results);
            }
            // A bump that was lost or refused: look whether it helped.
            Phase::BumpEpoch => self.phase = Phase::Confirm { bumped: true },
            _ => match single(results) {
                Ok(replies) => self.hear_replies(replies, took),
                Err(error) => self.give_up(&error),
            },
        }
    }

    fn hear_replies(&mut self, replies: Vec<Reply>, took: Duration) {
        match self.phase {
            Phase::Weigh => self.hear_weights(replies, took),
            Phase::Import { attempt } if replicas_lag(&replies, attempt) => {
                (self.rest, self.phase) = (rest_before_retry(attempt), Phase::Import { attempt: attempt + 1 });
            }
            Phase::Import { .. } => {
                // Its replicas may have executed what it refused: retracting it makes sure.
                self.keep_opened(replies, |machine, slot, reason| machine.retracted.push((slot, reason)));
                self.phase = Phase::Migrate { attempt: 0 };
            }
            Phase::Migrate { attempt } if replicas_lag(&replies, attempt) => {
                (self.rest, self.phase) = (rest_before_retry(attempt), Phase::Migrate { attempt: attempt + 1 });
            }
            Phase::Migrate { .. } => {
                self.keep_opened(replies, |machine, slot, reason| machine.retracted.push((slot, reason)));
                self.phase = Phase::Transfer;
            }
            Phase::Transfer => self.hear_transfer(replies, took),
            Phase::Verify { attempt } => {
                self.round.learn_way(took);
                self.verify(replies, attempt);
            }
            Phase::AssignTarget { attempt } => self.hear_assignment(replies, attempt),
            Phase::RetractTarget | Phase::RetractCheck | Phase::RetractSource { .. } | Phase::Reopen => {
                self.hear_retraction(replies);
            }
            Phase::Vacancy | Phase::Tell | Phase::Confirm { .. } | Phase::BumpEpoch | Phase::Over => {}
        }
        self.skip_empty_phases();
    }

    /// Phases with nothing left to say are passed over.
    fn skip_empty_phases(&mut self) {
        let closes = matches!(self.phase, Phase::Verify { .. } | Phase::AssignTarget { .. } | Phase::Tell);
        let opens = matches!(self.phase, Phase::Weigh | Phase::Import { .. } | Phase::Migrate { .. } | Phase::Transfer);
        if (opens || closes) && self.window.is_empty() {
            return if self.assigned.is_empty() {
                self.window_done()
            } else {
                self.phase = Phase::Confirm { bumped: false }
            };
        }
        if self.phase == Phase::Transfer || closes && self.closing.is_empty() {
            let all_empty = self.window.iter().all(OpenSlot::is_empty);
            self.phase = if all_empty { self.close_some() } else { Phase::Transfer };
        }
    }

    fn next_window(&mut self) {
        let size = self.job.pace.open_slots().min(self.waiting.len());
        let copies = self.job.copies;
        let databases = self.job.route.databases;
        let open = |slot| OpenSlot::new(slot, databases, copies);
        self.window = self.waiting.drain(..size).map(open).collect();
        self.phase = match (self.window.is_empty(), copies) {
            (true, _) => Phase::Over,
            (false, Copies::None) => Phase::Vacancy,
            (false, _) => Phase::Import { attempt: 0 },
        };
    }

    /// The window's slots went as far as they can; those to retract come now.
    fn window_done(&mut self) {
        self.window.clear();
        self.closing.clear();
        if self.retracted.is_empty() { self.next_window() } else { self.phase = Phase::RetractTarget }
    }

    /// A call had no replies: whatever was open then has to be looked at afresh.
    fn give_up(&mut self, error: &LinkError) {
        let reason = error.to_string();
        // Before the first SETSLOT arrived, nothing has happened.
        let untouched = match self.phase {
            Phase::Vacancy | Phase::Weigh => true,
            Phase::Import { attempt: 0 } => matches!(error, LinkError::Unreachable { .. } | LinkError::Refused { .. }),
            _ => false,
        };
        self.closing.clear();
        let left = self.window.drain(..).map(|open| open.slot).chain(self.assigned.drain(..));
        let left = left.map(|slot| (slot, reason.clone()));
        if untouched {
            self.stayed.extend(left)
        } else {
            self.unsettled.extend(left)
        }
        self.unsettled.append(&mut self.retracted);
        self.stayed.extend(self.waiting.drain(..).map(|slot| (slot, reason.clone())));
        self.phase = Phase::Over;
    }

    /// Leaves the source to its clients that was kept busy for `busy`.
    fn rest_after(&mut self, busy: Duration) {
        self.rest = Rest { duration: self.allowance.rest_after(busy, self.round.way()), cause: Cause::Pace };
    }

    /// Rests after `SETSLOT`: the node saved its cluster file before it answered. Not between the target's yes and the
    /// source's, where clients are sent to and fro: that is rested for afterwards.
    fn charge_for_setting(&mut self, took: Duration) {
        let slots = match self.phase {
            Phase::Import { .. } | Phase::Migrate { .. } => self.window.len(),
            Phase::AssignTarget { .. } | Phase::Tell => self.closing.len(),
            _ => return,
        };
        // No more than it costs the node: the target may be far away, and Valkey waits for replicas.
        let busy = self.round.busy(took).min(self.setting_time(slots));
        self.charged += busy;
        if !matches!(self.phase, Phase::AssignTarget { .. }) {
            let charged = std::mem::take(&mut self.charged);
            self.rest_after(charged);
        }
    }

    /// `SETSLOT`s for one node.
    fn setslot(&self, node: &Address, commands: Vec<Command>) -> Vec<Call> {
        let replicas_first = self.job.route.telling != Telling::EachImported;
        let waits = if replicas_first { u32::try_from(commands.len()).unwrap_or(u32::MAX) } else { 1 };
        vec![call(node, Lane::Control, commands, QUESTION_PATIENCE + SETSLOT_PATIENCE * waits)]
    }

    fn with_open(&mut self, slot: SlotId, change: impl FnOnce(&mut OpenSlot)) {
        if let Some(open) = self.window.iter_mut().find(|open| open.slot == slot) {
            change(open);
        }
    }

    fn drop_open(&mut self, slot: SlotId, record: impl FnOnce(&mut Self)) {
        let before = self.window.len();
        self.window.retain(|open| open.slot != slot);
        self.closing.retain(|closing| *closing != slot);
        if self.window.len() < before {
            record(self);
        }
    }
}

/// Whether some `SETSLOT` is worth saying again: all of the window then, for it does no harm.
fn replicas_lag(replies: &[Reply], attempt: u32) -> bool {
    replies.iter().any(|reply| matches!(reply, Reply::Error(error) if may_retry(error, attempt)))
}

/// How long replicas get to catch up.
fn rest_before_retry(attempt: u32) -> Rest {
    Rest { duration: Duration::from_millis(100 << attempt), cause: Cause::Replicas }
}

fn may_retry(error: &ServerError, attempt: u32) -> bool {
    attempt < MOST_RETRIES && wording::setslot_may_succeed_later(error)
}

fn each(slots: &[SlotId], word: impl Fn(SlotId) -> Command) -> Vec<Command> {
    slots.iter().map(|slot| word(*slot)).collect()
}

fn call(node: &Address, lane: Lane, commands: Vec<Command>, patience: Duration) -> Call {
    Call { node: node.clone(), lane, commands, patience }
}

fn single(results: Vec<Result<Vec<Reply>, LinkError>>) -> Result<Vec<Reply>, LinkError> {
    results.into_iter().next().expect("every call has a result")
}
