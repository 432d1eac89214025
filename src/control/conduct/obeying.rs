//! What people and programs ask of the loop.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use tracing::info;

use super::super::command::{Answer, Command};
use super::{Accepted, Control, Happening};
use crate::guard::OnUnknown;
use crate::model::Trigger;

impl Control {
    pub(super) async fn answer(&mut self, command: Command, answer: oneshot::Sender<Answer>) {
        let outcome = match self.takes_orders() {
            // Its configuration is a daemon's own.
            Err(refusal) if !matches!(command, Command::Reload) => Err(refusal),
            _ => self.obey(command).await,
        };
        let outcome = self.once_told(outcome).await;
        self.publish();
        // Whoever asked may have gone.
        let _gone = answer.send(outcome);
    }

    async fn obey(&mut self, command: Command) -> Answer {
        match command {
            Command::Reload => self.reload_config().await,
            Command::Pause { who, why, until_ms } => {
                let before = self.mode().0;
                self.standing.pause(who.clone(), why, until_ms);
                let kept = self.keep_standing();
                self.settle_mode(before, &who, true);
                Ok(format!("{}{kept}", self.mode().1))
            }
            Command::Resume { who, why } => {
                let answer = self.resume(who, why);
                self.at_once(Ok(answer))
            }
            Command::Cancel { who, why } => self.cancel(who, why),
            Command::Drain(wish) => {
                let answer = self.drain(wish);
                self.at_once(answer)
            }
            Command::Judge { plan, approve, who, why } => self.judge(&plan, approve, who, why),
            Command::Undrain { node, who, why } => {
                let answer = self.undrain(&node, who, why);
                self.at_once(answer)
            }
            Command::Promote { shadow, who, why } => self.promote(shadow, who, why),
        }
    }

    /// What was not refused is acted on without waiting for the interval.
    fn at_once(&mut self, answer: Answer) -> Answer {
        if answer.is_ok() {
            self.begin_soon(Trigger::Command);
        }
        answer
    }

    /// Ends what stands against the configured mode. Where nothing does, what holds moves up is accepted instead: nodes that own slots
    /// and were never seen joining. A pause that ends says nothing of those.
    fn resume(&mut self, who: String, why: String) -> String {
        let before = self.mode().0;
        let held_up = self.config.limits.unknown_nodes == OnUnknown::Refuse;
        let strangers = if held_up { self.strangers.clone() } else { BTreeMap::new() };
        let stood = self.standing.resume();
        self.alarm.reset();
        let kept = self.keep_standing();
        self.settle_mode_as(before, &who, &why, true);
        let (mode, reason) = self.mode();
        let mode = format!("mode {mode}: {reason}{kept}");
        if strangers.is_empty() {
            return mode;
        }
        let names = strangers.values().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if stood {
            return format!("{mode}; {names} was never seen joining: `ballast resume` once more accepts it");
        }
        self.accepted = Some(Accepted { nodes: strangers, who, why });
        format!("{mode}; {names} belongs to the cluster now")
    }

    fn cancel(&mut self, who: String, why: String) -> Answer {
        let Some(running) = &self.running else { return Err("no cycle is under way: nothing is moved".to_owned()) };
        running.stop.stop();
        // The number of the next one was counted when this one began.
        let cycle = self.next_cycle - 1;
        info!(cycle, who, why, "cancelled: its moves end at the next step");
        let answer = format!("the moves of cycle {cycle} end at the next step; the next cycle plans anew");
        self.tell(Happening::Cancelled { cycle, who, why });
        Ok(answer)
    }
}
