//! Carries out an approved plan: schedules its migrations, looks at both ends of each, writes its intent down, drives it,
//! and settles what ended in doubt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::{info, warn};

use super::call::{Copies, Ending, QUESTION_PATIENCE};
use super::governor::Governor;
use super::journal::Intent;
use super::machine::{Load, Machine, drive};
use super::pace::guess;
use super::schedule::{Cargo, Migration, Schedule};
use super::settle::{finish_if_settled, keep_reasons, settle, who_are_you};
use super::survey::{self, Objection, Route, common_form};
use super::{Context, Pace};
use crate::clock::now_ms;
use crate::cluster::ask;
use crate::cluster::capability::{Abilities, Capabilities};
use crate::guard::ApprovedPlan;
use crate::model::{Address, MigrationReport, NodeId, PaceReport, SlotId, SlotSet, Snapshot, resource};

/// A key whose size nobody knows is taken for one of so many bytes.
const COMMON_KEY_BYTES: u64 = 200;

/// Carries out an approved plan, and reports on each migration in the order in which they ended.
///
/// Stops starting migrations when one ends in doubt, when the journal fails, or when asked to; what is open is closed
/// first. Dropping the future leaves slots open: [`recover`](super::recover) takes them up again.
pub async fn execute(plan: ApprovedPlan, snapshot: &Snapshot, context: &Context) -> Vec<MigrationReport> {
    let nodes = nodes(&plan, snapshot);
    let addresses: Vec<Address> = nodes.iter().map(|(_, address)| address.clone()).collect();
    let governor = Governor::new(context);
    governor.feel_quiet(&addresses, context).await;
    let work = carry_out_all(&plan, &nodes, snapshot, &governor, context);
    // Feeling the pulse goes on until the work is over, and is dropped with it: a question dropped half-way harms nothing.
    tokio::select! { reports = work => reports, () = governor.feel(&addresses, context) => Vec::new() }
}

/// The ends of a plan's moves, and where they are.
fn nodes(plan: &ApprovedPlan, snapshot: &Snapshot) -> BTreeMap<NodeId, Address> {
    let ends = plan.moves().iter().flat_map(|step| [&step.from, &step.to]);
    let known = |id: &NodeId| snapshot.primaries.get(snapshot.index_of(id)? as usize);
    ends.filter_map(|id| Some((id.clone(), known(id)?.address.clone()))).collect()
}

/// What comes to an end while a plan is carried out.
enum Done {
    /// A migration. The last part says whether others may begin.
    Moved(Migration, MigrationReport, bool),
    /// The rest of its nodes after it.
    Rested(Migration),
}

async fn carry_out_all(
    plan: &ApprovedPlan,
    nodes: &BTreeMap<NodeId, Address>,
    snapshot: &Snapshot,
    governor: &Governor,
    context: &Context,
) -> Vec<MigrationReport> {
    let ends = capabilities(nodes, context).await;
    let form = |from: &NodeId, to: &NodeId| common_form(context.settings.protocol, ends.get(from), ends.get(to));
    let pace = context.settings.pace;
    let at_once = context.settings.concurrency.min(pace.migrations());
    let mut schedule = Schedule::new(plan.moves(), form, |slot| cargo(slot, snapshot), pace, at_once);
    let mut running: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
    let mut reports = Vec::new();
    loop {
        if context.stop.is_asked() {
            schedule.cancel_waiting();
        }
        while let Some(migration) = schedule.start_next(governor.portion()) {
            running.push(run(migration, snapshot, governor, context).boxed());
        }
        match running.next().await {
            None => return reports,
            Some(Done::Rested(migration)) => schedule.finished(&migration),
            Some(Done::Moved(migration, report, go_on)) => {
                if !go_on {
                    schedule.cancel_waiting();
                }
                match rest_after(&migration, &report, governor).filter(|_| schedule.is_waiting()) {
                    Some(rest) => running.push(rest_then(rest, migration).boxed()),
                    None => schedule.finished(&migration),
                }
                reports.push(report);
            }
        }
    }
}

/// How long the ends of an atomic migration are left to their clients after it: a classic one rests by itself.
fn rest_after(migration: &Migration, report: &MigrationReport, governor: &Governor) -> Option<Duration> {
    migration.atomic?;
    let busy = Duration::from_millis(report.duration_ms);
    let rest = governor.allowance().rest_after(busy).max(governor.take(report.bytes));
    (!rest.is_zero()).then_some(rest)
}

async fn rest_then(rest: Duration, migration: Migration) -> Done {
    tokio::time::sleep(rest).await;
    Done::Rested(migration)
}

/// What is in a slot, as the plan saw it; of what was not seen, nothing.
fn cargo(slot: SlotId, snapshot: &Snapshot) -> Cargo {
    let of = |name: &str| {
        let value = snapshot.slot_column(name).map_or(0.0, |column| column[slot.index()]);
        if value.is_finite() { value.max(0.0) } else { 0.0 }
    };
    Cargo { slot, keys: of(resource::KEYS), bytes: of(resource::BYTES) }
}

/// What the nodes of the plan can do. A node that does not say is moved to and from in the way that all servers have.
async fn capabilities(nodes: &BTreeMap<NodeId, Address>, context: &Context) -> BTreeMap<NodeId, Capabilities> {
    let probe = |(id, address): (&NodeId, &Address)| {
        let (id, address) = (id.clone(), address.clone());
        async move { what_can_you(&address, context).await.map(|capabilities| (id, capabilities)) }
    };
    join_all(nodes.iter().map(probe)).await.into_iter().flatten().collect()
}

async fn what_can_you(node: &Address, context: &Context) -> Option<Capabilities> {
    ask(&*context.cluster, node, &Abilities, QUESTION_PATIENCE).await.ok()
}

/// Runs one migration to its end.
async fn run(migration: Migration, snapshot: &Snapshot, governor: &Governor, context: &Context) -> Done {
    let started = Instant::now();
    let before = governor.report();
    let (ending, go_on) = match begin(&migration, snapshot, governor, context).await {
        Ok((intent, route)) => {
            let load = load(&migration, context.settings.pace, context.settings.max_block_ms, snapshot);
            carry_out(&intent, route, &load, snapshot, governor, context).await
        }
        Err(objection) => (stayed(&migration.slots, &objection), true),
    };
    let pace = governor.report().since(&before);
    let report = report(&migration, &ending, snapshot, started.elapsed(), pace);
    info!(
        source = %migration.source, target = %migration.target, protocol = %report.protocol, moved = report.moved.len(),
        stayed = report.stayed.len(), keys = report.keys, ms = report.duration_ms, share = report.pace.share,
        "migration over"
    );
    Done::Moved(migration, report, go_on)
}

/// What is known of the keys of a migration.
///
/// A large key is found by weighing all of its slot, which costs a tenth of moving them. At a fast pace only those slots are
/// weighed that as a whole, as far as the plan knows, are larger than a key may be.
fn load(migration: &Migration, pace: Pace, max_block_ms: u64, snapshot: &Snapshot) -> Load {
    let cargo: Vec<Cargo> = migration.slots.iter().map(|slot| cargo(slot, snapshot)).collect();
    let (keys, bytes) = cargo.iter().fold((0.0, 0.0), |sum, slot| (sum.0 + slot.keys, sum.1 + slot.bytes));
    let too_large = |slot: &&Cargo| guess(slot.bytes as u64) > Duration::from_millis(max_block_ms);
    let weigh = cargo.iter().filter(|slot| pace != Pace::Fast || too_large(slot)).map(|slot| slot.slot);
    let mean_bytes = if keys > 0.0 && bytes > 0.0 { (bytes / keys) as u64 } else { COMMON_KEY_BYTES };
    Load { mean_bytes, weigh: weigh.collect() }
}

/// Looks at both ends.
async fn begin(
    migration: &Migration,
    snapshot: &Snapshot,
    governor: &Governor,
    context: &Context,
) -> Result<(Intent, Route), Objection> {
    let address = |id: &NodeId| {
        let primary = snapshot.index_of(id).and_then(|index| snapshot.primaries.get(index as usize));
        primary.map(|primary| &primary.address).ok_or("the snapshot does not know it")
    };
    let (source, target) = (address(&migration.source)?, address(&migration.target)?);
    if let Some(objection) = governor.objection_to(target) {
        return Err(objection);
    }
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
async fn carry_out(
    intent: &Intent,
    route: Route,
    load: &Load,
    snapshot: &Snapshot,
    governor: &Governor,
    context: &Context,
) -> (Ending, bool) {
    // Synchronous on purpose: no moment exists in which we were cancelled and the intent is yet to be written.
    let id = match context.journal.begin(intent) {
        Ok(id) => id,
        Err(error) => return (stayed(&intent.slots, &crate::telemetry::chain(&error)), false),
    };
    let target = route.target.address.clone();
    let machine = Machine::new(intent, route, load, context, Copies::None);
    let mut ending = match machine {
        Some(machine) => drive(machine, intent, &target, governor, context).await,
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

fn report(
    migration: &Migration,
    ending: &Ending,
    snapshot: &Snapshot,
    took: Duration,
    pace: PaceReport,
) -> MigrationReport {
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
        pace,
    }
}
