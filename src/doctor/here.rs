//! Looks at this machine: the state directory, the port, the policies. Nothing is made, written or kept.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, User, eaccess};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::config::{Config, Http};
use crate::model::PolicyId;
use crate::policy::{Ground, LoadFailure, Policy as _, PolicyHost, Settings};
use crate::store;

/// The state directory, as it is before anybody opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    /// Why it cannot be written, or made.
    pub(super) refusal: Option<String>,
    /// Whose it is, where it is not ours.
    pub(super) stranger: Option<String>,
    /// As whom we look.
    pub(super) us: String,
    /// On its disk, for who is not root.
    pub(super) free_bytes: Option<u64>,
    /// Who holds it.
    pub(super) holder: Option<Holder>,
}

/// A process that uses the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: String,
    /// What the system calls it.
    pub(super) program: Option<String>,
}

/// Where the daemon is to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    /// Nowhere.
    Off,
    /// Free.
    Free(SocketAddr),
    /// A Ballast answers there.
    Ours { at: SocketAddr, cluster: String, mode: String, version: String },
    /// A Ballast answers there, and tells no more to who shows no token.
    Guarded(SocketAddr),
    /// Something else has it.
    Taken(SocketAddr),
    /// The system does not let us.
    Refused(SocketAddr, String),
}

/// A policy as the daemon would load it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Of a shadow.
    pub(super) shadow: Option<String>,
    pub(super) source: String,
    pub(super) outcome: Result<PolicyId, LoadFailure>,
}

pub(super) fn directory(path: &Path) -> Directory {
    let there = fs::metadata(path);
    // Of one that is to be made, the nearest directory above decides.
    let standing = path.ancestors().find(|place| place.exists() || place.as_os_str().is_empty()).unwrap_or(path);
    let standing = if standing.as_os_str().is_empty() { Path::new(".") } else { standing };
    let refusal = if standing.is_dir() {
        let may = eaccess(standing, AccessFlags::W_OK | AccessFlags::X_OK);
        may.err().map(|errno| format!("{}: {}", standing.display(), errno.desc()))
    } else {
        Some(format!("{}: not a directory", standing.display()))
    };
    let us = Uid::effective();
    let owner = there.as_ref().ok().map(|there| Uid::from_raw(there.uid()));
    let free_bytes = statvfs(standing).ok().map(|disk| {
        let (blocks, size) = (disk.blocks_available(), disk.fragment_size());
        blocks.saturating_mul(size)
    });
    let holder = store::holder(path).ok().flatten().map(|pid| {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        Holder { pid, program: program.map(|name| name.trim().to_owned()) }
    });
    Directory {
        path: path.to_owned(),
        exists: there.is_ok(),
        refusal,
        stranger: owner.filter(|owner| *owner != us).map(name),
        us: name(us),
        free_bytes,
        holder,
    }
}

fn name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// A file of tokens, as it is here.
#[derive(Debug)]
pub(super) struct TokenFile {
    pub(super) path: PathBuf,
    /// What it says, or what the system said instead.
    pub(super) text: Result<String, String>,
    /// Whether every user of this machine may read it.
    pub(super) is_everybody_s: bool,
}

/// The files of tokens, by the keys under which they are configured.
pub(super) fn token_files(http: &Http) -> Vec<(&'static str, TokenFile)> {
    let files = [("http.operators_file", &http.operators_file), ("http.viewers_file", &http.viewers_file)];
    let read = |(key, path): (&'static str, &Option<PathBuf>)| {
        let path = path.clone()?;
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        let is_everybody_s = fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0);
        Some((key, TokenFile { path, text, is_everybody_s }))
    };
    files.into_iter().filter_map(read).collect()
}

/// The daemon answers from memory; a machine under load may take a second.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn port(listen: Option<SocketAddr>) -> Port {
    let Some(at) = listen else { return Port::Off };
    match TcpListener::bind(at).await {
        Ok(_) => Port::Free(at),
        Err(error) if error.kind() == ErrorKind::AddrInUse => occupant(at).await,
        Err(error) => Port::Refused(at, error.to_string()),
    }
}

async fn occupant(at: SocketAddr) -> Port {
    let mut to = at;
    if at.ip().is_unspecified() {
        to.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let answer = async {
        let client = crate::web::client_of("http:").timeout(PATIENCE).build().ok()?;
        let answer = client.get(format!("http://{to}/api/v1/status")).send().await.ok()?;
        let refused = answer.status() == StatusCode::UNAUTHORIZED;
        let status: Value = answer.json().await.ok()?;
        if refused && status["apiVersion"] == "ballast/v1" {
            return Some(Port::Guarded(at));
        }
        let text = |name: &str| status.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Port::Ours { at, cluster: text("cluster")?, mode: text("mode")?, version: text("version")? })
    };
    answer.await.unwrap_or(Port::Taken(at))
}

/// Loads the policies one after the other. Blocks for as long as compiling takes.
pub(super) fn policies(config: &Config) -> Result<Vec<Candidate>, String> {
    // Looking leaves nothing behind, compiled policies included.
    let settings = Settings { cache_dir: None, ..config.policy.settings.clone() };
    let host = PolicyHost::new(settings).map_err(|error| error.to_string())?;
    let load = |host: &PolicyHost, shadow, source: &crate::policy::Source, parameters: &String| {
        let ground = Ground { parameters: parameters.clone(), ..Ground::default() };
        let outcome = host.load_on(source, &ground).map(|policy| policy.id().clone());
        Candidate { shadow, source: source.to_string(), outcome }
    };
    let decides = load(&host, None, &config.policy.source, &config.policy.parameters);
    // What is pinned is the policy that decides.
    let unpinned = host.unpinned();
    let shadows = config.shadows.iter();
    let shadows = shadows.map(|shadow| load(&unpinned, Some(shadow.name.clone()), &shadow.source, &shadow.parameters));
    Ok(std::iter::once(decides).chain(shadows).collect())
}
