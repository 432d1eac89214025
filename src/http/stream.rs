//! What happens, as it happens: server-sent events.
//!
//! Whoever connects is told the present first, and after a break also the cycles that ended meanwhile (`Last-Event-ID`). The status is
//! told at most twice a second however often it changes; what nodes carry, once for each look at them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::Faces;
use super::answer::failure;
use crate::control::{CycleSummary, NodeRow, Status};
use crate::store::StoredEvent;

/// Whoever listens costs a connection and a copy of the status twice a second.
pub(super) const STREAMS_MAX: usize = 64;
/// Between two tellings of the status.
const PAUSE: Duration = Duration::from_millis(500);
/// A line that says nothing, so that both ends see that the other one lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// After which a browser connects again by itself.
const RETRY: Duration = Duration::from_secs(2);
/// Whoever listens on connects again: a token that is withdrawn is good for no longer than this.
const LONGEST: Duration = Duration::from_secs(900);
/// Cycles that ended during a break, at most.
const MISSED_MAX: usize = 100;

pub(super) async fn stream(State(faces): State<Arc<Faces>>, headers: HeaderMap) -> Response {
    let Ok(permit) = faces.streams.clone().try_acquire_owned() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, format!("{STREAMS_MAX} listen already: ask /api/v1/status"));
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let missed = match last {
        Some(cycle) => {
            let read = faces.archive.read(move |store| store.cycles_after(cycle, MISSED_MAX)).await;
            // Without them the stream is as good as any that begins now.
            read.ok().and_then(Result::ok).unwrap_or_default()
        }
        None => Vec::new(),
    };
    faces.metrics.listeners(1.0);
    let mut teller = Teller {
        faces: faces.clone(),
        status: faces.control.watch(),
        happenings: faces.happenings.subscribe(),
        queue: VecDeque::new(),
        generation: None,
        cycle: None,
        told_at: Instant::now(),
        ends_at: Instant::now() + LONGEST,
        _permit: permit,
    };
    teller.queue.extend(missed.iter().map(|report| cycle(&CycleSummary::from(report))));
    teller.cycle = missed.last().map(|report| report.cycle).or_else(|| teller.last_cycle());
    teller.tell();
    if let Some(first) = teller.queue.pop_front() {
        teller.queue.push_front(first.retry(RETRY));
    }
    let events = stream::unfold(teller, async |mut teller| {
        let event = teller.next().await?;
        Some((Ok::<_, Infallible>(event), teller))
    });
    // Who stands between keeps answers back until they are whole, unless told not to (nginx, X-Accel-Buffering).
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE))).into_response()
}

/// What one listener has been told.
struct Teller {
    faces: Arc<Faces>,
    status: watch::Receiver<Arc<Status>>,
    happenings: broadcast::Receiver<StoredEvent>,
    queue: VecDeque<Event>,
    /// Of the snapshot whose nodes were told.
    generation: Option<u64>,
    cycle: Option<u64>,
    told_at: Instant,
    ends_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.faces.metrics.listeners(-1.0);
    }
}

#[derive(Serialize)]
struct Nodes<'a> {
    generation: Option<u64>,
    nodes: &'a [NodeRow],
}

impl Teller {
    /// The next event; none when the daemon ends, or the time is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            tokio::select! {
                changed = self.status.changed() => {
                    changed.ok()?;
                    sleep_until(self.told_at + PAUSE).await;
                    self.tell();
                }
                happened = self.happenings.recv() => match happened {
                    Ok(happened) => self.queue.push_back(event("happening", &happened)),
                    // Whoever falls behind asks /api/v1/events for what it missed.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                () = sleep_until(self.ends_at) => return None,
            }
        }
    }

    fn last_cycle(&self) -> Option<u64> {
        self.status.borrow().last_cycle.as_ref().map(|cycle| cycle.cycle)
    }

    /// Puts in the queue what has changed.
    fn tell(&mut self) {
        self.told_at = Instant::now();
        let status = self.status.borrow_and_update().clone();
        self.queue.push_back(event("status", &without_nodes(&status)));
        let generation = status.snapshot.as_ref().map(|snapshot| snapshot.generation);
        if generation != self.generation {
            self.generation = generation;
            self.queue.push_back(event("nodes", &Nodes { generation, nodes: &status.nodes }));
        }
        if let Some(last) = status.last_cycle.as_ref().filter(|last| self.cycle != Some(last.cycle)) {
            self.cycle = Some(last.cycle);
            self.queue.push_back(cycle(last));
        }
    }
}

/// What a thousand nodes carry is half a megabyte, and changes only with a look at them.
fn without_nodes(status: &Status) -> Value {
    let light = Status { nodes: Vec::new(), ..status.clone() };
    let mut value = serde_json::to_value(&light).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("nodes");
    }
    value
}

fn cycle(summary: &CycleSummary) -> Event {
    event("cycle", summary).id(summary.cycle.to_string())
}

fn event<T: Serialize>(name: &str, data: &T) -> Event {
    // JSON of ours has no line break outside of strings, and none inside.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}
