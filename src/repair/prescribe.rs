//! Which repairs a cluster needs, and what has to be left to a person. Pure.
//!
//! One round of it: what can only be judged when a repair has been done comes in the next.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Repair;
use crate::cluster::question::{AtomicProtocol, JobOperation};
use crate::examine::{Claim, Evidence, Party, Shape, Testimony, astray, is_stuck, shapes};
use crate::model::{LinkState, NodeId, OpenDirection, Problem, SlotId, SlotSet};

/// Slots that a person gave to a node, for where nothing else tells the owner.
pub type Assignments = BTreeMap<SlotId, NodeId>;

/// Something that is not repaired, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What.
    pub what: String,
    /// Why not, and what a person can do.
    pub why: String,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Prescription {
    /// In this order.
    pub repairs: Vec<Repair>,
    /// What is left.
    pub refusals: Vec<Refusal>,
}

/// What to do about what was heard.
#[must_use]
pub fn prescribe(evidence: &Evidence, assigned: &Assignments) -> Prescription {
    let mut prescription = Prescription::default();
    cancel(evidence, &mut prescription);
    raise_epochs(evidence, &mut prescription);
    assign(evidence, assigned, &mut prescription);
    mend_open_slots(evidence, &mut prescription);
    bring_strays_home(evidence, &mut prescription);
    if !uncovered(evidence).is_empty() {
        // Servers serve no key at all while a slot has no owner, unless they are told to: keys travel when all have one.
        let travels = |repair: &Repair| matches!(repair, Repair::Finish { .. } | Repair::BringHome { .. });
        prescription.repairs.retain(|repair| !travels(repair));
    }
    prescription
}

fn cancel(evidence: &Evidence, prescription: &mut Prescription) {
    for node in evidence.primaries() {
        let Some(protocol) = node.atomic else { continue };
        let drives = match protocol {
            AtomicProtocol::ValkeyMigrateSlots => JobOperation::Export,
            AtomicProtocol::RedisMigrationImport => JobOperation::Import,
        };
        let party = evidence.party(&node.itself().id);
        let (stuck, at_work): (Vec<_>, Vec<_>) =
            node.jobs.iter().filter(|job| job.operation == drives).partition(|job| is_stuck(job, evidence));
        if stuck.is_empty() {
            continue;
        }
        // Valkey cancels all of a node's exports or none.
        if let (AtomicProtocol::ValkeyMigrateSlots, Some(other)) = (protocol, at_work.first()) {
            prescription.refusals.push(Refusal {
                what: format!("an atomic migration of slots {} on {party} is stuck", stuck[0].slots),
                why: format!(
                    "to cancel it would cancel that of slots {} too, which is at work: wait for it",
                    other.slots
                ),
            });
            continue;
        }
        prescription.repairs.push(Repair::Cancel {
            node: party,
            jobs: stuck.iter().map(|job| job.name.clone()).collect(),
            slots: stuck.iter().flat_map(|job| job.slots.iter()).collect(),
            protocol,
        });
    }
}

fn raise_epochs(evidence: &Evidence, prescription: &mut Prescription) {
    let mut raise = |node: Party, reason: String| {
        let known = prescription
            .repairs
            .iter()
            .any(|repair| matches!(repair, Repair::RaiseEpoch { node: other, .. } if *other == node));
        if !known {
            prescription.repairs.push(Repair::RaiseEpoch { node, reason });
        }
    };
    for problem in &evidence.topology.problems {
        match problem {
            Problem::EpochCollision { other, epoch, .. } => {
                let found = evidence.primaries().find(|node| node.itself().address == *other);
                if let Some(node) = found {
                    raise(
                        evidence.party(&node.itself().id),
                        format!(
                            "it shares config epoch {epoch} with another primary: a conflict between them has no winner"
                        ),
                    );
                }
            }
            Problem::Disagreement { slots, .. } => {
                for slot in slots {
                    let Claim::Contested(claimants) = evidence.claim(slot) else { continue };
                    // Only who claims a slot can win it, and whoever claims it by the highest epoch will.
                    let claims =
                        |id: &&NodeId| evidence.nodes.get(id).is_some_and(|node| node.itself().slots.contains(slot));
                    if let Some(winner) = claimants.iter().find(claims) {
                        raise(
                            evidence.party(winner),
                            format!(
                                "not all see that it owns slots {slots}, which it claims by the highest config epoch"
                            ),
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

/// Slots that nobody owns.
fn uncovered(evidence: &Evidence) -> SlotSet {
    let problems = evidence.topology.problems.iter();
    let mut uncovered = problems.filter_map(|problem| match problem {
        Problem::SlotsUncovered { slots } => Some(slots.clone()),
        _ => None,
    });
    uncovered.next().unwrap_or_default()
}

fn assign(evidence: &Evidence, assigned: &Assignments, prescription: &mut Prescription) {
    let mut given: BTreeMap<(Party, String), Vec<SlotId>> = BTreeMap::new();
    let mut refused: BTreeMap<String, Vec<SlotId>> = BTreeMap::new();
    for slot in &uncovered(evidence) {
        match heir(evidence, assigned, slot) {
            Ok((node, reason)) => given.entry((evidence.party(&node), reason)).or_default().push(slot),
            Err(reason) => refused.entry(reason).or_default().push(slot),
        }
    }
    for ((node, reason), slots) in given {
        prescription.repairs.push(Repair::Assign { slots: slots.into_iter().collect(), node, reason });
    }
    for (why, slots) in refused {
        let slots: SlotSet = slots.into_iter().collect();
        prescription.refusals.push(Refusal { what: format!("nobody serves slots {slots}"), why });
    }
}

/// Who gets a slot that nobody owns, and why; or why nobody does.
fn heir(evidence: &Evidence, assigned: &Assignments, slot: SlotId) -> Result<(NodeId, String), String> {
    if let Some(node) = assigned.get(&slot) {
        return Ok((node.clone(), "you named it".to_owned()));
    }
    if let Some(silent) = evidence.silent.keys().next() {
        return Err(format!(
            "{silent} does not answer, and may hold keys of them: start it, or name an owner with --assign SLOTS=NODE"
        ));
    }
    let holders: Vec<&Testimony> = evidence.primaries().filter(|node| node.keys_in(slot) > 0).collect();
    let hides = evidence.primaries().find(|node| node.hidden > 0);
    match (holders.as_slice(), hides) {
        (_, Some(node)) => {
            Err(format!("{} hides keys, which may be of these: they are looked for first", node.itself().address))
        }
        ([one], None) => Ok((one.itself().id.clone(), "it alone holds keys of them".to_owned())),
        ([], None) => Ok(heir_of_nothing(evidence, slot)),
        (several, None) => {
            let names: Vec<String> =
                several.iter().map(|node| format!("{} ({} keys)", node.itself().address, node.keys_in(slot))).collect();
            Err(format!(
                "{} hold keys of them, and how many is no evidence of who owned them: name the owner with --assign \
                 SLOTS=NODE, and 'ballast fix' brings the others' keys there",
                names.join(" and ")
            ))
        }
    }
}

/// No key can be lost: whoever a flag or the others tell of, or the one with the fewest slots.
fn heir_of_nothing(evidence: &Evidence, slot: SlotId) -> (NodeId, String) {
    let sends = |node: &&Testimony| {
        let migrating =
            |open: &crate::model::OpenSlot| open.slot == slot && matches!(open.direction, OpenDirection::Migrating(_));
        node.itself().open.iter().any(migrating)
    };
    if let Some(former) = evidence.primaries().find(sends) {
        return (
            former.itself().id.clone(),
            "a migrating flag tells that it owned them, and nobody holds keys of them".to_owned(),
        );
    }
    if let Claim::Nobody { believed: Some(former) } = evidence.claim(slot)
        && evidence.nodes.get(&former).is_some_and(Testimony::is_primary)
    {
        return (former, "others take it for the owner, and nobody holds keys of them".to_owned());
    }
    let fewest = evidence.primaries().filter(|node| evidence.is_well(&node.itself().id));
    let fewest = fewest.min_by_key(|node| node.itself().slots.len()).or(evidence.primaries().next());
    let id = fewest.map(|node| node.itself().id.clone()).expect("somebody answered, or there would be no evidence");
    (id, "nobody holds keys of them, and it owns the fewest slots".to_owned())
}

fn mend_open_slots(evidence: &Evidence, prescription: &mut Prescription) {
    let in_jobs = evidence.in_jobs();
    let mut close: BTreeMap<(Party, String), Vec<SlotId>> = BTreeMap::new();
    let mut finish: BTreeMap<(Party, Party), Vec<SlotId>> = BTreeMap::new();
    let mut home: BTreeMap<(Party, Party), Vec<SlotId>> = BTreeMap::new();
    let found = shapes(evidence);
    let closes_it = |slot: SlotId, node: &Party| {
        found.iter().any(|(other, shape)| {
        *other == slot && matches!(shape, Shape::HalfMoved { source, .. } | Shape::MigratingOnly { source, .. } if source == node)
    })
    };
    for (slot, shape) in found.iter().filter(|(slot, _)| !in_jobs.contains(*slot)) {
        let slot = *slot;
        match shape {
            Shape::HalfMoved { source, target }
            | Shape::MigratingOnly { source, target: Some(target), keys_there: true, .. } => {
                finish.entry((source.clone(), target.clone())).or_default().push(slot);
            }
            Shape::MigratingOnly { source, to, target: None, keys_there: true } => {
                let what =
                    format!("slot {slot} is migrating on {source} to {to}, which is not well and may hold keys of it");
                let why = "bring that node back, or have all others forget it (CLUSTER FORGET), then 'ballast fix' again: closed now, \
                           its keys would be on neither side, or on both once it is back";
                prescription.refusals.push(Refusal { what, why: why.to_owned() });
            }
            Shape::MigratingOnly { source, .. } => {
                let reason = "it owns them, and whom its flag names holds none of their keys".to_owned();
                close.entry((source.clone(), reason)).or_default().push(slot);
            }
            Shape::ImportingOnly { importer, keys_there: false, .. } => {
                let reason = "it holds none of their keys, and nobody sends it any".to_owned();
                close.entry((importer.clone(), reason)).or_default().push(slot);
            }
            // While the owner migrates it, it does not take keys in: they come in the next round.
            Shape::ImportingOnly { importer, owner: Some(owner), .. } if !closes_it(slot, owner) => {
                home.entry((importer.clone(), owner.clone())).or_default().push(slot);
            }
            Shape::ImportingOnly { importer, owner: None, .. }
                if evidence.nodes.get(&importer.id).is_some_and(|node| !node.untold.is_empty()) =>
            {
                let what = format!("slot {slot} is importing on {importer}, which does not tell what it holds of it");
                let why =
                    "nobody is agreed to own it, so that its keys cannot be brought home: let the node tell first";
                prescription.refusals.push(Refusal { what, why: why.to_owned() });
            }
            Shape::ImportingOnly { .. } => {}
            Shape::Meaningless { node } => {
                close.entry((node.clone(), "the flag says nothing there".to_owned())).or_default().push(slot);
            }
            Shape::OnReplica { replica, primary: Some(_), follows_setslot: true }
                if evidence.nodes.get(&replica.id).is_some_and(|node| !node.link_up) =>
            {
                let what = format!("replica {replica} carries a flag of slot {slot}");
                let why =
                    "its link to its primary is down: once it is up, 'ballast fix' has the primary pass on the word";
                prescription.refusals.push(Refusal { what, why: why.to_owned() });
            }
            Shape::OnReplica { replica, primary: Some(primary), follows_setslot: true } => {
                let bare = evidence
                    .nodes
                    .get(&primary.id)
                    .is_some_and(|node| node.itself().open.iter().all(|open| open.slot != slot));
                if bare {
                    let reason =
                        format!("it passes the word on to its replica {replica}, which has a flag that it has not");
                    close.entry((primary.clone(), reason)).or_default().push(slot);
                }
            }
            Shape::OnReplica { replica, .. } => {
                let what = format!("replica {replica} carries a flag of slot {slot}");
                let why = "only a primary can clear it; it does no harm until this replica is promoted: then run 'ballast fix'";
                prescription.refusals.push(Refusal { what, why: why.to_owned() });
            }
        }
    }
    let set = |slots: Vec<SlotId>| slots.into_iter().collect::<SlotSet>();
    // Moves come last: a stale flag of somebody else's would hold them up, and a node that missed a failover while it imported
    // answers CLUSTERDOWN until that slot is mended.
    prescription.repairs.extend(close.into_iter().map(|((node, reason), slots)| Repair::Close {
        slots: set(slots),
        node,
        reason,
    }));
    prescription.repairs.extend(home.into_iter().map(|((from, to), slots)| Repair::BringHome {
        slots: set(slots),
        from,
        to,
    }));
    prescription.repairs.extend(finish.into_iter().map(|((source, target), slots)| Repair::Finish {
        slots: set(slots),
        source,
        target,
    }));
}

fn bring_strays_home(evidence: &Evidence, prescription: &mut Prescription) {
    let in_jobs = evidence.in_jobs();
    for node in evidence.primaries() {
        let id = &node.itself().id;
        let mut owners: BTreeMap<Party, Vec<SlotId>> = BTreeMap::new();
        for held in astray(evidence, id, &in_jobs) {
            let owner = evidence.claim(held.slot).agreed().and_then(|owner| evidence.nodes.get(owner));
            let Some(owner) = owner else { continue };
            // An owner that migrates the slot does not take keys in.
            let takes_in = owner.itself().open.iter().all(|open| open.slot != held.slot);
            if takes_in && owner.itself().state == LinkState::Ok {
                owners.entry(evidence.party(&owner.itself().id)).or_default().push(held.slot);
            }
        }
        let from = evidence.party(id);
        prescription.repairs.extend(owners.into_iter().map(|(to, slots)| Repair::BringHome {
            slots: slots.into_iter().collect(),
            from: from.clone(),
            to,
        }));
        if node.hidden > 0 && node.jobs.is_empty() {
            prescription.repairs.push(Repair::Unhide { node: from });
        }
    }
}
