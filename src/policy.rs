//! Hosts policies: WebAssembly components that decide which slots should live where, and can do nothing else.
//!
//! The only user of wasmtime. A policy gets one frozen view of the cluster, the planning library and a log; it has no
//! file, network, environment or clock, and its time, memory, stack, tables and output are bounded. Whatever goes wrong
//! inside it is a value here: [`PolicyFailure`] for a call, [`LoadFailure`] for a file. What becomes of a plan, this
//! module does not know; `wit/policy.wit` is the contract.

mod bindings;
mod check;
mod compile;
mod componentize;
mod embedded;
mod engine;
mod failure;
mod fault;
mod golden;
mod guest;
mod host;
mod instance;
mod loaded;
mod search;
mod settings;
mod synthetic;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unroll;
mod view;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Plan, PolicyId, Snapshot};

pub use check::{CheckReport, Finding, Grade, Wishes, check};
pub use compile::{COMPILE_SUBCOMMAND, compile_child_main};
pub use embedded::{embedded_names, find as embedded_policy};
pub use failure::{FailureKind, LoadFailure, PolicyFailure, Stage};
pub use golden::Golden;
pub(crate) use guest::cut;
pub use host::{Ground, HostError, PolicyHost};
pub use loaded::{Description, LoadedPolicy, SavedState, ScalingAdvice, Stats};
pub use settings::{Compiler, OnFailure, Settings};
pub use synthetic::{balanced as balanced_snapshot, snapshot as synthetic_snapshot};
pub use view::search_view;
pub use watch::{PolicyWatch, Reload, WatchError};

/// The text of `wit/policy.wit`, the contract that policies are built against.
pub const WIT: &str = include_str!("../wit/policy.wit");

/// Something that answers a snapshot with a plan.
pub trait Policy: Send {
    /// Who answers.
    fn id(&self) -> &PolicyId;

    /// What it would move. Blocks for at most the deadline; bounded in output; unchecked: that is the guard's part.
    ///
    /// # Errors
    /// When it gives no plan, with the reason. It may be asked again.
    fn plan(&mut self, snapshot: &Arc<Snapshot>) -> Result<Plan, PolicyFailure>;

    /// How many shards the cluster should have, asked after `plan` and on the same view; `None` from those that have no opinion.
    ///
    /// # Errors
    /// As [`Self::plan`].
    fn advise(&mut self, _: &Arc<Snapshot>) -> Result<Option<ScalingAdvice>, PolicyFailure> {
        Ok(None)
    }
}

/// Where a policy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// One that this program carries: see [`embedded_names`].
    Embedded(String),
    /// A component, or a core module that carries its component type.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(name) => write!(f, "'{name}' (embedded)"),
            Self::File(path) => write!(f, "'{}'", path.display()),
        }
    }
}
