//! Policies that were built against 0.1.0 of the contract keep loading, and deciding the same, for ever.
//!
//! The files are never built again: whoever has to change one has broken the contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballast::model::{Plan, Snapshot};
use ballast::policy::{Compiler, LoadedPolicy, Policy as _, PolicyHost, Settings, Source, synthetic_snapshot};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/0.1.0");

fn load(name: &str, parameters: &str) -> LoadedPolicy {
    let settings = Settings { compiler: Compiler::InProcess, deadline_ms: 60_000, ..Settings::default() };
    let host = PolicyHost::new(settings).expect("the engine starts");
    let file = Path::new(FILES).join(name).with_extension("wasm");
    host.load(&Source::File(file), parameters).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn recorded() -> Arc<Snapshot> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/languages/valkey-9.1.json");
    Arc::new(serde_json::from_slice(&std::fs::read(file).expect("it is committed")).expect("a snapshot"))
}

/// Slots and targets, and the line for people.
fn shown(plan: &Plan) -> String {
    let moves: Vec<String> = plan.moves.iter().map(|step| format!("{}>{}", step.slot, step.target)).collect();
    format!("{}\n{}\n", plan.summary, moves.join(" "))
}

/// Built by wit-bindgen, by zig's C compiler with a kit by hand, and by hand.
#[test]
fn policies_of_three_toolchains_decide_as_they_did() {
    let decided = std::fs::read_to_string(Path::new(FILES).join("even-memory.txt")).expect("it is committed");
    for name in ["rust", "c", "wat"] {
        let mut policy = load(name, r#"{"threshold-percent": 101, "max-moves": 40}"#);
        assert_eq!((policy.id().name.as_str(), policy.id().version.as_str()), ("even-memory", "0.1.0"), "{name}");
        let plan = policy.plan(&recorded()).expect("it plans");
        assert_eq!(shown(&plan), decided, "{name}");
        assert!(policy.configure(r#"{"max-moves": 0}"#).is_err(), "{name} refuses what it refused");
    }
}

/// State, advice, and a death in between.
#[test]
fn a_policy_of_the_full_world_remembers_and_advises_as_it_did() {
    let mut policy = load("full", "{}");
    assert!(policy.remembers() && policy.scales());
    let snapshot = Arc::new(synthetic_snapshot(3));
    let first_slot = |policy: &mut LoadedPolicy| policy.plan(&snapshot).map(|plan| plan.moves[0].slot);
    assert_eq!(first_slot(&mut policy), Ok(1));
    assert_eq!(first_slot(&mut policy), Ok(2));
    assert!(first_slot(&mut policy).is_err(), "it traps at its third call");
    policy.end_rest();
    assert_eq!(first_slot(&mut policy), Ok(13), "10 for being restored, 2 saved, 1 now");
    let advice = policy.advise(&snapshot).expect("it answers").expect("it offers advice");
    assert_eq!((advice.shards, advice.reason.as_str()), (7, "content"));
}
