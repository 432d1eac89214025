//! Examines everything that a daemon will need, before it is let loose: what was found, and what mends it.
//!
//! Reads only. `ask` speaks to the servers and `here` looks at this machine; what they saw are values, and each topic's file
//! makes lines of them, purely. How lines are shown, this module does not know.

mod access;
mod ask;
mod here;
mod hooks;
mod lease;
mod line;
mod local;
mod reach;
mod rights;
mod seen;
mod servers;
mod tls;

use std::path::Path;

pub use line::{Fix, Line, Topic, Verdict};

use crate::config::{self, Config};
use crate::model::Address;

/// How much is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This machine: configuration, policies, state directory, port.
    Here,
    /// The cluster too.
    Everything,
}

/// Examines what the configuration at `path` asks for. Every finding is a line; nothing is changed anywhere.
pub async fn examine(path: &Path, scope: Scope) -> Vec<Line> {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => return local::unusable(path, &error),
    };
    let mut lines = local::config(path, &loaded);
    lines.extend(examine_for(&loaded.config, scope).await);
    lines
}

/// The same for a configuration that was not read from a file.
pub async fn examine_for(config: &Config, scope: Scope) -> Vec<Line> {
    let mut lines = this_machine(config).await;
    lines.extend(hooks::found(&config.webhooks, scope).await);
    if scope == Scope::Everything {
        lines.extend(the_cluster(config).await);
    }
    lines
}

async fn this_machine(config: &Config) -> Vec<Line> {
    let of_policies = config.clone();
    let policies = tokio::task::spawn_blocking(move || here::policies(&of_policies)).await;
    let policies = policies.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()));
    let port = here::port(config.http.listen).await;
    let mut lines = local::policies(&policies);
    lines.extend(local::state(&here::directory(&config.state_dir), &port));
    lines.extend(local::http(&port, config.http.viewers_file.is_some()));
    lines.extend(local::tokens(&here::token_files(&config.http)));
    lines
}

async fn the_cluster(config: &Config) -> Vec<Line> {
    let access = &config.cluster.access;
    let cluster = config.cluster.live();
    let seen = ask::everyone(&cluster, config).await;
    let user = access.user.as_deref().unwrap_or(ask::DEFAULT_USER);
    let addresses: Vec<Address> = seen.ways.iter().map(|way| way.address.clone()).collect();
    let mut lines = reach::found(&seen, user);
    lines.push(tls::found(access, &addresses));
    lines.extend(access::found(&seen.nodes, user));
    lines.extend(servers::clocks(&seen.nodes, user));
    lines.extend(servers::versions(&seen.nodes, config));
    lines.extend(servers::statistics(&seen.nodes));
    lines.extend(servers::settings(&seen.nodes, config, user));
    lines.extend(lease::found(config).await);
    lines
}
