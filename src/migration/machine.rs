//! Drives one state machine: carries its calls to servers and the replies back, and tells who watches.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::atomic::{self, Atomic};
use super::call::{Call, Copies, Ending, Next};
use super::classic::{self, Classic};
use super::journal::Intent;
use super::survey::Route;
use super::{Context, Progress};
use crate::cluster::{LinkError, Reply};
use crate::model::Protocol;

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

    fn progress(&self) -> (usize, u64) {
        match self {
            Self::Classic(machine) => machine.progress(),
            Self::Atomic(_) => (0, 0),
        }
    }
}

/// Runs a machine to its end, telling everyone who watches.
pub(super) async fn drive(mut machine: Machine, intent: &Intent, context: &Context) -> Ending {
    let tell = |(slots_moved, keys_moved): (usize, u64), finished: bool| {
        (context.progress)(Progress {
            source: intent.source.clone(),
            target: intent.target.clone(),
            protocol: intent.protocol,
            slots: intent.slots.clone(),
            slots_moved,
            keys_moved,
            started_at_ms: intent.started_at_ms,
            finished,
        });
    };
    tell((0, 0), false);
    let mut told = (0, 0);
    loop {
        if context.stop.is_asked() {
            machine.stop();
        }
        match machine.next() {
            Next::Calls(calls) => {
                let asked = Instant::now();
                let results = join_all(calls.iter().map(|call| say(call, context))).await;
                machine.hear(results, asked.elapsed());
                if machine.progress() != told {
                    told = machine.progress();
                    tell(told, false);
                }
            }
            // A rest is milliseconds; a stop must not cut it short, for the machine learns from how long rounds take.
            Next::Rest(duration) => tokio::time::sleep(duration).await,
            Next::Finished(ending) => {
                tell((ending.moved.len(), ending.keys), true);
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
