//! Around every request: its time is bounded, and it is counted.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::answer::failure;
use super::{ANSWER_TIME_MAX, Faces};

pub(super) async fn bound_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_TIME_MAX, next.run(request))
        .await
        .unwrap_or_else(|_| failure(StatusCode::GATEWAY_TIMEOUT, "the answer took too long; ask again"))
}

/// Counts by route, not by path: paths are as many as people invent. The same with methods.
pub(super) async fn count(State(faces): State<Arc<Faces>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "other",
    };
    let response = next.run(request).await;
    let handler = route.as_ref().map_or("none", MatchedPath::as_str);
    faces.metrics.http_request(handler, method, response.status().as_u16(), began.elapsed().as_secs_f64());
    response
}
