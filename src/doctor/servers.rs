//! Clocks, versions, statistics and settings of the servers: what of them hurts Ballast. Pure.

mod builds;

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::{Fix, Line, Topic, names, places};
use super::seen::Node;
use crate::cluster::capability::{Server, SlotStatsState};
use crate::config::Config;
use crate::guard::OnUnknown;
use crate::model::Address;
use crate::model::units::{self, counted};

pub(super) use builds::found as versions;

/// What is said of each group of nodes, in the order of the words.
type Groups<K> = BTreeMap<K, Vec<Address>>;

fn addresses<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<Address> {
    nodes.into_iter().map(|node| node.address.clone()).collect()
}

/// From here on times in logs, histories and expiries of keys that move are no longer what they seem.
const CLOCK_WARN_MS: i64 = 1_000;
/// As far as a snapshot may be old: nothing that carries a time can be compared any more.
const CLOCK_FAIL_MS: i64 = 30_000;

/// How far the servers' clocks are from ours, the round trip allowed for.
pub(super) fn clocks(nodes: &[Node], user: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut well, mut furthest) = (0, 0);
    let mut untold: Groups<&str> = Groups::new();
    for node in nodes {
        let clock = match &node.clock {
            Ok(clock) => clock,
            Err(why) => {
                untold.entry(why).or_default().push(node.address.clone());
                continue;
            }
        };
        let off_ms = (clock.ahead_ms.abs() - clock.give_or_take_ms).max(0);
        if off_ms < CLOCK_WARN_MS {
            well += 1;
            furthest = furthest.max(clock.ahead_ms.abs());
            continue;
        }
        let apart = humantime::format_duration(Duration::from_secs(clock.ahead_ms.unsigned_abs() / 1000));
        let way = if clock.ahead_ms > 0 { "ahead of" } else { "behind" };
        let found = format!("the clock of {} is {apart} {way} ours", node.address);
        let fix = Fix::write(
            "set both clocks by the same source; expiries of keys and all times in logs and history shift by this much:",
            ["timedatectl set-ntp true"],
        );
        let line = if off_ms < CLOCK_FAIL_MS { Line::warn } else { Line::fail };
        lines.push(line(Topic::Clock, found, fix));
    }
    if well > 0 {
        let found =
            format!("the clocks of {} are within {} ms of ours", counted(well, "node", "nodes"), furthest.max(1));
        lines.insert(0, Line::ok(Topic::Clock, found));
    }
    lines.extend(untold.into_iter().map(|(why, at)| {
        let fix = Fix::write("on these nodes:", [format!("ACL SETUSER {user} +time")]);
        Line::skip(Topic::Clock, format!("{} did not tell the time: {why}", places(&at, nodes.len())), fix)
    }));
    lines
}

/// Whether servers count load per slot, and where not, whether they could.
pub(super) fn statistics(nodes: &[Node]) -> Vec<Line> {
    let mut off: Groups<(&str, bool)> = Groups::new();
    let (mut counted, mut sampled) = (Vec::new(), Vec::new());
    for node in nodes {
        let Some(can) = &node.can else { continue };
        match can.slot_stats {
            SlotStatsState::On => counted.push(node),
            SlotStatsState::Absent => sampled.push(node),
            SlotStatsState::Off => {
                let command = can.slot_stats_command().unwrap_or_default();
                let risky = node.server().is_some_and(Server::dies_of_statistics);
                off.entry((command, risky)).or_default().push(node.address.clone());
            }
        }
    }
    let mut lines = Vec::new();
    if !counted.is_empty() {
        let found = format!("{} per slot, as the servers count it", load_of(counted.len()));
        lines.push(Line::ok(Topic::Statistics, found));
    }
    if !sampled.is_empty() {
        let servers: Groups<String> = sampled.iter().fold(Groups::new(), |mut groups, node| {
            let server = node.server().map_or_else(|| "?".to_owned(), |server| server.to_string());
            groups.entry(server).or_default().push(node.address.clone());
            groups
        });
        let servers: Vec<&String> = servers.keys().collect();
        let found = format!("{} per slot is sampled: {} cannot count it", load_of(sampled.len()), names(&servers));
        lines.push(Line::ok(Topic::Statistics, found));
    }
    lines.extend(off.into_iter().map(|((command, risky), at)| {
        let at = places(&at, nodes.len());
        let found = format!("{at}: load per slot could be counted and is not; it is sampled instead");
        let advice = if risky {
            "upgrade first, since this build ends itself soon after a failover while it counts (valkey#1912); then on each of \
             these nodes, and CONFIG REWRITE:"
        } else {
            "on each of these nodes, then CONFIG REWRITE:"
        };
        let fix = Fix::write(advice, [command]);
        Line::warn(Topic::Statistics, found, fix)
    }));
    lines
}

fn load_of(nodes: usize) -> String {
    format!("load of {}", counted(nodes, "node", "nodes"))
}

/// What `settings` reads.
pub(super) const READ: &[&str] =
    &[NODE_TIMEOUT, "maxmemory", FULL_COVERAGE, REPLICA_MIGRATION, "masteruser", "primaryuser"];
const NODE_TIMEOUT: &str = "cluster-node-timeout";
const FULL_COVERAGE: &str = "cluster-require-full-coverage";
const REPLICA_MIGRATION: &str = "cluster-allow-replica-migration";

/// Settings that hurt, each with what it does to Ballast.
pub(super) fn settings(nodes: &[Node], config: &Config, user: &str) -> Vec<Line> {
    let told: Vec<&Node> = nodes.iter().filter(|node| node.settings.is_ok()).collect();
    let mut lines = Vec::new();
    lines.extend(node_timeout(&told, config));
    lines.extend(memory(&told, config));
    lines.extend(replica_migration(&told, config));
    lines.extend(mixed(&told, FULL_COVERAGE, "nodes differ in whether they serve while a slot has no owner"));
    if lines.is_empty() && !told.is_empty() {
        let found = format!("nothing that hurts in the settings of {}", counted(told.len(), "node", "nodes"));
        lines.push(Line::ok(Topic::Settings, found));
    }
    let mut untold: Groups<&str> = Groups::new();
    for node in nodes {
        if let Err(why) = &node.settings {
            untold.entry(why).or_default().push(node.address.clone());
        }
    }
    lines.extend(untold.into_iter().map(|(why, at)| {
        let fix = Fix::write("on these nodes:", [format!("ACL SETUSER {user} +config|get")]);
        Line::skip(Topic::Settings, format!("{} did not tell settings: {why}", places(&at, nodes.len())), fix)
    }));
    lines
}

/// A MIGRATE blocks its source, and its time-out holds for each of connecting, writing and reading: a source that blocks
/// for half a node time-out is close to being voted failed (trap 14).
fn node_timeout(nodes: &[&Node], config: &Config) -> Option<Line> {
    let shortest = nodes.iter().filter_map(|node| {
        let timeout_ms: u64 = node.setting(NODE_TIMEOUT)?.parse().ok()?;
        Some((timeout_ms, *node))
    });
    let (node_ms, node) = shortest.min_by_key(|(timeout_ms, _)| *timeout_ms)?;
    let migrate_ms = config.migration.migrate_timeout_ms;
    if migrate_ms.saturating_mul(4) <= node_ms {
        return None;
    }
    let text = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
    let part = if migrate_ms.saturating_mul(2) >= node_ms { "not below half" } else { "above a quarter" };
    let found = format!(
        "migration.migrate_timeout ({}) is {part} of {NODE_TIMEOUT} ({}, on {}): a MIGRATE that hangs can make the cluster \
         fail its source over",
        text(migrate_ms),
        text(node_ms),
        node.address
    );
    // What a configuration takes at least.
    let better_ms = (node_ms / 5).max(50);
    let fix = Fix::write(
        format!("under [migration]; or raise {NODE_TIMEOUT} on every node:"),
        [format!("migrate_timeout = \"{}\"", text(better_ms))],
    );
    let line = if part.starts_with("not") { Line::fail } else { Line::warn };
    Some(line(Topic::Settings, found, fix))
}

/// Without a limit the guard cannot tell whether a target has room.
fn memory(nodes: &[&Node], config: &Config) -> Option<Line> {
    let known = |node: &&&Node| {
        let limit = node.info.maxmemory().is_some() || node.setting("maxmemory").is_some_and(|bytes| bytes != "0");
        let said = config.nodes.iter().any(|rule| rule.memory.is_some() && rule.names(&node.id, &node.address));
        limit || said || !node.info.is_primary()
    };
    let unknown = addresses(nodes.iter().filter(|node| !known(node)).copied());
    if unknown.is_empty() {
        return None;
    }
    let used = nodes.iter().filter_map(|node| node.info.used_memory()).max().unwrap_or(0);
    let fix = Fix::write(
        format!(
            "CONFIG SET maxmemory on these nodes (the fullest node uses {}), or say in daemon.toml what they have:",
            units::size::format(used)
        ),
        ["[[node]]", "match = \"*\"", "memory = \"16GiB\""],
    );
    let found = format!("maxmemory is 0 on {}", places(&unknown, nodes.len()));
    Some(match config.limits.unknown_memory {
        OnUnknown::Allow => Line::warn(
            Topic::Settings,
            format!("{found}: the guard cannot tell whether a target has room for what it gets"),
            fix,
        ),
        OnUnknown::Refuse => Line::fail(
            Topic::Settings,
            format!("{found}, and limits.unknown_memory is \"refuse\": nothing will move there"),
            fix,
        ),
    })
}

/// A primary that gives its last slot away becomes a replica of the one that took it (trap 12), and replicas of a shard
/// wander off meanwhile.
fn replica_migration(nodes: &[&Node], config: &Config) -> Option<Line> {
    let drains = |node: &Node| config.nodes.iter().any(|rule| rule.drain && rule.names(&node.id, &node.address));
    let draining = addresses(nodes.iter().filter(|node| node.info.is_primary() && drains(node)).copied());
    let wander = nodes.iter().any(|node| node.setting(REPLICA_MIGRATION) == Some("yes"));
    (wander && !draining.is_empty()).then(|| {
        Line::warn(
            Topic::Settings,
            format!(
                "{} is to be drained while {REPLICA_MIGRATION} is yes: emptied, it turns into a replica of whoever took its \
                 last slot, and its own replicas wander off",
                names(&draining)
            ),
            Fix::write(
                "on every node, until the drained one has left; unless it is meant to stay as a replica:",
                [format!("CONFIG SET {REPLICA_MIGRATION} no")],
            ),
        )
    })
}

/// A setting that has to be the same everywhere.
fn mixed(nodes: &[&Node], name: &'static str, harm: &str) -> Option<Line> {
    let mut values: Groups<&str> = Groups::new();
    for node in nodes {
        if let Some(value) = node.setting(name) {
            values.entry(value).or_default().push(node.address.clone());
        }
    }
    if values.len() < 2 {
        return None;
    }
    let each: Vec<String> = values.iter().map(|(value, at)| format!("{value} on {}", names(at))).collect();
    let common = values.iter().max_by_key(|(_, at)| at.len()).map_or("", |(value, _)| value);
    Some(Line::warn(
        Topic::Settings,
        format!("{name}: {}: {harm}", each.join(", ")),
        Fix::write("on every node, one of them:", [format!("CONFIG SET {name} {common}")]),
    ))
}

#[cfg(test)]
mod tests;
