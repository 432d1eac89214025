//! Why there is no plan, and why there is no policy: both are values that name what happened and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a call gave no plan. The policy stays loaded; whether it is asked again, `control` decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("policy {policy} gave no plan ({kind}): {reason}")]
pub struct PolicyFailure {
    /// Name and version.
    pub policy: String,
    /// What sort of failure.
    pub kind: FailureKind,
    /// For people.
    pub reason: String,
}

impl PolicyFailure {
    /// The kind as [`crate::model::CycleOutcome::PolicyFailed`] and metrics write it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind.as_str()
    }
}

/// The sorts of failure: a closed set, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It crashed. Its instance is gone; a fresh one gets its saved state.
    Trap,
    /// It took too long. As after a trap.
    Deadline,
    /// It wanted too much memory. As after a trap.
    MemoryLimit,
    /// Its answer breaks a bound of the interface.
    Invalid,
    /// It said that it cannot plan: a bug of its own, or parameters that make no sense here.
    Error,
    /// It said that too little is known yet. No fault.
    NotReady,
}

impl FailureKind {
    /// Every kind, for closed label sets.
    pub const ALL: [Self; 6] =
        [Self::Trap, Self::Deadline, Self::MemoryLimit, Self::Invalid, Self::Error, Self::NotReady];

    /// The kind as reports and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::MemoryLimit => "memory-limit",
            Self::Invalid => "invalid",
            Self::Error => "error",
            Self::NotReady => "not-ready",
        }
    }

    /// Whether the policy is to blame: everything but asking for patience.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        !matches!(self, Self::NotReady)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a policy came before it was refused, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The file is there and not too large.
    Read,
    /// Its digest is the pinned one.
    Pin,
    /// It is a whole WebAssembly binary.
    Recognise,
    /// A core module becomes a component.
    Componentize,
    /// Machine code is made of it.
    Compile,
    /// It imports nothing but what the daemon offers, and exports what a policy must.
    Link,
    /// It starts and says who it is.
    Describe,
    /// The cluster offers the metrics that it needs.
    Needs,
    /// It accepts its parameters.
    Configure,
    /// It answers a trial call.
    Trial,
}

impl Stage {
    /// The stage as messages and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Pin => "pin",
            Self::Recognise => "recognise",
            Self::Componentize => "componentize",
            Self::Compile => "compile",
            Self::Link => "link",
            Self::Describe => "describe",
            Self::Needs => "needs",
            Self::Configure => "configure",
            Self::Trial => "trial",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a policy was not taken. Whatever ran before goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("policy {policy} refused at stage {stage}: {reason}; {next_step}")]
pub struct LoadFailure {
    /// The file or embedded name, and once it is known the policy's own name and version.
    pub policy: String,
    /// SHA-256 of the file's bytes, once they were read.
    pub digest: Option<String>,
    /// How far it came.
    pub stage: Stage,
    /// What is the matter, for people.
    pub reason: String,
    /// What to try next, for people.
    pub next_step: String,
    /// The file ends too early or cannot be read: perhaps somebody is still writing it.
    pub unfinished: bool,
}
