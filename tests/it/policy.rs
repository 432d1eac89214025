//! Policies are compiled by a confined child of the real program.

use std::fmt::Write as _;
use std::path::Path;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::policy::{
    Compiler, Ground, LoadFailure, Policy as _, PolicyHost, PolicyWatch, Reload, Settings, Source, Stage,
    embedded_policy, synthetic_snapshot,
};
use tokio::sync::{mpsc, watch};

/// Loads `component`, which is no policy, with the real program as compiler, and says how far it came.
fn load(component: &str, cache: &Path, settings: Settings) -> LoadFailure {
    let file = tempfile::NamedTempFile::new().expect("room");
    std::fs::write(file.path(), wat::parse_str(component).expect("it assembles")).expect("writable");
    let settings = Settings {
        compiler: Compiler::Program(env!("CARGO_BIN_EXE_ballast").into()),
        cache_dir: Some(cache.join("compiled")),
        ..settings
    };
    let host = PolicyHost::new(settings).expect("an engine");
    host.load(&Source::File(file.path().to_owned()), "{}").expect_err("it is no policy")
}

/// A component whose one function has so many additions.
fn long(additions: usize) -> String {
    let mut text = String::from("(component (core module (func (param i32) (result i32) local.get 0");
    for number in 0..additions {
        // Each keeps its operand alive to the end, which is what register allocation finds hard.
        write!(text, " local.get 0 i32.const {number} i32.add local.tee 0 i32.add").expect("strings have room");
    }
    text.push_str(")))");
    text
}

#[test]
fn a_child_compiles_what_the_daemon_then_loads() {
    let cache = tempfile::tempdir().expect("room");
    let failure = load("(component)", cache.path(), Settings::default());
    assert_eq!(failure.stage, Stage::Link, "compiled, loaded, and only then found wanting: {failure}");
    let compiled = std::fs::read_dir(cache.path().join("compiled")).expect("made").count();
    assert_eq!(compiled, 1, "and kept for the next start");
}

#[test]
fn a_child_that_compiles_for_too_long_is_ended() {
    let cache = tempfile::tempdir().expect("room");
    let failure = load(&long(100_000), cache.path(), Settings { compile_seconds: 1, ..Settings::default() });
    assert_eq!(failure.stage, Stage::Compile, "{failure}");
    assert!(failure.reason.contains("1 s"), "{failure}");
}

#[test]
fn a_child_that_wants_too_much_memory_is_ended() {
    let cache = tempfile::tempdir().expect("room");
    let failure = load(&long(100_000), cache.path(), Settings { compile_memory_mib: 256, ..Settings::default() });
    assert_eq!(failure.stage, Stage::Compile, "{failure}");
    assert!(failure.reason.contains("more than 256 MiB"), "{failure}");
}

/// The whole way that a saved file goes: noticed, compiled by the child, linked, described, configured, tried.
#[tokio::test]
async fn a_rust_policy_is_ready_soon_after_it_is_saved() {
    let directory = tempfile::tempdir().expect("room");
    let path = directory.path().join("policy.wasm");
    let settings = Settings {
        compiler: Compiler::Program(env!("CARGO_BIN_EXE_ballast").into()),
        cache_dir: Some(directory.path().join("compiled")),
        ..Settings::default()
    };
    let host = PolicyHost::new(settings).expect("an engine");
    let ground = Ground { snapshot: Some(Arc::new(synthetic_snapshot(3))), ..Ground::default() };
    let (_ground, seen) = watch::channel(ground);
    let (tell, mut reloads) = mpsc::channel(1);
    let policies = tokio::spawn(PolicyWatch::new(host, &path, seen).expect("watchable").run(tell));
    for name in ["slots", "balance", "slots"] {
        let saved = Instant::now();
        std::fs::write(&path, embedded_policy(name).expect("embedded")).expect("writable");
        let news = tokio::time::timeout(Duration::from_secs(60), reloads.recv()).await.expect("in time");
        match news.expect("it watches") {
            Reload::Ready(policy) => assert_eq!(policy.id().name, name),
            Reload::Rejected(failure) => panic!("{failure}"),
        }
        println!("{name}: ready {:?} after it was saved", saved.elapsed());
    }
    drop(reloads);
    policies.await.expect("it ends when nobody listens");
}
