//! Carries out an approved plan: schedules its migrations, looks at both ends of each, writes its intent down, drives it,
//! and settles what ended in doubt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;
use tracing::{info, warn};

use super::call::{Cause, Copies, Ending, QUESTION_PATIENCE, Rest};
use super::fate;
use super::functions::{self, FunctionList};
use super::governor::Governor;
use super::journal::Intent;
use super::machine::{Driver, Load, Machine};
use super::pace::{Freight, guess};
use super::progress::Weights;
use super::schedule::{Cargo, Migration, Schedule};
use super::settle::{finish_if_settled, settle, who_are_you};
use super::stop::{Stop, Wish};
use super::survey::{self, Objection, Route, View, common_form};
use super::{Context, Pace, home};
use crate::clock::now_ms;
use crate::cluster::capability::{Abilities, Capabilities};
use crate::cluster::question::AtomicProtocol;
use crate::cluster::{AskError, ask};
use crate::guard::ApprovedPlan;
use crate::model::{Address, MigrationReport, NodeId, PaceReport, Replica, SlotId, SlotSet, Snapshot};

/// A key whose size nobody knows is taken for one of so many bytes.
const COMMON_KEY_BYTES: u64 = 200;

/// Carries out an approved plan, and reports on each migration in the order in which they ended.
///
/// Stops starting migrations when one ends in doubt, when the journal fails, or when asked to stop or, for as long as it
/// lasts, to hold; what is open is closed first. Dropping the future leaves slots open: [`recover`](super::recover) takes them up again.
pub async fn execute(plan: ApprovedPlan, snapshot: &Snapshot, context: &Context) -> Vec<MigrationReport> {
    let nodes = nodes(&plan, snapshot);
    let addresses: Vec<Address> = nodes.values().cloned().collect();
    let governor = Governor::new(context);
    governor.feel_quiet(&addresses, context).await;
    let weights = Weights::of(snapshot);
    let work = carry_out_all(&plan, &nodes, snapshot, Driver { weights: &weights, governor: &governor, context });
    // Feeling the pulse goes on until the work is over, and is dropped with it: a question dropped half-way harms nothing.
    tokio::select! { reports = work => reports, () = governor.feel(&addresses, context) => Vec::new() }
}

/// The ends of a plan's moves, and where they are.
fn nodes(plan: &ApprovedPlan, snapshot: &Snapshot) -> BTreeMap<NodeId, Address> {
    let ends = plan.moves().iter().flat_map(|step| [&step.from, &step.to]);
    snapshot.addresses(ends)
}

/// What comes to an end while a plan is carried out.
enum Done {
    /// A migration.
    Moved {
        migration: Migration,
        report: Box<MigrationReport>,
        /// What a hold left of it, or nothing if no other may begin.
        left: Option<SlotSet>,
        /// Of the pace, when it began.
        share: f64,
    },
    /// The rest of its nodes after it.
    Rested(Migration),
}

async fn carry_out_all(
    plan: &ApprovedPlan,
    nodes: &BTreeMap<NodeId, Address>,
    snapshot: &Snapshot,
    driver: Driver<'_>,
) -> Vec<MigrationReport> {
    let context = driver.context;
    let cargo = |slot| cargo(slot, driver.weights);
    let ends = capabilities(nodes, context).await;
    let form = |from: &NodeId, to: &NodeId| common_form(context.settings.protocol, ends.get(from), ends.get(to));
    let pace = context.settings.pace;
    let at_once = context.settings.concurrency.min(pace.migrations());
    let mut schedule = Schedule::new(plan.moves(), form, cargo, pace, at_once);
    let mut running: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
    let mut reports = Vec::new();
    loop {
        match context.stop.wish() {
            // However long it lasts: each migration looks at both ends anew before it begins.
            Wish::Hold if running.is_empty() && schedule.is_waiting() => {
                context.stop.gate().await;
                continue;
            }
            Wish::Hold => {}
            Wish::Stop => schedule.cancel_waiting(),
            Wish::Run => {
                while let Some(migration) = schedule.start_next(|source| driver.governor.portion(nodes.get(source))) {
                    let why = reason(plan, &migration.slots);
                    running.push(run(migration, why, snapshot, driver).boxed());
                }
            }
        }
        match running.next().await {
            None => return reports,
            Some(Done::Rested(migration)) => schedule.finished(&migration),
            Some(Done::Moved { migration, report, left, share }) => {
                match left {
                    Some(slots) if slots.is_empty() => {}
                    Some(slots) => schedule.put_back(Migration { slots, ..migration.clone() }, cargo),
                    None => schedule.cancel_waiting(),
                }
                let again = schedule.waits_for(&migration.source);
                let rest = rest_after(&migration, (&report, share, again), nodes, driver.governor);
                match rest.filter(|_| schedule.is_waiting()) {
                    Some(rest) => running.push(rest_then(rest, migration, &context.stop).boxed()),
                    None => schedule.finished(&migration),
                }
                reports.push(*report);
            }
        }
    }
}

/// How long the source of an atomic migration is left to its clients after it, if it is to give more (`again`): a classic one
/// rests by itself. A bandwidth that is overdrawn is waited for in any case.
#[allow(clippy::cast_precision_loss, reason = "a rest need not be exact")]
fn rest_after(
    migration: &Migration,
    (report, share, again): (&MigrationReport, f64, bool),
    nodes: &BTreeMap<NodeId, Address>,
    governor: &Governor,
) -> Option<Duration> {
    let form = migration.atomic?;
    let source = nodes.get(&migration.source).filter(|_| again);
    let freight = Freight { slots: report.moved.len(), keys: report.keys as f64, bytes: report.bytes as f64 };
    let before = (Duration::from_millis(report.duration_ms), share);
    let portion = source.map(|source| governor.rest_after_portion(source, form, freight, before)).unwrap_or_default();
    let bandwidth = governor.take(report.bytes);
    let cause = if bandwidth > portion { Cause::Bandwidth } else { Cause::Portion };
    let duration = portion.max(bandwidth);
    if duration.is_zero() {
        return None;
    }
    governor.hear_rest(Rest { duration, cause });
    Some(duration)
}

/// Rests, unless something else is wanted: nothing is open meanwhile. What is left of the rest then is forgiven.
async fn rest_then(rest: Duration, migration: Migration, stop: &Stop) -> Done {
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        () = stop.asked() => {}
    }
    Done::Rested(migration)
}

/// What is in a slot, as the plan saw it; of what was not seen, nothing.
#[allow(clippy::cast_precision_loss, reason = "a portion need not be exact")]
fn cargo(slot: SlotId, weights: &Weights) -> Cargo {
    let number = |known: Option<u64>| known.unwrap_or(0) as f64;
    Cargo { slot, keys: number(weights.keys([&slot])), bytes: number(weights.bytes([&slot])) }
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
async fn run(migration: Migration, why: String, snapshot: &Snapshot, driver: Driver<'_>) -> Done {
    let Driver { weights, governor, context } = driver;
    let started = Instant::now();
    let before = governor.report();
    let begun = match look_for_strangers(snapshot, context).await {
        Err(objection) => Err((objection, false)),
        Ok(views) => begin(&migration, why, (snapshot, &views), driver).await.map_err(|objection| (objection, true)),
    };
    let (mut ending, go_on) = match begun {
        Ok((intent, route)) => {
            let (mut ending, go_on) = carry_out(&intent, route, snapshot, driver).await;
            let left_out = migration.slots.iter().filter(|slot| !intent.slots.contains(*slot));
            ending.stayed.extend(left_out.map(|slot| (slot, STRAYS.to_owned())));
            (ending, go_on)
        }
        Err((objection, go_on)) => (stayed(&migration.slots, &objection), go_on),
    };
    let left = std::mem::take(&mut ending.unopened);
    // Whatever was asked for meanwhile: those that are put back meet it when their turn comes.
    let put_back = if context.stop.is_asked() || !go_on { SlotSet::default() } else { left.clone() };
    if put_back.is_empty() {
        ending.stayed.extend(left.iter().map(|slot| (slot, MigrationReport::STOPPED.to_owned())));
    }
    let report = report(&migration, &ending, weights, started.elapsed(), governor.report().since(&before));
    info!(
        source = %migration.source, target = %migration.target, protocol = %report.protocol, moved = report.moved.len(),
        stayed = report.stayed.len(), keys = report.keys, ms = report.duration_ms, share = report.pace.share,
        "migration over"
    );
    Done::Moved { migration, report: Box::new(report), left: go_on.then_some(put_back), share: before.share }
}

/// What is known of the keys of a migration.
///
/// A large key is found by weighing all of its slot, which costs a tenth of moving them. At a fast pace only those slots are
/// weighed that as a whole, as far as the plan knows, are larger than a key may be.
fn load(slots: &SlotSet, driver: Driver<'_>) -> Load {
    let settings = &driver.context.settings;
    let slots: Vec<SlotId> = slots.iter().collect();
    let (keys, bytes) = (driver.weights.keys(&slots), driver.weights.bytes(&slots));
    let mean_bytes = match (keys, bytes) {
        (Some(keys @ 1..), Some(bytes @ 1..)) => bytes / keys,
        _ => COMMON_KEY_BYTES,
    };
    let most = Duration::from_millis(settings.max_block_ms);
    // Of what was not seen, the worst is assumed.
    let too_large = |slot: &SlotId| driver.weights.bytes([slot]).is_none_or(|bytes| guess(bytes) > most);
    let weigh = slots.into_iter().filter(|slot| settings.pace != Pace::Fast || too_large(slot)).collect();
    Load { mean_bytes, weigh }
}

/// A former end that is in trouble holds no migration up.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// What the primaries say now, in the order of the snapshot, and after them what other ends of unfinished migrations say; or why
/// nothing may begin: another tool moves slots, or a primary cannot say that none does. A plan takes minutes, and the look that the
/// guard had is older than every migration but the first.
async fn look_for_strangers(snapshot: &Snapshot, context: &Context) -> Result<Vec<View>, Objection> {
    // What was ours before we looked may be over since, and what we began since is ours as well: other lanes go on meanwhile.
    let ours = || context.journal.unfinished().map_err(|error| crate::telemetry::chain(&error));
    let before: Vec<Intent> = ours()?.into_iter().map(|(_, intent)| intent).collect();
    let looks = snapshot.primaries.iter().map(|primary| who_are_you(&primary.address, context));
    // An end that was succeeded tells by whom: its heir's flags are ours. Who does not answer soon says nothing.
    let is_an_end =
        |replica: &&Replica| before.iter().any(|intent| [&intent.source, &intent.target].contains(&&replica.id));
    let succeeded = snapshot.replicas.iter().filter(is_an_end);
    let succeeded = succeeded.map(|replica| timeout(END_PATIENCE, who_are_you(&replica.address, context)));
    let (views, succeeded) = tokio::join!(join_all(looks), join_all(succeeded));
    let views: Result<Vec<View>, String> = views.into_iter().collect();
    let mut views = views.map_err(|silence| format!("a primary does not answer: {silence}"))?;
    views.extend(succeeded.into_iter().flatten().flatten());
    let ours: Vec<Intent> = before.iter().cloned().chain(ours()?.into_iter().map(|(_, intent)| intent)).collect();
    match fate::foreign(&ours, &views).first().map(|foreign| &foreign.open) {
        None => Ok(views),
        Some(open) => {
            Err(format!("slot {} is open on {}, and not by us: another tool is at work", open.slot, open.node.short()))
        }
    }
}

/// Sees whether both ends, as they were just seen, may begin. `views` are in the order of the snapshot.
async fn begin(
    migration: &Migration,
    why: String,
    (snapshot, views): (&Snapshot, &[View]),
    driver: Driver<'_>,
) -> Result<(Intent, Route), Objection> {
    let context = driver.context;
    let view_of = |id: &NodeId| {
        let view = snapshot.index_of(id).and_then(|index| views.get(index as usize));
        view.ok_or("the snapshot does not know it")
    };
    let (source_view, target_view) = (view_of(&migration.source)?, view_of(&migration.target)?);
    let (source, target) = (&source_view.address, &target_view.address);
    if let Some(objection) = driver.governor.objection_to(target) {
        return Err(objection);
    }
    // What an end can do is asked again: it may have come back with other settings since the plan began.
    let (can_source, can_target) = tokio::join!(what_can_you(source, context), what_can_you(target, context));
    for (view, expected) in [(source_view, &migration.source), (target_view, &migration.target)] {
        if view.itself().is_none_or(|node| node.id != *expected) {
            return Err(format!("another node than {expected} answers at {}", view.address));
        }
    }
    let can = (can_source.as_ref(), can_target.as_ref());
    let choice = context.settings.protocol;
    if common_form(choice, can.0, can.1) != migration.atomic {
        return Err("the ends can do something else than when the plan began".to_owned());
    }
    let route = survey::route((source_view, target_view), can, choice, Some(&migration.slots))?;
    if route.atomic != Some(AtomicProtocol::RedisMigrationImport) {
        compare_functions(source, target, context).await?;
    }
    let slots = without_strays(&migration.slots, &route, context).await?;
    let intent = Intent {
        source: migration.source.clone(),
        target: migration.target.clone(),
        source_shard: source_view.shard(),
        target_shard: target_view.shard(),
        source_epoch: source_view.itself().map_or(0, |node| node.config_epoch),
        source_run_id: source_view.run_id.clone(),
        slots,
        protocol: migration.protocol(),
        started_at_ms: now_ms(),
        began_by: context.began_by.clone(),
        reason: why,
    };
    Ok((intent, route))
}

/// Why a slot stays of which the target holds keys already.
const STRAYS: &str = "the target holds stray keys of it: see `ballast check`";

/// Those of `slots` of which a classic migration's target holds no key: what it holds later came after the intent was noted. (Keys in slots
/// that it neither owns nor imports Redis hides from 8.4 on.)
async fn without_strays(slots: &SlotSet, route: &Route, context: &Context) -> Result<SlotSet, Objection> {
    if route.atomic.is_some() {
        return Ok(slots.clone());
    }
    let list: Vec<SlotId> = slots.iter().collect();
    let held = home::holding(&*context.cluster, &route.target.address, &list, route.databases).await;
    let held = held.map_err(|why| format!("the target did not count its keys: {why}"))?;
    let vacant: SlotSet = list.into_iter().filter(|slot| !held.contains(*slot)).collect();
    if vacant.is_empty() { Err(STRAYS.to_owned()) } else { Ok(vacant) }
}

/// Sees that functions which are called at the source can be called at the target.
async fn compare_functions(source: &Address, target: &Address, context: &Context) -> Result<(), Objection> {
    let list = |node| ask(&*context.cluster, node, &FunctionList, QUESTION_PATIENCE);
    let (at_source, at_target) = tokio::join!(list(source), list(target));
    let unknown =
        |error: AskError| format!("which functions a node has is not known: {}", crate::telemetry::chain(&error));
    functions::check(&at_source.map_err(unknown)?, &at_target.map_err(unknown)?)
}

/// Writes the intent down, drives its machine, and settles what is in doubt then.
async fn carry_out(intent: &Intent, route: Route, snapshot: &Snapshot, driver: Driver<'_>) -> (Ending, bool) {
    let context = driver.context;
    // Synchronous on purpose: no moment exists in which we were cancelled and the intent is yet to be written.
    let id = match context.journal.begin(intent) {
        Ok(id) => id,
        Err(error) => return (stayed(&intent.slots, &crate::telemetry::chain(&error)), false),
    };
    let target = route.target.address.clone();
    let machine = Machine::new(intent, route, &load(&intent.slots, driver), context, Copies::None);
    let mut ending = match machine {
        Some(machine) => driver.drive(machine, intent, &target).await,
        None => stayed(&intent.slots, "the ends share no form of atomic migration any more"),
    };
    if !ending.unsettled.is_empty() {
        warn!(slots = %intent.slots, reason = %ending.unsettled[0].1, "migration ended in doubt; asking the cluster");
        let addresses: Vec<Address> = snapshot.primaries.iter().map(|primary| primary.address.clone()).collect();
        // Of what is known to have stayed nothing is asked: what the target holds of it is not ours.
        let first = std::mem::take(&mut ending);
        let known: SlotSet = first.stayed.iter().map(|(slot, _)| *slot).chain(first.unopened.iter()).collect();
        let slots = intent.slots.iter().filter(|slot| !known.contains(*slot)).collect();
        let doubtful = Intent { slots, ..intent.clone() };
        ending = settle(&doubtful, &addresses, first.collided, (driver.weights, now_ms()), context).await;
        // That it did not move, the cluster says; why, whoever tried.
        let doubts: BTreeMap<SlotId, String> = first.unsettled.into_iter().collect();
        for (slot, reason) in ending.stayed.iter_mut().filter(|(_, reason)| reason == fate::NOT_MOVED) {
            if let Some(doubt) = doubts.get(slot) {
                *reason = format!("{}: {doubt}", fate::NOT_MOVED);
            }
        }
        ending.keys += first.keys;
        ending.stayed.extend(first.stayed);
        ending.unopened = first.unopened;
    }
    finish_if_settled(context, id, &ending);
    let go_on = ending.unsettled.is_empty();
    (ending, go_on)
}

fn stayed(slots: &SlotSet, reason: &str) -> Ending {
    Ending { stayed: slots.iter().map(|slot| (slot, reason.to_owned())).collect(), ..Ending::default() }
}

fn report(
    migration: &Migration,
    ending: &Ending,
    weights: &Weights,
    took: Duration,
    pace: PaceReport,
) -> MigrationReport {
    let moved: Vec<SlotId> = ending.moved.iter().collect();
    let mut stayed = ending.stayed.clone();
    stayed.extend(ending.unsettled.iter().cloned());
    MigrationReport {
        source: migration.source.clone(),
        target: migration.target.clone(),
        protocol: migration.protocol(),
        // The atomic protocols do not count keys.
        keys: if migration.atomic.is_none() { ending.keys } else { weights.keys(&moved).unwrap_or(0) },
        bytes: weights.bytes(&moved).unwrap_or(0),
        moved: ending.moved.clone(),
        stayed,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        pace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rest_between_portions_ends_with_the_wish_to_go_on() {
        let migration = Migration {
            source: "a".repeat(40).parse().expect("a name"),
            target: "b".repeat(40).parse().expect("a name"),
            slots: SlotSet::default(),
            atomic: Some(AtomicProtocol::ValkeyMigrateSlots),
        };
        let minute = Duration::from_secs(60);
        let (handle, stop) = Stop::new();
        let began = tokio::time::Instant::now();
        rest_then(minute, migration.clone(), &stop).await;
        assert_eq!(began.elapsed(), minute, "nobody wants anything else");
        handle.hold();
        rest_then(minute, migration.clone(), &stop).await;
        handle.stop();
        drop(handle);
        rest_then(minute, migration.clone(), &stop).await;
        assert_eq!(began.elapsed(), minute);
        rest_then(minute, migration, &Stop::never()).await;
        assert_eq!(began.elapsed(), minute * 2);
    }
}
