//! Policies are compiled by a confined child of the real program.

use std::fmt::Write as _;
use std::path::Path;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::policy::{
    Compiler, Ground, LoadFailure, Policy as _, PolicyHost, PolicyWatch, Reload, Settings, Source, Stage,
    embedded_policy, synthetic_snapshot,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
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

/// A few bytes changed, taken out, doubled, put in or cut off.
fn mutate(bytes: &mut Vec<u8>, lot: &mut StdRng) {
    for _ in 0..=lot.random_range(0..4) {
        let at = lot.random_range(0..bytes.len());
        match lot.random_range(0..8) {
            0..3 => bytes[at] ^= 1 << lot.random_range(0..8),
            3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][lot.random_range(0..5)],
            4 => drop(bytes.drain(at..(at + 1 + lot.random_range(0..16)).min(bytes.len()))),
            5 => {
                let copied = bytes[at..(at + 1 + lot.random_range(0..32)).min(bytes.len())].to_vec();
                let to = lot.random_range(0..bytes.len());
                drop(bytes.splice(to..to, copied));
            }
            6 => bytes.truncate(at + 1),
            _ => bytes.insert(at, lot.random()),
        }
    }
}

/// The real way of a file: read and compiled by the child, then loaded and asked here.
#[test]
fn mutated_files_are_refused_or_run_within_their_bounds() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("BALLAST_TEST_FUZZ").unwrap_or(120);
    let mut lot = StdRng::seed_from_u64(number("BALLAST_TEST_SEED").unwrap_or(1));
    let compiler = Compiler::Program(env!("CARGO_BIN_EXE_ballast").into());
    let settings = Settings { compiler, deadline_ms: 500, memory_mib: 32, compile_seconds: 10, ..Settings::default() };
    let host = PolicyHost::new(settings).expect("an engine");
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/0.1.0");
    let sound =
        ["wat", "full", "c"].map(|name| std::fs::read(files.join(name).with_extension("wasm")).expect("committed"));
    let snapshot = Arc::new(synthetic_snapshot(3));
    let file = tempfile::NamedTempFile::new().expect("room");
    let (mut refused, mut ran) = (0, 0);
    for round in 0..rounds {
        let mut bytes = sound[lot.random_range(0..sound.len())].clone();
        mutate(&mut bytes, &mut lot);
        std::fs::write(file.path(), &bytes).expect("writable");
        match host.load(&Source::File(file.path().to_owned()), "{}") {
            Err(failure) => {
                assert!(!failure.reason.is_empty() && !failure.next_step.is_empty(), "round {round}: {failure:?}");
                refused += 1;
            }
            Ok(mut policy) => {
                // Whatever it answers: it answers in time, or is ended.
                drop(policy.plan(&snapshot));
                drop(policy.advise(&snapshot));
                ran += 1;
            }
        }
    }
    println!("{refused} files refused, {ran} ran");
    assert!(refused > 0 && ran > 0, "{refused} refused, {ran} ran: mutations that all end alike try nothing");
}

/// The fuzzer found it: packages of its type that depend on each other send whoever reads them into endless recursion.
#[test]
fn a_file_that_overflows_the_stack_of_its_reader_harms_the_child_alone() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/packages-in-a-circle.wasm");
    let compiler = Compiler::Program(env!("CARGO_BIN_EXE_ballast").into());
    let host = PolicyHost::new(Settings { compiler, ..Settings::default() }).expect("an engine");
    let failure = host.load(&Source::File(file), "{}").expect_err("it is hostile");
    assert_eq!(failure.stage, Stage::Compile, "{failure}");
    assert!(failure.reason.contains("overflowed its stack"), "{failure}");
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
