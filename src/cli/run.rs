//! `ballast run`: the daemon.

use std::path::PathBuf;

use anyhow::Context as _;
use nix::sys::prctl;

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
    let loaded = config::load(&args.config)?;
    telemetry::start(loaded.config.log_format, &loaded.config.log_filter)?;
    for warning in &loaded.warnings {
        tracing::warn!(config = %args.config.display(), "{warning}");
    }
    // A dump of this process would hold the cluster's password.
    prctl::set_dumpable(false).context("the system does not let this process keep its memory to itself")?;
    control::run(loaded, args.dry_run.then_some(Mode::DryRun)).await.context("the daemon ended")?;
    Ok(Exit::Ok)
}
