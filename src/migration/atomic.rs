//! Moves slots with the servers' own atomic migration. Pure: no clock, no connection.
//!
//! Valkey 9 is driven from the source (`CLUSTER MIGRATESLOTS`), Redis 8.4 from the target (`CLUSTER MIGRATION IMPORT`). In
//! both, acceptance is not success, and the word for a failure may be wrong in either direction: Valkey's `failed` may own
//! the slots, Redis' `failed` is still trying. So a job is watched until the server calls it over, it is cancelled when it
//! takes too long, and then only what both ends say of the slots' owner counts.

use std::time::Duration;

use super::call::{Call, Cause, Ending, Next, QUESTION_PATIENCE, Rest};
use super::survey::Route;
use crate::cluster::question::{AtomicJobs, AtomicProtocol, JobRecord};
use crate::cluster::{Command, Lane, LinkError, Question, Reply, ReplyError};
use crate::model::{Address, MigrationReport, NodeRecord, SlotId, SlotSet};

/// What an atomic migration is to do.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) route: Route,
    pub(super) protocol: AtomicProtocol,
    pub(super) slots: SlotSet,
    /// Cancelled after this long.
    pub(super) deadline: Duration,
    /// Whether the server was told before: then its job is looked for instead of started.
    pub(super) resumed: bool,
}

/// A small batch is over within milliseconds; a long one is looked at ten times a second. In between, looking late never
/// costs more than a part of what the job took.
const FIRST_POLL: Duration = Duration::from_millis(2);
const LAST_POLL: Duration = Duration::from_millis(100);
const POLLS_PER_JOB: u32 = 50;
/// Between two looks, at least so many times what one kept the server: Valkey lists every job that it remembers, a thousand in
/// the end, and serves nobody meanwhile.
const PAUSES_PER_LOOK: u32 = 50;
/// How many looks in a row may bring nothing before the migration is left to be settled.
const MOST_SILENCE: u32 = 20;
/// After a job is over, for how long owners are asked again until source and target agree.
const CONVERGENCE: Duration = Duration::from_secs(10);
/// A cancelled job may take a while to wind down; one that does not is left to be settled.
const CANCEL_PAUSE: Duration = Duration::from_secs(2);
const MOST_CANCELS: u32 = 5;
/// Redis retries a failed import every second for ever; after this long it has failed for good.
const MOST_FAILURE: Duration = Duration::from_secs(3);

/// The state machine.
#[derive(Debug)]
pub(super) struct Atomic {
    job: Job,
    phase: Phase,
    /// Names of jobs that are not ours: Valkey does not tell the name of the job that it accepts.
    strangers: Vec<String>,
    /// The server's name for our job.
    name: Option<String>,
    poll: Duration,
    /// The shortest that a look took.
    way: Option<Duration>,
    rest: Duration,
    silence: u32,
    elapsed: Duration,
    converging: Duration,
    /// Since when the server calls it failed, by `elapsed`.
    failing_since: Option<Duration>,
    /// The server's last word for its state.
    state: String,
    /// The server's last word on what went wrong.
    message: String,
    stop_asked: bool,
    /// How often we cancelled it, and when last, by `elapsed`.
    cancels: u32,
    cancelled_at: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Strangers,
    Start,
    Watch,
    Cancel,
    Confirm,
    Over(Ending),
}

impl Atomic {
    pub(super) fn new(job: Job) -> Self {
        let phase = match (job.resumed, job.protocol) {
            (true, _) => Phase::Watch,
            (false, AtomicProtocol::ValkeyMigrateSlots) => Phase::Strangers,
            (false, AtomicProtocol::RedisMigrationImport) => Phase::Start,
        };
        Self {
            job,
            phase,
            strangers: Vec::new(),
            name: None,
            poll: FIRST_POLL,
            way: None,
            rest: Duration::ZERO,
            silence: 0,
            elapsed: Duration::ZERO,
            converging: Duration::ZERO,
            failing_since: None,
            state: String::new(),
            message: String::new(),
            stop_asked: false,
            cancels: 0,
            cancelled_at: Duration::ZERO,
        }
    }

    /// Cancels the job at the next look, unless it is over by then.
    pub(super) fn stop(&mut self) {
        self.stop_asked = true;
    }

    /// The step under way, for people: the server's own word while its job runs.
    pub(super) fn step(&self) -> &str {
        match &self.phase {
            Phase::Strangers => "vacancy",
            Phase::Start => "start",
            Phase::Watch if self.state.is_empty() => "watch",
            Phase::Watch => &self.state,
            Phase::Cancel => "cancel",
            Phase::Confirm => "confirm",
            Phase::Over(_) => "over",
        }
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        if !self.rest.is_zero() {
            let rest = std::mem::take(&mut self.rest);
            self.elapsed += rest;
            return Next::Rest(Rest { duration: rest, cause: Cause::Job });
        }
        let driver = self.driver().clone();
        Next::Calls(match &self.phase {
            Phase::Strangers | Phase::Watch => vec![call(&driver, self.jobs().commands())],
            Phase::Start => vec![call(&driver, vec![self.start()])],
            Phase::Cancel => vec![call(&driver, vec![self.cancel()])],
            Phase::Confirm => self.job.route.ask_both(),
            Phase::Over(ending) => return Next::Finished(ending.clone()),
        })
    }

    /// Hears what the calls of [`next`](Self::next) brought, and how long they took.
    pub(super) fn hear(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>, took: Duration) {
        self.elapsed += took;
        if self.phase == Phase::Confirm {
            return self.confirm(results);
        }
        let result = results.into_iter().next().expect("every call has a result");
        let replies = match result {
            Ok(replies) => replies,
            Err(error) => return self.hear_silence(&error),
        };
        match self.phase {
            Phase::Strangers => match self.jobs().read(replies) {
                Ok(jobs) => match jobs.iter().find(|job| !job.finished) {
                    // To cancel ours would be to cancel it too.
                    Some(other) => {
                        self.message =
                            format!("the source is busy with another atomic migration, of slots {}", other.slots);
                        self.stay();
                    }
                    None => {
                        self.strangers = jobs.into_iter().map(|job| job.name).collect();
                        self.phase = Phase::Start;
                    }
                },
                Err(error) => self.refuse(&error),
            },
            Phase::Start => match replies.into_iter().next().unwrap_or(Reply::Nil).text() {
                Ok(text) => {
                    if self.job.protocol == AtomicProtocol::RedisMigrationImport {
                        self.name = Some(text);
                    }
                    self.phase = Phase::Watch;
                }
                Err(error) => self.refuse(&error),
            },
            // A node that does not say is one that was not heard: it may still be at work.
            Phase::Watch => match self.jobs().read(replies) {
                Ok(jobs) => self.watch(jobs, took),
                Err(error) => self.hear_nothing(error.to_string()),
            },
            // Whether it helped, the next look says.
            Phase::Cancel => self.phase = Phase::Watch,
            Phase::Confirm | Phase::Over(_) => {}
        }
    }

    /// The node that starts, watches and cancels the job.
    fn driver(&self) -> &Address {
        let route = &self.job.route;
        match self.job.protocol {
            AtomicProtocol::ValkeyMigrateSlots => &route.source.address,
            AtomicProtocol::RedisMigrationImport => &route.target.address,
        }
    }

    fn jobs(&self) -> AtomicJobs {
        AtomicJobs { protocol: self.job.protocol }
    }

    fn start(&self) -> Command {
        let with_ranges = |head| {
            self.job
                .slots
                .ranges()
                .into_iter()
                .fold(Command::new(head), |command, (start, end)| command.arg(start).arg(end))
        };
        match self.job.protocol {
            AtomicProtocol::ValkeyMigrateSlots => {
                with_ranges("CLUSTER MIGRATESLOTS SLOTSRANGE").arg("NODE").arg(&self.job.route.target.id)
            }
            AtomicProtocol::RedisMigrationImport => with_ranges("CLUSTER MIGRATION IMPORT"),
        }
    }

    fn cancel(&self) -> Command {
        match (self.job.protocol, &self.name) {
            // The source has one job at a time, ours: there is no form that names one.
            (AtomicProtocol::ValkeyMigrateSlots, _) => Command::new("CLUSTER CANCELSLOTMIGRATIONS"),
            (AtomicProtocol::RedisMigrationImport, Some(name)) => Command::new("CLUSTER MIGRATION CANCEL ID").arg(name),
            (AtomicProtocol::RedisMigrationImport, None) => Command::new("CLUSTER MIGRATION CANCEL ALL"),
        }
    }

    /// The server did not take the job: nothing has happened.
    fn refuse(&mut self, error: &ReplyError) {
        let reason = error.to_string();
        let stayed = self.job.slots.iter().map(|slot| (slot, reason.clone())).collect();
        self.phase = Phase::Over(Ending { stayed, ..Ending::default() });
    }

    fn hear_silence(&mut self, error: &LinkError) {
        self.message = error.to_string();
        let unsent = matches!(error, LinkError::Unreachable { .. } | LinkError::Refused { .. });
        match self.phase {
            Phase::Strangers => self.stay(),
            Phase::Start if unsent => self.stay(),
            Phase::Start => self.unsettle(),
            _ => self.hear_nothing(error.to_string()),
        }
    }

    fn hear_nothing(&mut self, reason: String) {
        self.message = reason;
        self.silence += 1;
        self.rest = LAST_POLL;
        if self.silence >= MOST_SILENCE {
            self.unsettle();
        }
    }

    fn stay(&mut self) {
        let stayed = self.job.slots.iter().map(|slot| (slot, self.message.clone())).collect();
        self.phase = Phase::Over(Ending { stayed, ..Ending::default() });
    }

    fn unsettle(&mut self) {
        let unsettled = self.job.slots.iter().map(|slot| (slot, self.message.clone())).collect();
        self.phase = Phase::Over(Ending { unsettled, ..Ending::default() });
    }

    fn watch(&mut self, jobs: Vec<JobRecord>, took: Duration) {
        self.silence = 0;
        let ours = jobs.into_iter().find(|job| match &self.name {
            Some(name) => job.name == *name,
            None => job.slots == self.job.slots && !self.strangers.contains(&job.name),
        });
        // A job that is gone from the server's log is judged by owners.
        let Some(job) = ours else { return self.phase = Phase::Confirm };
        self.state.clone_from(&job.state);
        if !job.message.is_empty() {
            self.message.clone_from(&job.message);
        }
        self.name = Some(job.name);
        if job.finished {
            return self.phase = Phase::Confirm;
        }
        let failing_since = self.failing_since.unwrap_or(self.elapsed);
        self.failing_since = (job.state == "failed").then_some(failing_since);
        let failing = self.failing_since.is_some() && self.elapsed > failing_since + MOST_FAILURE;
        let too_long = self.elapsed > self.job.deadline || failing;
        let unwanted = self.stop_asked || too_long;
        if unwanted && (self.cancels == 0 || self.elapsed > self.cancelled_at + CANCEL_PAUSE) {
            if self.message.is_empty() {
                self.message = match self.stop_asked {
                    true => format!("{}, in state {}", MigrationReport::CANCELLED, job.state),
                    false => format!("cancelled in state {}: it took too long", job.state),
                };
            }
            (self.cancels, self.cancelled_at) = (self.cancels + 1, self.elapsed);
            if self.cancels > MOST_CANCELS { self.unsettle() } else { self.phase = Phase::Cancel }
        } else {
            self.rest = self.poll;
            let way = *self.way.insert(self.way.map_or(took, |way| way.min(took)));
            let looking = (took - way) * PAUSES_PER_LOOK;
            self.poll = (self.elapsed / POLLS_PER_JOB).max(looking).clamp(FIRST_POLL, LAST_POLL);
        }
    }

    /// Who owns the slots, by the words of both ends?
    fn confirm(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>) {
        let (source, target) = self.job.route.read_both(results);
        let has = |end: &Option<NodeRecord>, slot| end.as_ref().map(|node| node.slots.contains(slot));
        let mut ending = Ending::default();
        let mut moved: Vec<SlotId> = Vec::new();
        let reason = if self.message.is_empty() { "the server did not say why" } else { &self.message };
        for slot in &self.job.slots {
            match (has(&source, slot), has(&target, slot)) {
                (Some(false) | None, Some(true)) => moved.push(slot),
                (Some(true), Some(false)) => ending.stayed.push((slot, reason.to_owned())),
                // Both, while gossip is under way; or an end that was not heard may have taken them.
                _ => ending.unsettled.push((slot, reason.to_owned())),
            }
        }
        ending.moved = moved.into_iter().collect();
        if !ending.unsettled.is_empty() && self.converging < CONVERGENCE {
            self.converging += LAST_POLL;
            self.rest = LAST_POLL;
        } else {
            self.phase = Phase::Over(ending);
        }
    }
}

fn call(node: &Address, commands: Vec<Command>) -> Call {
    Call { node: node.clone(), lane: Lane::Control, commands, patience: QUESTION_PATIENCE }
}
