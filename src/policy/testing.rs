//! Policies for tests, written in WebAssembly text: the smallest thing that keeps the contract, with parts replaced.

use std::sync::Arc;

use wit_component::StringEncoding;
use wit_parser::Resolve;

use super::{Compiler, PolicyHost, Settings};
use crate::model::Snapshot;

/// A policy in text: `plan` answers no moves, and every part can be replaced.
pub(super) struct Fixture {
    /// What `describe` says: name, version, summary.
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// One metric that it needs, or none.
    pub(super) needs: Option<&'static str>,
    /// Imports, globals and functions of its own.
    pub(super) extra: String,
    /// What `plan` does before it returns what stands at 512. It may use the locals $at, $end, $sum and $left.
    pub(super) plan: String,
    /// What `configure` does before it returns ok.
    pub(super) configure: String,
    /// What `describe` does first.
    pub(super) describe: String,
    pub(super) world: &'static str,
    /// Text replacements in the finished module, for broken contracts.
    pub(super) replace: Vec<(&'static str, &'static str)>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            name: "fixture",
            version: "0.1.0",
            needs: None,
            extra: String::new(),
            plan: String::new(),
            configure: String::new(),
            describe: String::new(),
            world: "slot-policy",
            replace: Vec::new(),
        }
    }
}

impl Fixture {
    /// One whose `plan` begins with these instructions.
    pub(super) fn planning(plan: &str) -> Self {
        Self { plan: plan.to_owned(), ..Self::default() }
    }

    /// The core module's text.
    ///
    /// Memory: 16.. texts, 256 description, 320 the needed metric, 512 proposal, 1024.. results of imports (the heap).
    /// `plan` returns a `result<proposal, failure>` at 512: tag, then (from 516) moves pointer and count, summary
    /// pointer and length, gauges pointer and count.
    pub(super) fn text(&self) -> String {
        let Self { name, version, extra, plan, configure, describe, .. } = self;
        let needs = self.needs.unwrap_or("");
        let count = usize::from(self.needs.is_some());
        let (name_at, version_at, summary_at, need_at) = (16, 16 + name.len(), 120, 128);
        let mut text = format!(
            r#"(module
  {extra}
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 4096))
  (data (i32.const {name_at}) "{name}{version}")
  (data (i32.const {summary_at}) "content")
  (data (i32.const {need_at}) "{needs}")
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1) (memory.grow
        (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
      unreachable)
    (local.get $at))
  (func (export "ballast:policy/policy@0.1.0#describe") (result i32)
    {describe}
    (i32.store offset=256 (i32.const 0) (i32.const {name_at}))
    (i32.store offset=260 (i32.const 0) (i32.const {}))
    (i32.store offset=264 (i32.const 0) (i32.const {version_at}))
    (i32.store offset=268 (i32.const 0) (i32.const {}))
    (i32.store offset=272 (i32.const 0) (i32.const {summary_at}))
    (i32.store offset=276 (i32.const 0) (i32.const 7))
    (i32.store offset=280 (i32.const 0) (i32.const 320))
    (i32.store offset=284 (i32.const 0) (i32.const {count}))
    (i32.store offset=320 (i32.const 0) (i32.const {need_at}))
    (i32.store offset=324 (i32.const 0) (i32.const {}))
    (i32.const 256))
  (func (export "ballast:policy/policy@0.1.0#configure") (param $text i32) (param $bytes i32) (result i32)
    (i32.store8 offset=448 (i32.const 0) (i32.const 0))
    {configure}
    (i32.const 448))
  (func (export "ballast:policy/policy@0.1.0#plan") (result i32)
    (local $at i32) (local $end i32) (local $sum i32) (local $left i32)
    (i32.store8 offset=512 (i32.const 0) (i32.const 0))
    (i32.store offset=516 (i32.const 0) (i32.const 0))
    (i32.store offset=520 (i32.const 0) (i32.const 0))
    (i32.store offset=524 (i32.const 0) (i32.const {summary_at}))
    (i32.store offset=528 (i32.const 0) (i32.const 7))
    (i32.store offset=532 (i32.const 0) (i32.const 0))
    (i32.store offset=536 (i32.const 0) (i32.const 0))
    {plan}
    (i32.const 512))
  (func (export "cabi_post_ballast:policy/policy@0.1.0#plan") (param i32) (global.set $heap (i32.const 4096))))"#,
            name.len(),
            version.len(),
            needs.len(),
        );
        for (from, to) in &self.replace {
            assert!(text.contains(from), "the fixture has no '{from}' to replace");
            text = text.replace(from, to);
        }
        text
    }

    /// The core module with its component type: what a user would drop.
    pub(super) fn module(&self) -> Vec<u8> {
        embed(&self.text(), self.world, super::WIT)
    }
}

/// Assembles `text` and gives it the component type of `world` in `wit`.
pub(super) fn embed(text: &str, world: &str, wit: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", wit).expect("the contract parses");
    let world = resolve.select_world(&[package], Some(world)).expect("the world exists");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("it embeds");
    module
}

/// A host for tests: compiles in process, since the test program knows no `policy-compile`.
pub(super) fn host() -> PolicyHost {
    host_with(Settings::default())
}

/// The same with other bounds.
pub(super) fn host_with(settings: Settings) -> PolicyHost {
    PolicyHost::new(Settings { compiler: Compiler::InProcess, ..settings }).expect("an engine")
}

/// A cluster of `nodes` primaries with slots dealt evenly and load that is not.
pub(super) fn snapshot(nodes: usize) -> Arc<Snapshot> {
    Arc::new(super::synthetic::snapshot(nodes))
}
