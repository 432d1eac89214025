//! Ballast dies: at every call of a migration, before it is sent, while it is under way, and before its reply is read.

use std::time::Duration;

use super::stage::{Clients, Stage, WAYS, Way};
use super::toll::{Dice, Toll};
use super::tripwire::{Moment, Tripwire};
use crate::support::turn;

/// Slots with keys in one migration: two windows of the gentle pace.
const SLOTS: usize = 6;

/// Deaths per way in `make test`.
const DEATHS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ballast_dies_at_any_call_and_the_next_one_ends_what_it_began() {
    for way in WAYS {
        let _turn = turn().await;
        println!("{}", dies(way).await);
    }
}

async fn dies(way: Way) -> Toll {
    let mut toll = Toll::of(format!("Ballast dies, {way}"));
    let mut dice = Dice::cast(&toll.family);
    let stage = Stage::of(way, |builder| builder.replicas(1).node_timeout(Duration::from_secs(15))).await;
    let undisturbed = calls_of_a_migration(&stage).await;
    let instants = (0..undisturbed).flat_map(|call| Moment::ALL.map(|moment| (call, moment))).collect();
    for (call, moment) in dice.some_of(DEATHS, instants) {
        let story = format!("{way}: death {moment:?} call {call} of {undisturbed}");
        let load = stage.load(0);
        let wire = Tripwire::at(Some((call, moment)));
        let mut engine = stage.engine(&stage.order(SLOTS).await, &wire);
        tokio::select! {
            () = wire.reached() => toll.injected += 1,
            // Rounds take as long as they take: this one made fewer calls.
            reports = &mut engine => drop(reports.expect("the engine does not panic")),
        }
        // Dropping its future is what a kill does: no step is finished, nothing is tidied up.
        engine.abort();
        stage.mend(&mut toll, &story).await;
        stage.check(load, Clients::Unharmed, &story).await;
    }
    toll
}

/// How many calls a migration takes when nothing goes wrong.
async fn calls_of_a_migration(stage: &Stage) -> usize {
    let wire = Tripwire::at(None);
    let order = stage.order(SLOTS).await;
    let reports = stage.engine(&order, &wire).await.expect("the engine does not panic");
    let moved = reports.iter().flat_map(|report| report.moved.iter()).collect();
    assert_eq!(order.slots, moved, "{reports:?}");
    wire.calls()
}
