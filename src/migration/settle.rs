//! Brings interrupted migrations to an end: looks at the cluster, acts by each slot's `Fate`, and looks again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::{info, warn};

use super::call::{Copies, Ending, QUESTION_PATIENCE};
use super::fate::{self, Fate, Inquiry, Jobs, NOT_MOVED, Recovery};
use super::governor::Governor;
use super::inquiry::{self, Word};
use super::journal::{Intent, IntentId, JournalError};
use super::machine::{Driver, Load, Machine};
use super::progress::{SETTLE, Teller, Weights};
use super::survey::{self, Route, View, WhoAreYou, view_of};
use super::{Context, ProtocolChoice, wording};
use crate::cluster::capability::Abilities;
use crate::cluster::question::{AtomicJobs, AtomicProtocol};
use crate::cluster::{AskError, Lane, ReplyError, ask};
use crate::model::{Address, NodeId, NodeRecord, Protocol, SlotId, SlotSet};

/// Between two looks at a cluster that is failing over: elections take a second or two.
const SETTLE_PAUSE: Duration = Duration::from_millis(300);

/// Brings every unfinished migration of our journal to its end, as far as the cluster allows, and names open slots that
/// are not ours. `addresses` are nodes that may answer; they tell of the others.
///
/// # Errors
/// When the journal cannot be read. A cluster that cannot be asked is not an error: its slots are held.
pub async fn recover(addresses: &[Address], context: &Context) -> Result<Recovery, JournalError> {
    let intents = context.journal.unfinished()?;
    let mut recovery = Recovery::default();
    let (mut settled, mut moved) = (Vec::new(), Vec::new());
    let mut ours = Vec::new();
    for (id, intent) in intents {
        info!(slots = %intent.slots, source = %intent.source, target = %intent.target, "taking up an unfinished migration");
        let known = (&Weights::default(), intent.started_at_ms);
        let ending = settle(&intent, addresses, SlotSet::default(), known, context).await;
        settled.extend(ending.moved.iter().chain(ending.stayed.iter().map(|(slot, _)| *slot)));
        if finish_if_settled(context, id, &ending) {
            // Once, when all of it is over: what is held is taken up again in each cycle.
            moved.extend(ending.moved.iter());
        } else {
            ours.push(intent.clone());
        }
        recovery.held.extend(ending.unsettled);
        recovery.taken_up.push(intent);
    }
    recovery.settled = settled.into_iter().collect();
    recovery.moved = moved.into_iter().collect();
    recovery.foreign = fate::foreign(&ours, &look(addresses, context).await);
    Ok(recovery)
}

/// Asks and acts until every slot of `intent` has an end, or nothing has moved for as long as the settings allow.
/// Slots that `collided` are left to a person. What is told of it is what the slots weigh, and that they are in doubt since
/// a Unix time in milliseconds.
pub(super) async fn settle(
    intent: &Intent,
    addresses: &[Address],
    collided: SlotSet,
    (weights, since_ms): (&Weights, u64),
    context: &Context,
) -> Ending {
    let mut teller = Teller::new(intent, weights, context).since(SETTLE, since_ms);
    let patience = Duration::from_secs(context.settings.settle_deadline_s);
    let mut deadline = Instant::now() + patience;
    let mut collided: BTreeSet<SlotId> = collided.iter().collect();
    let mut reasons: BTreeMap<SlotId, String> = BTreeMap::new();
    let mut vacant: BTreeSet<SlotId> = BTreeSet::new();
    let mut apart: BTreeMap<SlotId, String> = BTreeMap::new();
    let mut keys = 0;
    // Nobody feels the pulse here: what was begun is to be over soon.
    let governor = Governor::new(context);
    // What was begun classically goes on classically, over every database: that both ends could do it atomically says
    // nothing of the keys on the way.
    let choice = match intent.protocol {
        Protocol::Atomic => ProtocolChoice::Auto,
        Protocol::Classic => ProtocolChoice::Classic,
    };
    loop {
        let mut views = teller.meanwhile(look(addresses, context)).await;
        let jobs = match intent.protocol {
            Protocol::Atomic => {
                let jobs = jobs_of(intent, &views, context).await;
                // One may have ended since that look, and moved slots.
                views = teller.meanwhile(look(addresses, context)).await;
                jobs
            }
            Protocol::Classic => Jobs::None,
        };
        let mut ending = Ending { keys, collided: collided.iter().copied().collect(), ..Ending::default() };
        let mut moved = Vec::new();
        let mut close: Vec<(SlotId, NodeId)> = Vec::new();
        let mut rebind: Vec<(SlotId, NodeId, NodeId)> = Vec::new();
        let mut resume: BTreeMap<(NodeId, NodeId, Copies), Vec<SlotId>> = BTreeMap::new();
        let mut asked: BTreeMap<Inquiry, Vec<SlotId>> = BTreeMap::new();
        for (slot, fate) in fate::fates(intent, &views, jobs) {
            match fate {
                Fate::Moved => moved.push(slot),
                Fate::Close { owner } => close.push((slot, owner)),
                Fate::Rebind { owner, target } => rebind.push((slot, owner, target)),
                Fate::Stayed(reason) => ending.stayed.push((slot, reason)),
                Fate::Ask(_) if vacant.contains(&slot) => ending.stayed.push((slot, NOT_MOVED.to_owned())),
                Fate::Ask(_) if apart.contains_key(&slot) => ending.unsettled.push((slot, apart[&slot].clone())),
                Fate::Ask(inquiry) => asked.entry(inquiry).or_default().push(slot),
                Fate::Hold(reason) => ending.unsettled.push((slot, reason)),
                Fate::Resume { .. } if collided.contains(&slot) => {
                    ending.unsettled.push((slot, "both nodes hold a live copy of a key".to_owned()));
                }
                Fate::Resume { source, target, copies } => {
                    resume.entry((source, target, copies)).or_default().push(slot)
                }
            }
        }
        for (inquiry, slots) in asked {
            let at = &view_of(&views, &inquiry.target).expect("a fate names nodes that were heard").address;
            for (slot, word) in teller.meanwhile(inquiry::ask(at, &inquiry, &slots, context)).await {
                match word {
                    Word::Vacant => {
                        vacant.insert(slot);
                        ending.stayed.push((slot, NOT_MOVED.to_owned()));
                    }
                    Word::Apart(why) => {
                        apart.insert(slot, why.clone());
                        ending.unsettled.push((slot, why));
                    }
                    Word::Reopened => ending.unsettled.push((slot, "it is importing again".to_owned())),
                    Word::Silent(why) => ending.unsettled.push((slot, why)),
                }
            }
        }
        teller.at(SETTLE, &moved, keys);
        ending.moved = moved.into_iter().collect();
        // Of what only a person may go on with, another look tells nothing new.
        let left_to_us = ending.unsettled.iter().any(|(slot, _)| !collided.contains(slot) && !apart.contains_key(slot));
        let nothing_to_do = resume.is_empty() && close.is_empty() && rebind.is_empty();
        if nothing_to_do && !left_to_us || Instant::now() >= deadline {
            let closed = close.into_iter().map(|(slot, _)| slot);
            let open = resume.into_values().flatten().chain(closed).chain(rebind.into_iter().map(|(slot, ..)| slot));
            ending.unsettled.extend(open.map(|slot| (slot, "it is still open".to_owned())));
            reasons.retain(|slot, _| !apart.contains_key(slot));
            keep_reasons(&mut ending, &reasons);
            if ending.unsettled.iter().all(|(slot, _)| collided.contains(slot)) {
                teller.over(&ending.moved, keys);
            }
            return ending;
        }
        close_flags(&close, &views, context).await;
        rebind_all(&rebind, &views, context).await;
        for ((source, target, copies), slots) in resume {
            let part = Intent {
                source: source.clone(),
                target: target.clone(),
                slots: slots.iter().copied().collect(),
                ..intent.clone()
            };
            let (at, machine) = match route_of((&source, &target), choice, &views, context).await {
                Ok(route) => {
                    (route.target.address.clone(), Machine::new(&part, route, &Load::default(), context, copies))
                }
                Err(objection) => {
                    reasons.extend(slots.into_iter().map(|slot| (slot, objection.clone())));
                    continue;
                }
            };
            let Some(machine) = machine else {
                let reason = "the ends share no form of atomic migration any more: its job is waited for";
                reasons.extend(slots.into_iter().map(|slot| (slot, reason.to_owned())));
                continue;
            };
            let driver = Driver { weights, governor: &governor, context };
            let outcome = driver.drive(machine, &part, &at).await;
            if outcome.keys > 0 || !outcome.moved.is_empty() {
                deadline = Instant::now() + patience;
            }
            keys += outcome.keys;
            collided.extend(outcome.collided.iter());
            reasons.extend(outcome.stayed.into_iter().chain(outcome.unsettled));
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}

/// Tells every node that still carries a flag of a moved slot who owns it. `NODE` clears a migrating flag only, and only
/// from a node without keys; `STABLE` clears either, and is safe on a node that owns nothing of it.
async fn close_flags(moved: &[(SlotId, NodeId)], views: &[View], context: &Context) {
    for view in views {
        let Some(itself) = view.itself() else { continue };
        let stale = moved.iter().filter(|(slot, _)| itself.open.iter().any(|open| open.slot == *slot));
        let commands: Vec<_> =
            stale.flat_map(|(slot, owner)| [wording::node(*slot, owner), wording::stable(*slot)]).collect();
        if !commands.is_empty() {
            // Whether it helped, the next look says.
            drop(context.cluster.call(&view.address, Lane::Control, &commands, QUESTION_PATIENCE).await);
        }
    }
}

/// Tells targets who owns slots that they import. They hear no such thing while a slot is importing, and must not be without its flag
/// for longer than a pipeline takes: at a restart Redis and Valkey delete keys of slots that are neither owned nor importing.
async fn rebind_all(rebind: &[(SlotId, NodeId, NodeId)], views: &[View], context: &Context) {
    for view in views {
        let Some(itself) = view.itself() else { continue };
        let deaf = rebind.iter().filter(|(_, _, target)| itself.id == *target);
        let words = |(slot, owner, _): &(SlotId, NodeId, NodeId)| {
            [wording::node(*slot, owner), wording::stable(*slot), wording::importing(*slot, owner)]
        };
        let commands: Vec<_> = deaf.flat_map(words).collect();
        if !commands.is_empty() {
            // Whether it helped, the next look says.
            drop(context.cluster.call(&view.address, Lane::Control, &commands, QUESTION_PATIENCE).await);
        }
    }
}

/// The way between two primaries, by what they say now.
async fn route_of(
    (source, target): (&NodeId, &NodeId),
    choice: ProtocolChoice,
    views: &[View],
    context: &Context,
) -> Result<Route, String> {
    let (Some(from), Some(to)) = (view_of(views, source), view_of(views, target)) else {
        return Err("it cannot be asked".to_owned());
    };
    let probe = |view: &View| {
        let address = view.address.clone();
        async move { ask(&*context.cluster, &address, &Abilities, QUESTION_PATIENCE).await.ok() }
    };
    let (can_from, can_to) = tokio::join!(probe(from), probe(to));
    survey::route((from, to), (can_from.as_ref(), can_to.as_ref()), choice, None)
}

/// Whether a server still works on an atomic migration of any slot of `intent`. Each end has to be heard: whoever leads where it
/// is, or everybody who is left of its shard.
async fn jobs_of(intent: &Intent, views: &[View], context: &Context) -> Jobs {
    let ends = [(&intent.source, &intent.source_shard), (&intent.target, &intent.target_shard)];
    let leaders = ends.map(|(end, _)| fate::leader(end, views).map(|node| &node.id));
    let mut answered: BTreeSet<&NodeId> = BTreeSet::new();
    for view in views {
        let Some(NodeRecord { id, .. }) = view.itself() else { continue };
        if !ends.iter().any(|(_, shard)| shard.contains(id)) && !leaders.contains(&Some(id)) {
            continue;
        }
        for protocol in [AtomicProtocol::ValkeyMigrateSlots, AtomicProtocol::RedisMigrationImport] {
            match ask(&*context.cluster, &view.address, &AtomicJobs { protocol }, QUESTION_PATIENCE).await {
                Ok(jobs) => {
                    let ours = |job: &crate::cluster::question::JobRecord| {
                        !job.finished && job.slots.iter().any(|slot| intent.slots.contains(slot))
                    };
                    if jobs.iter().any(ours) {
                        return Jobs::Running;
                    }
                }
                // A server without this form knows no such command: then it has no such jobs.
                Err(AskError::Reply { cause: ReplyError::Refused(error), .. }) if error.code == "ERR" => {}
                Err(_) => return Jobs::Unknown,
            }
        }
        answered.insert(id);
    }
    let gone = |id: &NodeId| {
        let mut seen = views.iter().filter_map(|view| view.nodes.iter().find(|node| node.id == *id));
        seen.all(|node| fate::is_given_up(node.state))
    };
    let heard = ends.iter().zip(leaders).all(|((_, shard), leader)| {
        leader.is_some_and(|leader| answered.contains(leader))
            || shard.iter().all(|id| answered.contains(id) || gone(id))
    });
    if heard { Jobs::None } else { Jobs::Unknown }
}

/// What every node says, found through `addresses` and what those whom they know know. Who does not answer is missing.
async fn look(addresses: &[Address], context: &Context) -> Vec<View> {
    let mut views: BTreeMap<NodeId, View> = BTreeMap::new();
    let mut asked: BTreeSet<Address> = BTreeSet::new();
    let mut next: Vec<Address> = addresses.to_vec();
    while !next.is_empty() {
        asked.extend(next.iter().cloned());
        let answers = join_all(next.iter().map(|address| who_are_you(address, context))).await;
        for view in answers.into_iter().flatten() {
            // One node may be known by several addresses.
            if let Some(id) = view.itself().map(|node| node.id.clone()) {
                views.entry(id).or_insert(view);
            }
        }
        let known = views.values().flat_map(|view| &view.nodes).filter(|node| !views.contains_key(&node.id));
        let unasked: BTreeSet<Address> =
            known.map(|node| node.address.clone()).filter(|address| !asked.contains(address)).collect();
        next = unasked.into_iter().collect();
    }
    views.into_values().collect()
}

pub(super) async fn who_are_you(node: &Address, context: &Context) -> Result<View, String> {
    ask(&*context.cluster, node, &WhoAreYou(node), QUESTION_PATIENCE)
        .await
        .map_err(|error| crate::telemetry::chain(&error))
}

/// What a slot stayed for is known to the machine that tried, not to the look that followed.
fn keep_reasons(ending: &mut Ending, reasons: &BTreeMap<SlotId, String>) {
    for (slot, reason) in ending.stayed.iter_mut().chain(&mut ending.unsettled) {
        if let Some(known) = reasons.get(slot) {
            reason.clone_from(known);
        }
    }
}

/// Ends the intent in the journal if nothing of it is left to us: a slot that collided is a person's, and named as any
/// other that we did not open.
pub(super) fn finish_if_settled(context: &Context, id: IntentId, ending: &Ending) -> bool {
    let settled = ending.unsettled.iter().all(|(slot, _)| ending.collided.contains(*slot));
    if settled {
        let words = format!(
            "{} moved, {} stayed, {} collided",
            ending.moved.len(),
            ending.stayed.len(),
            ending.unsettled.len()
        );
        if let Err(error) = context.journal.finish(id, &words) {
            // Settling it again at the next start does no harm.
            warn!(error = %crate::telemetry::chain(&error), "the journal did not take the end of a migration");
        }
    }
    settled
}
