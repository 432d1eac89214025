//! What a request asks, read as axum reads it and refused in our own words: an error is a document, whoever finds it.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;
use super::answer::failure;

/// What stands after the question mark.
pub(super) struct Query<T>(pub(super) T);

/// A part of the path.
pub(super) struct Path<T>(pub(super) T);

/// What is sent along: a JSON object, or nothing.
pub(super) struct Body(Bytes);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(asked)| Self(asked)).map_err(|refusal: QueryRejection| {
            let why = refusal.body_text();
            failure(StatusCode::BAD_REQUEST, why.trim_start_matches("Failed to deserialize query string: "))
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(part)| Self(part))
            .map_err(|refusal: PathRejection| failure(StatusCode::BAD_REQUEST, refusal.body_text()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        Bytes::from_request(request, state).await.map(Self).map_err(|refusal: BytesRejection| match refusal.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                failure(StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {} KiB", BODY_BYTES_MAX / 1024))
            }
            code => failure(code, refusal.body_text()),
        })
    }
}

impl Body {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it wishes, which may be something `like` that; nothing special when it is empty and `T` knows what that is.
    pub(super) fn wish<T: DeserializeOwned>(&self, like: &str) -> Result<T, String> {
        let text = if self.0.is_empty() { b"{}" } else { self.0.trim_ascii() };
        let expected = |why: &str| format!("a body like {like} is expected: {why}");
        // serde would take a list for an object whose fields come in that order.
        if !text.starts_with(b"{") {
            return Err(expected("it is no JSON object"));
        }
        serde_json::from_slice(text).map_err(|error| expected(&error.to_string()))
    }
}
