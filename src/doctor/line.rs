//! What was examined, what was found, and what mends it.

use std::fmt;

use serde::Serialize;

use crate::model::Address;

/// What a line is about, in the order of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// `daemon.toml` and the environment.
    Config,
    /// The policy that decides, and its shadows.
    Policy,
    /// The state directory.
    State,
    /// Where the daemon listens.
    Http,
    /// Who is told of what happens.
    Hooks,
    /// Whether every node is within reach.
    Nodes,
    /// Whether what is said is encrypted.
    Tls,
    /// What our user may do.
    Access,
    /// What time it is, here and there.
    Clock,
    /// Which servers these are.
    Versions,
    /// How well load is known.
    Statistics,
    /// Settings of the servers.
    Settings,
    /// Where daemons agree on who leads.
    Lease,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Config => "config",
            Self::Policy => "policy",
            Self::State => "state",
            Self::Http => "http",
            Self::Hooks => "hooks",
            Self::Nodes => "nodes",
            Self::Tls => "tls",
            Self::Access => "access",
            Self::Clock => "clock",
            Self::Versions => "versions",
            Self::Statistics => "statistics",
            Self::Settings => "settings",
            Self::Lease => "lease",
        })
    }
}

/// How an examination ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be examined, or need not be.
    Skip,
    /// It works, and may hurt.
    Warn,
    /// The daemon would not start, or not do its work.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// What mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// For people: what to do, or where to say what follows.
    pub advice: String,
    /// Commands to say or settings to write, each whole and as it stands.
    pub write: Vec<String>,
}

impl Fix {
    /// Words alone.
    pub(super) fn of(advice: impl Into<String>) -> Self {
        Self { advice: advice.into(), write: Vec::new() }
    }

    /// Words that say where, and what to write there.
    pub(super) fn write(advice: impl Into<String>, write: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { advice: advice.into(), write: write.into_iter().map(Into::into).collect() }
    }
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is about.
    pub topic: Topic,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, for people.
    pub found: String,
    /// What mends it; present unless all is well.
    pub fix: Option<Fix>,
}

impl Line {
    pub(super) fn ok(topic: Topic, found: impl Into<String>) -> Self {
        Self { topic, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    pub(super) fn skip(topic: Topic, found: impl Into<String>, fix: Fix) -> Self {
        Self { topic, verdict: Verdict::Skip, found: found.into(), fix: Some(fix) }
    }

    pub(super) fn warn(topic: Topic, found: impl Into<String>, fix: Fix) -> Self {
        Self { topic, verdict: Verdict::Warn, found: found.into(), fix: Some(fix) }
    }

    pub(super) fn fail(topic: Topic, found: impl Into<String>, fix: Fix) -> Self {
        Self { topic, verdict: Verdict::Fail, found: found.into(), fix: Some(fix) }
    }
}

/// Names of at most three, and how many more there are.
pub(super) fn names(all: &[impl fmt::Display]) -> String {
    /// A fourth address would not fit into a line with what is said of them.
    const NAMED: usize = 3;
    let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    let more = all.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// Names of some nodes out of `all` that were examined.
pub(super) fn places(some: &[Address], all: usize) -> String {
    if some.len() == all && all > 1 { format!("all {all} nodes") } else { names(some) }
}
