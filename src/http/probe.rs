//! What machines ask again and again: metrics, and whether we live and work.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Faces;
use crate::clock::now_ms;

pub(super) async fn metrics(State(faces): State<Arc<Faces>>) -> Response {
    ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], faces.metrics.encode()).into_response()
}

/// Whoever can answer this lives: the reactor turns.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(faces): State<Arc<Faces>>) -> Response {
    match faces.control.status().ready(now_ms()) {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
