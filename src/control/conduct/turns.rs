//! A turn's begin, with all that it is told, and what its end teaches.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::super::command::Notice;
use super::super::keeper::key;
use super::super::peers::Peers;
use super::super::status::{Activity, CycleSummary};
use super::super::turn::{self, Crew, Orders, Turn};
use super::{Accepted, Control, Happening, Running, line};
use crate::migration::Stop;
use crate::model::{CycleOutcome, Trigger, resource};
use crate::telemetry::chain;

impl Control {
    pub(super) fn begin_turn(&mut self) {
        self.end_pause();
        let Some(mut crew) = self.crew.take() else { return };
        if let Some(policy) = self.waiting.take() {
            self.swap_policy(&mut crew, *policy);
        }
        if let Some(accepted) = self.accepted.take() {
            self.accept_strangers(&mut crew, accepted);
        }
        let (stop, stopped) = Stop::new();
        let orders = self.orders(stopped);
        self.next_cycle += 1;
        self.next_turn_at = Instant::now() + self.config.interval;
        self.trigger = Trigger::Interval;
        self.running = Some(Running { turn: tokio::spawn(turn::take(crew, orders)), stop });
    }

    /// Takes in those that were named, and nobody who has turned up since.
    fn accept_strangers(&mut self, crew: &mut Crew, accepted: Accepted) {
        let Accepted { nodes, who, why } = accepted;
        if let Some(members) = &mut crew.members {
            members.extend(nodes.keys().cloned());
            if let Err(error) = self.keeper.put(key::MEMBERS, members) {
                warn!(error = %chain(&error), "a restart will not know that these nodes were accepted");
            }
        }
        self.tell(Happening::NodesAccepted { nodes: nodes.into_values().collect(), who, why });
    }

    pub(super) fn orders(&self, stop: Stop) -> Orders {
        Orders {
            cycle: self.next_cycle,
            trigger: self.trigger,
            mode: self.mode().0,
            why_no_policy: self.status.why_no_policy(),
            config: self.config.clone(),
            keeper: self.keeper.clone(),
            journal: match &self.peers {
                Some(peers) => Arc::new(peers.journal.clone()),
                None => self.keeper.store.clone(),
            },
            host: self.feed.host().clone(),
            shadows: self.shadows.clone(),
            theirs: self.peers.as_ref().map(Peers::open).unwrap_or_default(),
            rules: self.rules(),
            leaving: self.leaving.subscribe(),
            approved: self.approved(),
            stop,
            doing: self.doing.clone(),
            notify: self.notify.clone(),
        }
    }

    pub(super) fn turn_over(&mut self, crew: Crew, mut turn: Turn) {
        self.running = None;
        self.doing.send_modify(|doing| {
            doing.activity = Activity::Idle;
            doing.moves.end();
        });
        if let Some(snapshot) = turn.snapshot.clone() {
            self.see_plan(&mut turn, &snapshot);
        }
        let report = Arc::new(turn.report);
        line::log(&report, self.status.last_cycle.as_ref());
        let reason = match &report.outcome {
            CycleOutcome::Incomplete { reason } => reason.as_str(),
            _ => "",
        };
        if self.standing.learn(turn.effort, reason) {
            self.keep_standing();
        }
        let alarm = turn.snapshot.as_ref().and_then(|seen| self.alarm.hear(&report, seen, &self.config.limits));
        if let Some(why) = alarm {
            self.standing.halt(why);
            self.keep_standing();
        }
        self.settle_mode(report.mode, "ballast", false);

        if let Some(snapshot) = &turn.snapshot {
            let state = crew.deciders.current().and_then(|policy| policy.saved_state().cloned());
            self.feed.saw(snapshot.clone(), state);
            for usec in
                snapshot.node_column(resource::PROBE_USEC).unwrap_or_default().iter().filter(|usec| usec.is_finite())
            {
                (self.notify)(Notice::Probe { seconds: usec / 1e6, migrating: false });
            }
        }
        if let Some(policy) = crew.deciders.current() {
            (self.notify)(Notice::PolicyMemory(policy.stats().memory_bytes));
        }
        if let Some(snapshot) = &turn.snapshot {
            self.see_drains(snapshot);
        }
        let before = self.last.replace(report.clone());
        if let Some(recovery) = &turn.recovery {
            self.tell(Happening::Recovered { slots: recovery.settled.len() });
        }
        self.show_turn(&crew, CycleSummary::from(&*report), turn.snapshot.clone(), turn.called, !turn.no_advice);
        // What the turn saw is older than what was said meanwhile.
        self.drains_no_more();
        self.size(&report, before.as_deref(), turn.fewer, turn.stay);
        self.show_drains();
        self.status.policy.failure = turn.failure.map(|failure| failure.to_string());
        (self.notify)(Notice::Cycle { report, snapshot: turn.snapshot.and(self.status.seen.clone()) });
        self.strangers = crew.strangers();
        self.crew = Some(crew);
        self.show_progress();
    }
}
