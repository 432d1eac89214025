//! Carries out an approved plan: schedules its migrations, looks at both ends of each, writes its intent down, drives it,
//! and settles what ended in doubt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::{info, warn};

use super::Context;
use super::call::{Copies, Ending, QUESTION_PATIENCE};
use super::journal::Intent;
use super::machine::{Machine, drive};
use super::progress::Weights;
use super::schedule::{Migration, Schedule};
use super::settle::{finish_if_settled, keep_reasons, settle, who_are_you};
use super::stop::Wish;
use super::survey::{self, Objection, Route, common_form};
use crate::clock::now_ms;
use crate::cluster::ask;
use crate::cluster::capability::{Abilities, Capabilities};
use crate::guard::ApprovedPlan;
use crate::model::{Address, MigrationReport, NodeId, SlotSet, Snapshot, resource};

/// Carries out an approved plan, and reports on each migration in the order in which they ended.
///
/// Stops starting migrations when one ends in doubt, when the journal fails, or when asked to stop or, for as long as it
/// lasts, to hold; what is open is closed first. Dropping the future leaves slots open: [`recover`](super::recover) takes them up again.
pub async fn execute(plan: ApprovedPlan, snapshot: &Snapshot, context: &Context) -> Vec<MigrationReport> {
    let ends: BTreeMap<NodeId, Capabilities> = capabilities(&plan, snapshot, context).await;
    let form = |from: &NodeId, to: &NodeId| common_form(context.settings.protocol, ends.get(from), ends.get(to));
    let pace = context.settings.pace;
    let at_once = context.settings.concurrency.min(pace.migrations());
    let mut schedule = Schedule::new(plan.moves(), form, pace, at_once);
    let mut running = FuturesUnordered::new();
    let mut reports = Vec::new();
    loop {
        match context.stop.wish() {
            // However long it lasts: each migration looks at both ends anew before it begins.
            Wish::Hold if running.is_empty() && schedule.has_waiting() => {
                context.stop.gate().await;
                continue;
            }
            Wish::Hold => {}
            Wish::Stop => drop(schedule.cancel_waiting()),
            Wish::Run => {
                while let Some(migration) = schedule.start_next() {
                    let why = reason(&plan, &migration.slots);
                    running.push(run(migration, why, snapshot, context));
                }
            }
        }
        let Some((migration, report, left)) = running.next().await else { break };
        schedule.finished(&migration);
        reports.push(report);
        match left {
            Some(slots) if slots.is_empty() => {}
            Some(slots) => schedule.put_back(Migration { slots, ..migration }),
            None => drop(schedule.cancel_waiting()),
        }
    }
    reports
}

/// Reasons of a migration that are named; its slots may have as many.
const MOST_REASONS: usize = 3;

/// Why `slots` are moved, in the words of the plan.
fn reason(plan: &ApprovedPlan, slots: &SlotSet) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for step in plan.moves().iter().filter(|step| slots.contains(step.slot)) {
        if !reasons.contains(&step.reason.as_str()) {
            reasons.push(&step.reason);
        }
        if reasons.len() > MOST_REASONS {
            reasons[MOST_REASONS] = "and others";
            break;
        }
    }
    reasons.join("; ")
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

/// Runs one migration to its end. The last part is what a hold left of it, or nothing if no other may begin.
async fn run(
    migration: Migration,
    why: String,
    snapshot: &Snapshot,
    context: &Context,
) -> (Migration, MigrationReport, Option<SlotSet>) {
    let started = Instant::now();
    let (mut ending, go_on) = match begin(&migration, why, snapshot, context).await {
        Ok((intent, route)) => carry_out(&intent, route, snapshot, context).await,
        Err(objection) => (stayed(&migration.slots, &objection), true),
    };
    let left = std::mem::take(&mut ending.unopened);
    // Whatever was asked for meanwhile: those that are put back meet it when their turn comes.
    let put_back = if context.stop.is_asked() || !go_on { SlotSet::default() } else { left.clone() };
    if put_back.is_empty() {
        ending.stayed.extend(left.iter().map(|slot| (slot, "stopped before it was opened".to_owned())));
    }
    let report = report(&migration, &ending, snapshot, started.elapsed());
    info!(
        source = %migration.source, target = %migration.target, protocol = %report.protocol, moved = report.moved.len(),
        stayed = report.stayed.len(), keys = report.keys, ms = report.duration_ms, "migration over"
    );
    (migration, report, go_on.then_some(put_back))
}

/// Looks at both ends.
async fn begin(
    migration: &Migration,
    why: String,
    snapshot: &Snapshot,
    context: &Context,
) -> Result<(Intent, Route), Objection> {
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
        protocol: migration.protocol(),
        started_at_ms: now_ms(),
        began_by: context.began_by.clone(),
        reason: why,
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
    let weights = Weights::of(snapshot);
    let machine = Machine::new(intent, route, context, Copies::None);
    let mut ending = match machine {
        Some(machine) => drive(machine, intent, &weights, context).await,
        None => stayed(&intent.slots, "the ends share no form of atomic migration any more"),
    };
    if !ending.unsettled.is_empty() {
        warn!(slots = %intent.slots, reason = %ending.unsettled[0].1, "migration ended in doubt; asking the cluster");
        let addresses: Vec<Address> = snapshot.primaries.iter().map(|primary| primary.address.clone()).collect();
        let first = std::mem::take(&mut ending);
        ending = settle(intent, &addresses, first.collided, (&weights, now_ms()), context).await;
        ending.keys += first.keys;
        let stayed = std::mem::take(&mut ending.stayed);
        let (unopened, stayed): (Vec<_>, _) = stayed.into_iter().partition(|(slot, _)| first.unopened.contains(*slot));
        (ending.unopened, ending.stayed) = (unopened.into_iter().map(|(slot, _)| slot).collect(), stayed);
        keep_reasons(&mut ending, &first.stayed.into_iter().collect());
    }
    finish_if_settled(context, id, &ending);
    let go_on = ending.unsettled.is_empty();
    (ending, go_on)
}

fn stayed(slots: &SlotSet, reason: &str) -> Ending {
    Ending { stayed: slots.iter().map(|slot| (slot, reason.to_owned())).collect(), ..Ending::default() }
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
        protocol: migration.protocol(),
        // The atomic protocols do not count keys.
        keys: if migration.atomic.is_none() { ending.keys } else { sum(resource::KEYS, &ending.moved) },
        bytes: sum(resource::BYTES, &ending.moved),
        moved: ending.moved.clone(),
        stayed,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
