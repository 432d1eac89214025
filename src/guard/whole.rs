//! Checks of the whole plan: while one of them refuses, nothing moves.

use super::past::strangers;
use super::{OnUnknown, Scene, distinct_slots};
use crate::model::{Plan, Refusal, RefusalCheck, SlotSet, resource};

type Check = fn(&Plan, &Scene<'_>) -> Option<String>;

const CHECKS: [(RefusalCheck, Check); 5] = [
    (RefusalCheck::Health, health),
    (RefusalCheck::Staleness, staleness),
    (RefusalCheck::Generation, generation),
    (RefusalCheck::Foreign, foreign),
    (RefusalCheck::UnknownNode, unknown_node),
];

/// At most this many problems are spelled out in one reason; the snapshot has them all.
const PROBLEMS_NAMED: usize = 5;

/// Every reason to leave the whole plan alone. A plan without moves needs none.
pub(super) fn refusals(plan: &Plan, scene: &Scene<'_>) -> Vec<Refusal> {
    if plan.moves.is_empty() {
        return Vec::new();
    }
    let found: Vec<(RefusalCheck, String)> =
        CHECKS.into_iter().filter_map(|(check, examine)| Some((check, examine(plan, scene)?))).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let slots = distinct_slots(&plan.moves);
    found.into_iter().map(|(check, reason)| Refusal { check, slots: slots.clone(), reason }).collect()
}

/// The cluster is healthy, all primaries agree, and every shard has the replicas that the operator asks for.
fn health(_: &Plan, scene: &Scene<'_>) -> Option<String> {
    let mut problems: Vec<String> = scene.snapshot.blockers().map(ToString::to_string).collect();
    problems.extend(short_of_replicas(scene));
    if problems.is_empty() {
        return None;
    }
    let rest = problems.len().saturating_sub(PROBLEMS_NAMED);
    problems.truncate(PROBLEMS_NAMED);
    let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    Some(format!("{}{more}", problems.join("; ")))
}

/// Primaries with slots and too few replicas. A count that is not known is not enough either.
fn short_of_replicas(scene: &Scene<'_>) -> impl Iterator<Item = String> {
    let wanted = scene.limits.min_replicas;
    let counts = scene.snapshot.node_column(resource::REPLICAS);
    let serving =
        scene.snapshot.primaries.iter().enumerate().filter(|(_, primary)| !primary.is(crate::model::Tag::Empty));
    serving.filter_map(move |(place, primary)| {
        let has = counts.and_then(|counts| counts.get(place)).copied().unwrap_or(f64::NAN);
        let enough = wanted == 0 || has >= f64::from(wanted);
        (!enough).then(|| {
            format!("{} has {has} replicas in sync, {wanted} are asked for (limits.min_replicas)", primary.address)
        })
    })
}

/// The snapshot is young enough. One from the future is as bad: a clock jumped, and its age is anybody's guess.
fn staleness(_: &Plan, scene: &Scene<'_>) -> Option<String> {
    let age_ms = scene.now_ms.abs_diff(scene.snapshot.taken_at_ms);
    let limit = scene.limits.max_snapshot_age;
    (u128::from(age_ms) > limit.as_millis()).then(|| {
        let when = if scene.now_ms < scene.snapshot.taken_at_ms { "ahead of the clock" } else { "old" };
        format!(
            "the snapshot is {:.1} s {when}, more than {} (limits.max_snapshot_age)",
            age_ms as f64 / 1000.0,
            humantime::format_duration(limit)
        )
    })
}

/// The plan answers this very snapshot: node indexes mean nothing in another one.
fn generation(plan: &Plan, scene: &Scene<'_>) -> Option<String> {
    let (answered, current) = (plan.generation, scene.snapshot.generation);
    (answered != current).then(|| format!("the plan answers snapshot {answered}, this is snapshot {current}"))
}

/// Nobody else is moving slots. What our journal has begun is ours, wherever the flags stand.
fn foreign(_: &Plan, scene: &Scene<'_>) -> Option<String> {
    let ours = &scene.ledger.our_open_slots;
    let open: SlotSet =
        scene.snapshot.flags_of_primaries().map(|open| open.slot).filter(|slot| !ours.contains(*slot)).collect();
    if !open.is_empty() {
        return Some(format!(
            "slots {open} are open, and not by us; look with 'ballast check', close them with 'ballast fix'"
        ));
    }
    let job = scene.snapshot.atomic_jobs.iter().find(|job| !job.slots.iter().all(|slot| ours.contains(slot)))?;
    Some(format!("an atomic migration of slots {} is {} and not ours; wait for it, or cancel it", job.slots, job.state))
}

/// Every node that owns slots is one that we were told about or saw joining.
fn unknown_node(_: &Plan, scene: &Scene<'_>) -> Option<String> {
    let known = scene.ledger.known_nodes.as_ref()?;
    if scene.limits.unknown_nodes == OnUnknown::Allow {
        return None;
    }
    let stranger = strangers(known, scene.snapshot).next()?;
    Some(format!(
        "{} owns slots and was never seen joining; if it belongs there, `ballast resume` accepts it",
        stranger.address
    ))
}
