//! Which servers these are, and which builds are known to be broken or limited in what Ballast does with them.

use std::collections::BTreeMap;

use super::addresses;
use crate::cluster::capability::{Server, ServerKind, SlotStatsState, Version};
use crate::config::Config;
use crate::doctor::line::{Fix, Line, Topic, places};
use crate::doctor::seen::Node;
use crate::model::Address;
use crate::model::units::counted;

/// A build that is known for something.
struct Build {
    kind: ServerKind,
    /// The first and the last version that has it.
    versions: (Version, Version),
    /// Whether it matters here.
    matters: fn(&Node, &Config) -> bool,
    harm: &'static str,
    fix: &'static str,
    source: &'static str,
}

const fn v(major: u16, minor: u16, patch: u16) -> Version {
    Version(major, minor, patch)
}

const BUILDS: &[Build] = &[
    Build {
        kind: ServerKind::Valkey,
        versions: Server::DIES_OF_STATISTICS,
        matters: |node, _| node.can.as_ref().is_some_and(|can| can.slot_stats == SlotStatsState::On),
        harm: "ends itself soon after a failover while it counts load per slot",
        fix: "upgrade to a later 8.0; or CONFIG SET cluster-slot-stats-enabled no, and load is sampled",
        source: "valkey#1912, met by our tests: docs/traps.md",
    },
    Build {
        kind: ServerKind::Valkey,
        versions: (v(9, 0, 0), v(9, 0, 4)),
        matters: |_, _| true,
        harm: "ends itself when the target of an atomic migration is forgotten while it connects",
        fix: "upgrade to 9.1.2 or later; until then no CLUSTER FORGET while slots move",
        source: "valkey#3596",
    },
    Build {
        kind: ServerKind::Redis,
        versions: (v(8, 4, 0), v(8, 4, 0)),
        matters: |_, _| true,
        harm: "fails an atomic migration of ranges that touch and deletes in one go; Ballast joins ranges, other tools may not",
        fix: "upgrade to a later 8.4",
        source: "redis#14637",
    },
    Build {
        kind: ServerKind::Redis,
        versions: (v(8, 6, 3), v(8, 6, 3)),
        matters: |_, _| true,
        harm: "ends itself when it is told to fail over at the very moment at which it hands slots over",
        fix: "'ballast pause' before CLUSTER FAILOVER",
        source: "server.c:3600, met by our tests: docs/traps.md",
    },
    Build {
        kind: ServerKind::Redis,
        versions: (v(7, 0, 0), v(7, 0, 15)),
        // The default is ten minutes; the ping of an old owner that does harm is on its way for seconds.
        matters: |_, config| config.limits.slot_cool_down.as_secs() < 60,
        harm: "may take back a slot that goes straight back to it, and limits.slot_cool_down is short",
        fix: "set slot_cool_down of [limits] to 1m or more",
        source: "met by our tests: docs/traps.md, trap 11",
    },
];

/// The oldest server that Ballast is tested on.
const OLDEST: Version = v(6, 2, 0);

/// Versions, and what is known about them.
pub(in crate::doctor) fn found(nodes: &[Node], config: &Config) -> Vec<Line> {
    let all = nodes.len();
    let mut servers: BTreeMap<String, (Server, Vec<&Node>)> = BTreeMap::new();
    for node in nodes {
        if let Some(server) = node.server() {
            servers.entry(server.to_string()).or_insert((server, Vec::new())).1.push(node);
        }
    }
    let mut lines = Vec::new();
    match servers.len() {
        0 => {}
        1 => lines.extend(servers.iter().map(|(name, (_, nodes))| {
            Line::ok(Topic::Versions, format!("{name} on {}", counted(nodes.len(), "node", "nodes")))
        })),
        _ => lines.push(mixed(&servers)),
    }
    for (name, (server, nodes)) in &servers {
        if server.version < OLDEST {
            let found = format!(
                "{name} on {}: Ballast is tested on 6.2 and later",
                places(&addresses(nodes.iter().copied()), all)
            );
            lines.push(Line::warn(Topic::Versions, found, Fix::of("upgrade")));
        }
        let defects = nodes.iter().filter_map(|node| Some((node.can.as_ref()?.atomic_defect?, node.address.clone())));
        let mut by_defect: BTreeMap<&str, Vec<Address>> = BTreeMap::new();
        defects.for_each(|(defect, address)| by_defect.entry(defect).or_default().push(address));
        lines.extend(by_defect.into_iter().map(|(defect, at)| {
            let found = format!("{name} on {}: {defect}; slots move classically", places(&at, all));
            Line::warn(Topic::Versions, found, Fix::of("upgrade to 9.1.2 or later, or start them with io-threads 1"))
        }));
        for build in BUILDS.iter().filter(|build| build.includes(*server)) {
            let hit = addresses(nodes.iter().copied().filter(|node| (build.matters)(node, config)));
            if !hit.is_empty() {
                let found = format!("{name} on {} {} ({})", places(&hit, all), build.harm, build.source);
                lines.push(Line::warn(Topic::Versions, found, Fix::of(build.fix)));
            }
        }
    }
    lines
}

impl Build {
    fn includes(&self, server: Server) -> bool {
        self.kind == server.kind && (self.versions.0..=self.versions.1).contains(&server.version)
    }
}

fn mixed(servers: &BTreeMap<String, (Server, Vec<&Node>)>) -> Line {
    let each: Vec<String> = servers.iter().map(|(name, (_, nodes))| format!("{name} ({})", nodes.len())).collect();
    Line::warn(
        Topic::Versions,
        format!("nodes of several versions: {}", each.join(", ")),
        Fix::of(
            "end the upgrade: keys may not be readable on an older server, and slots move atomically only where both ends can",
        ),
    )
}
