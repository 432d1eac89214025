//! The embedded policies plan as their source does: the same moves in WebAssembly as natively.
//!
//! `BALLAST_BUILT_POLICIES` names a directory with other builds of them (`policies/build --check` sets it).

use std::path::PathBuf;
use std::sync::Arc;

use ballast::model::{Owners, ProposedMove, SLOT_COUNT, Snapshot, Tag};
use ballast::policy::{Compiler, Policy as _, PolicyHost, Settings, Source, search_view, synthetic_snapshot};
use ballast_policy_kit::{Move, Policy, Proposal, parse_parameters};

/// Clusters of several sizes: as drawn, and with an empty, a draining and a cordoned node.
fn snapshots() -> Vec<Snapshot> {
    let mut snapshots: Vec<Snapshot> = [1, 2, 3, 10, 100, 1000].map(synthetic_snapshot).into();
    for nodes in [4, 30] {
        let mut snapshot = synthetic_snapshot(nodes);
        let owners = (0..SLOT_COUNT).map(|slot| u32::try_from(slot * (nodes - 1) / SLOT_COUNT).expect("small"));
        snapshot.owners = Owners::new(owners.collect());
        snapshot.primaries[nodes - 1].tags.push(Tag::Empty);
        snapshots.push(snapshot);
        let mut snapshot = synthetic_snapshot(nodes);
        snapshot.primaries[0].tags.push(Tag::Draining);
        snapshot.primaries[1].tags.push(Tag::Cordoned);
        snapshots.push(snapshot);
    }
    snapshots
}

fn compare<P: Policy>(name: &str, parameters: &str) {
    let settings = Settings { compiler: Compiler::InProcess, deadline_ms: 60_000, ..Settings::default() };
    let host = PolicyHost::new(settings).expect("the engine starts");
    let source = match std::env::var_os("BALLAST_BUILT_POLICIES") {
        Some(directory) => Source::File(PathBuf::from(directory).join(format!("ballast_{name}.wasm"))),
        None => Source::Embedded(name.to_owned()),
    };
    let mut policy = host.load(&source, parameters).expect("it loads");
    assert_eq!((policy.id().name.as_str(), policy.id().version.as_str()), (name, P::describe().version));
    assert!(policy.imports().iter().all(|import| import.starts_with("ballast:policy/")), "{:?}", policy.imports());
    let parameters = parse_parameters::<P>(parameters).expect("sound parameters");
    let mut memory = P::Memory::default();
    let mut moved = 0;
    for snapshot in snapshots() {
        let snapshot = Arc::new(snapshot);
        let native: Proposal = P::plan(&search_view(&snapshot), &parameters, &mut memory).expect("it plans natively");
        let plan = policy.plan(&snapshot).expect("it plans in WebAssembly");
        let proposed = |step: &ProposedMove| Move { slot: step.slot, target: step.target, reason: step.reason.clone() };
        assert_eq!(plan.moves.iter().map(proposed).collect::<Vec<Move>>(), native.moves);
        assert_eq!((plan.summary, plan.gauges), (native.summary, native.gauges));
        moved += plan.moves.len();
    }
    assert!(moved > 1000, "snapshots that move nothing compare nothing");
}

#[test]
fn balance_plans_the_same_in_webassembly_as_natively() {
    compare::<ballast_balance::Balance>("balance", "{}");
    compare::<ballast_balance::Balance>("balance", r#"{"trigger": 1.03, "target": 1.01, "pinned": [1, 2, 3]}"#);
}

#[test]
fn slots_plans_the_same_in_webassembly_as_natively() {
    compare::<ballast_slots::Slots>("slots", r#"{"threshold": 0}"#);
}
