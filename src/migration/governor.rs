//! Feels the servers' pulse while slots move, and tells the throttle: the shell around `pace`.
//!
//! Probes go to every node of the plan at fixed instants, on connections that carry nothing slow. A probe that is still under
//! way when the next is due counts for that one too, as a waiting client would.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Context;
use super::call::Rest;
use super::pace::{Allowance, Freight, Portion, Throttle, Vitals};
use crate::cluster::question::{AtomicProtocol, ServerInfo};
use crate::cluster::{Command, Lane};
use crate::model::{Address, PaceReport};

/// Two hundred a second for each node: a thousandth of what a server answers.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// How long the usual is looked at before anything moves: fifty probes of each node.
const QUIET: Duration = Duration::from_millis(250);
/// How often nodes are asked for what they evicted, how far their replicas are behind and how long they fork.
const VITALS_EVERY: Duration = Duration::from_millis(250);
/// A node that is silent for longer is somebody else's trouble: migrations have their own patience.
const PATIENCE: Duration = Duration::from_secs(2);

/// The throttle of one plan, shared by all of its migrations.
#[derive(Debug)]
pub(super) struct Governor {
    throttle: Mutex<Throttle>,
    began: Instant,
}

impl Governor {
    pub(super) fn new(context: &Context) -> Self {
        let settings = &context.settings;
        let call = Duration::from_millis(settings.max_block_ms);
        let throttle = Throttle::new(settings.pace, call, settings.bytes_per_second);
        Self { throttle: Mutex::new(throttle), began: Instant::now() }
    }

    pub(super) fn allowance(&self) -> Allowance {
        self.with(|throttle| throttle.allowance())
    }

    pub(super) fn portion(&self, source: Option<&Address>) -> Portion {
        self.with(|throttle| throttle.portion(source))
    }

    pub(super) fn rest_after_portion(
        &self,
        source: &Address,
        form: AtomicProtocol,
        freight: Freight,
        before: (Duration, f64),
    ) -> Duration {
        self.with(|throttle| throttle.rest_after_portion(source, form, freight, before))
    }

    pub(super) fn objection_to(&self, target: &Address) -> Option<String> {
        self.with(|throttle| throttle.objection_to(target))
    }

    pub(super) fn report(&self) -> PaceReport {
        self.with(|throttle| throttle.report().clone())
    }

    /// Takes note of a round that moved something.
    pub(super) fn hear_round(&self, took: Duration) {
        self.with(|throttle| throttle.hear_round(took));
    }

    /// Takes note of a rest.
    pub(super) fn hear_rest(&self, rest: Rest) {
        self.with(|throttle| throttle.hear_rest(rest));
    }

    /// Takes bytes that were moved, and says how long to wait before more are.
    pub(super) fn take(&self, bytes: u64) -> Duration {
        let now = self.began.elapsed();
        self.with(|throttle| throttle.take(bytes, now))
    }

    /// Learns what is usual while nothing moves.
    pub(super) async fn feel_quiet(&self, nodes: &[Address], context: &Context) {
        if !self.with(|throttle| throttle.wants_quiet()) {
            return;
        }
        let probes = Mutex::new(Vec::new());
        let keep = |took| lock(&probes).push(took);
        // Ends by time: a probe dropped half-way harms nothing.
        let feel = join_all(nodes.iter().map(|node| probe(node, context, keep)));
        drop(tokio::time::timeout(QUIET, feel).await);
        let probes = std::mem::take(&mut *lock(&probes));
        self.with(|throttle| throttle.hear_quiet(probes));
    }

    /// Feels the pulse of `nodes` until dropped.
    pub(super) async fn feel(&self, nodes: &[Address], context: &Context) {
        let hear = |took| self.with(|throttle| throttle.hear_probe(took, PROBE_EVERY));
        let probes = async {
            if self.with(|throttle| throttle.wants_quiet()) {
                join_all(nodes.iter().map(|node| probe(node, context, hear))).await;
            }
        };
        let vitals = join_all(nodes.iter().map(|node| async move {
            let mut tick = interval(VITALS_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Some(vitals) = vitals(node, context).await {
                    self.with(|throttle| throttle.hear_vitals(node, vitals));
                }
            }
        }));
        tokio::join!(probes, vitals);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Throttle) -> T) -> T {
        act(&mut lock(&self.throttle))
    }
}

/// A holder that panicked left a whole value.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Probes a node again and again, and tells how long each took. A node that does not answer tells nothing.
async fn probe(node: &Address, context: &Context, hear: impl Fn(Duration)) {
    let ping = [Command::new("PING")];
    let mut tick = interval(PROBE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let asked = Instant::now();
        if context.cluster.call(node, Lane::Probe, &ping, PATIENCE).await.is_ok() {
            hear(asked.elapsed());
        }
    }
}

async fn vitals(node: &Address, context: &Context) -> Option<Vitals> {
    let commands = [Command::new("INFO stats"), Command::new("INFO replication")];
    let replies = context.cluster.call(node, Lane::Probe, &commands, PATIENCE).await.ok()?;
    let mut texts = replies.into_iter().map_while(|reply| reply.text().ok());
    let (stats, replication) = (ServerInfo::parse(&texts.next()?), ServerInfo::parse(&texts.next()?));
    let lags = replication.replicas().filter(|replica| replica.online).map(|replica| replica.lag_bytes);
    Some(Vitals {
        evicted: stats.evicted_keys().unwrap_or(0),
        lag_bytes: lags.max().unwrap_or(0),
        fork: stats.last_fork().unwrap_or_default(),
    })
}
