//! What moves would do to the balance, by the arithmetic of the planning library: a policy, the guard and every face
//! mean the same by *imbalance* and *floor*.

use std::collections::BTreeMap;

use ballast_search::{Goals, Problem, Resource, ResourceGoal, View, ViewNode, floor};

use super::Scene;
use super::tally::Candidate;
use crate::model::{Prediction, Snapshot, Tag};

/// Counted for the gain, since a policy may even slots on a cluster without load; not predicted, since nobody feels it.
const SLOTS: &str = "slots";

/// A snapshot, ready to be measured.
pub(super) struct Scale(Option<Problem>);

impl Scale {
    /// A snapshot whose columns do not fit its nodes cannot be measured; then nothing is predicted, and nothing gains.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let resources = ["cpu", "memory", "network", SLOTS].map(ResourceGoal::named).to_vec();
        Self(Problem::of(&view(snapshot), &Goals { resources, ..Goals::default() }).ok())
    }

    /// The effect of `moves` on each resource that is measured.
    pub(super) fn predictions(&self, moves: &[Candidate<'_>]) -> BTreeMap<String, Prediction> {
        let Some(problem) = &self.0 else { return BTreeMap::new() };
        let after = owners_after(problem, moves);
        let predict = |resource: &Resource| Prediction {
            imbalance_before: problem.imbalance_of(resource, &problem.owners),
            imbalance_after: problem.imbalance_of(resource, &after),
            floor: floor(problem, resource).0,
        };
        let resources = problem.resources.iter().filter(|resource| resource.name() != SLOTS);
        resources.map(|resource| (resource.name().to_owned(), predict(resource))).collect()
    }

    /// By how much `moves` lower the imbalance of the resource that they help most; idle ones do not count.
    fn gain<'a>(&self, moves: impl Iterator<Item = &'a Candidate<'a>>) -> f64 {
        let Some(problem) = &self.0 else { return 0.0 };
        let after = owners_after(problem, moves);
        let gains = problem
            .active()
            .map(|resource| problem.imbalance_of(resource, &problem.owners) - problem.imbalance_of(resource, &after));
        gains.fold(0.0, f64::max)
    }

    /// Whether `moves` help no resource and harm one. A policy could put them before better ones that caps hold back, again and again.
    fn only_harm(&self, moves: &[Candidate<'_>]) -> bool {
        /// Sums of the same numbers in another order differ by less.
        const ROUNDING: f64 = 1e-9;
        /// The first half of an exchange may go so far: the planning library lets a target go a hundredth above the highest.
        const PASSING: f64 = 0.02;
        let Some(problem) = &self.0 else { return false };
        let after = owners_after(problem, moves);
        let worse = problem.active().map(|resource| {
            problem.imbalance_of(resource, &after) / problem.imbalance_of(resource, &problem.owners) - 1.0
        });
        let (least, most) = worse.fold((f64::MAX, f64::MIN), |(least, most), by| (least.min(by), most.max(by)));
        least >= -ROUNDING && most > PASSING
    }

    /// Takes out of `passed` the moves that are not worth making, if the plan as a whole gains too little.
    ///
    /// What a cap held back counts as part of the plan here: a cap cuts a good plan into slices, and a slice's own gain
    /// may be small, but does not only harm. Moves that drain a node are worth it always.
    pub(super) fn not_worth_it<'a>(
        &self,
        passed: &mut Vec<Candidate<'a>>,
        capped: &[Candidate<'a>],
        scene: &Scene<'_>,
    ) -> Vec<Candidate<'a>> {
        let primaries = &scene.snapshot.primaries;
        let drains = |candidate: &Candidate<'_>| primaries[candidate.from as usize].is(Tag::Draining);
        let off = scene.limits.min_gain <= 0.0;
        if off || passed.iter().all(drains) {
            return Vec::new();
        }
        if self.gain(passed.iter().chain(capped)) >= scene.limits.min_gain && !self.only_harm(passed) {
            return Vec::new();
        }
        let (kept, dropped) = std::mem::take(passed).into_iter().partition(drains);
        *passed = kept;
        dropped
    }
}

fn owners_after<'a>(problem: &Problem, moves: impl IntoIterator<Item = &'a Candidate<'a>>) -> Vec<u32> {
    let mut owners = problem.owners.clone();
    for candidate in moves {
        owners[candidate.slot.index()] = candidate.to;
    }
    owners
}

/// The snapshot as the planning library sees it.
fn view(snapshot: &Snapshot) -> View {
    let node = |primary: &crate::model::Primary| ViewNode {
        id: primary.id.to_string(),
        address: primary.address.to_string(),
        zone: primary.zone.clone(),
        tags: primary.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
    };
    let in_flight = snapshot.in_flight.iter().filter_map(|moving| {
        let target = snapshot.index_of(&moving.to)?;
        Some(ballast_search::Move { slot: moving.slot.number(), target, reason: String::new() })
    });
    View {
        generation: snapshot.generation,
        taken_at_ms: snapshot.taken_at_ms,
        window_s: snapshot.window_s,
        nodes: snapshot.primaries.iter().map(node).collect(),
        owners: snapshot.owners.as_slice().into(),
        slot_columns: snapshot.slot_columns.clone(),
        node_columns: snapshot
            .node_columns
            .iter()
            .map(|(name, column)| (name.clone(), column.0.as_slice().into()))
            .collect(),
        in_flight: in_flight.collect(),
        ..View::default()
    }
}
