//! Makes a component of whatever toolchains give: a component as it is, or a core module that carries its type.
//!
//! The types that a file carries can send their readers into endless recursion (a fuzzer found packages that depend on each
//! other), so all of this happens in the child that compiles.

use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use serde::{Deserialize, Serialize};

use super::failure::Stage;

/// Answers the 22 functions of `wasi_snapshot_preview1` that language runtimes call, without any WASI: a clock that
/// counts its own readings, seeded randomness, output to `log`, errors for everything else. Made from `preview1.wat`.
pub(super) const PREVIEW1: &[u8] = include_bytes!("preview1.wasm");

/// What helps against files that end too early.
const RENAME: &str = "write it to another name and rename it, so that nobody sees half of it";

/// What is wrong with the bytes, how far they came, and what to do about it. The compiling child tells it to its parent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfit {
    pub(super) stage: Stage,
    pub(super) reason: String,
    pub(super) next_step: String,
    /// It may be the beginning of something good: see [`super::LoadFailure::unfinished`].
    pub(super) unfinished: bool,
}

/// The component in or made of `bytes`.
pub(super) fn to_component(bytes: Vec<u8>) -> Result<Vec<u8>, Unfit> {
    let module = match recognise(&bytes)? {
        Shape::Component => return Ok(bytes),
        Shape::Module(module) => module,
    };
    if !module.has_type {
        return Err(Unfit {
            stage: Stage::Componentize,
            reason: format!(
                "it is a core module without a component type (it imports {}), so nobody can know what its numbers mean",
                if module.imports.is_empty() { "nothing".to_owned() } else { module.imports.join(", ") }
            ),
            next_step: "build it with wit-bindgen, or run `wasm-tools component embed policy.wit -w slot-policy` on it"
                .to_owned(),
            // Tools put the type at the end of the file.
            unfinished: true,
        });
    }
    encode(&bytes, module.wants_preview1).map_err(|error| Unfit {
        stage: Stage::Componentize,
        reason: format!("its imports and exports do not fit the component type that it carries: {error:#}"),
        next_step: "rebuild it against the policy.wit of this version".to_owned(),
        unfinished: false,
    })
}

fn encode(module: &[u8], wants_preview1: bool) -> anyhow::Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default().validate(true).module(module)?;
    if wants_preview1 {
        encoder = encoder.adapter("wasi_snapshot_preview1", PREVIEW1)?;
    }
    encoder.encode()
}

enum Shape {
    Component,
    Module(Module),
}

#[derive(Default)]
struct Module {
    has_type: bool,
    wants_preview1: bool,
    /// Imports that are neither ours nor preview1's, for the message.
    imports: Vec<String>,
}

fn recognise(bytes: &[u8]) -> Result<Shape, Unfit> {
    let unfit = |reason: String, next_step: &str| Unfit {
        stage: Stage::Recognise,
        reason,
        next_step: next_step.to_owned(),
        unfinished: false,
    };
    let cut = |reason: String| Unfit { unfinished: true, ..unfit(reason, RENAME) };
    if bytes.is_empty() {
        return Err(cut("the file is empty".into()));
    }
    let start = &bytes[..bytes.len().min(4)];
    if !b"\0asm".starts_with(start) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
        let next_step = if text.trim_start().starts_with('(') || text.trim_start().starts_with(";;") {
            "it looks like WebAssembly text: run `wasm-tools parse` and `wasm-tools component embed` on it first"
        } else {
            "give a component or a core module (.wasm)"
        };
        return Err(unfit("it is not WebAssembly: it does not begin with \\0asm".into(), next_step));
    }
    let mut module = Module::default();
    let mut is_component = false;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) if error.message().contains("unexpected end") => {
                return Err(cut(format!("it is cut short: it ends at byte {}, inside a section", bytes.len())));
            }
            Err(error) => {
                return Err(unfit(
                    format!("it is damaged at byte {}: {}", error.offset(), error.message()),
                    "build it again",
                ));
            }
        };
        match payload {
            Payload::Version { encoding: Encoding::Component, range, .. } if range.start == 0 => is_component = true,
            // What a component holds inside is its own affair.
            _ if is_component => {}
            Payload::CustomSection(section) if section.name().starts_with("component-type") => module.has_type = true,
            Payload::ImportSection(section) => {
                for import in section.into_imports().flatten() {
                    match import.module {
                        "wasi_snapshot_preview1" => module.wants_preview1 = true,
                        other => module.imports.push(format!("{other} {}", import.name)),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(if is_component { Shape::Component } else { Shape::Module(module) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{WIT, testing};

    /// What `preview1.wasm` must be: run with `BALLAST_BLESS=1` to write it anew after a change of the text.
    #[test]
    fn the_committed_shim_is_what_its_text_assembles_to() {
        let made = testing::embed(include_str!("preview1.wat"), "preview1-shim", WIT);
        if std::env::var_os("BALLAST_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/policy/preview1.wasm");
            std::fs::write(path, &made).expect("the source tree is writable");
        } else {
            assert!(made == PREVIEW1, "preview1.wat or policy.wit changed: run this test once with BALLAST_BLESS=1");
        }
    }
}
