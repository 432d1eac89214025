//! `ballast pause`, `resume` and `cancel`: what a person asks of a running daemon.

use std::time::Duration;

use serde_json::json;

use super::author;
use super::daemon::Daemon;
use super::outcome::Outcome;
use super::screen::Screen;
use crate::model::units;

/// Which daemon, why, and for how long.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    wish: Args,
    /// Goes on by itself after so long: 2h, 30m
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration::parse)]
    lasting: Option<Duration>,
}

/// Which daemon, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Nothing moves any more until it is resumed; what is open is closed.
pub(super) async fn pause(args: PauseArgs, screen: &Screen) -> Outcome {
    // Rounded up: a pause of half a second is not none.
    let for_s = args.lasting.map(|lasting| lasting.as_millis().div_ceil(1000));
    ask("/api/v1/pause", for_s, &args.wish, screen).await
}

/// Back to the configured mode, from paused or halted.
pub(super) async fn resume(args: Args, screen: &Screen) -> Outcome {
    ask("/api/v1/resume", None, &args, screen).await
}

/// Ends the moves of this cycle; what is open is closed. The next cycle plans anew.
pub(super) async fn cancel(args: Args, screen: &Screen) -> Outcome {
    ask("/api/v1/cancel", None, &args, screen).await
}

async fn ask(path: &str, for_s: Option<u128>, args: &Args, screen: &Screen) -> Outcome {
    let mut body = json!({ "who": author::person(), "reason": args.reason });
    if let Some(for_s) = for_s {
        body["for_s"] = u64::try_from(for_s).unwrap_or(u64::MAX).into();
    }
    args.daemon.reach(screen)?.ask(path, &body, screen).await
}
