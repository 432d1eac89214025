//! All slots at once, as they are and as they were: for pages that draw them, as bytes; for programs, as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Faces;
use super::answer::{document, failure};
use super::asked::Query;
use super::heat::{Heat, Resource};
use crate::model::{Address, NO_OWNER, NodeId, SLOT_COUNT, Snapshot, resource};

/// A node that slots name by its place in the list.
#[derive(Serialize)]
struct Owner<'a> {
    id: &'a NodeId,
    address: &'a Address,
    zone: &'a str,
}

/// Every slot: columns of 16384 values, by slot.
#[derive(Serialize)]
struct Slots<'a> {
    generation: u64,
    taken_at_ms: u64,
    nodes: Vec<Owner<'a>>,
    /// Places in `nodes`; absent where nobody serves the slot.
    owner: Vec<Option<u32>>,
    /// Microseconds of its primary's main thread per second; absent where it is not known, as in the columns below.
    cpu_usec: Vec<Option<f32>>,
    keys: Vec<Option<f32>>,
    bytes: Vec<Option<f32>>,
    /// Unix time in seconds at which it was last seen to change hands; 0 for never.
    changed_at_s: Vec<u32>,
}

pub(super) const BYTES: &str = "application/octet-stream";
/// Nobody serves the slot.
const NOBODY: u16 = u16::MAX;

/// Every slot as JSON.
pub(super) async fn slots(State(faces): State<Arc<Faces>>) -> Response {
    drawn(faces, |snapshot, heat| {
        let known = |name| column(snapshot, name).map(|value| value.is_finite().then_some(value)).collect();
        let owners = snapshot.owners.as_slice();
        let slots = Slots {
            generation: snapshot.generation,
            taken_at_ms: snapshot.taken_at_ms,
            nodes: nodes(snapshot),
            owner: owners.iter().map(|owner| (*owner != NO_OWNER).then_some(*owner)).collect(),
            cpu_usec: known(resource::CPU_USEC),
            keys: known(resource::KEYS),
            bytes: known(resource::BYTES),
            changed_at_s: heat.changed_at_s().to_vec(),
        };
        document("Slots", slots)
    })
    .await
}

/// Every slot as bytes, little-endian: `BSL1`, the length of the list of nodes (u32), when it was seen (u64, milliseconds),
/// its generation (u64); the list of nodes as JSON, filled up with spaces to a multiple of four; then a column after the other:
/// owner (u16, a place in the list, 65535 for nobody), cpu, keys and bytes (f32, NaN where not known), when it last changed hands
/// (u32, Unix seconds, 0 for never).
pub(super) async fn slots_bin(State(faces): State<Arc<Faces>>) -> Response {
    drawn(faces, |snapshot, heat| {
        let mut list = serde_json::to_vec(&nodes(snapshot)).unwrap_or_default();
        list.resize(list.len().next_multiple_of(4), b' ');
        let mut bytes = Vec::with_capacity(24 + list.len() + SLOT_COUNT * 18);
        bytes.extend(b"BSL1");
        bytes.extend(u32::try_from(list.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(snapshot.taken_at_ms.to_le_bytes());
        bytes.extend(snapshot.generation.to_le_bytes());
        bytes.extend(list);
        let place = |owner: &u32| u16::try_from(*owner).unwrap_or(NOBODY);
        bytes.extend(snapshot.owners.as_slice().iter().flat_map(|owner| place(owner).to_le_bytes()));
        for name in [resource::CPU_USEC, resource::KEYS, resource::BYTES] {
            bytes.extend(column(snapshot, name).flat_map(f32::to_le_bytes));
        }
        bytes.extend(heat.changed_at_s().iter().flat_map(|at_s| at_s.to_le_bytes()));
        ([(header::CONTENT_TYPE, BYTES)], bytes).into_response()
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    #[serde(default)]
    resource: Resource,
}

/// Loads over the past day as bytes, little-endian: `BHT1`, rows (u32), columns (u32), seconds in a column (u32), when the first
/// column begins (u64, milliseconds), least and most (f32); then a column after the other, the oldest first, a byte a row: 0 for
/// nothing, else v for `least·(most/least)^((v−1)/254)` in the resource's unit.
pub(super) async fn heat_bin(State(faces): State<Arc<Faces>>, Query(Of { resource }): Query<Of>) -> Response {
    // As many logarithms as there are cells.
    let drawn = tokio::task::spawn_blocking(move || faces.heat().to_bytes(resource)).await;
    match drawn {
        Ok(bytes) => ([(header::CONTENT_TYPE, BYTES)], bytes).into_response(),
        Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "drawing the loads failed"),
    }
}

/// An answer made of what was seen last; encoding a hundred thousand numbers takes milliseconds: not on the reactor.
async fn drawn(faces: Arc<Faces>, draw: impl FnOnce(&Snapshot, &Heat) -> Response + Send + 'static) -> Response {
    let Some(snapshot) = faces.control.status().seen.clone() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "the cluster was not seen yet");
    };
    let draw = move || draw(&snapshot, &faces.heat());
    let drawn = tokio::task::spawn_blocking(draw).await;
    drawn.unwrap_or_else(|_| failure(StatusCode::INTERNAL_SERVER_ERROR, "drawing the slots failed"))
}

fn nodes(snapshot: &Snapshot) -> Vec<Owner<'_>> {
    snapshot.primaries.iter().map(|node| Owner { id: &node.id, address: &node.address, zone: &node.zone }).collect()
}

/// The values of a column, NaN where they are not known. Pages draw them: 24 bits are enough.
#[allow(clippy::cast_possible_truncation, reason = "a picture needs no more")]
fn column(snapshot: &Snapshot, name: &str) -> impl Iterator<Item = f32> {
    let column = snapshot.slot_column(name).cloned();
    (0..SLOT_COUNT).map(move |slot| column.as_ref().map_or(f32::NAN, |column| column[slot] as f32))
}
