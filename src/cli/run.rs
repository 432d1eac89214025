//! `ballast run`: the daemon.

use std::path::PathBuf;

use anyhow::Context as _;

use super::outcome::{Exit, Outcome};
use crate::model::Mode;
use crate::{config, control, telemetry};

/// Which configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "BALLAST_CONFIG", default_value = "/etc/ballast/daemon.toml")]
    config: PathBuf,
    /// Moves nothing, whatever the configuration says
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args) -> Outcome {
    let config::Loaded { config, warnings, .. } = config::load(&args.config)?;
    telemetry::start(config.log_format, &config.log_filter)?;
    for warning in warnings {
        tracing::warn!(config = %args.config.display(), "{warning}");
    }
    control::run(config, args.dry_run.then_some(Mode::DryRun)).await.context("the daemon ended")?;
    Ok(Exit::Ok)
}
