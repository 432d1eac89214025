//! `daemon.toml` as it is written: sections, keys and their defaults. What the values mean together, `validate` knows.
//!
//! What is read can be written back, key by key, for `ballast config show`: `show` reads that, and `for_whom` marks there
//! what is not for everybody's eyes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::for_whom;
use super::rule::NodeRule;
use crate::collector;
use crate::guard::Limits;
use crate::migration::{self, Pace, ProtocolChoice};
use crate::model::{Address, units};
use crate::policy;
use crate::scaling::Scaling;
use crate::store::Retention;
use crate::telemetry::LogFormat;
use crate::webhook;

/// The whole file.
#[derive(Deserialize, Serialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) mode: Mode,
    pub(super) cluster: Cluster,
    pub(super) collect: Collect,
    pub(super) policy: Policy,
    pub(super) shadow: Vec<Shadow>,
    pub(super) limits: Limits,
    pub(super) migration: Migration,
    pub(super) scaling: Scaling,
    pub(super) approval: Approval,
    pub(super) window: Vec<Window>,
    pub(super) webhook: Vec<Webhook>,
    pub(super) lease: Lease,
    pub(super) http: Http,
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) node: Vec<NodeRule>,
}

/// The modes that may be configured; the others come about while running.
#[derive(Deserialize, Serialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    #[default]
    DryRun,
    Auto,
    Approval,
}

/// How plans are approved in the mode of that name.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Approval {
    #[serde(with = "units::duration")]
    pub(super) expires: Duration,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) file: Option<PathBuf>,
}

impl Default for Approval {
    fn default() -> Self {
        Self { expires: Duration::from_secs(86_400), file: None }
    }
}

/// When slots may move: a `[[window]]` of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    pub(super) cron: String,
    #[serde(with = "units::duration")]
    pub(super) duration: Duration,
    #[serde(default = "utc")]
    pub(super) time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Who is told of what happens: a `[[webhook]]` of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    pub(super) name: String,
    #[serde(serialize_with = "for_whom::receiver")]
    pub(super) url: String,
    #[serde(default, serialize_with = "for_whom::path")]
    pub(super) secret_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) events: Vec<String>,
    #[serde(default)]
    pub(super) format: webhook::Format,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: String,
    #[serde(serialize_with = "for_whom::seeds")]
    pub(super) seeds: Vec<String>,
    #[serde(serialize_with = "for_whom::user")]
    pub(super) user: Option<String>,
    #[serde(serialize_with = "for_whom::secret")]
    pub(super) password: Option<String>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) password_credential: Option<String>,
    #[serde(with = "units::duration")]
    pub(super) connect_timeout: Duration,
    #[serde(serialize_with = "for_whom::announced")]
    pub(super) announce_map: BTreeMap<Address, Address>,
    #[serde(serialize_with = "all_of")]
    pub(super) tls: Option<Tls>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "default".into(),
            seeds: Vec::new(),
            user: None,
            password: None,
            password_file: None,
            password_env: None,
            password_credential: None,
            connect_timeout: crate::cluster::live::CONNECT_TIMEOUT,
            announce_map: BTreeMap::new(),
            tls: None,
        }
    }
}

#[derive(Deserialize, Serialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    #[serde(serialize_with = "for_whom::path")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) cert_file: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) key_file: Option<PathBuf>,
    pub(super) insecure: bool,
}

/// All its keys, also when the section is not there.
fn all_of<S: Serializer>(tls: &Option<Tls>, serializer: S) -> Result<S::Ok, S::Error> {
    match tls {
        Some(tls) => tls.serialize(serializer),
        None => Tls::default().serialize(serializer),
    }
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Collect {
    #[serde(with = "units::duration")]
    pub(super) interval: Duration,
    #[serde(with = "units::duration")]
    pub(super) node_patience: Duration,
    pub(super) concurrency: usize,
    #[serde(with = "units::duration")]
    pub(super) fast_half_life: Duration,
    #[serde(with = "units::duration")]
    pub(super) slow_half_life: Duration,
    #[serde(with = "units::duration")]
    pub(super) freeze: Duration,
    pub(super) sample_slots: usize,
    pub(super) sample_keys: u32,
    pub(super) sample_elements: u32,
}

impl Default for Collect {
    fn default() -> Self {
        let settings = collector::Settings::default();
        Self {
            // Ten seconds: counters grow enough in between to tell load from noise, and asking a thousand nodes costs
            // them well under a percent.
            interval: Duration::from_secs(10),
            node_patience: settings.node_patience,
            concurrency: settings.concurrency,
            fast_half_life: settings.fast_half_life,
            slow_half_life: settings.slow_half_life,
            freeze: settings.freeze,
            sample_slots: settings.sample_slots,
            sample_keys: settings.sample_keys,
            sample_elements: settings.sample_elements,
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) name: Option<String>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) file: Option<PathBuf>,
    pub(super) sha256: Option<String>,
    pub(super) on_failure: policy::OnFailure,
    pub(super) faults_before_fallback: u32,
    #[serde(with = "units::duration")]
    pub(super) deadline: Duration,
    #[serde(with = "units::size")]
    pub(super) memory: u64,
    #[serde(with = "units::duration")]
    pub(super) compile_time: Duration,
    #[serde(with = "units::size")]
    pub(super) compile_memory: u64,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) cache: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::parameters")]
    pub(super) parameters: toml::Table,
}

impl Default for Policy {
    fn default() -> Self {
        let settings = policy::Settings::default();
        Self {
            name: None,
            file: None,
            sha256: None,
            on_failure: settings.on_failure,
            faults_before_fallback: settings.faults_before_fallback,
            deadline: settings.deadline(),
            memory: (settings.memory_mib as u64) << 20,
            compile_time: Duration::from_secs(settings.compile_seconds),
            compile_memory: settings.compile_memory_mib << 20,
            cache: None,
            parameters: toml::Table::new(),
        }
    }
}

/// A policy that is asked beside the one that decides: a `[[shadow]]` of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shadow {
    pub(super) name: String,
    pub(super) policy: Option<String>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) file: Option<PathBuf>,
    #[serde(default, serialize_with = "for_whom::parameters")]
    pub(super) parameters: toml::Table,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Migration {
    pub(super) protocol: ProtocolChoice,
    pub(super) pace: Pace,
    pub(super) concurrency: usize,
    #[serde(with = "units::duration")]
    pub(super) max_block: Duration,
    #[serde(with = "units::some_size")]
    pub(super) max_bytes_per_second: Option<u64>,
    #[serde(with = "units::duration")]
    pub(super) migrate_timeout: Duration,
    #[serde(with = "units::duration")]
    pub(super) atomic_deadline: Duration,
    #[serde(with = "units::duration")]
    pub(super) settle_deadline: Duration,
    #[serde(with = "units::duration")]
    pub(super) stuck_after: Duration,
}

impl Default for Migration {
    fn default() -> Self {
        let settings = migration::Settings::default();
        Self {
            protocol: settings.protocol,
            pace: settings.pace,
            concurrency: settings.concurrency,
            max_block: Duration::from_millis(settings.max_block_ms),
            max_bytes_per_second: settings.bytes_per_second,
            migrate_timeout: Duration::from_millis(settings.migrate_timeout_ms),
            atomic_deadline: Duration::from_secs(settings.atomic_deadline_s),
            settle_deadline: Duration::from_secs(settings.settle_deadline_s),
            stuck_after: Duration::from_secs(settings.stuck_after_s),
        }
    }
}

/// Who else may act on this cluster.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Lease {
    #[serde(serialize_with = "for_whom::host")]
    pub(super) etcd: Vec<String>,
    #[serde(with = "units::duration")]
    pub(super) ttl: Duration,
    pub(super) prefix: String,
    #[serde(serialize_with = "for_whom::host")]
    pub(super) name: Option<String>,
    #[serde(serialize_with = "for_whom::host")]
    pub(super) url: Option<String>,
    #[serde(serialize_with = "for_whom::user")]
    pub(super) user: Option<String>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) password_file: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) cert_file: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) key_file: Option<PathBuf>,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            etcd: Vec::new(),
            // Long enough for an election among etcd's members, short enough that a night's incident is over before anybody wakes.
            ttl: Duration::from_secs(15),
            prefix: "ballast/".into(),
            name: None,
            url: None,
            user: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    #[serde(serialize_with = "for_whom::host")]
    pub(super) listen: String,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) socket: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) operators_file: Option<PathBuf>,
    #[serde(serialize_with = "for_whom::path")]
    pub(super) viewers_file: Option<PathBuf>,
    pub(super) slot_metrics: bool,
}

impl Default for Http {
    fn default() -> Self {
        // The loopback address, since whoever reaches it may look.
        Self {
            listen: "127.0.0.1:9899".into(),
            socket: None,
            operators_file: None,
            viewers_file: None,
            slot_metrics: false,
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct State {
    #[serde(serialize_with = "for_whom::path")]
    pub(super) directory: Option<PathBuf>,
    #[serde(with = "units::duration")]
    pub(super) keep: Duration,
    pub(super) keep_reports: u64,
    pub(super) keep_snapshots: u64,
    #[serde(with = "units::size")]
    pub(super) keep_bytes: u64,
}

impl Default for State {
    fn default() -> Self {
        let retention = Retention::default();
        Self {
            directory: None,
            keep: Duration::from_millis(retention.age_ms),
            keep_reports: retention.reports,
            keep_snapshots: retention.snapshots,
            keep_bytes: retention.bytes,
        }
    }
}
