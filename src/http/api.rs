//! The API: status and history to read, and the few things to ask for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Faces;
use super::answer::{Items, as_json, document, encoded, failure};
use super::asked::{Body, Path, Query};
use crate::clock::now_ms;
use crate::control::{Command, CycleSummary};
use crate::explain::{Question, Unexplained, explain};
use crate::model::SlotId;
use crate::store::{Store, StoreError};
use crate::telemetry::chain;

/// A page of history when nothing else is asked for, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 1000;

/// This API, as OpenAPI describes it.
pub(super) async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], include_str!("openapi.yaml")).into_response()
}

pub(super) async fn status(State(faces): State<Arc<Faces>>) -> Response {
    document("Status", &*faces.control.status())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    /// Those before this number, for the next page.
    before: Option<u64>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).min(PAGE_MAX)
    }

    fn before(&self) -> u64 {
        self.before.unwrap_or(u64::MAX)
    }
}

/// The newest cycles in figures, newest first; each one whole is at its number.
pub(super) async fn cycles(State(faces): State<Arc<Faces>>, Query(page): Query<Page>) -> Response {
    let (before, limit) = (page.before(), page.limit());
    let read = move |store: &Store| {
        let mut items = Vec::new();
        store.each_cycle_before(before, limit, |report| items.push(CycleSummary::from(&report)))?;
        Ok(items)
    };
    match from_store(faces, read).await {
        Ok(items) => document("CycleList", Items { items }),
        Err(error) => broken(error),
    }
}

pub(super) async fn cycle(State(faces): State<Arc<Faces>>, Path(cycle): Path<u64>) -> Response {
    match from_store(faces, move |store| store.cycle(cycle)).await {
        Ok(Some(report)) => document("Cycle", report),
        Ok(None) => failure(StatusCode::NOT_FOUND, format!("cycle {cycle} is not in the history")),
        Err(error) => broken(error),
    }
}

/// What happened besides cycles, newest first.
pub(super) async fn events(State(faces): State<Arc<Faces>>, Query(page): Query<Page>) -> Response {
    let (before, limit) = (page.before(), page.limit());
    match from_store(faces, move |store| store.events_before(before, limit)).await {
        Ok(items) => document("EventList", Items { items }),
        Err(error) => broken(error),
    }
}

/// Migrations that were begun, newest first: by whom, why, and what came of them.
pub(super) async fn journal(State(faces): State<Arc<Faces>>, Query(page): Query<Page>) -> Response {
    let (before, limit) = (page.before(), page.limit());
    match from_store(faces, move |store| store.journal_before(before, limit)).await {
        Ok(items) => document("JournalList", Items { items }),
        Err(error) => broken(error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    cycle: Option<u64>,
    slot: Option<u16>,
    limit: Option<usize>,
}

/// Why a cycle did what it did, why a slot moved or did not, or, asked about neither, why nothing moves.
pub(super) async fn explanation(State(faces): State<Arc<Faces>>, Query(asked): Query<Asked>) -> Response {
    let limit = match asked.limit {
        Some(0) => return failure(StatusCode::BAD_REQUEST, "limit is 1 or more"),
        limit => limit.unwrap_or(PAGE).min(PAGE_MAX),
    };
    let question = match (asked.cycle, asked.slot.map(SlotId::new)) {
        (Some(_), Some(_)) => return failure(StatusCode::BAD_REQUEST, "ask about a cycle or about a slot"),
        (None, Some(None)) => return failure(StatusCode::BAD_REQUEST, "slots are 0 to 16383"),
        (None, Some(Some(slot))) => Question::Slot(slot, limit),
        (Some(cycle), None) => Question::Cycle(cycle),
        (None, None) => Question::Now,
    };
    match faces.archive.search(move |store| explain(question, store, now_ms())).await {
        Ok(Ok(items)) => document("Explanation", Items { items }),
        Ok(Err(Unexplained::Store(error))) => broken(chain(&error)),
        Ok(Err(why)) => failure(StatusCode::NOT_FOUND, why.to_string()),
        Err(error) => broken(error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfCycle {
    cycle: Option<u64>,
}

/// The last snapshot, or the one that a cycle decided by, whole: about a megabyte.
pub(super) async fn snapshot(State(faces): State<Arc<Faces>>, Query(of): Query<OfCycle>) -> Response {
    let snapshot = match of.cycle {
        None => Ok(faces.control.status().seen.clone()),
        Some(cycle) => {
            from_store(faces.clone(), move |store| store.snapshot(cycle)).await.map(|found| found.map(Arc::new))
        }
    };
    let snapshot = match snapshot {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => return failure(StatusCode::NOT_FOUND, "no snapshot was kept for it, or none was taken yet"),
        Err(error) => return broken(error),
    };
    // Encoding sixteen thousand numbers a column takes milliseconds: not on the reactor.
    let encoding = tokio::task::spawn_blocking(move || match of.cycle {
        None => faces.encoded(&snapshot),
        Some(_) => encoded("Snapshot", &*snapshot),
    });
    match encoding.await {
        Ok(Ok(bytes)) => as_json(bytes),
        _ => failure(StatusCode::INTERNAL_SERVER_ERROR, "encoding the snapshot failed"),
    }
}

/// Who asks for something, and why.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// For the history.
    #[serde(default)]
    reason: String,
    #[serde(default = "operator")]
    who: String,
}

impl Why {
    /// One is like this.
    const LIKE: &str = r#"{"reason": "release", "who": "ann"}"#;

    /// Who, and why.
    pub(super) fn of(body: &Body) -> Result<(String, String), String> {
        body.wish::<Self>(Self::LIKE).map(|why| (why.who, why.reason))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    #[serde(default)]
    reason: String,
    #[serde(default = "operator")]
    who: String,
    /// Seconds after which it ends by itself.
    for_s: Option<u64>,
}

pub(super) async fn pause(State(faces): State<Arc<Faces>>, body: Body) -> Response {
    match body.wish(r#"{"reason": "release", "who": "ann", "for_s": 3600}"#) {
        Ok(Pause { reason: why, who, for_s }) => {
            let until_ms = for_s.map(|seconds| now_ms().saturating_add(seconds.saturating_mul(1000)));
            ask(&faces, Command::Pause { who, why, until_ms }).await
        }
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}

pub(super) async fn resume(State(faces): State<Arc<Faces>>, body: Body) -> Response {
    match Why::of(&body) {
        Ok((who, why)) => ask(&faces, Command::Resume { who, why }).await,
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}

pub(super) async fn cancel(State(faces): State<Arc<Faces>>, body: Body) -> Response {
    match Why::of(&body) {
        Ok((who, why)) => ask(&faces, Command::Cancel { who, why }).await,
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    /// As the configuration calls it; the configured policy when absent.
    shadow: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default = "operator")]
    who: String,
}

/// Lets a shadow decide, or the configured policy again.
pub(super) async fn promote(State(faces): State<Arc<Faces>>, body: Body) -> Response {
    const LIKE: &str = r#"{"shadow": "next", "reason": "better for a week", "who": "ann"}"#;
    // Nothing would mean the configured policy: whoever wants that says so.
    if body.is_empty() {
        return failure(StatusCode::BAD_REQUEST, format!("a body like {LIKE} is expected"));
    }
    match body.wish(LIKE) {
        Ok(Choice { shadow, reason: why, who }) => ask(&faces, Command::Promote { shadow, who, why }).await,
        Err(why) => failure(StatusCode::BAD_REQUEST, why),
    }
}

pub(super) async fn reload(State(faces): State<Arc<Faces>>) -> Response {
    ask(&faces, Command::Reload).await
}

pub(super) fn operator() -> String {
    "operator".to_owned()
}

#[derive(Serialize)]
struct Done {
    done: String,
}

pub(super) async fn ask(faces: &Faces, command: Command) -> Response {
    match faces.control.ask(command).await {
        Ok(done) => document("Done", Done { done }),
        Err(refusal) => failure(StatusCode::CONFLICT, refusal),
    }
}

/// Reads from the disk on a thread that may wait for it.
async fn from_store<T: Send + 'static>(
    faces: Arc<Faces>,
    read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    faces.archive.read(read).await?.map_err(|error| chain(&error))
}

/// The disk did not give what it should.
fn broken(error: String) -> Response {
    failure(StatusCode::INTERNAL_SERVER_ERROR, error)
}
