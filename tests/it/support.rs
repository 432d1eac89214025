//! What the stories share.

use std::time::Duration;

use ballast::lab::{Builder, Detour, LabError, LocalCluster, NodeView};
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

/// Three: a cluster keeps a core busy while it forms, and waits for the most part afterwards; the machines that run the tests have
/// two. The tests themselves need as many threads (RUST_TEST_THREADS in the Makefile).
static TURNS: Semaphore = Semaphore::const_new(3);

/// Waits for a turn at running servers; keep what it returns for as long as they run.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("nobody closes it")
}

/// Starts a cluster, or panics with what kept it from starting.
pub(crate) async fn start(builder: Result<Builder, LabError>) -> LocalCluster {
    let started = match builder {
        Ok(builder) => builder.start().await,
        Err(error) => Err(error),
    };
    started.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Asks `look` until it finds something; panics with `what` when it has not within `patience`.
pub(crate) async fn eventually<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain until {what}");
        sleep(Duration::from_millis(25)).await;
    }
}

/// How long nodes may take to hear of each other's new addresses.
const GOSSIP_PATIENCE: Duration = Duration::from_secs(120);

/// Leads everybody but those who know a node's own address to it by a way that can be cut. In the order of the cluster's nodes.
pub(crate) async fn detours(cluster: &LocalCluster) -> Vec<Detour> {
    let begun = cluster.nodes.iter().map(|node| Detour::around(&node.server));
    let detours = try_join_all(begun).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    eventually("all nodes know of the detours", GOSSIP_PATIENCE, async || {
        for node in &cluster.nodes {
            let view = node.view().await.ok()?;
            let led =
                |seen: &NodeView| detours.iter().any(|detour| detour.port() == seen.address.port) && seen.is_well();
            view.iter().all(led).then_some(())?;
        }
        Some(())
    })
    .await;
    detours
}

/// The error and its causes, as `telemetry::chain` prints them.
pub(crate) fn chain(error: &LabError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
