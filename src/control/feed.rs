//! Brings policies: loads the configured one, watches its file, and hands over what became of each version.
//!
//! Compiling and trying happens beside the loop; taking a policy into use is the loop's part.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::model::Snapshot;
use crate::policy::{Ground, LoadedPolicy, PolicyHost, PolicyWatch, Reload, SavedState, Source};
use crate::telemetry::chain;

/// How long until a directory that could not be watched is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The way on which policies come.
pub(super) struct Feed {
    host: PolicyHost,
    source: Source,
    ground: watch::Sender<Ground>,
    reloads: mpsc::Receiver<Reload>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts to load `source` with `parameters`, and to watch it if it is a file.
    pub(super) fn start(host: PolicyHost, source: Source, ground: Ground) -> Self {
        let (ground, seen) = watch::channel(ground);
        let (tell, reloads) = mpsc::channel(4);
        let task = tokio::spawn(bring(host.clone(), source.clone(), seen, tell));
        Self { host, source, ground, reloads, task }
    }

    /// Starts afresh with another source or other parameters, on the ground that is known. What is live is judged anew:
    /// with other parameters it is another policy.
    pub(super) fn turn_to(&mut self, source: Source, parameters: String) {
        let ground = Ground { parameters, live: None, ..self.ground.borrow().clone() };
        *self = Self::start(self.host.clone(), source, ground);
    }

    /// The next version that was judged. Safe to drop half-way.
    pub(super) async fn next(&mut self) -> Reload {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same to be polled, for who waits for several.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Reload> {
        match self.reloads.poll_recv(context) {
            Poll::Ready(Some(reload)) => Poll::Ready(reload),
            // An embedded policy comes once.
            _ => Poll::Pending,
        }
    }

    /// What new versions are to be tried on from now on.
    pub(super) fn saw(&self, snapshot: Arc<Snapshot>, state: Option<SavedState>) {
        self.ground.send_modify(|ground| {
            ground.snapshot = Some(snapshot);
            ground.state = state;
        });
    }

    /// `policy` is in use now.
    pub(super) fn is_live(&self, policy: &LoadedPolicy) {
        self.ground.send_modify(|ground| ground.live = Some(policy.digest().to_owned()));
    }

    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    pub(super) const fn host(&self) -> &PolicyHost {
        &self.host
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bring(host: PolicyHost, source: Source, ground: watch::Receiver<Ground>, tell: mpsc::Sender<Reload>) {
    match &source {
        // The watch looks at what is there first; what is not there is not its business, but it is ours.
        Source::File(path) if path.exists() => watch_file(&host, path, &ground, &tell).await,
        Source::File(path) => {
            if load_once(&host, &source, &ground, &tell).await {
                watch_file(&host, path, &ground, &tell).await;
            }
        }
        Source::Embedded(_) => drop(load_once(&host, &source, &ground, &tell).await),
    }
}

/// Says whether somebody still listens.
async fn load_once(
    host: &PolicyHost,
    source: &Source,
    ground: &watch::Receiver<Ground>,
    tell: &mpsc::Sender<Reload>,
) -> bool {
    let (host, source, ground) = (host.clone(), source.clone(), ground.borrow().clone());
    let loaded = tokio::task::spawn_blocking(move || host.load_on(&source, &ground)).await;
    let reload = match loaded {
        Ok(Ok(policy)) => Reload::Ready(Box::new(policy)),
        Ok(Err(failure)) => Reload::Rejected(failure),
        Err(bug) => std::panic::resume_unwind(bug.into_panic()),
    };
    tell.send(reload).await.is_ok()
}

/// Watches until nobody listens. A directory that is not there yet is waited for.
async fn watch_file(host: &PolicyHost, path: &Path, ground: &watch::Receiver<Ground>, tell: &mpsc::Sender<Reload>) {
    while !tell.is_closed() {
        match PolicyWatch::new(host.clone(), path, ground.clone()) {
            Ok(policies) => policies.run(tell.clone()).await,
            Err(error) => {
                warn!(error = %chain(&error), "the policy's directory is tried again in a while");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
