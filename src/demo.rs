//! The demo: Ballast at work on a cluster of its own, in a minute or two.
//!
//! It plays an operator. The daemon is a child process that it steers as anybody would: by its configuration, the
//! policy file, signals, and the HTTP API. What it claims at the end it measured itself, at the servers and by a load
//! that checks every acknowledged write.

mod daemon;
mod measure;
mod narrator;
mod report;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

pub use report::{DemoReport, NodeFigures};

/// What to show, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Seconds that the story may take; it ends sooner when everything has happened
    #[arg(long, default_value_t = 110, value_parser = clap::value_parser!(u64).range(40..=3600))]
    pub seconds: u64,
    /// Primaries to begin with; one more joins
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=32))]
    pub primaries: u16,
    /// Replicas of each of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=3))]
    pub replicas: u16,
    /// Requests per second
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub rate: u32,
    /// Keep servers, load and daemon running when the story is over, until Ctrl-C or SIGTERM
    #[arg(long)]
    pub keep: bool,
    /// Server program to run instead of the pinned Valkey
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
}

/// Plays the story; prints its report to standard output, as JSON if asked, and everything else to standard error.
///
/// Ctrl-C and SIGTERM end it at once; servers, daemon and directories go whichever way it ends.
///
/// # Errors
/// What kept the story from being played to its end.
pub async fn run(options: &Options, json: bool) -> anyhow::Result<ExitCode> {
    let narrator = narrator::Narrator::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let report = tokio::select! {
        report = story::play(options, &narrator) => report,
        _ = interrupt.recv() => return Ok(narrator.interrupted()),
        _ = terminate.recv() => return Ok(narrator.interrupted()),
    };
    narrator.end();
    let report = report?;
    report.print(json)?;
    for shortcoming in report.shortcomings() {
        narrator.line(&shortcoming);
    }
    Ok(if report.shortcomings().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
