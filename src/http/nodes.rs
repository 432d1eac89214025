//! Nodes that come and go: how many there should be, emptying one, and whether one may be taken away.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Faces;
use super::answer::{document, failure};
use super::api::{Why, ask, operator};
use super::asked::{Body, Path};
use crate::clock::now_ms;
use crate::control::{self, Command, DrainWish};
use crate::model::Address;

/// How many shards there should be: what an autoscaler reads.
pub(super) async fn scale(State(faces): State<Arc<Faces>>) -> Response {
    match &faces.control.status().scale {
        Some(scale) => document("Scale", scale),
        None => failure(StatusCode::SERVICE_UNAVAILABLE, "the cluster was not seen yet"),
    }
}

#[derive(Serialize)]
struct Terminable {
    terminable: bool,
    reason: String,
}

/// Whether it could be a node's name: whoever left has one too, but a slip of the pen must not end a machine.
fn names_a_node(name: &str) -> bool {
    let of_an_id = (4..=40).contains(&name.len()) && name.bytes().all(|digit| digit.is_ascii_hexdigit());
    of_an_id || name.parse::<Address>().is_ok()
}

/// Whether a node may be taken away: 200, or 409 with the reason.
pub(super) async fn terminable(State(faces): State<Arc<Faces>>, Path(node): Path<String>) -> Response {
    if !names_a_node(&node) {
        let why = format!("'{node}' names no node: host:port is expected, or four digits of its id at least");
        return failure(StatusCode::BAD_REQUEST, why);
    }
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Whether the cluster is to forget it once it is empty.
    #[serde(default)]
    forget: bool,
    /// Whether it is to begin though the rest is too small for it.
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
    #[serde(default = "operator")]
    who: String,
}

/// Empties a node. Asked for twice it is the same drain.
pub(super) async fn drain(State(faces): State<Arc<Faces>>, Path(node): Path<String>, body: Body) -> Response {
    match body.wish(r#"{"forget": true, "reason": "too many", "who": "ann"}"#) {
        Ok(Wish { forget, force, reason: why, who }) => {
            ask(&faces, Command::Drain(DrainWish { node, forget, force, who, why })).await
        }
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}

/// Lets a node have slots again.
pub(super) async fn undrain(State(faces): State<Arc<Faces>>, Path(node): Path<String>, body: Body) -> Response {
    match Why::of(&body) {
        Ok((who, why)) => ask(&faces, Command::Undrain { node, who, why }).await,
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}
