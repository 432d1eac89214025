//! Plans that wait for a person.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::Faces;
use super::answer::{document, failure};
use super::api::{ask, operator};
use super::asked::Body;
use crate::control::Command;

/// The plan that waits, with its moves.
pub(super) async fn waiting(State(faces): State<Arc<Faces>>) -> Response {
    match &faces.control.status().waiting_plan {
        Some(waiting) => document("Approval", &**waiting),
        None => failure(StatusCode::NOT_FOUND, "no plan waits"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judgement {
    /// What the plan is called.
    plan: String,
    #[serde(default)]
    reason: String,
    #[serde(default = "operator")]
    who: String,
}

/// Lets the plan that waits be carried out.
pub(super) async fn approve(State(faces): State<Arc<Faces>>, body: Body) -> Response {
    judge(&faces, &body, true).await
}

/// Drops the plan that waits.
pub(super) async fn reject(State(faces): State<Arc<Faces>>, body: Body) -> Response {
    judge(&faces, &body, false).await
}

async fn judge(faces: &Faces, body: &Body, approve: bool) -> Response {
    match body.wish(r#"{"plan": "3fa9c1d2e4b5", "reason": "CHG-7", "who": "ann"}"#) {
        Ok(Judgement { plan, reason: why, who }) => ask(faces, Command::Judge { plan, approve, who, why }).await,
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}
