//! Turns what was heard into findings. Pure.

use std::collections::BTreeMap;

use super::claim::Claim;
use super::evidence::{Evidence, Held, Party};
use super::finding::Finding;
use super::shape::{Shape, shapes};
use crate::cluster::question::{JobOperation, JobRecord};
use crate::model::{Problem, Role, SlotId, SlotSet};

/// Ten minutes: our own deadline for an atomic migration, and far above what any took that ended well.
pub const STUCK_AFTER_MS: u64 = 600_000;

/// Everything that a person should know, the worst first.
#[must_use]
pub fn findings(evidence: &Evidence) -> Vec<Finding> {
    let seen = evidence.topology.problems.iter().filter(|problem| !matches!(problem, Problem::SlotsOpen { .. }));
    let mut findings: Vec<Finding> = seen.cloned().map(Finding::Seen).collect();
    findings.extend(contested(evidence));
    findings.extend(open(evidence));
    findings.extend(strays(evidence));
    findings.extend(jobs(evidence));
    findings.extend(nodes(evidence));
    findings.sort_by_key(Finding::severity);
    findings
}

fn contested(evidence: &Evidence) -> Vec<Finding> {
    let mut doubtful: Vec<SlotId> = Vec::new();
    for problem in &evidence.topology.problems {
        if let Problem::Disagreement { slots, .. } = problem {
            doubtful.extend(slots.iter());
        }
    }
    let mut claims: BTreeMap<Vec<Party>, Vec<SlotId>> = BTreeMap::new();
    for slot in &doubtful.into_iter().collect::<SlotSet>() {
        if let Claim::Contested(claimants) = evidence.claim(slot) {
            claims.entry(claimants.iter().map(|id| evidence.party(id)).collect()).or_default().push(slot);
        }
    }
    let finding =
        |(claimants, slots): (_, Vec<SlotId>)| Finding::Contested { slots: slots.into_iter().collect(), claimants };
    claims.into_iter().map(finding).collect()
}

fn open(evidence: &Evidence) -> Vec<Finding> {
    let mut groups: BTreeMap<Shape, Vec<SlotId>> = BTreeMap::new();
    for (slot, shape) in shapes(evidence) {
        groups.entry(shape).or_default().push(slot);
    }
    let finding = |(shape, slots): (Shape, Vec<SlotId>)| {
        let holder = match &shape {
            Shape::HalfMoved { target, .. } | Shape::MigratingOnly { target: Some(target), .. } => Some(&target.id),
            Shape::ImportingOnly { importer, .. } => Some(&importer.id),
            _ => None,
        };
        let holder = holder.and_then(|id| evidence.nodes.get(id));
        let keys = holder.map_or(0, |node| slots.iter().map(|slot| node.keys_in(*slot)).sum());
        Finding::Open { shape, slots: slots.into_iter().collect(), keys }
    };
    groups.into_iter().map(finding).collect()
}

fn strays(evidence: &Evidence) -> Vec<Finding> {
    let in_jobs = evidence.in_jobs();
    let mut findings = Vec::new();
    for node in evidence.primaries() {
        let party = evidence.party(&node.itself().id);
        let held: Vec<Held> = astray(evidence, &node.itself().id, &in_jobs).cloned().collect();
        if !held.is_empty() {
            let slots = held.iter().map(|held| held.slot).collect();
            findings.push(Finding::Strays { node: party.clone(), slots, held });
        }
        if node.hidden > 0 && node.jobs.is_empty() {
            findings.push(Finding::HiddenStrays { node: party, keys: node.hidden });
        }
    }
    findings
}

/// Keys of a primary in slots that it does not own, beyond those that an open slot accounts for.
pub(crate) fn astray<'a>(
    evidence: &'a Evidence,
    node: &crate::model::NodeId,
    in_jobs: &'a SlotSet,
) -> impl Iterator<Item = &'a Held> {
    let node = evidence.nodes.get(node);
    let behind = |slot: SlotId, shape: &Shape| match shape {
        Shape::HalfMoved { target, .. } | Shape::MigratingOnly { target: Some(target), .. } => {
            node.is_some_and(|node| node.itself().id == target.id && node.keys_in(slot) > 0)
        }
        Shape::ImportingOnly { importer, .. } => node.is_some_and(|node| node.itself().id == importer.id),
        _ => false,
    };
    let accounted: SlotSet =
        shapes(evidence).into_iter().filter(|(slot, shape)| behind(*slot, shape)).map(|(slot, _)| slot).collect();
    node.into_iter().flat_map(move |node| {
        let accounted = accounted.clone();
        let astray = move |held: &&Held| {
            !node.itself().slots.contains(held.slot) && !accounted.contains(held.slot) && !in_jobs.contains(held.slot)
        };
        node.held.iter().filter(|held| held.keys > 0).filter(astray)
    })
}

fn jobs(evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for node in evidence.nodes.values().filter(|node| node.is_primary()) {
        let Some(protocol) = node.atomic else { continue };
        for job in &node.jobs {
            // Both ends tell of it: once is enough.
            if told.contains(&job.name.as_str()) {
                continue;
            }
            told.push(&job.name);
            findings.push(Finding::Job {
                node: evidence.party(&node.itself().id),
                name: job.name.clone(),
                slots: job.slots.clone(),
                state: job.state.clone(),
                message: job.message.clone(),
                age_s: age_ms(job, evidence).map(|age| age / 1000),
                stuck: is_stuck(job, evidence),
                protocol,
            });
        }
    }
    findings
}

fn age_ms(job: &JobRecord, evidence: &Evidence) -> Option<u64> {
    job.created_at_ms.map(|created| evidence.taken_at_ms.saturating_sub(created))
}

/// Whether an unfinished job looks as if it will not end by itself: it has failed and tries for ever (an import on Redis),
/// or it has been at it for too long.
#[must_use]
pub fn is_stuck(job: &JobRecord, evidence: &Evidence) -> bool {
    let tries_for_ever = job.state == "failed" && job.operation == JobOperation::Import;
    tries_for_ever || age_ms(job, evidence).is_some_and(|age| age > STUCK_AFTER_MS)
}

fn nodes(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in evidence.nodes.values() {
        let party = evidence.party(&node.itself().id);
        match &node.itself().role {
            Role::Replica { of } if !node.link_up => findings.push(Finding::ReplicaCutOff {
                replica: party.clone(),
                primary: of.as_ref().map(|of| evidence.party(of)),
            }),
            Role::Primary if node.itself().slots.is_empty() => findings.push(Finding::Unused { node: party.clone() }),
            _ => {}
        }
        findings
            .extend(node.untold.iter().map(|detail| Finding::Untold { node: party.clone(), detail: detail.clone() }));
    }
    findings
}
