//! What the values of a configuration mean together. Every problem is found, not only the first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{self, File};
use super::json::json;
use super::problem::Finding;
use super::rule::NodeRule;
use super::{Approval, Cluster, Config, Http, Policy, Shadow, Window};
use crate::cluster::live::{Access, Password, Secret, Tls, Url};
use crate::guard::Limits;
use crate::model::{Address, Mode};
use crate::store::{Event, Retention};
use crate::{collector, lease, migration, policy, telemetry, webhook};

/// The policy that runs when none is named.
const DEFAULT_POLICY: &str = "balance";

/// What values may refer to.
pub(super) struct Base<'a> {
    /// Relative paths start here.
    pub(super) directory: &'a Path,
    /// The environment.
    pub(super) variables: &'a BTreeMap<String, String>,
}

impl Base<'_> {
    fn path(&self, path: PathBuf) -> PathBuf {
        self.directory.join(path)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Problems and warnings, as they are found.
#[derive(Default)]
struct Notes {
    findings: Vec<Finding>,
    warnings: Vec<String>,
}

impl Notes {
    fn wrong(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding { key: key.into(), message: message.into() });
    }

    fn require(&mut self, fine: bool, key: &str, message: &str) {
        if !fine {
            self.wrong(key, message);
        }
    }

    fn within<T: PartialOrd + Display>(&mut self, key: &str, value: T, accepted: RangeInclusive<T>) {
        if !accepted.contains(&value) {
            self.wrong(key, format!("{value} is out of range: {} to {} is accepted", accepted.start(), accepted.end()));
        }
    }

    fn within_time(&mut self, key: &str, value: Duration, accepted: RangeInclusive<Duration>) {
        if !accepted.contains(&value) {
            let [value, least, most] = [value, *accepted.start(), *accepted.end()].map(humantime::format_duration);
            self.wrong(key, format!("{value} is out of range: {least} to {most} is accepted"));
        }
    }
}

/// The configuration that a file makes, with what is allowed but not wise, or everything that is wrong with it.
pub(super) fn check(
    mut file: File,
    path: Option<&Path>,
    base: &Base<'_>,
) -> Result<(Config, Vec<String>), Vec<Finding>> {
    let mut found = Notes::default();
    let notes = &mut found;
    limits(&file.limits, &file.collect, notes);
    file.scaling.standby.file = file.scaling.standby.file.map(|path| base.path(path));
    for (key, accepted) in file.scaling.out_of_range() {
        notes.wrong(format!("scaling.{key}"), accepted);
    }
    let lease = lease(file.lease, &file.cluster.name, base, notes);
    let listen = listen(&file.http, notes);
    let state_dir = file.state.directory.map_or_else(|| default_state_dir(base), |path| base.path(path));
    notes.within_time("approval.expires", file.approval.expires, seconds(60)..=seconds(30 * 86_400));
    notes.require(file.state.keep_bytes >= 16 << 20, "state.keep_bytes", "16MiB or more is accepted");
    let windows = windows(&file.window, notes);
    let webhooks = webhooks(file.webhook, base, notes);
    let cluster = cluster(file.cluster, base, notes);
    let policy = policy(file.policy, base, notes);
    let shadows = shadows(file.shadow, base, notes);
    let collector = collector(&file.collect, notes);
    let migration = migration(&file.migration, notes);
    if let Err(error) = telemetry::check(&file.log.level) {
        notes.wrong("log.level", error.to_string());
    }
    nodes(&file.node, notes);
    if !found.findings.is_empty() {
        return Err(found.findings);
    }
    let config = Config {
        path: path.map(Path::to_owned),
        mode: match file.mode {
            file::Mode::DryRun => Mode::DryRun,
            file::Mode::Auto => Mode::Auto,
            file::Mode::Approval => Mode::Approval,
        },
        approval: Approval { expires: file.approval.expires, file: file.approval.file.map(|path| base.path(path)) },
        windows,
        webhooks,
        cluster,
        interval: file.collect.interval,
        collector,
        policy,
        shadows,
        limits: file.limits,
        scaling: file.scaling,
        lease,
        migration,
        http: http(file.http, listen, &state_dir, base),
        log_format: file.log.format,
        log_filter: file.log.level,
        state_dir,
        retention: Retention {
            age_ms: u64::try_from(file.state.keep.as_millis()).unwrap_or(u64::MAX),
            reports: file.state.keep_reports,
            snapshots: file.state.keep_snapshots,
            bytes: file.state.keep_bytes,
        },
        nodes: file.node,
    };
    Ok((config, found.warnings))
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cluster(section: file::Cluster, base: &Base<'_>, notes: &mut Notes) -> Cluster {
    notes.require(
        !section.seeds.is_empty(),
        "cluster.seeds",
        "name at least one node, such as \"redis://10.0.0.1:6379\"",
    );
    let mut seeds: Vec<Address> = Vec::new();
    let mut access = Access { user: section.user, password: Password::Absent, tls: None };
    for (place, seed) in section.seeds.iter().enumerate() {
        let key = format!("cluster.seeds.{place}");
        match seed.parse::<Url>() {
            Err(error) => notes.wrong(&key, error.to_string()),
            Ok(url) => {
                if place > 0 && url.access.tls.is_some() != access.tls.is_some() {
                    notes.wrong(&key, "all seeds must speak TLS (rediss://) or none of them");
                }
                access.tls = access.tls.or(url.access.tls);
                access.user = access.user.or(url.access.user);
                if access.password == Password::Absent && url.access.password != Password::Absent {
                    access.password = url.access.password;
                    notes
                        .warnings
                        .push(format!("{key} holds a password; cluster.password_file keeps it out of this file"));
                }
                seeds.push(url.address);
            }
        }
    }
    notes.within_time("cluster.connect_timeout", section.connect_timeout, Duration::from_millis(100)..=seconds(60));
    let given = [
        ("cluster.password", section.password.is_some()),
        ("cluster.password_file", section.password_file.is_some()),
        ("cluster.password_env", section.password_env.is_some()),
        ("cluster.password_credential", section.password_credential.is_some()),
    ];
    let mut given = given.into_iter().filter_map(|(key, given)| given.then_some(key));
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        notes.wrong(second, format!("{first} is given as well; give one of them"));
    }
    if let Some(password) = section.password {
        notes
            .warnings
            .push("cluster.password is written in the configuration; cluster.password_file keeps it out".into());
        access.password = Password::Given(Secret::new(password));
    }
    if let Some(path) = section.password_file {
        access.password = Password::File(base.path(path));
    }
    if let Some(name) = section.password_env {
        match base.variable(&name) {
            Some(value) => access.password = Password::Given(Secret::new(value)),
            None => notes.wrong("cluster.password_env", format!("the environment has no {name}")),
        }
    }
    if let Some(name) = section.password_credential {
        // Whoever looks from outside of the unit sees the same settings; who needs the password is told which file cannot be read.
        let directory = base.variable("CREDENTIALS_DIRECTORY").unwrap_or(CREDENTIALS);
        access.password = Password::File(Path::new(directory).join(name));
    }
    if let Some(tls) = section.tls {
        notes.require(
            tls.cert_file.is_some() == tls.key_file.is_some(),
            "cluster.tls",
            "cert_file and key_file go together",
        );
        if tls.insecure {
            notes
                .warnings
                .push("cluster.tls.insecure accepts any certificate: anybody may answer in a node's place".into());
        }
        access.tls = Some(Tls {
            ca_file: tls.ca_file.map(|path| base.path(path)),
            client: tls.cert_file.zip(tls.key_file).map(|(cert, key)| (base.path(cert), base.path(key))),
            insecure: tls.insecure,
        });
    }
    Cluster {
        name: section.name,
        seeds,
        access,
        connect_timeout: section.connect_timeout,
        announce_map: section.announce_map,
    }
}

fn policy(section: file::Policy, base: &Base<'_>, notes: &mut Notes) -> Policy {
    if section.name.is_some() && section.file.is_some() {
        notes.wrong("policy.file", "policy.name is given as well; give one of them");
    }
    let source = match section.file {
        Some(path) => policy::Source::File(base.path(path)),
        None => policy::Source::Embedded(section.name.unwrap_or_else(|| DEFAULT_POLICY.into())),
    };
    let pinned = section.sha256.as_deref();
    notes.require(
        pinned.is_none_or(|pin| pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit())),
        "policy.sha256",
        "64 hexadecimal digits are accepted, as sha256sum prints them",
    );
    notes.within("policy.faults_before_fallback", section.faults_before_fallback, 1..=1000);
    notes.within_time("policy.deadline", section.deadline, Duration::from_millis(10)..=seconds(60));
    notes.within_time("policy.compile_time", section.compile_time, seconds(1)..=seconds(600));
    let mib = |bytes: u64| bytes >> 20;
    notes.require((1..=4096).contains(&mib(section.memory)), "policy.memory", "1MiB to 4GiB is accepted");
    notes.require(mib(section.compile_memory) >= 256, "policy.compile_memory", "256MiB or more is accepted");
    let settings = policy::Settings {
        deadline_ms: u64::try_from(section.deadline.as_millis()).unwrap_or(u64::MAX),
        memory_mib: usize::try_from(mib(section.memory)).unwrap_or(usize::MAX),
        compile_seconds: section.compile_time.as_secs(),
        compile_memory_mib: mib(section.compile_memory),
        cache_dir: section.cache.map(|path| base.path(path)),
        on_failure: section.on_failure,
        faults_before_fallback: section.faults_before_fallback,
        sha256: section.sha256.map(|pin| pin.to_ascii_lowercase()),
        ..policy::Settings::default()
    };
    Policy { source, parameters: json(toml::Value::Table(section.parameters)).to_string(), settings }
}

/// Each asks its policy in every cycle: more of them than this would cost more than they tell.
const SHADOWS_MAX: usize = 8;

fn shadows(sections: Vec<file::Shadow>, base: &Base<'_>, notes: &mut Notes) -> Vec<Shadow> {
    notes.require(sections.len() <= SHADOWS_MAX, "shadow", "at most 8 shadows are accepted");
    let mut shadows: Vec<Shadow> = Vec::new();
    for (place, section) in sections.into_iter().enumerate() {
        let key = |key: &str| format!("shadow.{place}.{key}");
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let fine = (1..=32).contains(&section.name.len()) && section.name.bytes().all(plain);
        notes.require(fine, &key("name"), "1 to 32 characters out of a-z, 0-9, - and _ are accepted");
        let twice = shadows.iter().any(|shadow| shadow.name == section.name);
        notes.require(!twice, &key("name"), "another shadow has this name");
        let source = match (section.file, section.policy) {
            (Some(path), None) => policy::Source::File(base.path(path)),
            (None, Some(name)) => policy::Source::Embedded(name),
            _ => {
                notes.wrong(key("name"), "it needs either `file` or `policy`, the name of an embedded one");
                continue;
            }
        };
        let parameters = json(toml::Value::Table(section.parameters)).to_string();
        shadows.push(Shadow { name: section.name, source, parameters });
    }
    shadows
}

fn limits(limits: &Limits, collect: &file::Collect, notes: &mut Notes) {
    notes.within("limits.memory_margin", limits.memory_margin, 0.0..=0.9);
    notes.within("limits.min_gain", limits.min_gain, 0.0..=10.0);
    if limits.max_snapshot_age < collect.interval {
        let interval = humantime::format_duration(collect.interval);
        notes.wrong("limits.max_snapshot_age", format!("must not be less than collect.interval, which is {interval}"));
    }
    for (key, value) in [
        ("limits.max_moves_per_cycle", u64::from(limits.max_moves_per_cycle)),
        ("limits.max_moves_per_node", u64::from(limits.max_moves_per_node)),
        ("limits.max_moves_per_hour", u64::from(limits.max_moves_per_hour)),
        ("limits.max_moves_per_day", u64::from(limits.max_moves_per_day)),
        ("limits.max_bytes_per_day", limits.max_bytes_per_day),
        ("limits.max_bytes_per_cycle", limits.max_bytes_per_cycle),
        ("limits.max_bytes_per_node", limits.max_bytes_per_node),
        ("limits.max_bytes_per_hour", limits.max_bytes_per_hour),
    ] {
        notes.require(value > 0, key, "0 would never move anything; mode = \"dry-run\" says that better");
    }
}

fn collector(section: &file::Collect, notes: &mut Notes) -> collector::Settings {
    let (instant, day) = (Duration::from_millis(1), seconds(86400));
    notes.within_time("collect.interval", section.interval, Duration::from_millis(500)..=seconds(3600));
    notes.within_time("collect.node_patience", section.node_patience, Duration::from_millis(50)..=seconds(60));
    notes.within("collect.concurrency", section.concurrency, 1..=1024);
    notes.within_time("collect.fast_half_life", section.fast_half_life, instant..=day);
    notes.within_time("collect.slow_half_life", section.slow_half_life, instant..=day);
    notes.within_time("collect.freeze", section.freeze, Duration::ZERO..=day);
    notes.within("collect.sample_slots", section.sample_slots, 1..=16384);
    notes.within("collect.sample_keys", section.sample_keys, 1..=1000);
    notes.within("collect.sample_elements", section.sample_elements, 0..=1000);
    collector::Settings {
        node_patience: section.node_patience,
        concurrency: section.concurrency,
        fast_half_life: section.fast_half_life,
        slow_half_life: section.slow_half_life,
        freeze: section.freeze,
        sample_slots: section.sample_slots,
        sample_keys: section.sample_keys,
        sample_elements: section.sample_elements,
    }
}

fn migration(section: &file::Migration, notes: &mut Notes) -> migration::Settings {
    notes.within("migration.concurrency", section.concurrency, 1..=64);
    notes.within_time("migration.max_block", section.max_block, Duration::from_millis(1)..=seconds(7));
    let least = section.max_bytes_per_second.unwrap_or(u64::MAX);
    notes.require(
        least >= 64 << 10,
        "migration.max_bytes_per_second",
        "64KiB or more is accepted; leave it out for no limit",
    );
    // The upper end stays below half of the servers' default node time-out of 15 s: a source that blocks for longer is
    // voted failed.
    notes.within_time("migration.migrate_timeout", section.migrate_timeout, Duration::from_millis(50)..=seconds(7));
    notes.within_time("migration.atomic_deadline", section.atomic_deadline, seconds(1)..=seconds(86400));
    notes.within_time("migration.settle_deadline", section.settle_deadline, seconds(1)..=seconds(3600));
    notes.within_time("migration.stuck_after", section.stuck_after, seconds(1)..=seconds(86400));
    migration::Settings {
        protocol: section.protocol,
        pace: section.pace,
        concurrency: section.concurrency,
        max_block_ms: u64::try_from(section.max_block.as_millis()).unwrap_or(u64::MAX),
        bytes_per_second: section.max_bytes_per_second,
        migrate_timeout_ms: u64::try_from(section.migrate_timeout.as_millis()).unwrap_or(u64::MAX),
        atomic_deadline_s: section.atomic_deadline.as_secs(),
        settle_deadline_s: section.settle_deadline.as_secs(),
        stuck_after_s: section.stuck_after.as_secs(),
    }
}

/// Where systemd puts the credentials of our unit (systemd.exec(5)).
const CREDENTIALS: &str = "/run/credentials/ballast.service";

/// Where the socket is unless told otherwise, beneath the state directory.
const SOCKET: &str = "ballast.sock";

fn http(section: file::Http, listen: Option<SocketAddr>, state_dir: &Path, base: &Base<'_>) -> Http {
    let file = |path: Option<PathBuf>| path.map(|path| base.path(path));
    let socket_is_wanted = section.socket.is_some();
    let socket = match section.socket {
        Some(off) if off == Path::new("off") => None,
        Some(path) => Some(base.path(path)),
        None => Some(state_dir.join(SOCKET)),
    };
    let (operators_file, viewers_file) = (file(section.operators_file), file(section.viewers_file));
    Http { listen, socket, socket_is_wanted, operators_file, viewers_file, slot_metrics: section.slot_metrics }
}

fn listen(section: &file::Http, notes: &mut Notes) -> Option<SocketAddr> {
    if section.listen == "off" {
        return None;
    }
    let listen = section.listen.parse().ok();
    notes.require(listen.is_some(), "http.listen", "an IP address and a port are accepted, or \"off\"");
    let open = listen.is_some_and(|listen: SocketAddr| !listen.ip().is_loopback());
    if open && section.viewers_file.is_none() {
        let advice = "whoever reaches it may look at everything but secrets; http.viewers_file asks for a token";
        notes.warnings.push(format!("http.listen is open to other machines: {advice}"));
    }
    listen
}

fn windows(sections: &[file::Window], notes: &mut Notes) -> Vec<Window> {
    let mut windows = Vec::new();
    for (place, section) in sections.iter().enumerate() {
        match Window::new(&section.cron, section.duration, &section.time_zone) {
            Ok(window) => windows.push(window),
            Err((key, message)) => notes.wrong(format!("window.{place}.{key}"), message),
        }
    }
    windows
}

fn webhooks(sections: Vec<file::Webhook>, base: &Base<'_>, notes: &mut Notes) -> Vec<webhook::Settings> {
    let mut webhooks: Vec<webhook::Settings> = Vec::new();
    for (place, section) in sections.into_iter().enumerate() {
        let key = |key: &str| format!("webhook.{place}.{key}");
        let fine = section.url.starts_with("http://") || section.url.starts_with("https://");
        notes.require(fine, &key("url"), "write it as \"https://host/path\"");
        let twice = webhooks.iter().any(|other| other.name == section.name);
        notes.require(!twice && !section.name.is_empty(), &key("name"), "each needs a name of its own");
        for event in &section.events {
            let known = Event::NAMES.contains(&event.as_str());
            let accepted = Event::NAMES.join(", ");
            notes.require(known, &key("events"), &format!("there is no event '{event}'; accepted are {accepted}"));
        }
        webhooks.push(webhook::Settings {
            name: section.name,
            url: section.url,
            secret_file: section.secret_file.map(|path| base.path(path)),
            events: section.events.into_iter().collect(),
            format: section.format,
        });
    }
    webhooks
}

fn lease(section: file::Lease, cluster: &str, base: &Base<'_>, notes: &mut Notes) -> Option<lease::Settings> {
    if section.etcd.is_empty() {
        return None;
    }
    notes.require(
        cluster != "default",
        "cluster.name",
        "give the cluster a name of its own: daemons of clusters with the same name would follow each other",
    );
    for (place, endpoint) in section.etcd.iter().enumerate() {
        let url = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
        // A password in it would be shown.
        let fine = url.is_some_and(|rest| !rest.is_empty() && !rest.contains('@'));
        notes.require(fine, &format!("lease.etcd.{place}"), "write it as \"http://10.0.0.1:2379\" or \"https://...\"");
    }
    // etcd itself gives no shorter ones than one and a half of its elections.
    notes.within_time("lease.ttl", section.ttl, seconds(2)..=seconds(300));
    notes.require(section.prefix.ends_with('/'), "lease.prefix", "it has to end in \"/\"");
    notes.require(
        section.cert_file.is_some() == section.key_file.is_some(),
        "lease",
        "cert_file and key_file go together",
    );
    notes.require(
        section.user.is_some() == section.password_file.is_some(),
        "lease",
        "user and password_file go together",
    );
    Some(lease::Settings {
        endpoints: section.etcd,
        prefix: section.prefix,
        name: section.name,
        url: section.url,
        ttl: section.ttl,
        user: section.user,
        password: section.password_file.map_or(Password::Absent, |path| Password::File(base.path(path))),
        ca_file: section.ca_file.map(|path| base.path(path)),
        client: section.cert_file.zip(section.key_file).map(|(cert, key)| (base.path(cert), base.path(key))),
    })
}

fn nodes(rules: &[NodeRule], notes: &mut Notes) {
    for (place, rule) in rules.iter().enumerate() {
        let key = |name: &str| format!("node.{place}.{name}");
        notes.require(!rule.pattern.trim().is_empty(), &key("match"), "name a node, or \"*\" for all");
        let weight = rule.weight.unwrap_or(1.0);
        notes.require(
            weight.is_finite() && weight > 0.0,
            &key("weight"),
            "a number above 0 is accepted; drain = true empties a node",
        );
        notes.require(rule.memory != Some(0), &key("memory"), "a size above 0 is accepted");
    }
}

/// systemd's state directory, else the user's.
pub(super) fn default_state_dir(base: &Base<'_>) -> PathBuf {
    // systemd joins several by colons; the first is ours.
    if let Some(directories) = base.variable("STATE_DIRECTORY") {
        return directories.split(':').next().unwrap_or(directories).into();
    }
    if let Some(home) = base.variable("XDG_STATE_HOME") {
        return Path::new(home).join("ballast");
    }
    Path::new(base.variable("HOME").unwrap_or("/var/lib")).join(".local/state/ballast")
}
