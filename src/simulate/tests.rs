//! Whole runs, small ones, with native policies in the place of WebAssembly.

use std::sync::Arc;

use super::engine::Engine;
use super::*;
use crate::collector::synthetic::synthetic;
use crate::model::{Plan, PolicyId, Problem, ProposedMove, SLOT_COUNT, Snapshot};
use crate::policy::{FailureKind, PolicyFailure, ScalingAdvice, search_view};

/// Asks a function.
struct Native<F>(PolicyId, F);

impl<F: FnMut(&Arc<Snapshot>) -> Result<Vec<ProposedMove>, PolicyFailure> + Send> Policy for Native<F> {
    fn id(&self) -> &PolicyId {
        &self.0
    }

    fn plan(&mut self, snapshot: &Arc<Snapshot>) -> Result<Plan, PolicyFailure> {
        let moves = (self.1)(snapshot)?;
        let policy = self.0.clone();
        Ok(Plan { policy, generation: snapshot.generation, moves, summary: String::new(), gauges: Vec::new() })
    }
}

fn native(
    plan: impl FnMut(&Arc<Snapshot>) -> Result<Vec<ProposedMove>, PolicyFailure> + Send + 'static,
) -> Option<Box<dyn Policy>> {
    let id = PolicyId { name: "native".into(), version: "1".into(), digest: String::new() };
    Some(Box::new(Native(id, plan)))
}

fn step(slot: u16, target: u32) -> ProposedMove {
    ProposedMove { slot, target, reason: String::new() }
}

fn failed(kind: FailureKind, reason: &str) -> PolicyFailure {
    PolicyFailure { policy: "native".into(), kind, reason: reason.to_owned() }
}

/// The default policy, natively.
fn balance() -> Option<Box<dyn Policy>> {
    let parameters = ballast_balance::Parameters::default();
    let mut memory = ballast_balance::Memory::default();
    native(move |snapshot| {
        let proposal = ballast_balance::plan(&search_view(snapshot), &parameters, &mut memory)
            .map_err(|failure| failed(FailureKind::NotReady, &format!("{failure:?}")))?;
        Ok(proposal.moves.into_iter().map(|found| step(found.slot, found.target)).collect())
    })
}

/// The same, with its advice about the number of shards.
struct Advised(Box<dyn Policy>, ballast_balance::Memory);

impl Policy for Advised {
    fn id(&self) -> &PolicyId {
        self.0.id()
    }

    fn plan(&mut self, snapshot: &Arc<Snapshot>) -> Result<Plan, PolicyFailure> {
        self.0.plan(snapshot)
    }

    fn advise(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<ScalingAdvice>, PolicyFailure> {
        let parameters = ballast_balance::Parameters::default();
        let advice = <ballast_balance::Balance as ballast_policy_kit::Policy>::advise(
            &search_view(snapshot),
            &parameters,
            &mut self.1,
        )
        .map_err(|failure| failed(FailureKind::NotReady, &format!("{failure:?}")))?;
        Ok(Some(ScalingAdvice { shards: advice.shards, retire: advice.retire, reason: advice.reason }))
    }
}

#[test]
fn a_week_of_days_and_nights_is_followed_and_noise_is_not() {
    let play = |wave: &str| {
        let mut week = builtin("week").expect("there is one").expect("it reads");
        // Fewer looks, each with what the collector would know by then.
        week.cycle = std::time::Duration::from_secs(900);
        (week.collector.fast_half_life, week.collector.freeze) = (week.cycle, week.cycle);
        if wave.is_empty() {
            (week.load.wave, week.load.utilisation) = (None, 0.55);
            week.event.clear();
        }
        let case = Case::of(&week, 1);
        let advised = Advised(balance().expect("there is one"), ballast_balance::Memory::default());
        (play(&case, None), play(&case, Some(Box::new(advised))))
    };
    let (fixed, run) = play("days and nights");
    let shards = run.measures.shards;
    assert!(shards.least == 3 && (6..=8).contains(&shards.most), "{shards:?}");
    // Up and down once a day, and once for the crowd at night: a load that goes to and fro calls for no more.
    assert!(shards.turns <= 16 && shards.more > 10, "{shards:?}");
    assert!(fixed.measures.overloaded > 0.15 && run.measures.overloaded < 0.03, "{:?}", run.measures.overloaded);
    assert!(shards.node_hours < 1.4 * fixed.measures.shards.node_hours, "{shards:?}");
    let (_, noisy) = play("");
    assert_eq!((noisy.measures.shards.more, noisy.measures.shards.fewer), (0, 0), "{:?}", noisy.measures.shards);
}

/// Half an hour in cycles of a minute, with the collector's means in proportion.
const SMALL: &str = "summary = 'small'\nhours = 0.5\ncycle = '1m'\n[cluster]\nnodes = 4\n\
    [load]\nutilisation = 0.4\nskew = 0.99\nnoise = 0.3\n\
    [collector]\nfast_half_life = '3m'\nslow_half_life = '30m'\nfreeze = '2m'\n";

fn case(more: &str) -> Case {
    Case::of(&Scenario::read("test", &format!("{SMALL}{more}")).expect("a scenario"), 1)
}

fn play(case: &Case, policy: Option<Box<dyn Policy>>) -> Run {
    Engine::new(case, policy).run("test")
}

#[test]
fn balance_evens_a_skewed_load_and_none_leaves_it() {
    let case = case("");
    let (none, run) = (play(&case, None), play(&case, balance()));
    let last = |run: &Run| *run.charts.cpu_excess.most.last().expect("a part");
    assert!(last(&none) > 1.15 && none.measures.moves == 0, "{:?}", none.measures);
    assert!(last(&run) < 1.08, "{:?}", run.measures);
    assert!(run.measures.p99_factor_mean < none.measures.p99_factor_mean);
    assert_eq!((run.measures.disturbances, run.measures.recovered), (1, 1));
    let (moves, bytes) =
        run.plans.iter().fold((0, 0.0), |(moves, bytes), plan| (moves + plan.moves, bytes + plan.bytes));
    assert_eq!((moves, bytes), (run.measures.moves, run.measures.bytes_moved), "what plans moved is what was moved");
    assert_eq!(*run.charts.bytes_moved.most.last().expect("a part"), bytes);
    // A source sends so many bytes a second, and no faster.
    let took: f64 = run.plans.iter().map(|plan| plan.took_s).sum();
    assert!(bytes / took <= 4.0 * 16.0 * 1_048_576.0, "{bytes} B in {took} s over four pairs at most");
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let report = |seed| {
        let case = Case::of(&Scenario::read("test", SMALL).expect("a scenario"), seed);
        let players = ["none", "balance"]
            .map(|name| Player { label: name.to_owned(), policy: if name == "none" { None } else { balance() } });
        serde_json::to_string(&simulate(vec![(case, players.into())], seed, |_| {})).expect("serialises")
    };
    assert_eq!(report(1), report(1));
    assert_ne!(report(1), report(2));
}

#[test]
fn every_built_in_scenario_runs_and_every_slot_has_one_owner_at_any_time() {
    for name in builtin_names() {
        let mut scenario = builtin(name).expect("there is one").expect("it reads");
        // What happens last has happened.
        let last = scenario.event.iter().map(|event| event.at().as_secs_f64() / 3600.0).fold(0.0, f64::max);
        scenario.shorten((last + 0.1).max(0.3).min(scenario.hours));
        // Few looks, or this would take long.
        scenario.cycle = std::time::Duration::from_secs(600);
        let case = Case::of(&scenario, 1);
        let mut engine = Engine::new(&case, balance());
        while engine.step() {
            let world = &engine.world;
            assert!(world.owners.iter().all(|owner| (*owner as usize) < world.nodes.len()), "{name}");
            assert!(world.nodes.iter().map(|node| &node.id).is_sorted(), "{name}");
        }
        let snapshot = engine.snapshot();
        // Who took over in the last cycle was looked at once.
        let blockers = snapshot.blockers().filter(|problem| **problem != Problem::WarmingUp);
        assert_eq!(blockers.collect::<Vec<_>>(), Vec::<&Problem>::new(), "{name}: healthy at the end");
    }
}

#[test]
fn policies_see_the_columns_that_the_daemon_s_policies_see() {
    let case = case("");
    let mut engine = Engine::new(&case, native(|_| Ok(Vec::new())));
    while engine.step() {}
    let (snapshot, usual) = (engine.snapshot(), synthetic(4, 1));
    assert!(snapshot.slot_columns.keys().eq(usual.slot_columns.keys()), "{:?}", snapshot.slot_columns.keys());
    assert!(snapshot.node_columns.keys().eq(usual.node_columns.keys()), "{:?}", snapshot.node_columns.keys());
    assert!(snapshot.metrics.iter().all(|metric| metric.confidence == 1.0));
    assert_eq!(snapshot.problems, []);
    let seen: f64 = snapshot.slot_column("cpu-usec/slow").expect("counted").iter().sum();
    let real: f64 = engine.world.loads.cpu.iter().sum();
    assert!((seen / real - 1.0).abs() < 0.02, "noise has a mean of nothing: {seen} µs/s of {real}");
}

#[test]
fn a_policy_that_faults_shows_as_such_and_the_run_goes_on() {
    let run = play(&case(""), native(|_| Err(failed(FailureKind::Trap, "unreachable"))));
    assert_eq!(run.measures.faults.get("trap"), Some(&10), "and then it was given up");
    assert!(run.measures.given_up.is_some_and(|why| why.contains("unreachable")));
    let mut cycles = 0;
    let now_and_then = move |_: &Arc<Snapshot>| {
        cycles += 1;
        if cycles % 10 == 0 { Ok(Vec::new()) } else { Err(failed(FailureKind::Trap, "unreachable")) }
    };
    let run = play(&case(""), native(now_and_then));
    assert_eq!(
        (run.measures.faults.get("trap"), run.measures.given_up),
        (Some(&28), None),
        "31 cycles, both ends counted"
    );
}

#[test]
fn a_slot_that_goes_to_and_fro_is_ping_pong_and_the_guard_stops_it_by_default() {
    let to_and_fro = || {
        native(|snapshot: &Arc<Snapshot>| {
            let here = snapshot.owners.as_slice()[0];
            Ok(vec![step(0, 1 - here.min(1))])
        })
    };
    let run = play(&case("[limits]\nslot_cool_down = '0s'\nmin_gain = 0.0\n"), to_and_fro());
    assert!(run.measures.ping_pongs > 10 && run.measures.moved_again == 1, "{:?}", run.measures);
    let run = play(&case(""), to_and_fro());
    assert!(run.measures.moves <= 4, "{:?}", run.measures);
    assert!(!run.measures.refusals.is_empty());
}

#[test]
fn the_dead_are_replaced_the_drained_are_emptied_and_nothing_moves_past_a_silent_node() {
    let events = "[[event]]\nkind = 'fail'\nat = '1m'\nnode = 0\n\
        [[event]]\nkind = 'silence'\nat = '2m'\nnode = 1\nlasts = '10m'\n\
        [[event]]\nkind = 'drain'\nat = '3m'\nnodes = [3]\n";
    let case = case(events);
    let mut engine = Engine::new(&case, balance());
    while engine.step() {}
    assert_eq!(engine.world.nodes.len(), 4);
    assert_ne!(engine.world.nodes[0].id, case.nodes[0].id, "its replica is another node");
    assert!(engine.world.is_drained());
    let run = play(&case, balance());
    assert!(run.measures.refusals.get("health").is_some_and(|slots| *slots > SLOT_COUNT as u64), "{:?}", run.measures);
}

#[test]
fn a_recording_is_replayed_with_other_decisions() {
    let mut later = synthetic(5, 1);
    later.taken_at_ms += 600_000;
    let recording = Recording::of(vec![later, synthetic(5, 1)]).expect("whole");
    let case = recording.case("history", None, 1);
    assert_eq!((case.primaries(), case.hours()), (5, 1.0));
    let (none, run) = (play(&case, None), play(&case, balance()));
    assert!(run.measures.balance["cpu"].excess_mean < none.measures.balance["cpu"].excess_mean, "{:?}", run.measures);
    assert_eq!(Recording::of(Vec::new()), Err(HistoryError::NoSnapshot));
    assert_eq!(Recording::of(vec![Snapshot::default()]), Err(HistoryError::NoColumn("cpu-usec")));
}

#[test]
fn replicas_stand_in_the_next_zone_and_answer_even_if_the_dead_did_not() {
    let zones = SMALL.replace("nodes = 4", "nodes = 6\nzones = ['a', 'b', 'c']");
    let events = "[[event]]\nkind = 'silence'\nat = '1m'\nnode = 0\nlasts = '20m'\n\
        [[event]]\nkind = 'fail-zone'\nat = '2m'\nzone = 'a'\n";
    let case = Case::of(&Scenario::read("test", &format!("{zones}{events}")).expect("a scenario"), 1);
    let mut engine = Engine::new(&case, balance());
    while engine.step() {}
    let zones: Vec<&str> = engine.world.nodes.iter().map(|node| node.zone.as_str()).collect();
    assert_eq!(zones, ["b", "c", "b", "c", "b", "b"], "the heirs come last");
    assert!(engine.world.nodes.iter().all(|node| node.answers()));
}

#[test]
fn what_moves_between_zones_is_counted() {
    let zones = SMALL.replace("nodes = 4", "nodes = 4\nzones = ['a', 'b']");
    let case = Case::of(&Scenario::read("test", &format!("{zones}[limits]\nmin_gain = 0.0\n")).expect("a scenario"), 1);
    let once = |target| {
        native(move |snapshot: &Arc<Snapshot>| {
            let there = snapshot.owners.as_slice()[0] == target;
            Ok(if there { Vec::new() } else { vec![step(0, target)] })
        })
    };
    // Slot 0 is on node 0 in zone a; so is node 2.
    let (near, far) = (play(&case, once(2)), play(&case, once(1)));
    assert_eq!((near.measures.moves, far.measures.moves), (1, 1), "{:?}", near.measures);
    assert_eq!(near.measures.bytes_between_zones, 0.0);
    assert_eq!(far.measures.bytes_between_zones, far.measures.bytes_moved);
}

#[test]
fn only_what_changes_the_balance_is_a_disturbance() {
    let events = "[[event]]\nkind = 'fail'\nat = '5m'\nnode = 0\n\
        [[event]]\nkind = 'burst'\nat = '10m'\nslots = 100\nfactor = 9.0\nramp = '10s'\nlasts = '5m'\nfade = '1m'\n";
    let run = play(&case(events), None);
    assert_eq!(run.measures.disturbances, 3, "the start, the burst, and its end");
}
