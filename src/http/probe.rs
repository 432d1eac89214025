//! What machines ask again and again: metrics, and whether we live and work.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Faces;
use super::access::{Way, role};
use crate::clock::now_ms;

pub(super) async fn metrics(State(faces): State<Arc<Faces>>) -> Response {
    ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], faces.metrics.encode()).into_response()
}

/// Whoever can answer this lives: the reactor turns.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// Whether we work, for everybody; why not, for those who may look.
pub(super) async fn ready(way: Extension<Way>, State(faces): State<Arc<Faces>>, headers: HeaderMap) -> Response {
    let Err(reason) = faces.control.status().ready(now_ms()) else { return "ready\n".into_response() };
    let told = match role(*way, &headers, &faces).await {
        Ok(_) => reason,
        Err(_) => "not ready; whoever may look is told why".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{told}\n")).into_response()
}
