//! Drives one state machine: carries its calls to servers and the replies back, and tells who watches.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Context;
use super::atomic::{self, Atomic};
use super::call::{Call, Copies, Ending, Next};
use super::classic::{self, Classic};
use super::journal::Intent;
use super::progress::{Teller, Weights};
use super::stop::Wish;
use super::survey::Route;
use crate::cluster::{LinkError, Reply};
use crate::model::{Protocol, SlotId};

/// Either state machine.
pub(super) enum Machine {
    Classic(Box<Classic>),
    Atomic(Box<Atomic>),
}

impl Machine {
    /// None when the intent is atomic and the ends do not say, or share no form: then its job has to be waited for.
    pub(super) fn new(intent: &Intent, route: Route, context: &Context, copies: Copies) -> Option<Self> {
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

    fn stop(&mut self) {
        match self {
            Self::Classic(machine) => machine.stop(),
            Self::Atomic(machine) => machine.stop(),
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

/// Runs a machine to its end, telling everyone who watches. Slots weigh what `weights` says.
pub(super) async fn drive(mut machine: Machine, intent: &Intent, weights: &Weights, context: &Context) -> Ending {
    let mut teller = Teller::new(intent, weights, context);
    loop {
        match context.stop.wish() {
            Wish::Run => {}
            Wish::Hold => machine.hold(),
            Wish::Stop => machine.stop(),
        }
        match machine.next() {
            Next::Calls(calls) => {
                machine.tell(&mut teller);
                let asked = Instant::now();
                let results = teller.meanwhile(join_all(calls.iter().map(|call| say(call, context)))).await;
                machine.hear(results, asked.elapsed());
            }
            // A rest is milliseconds; a stop must not cut it short, for the machine learns from how long rounds take.
            Next::Rest(duration) => {
                machine.tell(&mut teller);
                tokio::time::sleep(duration).await;
            }
            Next::Finished(ending) => {
                teller.over(&ending.moved, ending.keys);
                return ending;
            }
        }
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
