//! Nodes that leave: one step a cycle for each.

use tracing::{info, warn};

use super::super::drains::Drain;
use super::{Crew, Orders, Turn, may_leave};
use crate::model::Snapshot;
use crate::retire::{self, Next, Rehoming};
use crate::telemetry::chain;

/// Takes out the nodes that are to leave and are empty, one step a cycle for each; the next look decides what follows.
pub(super) async fn departures(crew: &Crew, orders: &Orders, turn: &Turn, snapshot: &Snapshot) {
    if orders.leaving.is_empty() || !may_leave(orders).await {
        return;
    }
    for Drain { id, address, .. } in &orders.leaving {
        // What has just moved is not in the snapshot.
        if turn.report.migrations.iter().any(|moved| moved.source == *id || moved.target == *id) {
            continue;
        }
        let done = match retire::next(id, snapshot) {
            Next::Wait(_) | Next::Gone => continue,
            Next::Rehome(rehomings) => {
                for Rehoming { replica, at, .. } in &rehomings {
                    info!(node = %address, %replica, follows = %at, "a replica of a node that leaves follows another");
                }
                retire::rehome(&*crew.cluster, &rehomings).await
            }
            Next::Forget(others) => {
                info!(node = %address, nodes = others.len(), "an emptied node leaves: the others forget it");
                retire::leave(&*crew.cluster, address, id, &others).await
            }
        };
        if let Err(error) = done {
            warn!(node = %address, error = %chain(&error), "a node does not leave yet");
        }
    }
}
