//! The HTTP faces: metrics, health, and the API. Views of [`Status`], of the history and of [`Metrics`].
//!
//! The only user of axum. Reading is open to whoever reaches the port; what changes something is taken from this
//! machine only. Bodies, answers and times are bounded.

mod answer;
mod api;
mod approval;
mod measure;
mod nodes;
mod probe;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::control::Handle;
use crate::metrics::Metrics;
use crate::store::Store;

#[cfg(doc)]
use crate::control::Status;

/// A pause with a reason is a few hundred bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Nothing here takes a second; a page of history from a slow disk may take a few.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// What the faces look at.
#[derive(Debug)]
pub struct Faces {
    /// The loop.
    pub control: Handle,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// The history.
    pub store: Arc<Store>,
}

/// Every route.
fn router(faces: Arc<Faces>) -> Router {
    let changes = Router::new()
        .route("/api/v1/pause", post(api::pause))
        .route("/api/v1/resume", post(api::resume))
        .route("/api/v1/cancel", post(api::cancel))
        .route("/api/v1/approve", post(approval::approve))
        .route("/api/v1/reject", post(approval::reject))
        .route("/api/v1/policy/promote", post(api::promote))
        .route("/api/v1/nodes/{node}/drain", post(nodes::drain).delete(nodes::undrain))
        .route("/-/reload", post(api::reload))
        .route_layer(from_fn(api::from_this_machine));
    Router::new()
        .route("/metrics", get(probe::metrics))
        .route("/healthz", get(probe::healthy))
        .route("/readyz", get(probe::ready))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/cycles", get(api::cycles))
        .route("/api/v1/cycles/{cycle}", get(api::cycle))
        .route("/api/v1/snapshot", get(api::snapshot))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/journal", get(api::journal))
        .route("/api/v1/explain", get(api::explanation))
        .route("/api/v1/approval", get(approval::waiting))
        .route("/api/v1/scale", get(nodes::scale))
        .route("/api/v1/nodes/{node}/drain", get(nodes::drain_status))
        .route("/api/v1/nodes/{node}/terminable", get(nodes::terminable))
        .merge(changes)
        .fallback(answer::no_such_page)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(measure::bound_time))
        .layer(from_fn_with_state(faces.clone(), measure::count))
        .with_state(faces)
}

/// Answers on `listener` until `ending` is ready, then for the requests that have begun.
///
/// # Errors
/// What the listener's system calls said.
pub async fn serve(
    listener: TcpListener,
    faces: Arc<Faces>,
    ending: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router(faces).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(ending).await
}

#[cfg(test)]
mod tests;
