//! What a dead instance died of, in words for people who do not read trap codes.

use std::fmt::Write as _;

use wasmtime::{Trap, WasmBacktrace};

use super::Settings;
use super::failure::FailureKind;
use super::guest::{OutsideCall, OverMemory, OverTable};

/// Frames shown: enough to find the place, little enough for a status line.
const FRAMES: usize = 5;

/// A call that ended in the death of its instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FailureKind,
    pub(super) reason: String,
}

impl Fault {
    /// Reads what wasmtime says about a call of `function`.
    pub(super) fn of(error: &wasmtime::Error, function: &str, settings: &Settings) -> Self {
        let (kind, what) = diagnose(error, settings);
        Self { kind, reason: format!("`{function}` {what}{}", frames(error)) }
    }
}

fn diagnose(error: &wasmtime::Error, settings: &Settings) -> (FailureKind, String) {
    if let Some(over) = error.downcast_ref::<OverMemory>() {
        return (FailureKind::MemoryLimit, over.to_string());
    }
    if let Some(over) = error.downcast_ref::<OverTable>() {
        return (FailureKind::MemoryLimit, over.to_string());
    }
    if let Some(outside) = error.downcast_ref::<OutsideCall>() {
        return (FailureKind::Invalid, format!("asked for the cluster too early: {outside}"));
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return of_trap(*trap, &one_line(error), settings);
    }
    let causes = one_line(error);
    if causes.contains("too much data is being copied") {
        // wasmtime keeps the type of this error to itself.
        let text = format!("returned more than the {} MiB that one call may transfer", settings.transfer_mib);
        return (FailureKind::Invalid, text);
    }
    // What is left is a canonical ABI that was broken: a list outside memory, a string that is no UTF-8, and the like.
    (FailureKind::Invalid, format!("broke the interface: {causes}"))
}

fn of_trap(trap: Trap, causes: &str, settings: &Settings) -> (FailureKind, String) {
    let words = match trap {
        Trap::Interrupt => {
            return (FailureKind::Deadline, format!("took longer than {} ms", settings.deadline_ms));
        }
        Trap::StackOverflow => format!("used up its {} KiB of stack: it calls itself too deeply", settings.stack_kib),
        // Compilers put the shadow stack at the low end of memory; it runs below 0 and wraps to the end of 32 bits.
        Trap::MemoryOutOfBounds if near_the_end_of_32_bits(causes) => {
            "read or wrote just below address 0: probably a stack overflow, it calls itself too deeply".to_owned()
        }
        Trap::MemoryOutOfBounds => "read or wrote outside its memory".to_owned(),
        Trap::UnreachableCodeReached => "gave up (a panic, an assertion or an uncaught exception)".to_owned(),
        other => format!("crashed: {}", other.to_string().trim_start_matches("wasm trap: ")),
    };
    (FailureKind::Trap, words)
}

/// wasmtime says `memory fault at wasm address 0x… in linear memory of size 0x…`.
fn near_the_end_of_32_bits(causes: &str) -> bool {
    const MARGIN: u64 = 1 << 20;
    let address = causes
        .split_once("wasm address 0x")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>())
        .and_then(|digits| u64::from_str_radix(&digits, 16).ok());
    address.is_some_and(|address| address.abs_diff(1 << 32) < MARGIN)
}

fn frames(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let mut text = String::new();
    let named = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    for (place, name) in named.take(FRAMES).enumerate() {
        let arrow = if place == 0 { ", in " } else { " ← " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{arrow}{:#}", rustc_demangle::demangle(name));
    }
    text
}

/// The whole chain of causes on one line, without wasmtime's backtraces.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| !cause.starts_with("error while executing at wasm backtrace"))
        .map(|cause| cause.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    causes.join(": ")
}
