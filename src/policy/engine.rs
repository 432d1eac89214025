//! The engine that every policy runs in: deterministic, interruptible, bounded.

use std::time::Duration;

use wasmtime::{Config, Engine};

use super::Settings;

/// How often the epoch advances; deadlines are counted in it. Ten milliseconds: two per cent of the default deadline,
/// and a hundred wake-ups a second cost nothing that can be measured.
const TICK: Duration = Duration::from_millis(10);

/// An engine without a ticker: enough to compile.
///
/// What shapes the machine code is the same in the daemon and in the compiling child, whatever was configured.
pub(super) fn compiling(stack_kib: usize) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(stack_kib << 10)
        // Two runs on the same view must give the same plan: NaN bits and relaxed SIMD differ between machines.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // Four GiB is far beyond any limit that we grant; 64-bit memories would only need slower bounds checks.
        .wasm_memory64(false);
    Engine::new(&config)
}

/// An engine whose epoch advances until the engine is dropped.
pub(super) fn running(settings: &Settings) -> wasmtime::Result<Engine> {
    let engine = compiling(settings.stack_kib)?;
    let weak = engine.weak();
    std::thread::Builder::new().name("policy-epoch".into()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            match weak.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => break,
            }
        }
    })?;
    Ok(engine)
}

/// The deadline in ticks, rounded up so that a call never gets less than its time.
pub(super) fn ticks(deadline: Duration) -> u64 {
    let ticks = deadline.as_millis().div_ceil(TICK.as_millis()) + 1;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
