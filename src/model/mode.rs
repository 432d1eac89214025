//! What the daemon may do, and why it looks when it does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the daemon is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plans and explains, moves nothing. The default.
    DryRun,
    /// Does what the guard approves.
    Auto,
    /// Does what the guard approves and a person, or a file, approves as well.
    Approval,
    /// A person stopped it.
    Paused,
    /// It stopped itself and says why; a person resumes it.
    Halted,
    /// Another daemon on this cluster leads, or it is not known who does: this one looks and does nothing.
    Follower,
}

impl Mode {
    /// Every mode, for closed label sets.
    pub const ALL: [Self; 6] = [Self::DryRun, Self::Auto, Self::Approval, Self::Paused, Self::Halted, Self::Follower];

    /// Whether slots may move in it at all.
    #[must_use]
    pub const fn acts(self) -> bool {
        matches!(self, Self::Auto | Self::Approval)
    }

    /// The mode as configuration, logs and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Auto => "auto",
            Self::Approval => "approval",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Follower => "follower",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a cycle begins when it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The daemon has started.
    Start,
    /// It was time.
    #[default]
    Interval,
    /// Somebody resumed it, drains a node, or approved a plan.
    Command,
    /// This daemon leads from now on.
    Lead,
}

impl Trigger {
    /// All of them, for closed label sets.
    pub const ALL: [Self; 4] = [Self::Start, Self::Interval, Self::Command, Self::Lead];

    /// The trigger as reports and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Interval => "interval",
            Self::Command => "command",
            Self::Lead => "lead",
        }
    }
}
