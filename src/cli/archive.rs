//! The history that a daemon keeps in its state directory, read beside it or after it.

use std::path::{Path, PathBuf};

use super::config::PACKAGED;
use super::outcome::refused;
use super::screen::Screen;
use super::target::load;
use crate::config;
use crate::store::Store;

/// Whose history.
#[derive(Debug, clap::Args)]
pub(super) struct Archive {
    /// The daemon's configuration, which says where its state is
    #[arg(long, value_name = "FILE", env = "BALLAST_CONFIG")]
    config: Option<PathBuf>,
    /// The daemon's state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Archive {
    pub(super) const fn of(config: Option<PathBuf>, state: Option<PathBuf>) -> Self {
        Self { config, state }
    }

    pub(super) fn open(&self, screen: &Screen) -> anyhow::Result<Store> {
        let directory = match (&self.state, &self.config) {
            (Some(directory), _) => directory.clone(),
            (None, Some(path)) => load(path, screen)?.state_dir,
            (None, None) => found(screen)?,
        };
        Ok(Store::look(&directory)?)
    }
}

/// Where a daemon of this machine keeps its state that was told nothing special: the packaged one, or one of this user's.
fn found(screen: &Screen) -> anyhow::Result<PathBuf> {
    let packaged = Path::new(PACKAGED);
    let state_dir = if packaged.exists() { load(packaged, screen)?.state_dir } else { config::default_state_dir() };
    if Store::is_in(&state_dir) {
        return Ok(state_dir);
    }
    let what = format!("no daemon is named, and none has its state in {}", state_dir.display());
    Err(refused(what, "give its --config daemon.toml, or --state and its state directory"))
}

/// A cycle that is not in the history.
pub(super) fn unknown(cycle: u64) -> anyhow::Error {
    refused(format!("cycle {cycle} is not in the history"), "`ballast history` lists those that are")
}
