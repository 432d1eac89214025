//! Ballast dies: at every call of a migration, before it is sent, while it is under way, and before its reply is read.

use super::stage::{Clients, Ground, Stage, WAYS, Way};
use super::toll::{Dice, Toll};
use super::tripwire::{Diary, Moment};
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
    let mut stage = Stage::of(way, Ground::NO_ELECTIONS).await;
    let undisturbed = stage.undisturbed(SLOTS).await;
    let instants = (0..undisturbed).flat_map(|call| Moment::ALL.map(|moment| (call, moment))).collect();
    for (call, moment) in dice.some_of(DEATHS, instants) {
        let story = format!("{way}: death {moment:?} call {call} of {undisturbed}");
        stage.diary = Diary::begin();
        let load = stage.load(0);
        let wire = stage.wire(Some((call, moment)));
        let mut engine = stage.engine(&stage.order(SLOTS).await, &wire);
        tokio::select! {
            () = wire.reached() => toll.injected += 1,
            // Rounds take as long as they take: this one made fewer calls.
            reports = &mut engine => drop(reports.expect("the engine does not panic")),
        }
        // Dropping its future is what a kill does: no step is finished, nothing is tidied up.
        engine.abort();
        stage.mend(&mut toll, &story).await;
        stage.check(load, Clients::Unharmed, &mut toll, &story).await;
    }
    toll
}
