//! Ballast keeps a Redis or Valkey Cluster on an even keel.
//!
//! ```text
//!  servers ─ask→ Snapshot ─→ policy (WASM) ─→ Plan ─→ guard ─→ ApprovedPlan ─→ Step ─perform→ servers
//!                   └──────────────── CycleReport ──→ metrics · API · page · history · log
//! ```
//!
//! Every arrow is an owned, printable, serialisable value. Deciding is pure and synchronous; acting is a thin shell.
//! Imports point one way: [`model`] ← [`cluster`] and pure siblings ([`guard`], [`migration`]'s state machines) ←
//! edges ([`cluster::live`], [`policy`], [`store`]) ← shells ([`collector`], [`examine`], [`migration`]) ← [`control`] ← faces
//! ([`http`], [`metrics`], [`doctor`], [`cli`], [`demo`]). `ARCHITECTURE.md` tells the whole story.

pub mod cli;
pub mod clock;
pub mod cluster;
pub mod collector;
pub mod config;
pub mod control;
pub mod demo;
pub mod doctor;
pub mod examine;
pub mod explain;
pub mod guard;
pub mod http;
pub mod join;
pub mod lab;
pub mod lease;
pub(crate) mod marked;
pub mod metrics;
pub mod migration;
pub mod model;
pub mod policy;
pub mod repair;
pub mod retire;
pub mod scaling;
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod verify;
pub mod web;
pub mod webhook;
