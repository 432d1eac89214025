//! What a policy costs in each language: the table of `docs/languages.md`, as Markdown.
//!
//! `make bench-languages`, after `make test-languages` has built the policies and seen that all answer the same. Sizes and ratios
//! are solid; times are this machine's, the fastest of some tries, since other work only ever adds.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark talks and stops at surprises")]

#[path = "../policies/examples/rust/src/even_memory.rs"]
#[allow(unreachable_pub, dead_code, reason = "an example stands for itself: what is public there is private here")]
mod even_memory;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ballast::model::Snapshot;
use ballast::policy::{
    Compiler, Ground, LoadedPolicy, Policy as _, PolicyHost, PolicyWatch, Reload, Settings, Source, synthetic_snapshot,
};
use even_memory::{Node, Parameters, View};

const LANGUAGES: [(&str, &str); 9] = [
    ("Rust", "rust"),
    ("C", "c"),
    ("Zig", "zig"),
    ("AssemblyScript", "assemblyscript"),
    ("WAT", "wat"),
    ("Go", "go"),
    ("JavaScript", "javascript"),
    ("TypeScript", "typescript"),
    ("Python", "python"),
];

/// Spent on each figure, after one try that does not count.
const SPAN: Duration = Duration::from_millis(500);
/// Calls of which the fastest counts.
const TRIES: usize = 20;

const NODES: [usize; 3] = [10, 100, 1000];

fn main() {
    println!("| language | size | compile | load from cache | instantiate | memory | call, 10 nodes | 100 | 1000 |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let snapshots = NODES.map(|nodes| Arc::new(uneven(nodes)));
    let native = snapshots.each_ref().map(native);
    println!("| native Rust | | | | | | {} |", native.map(time).join(" | "));
    for (title, directory) in LANGUAGES {
        row(title, directory, &snapshots, native);
    }
    println!();
    println!(
        "| language | from save to ready, compiled | cached | a call beside compiling, median and longest | the same in quiet |"
    );
    println!("|---|---|---|---|---|");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (title, directory) in LANGUAGES {
        runtime.block_on(reload(title, directory, &snapshots[1]));
    }
}

fn built(directory: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples").join(directory).join("policy.wasm");
    assert!(file.exists(), "{} is not built: run make test-languages", file.display());
    file
}

/// The whole way of a saved file, as the daemon goes it: noticed, compiled by a child, tried. Beside it, the policy that is live is
/// called over and over, as no cycle does.
async fn reload(title: &str, directory: &str, snapshot: &Arc<Snapshot>) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("policy.wasm");
    let settings = Settings {
        compiler: Compiler::Program(env!("CARGO_BIN_EXE_ballast").into()),
        cache_dir: Some(home.path().join("compiled")),
        ..Settings::default()
    };
    let host = PolicyHost::new(settings).unwrap();
    // What is live, and what takes the place of the policy between its two times.
    let other = built(if directory == "wat" { "c" } else { "wat" });
    std::fs::copy(&other, &path).unwrap();
    let mut live = host.load(&Source::File(path.clone()), "{}").unwrap();
    let ground = Ground { snapshot: Some(Arc::clone(snapshot)), ..Ground::default() };
    let (_ground, seen) = tokio::sync::watch::channel(ground);
    let (tell, mut reloads) = tokio::sync::mpsc::channel(1);
    let watch = tokio::spawn(PolicyWatch::new(host, &path, seen).unwrap().run(tell));
    let mut ready = async |file: &Path| {
        std::fs::copy(file, &path).unwrap();
        let saved = Instant::now();
        match reloads.recv().await.unwrap() {
            Reload::Ready(_) => saved.elapsed(),
            Reload::Rejected(failure) => panic!("{failure}"),
        }
    };
    // The first look finds what is there already.
    ready(&other).await;
    let file = built(directory);
    let compiled = ready(&file).await;
    ready(&other).await;
    let cached = ready(&file).await;
    ready(&other).await;
    std::fs::remove_dir_all(home.path().join("compiled")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let beside = std::thread::spawn({
        let (stop, snapshot) = (Arc::clone(&stop), Arc::clone(snapshot));
        move || {
            let mut calls = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                live.plan(&Arc::new(Snapshot::clone(&snapshot))).unwrap();
                calls.push(live.stats().last_call);
                std::thread::sleep(Duration::from_millis(2));
            }
            (live, calls)
        }
    });
    ready(&file).await;
    stop.store(true, Ordering::Relaxed);
    let (mut live, beside) = beside.join().unwrap();
    let quiet = (0..beside.len()).map(|_| {
        live.plan(&Arc::new(Snapshot::clone(snapshot))).unwrap();
        live.stats().last_call
    });
    let quiet: Vec<Duration> = quiet.collect();
    watch.abort();
    println!(
        "| {title} | {} | {} | {} | {} |",
        time(compiled),
        time(cached),
        middle_and_most(beside),
        middle_and_most(quiet)
    );
}

fn middle_and_most(mut calls: Vec<Duration>) -> String {
    calls.sort_unstable();
    format!("{}, {}", time(calls[calls.len() / 2]), time(calls[calls.len() - 1]))
}

fn row(title: &str, directory: &str, snapshots: &[Arc<Snapshot>], native: [Duration; 3]) {
    let file = built(directory);
    let cache = tempfile::tempdir().unwrap();
    let settings = Settings { compiler: Compiler::InProcess, deadline_ms: 60_000, ..Settings::default() };
    let host = PolicyHost::new(Settings { cache_dir: Some(cache.path().join("compiled")), ..settings }).unwrap();
    let load = || host.load(&Source::File(file.clone()), "{}").unwrap();
    let begun = Instant::now();
    let mut policy = load();
    let first = begun.elapsed();
    let cached = fastest(|| (), |()| load());
    let instantiate = instantiate(&mut policy);
    let calls = snapshots.iter().zip(native).map(|(snapshot, native)| {
        // The call alone, on a view that was never lowered before: giving back the view of the call before is not its doing.
        let calls = (0..TRIES).map(|_| {
            policy.plan(&Arc::new(Snapshot::clone(snapshot))).unwrap();
            policy.stats().last_call
        });
        let call = calls.min().unwrap();
        format!("{} ({:.1}×)", time(call), call.as_secs_f64() / native.as_secs_f64())
    });
    let calls: Vec<String> = calls.collect();
    println!(
        "| {title} | {} | {} | {} | {} | {:.1} MiB | {} |",
        size(std::fs::metadata(&file).unwrap().len()),
        time(first.saturating_sub(cached)),
        time(cached),
        time(instantiate),
        policy.stats().memory_bytes as f64 / f64::from(1 << 20),
        calls.join(" | "),
    );
}

/// Some nodes have several times the bytes of others, so that there is something to do for each.
fn uneven(nodes: usize) -> Snapshot {
    let mut snapshot = synthetic_snapshot(nodes);
    let heavy = |slot: usize| 1.0 + f64::from(snapshot.owners.as_slice()[slot] % 5) * 1.7;
    let bytes = snapshot.slot_columns["bytes"].iter().enumerate().map(|(slot, bytes)| bytes * heavy(slot)).collect();
    snapshot.slot_columns.insert("bytes".to_owned(), bytes);
    snapshot
}

/// The policy alone, on what the host would have told it.
fn native(snapshot: &Arc<Snapshot>) -> Duration {
    let view = || View {
        nodes: snapshot.primaries.iter().map(|_| Node::of_tags(&["primary".to_owned()])).collect(),
        owners: snapshot.owners.as_slice().to_vec(),
        bytes: snapshot.slot_columns["bytes"].to_vec(),
        in_flight: Vec::new(),
        errors: BTreeMap::new(),
    };
    fastest(|| (), |()| even_memory::plan(view(), Parameters::default()))
}

/// The fastest `call` on what `prepare` makes; one before warms up.
fn fastest<T, U>(mut prepare: impl FnMut() -> T, mut call: impl FnMut(&T) -> U) -> Duration {
    let mut fastest = Duration::MAX;
    let begun = Instant::now();
    black_box(call(&prepare()));
    while begun.elapsed() < SPAN || fastest == Duration::MAX {
        let prepared = prepare();
        let started = Instant::now();
        black_box(call(&prepared));
        fastest = fastest.min(started.elapsed());
    }
    fastest
}

/// A fresh instance, configured: parameters that are refused end the one before.
fn instantiate(policy: &mut LoadedPolicy) -> Duration {
    let policy = std::cell::RefCell::new(policy);
    let refused = || policy.borrow_mut().configure("[]").unwrap_err();
    fastest(refused, |_| policy.borrow_mut().configure("{}").unwrap())
}

fn time(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 1.0 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    }
}
