//! Moving what was approved, and what came of it.

use std::time::Instant;

use tracing::warn;

use super::super::keeper::key;
use super::super::probes;
use super::super::promise::Promise;
use super::super::standing::Effort;
use super::super::status::Activity;
use super::{Crew, Orders, Turn, milliseconds};
use crate::clock::now_ms;
use crate::guard::ApprovedPlan;
use crate::migration::{self, Amount};
use crate::model::{CycleOutcome, MigrationReport, Snapshot};
use crate::telemetry::chain;

pub(super) async fn act(
    crew: &mut Crew,
    orders: &Orders,
    turn: &mut Turn,
    snapshot: &Snapshot,
    approved: ApprovedPlan,
) {
    orders.at(Activity::Migrating);
    let began = Instant::now();
    let planned = approved.moves().len();
    let context = orders.context(crew.cluster.clone(), turn.report.policy.as_ref());
    let total = Amount::of(approved.moves(), snapshot);
    orders.doing.send_modify(|doing| doing.moves.begin(total, now_ms()));
    let notify = orders.notify.clone();
    let moving = migration::execute(approved, snapshot, &context);
    let primaries = crew.primaries();
    let probing = probes::while_moving(&*context.cluster, &primaries, &notify);
    // The probes go on until the moving is over, and are dropped with it: a question dropped half-way harms nothing.
    let reports = tokio::select! { reports = moving => reports, () = probing => Vec::new() };
    turn.report.timings.migrate_ms = milliseconds(began);
    let now_ms = now_ms();
    for report in &reports {
        crew.past.note(now_ms, report);
        crew.collector.slots_moved(&report.moved);
    }
    let moved: usize = reports.iter().map(|report| report.moved.len()).sum();
    let stopped = orders.stop.is_asked();
    turn.effort = match moved {
        0 if stopped => Effort::None,
        0 => Effort::Vain,
        _ => Effort::Fruitful,
    };
    turn.report.outcome = match moved == planned {
        true => CycleOutcome::Executed,
        false => CycleOutcome::Incomplete { reason: why_incomplete(planned, moved, stopped, &reports) },
    };
    turn.report.migrations = reports;
    if moved > 0 {
        // What an earlier plan promised, these moves have changed.
        crew.promise = Promise::of(&turn.report);
    }
    keep_past(crew, orders).await;
}

/// Budgets and cool-downs outlive this process.
pub(super) async fn keep_past(crew: &Crew, orders: &Orders) {
    let (keeper, past) = (orders.keeper.clone(), crew.past.clone());
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeper.put(key::PAST, &past)).await {
        warn!(error = %chain(&error), "a restart will not know what was moved");
    }
}

fn why_incomplete(planned: usize, moved: usize, stopped: bool, reports: &[MigrationReport]) -> String {
    let stayed = reports.iter().flat_map(|report| &report.stayed).next();
    match stayed {
        Some((slot, why)) => format!("{moved} of {planned} slots moved; slot {slot} stayed: {why}"),
        None if stopped => format!("{moved} of {planned} slots moved before it was asked to stop"),
        None => format!("{moved} of {planned} slots moved; the others were not begun after one ended in doubt"),
    }
}
