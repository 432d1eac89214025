//! Drives one state machine: carries its calls to servers and the replies back, and tells who watches.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Context;
use super::atomic::{self, Atomic};
use super::call::{Call, Cause, Copies, Ending, Next, Rest};
use super::classic::{self, Classic};
use super::governor::Governor;
use super::journal::Intent;
use super::pace::Allowance;
use super::progress::{Teller, Weights};
use super::stop::Wish;
use super::survey::Route;
use crate::cluster::{LinkError, Reply};
use crate::model::{Address, Protocol, SlotId, SlotSet};

/// What the plan knew of the keys in a migration's slots.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    /// Bytes of a key, on average.
    pub(super) mean_bytes: u64,
    /// Slots whose keys have to be weighed one by one before they are opened.
    pub(super) weigh: SlotSet,
}

/// Either state machine.
pub(super) enum Machine {
    Classic(Box<Classic>),
    Atomic(Box<Atomic>),
}

impl Machine {
    /// None when the intent is atomic and the ends do not say, or share no form: then its job has to be waited for.
    pub(super) fn new(intent: &Intent, route: Route, load: &Load, context: &Context, copies: Copies) -> Option<Self> {
        let settings = &context.settings;
        match intent.protocol {
            Protocol::Atomic => {
                let protocol = route.atomic?;
                Some(Self::Atomic(Box::new(Atomic::new(atomic::Job {
                    route,
                    protocol,
                    slots: intent.slots.clone(),
                    deadline: Duration::from_secs(settings.atomic_deadline_s),
                    resumed: copies != Copies::None,
                }))))
            }
            Protocol::Classic => Some(Self::Classic(Box::new(Classic::new(classic::Job {
                route,
                slots: intent.slots.iter().collect(),
                pace: settings.pace,
                migrate_timeout_ms: settings.migrate_timeout_ms,
                credentials: context.cluster.credentials(),
                mean_bytes: load.mean_bytes,
                weigh: load.weigh.clone(),
                copies,
            })))),
        }
    }

    fn next(&mut self) -> Next {
        match self {
            Self::Classic(machine) => machine.next(),
            Self::Atomic(machine) => machine.next(),
        }
    }

    fn hear(&mut self, results: Vec<Result<Vec<Reply>, LinkError>>, took: Duration) {
        match self {
            Self::Classic(machine) => machine.hear(results, took),
            Self::Atomic(machine) => machine.hear(results, took),
        }
    }

    fn allow(&mut self, allowance: Allowance) {
        if let Self::Classic(machine) = self {
            machine.allow(allowance);
        }
    }

    /// Bytes moved since this was last asked, as far as they are not known beforehand.
    fn take_bytes(&mut self) -> u64 {
        match self {
            Self::Classic(machine) => machine.take_bytes(),
            Self::Atomic(_) => 0,
        }
    }

    fn stop(&mut self) {
        match self {
            Self::Classic(machine) => machine.stop(),
            Self::Atomic(machine) => machine.stop(),
        }
    }

    /// As a stop, for a reason that lies in these nodes. A job that the servers work on is left to them.
    fn refuse(&mut self, why: &str) {
        if let Self::Classic(machine) = self {
            machine.refuse(why);
        }
    }

    /// Asks for no more than what is open. A job that the servers work on ends in seconds, and to cancel it would be to
    /// begin it again.
    fn hold(&mut self) {
        if let Self::Classic(machine) = self {
            machine.stop();
        }
    }

    fn step(&self) -> &str {
        match self {
            Self::Classic(machine) => machine.step(),
            Self::Atomic(machine) => machine.step(),
        }
    }

    fn progress(&self) -> (&[SlotId], u64) {
        match self {
            Self::Classic(machine) => machine.progress(),
            Self::Atomic(_) => (&[], 0),
        }
    }

    fn tell(&self, teller: &mut Teller<'_>) {
        let (moved, keys) = self.progress();
        teller.at(self.step(), moved, keys);
    }
}

/// What drives machines: who is told, who says how hard to lean, and the servers.
#[derive(Clone, Copy)]
pub(super) struct Driver<'a> {
    pub(super) weights: &'a Weights,
    pub(super) governor: &'a Governor,
    pub(super) context: &'a Context,
}

impl Driver<'_> {
    /// Runs a machine to its end, telling everyone who watches.
    pub(super) async fn drive(&self, mut machine: Machine, intent: &Intent, target: &Address) -> Ending {
        let Self { weights, governor, context } = *self;
        let mut teller = Teller::new(intent, weights, context);
        let mut rests = Rests::default();
        loop {
            match context.stop.wish() {
                Wish::Run => {}
                Wish::Hold => machine.hold(),
                Wish::Stop => machine.stop(),
            }
            if let Some(objection) = governor.objection_to(target) {
                machine.refuse(&objection);
            }
            machine.allow(governor.allowance());
            match machine.next() {
                Next::Calls(calls) => {
                    machine.tell(&mut teller);
                    let asked = Instant::now();
                    let results = teller.meanwhile(join_all(calls.iter().map(|call| say(call, context)))).await;
                    let took = asked.elapsed();
                    machine.hear(results, took);
                    // Whoever moved something waits; other steps are too short-lived a state to sleep in.
                    let bytes = machine.take_bytes();
                    if bytes > 0 {
                        governor.hear_round(took);
                    }
                    let wait = if bytes > 0 { governor.take(bytes) } else { Duration::ZERO };
                    if !wait.is_zero() {
                        governor.hear_rest(Rest { duration: wait, cause: Cause::Bandwidth });
                        teller.meanwhile(tokio::time::sleep(wait)).await;
                    }
                }
                // A rest is milliseconds; a stop must not cut it short, for the machine learns from how long rounds take.
                Next::Rest(rest) => {
                    machine.tell(&mut teller);
                    governor.hear_rest(rest);
                    rests.rest(rest.duration).await;
                }
                Next::Finished(ending) => {
                    teller.over(&ending.moved, ending.keys);
                    return ending;
                }
            }
        }
    }
}

/// Rests as long as is owed on the whole: the clock ticks in milliseconds, and rests are often shorter.
#[derive(Debug, Default)]
struct Rests {
    /// Seconds yet to be rested; below nothing when it was too long.
    owed: f64,
}

/// What tokio's clock can tell apart.
const TICK_SECONDS: f64 = 1e-3;
/// What was rested too long counts later up to here: a machine that slept must not be followed by a flood.
const MOST_CREDIT_SECONDS: f64 = 3e-3;

impl Rests {
    async fn rest(&mut self, duration: Duration) {
        self.owed += duration.as_secs_f64();
        if self.owed < TICK_SECONDS {
            return;
        }
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs_f64(self.owed)).await;
        self.owed = (self.owed - began.elapsed().as_secs_f64()).max(-MOST_CREDIT_SECONDS);
    }
}

async fn say(call: &Call, context: &Context) -> Result<Vec<Reply>, LinkError> {
    let replies = context.cluster.call(&call.node, call.lane, &call.commands, call.patience).await?;
    if replies.len() == call.commands.len() {
        Ok(replies)
    } else {
        // Nothing is to be read out of a silence, least of all that a slot is empty.
        let detail = format!("{} replies to {} commands", replies.len(), call.commands.len());
        Err(LinkError::Lost { node: call.node.clone(), detail })
    }
}
