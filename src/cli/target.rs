//! Which cluster a command works on: a node's URL, or a configuration file, or both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::outcome::refused;
use super::screen::Screen;
use crate::cluster::Cluster;
use crate::cluster::live::{Password, Url};
use crate::config::{self, Config, Loaded};

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// Any node of the cluster: redis://[[user]:password@]host:port, rediss:// for TLS
    pub(super) url: Option<Url>,
    /// Configuration to take the cluster, limits and policy from; a URL overrides its seeds
    #[arg(long, value_name = "FILE", env = "BALLAST_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// A cluster within reach.
pub(super) struct Connection {
    pub(super) config: Config,
    pub(super) cluster: Arc<dyn Cluster>,
}

impl Target {
    /// Nothing is connected yet: that happens at the first question.
    pub(super) fn connect(&self, screen: &Screen) -> anyhow::Result<Connection> {
        let config = self.settle(screen)?;
        let live = config.cluster.live();
        Ok(Connection { config, cluster: Arc::new(live) })
    }

    pub(super) fn settle(&self, screen: &Screen) -> anyhow::Result<Config> {
        let Some(url) = &self.url else {
            let Some(path) = &self.config else {
                return Err(refused(
                    "no cluster is named",
                    "give any node of it, such as redis://127.0.0.1:7000, or --config daemon.toml",
                ));
            };
            return load(path, screen);
        };
        let mut config = match &self.config {
            Some(path) => load(path, screen)?,
            None => defaults(url)?,
        };
        config.cluster.seeds = vec![url.address.clone()];
        let access = &mut config.cluster.access;
        if url.access.user.is_some() {
            access.user.clone_from(&url.access.user);
        }
        if url.access.password != Password::Absent {
            access.password.clone_from(&url.access.password);
        }
        access.tls = access.tls.take().or_else(|| url.access.tls.clone());
        Ok(config)
    }
}

/// Reads a configuration, and tells what is not wise about it.
pub(super) fn load(path: &Path, screen: &Screen) -> anyhow::Result<Config> {
    Ok(load_whole(path, screen)?.config)
}

/// The same with every setting and who made it.
pub(super) fn load_whole(path: &Path, screen: &Screen) -> anyhow::Result<Loaded> {
    let loaded = config::load(path)?;
    for warning in &loaded.warnings {
        screen.note(&format!("warning: {}: {warning}", path.display()));
    }
    Ok(loaded)
}

/// What holds without a file: defaults and the environment.
fn defaults(url: &Url) -> anyhow::Result<Config> {
    let seed = toml::Value::String(format!("redis://{}", url.address));
    let text = format!("[cluster]\nseeds = [{seed}]\n");
    Ok(config::read(&text, None, config::variables())?.config)
}
