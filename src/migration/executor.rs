//! Carries out an approved plan: schedules its migrations, looks at both ends of each, writes its intent down, drives it,
//! and settles what ended in doubt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::{info, warn};

use super::Context;
use super::call::{Copies, Ending, QUESTION_PATIENCE};
use super::fate;
use super::journal::Intent;
use super::machine::{Machine, drive};
use super::schedule::{Migration, Schedule};
use super::settle::{finish_if_settled, keep_reasons, settle, who_are_you};
use super::survey::{self, Objection, Route, View, common_form};
use crate::clock::now_ms;
use crate::cluster::ask;
use crate::cluster::capability::{Abilities, Capabilities};
use crate::guard::ApprovedPlan;
use crate::model::{Address, MigrationReport, NodeId, SlotSet, Snapshot, resource};

/// Carries out an approved plan, and reports on each migration in the order in which they ended.
///
/// Stops starting migrations when one ends in doubt, when the journal fails, or when asked to; what is open is closed
/// first. Dropping the future leaves slots open: [`recover`](super::recover) takes them up again.
pub async fn execute(plan: ApprovedPlan, snapshot: &Snapshot, context: &Context) -> Vec<MigrationReport> {
    let ends: BTreeMap<NodeId, Capabilities> = capabilities(&plan, snapshot, context).await;
    let form = |from: &NodeId, to: &NodeId| common_form(context.settings.protocol, ends.get(from), ends.get(to));
    let pace = context.settings.pace;
    let at_once = context.settings.concurrency.min(pace.migrations());
    let mut schedule = Schedule::new(plan.moves(), form, pace, at_once);
    let mut running = FuturesUnordered::new();
    let mut reports = Vec::new();
    loop {
        if context.stop.is_asked() {
            schedule.cancel_waiting();
        }
        while let Some(migration) = schedule.start_next() {
            running.push(run(migration, snapshot, context));
        }
        let Some((migration, report, go_on)) = running.next().await else { break };
        schedule.finished(&migration);
        reports.push(report);
        if !go_on {
            schedule.cancel_waiting();
        }
    }
    reports
}

/// What the nodes of the plan can do. A node that does not say is moved to and from in the way that all servers have.
async fn capabilities(plan: &ApprovedPlan, snapshot: &Snapshot, context: &Context) -> BTreeMap<NodeId, Capabilities> {
    let mut ends: Vec<&NodeId> = plan.moves().iter().flat_map(|step| [&step.from, &step.to]).collect();
    ends.sort_unstable();
    ends.dedup();
    let probes = ends.into_iter().filter_map(|id| {
        let address = &snapshot.primaries.get(snapshot.index_of(id)? as usize)?.address;
        Some(async move { what_can_you(address, context).await.map(|capabilities| (id.clone(), capabilities)) })
    });
    join_all(probes).await.into_iter().flatten().collect()
}

async fn what_can_you(node: &Address, context: &Context) -> Option<Capabilities> {
    ask(&*context.cluster, node, &Abilities, QUESTION_PATIENCE).await.ok()
}

/// Runs one migration to its end. The last part says whether others may begin.
async fn run(migration: Migration, snapshot: &Snapshot, context: &Context) -> (Migration, MigrationReport, bool) {
    let started = Instant::now();
    let begun = match strangers(snapshot, context).await {
        Some(objection) => Err((objection, false)),
        None => begin(&migration, snapshot, context).await.map_err(|objection| (objection, true)),
    };
    let (ending, go_on) = match begun {
        Ok((intent, route)) => carry_out(&intent, route, snapshot, context).await,
        Err((objection, go_on)) => (stayed(&migration.slots, &objection), go_on),
    };
    let report = report(&migration, &ending, snapshot, started.elapsed());
    info!(
        source = %migration.source, target = %migration.target, protocol = %report.protocol, moved = report.moved.len(),
        stayed = report.stayed.len(), keys = report.keys, ms = report.duration_ms, "migration over"
    );
    (migration, report, go_on)
}

/// Why nothing may begin: another tool moves slots, or a primary cannot say that none does. A plan takes minutes, and
/// the look that the guard had is older than every migration but the first.
async fn strangers(snapshot: &Snapshot, context: &Context) -> Option<Objection> {
    let looks = snapshot.primaries.iter().map(|primary| who_are_you(&primary.address, context));
    let views: Vec<View> = match join_all(looks).await.into_iter().collect() {
        Ok(views) => views,
        Err(silence) => return Some(format!("a primary does not answer: {silence}")),
    };
    let ours = match context.journal.unfinished() {
        Ok(intents) => intents.into_iter().map(|(_, intent)| intent).collect::<Vec<_>>(),
        Err(error) => return Some(crate::telemetry::chain(&error)),
    };
    let foreign = fate::foreign(&ours, &views).into_iter().next()?.open;
    Some(format!("slot {} is open on {}, and not by us: another tool is at work", foreign.slot, foreign.node.short()))
}

/// Looks at both ends.
async fn begin(migration: &Migration, snapshot: &Snapshot, context: &Context) -> Result<(Intent, Route), Objection> {
    let address = |id: &NodeId| {
        let primary = snapshot.index_of(id).and_then(|index| snapshot.primaries.get(index as usize));
        primary.map(|primary| &primary.address).ok_or("the snapshot does not know it")
    };
    let (source, target) = (address(&migration.source)?, address(&migration.target)?);
    // What an end can do is asked again: it may have come back with other settings since the plan began.
    let (source_view, target_view, can_source, can_target) = tokio::join!(
        who_are_you(source, context),
        who_are_you(target, context),
        what_can_you(source, context),
        what_can_you(target, context)
    );
    let (source_view, target_view) = (source_view?, target_view?);
    for (view, expected) in [(&source_view, &migration.source), (&target_view, &migration.target)] {
        if view.itself().is_none_or(|node| node.id != *expected) {
            return Err(format!("another node than {expected} answers at {}", view.address));
        }
    }
    let others = snapshot.primaries.iter().map(|primary| &primary.address);
    let others = others.filter(|address| *address != source && *address != target).cloned().collect();
    let can = (can_source.as_ref(), can_target.as_ref());
    let choice = context.settings.protocol;
    if common_form(choice, can.0, can.1) != migration.atomic {
        return Err("the ends can do something else than when the plan began".to_owned());
    }
    let route = survey::route((&source_view, &target_view), can, choice, others, Some(&migration.slots))?;
    let intent = Intent {
        source: migration.source.clone(),
        target: migration.target.clone(),
        source_shard: source_view.shard(),
        target_shard: target_view.shard(),
        source_epoch: source_view.itself().map_or(0, |node| node.config_epoch),
        source_run_id: source_view.run_id,
        slots: migration.slots.clone(),
        protocol: protocol_of(migration).to_owned(),
        started_at_ms: now_ms(),
    };
    Ok((intent, route))
}

/// Writes the intent down, drives its machine, and settles what is in doubt then.
async fn carry_out(intent: &Intent, route: Route, snapshot: &Snapshot, context: &Context) -> (Ending, bool) {
    // Synchronous on purpose: no moment exists in which we were cancelled and the intent is yet to be written.
    let id = match context.journal.begin(intent) {
        Ok(id) => id,
        Err(error) => return (stayed(&intent.slots, &crate::telemetry::chain(&error)), false),
    };
    let machine = Machine::new(intent, route, context, Copies::None);
    let mut ending = match machine {
        Some(machine) => drive(machine, intent, context).await,
        None => stayed(&intent.slots, "the ends share no form of atomic migration any more"),
    };
    if !ending.unsettled.is_empty() {
        warn!(slots = %intent.slots, reason = %ending.unsettled[0].1, "migration ended in doubt; asking the cluster");
        let addresses: Vec<Address> = snapshot.primaries.iter().map(|primary| primary.address.clone()).collect();
        let first = std::mem::take(&mut ending);
        ending = settle(intent, &addresses, first.collided, context).await;
        ending.keys += first.keys;
        keep_reasons(&mut ending, &first.stayed.into_iter().collect());
    }
    finish_if_settled(context, id, &ending);
    let go_on = ending.unsettled.is_empty();
    (ending, go_on)
}

fn stayed(slots: &SlotSet, reason: &str) -> Ending {
    Ending { stayed: slots.iter().map(|slot| (slot, reason.to_owned())).collect(), ..Ending::default() }
}

fn protocol_of(migration: &Migration) -> &'static str {
    if migration.atomic.is_none() { "classic" } else { "atomic" }
}

fn report(migration: &Migration, ending: &Ending, snapshot: &Snapshot, took: Duration) -> MigrationReport {
    let sum = |name: &str, slots: &SlotSet| -> u64 {
        let column = snapshot.slot_column(name);
        let total: f64 = column.map_or(0.0, |column| slots.iter().map(|slot| column[slot.index()]).sum());
        total.max(0.0) as u64
    };
    let mut stayed = ending.stayed.clone();
    stayed.extend(ending.unsettled.iter().cloned());
    MigrationReport {
        source: migration.source.clone(),
        target: migration.target.clone(),
        protocol: protocol_of(migration).to_owned(),
        // The atomic protocols do not count keys.
        keys: if migration.atomic.is_none() { ending.keys } else { sum(resource::KEYS, &ending.moved) },
        bytes: sum(resource::BYTES, &ending.moved),
        moved: ending.moved.clone(),
        stayed,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
