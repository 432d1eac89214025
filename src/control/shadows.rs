//! Policies that are asked beside the one that decides, on the same view, and never act.
//!
//! They have a task of their own, which loads and watches them as the deciding policy is loaded and watched, so that nothing about
//! them delays the loop but the calls themselves, which run while slots move. What comes of it is part of the cycle's report.

mod verdict;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::feed::Feed;
use crate::clock::now_ms;
use crate::config::Shadow;
use crate::guard::{Ledger, Limits};
use crate::model::{Plan, PolicyId, ShadowReport, Snapshot};
use crate::policy::{Ground, LoadedPolicy, Policy as _, PolicyFailure, PolicyHost, Reload};
use crate::store::Event;

/// Orders that may wait: one is given in each turn, and one for each configuration.
const ORDERS_MAX: usize = 4;

/// A shadow, as people see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// As the configuration calls it.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// Who it is; absent while none is loaded.
    pub policy: Option<PolicyId>,
    /// Unix time in milliseconds since when it is in use.
    pub since_ms: Option<u64>,
    /// Why its newest version was refused, if it was.
    pub refused: Option<String>,
    /// Calls since it was loaded.
    pub calls: u64,
    /// Those of them that failed.
    pub faults: u64,
    /// Bytes of linear memory that it holds.
    pub memory_bytes: usize,
}

/// What shadows are asked, and by what their answers are judged.
pub(super) struct Case {
    pub(super) snapshot: Arc<Snapshot>,
    /// What the deciding policy proposed; absent when it failed.
    pub(super) plan: Option<Plan>,
    pub(super) limits: Limits,
    pub(super) ledger: Ledger,
}

enum Order {
    Configure(Vec<Shadow>),
    Judge(Box<Case>, oneshot::Sender<Vec<ShadowReport>>),
}

/// How events get into the history.
pub(super) type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// The way to the task; cheap to clone.
#[derive(Clone)]
pub(super) struct Shadows {
    orders: mpsc::Sender<Order>,
    shown: watch::Receiver<Vec<ShadowStatus>>,
}

impl Shadows {
    /// Starts the task, which ends with the last clone of what is returned.
    pub(super) fn start(host: &PolicyHost, shadows: Vec<Shadow>, tell: Tell) -> Self {
        let (orders, heard) = mpsc::channel(ORDERS_MAX);
        let (show, shown) = watch::channel(Vec::new());
        // What is pinned is the policy that decides.
        let mut task = Task { host: host.unpinned(), seats: Vec::new(), snapshot: None, tell, show };
        task.configure(shadows);
        tokio::spawn(task.run(heard));
        Self { orders, shown }
    }

    /// Other shadows from now on; those that stay the same go on.
    pub(super) async fn configure(&self, shadows: Vec<Shadow>) {
        // The task ends with us and not before.
        let _ended = self.orders.send(Order::Configure(shadows)).await;
    }

    /// Asks all of them. The answer comes later, after at most their deadlines together.
    pub(super) async fn judge(&self, case: Case) -> oneshot::Receiver<Vec<ShadowReport>> {
        let (answer, reports) = oneshot::channel();
        let _ended = self.orders.send(Order::Judge(Box::new(case), answer)).await;
        reports
    }

    /// All of them, as they are now.
    pub(super) fn status(&self) -> Vec<ShadowStatus> {
        self.shown.borrow().clone()
    }
}

struct Seat {
    shadow: Shadow,
    feed: Feed,
    /// Absent while none could be loaded, and while it is asked.
    policy: Option<LoadedPolicy>,
    status: ShadowStatus,
}

impl Seat {
    fn new(host: &PolicyHost, shadow: Shadow, snapshot: Option<Arc<Snapshot>>) -> Self {
        let ground = Ground { parameters: shadow.parameters.clone(), snapshot, ..Ground::default() };
        let feed = Feed::start(host.clone(), shadow.source.clone(), ground);
        let status =
            ShadowStatus { name: shadow.name.clone(), source: shadow.source.to_string(), ..ShadowStatus::default() };
        Self { shadow, feed, policy: None, status }
    }

    fn take(&mut self, reload: Reload) -> Event {
        match reload {
            Reload::Ready(policy) => {
                self.feed.is_live(&policy);
                let id = policy.id().clone();
                info!(shadow = self.shadow.name, policy = %id, "shadow in use from the next cycle on");
                self.status.policy = Some(id.clone());
                self.status.since_ms = Some(now_ms());
                self.status.refused = None;
                self.policy = Some(*policy);
                self.keep_figures();
                Event::ShadowLoaded { shadow: self.shadow.name.clone(), policy: id }
            }
            Reload::Rejected(failure) => {
                warn!(shadow = self.shadow.name, stage = %failure.stage, reason = %failure.reason, "shadow refused");
                self.status.refused = Some(failure.to_string());
                Event::ShadowRefused { shadow: self.shadow.name.clone(), why: failure.to_string() }
            }
        }
    }

    fn keep_figures(&mut self) {
        if let Some(policy) = &self.policy {
            let stats = policy.stats();
            (self.status.calls, self.status.faults) = (stats.calls, stats.faults);
            self.status.memory_bytes = stats.memory_bytes;
        }
    }
}

struct Task {
    host: PolicyHost,
    seats: Vec<Seat>,
    /// What newcomers are tried on.
    snapshot: Option<Arc<Snapshot>>,
    tell: Tell,
    show: watch::Sender<Vec<ShadowStatus>>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Configure(shadows)) => self.configure(shadows),
                    Some(Order::Judge(case, answer)) => {
                        let reports = self.judge(*case).await;
                        // A turn that was given up waits for nothing.
                        let _gone = answer.send(reports);
                    }
                    None => break,
                },
                (place, reload) = next_reload(&mut self.seats) => {
                    let event = self.seats[place].take(reload);
                    (self.tell)(event);
                }
            }
            self.show.send_replace(self.seats.iter().map(|seat| seat.status.clone()).collect());
        }
    }

    fn configure(&mut self, shadows: Vec<Shadow>) {
        let mut before = std::mem::take(&mut self.seats);
        for shadow in shadows {
            let known = before.iter().position(|seat| seat.shadow == shadow);
            let fresh = || Seat::new(&self.host, shadow, self.snapshot.clone());
            let seat = known.map(|place| before.swap_remove(place)).unwrap_or_else(fresh);
            self.seats.push(seat);
        }
    }

    /// Asks one after the other, on a thread that may be blocked for as long as their deadlines allow.
    async fn judge(&mut self, case: Case) -> Vec<ShadowReport> {
        let policies: Vec<Option<LoadedPolicy>> = self.seats.iter_mut().map(|seat| seat.policy.take()).collect();
        let snapshot = case.snapshot.clone();
        let asked = spawn_blocking(move || {
            policies.into_iter().map(|policy| policy.map(|policy| ask(policy, &snapshot))).collect()
        });
        let answers: Vec<Option<(LoadedPolicy, Answer)>> =
            asked.await.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()));
        let mut reports = Vec::new();
        for (seat, answer) in self.seats.iter_mut().zip(answers) {
            let mut report = ShadowReport { name: seat.shadow.name.clone(), ..ShadowReport::default() };
            match answer {
                None => {
                    let why = seat.status.refused.clone().unwrap_or_else(|| "it is still being loaded".to_owned());
                    report.failure = Some(("not-loaded".to_owned(), why));
                }
                Some((policy, answer)) => {
                    report.policy = Some(policy.id().clone());
                    report.call_ms = policy.stats().last_call.as_secs_f64() * 1e3;
                    report.memory_bytes = policy.stats().memory_bytes;
                    seat.feed.saw(case.snapshot.clone(), policy.saved_state().cloned());
                    seat.policy = Some(policy);
                    match answer {
                        Ok(plan) => verdict::judge(&mut report, &plan, &case),
                        Err(failure) => report.failure = Some((failure.kind().to_owned(), failure.reason)),
                    }
                }
            }
            seat.keep_figures();
            reports.push(report);
        }
        self.snapshot = Some(case.snapshot);
        reports
    }
}

type Answer = Result<Plan, PolicyFailure>;

fn ask(mut policy: LoadedPolicy, snapshot: &Arc<Snapshot>) -> (LoadedPolicy, Answer) {
    let answer = policy.plan(snapshot);
    (policy, answer)
}

/// The next version of any of them that was judged. Safe to drop half-way.
async fn next_reload(seats: &mut [Seat]) -> (usize, Reload) {
    poll_fn(|context| {
        for (place, seat) in seats.iter_mut().enumerate() {
            if let Poll::Ready(reload) = seat.feed.poll_next(context) {
                return Poll::Ready((place, reload));
            }
        }
        Poll::Pending
    })
    .await
}
