//! The HTTP faces: metrics, health, and the API. Views of [`Status`], of the history and of [`Metrics`].
//!
//! The only user of axum. Who may do what is said in `access`; bodies, answers, connections and times are bounded.

mod access;
mod answer;
mod api;
mod approval;
mod archive;
mod asked;
mod heat;
mod maps;
mod measure;
mod nodes;
mod page;
mod probe;
mod serving;
mod stream;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use futures_util::future::try_join_all;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, broadcast, watch};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};

use crate::config;
use crate::control::Handle;
use crate::metrics::Metrics;
use crate::model::Snapshot;
use crate::store::{Store, StoredEvent};
use access::Way;
use archive::Archive;
use heat::Heat;

#[cfg(doc)]
use crate::control::Status;

/// A pause with a reason is a few hundred bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Nothing here takes a second; a page of history from a slow disk may take a few.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Events that a listener may fall behind before it misses some.
const HAPPENINGS_MAX: usize = 256;

/// What the faces look at.
#[derive(Debug)]
pub struct Faces {
    control: Handle,
    metrics: Arc<Metrics>,
    archive: Archive,
    http: config::Http,
    /// By which whoever asks in two ways sees that it is one daemon.
    instance: String,
    happenings: broadcast::Sender<StoredEvent>,
    streams: Arc<Semaphore>,
    heat: Mutex<Heat>,
    /// The last snapshot as JSON, with its generation.
    snapshot: Mutex<Option<(u64, Bytes)>>,
}

impl Faces {
    /// Faces of a loop, of what is measured, and of the history. `history` is connections that nobody else waits for
    /// ([`Store::look`]): searches take one for seconds.
    #[must_use]
    pub fn new(control: Handle, metrics: Arc<Metrics>, history: Vec<Store>, http: config::Http) -> Self {
        let (happenings, _) = broadcast::channel(HAPPENINGS_MAX);
        let streams = Arc::new(Semaphore::new(stream::STREAMS_MAX));
        Self {
            control,
            metrics,
            archive: Archive::new(history),
            http,
            instance: format!("{:016x}", rand::random::<u64>()),
            happenings,
            streams,
            heat: Mutex::default(),
            snapshot: Mutex::default(),
        }
    }

    /// Shows what happened to those who listen.
    pub fn happened(&self, event: StoredEvent) {
        // An error says that nobody listens.
        drop(self.happenings.send(event));
    }

    fn heat(&self) -> MutexGuard<'_, Heat> {
        self.heat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last snapshot as JSON. Everybody gets the same bytes: a megabyte each for those who ask and do not read would be a way to
    /// use up memory.
    fn encoded(&self, snapshot: &Snapshot) -> Result<Bytes, serde_json::Error> {
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, bytes)) = &*kept
            && *generation == snapshot.generation
        {
            return Ok(bytes.clone());
        }
        let bytes = answer::encoded("Snapshot", snapshot)?;
        *kept = Some((snapshot.generation, bytes.clone()));
        Ok(bytes)
    }

    /// Takes in each look at the cluster, for as long as there is a loop.
    async fn remember_loads(self: Arc<Self>) {
        let mut status = self.control.watch();
        let mut generation = None;
        while status.changed().await.is_ok() {
            let seen = status.borrow_and_update().seen.clone();
            let Some(seen) = seen.filter(|seen| generation != Some(seen.generation)) else { continue };
            generation = Some(seen.generation);
            let faces = self.clone();
            // A thousandth of a second at most; but the reactor has better to do.
            drop(tokio::task::spawn_blocking(move || faces.heat().see(&seen)).await);
        }
    }
}

/// Every route.
fn router(faces: Arc<Faces>) -> Router {
    let commands = Router::new()
        .route("/api/v1/pause", post(api::pause))
        .route("/api/v1/resume", post(api::resume))
        .route("/api/v1/cancel", post(api::cancel))
        .route("/api/v1/approve", post(approval::approve))
        .route("/api/v1/reject", post(approval::reject))
        .route("/api/v1/policy/promote", post(api::promote))
        .route("/api/v1/nodes/{node}/drain", post(nodes::drain).delete(nodes::undrain))
        .route("/-/reload", post(api::reload))
        .route_layer(from_fn_with_state(faces.clone(), access::commands));
    let looks = Router::new()
        .route("/metrics", get(probe::metrics))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/cycles", get(api::cycles))
        .route("/api/v1/cycles/{cycle}", get(api::cycle))
        .route("/api/v1/snapshot", get(api::snapshot))
        .route("/api/v1/slots", get(maps::slots))
        .route("/api/v1/slots.bin", get(maps::slots_bin))
        .route("/api/v1/heat.bin", get(maps::heat_bin))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/journal", get(api::journal))
        .route("/api/v1/explain", get(api::explanation))
        .route("/api/v1/approval", get(approval::waiting))
        .route("/api/v1/scale", get(nodes::scale))
        .route("/api/v1/nodes/{node}/drain", get(nodes::drain_status))
        .route("/api/v1/nodes/{node}/terminable", get(nodes::terminable))
        .route_layer(from_fn_with_state(faces.clone(), access::looks));
    let open = Router::new()
        .route("/", get(page::index))
        .route("/page/{file}", get(page::asset))
        .route("/healthz", get(probe::healthy))
        .route("/readyz", get(probe::ready))
        .route("/api/v1/access", get(access::access))
        .route("/api/v1/openapi.yaml", get(api::description));
    open.merge(looks)
        .merge(commands)
        .fallback(answer::no_such_page)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(measure::bound_time))
        .layer(from_fn_with_state(faces.clone(), measure::count))
        .layer(compression())
        .with_state(faces)
}

/// Texts are compressed; maps of slots are numbers, and whoever draws them asks at each look: that would cost the reactor more than
/// the network.
fn compression() -> CompressionLayer<impl Predicate> {
    let texts = DefaultPredicate::new().and(NotForContentType::const_new(maps::BYTES));
    CompressionLayer::new().gzip(true).compress_when(texts)
}

/// Where requests come in.
#[derive(Debug)]
pub enum Door {
    /// Over the network: for looking, and with a token for more.
    Network(TcpListener),
    /// Through a file, whose permissions say who may write to it: for everything.
    Socket(UnixListener),
}

/// Answers those who come through `doors` until `ending` says so, then the requests that have begun.
///
/// # Errors
/// What the system calls of a listener said.
pub async fn serve(doors: Vec<Door>, faces: Arc<Faces>, ending: watch::Receiver<bool>) -> io::Result<()> {
    let router = router(faces.clone());
    let remembering = tokio::spawn(faces.remember_loads());
    let open = doors.into_iter().map(|door| {
        let (router, mut ending) = (router.clone(), ending.clone());
        async move {
            // An error says that nobody will say so any more.
            let ended = async { drop(ending.wait_for(|ended| *ended).await) };
            match door {
                Door::Network(listener) => serving::serve(listener, Way::Network, router, ended).await,
                Door::Socket(listener) => serving::serve(listener, Way::Socket, router, ended).await,
            }
        }
    });
    let served = try_join_all(open).await.map(drop);
    remembering.abort();
    served
}

#[cfg(test)]
mod tests;
