//! How commands end: exit codes that scripts rely on, and errors that say what to try next.

use std::process::ExitCode;

use crate::cluster::LinkError;
use crate::collector::CollectError;
use crate::config::ConfigError;

/// How a command ended, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Exit {
    /// Done, or nothing to do.
    Ok,
    /// Could not do it.
    Failed,
    /// The command line or the configuration is wrong, or the guard or the person said no.
    Refused,
    /// `check`: the cluster is not healthy. `doctor`: something failed. `verify`: a key is not where or what it should be.
    Unhealthy,
    /// Some of it was done; running it again goes on.
    Partly,
    /// Waited in vain.
    TimedOut,
    /// The daemon does not take this from whoever asks: a token or the right to its socket is missing.
    NoAccess,
    /// `plan --detailed-exitcode`: there is something to move.
    Changes,
    /// Another part of the program chose the code.
    Other(ExitCode),
}

/// What every command returns.
pub(super) type Outcome = anyhow::Result<Exit>;

impl Exit {
    pub(super) fn of(code: ExitCode) -> Self {
        Self::Other(code)
    }

    pub(super) fn code(self) -> ExitCode {
        match self {
            Self::Ok => ExitCode::SUCCESS,
            Self::Failed => ExitCode::from(1),
            Self::Refused => ExitCode::from(2),
            Self::Unhealthy => ExitCode::from(3),
            Self::Partly => ExitCode::from(4),
            Self::TimedOut => ExitCode::from(5),
            Self::NoAccess => ExitCode::from(6),
            Self::Changes => ExitCode::from(10),
            Self::Other(code) => code,
        }
    }
}

/// An error that knows its exit code and what to try next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Stop {
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Ends a command because it may not do what was asked.
pub(super) fn refused(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Stop { exit: Exit::Refused, message: message.into(), hint: hint.into() }.into()
}

/// Ends a command because it was not let in.
pub(super) fn not_let_in(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Stop { exit: Exit::NoAccess, message: message.into(), hint: hint.into() }.into()
}

/// Ends a command because something did not come true in time.
pub(super) fn timed_out(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Stop { exit: Exit::TimedOut, message: message.into(), hint: hint.into() }.into()
}

/// The exit code of an error, and what to try next.
pub(super) fn explain(error: &anyhow::Error) -> (Exit, Option<String>) {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return (stop.exit, Some(stop.hint.clone()).filter(|hint| !hint.is_empty()));
    }
    if error.downcast_ref::<ConfigError>().is_some() {
        return (Exit::Refused, Some("daemon.toml in the source tree shows every key".into()));
    }
    let text = format!("{error:#}");
    let hint = if ["NOAUTH", "WRONGPASS", "uthentication failed"].iter().any(|word| text.contains(word)) {
        Some(
            "give the password, and the user if there is one: redis://USER:PASSWORD@host:port, or user and password_file in a --config",
        )
    } else if text.contains("cluster support disabled") {
        Some("start the server with cluster-enabled yes")
    } else if error.downcast_ref::<CollectError>().is_some() || error.downcast_ref::<LinkError>().is_some() {
        Some("is a cluster node running at that address, and may this machine reach it?")
    } else {
        None
    };
    (Exit::Failed, hint.map(str::to_owned))
}
