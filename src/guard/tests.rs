//! Every check refuses what it is there for, and whatever comes in, what goes out keeps the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::collector::synthetic::synthetic;
use crate::model::{
    AtomicJob, OpenDirection, OpenSlot, Owners, PolicyId, Problem, RefusalCheck, SlotId, SlotSet, Tag, resource,
};

/// A review in the making: four healthy shards, default limits, nothing remembered, the snapshot just taken.
struct Case {
    snapshot: Snapshot,
    limits: Limits,
    ledger: Ledger,
    now_ms: u64,
}

impl Case {
    fn new() -> Self {
        let snapshot = synthetic(4, 1);
        let limits = Limits { min_gain: 0.0, ..Limits::default() };
        Self { now_ms: snapshot.taken_at_ms, snapshot, limits, ledger: Ledger::default() }
    }

    fn review(&self, moves: &[(u16, u32)]) -> Verdict {
        review(&plan(moves), &self.snapshot, &self.limits, &self.ledger, self.now_ms)
    }

    /// Asserts that exactly `slots` are held back, by `check`, with a reason that contains `words`.
    fn refuses(&self, moves: &[(u16, u32)], check: RefusalCheck, slots: &[u16], words: &str) {
        let verdict = self.review(moves);
        let [refusal] = verdict.refusals.as_slice() else { panic!("one refusal, not {:?}", verdict.refusals) };
        assert_eq!((refusal.check, refusal.slots.as_slice()), (check, slots), "{}", refusal.reason);
        assert!(refusal.reason.contains(words), "{}", refusal.reason);
        let approved = verdict.approved.moves().iter().map(|approved| approved.slot.number());
        assert!(approved.clone().all(|slot| moves.iter().any(|(proposed, _)| *proposed == slot)));
        let both: BTreeSet<u16> = approved.chain(slots.iter().copied()).collect();
        assert_eq!(both, moves.iter().map(|(slot, _)| *slot).collect(), "every move is approved or refused");
    }

    fn set(&mut self, column: &str, primary: usize, value: f64) {
        self.snapshot.node_columns.get_mut(column).expect(column).0[primary] = value;
    }

    fn set_bytes(&mut self, bytes: f64) {
        self.snapshot.slot_columns.insert(resource::BYTES.into(), vec![bytes; SLOT_COUNT].into());
    }

    fn tag(&mut self, primary: usize, tag: Tag) {
        self.snapshot.primaries[primary].tags.push(tag);
    }

    fn open(&mut self, slot: u16) {
        let (node, to) = (self.snapshot.primaries[0].id.clone(), self.snapshot.primaries[1].id.clone());
        let direction = OpenDirection::Migrating(to);
        self.snapshot.open_slots.push(OpenSlot { slot: id(slot), node, direction });
    }
}

fn id(slot: u16) -> SlotId {
    SlotId::new(slot).expect("a slot")
}

fn plan(moves: &[(u16, u32)]) -> Plan {
    let moves = moves
        .iter()
        .map(|(slot, target)| ProposedMove { slot: *slot, target: *target, reason: "hot".into() })
        .collect();
    let policy = PolicyId { name: "test".into(), version: "1".into(), digest: "0".repeat(64) };
    Plan { policy, generation: 1, moves, summary: String::new(), gauges: Vec::new() }
}

#[test]
fn approves_sound_moves_in_the_policys_order() {
    let verdict = Case::new().review(&[(7, 3), (5, 1), (16000, 0)]);
    assert_eq!(verdict.refusals, []);
    let slots: Vec<u16> = verdict.approved.moves().iter().map(|approved| approved.slot.number()).collect();
    assert_eq!(slots, [7, 5, 16000]);
    assert_eq!(verdict.approved.generation(), 1);
    assert_eq!(verdict.approved.moves()[0].reason, "hot");
}

#[test]
fn refuses_while_the_cluster_is_not_healthy() {
    let mut case = Case::new();
    let node = case.snapshot.primaries[2].address.clone();
    case.snapshot.problems.push(Problem::NodeLoading { node });
    case.refuses(&[(0, 1), (1, 1)], RefusalCheck::Health, &[0, 1], "still loading");
}

#[test]
fn refuses_while_a_shard_is_short_of_replicas() {
    let mut case = Case::new();
    case.limits.min_replicas = 1;
    assert_eq!(case.review(&[(0, 1)]).refusals, []);
    case.set(resource::REPLICAS, 3, 0.0);
    case.refuses(&[(0, 1)], RefusalCheck::Health, &[0], "limits.min_replicas");
    case.set(resource::REPLICAS, 3, f64::NAN);
    case.refuses(&[(0, 1)], RefusalCheck::Health, &[0], "limits.min_replicas");
}

#[test]
fn refuses_by_a_stale_snapshot_and_by_one_from_the_future() {
    let mut case = Case::new();
    case.now_ms += 30_001;
    case.refuses(&[(0, 1)], RefusalCheck::Staleness, &[0], "30.0 s old");
    case.now_ms -= 60_002;
    case.refuses(&[(0, 1)], RefusalCheck::Staleness, &[0], "ahead of the clock");
}

#[test]
fn refuses_an_answer_to_another_snapshot() {
    let mut case = Case::new();
    case.snapshot.generation = 2;
    case.refuses(&[(0, 1)], RefusalCheck::Generation, &[0], "answers snapshot 1");
}

#[test]
fn refuses_while_a_foreign_slot_is_open_but_not_for_our_own() {
    let mut case = Case::new();
    case.open(9);
    case.refuses(&[(0, 1)], RefusalCheck::Foreign, &[0], "slots 9 are open");
    case.ledger.our_open_slots = [id(9)].into_iter().collect();
    assert_eq!(case.review(&[(0, 1)]).refusals, []);
}

#[test]
fn a_flag_that_a_replica_keeps_holds_nothing() {
    let mut case = Case::new();
    case.open(0);
    case.snapshot.open_slots[0].node = "f".repeat(40).parse().expect("an id of no primary");
    assert_eq!(case.review(&[(0, 1)]).refusals, [], "not even the slot itself");
}

#[test]
fn refuses_while_a_foreign_atomic_job_runs() {
    let mut case = Case::new();
    let node = case.snapshot.primaries[0].id.clone();
    let slots: SlotSet = "100-110".parse().expect("slots");
    case.snapshot.atomic_jobs.push(AtomicJob { name: "j".into(), node, slots, state: "snapshotting".into() });
    case.refuses(&[(0, 1)], RefusalCheck::Foreign, &[0], "slots 100-110 is snapshotting");
}

#[test]
fn refuses_while_a_stranger_owns_slots() {
    let mut case = Case::new();
    let mut known: BTreeSet<_> = case.snapshot.primaries.iter().map(|primary| primary.id.clone()).collect();
    known.remove(&case.snapshot.primaries[2].id);
    case.ledger.known_nodes = Some(known);
    case.refuses(&[(0, 1)], RefusalCheck::UnknownNode, &[0], "never seen joining");
    case.limits.unknown_nodes = OnUnknown::Allow;
    assert_eq!(case.review(&[(0, 1)]).refusals, []);
}

#[test]
fn names_every_reason_against_the_whole_plan_at_once() {
    let mut case = Case::new();
    case.now_ms += 60_000;
    case.snapshot.problems.push(Problem::WarmingUp);
    let checks: Vec<_> = case.review(&[(0, 1)]).refusals.into_iter().map(|refusal| refusal.check).collect();
    assert_eq!(checks, [RefusalCheck::Health, RefusalCheck::Staleness]);
    assert_eq!(case.review(&[]).refusals, [], "a plan without moves needs no reasons");
}

#[test]
fn refuses_slots_and_targets_that_do_not_exist_and_moves_to_oneself() {
    let case = Case::new();
    case.refuses(&[(16384, 1), (0, 1)], RefusalCheck::Known, &[16384], "do not exist");
    case.refuses(&[(0, 4)], RefusalCheck::Known, &[0], "there are 4");
    case.refuses(&[(0, 0)], RefusalCheck::Known, &[0], "already");
}

#[test]
fn refuses_slots_that_nobody_serves() {
    let mut case = Case::new();
    let mut owners = case.snapshot.owners.as_slice().to_vec();
    owners[8] = crate::model::NO_OWNER;
    case.snapshot.owners = Owners::new(owners);
    case.refuses(&[(8, 1)], RefusalCheck::Known, &[8], "nobody serves");
}

#[test]
fn refuses_the_second_move_of_a_slot() {
    let verdict = Case::new().review(&[(0, 1), (0, 2)]);
    assert_eq!(verdict.approved.moves().len(), 1);
    assert_eq!(verdict.refusals[0].check, RefusalCheck::OneOwner);
    assert_eq!(verdict.refusals[0].slots, [0]);
}

#[test]
fn refuses_targets_that_accept_no_slots() {
    for tag in [Tag::Draining, Tag::Cordoned, Tag::Loading, Tag::Suspect] {
        let mut case = Case::new();
        case.tag(1, tag);
        case.refuses(&[(0, 1), (1, 2)], RefusalCheck::Target, &[0], tag.as_str());
    }
}

#[test]
fn refuses_slots_that_move_already() {
    let mut case = Case::new();
    case.open(9);
    case.ledger.our_open_slots = [id(9)].into_iter().collect();
    case.refuses(&[(9, 2), (10, 2)], RefusalCheck::OpenSlot, &[9], "being moved");

    let mut case = Case::new();
    let (from, to) = (case.snapshot.primaries[0].id.clone(), case.snapshot.primaries[1].id.clone());
    case.snapshot.in_flight.push(Move { slot: id(3), from, to, reason: String::new() });
    case.refuses(&[(3, 2)], RefusalCheck::OpenSlot, &[3], "being moved");
}

#[test]
fn refuses_slots_that_moved_just_now_unless_their_node_drains() {
    let mut case = Case::new();
    case.ledger.last_moved_ms = BTreeMap::from([(id(0), case.now_ms - 599_000), (id(1), case.now_ms - 600_000)]);
    case.refuses(&[(0, 1), (1, 1)], RefusalCheck::CoolDown, &[0], "10m ago (limits.slot_cool_down)");
    case.tag(0, Tag::Draining);
    assert_eq!(case.review(&[(0, 1)]).refusals, []);
}

#[test]
fn refuses_a_pair_that_failed_just_now() {
    let mut case = Case::new();
    let pair = (case.snapshot.primaries[0].id.clone(), case.snapshot.primaries[1].id.clone());
    case.ledger.pair_failed_ms.insert(pair, case.now_ms - 1000);
    case.refuses(&[(0, 1), (1, 2)], RefusalCheck::CoolDown, &[0], "limits.pair_cool_down");
}

#[test]
fn refuses_a_plan_that_empties_a_primary() {
    let mut case = Case::new();
    let mut owners = vec![0; SLOT_COUNT];
    (owners[5], owners[6]) = (3, 3);
    case.snapshot.owners = Owners::new(owners);
    case.refuses(&[(5, 0), (6, 0)], RefusalCheck::LastSlot, &[6], "must keep 1 slots");
    // What it gets may never arrive, so it does not count.
    case.refuses(&[(1, 3), (5, 0), (6, 0)], RefusalCheck::LastSlot, &[6], "must keep 1 slots");
    case.tag(3, Tag::Draining);
    assert_eq!(case.review(&[(5, 0), (6, 0)]).refusals, []);
}

#[test]
fn refuses_what_the_target_has_no_room_for_on_top_of_what_it_gets() {
    let mut case = Case::new();
    case.set_bytes(100.0);
    case.set(resource::MEMORY_MAX, 1, 1000.0);
    case.set(resource::MEMORY_USED, 1, 700.0);
    case.refuses(&[(0, 1), (1, 1), (2, 1), (3, 2)], RefusalCheck::Room, &[2], "10% to spare (limits.memory_margin)");
}

#[test]
fn refuses_when_room_cannot_be_known() {
    let mut case = Case::new();
    case.set(resource::MEMORY_MAX, 1, f64::NAN);
    assert_eq!(case.review(&[(0, 1)]).refusals, [], "allowed unless configured otherwise");
    case.limits.unknown_memory = OnUnknown::Refuse;
    case.refuses(&[(0, 1)], RefusalCheck::Room, &[0], "limits.unknown_memory");

    let mut case = Case::new();
    case.set_bytes(f64::NAN);
    case.refuses(&[(0, 1)], RefusalCheck::Room, &[0], "how large");
}

#[test]
fn refuses_more_moves_than_a_cycle_or_a_node_may_make() {
    let mut case = Case::new();
    case.limits.max_moves_per_cycle = 2;
    case.refuses(&[(0, 1), (1, 2), (2, 3)], RefusalCheck::MoveCap, &[2], "limits.max_moves_per_cycle");
    let mut case = Case::new();
    case.limits.max_moves_per_node = 2;
    case.refuses(&[(0, 1), (1, 2), (2, 3), (16000, 1)], RefusalCheck::MoveCap, &[2], "limits.max_moves_per_node");
}

#[test]
fn refuses_more_bytes_than_a_cycle_or_a_node_may_move() {
    let mut case = Case::new();
    case.set_bytes(100.0);
    case.limits.max_bytes_per_cycle = 250;
    case.refuses(&[(0, 1), (1, 2), (2, 3)], RefusalCheck::ByteCap, &[2], "limits.max_bytes_per_cycle");
    case.limits = Limits { max_bytes_per_node: 250, min_gain: 0.0, ..Limits::default() };
    case.refuses(&[(0, 1), (1, 2), (2, 3)], RefusalCheck::ByteCap, &[2], "limits.max_bytes_per_node");
}

#[test]
fn refuses_more_than_an_hour_may_move() {
    let mut case = Case::new();
    case.ledger.moves_past_hour = 16383;
    case.refuses(&[(0, 1), (1, 2)], RefusalCheck::Churn, &[1], "limits.max_moves_per_hour");
    let mut case = Case::new();
    case.ledger.bytes_past_hour = case.limits.max_bytes_per_hour;
    case.set_bytes(1.0);
    case.refuses(&[(0, 1)], RefusalCheck::Churn, &[0], "limits.max_bytes_per_hour");
}

#[test]
fn refuses_more_than_a_day_may_move() {
    let mut case = Case::new();
    case.ledger.moves_past_day = 65535;
    case.refuses(&[(0, 1), (1, 2)], RefusalCheck::Churn, &[1], "limits.max_moves_per_day");
    let mut case = Case::new();
    case.ledger.bytes_past_day = case.limits.max_bytes_per_day;
    case.set_bytes(1.0);
    case.refuses(&[(0, 1)], RefusalCheck::Churn, &[0], "limits.max_bytes_per_day");
}

#[test]
fn refuses_a_plan_that_gains_too_little_but_not_a_drain() {
    let mut case = Case::new();
    case.limits.min_gain = 0.01;
    case.refuses(&[(0, 1)], RefusalCheck::MinimumGain, &[0], "limits.min_gain");
    case.tag(0, Tag::Draining);
    case.refuses(&[(0, 1), (5000, 3)], RefusalCheck::MinimumGain, &[5000], "limits.min_gain");
}

#[test]
fn a_cap_does_not_make_a_good_plan_worthless() {
    let mut case = Case::new();
    case.snapshot.owners = Owners::new((0..SLOT_COUNT).map(|slot| u32::from(slot >= 15000)).collect());
    case.limits = Limits { max_moves_per_cycle: 1, ..Limits::default() };
    let moves: Vec<(u16, u32)> = (0..4000).map(|slot| (slot, 2)).collect();
    assert_eq!(case.review(&moves).approved.moves().len(), 1);
}

#[test]
fn one_shot_limits_keep_health_and_room_but_no_waiting() {
    let mut case = Case::new();
    case.limits = Limits::default().for_one_shot();
    case.ledger.last_moved_ms.insert(id(0), case.now_ms);
    case.ledger.moves_past_hour = u64::from(u32::MAX) - 1;
    case.ledger.bytes_past_hour = 1 << 60;
    assert_eq!(case.review(&[(0, 1)]).refusals, []);
    case.set(resource::MEMORY_USED, 1, 1e12);
    case.refuses(&[(0, 1)], RefusalCheck::Room, &[0], "no memory");
    case.snapshot.problems.push(Problem::WarmingUp);
    case.refuses(&[(0, 1)], RefusalCheck::Health, &[0], "two looks");
}

#[test]
fn predicts_what_the_approved_moves_do() {
    let mut case = Case::new();
    case.snapshot.owners = Owners::new((0..SLOT_COUNT).map(|slot| (slot % 2) as u32).collect());
    case.set_bytes(10.0);
    let moves: Vec<(u16, u32)> = (0..1000).map(|slot| (slot, 2 + u32::from(slot % 2))).collect();
    let memory = case.review(&moves).predictions["memory"];
    assert!((memory.imbalance_before - 2.0).abs() < 1e-9, "{memory:?}");
    assert!((memory.imbalance_after - 2.0 * (8192.0 - 500.0) / 8192.0).abs() < 1e-9, "{memory:?}");
    assert!((memory.floor - 1.0).abs() < 1e-9, "{memory:?}");
}

#[test]
fn the_ledger_is_plain_json() {
    let mut ledger = Ledger { known_nodes: Some(BTreeSet::new()), ..Ledger::default() };
    let primaries = synthetic(2, 1).primaries;
    ledger.pair_failed_ms.insert((primaries[0].id.clone(), primaries[1].id.clone()), 5);
    ledger.last_moved_ms.insert(id(7), 9);
    let text = serde_json::to_string(&ledger).expect("serialises");
    assert_eq!(serde_json::from_str::<Ledger>(&text).expect("reads"), ledger);
}

/// The bound that the daemon counts on, an order of magnitude above what a release build takes on this plan, so that an
/// unoptimised build on a busy machine passes and a quadratic slip does not.
#[test]
fn a_million_moves_over_a_thousand_nodes_are_reviewed_in_bounded_time() {
    let snapshot = synthetic(1000, 3);
    let moves: Vec<(u16, u32)> = (0..1_000_000u32).map(|n| ((n % 20_000) as u16, n % 1100)).collect();
    let plan = plan(&moves);
    let started = Instant::now();
    let verdict = review(&plan, &snapshot, &Limits::default(), &Ledger::default(), snapshot.taken_at_ms);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(verdict.refusals.iter().all(|refusal| refusal.slots.len() <= 20_000));
    assert!(verdict.refusals.iter().any(|refusal| refusal.reason.contains("983616 more")));
}

/// What [`review`] promises about any approved plan, checked from scratch.
fn assert_sound(case: &Case, verdict: &Verdict) {
    let limits = &case.limits;
    let moves = verdict.approved.moves();
    let place = |node| case.snapshot.index_of(node).expect("a primary") as usize;
    let size = |slot: SlotId| case.snapshot.slot_columns[resource::BYTES][slot.index()];
    let mut seen = BTreeSet::new();
    let mut left: Vec<usize> = (0..4).map(|node| case.snapshot.slots_of(node).len()).collect();
    let (mut gets, mut touched) = (vec![0.0; 4], vec![0u32; 4]);
    for approved in moves {
        assert!(seen.insert(approved.slot), "{approved} moves twice");
        assert_eq!(case.snapshot.owner_of(approved.slot).expect("owned").id, approved.from);
        assert_ne!(approved.from, approved.to);
        let (from, to) = (place(&approved.from), place(&approved.to));
        let target = &case.snapshot.primaries[to];
        assert!(![Tag::Draining, Tag::Cordoned].iter().any(|tag| target.is(*tag)), "{approved}");
        assert!(!case.snapshot.open_slots.iter().any(|open| open.slot == approved.slot));
        left[from] -= 1;
        gets[to] += size(approved.slot).trunc();
        touched[from] += 1;
        touched[to] += 1;
    }
    for node in 0..4 {
        let had = case.snapshot.slots_of(node as u32).len();
        let drains = case.snapshot.primaries[node].is(Tag::Draining);
        assert!(drains || had == 0 || left[node] >= 1, "primary {node} is emptied");
        assert!(touched[node] <= limits.max_moves_per_node);
        let read = |name| case.snapshot.node_column(name).expect("present")[node];
        let usable = read(resource::MEMORY_MAX) * (1.0 - limits.memory_margin);
        assert!(gets[node] == 0.0 || read(resource::MEMORY_USED) + gets[node] <= usable, "primary {node} overflows");
    }
    assert!(moves.len() <= limits.max_moves_per_cycle as usize);
    assert!(moves.is_empty() || case.snapshot.blockers().next().is_none());
    assert!(moves.is_empty() || case.snapshot.open_slots.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_plan_comes_in_the_approved_one_is_sound_and_nothing_is_lost_silently(
        moves in prop::collection::vec((0u16..40, 0u32..6), 0..200),
        owners in prop::collection::vec(0u32..4, 40),
        tags in prop::collection::vec(prop::option::of(prop_oneof![Just(Tag::Draining), Just(Tag::Cordoned)]), 4),
        used in prop::collection::vec(0.0f64..1000.0, 4),
        (cycle_cap, node_cap, gain) in (0u32..60, 0u32..40, prop_oneof![Just(0.0), Just(0.01)]),
        (open, sick) in (prop::option::weighted(0.1, 0u16..40), prop::bool::weighted(0.1)),
    ) {
        let mut case = Case::new();
        // Forty slots with names of their own; the others belong to the first primary.
        let mut all = vec![0; SLOT_COUNT];
        all[..40].copy_from_slice(&owners);
        case.snapshot.owners = Owners::new(all);
        case.set_bytes(40.0);
        for (node, (tag, used)) in tags.into_iter().zip(used).enumerate() {
            case.set(resource::MEMORY_MAX, node, 1000.0);
            case.set(resource::MEMORY_USED, node, used);
            if let Some(tag) = tag { case.tag(node, tag) }
        }
        if let Some(slot) = open { case.open(slot) }
        if sick { case.snapshot.problems.push(Problem::WarmingUp) }
        case.limits =
            Limits { max_moves_per_cycle: cycle_cap, max_moves_per_node: node_cap, min_gain: gain, ..case.limits };
        let verdict = case.review(&moves);
        assert_sound(&case, &verdict);
        let approved = verdict.approved.moves().iter().map(|approved| approved.slot.number());
        let refused = verdict.refusals.iter().flat_map(|refusal| refusal.slots.iter().copied());
        let told: BTreeSet<u16> = approved.chain(refused).collect();
        prop_assert_eq!(told, moves.iter().map(|(slot, _)| *slot).collect::<BTreeSet<u16>>());
        prop_assert!(verdict.refusals.iter().all(|refusal| !refusal.reason.is_empty()));
    }
}
