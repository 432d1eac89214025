//! What it costs to ask a policy in WebAssembly rather than natively, and what a cycle spends around the policy.
//!
//! `cargo bench --bench policy_call`. Ratios are against the same code run natively in the same process; the machine
//! decides the times. `balance` is asked on made-up clusters; `puller` is a policy without an algorithm, which pulls
//! the columns that `balance` pulls and returns as many moves, so that what remains is the boundary alone.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark talks and stops at surprises")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::guard::{Ledger, Limits, review};
use ballast::model::Snapshot;
use ballast::policy::{
    Compiler, LoadedPolicy, Policy, PolicyHost, Settings, Source, WIT, search_view, synthetic_snapshot,
};
use ballast_balance::{Memory, Parameters};

/// Time spent on each figure, after one call that does not count.
const SPAN: Duration = Duration::from_secs(1);

/// The issue's bound on what a cycle spends outside the policy's own algorithm, with 1000 nodes.
const CYCLE_BOUND: Duration = Duration::from_millis(5);

/// Columns that `balance` pulls by default.
const COLUMNS: [&str; 8] =
    ["bytes", "keys", "cpu-usec", "cpu-usec/variance", "net-in", "net-in/variance", "net-out", "net-out/variance"];

fn main() {
    let settings = Settings { compiler: Compiler::InProcess, deadline_ms: 60_000, ..Settings::default() };
    let host = PolicyHost::new(settings).unwrap();
    println!("host -> policy -> host, the fastest call of a second");
    println!("{:>6}  {:>12}  {:>12}  {:>6}  {:>12}", "nodes", "native", "wasm", "ratio", "boundary");
    let mut largest = None;
    for nodes in [10, 100, 1000] {
        let snapshot = Arc::new(synthetic_snapshot(nodes));
        let native = native(&snapshot);
        let (wasm, moves) = wasm(&host, &snapshot);
        let mut puller = puller(&host, moves);
        let boundary = fastest(|| fresh(&snapshot), |snapshot| puller.plan(snapshot).unwrap());
        let ratio = wasm.as_secs_f64() / native.as_secs_f64();
        println!("{nodes:>6}  {native:>12.1?}  {wasm:>12.1?}  {ratio:>6.2}  {boundary:>12.1?}");
        largest = Some((snapshot, puller));
    }
    if let Some((snapshot, puller)) = largest {
        cycle(&snapshot, puller);
    }
}

/// What a cycle of 1000 nodes spends from assembled snapshot to approved plan, the policy's algorithm left out.
fn cycle(snapshot: &Arc<Snapshot>, mut puller: LoadedPolicy) {
    let (limits, ledger, now) = (Limits::default(), Ledger::default(), snapshot.taken_at_ms);
    let plan = puller.plan(snapshot).unwrap();
    let moves = plan.moves.len();
    let guard = fastest(|| (), |()| review(&plan, snapshot, &limits, &ledger, now));
    let ask_and_review = |snapshot: &Arc<Snapshot>| {
        let plan = puller.plan(snapshot).unwrap();
        review(&plan, snapshot, &limits, &ledger, now)
    };
    let around = fastest(|| fresh(snapshot), ask_and_review);
    let verdict = if around < CYCLE_BOUND { "within" } else { "ABOVE" };
    println!();
    println!("snapshot -> approved plan, 16384 slots, 1000 nodes, {moves} moves, the policy's algorithm left out:");
    println!("{around:.1?}, of which the guard {guard:.1?}: {verdict} {CYCLE_BOUND:?}");
}

/// The same facts in a new allocation, as every cycle brings them: nothing that was lowered before is found again.
fn fresh(snapshot: &Arc<Snapshot>) -> Arc<Snapshot> {
    Arc::new(Snapshot::clone(snapshot))
}

fn native(snapshot: &Arc<Snapshot>) -> Duration {
    let (view, parameters) = (search_view(snapshot), Parameters::default());
    fastest(|| (), |()| ballast_balance::plan(&view, &parameters, &mut Memory::default()).unwrap())
}

fn wasm(host: &PolicyHost, snapshot: &Arc<Snapshot>) -> (Duration, usize) {
    let mut policy = host.load(&Source::Embedded("balance".into()), "{}").unwrap();
    let moves = policy.plan(snapshot).unwrap().moves.len();
    (fastest(|| fresh(snapshot), |snapshot| policy.plan(snapshot).unwrap()), moves)
}

/// The fastest `call` on a fresh `prepare`; one call before warms up. Other work on the machine only ever adds.
fn fastest<T, U>(mut prepare: impl FnMut() -> T, mut call: impl FnMut(&T) -> U) -> Duration {
    black_box(call(&prepare()));
    let mut fastest = Duration::MAX;
    let begun = Instant::now();
    while begun.elapsed() < SPAN {
        let prepared = prepare();
        let started = Instant::now();
        black_box(call(&prepared));
        fastest = fastest.min(started.elapsed());
    }
    fastest
}

/// A policy that pulls and returns, and thinks nothing in between.
fn puller(host: &PolicyHost, moves: usize) -> LoadedPolicy {
    let mut module = wat::parse_str(text(moves)).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("policy.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some("slot-policy")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), module).unwrap();
    host.load(&Source::File(file.path().to_owned()), "{}").unwrap()
}

/// Texts at 16, results of imports at 512, the proposal at 1024, moves from 65536, imported lists above them.
fn text(moves: usize) -> String {
    let mut names = String::new();
    let mut pulls = String::new();
    for column in COLUMNS {
        let at = 64 + names.len();
        writeln!(pulls, "(call $slot_metric (i32.const {at}) (i32.const {}) (i32.const 512))", column.len()).unwrap();
        names.push_str(column);
    }
    format!(
        r#"(module
  (import "ballast:policy/cluster@0.1.0" "nodes" (func $nodes (param i32)))
  (import "ballast:policy/cluster@0.1.0" "owners" (func $owners (param i32)))
  (import "ballast:policy/cluster@0.1.0" "slot-metric" (func $slot_metric (param i32 i32 i32)))
  (memory (export "memory") 256)
  (global $heap (mut i32) (i32.const 1048576))
  (data (i32.const 16) "puller0.1.0nothing to say")
  (data (i32.const 64) "{names}")
  (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func (export "ballast:policy/policy@0.1.0#describe") (result i32)
    (i32.store offset=256 (i32.const 0) (i32.const 16)) (i32.store offset=260 (i32.const 0) (i32.const 6))
    (i32.store offset=264 (i32.const 0) (i32.const 22)) (i32.store offset=268 (i32.const 0) (i32.const 5))
    (i32.const 256))
  (func (export "ballast:policy/policy@0.1.0#configure") (param i32 i32) (result i32) (i32.const 448))
  (func (export "ballast:policy/policy@0.1.0#plan") (result i32)
    (local $slot i32)
    (global.set $heap (i32.const 1048576))
    (call $nodes (i32.const 512))
    (call $owners (i32.const 512))
    {pulls}
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $slot) (i32.const {moves})))
        (i32.store16 offset=65536 (i32.mul (local.get $slot) (i32.const 16)) (local.get $slot))
        (i32.store offset=65540 (i32.mul (local.get $slot) (i32.const 16)) (i32.const 999))
        (i32.store offset=65544 (i32.mul (local.get $slot) (i32.const 16)) (i32.const 27))
        (i32.store offset=65548 (i32.mul (local.get $slot) (i32.const 16)) (i32.const 14))
        (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
        (br $next)))
    (i32.store offset=1028 (i32.const 0) (i32.const 65536)) (i32.store offset=1032 (i32.const 0) (i32.const {moves}))
    (i32.const 1024)))"#
    )
}
