//! Logs to standard error, and error chains as one line.
//!
//! Data goes to standard output and is no concern of this module.

use std::error::Error;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object per line, fields at the top level.
    Json,
}

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{filter}' is no log filter: write a level (error, warn, info, debug, trace) or `info,ballast::migration=debug`"
)]
pub struct InvalidFilter {
    /// What was given.
    pub filter: String,
    /// What is wrong with it.
    #[source]
    cause: tracing_subscriber::filter::ParseError,
}

/// Reads a filter, and does nothing with it.
///
/// # Errors
/// [`InvalidFilter`].
pub fn check(filter: &str) -> Result<(), InvalidFilter> {
    read(filter).map(drop)
}

fn read(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(filter)
        .map_err(|cause| InvalidFilter { filter: filter.to_owned(), cause })
}

/// Starts logging to standard error, for the life of the process.
///
/// `filter` is a level, or directives as `RUST_LOG` takes them. A second call changes nothing: the first one stands,
/// so that tests may all call it.
///
/// # Errors
/// [`InvalidFilter`] when `filter` cannot be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), InvalidFilter> {
    let filter = read(filter)?;
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // An error here only says that a subscriber is already set.
    let _already_started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

/// An error and its causes as one line, joined by colons: outermost first.
///
/// A cause whose text the error before it already ends with (`#[error(transparent)]` and the like) is not repeated.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            // Writing to a string does not fail.
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Trouble {
        #[error("slot 7: node refused SETSLOT")]
        Outer(#[source] Box<Trouble>),
        #[error(transparent)]
        Through(Box<Trouble>),
        #[error("no reply in 500 ms")]
        Inner,
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Trouble::Outer(Box::new(Trouble::Through(Box::new(Trouble::Inner))));
        assert_eq!(chain(&error), "slot 7: node refused SETSLOT: no reply in 500 ms");
        assert_eq!(chain(&Trouble::Inner), "no reply in 500 ms");
    }

    #[test]
    fn a_bad_filter_is_named_with_what_would_do() {
        let error = start(LogFormat::Text, "ballast=loud").expect_err("loud is no level");
        assert!(chain(&error).starts_with("'ballast=loud' is no log filter: write a level"), "{error}");
    }
}
