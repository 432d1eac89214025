//! How answers look: JSON documents with `apiVersion` and `kind`, errors among them.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
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

/// The same as bytes, for answers that are large and given often.
pub(super) fn encoded<T: Serialize>(kind: &'static str, body: T) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(&Document { api_version: API_VERSION, kind, body }).map(Bytes::from)
}

/// An answer of [`encoded`] bytes.
pub(super) fn as_json(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
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
    failure(StatusCode::NOT_FOUND, "no such page; /api/v1/openapi.yaml describes those that there are")
}

pub(super) async fn no_such_method() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, "not by this method; /api/v1/openapi.yaml says by which")
}
