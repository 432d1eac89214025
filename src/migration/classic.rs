//! Moves slots with `SETSLOT` and `MIGRATE`: every server can. Pure: no clock, no connection.
//!
//! Slots are taken in windows; each phase is one pipeline for the whole window, so that a server saves its cluster file
//! once per phase instead of once per slot:
//!
//! ```text
//! Vacancy     target  COUNTKEYSINSLOT = 0: stray copies would collide later           (not when resuming)
//!             source  COUNTKEYSINSLOT: what is to come
//! Weigh       source  how large its keys are: see `weigh`. A slot with one that would keep the source too long stays
//! Import      target  SETSLOT IMPORTING
//! Migrate     source  SETSLOT MIGRATING
//! Transfer    source  rounds of MIGRATE … KEYS and GETKEYSINSLOT, in every database, until no key is left
//! Verify      source  ROLE, and COUNTKEYSINSLOT = 0 in every database: what is left when NODE is told is deleted
//! AssignTarget        SETSLOT IMPORTING again, then NODE: without the flag the target would claim without a new epoch
//! Tell        source  SETSLOT NODE                                                 (a source without slots may refuse it)
//!             others  SETSLOT NODE on every other primary                      (a courtesy: gossip tells it too)
//! Confirm     both    CLUSTER NODES: no flag is left, the target owns the slots by a higher epoch, else BUMPEPOCH
//! ```
//!
//! A slot whose transfer cannot succeed is retracted, target first: once the target is stable no client can create a key
//! there, and if it then holds none, the source may be stable too. If it does hold keys, the slot is opened again and left
//! for `settle`.

mod weigh;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use super::call::{Call, Copies, Ending, Next, QUESTION_PATIENCE};
use super::pace::{Allowance, Pace, Round};
use super::survey::Route;
use super::wording::{self, Refused, Transfer};
use crate::cluster::question::ClusterNodes;
use crate::cluster::{Command, Lane, LinkError, Question, Reply, ReplyError, ServerError};
use crate::model::{Address, NodeRecord, OpenDirection, Role, SlotId, SlotSet};
use weigh::Weighing;
use window::{Batch, Key, OpenSlot};

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
/// Keys of all slots in hand together, as far as they are counted beforehand: their names are held in memory.
const MOST_KEYS_IN_HAND: u64 = 100_000;
/// Keys that one round asks for: a reply of twenty thousand was measured to take a server one to three milliseconds.
const MOST_KEYS_ASKED: usize = 10_000;

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
    /// The weighing of the window's slots, while it lasts.
    weighing: Option<Weighing>,
    /// Keys that the target had evicted when we began.
    evicted: Option<u64>,
    allowance: Allowance,
    round: Round,
    /// What the calls under way in `Transfer` were about, in order.
    sent: Vec<Sent>,
    /// Rest before the next call.
    rest: Duration,
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

#[derive(Debug)]
enum Sent {
    Select,
    Migrate { slot: SlotId, keys: usize, bytes: u64, guess: Duration },
    Keys { slot: SlotId, database: u32 },
}

impl Classic {
    pub(super) fn new(job: Job) -> Self {
        let mut machine = Self {
            phase: Phase::Over,
            waiting: job.slots.iter().copied().collect(),
            window: Vec::new(),
            retracted: Vec::new(),
            weighing: None,
            evicted: None,
            allowance: Allowance { round: Duration::ZERO, call: Duration::MAX, duty: 1.0 },
            round: Round::new(),
            sent: Vec::new(),
            rest: Duration::ZERO,
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
            Phase::Vacancy => {
                let count = || wording::count_keys(&slots, self.job.route.databases);
                let at_target = std::iter::once(wording::stats()).chain(count()).collect();
                vec![
                    call(&target.address, Lane::Control, at_target, QUESTION_PATIENCE),
                    call(&source.address, Lane::Control, count(), QUESTION_PATIENCE),
                ]
            }
            Phase::Weigh => {
                let commands = self.weighing.as_mut().and_then(Weighing::commands).unwrap_or_default();
                vec![call(&source.address, Lane::Transfer, commands, QUESTION_PATIENCE)]
            }
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
            Phase::Tell => {
                let commands: Vec<Command> = each(&slots, &|slot| wording::node(slot, &target.id));
                let others = self.job.route.others.iter();
                let tell = |node| call(node, Lane::Control, commands.clone(), QUESTION_PATIENCE);
                setslot(&source.address, commands.clone()).into_iter().chain(others.map(tell)).collect()
            }
            Phase::Confirm { .. } => self.job.route.ask_both(),
            Phase::BumpEpoch => setslot(&target.address, vec![Command::new("CLUSTER BUMPEPOCH")]),
            Phase::RetractTarget => {
                let count_and_close =
                    |slot: &SlotId| [wording::count_keys(&[*slot], 1).remove(0), wording::stable(*slot)];
                setslot(&target.address, retracted.iter().flat_map(count_and_close).collect())
            }
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
        match self.phase {
            Phase::Tell => {
                // The slots have moved. `Confirm` sees whether the source knows; gossip tells whoever of the others does not
                // answer, and the next windows do not wait for it again.
                let mut results = results.into_iter().skip(1);
                self.job.route.others.retain(|_| results.next().is_some_and(|result| result.is_ok()));
                self.phase = Phase::Confirm { bumped: false };
            }
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
            Phase::RetractTarget => {
                // A target that stays importing must not be left to a stable source.
                let refused = replies.iter().any(|reply| matches!(reply, Reply::Error(_)));
                // Redis from 8.4 on counts no keys of a slot that it neither owns nor imports, so that `RetractCheck` would
                // find none there. What it counted in the same breath before counts; it has one database.
                let holds = replies.iter().step_by(2).any(|reply| *reply != Reply::Int(0));
                self.phase = if refused || holds { Phase::Reopen } else { Phase::RetractCheck };
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
            Phase::Vacancy
            | Phase::Tell
            | Phase::Confirm { .. }
            | Phase::BumpEpoch
            | Phase::Over => {}
        }
        self.skip_empty_phases();
    }

    /// Phases with nothing left to say are passed over.
    fn skip_empty_phases(&mut self) {
        let about_window = matches!(
            self.phase,
            Phase::Weigh
                | Phase::Import { .. }
                | Phase::Migrate { .. }
                | Phase::Transfer
                | Phase::Verify { .. }
                | Phase::AssignTarget { .. }
                | Phase::Tell
        );
        if about_window && self.window.is_empty() {
            self.window_done();
        }
        if self.phase == Phase::Transfer && self.window.iter().all(OpenSlot::is_empty) {
            self.phase = Phase::Verify { attempt: 0 };
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

    /// What either end holds of the slots in hand, which nobody has opened yet.
    fn hear_counts(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>) {
        let (slots, databases) = (self.window.len(), self.job.route.databases);
        let read = |result: Option<Result<Vec<Reply>, LinkError>>| {
            let replies = result.unwrap_or(Ok(Vec::new())).map_err(|error| error.to_string())?;
            let counts = wording::read_key_counts_by_database(replies, slots, databases);
            counts.map_err(|error| format!("it did not count its keys: {error}"))
        };
        let mut results = results.into_iter();
        let mut at_target = results.next();
        if let Some(Ok(replies)) = &mut at_target
            && !replies.is_empty()
            && let Some(objection) = self.evicts(replies.remove(0))
        {
            return self.give_back(&objection);
        }
        let (strays, own) = match (read(at_target), read(results.next())) {
            (Ok(strays), Ok(own)) => (strays, own),
            (Err(reason), _) => return self.give_back(&format!("the target: {reason}")),
            (_, Err(reason)) => return self.give_back(&format!("the source: {reason}")),
        };
        let mut keys_in_hand = 0;
        let mut counts = Vec::new();
        for (open, (strays, own)) in std::mem::take(&mut self.window).into_iter().zip(strays.iter().zip(own)) {
            let strays: u64 = strays.iter().sum();
            keys_in_hand += own.iter().sum::<u64>();
            if strays > 0 {
                let reason = format!("the target holds {strays} stray keys of it: see `ballast check`");
                self.stayed.push((open.slot, reason));
            } else if keys_in_hand > MOST_KEYS_IN_HAND && !self.window.is_empty() {
                self.waiting.push_front(open.slot);
            } else {
                counts.push((open.slot, own));
                self.window.push(open);
            }
        }
        self.weighing = Some(Weighing::new(&counts, databases, self.job.weigh.clone(), self.job.mean_bytes));
        self.phase = Phase::Weigh;
        self.weighed();
    }

    /// Why nothing more may go to a target, if it has evicted keys since we began: it makes room for ours by dropping others.
    fn evicts(&mut self, stats: Reply) -> Option<String> {
        // A server that does not say has to be trusted: managed ones may refuse INFO.
        let evicted = wording::evicted_keys(stats)?;
        let before = *self.evicted.get_or_insert(evicted);
        (evicted > before).then(|| {
            format!("the target evicted {} keys since slots began to move: it has no room for more", evicted - before)
        })
    }

    /// Nothing has happened to the slots in hand, and nothing will.
    fn give_back(&mut self, reason: &str) {
        let left = self.window.drain(..).map(|open| open.slot).chain(self.waiting.drain(..));
        self.stayed.extend(left.map(|slot| (slot, reason.to_owned())));
        self.phase = Phase::Over;
    }

    fn hear_weights(&mut self, replies: Vec<Reply>, took: Duration) {
        self.rest = self.allowance.rest_after(took);
        if let Some(weighing) = &mut self.weighing {
            weighing.hear(replies, self.allowance.call);
        }
        self.weighed();
    }

    /// Goes on once everything was weighed.
    fn weighed(&mut self) {
        if self.weighing.as_ref().is_some_and(|weighing| !weighing.is_done()) {
            return;
        }
        let Some(weighing) = self.weighing.take() else { return };
        let weights = weighing.found(self.allowance.call);
        for open in &mut self.window {
            open.listed = !weights.partly.contains(&open.slot);
        }
        for ((slot, database), keys) in weights.keys {
            self.with_open(slot, |open| open.keys[database as usize] = keys.into());
        }
        for (slot, reason) in weights.pinned {
            self.drop_open(slot, |machine| machine.stayed.push((slot, reason)));
        }
        self.phase = Phase::Import { attempt: 0 };
        self.skip_empty_phases();
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

    /// The next round: keys that we know of are moved, and slots of which we know none are asked for more.
    fn transfer(&mut self) -> Call {
        let most_calls = if self.cautious { 1 } else { MOST_CALLS_PER_ROUND };
        let mut room = self.allowance.round;
        let mut to_ask = MOST_KEYS_ASKED;
        let (mut batches, mut asked) = (Vec::new(), Vec::new());
        for open in self.window.iter_mut().filter(|open| !open.is_empty()) {
            if room.is_zero() || batches.len() == most_calls {
                break;
            }
            if let Some(batch) = open.take(room.min(self.allowance.call), MOST_KEYS_PER_CALL, &self.round) {
                room = room.saturating_sub(self.round.time(batch.guess));
                batches.push((open.slot, open.replace, batch));
            }
            if open.knows_none() && !open.listed && to_ask > 0 {
                to_ask = to_ask.saturating_sub(MOST_KEYS_PER_CALL);
                asked.push(open.slot);
            }
        }
        // Each MIGRATE waits for its socket to connect, to write and to read: the time-out is shared out.
        let timeout_ms = (self.job.migrate_timeout_ms / batches.len().max(1) as u64).max(LEAST_TIMEOUT_MS);
        let patience = QUESTION_PATIENCE + Duration::from_millis(timeout_ms.saturating_mul(3 * batches.len() as u64));
        let mut commands = Vec::new();
        self.sent.clear();
        for (slot, replace, batch) in batches {
            self.send_batch(slot, replace, batch, timeout_ms, &mut commands);
        }
        for slot in asked {
            for database in 0..self.job.route.databases.max(1) {
                self.select(database, &mut commands);
                commands.push(wording::keys_in_slot(slot, MOST_KEYS_PER_CALL));
                self.sent.push(Sent::Keys { slot, database });
            }
        }
        self.select(0, &mut commands);
        call(&self.job.route.source.address, Lane::Transfer, commands, patience)
    }

    fn send_batch(&mut self, slot: SlotId, replace: bool, batch: Batch, timeout_ms: u64, commands: &mut Vec<Command>) {
        self.select(batch.database, commands);
        let transfer = Transfer {
            target: &self.job.route.target_from_source,
            database: batch.database,
            timeout_ms,
            replace,
            credentials: self.job.credentials.as_ref(),
        };
        let bytes = batch.keys.iter().map(|key| key.bytes).sum();
        self.sent.push(Sent::Migrate { slot, keys: batch.keys.len(), bytes, guess: batch.guess });
        commands.push(wording::migrate(transfer, batch.keys.into_iter().map(|key| key.name)));
    }

    /// Connections stand at database 0, and there is no other where there is one only.
    fn select(&mut self, database: u32, commands: &mut Vec<Command>) {
        if self.job.route.databases > 1 {
            commands.push(wording::select(database));
            self.sent.push(Sent::Select);
        }
    }

    fn hear_transfer(&mut self, replies: Vec<Reply>, took: Duration) {
        let sent = std::mem::take(&mut self.sent);
        let mut moved_guess = Duration::ZERO;
        let mut stalled = 0;
        for (sent, reply) in sent.into_iter().zip(replies) {
            match sent {
                Sent::Select => {}
                Sent::Migrate { slot, keys, bytes, guess } => match reply.ok() {
                    Ok(_) => {
                        moved_guess += guess;
                        self.keys += keys as u64;
                        self.fresh_bytes += bytes;
                        self.with_open(slot, |open| (open.stalls, open.replace) = (0, false));
                    }
                    Err(error) => stalled = stalled.max(self.hear_migrate_refusal(slot, error)),
                },
                Sent::Keys { slot, database } => self.hear_keys(slot, database, reply),
            }
        }
        if stalled > 0 {
            // Its time was that of time-outs, and tells nothing of what a key costs.
            self.cautious = true;
            self.rest = self.rest.max(Duration::from_millis(20 << stalled.min(5)));
        } else if !moved_guess.is_zero() {
            self.cautious = false;
            let busy = self.round.learn(moved_guess, took);
            self.rest = self.allowance.rest_after(busy);
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
            open.forget_keys();
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

    /// Keys that the source still has in one database. Databases are asked in their order, so that the slot counts as listed
    /// when the last one's list was whole and so were those before it.
    fn hear_keys(&mut self, slot: SlotId, database: u32, reply: Reply) {
        let mean_bytes = self.job.mean_bytes;
        match reply.list().and_then(|keys| keys.into_iter().map(Reply::bytes).collect::<Result<Vec<_>, _>>()) {
            Ok(names) => self.with_open(slot, |open| {
                let whole = names.len() < MOST_KEYS_PER_CALL && (database == 0 || open.listed);
                let keys = names.into_iter().map(|name| Key { name, bytes: mean_bytes });
                open.keys[database as usize] = keys.collect();
                open.listed = whole;
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
                        open.forget_keys();
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
                let all_empty = self.window.iter().all(OpenSlot::is_empty);
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
            self.phase = Phase::Tell;
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
        let slots = |pairs: Vec<((SlotId, String), u64)>| pairs.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>();
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
