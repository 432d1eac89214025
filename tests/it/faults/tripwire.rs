//! Stands between the engine and the servers, and halts it at one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Cluster, Command, Lane, LinkError, Reply};
use ballast::model::Address;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use tokio::sync::Notify;

/// Where in a call the engine is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nothing is sent yet: a step boundary.
    Before,
    /// It is on its way, and the servers may be at it.
    Within,
    /// The servers have done it, and the engine has not heard so.
    After,
}

impl Moment {
    pub(super) const ALL: [Self; 3] = [Self::Before, Self::Within, Self::After];
}

/// Real servers, and a wire across one call.
pub(super) struct Tripwire {
    servers: Arc<dyn Cluster>,
    calls: AtomicUsize,
    at: Option<(usize, Moment)>,
    reached: Notify,
    go_on: Notify,
}

impl Tripwire {
    /// Halts whoever makes the `call`-th call, counted from 0; nobody, without one.
    pub(super) fn at(at: Option<(usize, Moment)>) -> Arc<Self> {
        Self::across(Arc::new(LiveCluster::new(Access::default())), at)
    }

    /// The same across other ways to the servers.
    pub(super) fn across(servers: Arc<dyn Cluster>, at: Option<(usize, Moment)>) -> Arc<Self> {
        Arc::new(Self { servers, calls: AtomicUsize::new(0), at, reached: Notify::new(), go_on: Notify::new() })
    }

    /// How many calls were made so far.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Returns when the engine stands at the wire.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the engine go on.
    pub(super) fn release(&self) {
        self.go_on.notify_one();
    }

    async fn halt(&self) {
        self.reached.notify_one();
        self.go_on.notified().await;
    }
}

impl Cluster for Tripwire {
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let moment = self.at.filter(|(at, _)| *at == number).map(|(_, moment)| moment);
        let call = self.servers.call(node, lane, commands, patience);
        async move {
            match moment {
                None => call.await,
                Some(Moment::Before) => {
                    self.halt().await;
                    call.await
                }
                // Both are polled in turn: the commands are on their way before anybody hears of the halt.
                Some(Moment::Within) => join(call, self.halt()).await.0,
                Some(Moment::After) => {
                    let result = call.await;
                    self.halt().await;
                    result
                }
            }
        }
        .boxed()
    }

    fn credentials(&self) -> Option<(Option<String>, String)> {
        self.servers.credentials()
    }
}
