//! The daemon as a child process, and the little of its API that the demo reads: only what any user could.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::lab::{self, PortLease};
use crate::model::Address;

/// The demo's cycle: short, so that something happens every moment.
pub(super) const CYCLE: Duration = Duration::from_secs(2);

/// How long the daemon may take to end after SIGTERM: a migration that is under way has to be closed.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// The same when the demo itself is being ended.
const DROP_PATIENCE: Duration = Duration::from_secs(3);

/// Longest wait for one answer of the API.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(20);

/// Says on which cluster, how often and by which policy; the rest is as `daemon.toml` has it.
const CONFIG: &str = include_str!("daemon.toml");

/// `ballast run`, running. Ended when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    policy: PathBuf,
    log: PathBuf,
    status: String,
    http: reqwest::Client,
    // Held so that nobody else is given the port.
    _port: PortLease,
}

/// What the API's status says, as far as the demo tells of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Status {
    pub(super) mode: String,
    pub(super) mode_reason: String,
    pub(super) activity: String,
    pub(super) policy: PolicyStatus,
    pub(super) balance: BTreeMap<String, Balance>,
    pub(super) last_cycle: Option<Cycle>,
    pub(super) totals: Totals,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PolicyStatus {
    pub(super) id: Option<Policy>,
    pub(super) last_reload: Option<Reload>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Reload {
    pub(super) at_ms: u64,
    pub(super) accepted: bool,
    pub(super) detail: String,
}

/// Unknown figures are absent.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Balance {
    pub(super) imbalance: Option<f64>,
    pub(super) floor: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cycle {
    pub(super) cycle: u64,
    pub(super) policy: Option<Policy>,
    pub(super) summary: Option<String>,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) slots_moved: u64,
    pub(super) keys_moved: u64,
    pub(super) refusals: Vec<Refusal>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refusal {
    pub(super) check: String,
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Totals {
    pub(super) policy_calls: u64,
    pub(super) slots_moved: u64,
    pub(super) keys_moved: u64,
    pub(super) bytes_moved: u64,
}

impl Daemon {
    /// Writes a configuration into `home`, `policy` beside it, and starts `ballast run` on it.
    pub(super) fn start(home: &Path, seeds: &[Address], policy: &[u8]) -> anyhow::Result<Self> {
        let port = PortLease::take()?;
        fs::create_dir_all(home.join("policy")).context("cannot make a directory for the policy")?;
        let policy_file = home.join("policy/balance.wasm");
        replace(&policy_file, policy)?;
        let seeds: Vec<String> = seeds.iter().map(|address| format!("\"redis://{address}\"")).collect();
        let config = CONFIG
            .replace("@SEEDS@", &seeds.join(", "))
            .replace("@CYCLE@", &format!("{}s", CYCLE.as_secs()))
            .replace("@PORT@", &port.port.to_string());
        let config_file = home.join("daemon.toml");
        fs::write(&config_file, config).context("cannot write daemon.toml")?;

        let log = home.join("daemon.log");
        let output = File::create(&log).context("cannot make the daemon's log")?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("run").arg("--config").arg(&config_file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = lab::spawn(command).context("cannot start the daemon")?;
        let status = format!("http://127.0.0.1:{}/api/v1/status", port.port);
        let http = crate::web::client().timeout(HTTP_PATIENCE).build()?;
        Ok(Self { child, policy: policy_file, log, status, http, _port: port })
    }

    /// What it says it is doing; `None` while it does not answer.
    ///
    /// Fails when the daemon has ended, or says something else than a status.
    pub(super) async fn status(&mut self) -> anyhow::Result<Option<Status>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the daemon ended ({status}): {}", self.last_words());
        }
        match self.http.get(&self.status).send().await {
            Ok(answer) => Ok(Some(answer.json().await.context("the daemon's status cannot be read")?)),
            Err(_) => Ok(None),
        }
    }

    /// Where its web page is.
    pub(super) fn page(&self) -> &str {
        self.status.trim_end_matches("api/v1/status")
    }

    /// Puts other bytes in the place of the policy file, as `mv` does: nobody sees half of them.
    pub(super) fn replace_policy(&self, bytes: &[u8]) -> anyhow::Result<()> {
        replace(&self.policy, bytes)
    }

    /// Its most memory so far, in MiB, as the kernel counts it.
    pub(super) fn peak_memory_mib(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()? / 1024.0)
    }

    /// Ends it by SIGTERM, which leaves no slot open.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("the daemon ended with {status} after SIGTERM: {}", self.last_words());
                }
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("the daemon did not end within {} s of SIGTERM: {}", END_PATIENCE.as_secs(), self.last_words())
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It is our child and not waited for, so the id is its own; failing, it is gone, as is wanted.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + DROP_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        // Both fail only when it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, file))
        .with_context(|| format!("cannot write {}", file.display()))
}
