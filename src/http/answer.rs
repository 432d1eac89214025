//! How answers look: JSON documents with `apiVersion` and `kind`, errors among them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The version that every document carries: it changes when a field changes its meaning or goes.
pub(super) const API_VERSION: &str = "ballast/v1";

/// A document: what it is, then its fields.
#[derive(Serialize)]
struct Document<T> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    body: T,
}

/// A document of this kind. `body` is a struct or a map, whose fields stand beside `apiVersion` and `kind`.
pub(super) fn document<T: Serialize>(kind: &'static str, body: T) -> Response {
    axum::Json(Document { api_version: API_VERSION, kind, body }).into_response()
}

/// A list of things.
#[derive(Serialize)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

/// An error, for people, as a document.
pub(super) fn failure(code: StatusCode, error: impl Into<String>) -> Response {
    (code, document("Error", Failure { error: error.into() })).into_response()
}

pub(super) async fn no_such_page() -> Response {
    failure(
        StatusCode::NOT_FOUND,
        "no such page; there are /metrics, /healthz, /readyz, /api/v1/status, /api/v1/cycles, /api/v1/cycles/{n}, \
         /api/v1/snapshot, /api/v1/events, /api/v1/journal, /api/v1/explain, /api/v1/scale, /api/v1/nodes/{node}/drain, \
         /api/v1/nodes/{node}/terminable, and to post to: /api/v1/pause, /api/v1/resume, /api/v1/cancel, \
         /api/v1/policy/promote, /api/v1/nodes/{node}/drain (or delete), /-/reload",
    )
}

pub(super) async fn no_such_method() -> Response {
    failure(
        StatusCode::METHOD_NOT_ALLOWED,
        "pages are got; /api/v1/pause, /api/v1/resume, /api/v1/cancel and /-/reload are posted to",
    )
}
