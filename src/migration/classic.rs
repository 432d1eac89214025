//! Moves slots with `SETSLOT` and `MIGRATE`: every server can. Pure: no clock, no connection.
//!
//! Slots are taken in windows; each phase is one pipeline for the whole window, so that a server saves its cluster file
//! once per phase instead of once per slot:
//!
//! ```text
//! Vacancy     target  COUNTKEYSINSLOT = 0: stray copies would collide later           (not when resuming)
//! Import      target  SETSLOT IMPORTING
//! Migrate     source  SETSLOT MIGRATING
//! Transfer    source  rounds of MIGRATE … KEYS and GETKEYSINSLOT, in every database, until no key is left
//! Verify      source  ROLE, and COUNTKEYSINSLOT = 0 in every database: what is left when NODE is told is deleted
//! AssignTarget        SETSLOT IMPORTING again, then NODE: without the flag the target would claim without a new epoch
//! AssignSource        SETSLOT NODE                                         (a source without slots may refuse it)
//! TellOthers          SETSLOT NODE on every other primary                       (a courtesy: gossip tells it too)
//! Confirm     both    CLUSTER NODES: no flag is left, the target owns the slots by a higher epoch, else BUMPEPOCH
//! ```
//!
//! A slot whose transfer cannot succeed is retracted, target first: once the target is stable no client can create a key
//! there, and if it then holds none, the source may be stable too. If it does hold keys, the slot is opened again and left
//! for `settle`.

use std::collections::VecDeque;
use std::time::Duration;

use super::call::{Call, Copies, Ending, Next, QUESTION_PATIENCE};
use super::pace::{Pace, RoundSize};
use super::survey::Route;
use super::wording::{self, Refused, Transfer};
use crate::cluster::question::ClusterNodes;
use crate::cluster::{Command, Lane, LinkError, Question, Reply, ReplyError, ServerError};
use crate::model::{Address, NodeRecord, OpenDirection, Role, SlotId};

/// What a classic migration is to do.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) route: Route,
    pub(super) slots: Vec<SlotId>,
    pub(super) pace: Pace,
    pub(super) migrate_timeout_ms: u64,
    pub(super) credentials: Option<(Option<String>, String)>,
    /// What is known of copies that the target may hold already.
    pub(super) copies: Copies,
}

/// Valkey 8+ executes `SETSLOT` on replicas first and waits two seconds for each command.
const SETSLOT_PATIENCE: Duration = Duration::from_secs(2);
/// MIGRATEs in one pipeline: the source serves nobody in between, and each may wait for its socket. With the time-out
/// shared out, a target that hangs keeps the source for about three seconds, far below any node time-out.
const MOST_CALLS_PER_ROUND: usize = 32;
/// The shortest share: below this, a busy but healthy target would look like a broken one.
const LEAST_TIMEOUT_MS: u64 = 100;
/// How often a slot may refuse to get emptier before it is left open for later.
const MOST_STALLS: u32 = 10;
/// How often a `SETSLOT` is said again while replicas lag.
const MOST_RETRIES: u32 = 6;
/// What one MIGRATE carries at most: its payload is built in memory, and blocks the source.
const MOST_KEYS_PER_CALL: usize = 1000;

/// The state machine.
#[derive(Debug)]
pub(super) struct Classic {
    job: Job,
    phase: Phase,
    waiting: VecDeque<SlotId>,
    /// The slots being moved now.
    window: Vec<OpenSlot>,
    /// Slots of this window that have to be closed without moving, and why.
    retracted: Vec<(SlotId, String)>,
    round: RoundSize,
    /// What the calls under way in `Transfer` were about, in order.
    sent: Vec<Sent>,
    /// Rest before the next call.
    rest: Duration,
    /// After a MIGRATE that did not succeed, one at a time with the whole time-out, until one does.
    cautious: bool,
    moved: Vec<SlotId>,
    stayed: Vec<(SlotId, String)>,
    unsettled: Vec<(SlotId, String)>,
    collided: Vec<SlotId>,
    keys: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Vacancy,
    Import { attempt: u32 },
    Migrate { attempt: u32 },
    Transfer,
    Verify { attempt: u32 },
    AssignTarget { attempt: u32 },
    AssignSource,
    TellOthers,
    Confirm { bumped: bool },
    BumpEpoch,
    RetractTarget,
    RetractCheck,
    RetractSource { attempt: u32 },
    Reopen,
    Over,
}

#[derive(Debug)]
struct OpenSlot {
    slot: SlotId,
    /// Keys of `database` that the source still has, as it said last; none while it was not asked.
    keys: Option<Vec<Vec<u8>>>,
    database: u32,
    /// Whether every database was seen empty.
    empty: bool,
    stalls: u32,
    copies: Copies,
    replace: bool,
}

#[derive(Debug, Clone, Copy)]
enum Sent {
    Select,
    Migrate { slot: SlotId, keys: usize },
    Keys { slot: SlotId },
}

impl Classic {
    pub(super) fn new(job: Job) -> Self {
        let mut machine = Self {
            phase: Phase::Over,
            waiting: job.slots.iter().copied().collect(),
            window: Vec::new(),
            retracted: Vec::new(),
            round: RoundSize::new(job.pace),
            sent: Vec::new(),
            rest: Duration::ZERO,
            cautious: false,
            moved: Vec::new(),
            stayed: Vec::new(),
            unsettled: Vec::new(),
            collided: Vec::new(),
            keys: 0,
            job,
        };
        machine.next_window();
        machine
    }

    /// How many slots the target owns, and keys moved, so far.
    pub(super) fn progress(&self) -> (usize, u64) {
        (self.moved.len(), self.keys)
    }

    /// Begins no further window: what is open is brought to its end.
    pub(super) fn stop(&mut self) {
        self.stayed.extend(self.waiting.drain(..).map(|slot| (slot, "stopped before it was opened".to_owned())));
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        if !self.rest.is_zero() {
            return Next::Rest(std::mem::take(&mut self.rest));
        }
        let (source, target) = (self.job.route.source.clone(), self.job.route.target.clone());
        let slots: Vec<SlotId> = self.window.iter().map(|open| open.slot).collect();
        let retracted: Vec<SlotId> = self.retracted.iter().map(|(slot, _)| *slot).collect();
        let setslot = |node: &Address, commands: Vec<Command>| {
            let patience = QUESTION_PATIENCE + SETSLOT_PATIENCE * u32::try_from(commands.len()).unwrap_or(u32::MAX);
            vec![call(node, Lane::Control, commands, patience)]
        };
        let question = |node: &Address, commands| vec![call(node, Lane::Control, commands, QUESTION_PATIENCE)];
        let each = |slots: &[SlotId], word: &dyn Fn(SlotId) -> Command| slots.iter().map(|slot| word(*slot)).collect();
        Next::Calls(match self.phase {
            Phase::Vacancy => question(&target.address, wording::count_keys(&slots, self.job.route.databases)),
            Phase::Import { .. } => {
                setslot(&target.address, each(&slots, &|slot| wording::importing(slot, &source.id)))
            }
            Phase::Migrate { .. } => {
                setslot(&source.address, each(&slots, &|slot| wording::migrating(slot, &target.id)))
            }
            Phase::Transfer => vec![self.transfer()],
            Phase::Verify { .. } => {
                // A source that was demoted still counts, and its successor takes writes. One whose flag is another
                // than ours gives its keys to somebody else, too.
                let mut commands = vec![wording::role()];
                commands.extend(ClusterNodes::of(&source.address).commands());
                commands.extend(wording::count_keys(&slots, self.job.route.databases));
                vec![call(&source.address, Lane::Transfer, commands, QUESTION_PATIENCE)]
            }
            Phase::AssignTarget { .. } => setslot(
                &target.address,
                slots
                    .iter()
                    .flat_map(|slot| [wording::importing(*slot, &source.id), wording::node(*slot, &target.id)])
                    .collect(),
            ),
            Phase::AssignSource => setslot(&source.address, each(&slots, &|slot| wording::node(slot, &target.id))),
            Phase::TellOthers => {
                let commands: Vec<Command> = each(&slots, &|slot| wording::node(slot, &target.id));
                let tell = |node| call(node, Lane::Control, commands.clone(), QUESTION_PATIENCE);
                self.job.route.others.iter().map(tell).collect()
            }
            Phase::Confirm { .. } => self.job.route.ask_both(),
            Phase::BumpEpoch => setslot(&target.address, vec![Command::new("CLUSTER BUMPEPOCH")]),
            Phase::RetractTarget => setslot(&target.address, each(&retracted, &wording::stable)),
            Phase::RetractCheck => {
                // A target that was demoted forgets its keys, and its successor has them.
                let mut commands = vec![wording::role()];
                commands.extend(wording::count_keys(&retracted, self.job.route.databases));
                question(&target.address, commands)
            }
            Phase::RetractSource { .. } => setslot(&source.address, each(&retracted, &wording::stable)),
            Phase::Reopen => setslot(&target.address, each(&retracted, &|slot| wording::importing(slot, &source.id))),
            Phase::Over => {
                return Next::Finished(Ending {
                    moved: self.moved.iter().copied().collect(),
                    stayed: self.stayed.clone(),
                    unsettled: self.unsettled.clone(),
                    collided: self.collided.iter().copied().collect(),
                    keys: self.keys,
                });
            }
        })
    }

    /// Hears what the calls of [`next`](Self::next) brought, and how long they took.
    pub(super) fn hear(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>, took: Duration) {
        match self.phase {
            // Nobody waits for these: the slots have moved, and `Confirm` sees whether the source knows.
            Phase::AssignSource => {
                let alone = self.job.route.others.is_empty();
                self.phase = if alone { Phase::Confirm { bumped: false } } else { Phase::TellOthers };
            }
            Phase::TellOthers => {
                // Gossip tells whoever does not answer; the next windows do not wait for it again.
                let mut results = results.into_iter();
                self.job.route.others.retain(|_| results.next().is_some_and(|result| result.is_ok()));
                self.phase = Phase::Confirm { bumped: false };
            }
            Phase::Confirm { bumped } => self.confirm(results, bumped),
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
            Phase::Vacancy => self.check_vacancy(replies),
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
            Phase::Verify { attempt } => self.verify(replies, attempt),
            Phase::AssignTarget { attempt } => self.hear_assignment(replies, attempt),
            Phase::RetractTarget => {
                // A target that stays importing must not be left to a stable source.
                let refused = replies.iter().any(|reply| matches!(reply, Reply::Error(_)));
                self.phase = if refused { Phase::Reopen } else { Phase::RetractCheck };
            }
            Phase::RetractCheck => self.check_retracted(replies),
            Phase::RetractSource { attempt } if replicas_lag(&replies, attempt) => {
                (self.rest, self.phase) = (rest_before_retry(attempt), Phase::RetractSource { attempt: attempt + 1 });
            }
            Phase::RetractSource { .. } => {
                let refused = replies.iter().any(|reply| matches!(reply, Reply::Error(_)));
                let end = if refused { &mut self.unsettled } else { &mut self.stayed };
                end.append(&mut self.retracted);
                self.next_window();
            }
            Phase::Reopen => {
                self.unsettled.append(&mut self.retracted);
                self.next_window();
            }
            Phase::AssignSource | Phase::TellOthers | Phase::Confirm { .. } | Phase::BumpEpoch | Phase::Over => {}
        }
        self.skip_empty_phases();
    }

    /// Phases with nothing left to say are passed over.
    fn skip_empty_phases(&mut self) {
        let about_window = matches!(
            self.phase,
            Phase::Import { .. }
                | Phase::Migrate { .. }
                | Phase::Transfer
                | Phase::Verify { .. }
                | Phase::AssignTarget { .. }
                | Phase::AssignSource
        );
        if about_window && self.window.is_empty() {
            self.window_done();
        }
    }

    fn next_window(&mut self) {
        let size = self.job.pace.open_slots().min(self.waiting.len());
        let copies = self.job.copies;
        let open = |slot| OpenSlot { slot, keys: None, database: 0, empty: false, stalls: 0, copies, replace: false };
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
        if self.retracted.is_empty() { self.next_window() } else { self.phase = Phase::RetractTarget }
    }

    /// A call had no replies: whatever was open then has to be looked at afresh.
    fn give_up(&mut self, error: &LinkError) {
        let reason = error.to_string();
        // Before the first SETSLOT arrived, nothing has happened.
        let untouched = match self.phase {
            Phase::Vacancy => true,
            Phase::Import { attempt: 0 } => matches!(error, LinkError::Unreachable { .. } | LinkError::Refused { .. }),
            _ => false,
        };
        let left = self.window.drain(..).map(|open| (open.slot, reason.clone()));
        if untouched {
            self.stayed.extend(left)
        } else {
            self.unsettled.extend(left)
        }
        self.unsettled.append(&mut self.retracted);
        self.stayed.extend(self.waiting.drain(..).map(|slot| (slot, reason.clone())));
        self.phase = Phase::Over;
    }

    fn check_vacancy(&mut self, replies: Vec<Reply>) {
        match wording::read_key_counts(replies, self.window.len(), self.job.route.databases) {
            Ok(counts) => {
                let mut counts = counts.into_iter();
                let stayed = &mut self.stayed;
                self.window.retain(|open| {
                    let strays = counts.next().unwrap_or(0);
                    if strays > 0 {
                        stayed.push((
                            open.slot,
                            format!("the target holds {strays} stray keys of it: see `ballast check`"),
                        ));
                    }
                    strays == 0
                });
            }
            Err(error) => {
                let reason = format!("the target did not count its keys: {error}");
                self.stayed.extend(self.window.drain(..).map(|open| (open.slot, reason.clone())));
            }
        }
        self.phase = Phase::Import { attempt: 0 };
    }

    /// Keeps the slots whose `SETSLOT` was accepted and hands the others to `refuse`.
    fn keep_opened(&mut self, replies: Vec<Reply>, refuse: impl Fn(&mut Self, SlotId, String)) {
        let window = std::mem::take(&mut self.window);
        for (open, reply) in window.into_iter().zip(replies) {
            match reply.ok() {
                Ok(_) => self.window.push(open),
                Err(error) => refuse(self, open.slot, error.to_string()),
            }
        }
    }

    /// The next round: keys that we know of are moved, and each slot is asked for more.
    fn transfer(&mut self) -> Call {
        let mut room = self.round.keys();
        let mut commands = Vec::new();
        self.sent.clear();
        let most_calls = if self.cautious { 1 } else { MOST_CALLS_PER_ROUND };
        let with_keys = self.window.iter().filter(|open| !open.empty && open.keys.is_some()).count();
        let shares = with_keys.clamp(1, most_calls) as u64;
        let timeout_ms = (self.job.migrate_timeout_ms / shares).max(LEAST_TIMEOUT_MS);
        let mut calls = 0;
        let multi = self.job.route.databases > 1;
        for open in self.window.iter().filter(|open| !open.empty) {
            if room == 0 || calls == most_calls {
                break;
            }
            if multi {
                commands.push(wording::select(open.database));
                self.sent.push(Sent::Select);
            }
            let known = open.keys.as_deref().unwrap_or_default();
            let now = &known[..known.len().min(room).min(MOST_KEYS_PER_CALL)];
            if !now.is_empty() {
                let transfer = Transfer {
                    target: &self.job.route.target_from_source,
                    database: open.database,
                    timeout_ms,
                    replace: open.replace,
                    credentials: self.job.credentials.as_ref(),
                };
                commands.push(wording::migrate(transfer, now));
                self.sent.push(Sent::Migrate { slot: open.slot, keys: now.len() });
                room -= now.len();
                calls += 1;
            }
            commands.push(wording::keys_in_slot(open.slot, self.round.keys().min(MOST_KEYS_PER_CALL)));
            self.sent.push(Sent::Keys { slot: open.slot });
        }
        if multi {
            commands.push(wording::select(0));
            self.sent.push(Sent::Select);
        }
        // Each MIGRATE waits for its socket to connect, to write and to read.
        let patience = QUESTION_PATIENCE + Duration::from_millis(timeout_ms.saturating_mul(3 * calls as u64));
        call(&self.job.route.source.address, Lane::Transfer, commands, patience)
    }

    fn hear_transfer(&mut self, replies: Vec<Reply>, took: Duration) {
        let sent = std::mem::take(&mut self.sent);
        let mut round_keys = 0;
        let mut stalled = 0;
        for (sent, reply) in sent.into_iter().zip(replies) {
            match sent {
                Sent::Select => {}
                Sent::Migrate { slot, keys } => match reply.ok() {
                    Ok(_) => {
                        round_keys += keys;
                        self.with_open(slot, |open| (open.stalls, open.replace) = (0, false));
                    }
                    Err(error) => stalled = stalled.max(self.hear_migrate_refusal(slot, error)),
                },
                Sent::Keys { slot } => self.hear_keys(slot, reply),
            }
        }
        self.keys += round_keys as u64;
        if round_keys > 0 {
            self.round.learn(round_keys, took);
            self.rest = self.job.pace.rest_after(took);
            self.cautious = false;
        }
        if stalled > 0 {
            self.cautious = true;
            self.rest = self.rest.max(Duration::from_millis(20 << stalled.min(5)));
        }
        if self.window.iter().all(|open| open.empty) {
            self.phase = Phase::Verify { attempt: 0 };
        }
    }

    /// Returns how often in a row the slot has refused.
    fn hear_migrate_refusal(&mut self, slot: SlotId, error: ReplyError) -> u32 {
        let refused = match &error {
            ReplyError::Refused(error) => wording::migrate_refusal(error),
            ReplyError::Unexpected { .. } => Refused::Changed,
        };
        let mut stalls = 0;
        let mut collides = false;
        self.with_open(slot, |open| {
            open.stalls += 1;
            stalls = open.stalls;
            match refused {
                Refused::Unknown => {
                    open.replace = false;
                    // A suspect copy stays suspect, whatever we add to it.
                    open.copies = open.copies.max(Copies::Ours);
                }
                Refused::Busy if open.copies == Copies::Ours => open.replace = true,
                Refused::Busy => collides = true,
                Refused::Later | Refused::Changed | Refused::Never => {}
            }
        });
        if refused == Refused::Never {
            self.drop_open(slot, |machine| machine.retracted.push((slot, error.to_string())));
        } else if collides {
            let reason = "the target holds a key that we did not copy there; both copies may be live".to_owned();
            self.drop_open(slot, |machine| {
                machine.unsettled.push((slot, reason));
                machine.collided.push(slot);
            });
        } else if stalls > MOST_STALLS {
            // Nothing may have got there at all: a target that the source cannot reach. If something did, it stays open.
            self.drop_open(slot, |machine| machine.retracted.push((slot, error.to_string())));
        } else if refused == Refused::Changed {
            self.drop_open(slot, |machine| machine.unsettled.push((slot, error.to_string())));
        }
        stalls
    }

    fn hear_keys(&mut self, slot: SlotId, reply: Reply) {
        let databases = self.job.route.databases;
        match reply.list().and_then(|keys| keys.into_iter().map(Reply::bytes).collect::<Result<Vec<_>, _>>()) {
            Ok(keys) => self.with_open(slot, |open| {
                if !keys.is_empty() {
                    open.keys = Some(keys);
                } else if open.database + 1 < databases {
                    (open.database, open.keys) = (open.database + 1, None);
                } else {
                    open.empty = true;
                }
            }),
            Err(error) => self.drop_open(slot, |machine| machine.unsettled.push((slot, error.to_string()))),
        }
    }

    fn verify(&mut self, replies: Vec<Reply>, attempt: u32) {
        let mut replies = replies.into_iter();
        let primary = wording::says_primary(replies.next().unwrap_or(Reply::Nil));
        let nodes = ClusterNodes::of(&self.job.route.source.address).read(replies.by_ref().take(1).collect());
        let counts = wording::read_key_counts(replies.collect(), self.window.len(), self.job.route.databases);
        let counts = primary.and_then(|primary| if primary { counts } else { Err(Reply::Nil.unexpected("a primary")) });
        match counts.and_then(|counts| Ok((nodes?, counts))) {
            Ok((nodes, counts)) => {
                for (open, count) in self.window.iter_mut().zip(counts) {
                    if count > 0 {
                        (open.empty, open.database, open.keys) = (false, 0, None);
                        open.stalls += 1;
                    }
                }
                let stuck: Vec<SlotId> =
                    self.window.iter().filter(|open| open.stalls > MOST_STALLS).map(|open| open.slot).collect();
                for slot in stuck {
                    let reason = "the source never ran empty".to_owned();
                    self.drop_open(slot, |machine| machine.unsettled.push((slot, reason)));
                }
                self.drop_taken_over(&nodes);
                let all_empty = self.window.iter().all(|open| open.empty);
                self.phase = if all_empty { Phase::AssignTarget { attempt } } else { Phase::Transfer };
            }
            Err(error) => {
                let reason = format!("the source did not count its keys: {error}");
                self.unsettled.extend(self.window.drain(..).map(|open| (open.slot, reason.clone())));
            }
        }
    }

    /// Drops slots that the source owns and does not give to our target any more: somebody else is at work on them.
    fn drop_taken_over(&mut self, nodes: &[NodeRecord]) {
        let Some(source) = nodes.iter().find(|node| node.myself) else { return };
        let ours = OpenDirection::Migrating(self.job.route.target.id.clone());
        let given = |slot| source.open.iter().any(|open| open.slot == slot && open.direction == ours);
        let lost: Vec<SlotId> = self.window.iter().map(|open| open.slot).collect();
        for slot in lost.into_iter().filter(|slot| source.slots.contains(*slot) && !given(*slot)) {
            let reason = "somebody else changed its flag on the source".to_owned();
            self.drop_open(slot, |machine| machine.unsettled.push((slot, reason)));
        }
    }

    fn hear_assignment(&mut self, replies: Vec<Reply>, attempt: u32) {
        let mut replies = replies.into_iter();
        let mut again = false;
        let mut refused = Vec::new();
        for open in &self.window {
            let (flag, node) = (replies.next().map(Reply::ok), replies.next().map(Reply::ok));
            match (flag, node) {
                (Some(Ok(_)), Some(Ok(_))) => {}
                // Assigned in an earlier attempt.
                (Some(Err(ReplyError::Refused(error))), Some(Ok(_))) if wording::says_already_owner(&error) => {}
                (_, Some(Err(ReplyError::Refused(error)))) if may_retry(&error, attempt) => again = true,
                (Some(Err(error)), _) | (_, Some(Err(error))) => refused.push((open.slot, error.to_string())),
                (None, _) | (_, None) => refused.push((open.slot, "fewer replies than commands".to_owned())),
            }
        }
        for (slot, reason) in refused {
            self.drop_open(slot, |machine| machine.unsettled.push((slot, reason)));
        }
        if again {
            // The source may fail over while replicas catch up: it is asked again.
            (self.rest, self.phase) = (rest_before_retry(attempt), Phase::Verify { attempt: attempt + 1 });
        } else {
            self.phase = Phase::AssignSource;
        }
    }

    /// The target said yes to everything in the window: now see that it is so, and that the source knows.
    fn confirm(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>, bumped: bool) {
        let (Some(source), Some(target)) = self.job.route.read_both(results) else {
            let reason = "the target accepted the slot, and an end was not heard of since".to_owned();
            self.unsettled.extend(self.window.drain(..).map(|open| (open.slot, reason.clone())));
            return self.window_done();
        };
        // A source that lost its last slot has become a replica, and shows its new primary's epoch.
        let contested = source.role == Role::Primary && target.config_epoch <= source.config_epoch;
        if contested && !bumped {
            return self.phase = Phase::BumpEpoch;
        }
        let flagged = |slot| [&source, &target].into_iter().any(|node| node.open.iter().any(|open| open.slot == slot));
        for open in self.window.drain(..) {
            let doubt = match (target.slots.contains(open.slot), flagged(open.slot), contested) {
                (true, false, false) => {
                    self.moved.push(open.slot);
                    continue;
                }
                (false, _, _) => "the target accepted the slot and does not own it",
                (true, true, _) => "it has moved and a flag is left",
                (true, false, true) => "it has moved and the target's epoch is not above the source's",
            };
            self.unsettled.push((open.slot, doubt.to_owned()));
        }
        self.window_done();
    }

    fn check_retracted(&mut self, replies: Vec<Reply>) {
        let mut replies = replies.into_iter();
        let primary = wording::says_primary(replies.next().unwrap_or(Reply::Nil));
        let counts = wording::read_key_counts(replies.collect(), self.retracted.len(), self.job.route.databases);
        let counts = if primary == Ok(true) { counts } else { Err(Reply::Nil.unexpected("a primary")) };
        let (empty, holding): (Vec<_>, Vec<_>) = match counts {
            Ok(counts) => {
                std::mem::take(&mut self.retracted).into_iter().zip(counts).partition(|(_, count)| *count == 0)
            }
            Err(_) => (Vec::new(), std::mem::take(&mut self.retracted).into_iter().map(|slot| (slot, 1)).collect()),
        };
        let slots = |pairs: Vec<((SlotId, String), i64)>| pairs.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>();
        match (empty.is_empty(), holding.is_empty()) {
            (_, true) => (self.retracted, self.phase) = (slots(empty), Phase::RetractSource { attempt: 0 }),
            // All or none: a slot left half retracted for one more round trip is not worth a second list. Those that are
            // empty are opened again too, and settled with the others.
            (_, false) => {
                self.retracted = slots(empty.into_iter().chain(holding).collect());
                self.phase = Phase::Reopen;
            }
        }
    }

    fn with_open(&mut self, slot: SlotId, change: impl FnOnce(&mut OpenSlot)) {
        if let Some(open) = self.window.iter_mut().find(|open| open.slot == slot) {
            change(open);
        }
    }

    fn drop_open(&mut self, slot: SlotId, record: impl FnOnce(&mut Self)) {
        let before = self.window.len();
        self.window.retain(|open| open.slot != slot);
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
fn rest_before_retry(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt)
}

fn may_retry(error: &ServerError, attempt: u32) -> bool {
    attempt < MOST_RETRIES && wording::setslot_may_succeed_later(error)
}

fn call(node: &Address, lane: Lane, commands: Vec<Command>, patience: Duration) -> Call {
    Call { node: node.clone(), lane, commands, patience }
}

fn single(results: Vec<Result<Vec<Reply>, LinkError>>) -> Result<Vec<Reply>, LinkError> {
    results.into_iter().next().expect("every call has a result")
}
