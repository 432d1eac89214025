//! Nodes that leave: one step a cycle for each.

use tracing::{info, warn};

use super::{Crew, Orders, Turn, may_leave};
use crate::clock::now_ms;
use crate::model::{NodeId, Snapshot};
use crate::retire::{self, Next, Rehoming};
use crate::telemetry::chain;

/// Takes out the nodes that are to leave and are empty, one step a cycle for each; the next look decides what follows.
pub(super) async fn departures(crew: &Crew, orders: &Orders, turn: &Turn, snapshot: &Snapshot) {
    let leaving: Vec<NodeId> = orders.leaving.borrow().iter().map(|drain| drain.id.clone()).collect();
    if leaving.is_empty() || !may_leave(orders).await {
        return;
    }
    for id in &leaving {
        // Somebody may have changed their mind while slots moved.
        let Some(drain) = orders.leaving.borrow().iter().find(|drain| drain.id == *id).cloned() else { continue };
        let address = &drain.address;
        // What has just moved is not in the snapshot.
        if turn.report.migrations.iter().any(|moved| moved.source == *id || moved.target == *id) {
            continue;
        }
        let done = match retire::next(id, snapshot, drain.patience(now_ms())) {
            Next::Wait(_) | Next::Gone => continue,
            Next::Rehome(rehomings) => {
                for Rehoming { replica, at, .. } in &rehomings {
                    info!(node = %address, %replica, follows = %at, "a replica of a node that leaves follows another");
                }
                retire::rehome(&*crew.cluster, &rehomings).await
            }
            Next::Forget(farewell) => {
                info!(node = %address, nodes = farewell.others.len(), "an emptied node leaves: the others forget it");
                retire::leave(&*crew.cluster, address, id, &farewell).await
            }
        };
        if let Err(error) = done {
            warn!(node = %address, error = %chain(&error), "a node does not leave yet");
        }
    }
}
