//! Nodes that come and go: how many there should be, emptying one, and whether one may be taken away.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Faces;
use super::answer::{document, failure};
use super::api::{ask, operator, wished};
use crate::clock::now_ms;
use crate::control::{self, Command, DrainWish, Scale};

/// How many shards there should be: what an autoscaler reads.
pub(super) async fn scale(State(faces): State<Arc<Faces>>) -> Response {
    match Scale::of(&faces.control.status()) {
        Some(scale) => document("Scale", scale),
        None => failure(StatusCode::SERVICE_UNAVAILABLE, "the cluster was not seen yet"),
    }
}

#[derive(Serialize)]
struct Terminable {
    terminable: bool,
    reason: String,
}

/// Whether a node may be taken away: 200, or 409 with the reason.
pub(super) async fn terminable(State(faces): State<Arc<Faces>>, Path(node): Path<String>) -> Response {
    match control::terminable(&node, &faces.control.status(), now_ms()) {
        Ok(reason) => document("Terminable", Terminable { terminable: true, reason }),
        Err(reason) => failure(StatusCode::CONFLICT, reason),
    }
}

/// How far a drain has come.
pub(super) async fn drain_status(State(faces): State<Arc<Faces>>, Path(node): Path<String>) -> Response {
    let status = faces.control.status();
    match status.drains.iter().find(|drain| drain.drain.is_called(&node)) {
        Some(drain) => document("Drain", drain),
        None => failure(StatusCode::NOT_FOUND, format!("'{node}' is not being drained")),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Whether the cluster is to forget it once it is empty.
    #[serde(default)]
    forget: bool,
    /// Whether it is to begin though the rest is too small for it.
    #[serde(default)]
    force: bool,
    /// Why, for the history.
    #[serde(default)]
    reason: String,
    /// Who asks.
    who: Option<String>,
}

fn wish(body: &Bytes) -> Result<Wish, String> {
    wished(body, r#"{"forget": true, "reason": "too many", "who": "ann"}"#)
}

/// Empties a node. Asked for twice it is the same drain.
pub(super) async fn drain(State(faces): State<Arc<Faces>>, Path(node): Path<String>, body: Bytes) -> Response {
    match wish(&body) {
        Ok(Wish { forget, force, reason: why, who }) => {
            let who = who.unwrap_or_else(operator);
            ask(&faces, Command::Drain(DrainWish { node, forget, force, who, why })).await
        }
        Err(refusal) => failure(StatusCode::BAD_REQUEST, refusal),
    }
}

/// Lets a node have slots again.
pub(super) async fn undrain(State(faces): State<Arc<Faces>>, Path(node): Path<String>, body: Bytes) -> Response {
    match wish(&body) {
        Ok(Wish { reason: why, who, .. }) => {
            ask(&faces, Command::Undrain { node, who: who.unwrap_or_else(operator), why }).await
        }
        Err(refusal) => failure(StatusCode::BAD_REQUEST, refusal),
    }
}
