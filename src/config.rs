//! Reads `daemon.toml`: one file that says everything about how to balance.
//!
//! Flag beats environment beats file beats default. `BALLAST_SECTION__KEY=value` overrides `key` of `[section]` (and
//! `BALLAST_MODE` the mode) through the same reader. Unknown keys are errors; every error names file, line, column and
//! what is accepted, or the variable. What the settings do, the modules that own them know.

mod environment;
mod file;
mod for_whom;
mod json;
mod problem;
mod rule;
mod show;
mod tokens;
mod validate;
mod window;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::live::{Access, LiveCluster};
use crate::guard::Limits;
use crate::model::{Address, Mode};
use crate::scaling::Scaling;
use crate::store::Retention;
use crate::telemetry::LogFormat;
use crate::{collector, lease, migration, policy, webhook};

pub use problem::{ConfigError, Problem};
pub use rule::NodeRule;
pub use show::{Origin, Setting, changed};
pub use tokens::{TOKEN_LENGTH_MIN, short_tokens, tokens};
pub use window::{Hours, Window};

/// Everything that an operator can say, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it was read from.
    pub path: Option<PathBuf>,
    /// `dry-run`, `approval` or `auto`.
    pub mode: Mode,
    /// How plans are approved in that mode.
    pub approval: Approval,
    /// When slots may move; always without any.
    pub windows: Vec<Window>,
    /// Who is told of what happens.
    pub webhooks: Vec<webhook::Settings>,
    /// Which cluster.
    pub cluster: Cluster,
    /// Time from the start of one cycle to the start of the next.
    pub interval: Duration,
    /// How nodes are asked.
    pub collector: collector::Settings,
    /// Who decides.
    pub policy: Policy,
    /// Policies that are asked beside it and never act.
    pub shadows: Vec<Shadow>,
    /// What the guard holds moves to.
    pub limits: Limits,
    /// How slots are moved.
    pub migration: migration::Settings,
    /// Where daemons on this cluster agree on who leads; absent when this is the only one.
    pub lease: Option<lease::Settings>,
    /// Where the HTTP faces are reached, and by whom.
    pub http: Http,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// A level, or directives as `RUST_LOG` takes them.
    pub log_filter: String,
    /// The state directory.
    pub state_dir: PathBuf,
    /// How much history is kept.
    pub retention: Retention,
    /// What taking nodes out is held to.
    pub scaling: Scaling,
    /// What the operator says about nodes, in order: later rules win.
    pub nodes: Vec<NodeRule>,
}

/// Which cluster, and how to introduce oneself to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// For people, logs and metrics.
    pub name: String,
    /// Nodes to ask first; any one of them will do.
    pub seeds: Vec<Address>,
    /// User, password, TLS.
    pub access: Access,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// Where nodes are reached from here that announce other addresses.
    pub announce_map: BTreeMap<Address, Address>,
}

impl Cluster {
    /// Its servers, as they are reached from here. Nothing is connected yet.
    #[must_use]
    pub fn live(&self) -> LiveCluster {
        LiveCluster::new(self.access.clone())
            .with_connect_timeout(self.connect_timeout)
            .with_announce_map(self.announce_map.clone())
    }
}

/// Where the HTTP faces are reached, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where they listen; nowhere if absent. Without a token this is for looking only.
    pub listen: Option<SocketAddr>,
    /// A Unix socket on which everything is taken, from whoever may write to it; none if absent.
    pub socket: Option<PathBuf>,
    /// Whether that is where the operator wants it, and not the default.
    pub socket_is_wanted: bool,
    /// A file of tokens, one a line, with which commands are taken over the network.
    pub operators_file: Option<PathBuf>,
    /// A file of tokens with which one may look; without it everybody may who reaches the port.
    pub viewers_file: Option<PathBuf>,
    /// Whether metrics have a series for each slot.
    pub slot_metrics: bool,
}

/// How plans are approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// How long a plan waits.
    pub expires: Duration,
    /// A file that names approved plans, one a line.
    pub file: Option<PathBuf>,
}

/// Who decides, and within which bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// An embedded policy or a file.
    pub source: policy::Source,
    /// The policy's own parameters, a JSON object.
    pub parameters: String,
    /// Bounds, and what to do when it fails.
    pub settings: policy::Settings,
}

/// A policy that is asked in every cycle, beside the one that decides, and never acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// How metrics, status and history call it.
    pub name: String,
    /// An embedded policy or a file.
    pub source: policy::Source,
    /// The policy's own parameters, a JSON object.
    pub parameters: String,
}

/// A configuration, and what is allowed but not wise about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// One line each.
    pub warnings: Vec<String>,
    /// Every key, with its value and where that comes from.
    pub settings: Vec<Setting>,
}

/// Reads the file at `path` with overrides from this process's environment.
///
/// # Errors
/// [`ConfigError`] with all problems, when the file cannot be read or used.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    read(&text, Some(path), variables())
}

/// The variables of this process that are Unicode: another one cannot be one of ours.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Where a daemon keeps its state that is told nothing else: systemd's state directory, else the user's.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    let variables: BTreeMap<_, _> = variables().collect();
    validate::default_state_dir(&validate::Base { directory: Path::new(""), variables: &variables })
}

/// Reads a configuration from `text`. Relative paths in it are relative to the directory of `path`.
///
/// # Errors
/// [`ConfigError::Wrong`] with all problems.
pub fn read(
    text: &str,
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let source = problem::Source::new(text, path);
    let variables: BTreeMap<String, String> = variables.into_iter().collect();
    let table = source.table().map_err(ConfigError::Wrong)?;
    let (file, overridden) = environment::overlay(table, &variables).map_err(ConfigError::Wrong)?;
    let directory = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let base = validate::Base { directory, variables: &variables };
    let shown = show::every_key(&file, &source, &overridden);
    let (config, warnings) = validate::check(file, path, &base)
        .map_err(|findings| ConfigError::Wrong(source.locate(findings, &overridden)))?;
    let settings = show::with_effective(shown, &config);
    Ok(Loaded { config, warnings, settings })
}

#[cfg(test)]
mod tests;
