//! Rust types of `wit/policy.wit`, generated. Versions of the contract get one module each.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated from the contract")]

wasmtime::component::bindgen!({ path: "wit", world: "full-slot-policy" });
