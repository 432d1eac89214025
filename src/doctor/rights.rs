//! Every command that Ballast needs, by the server that it is said to: the only list of them. `docs/access.md` says the
//! same, and a test here holds it to that.

use crate::cluster::capability::{Capabilities, Server, ServerKind, SlotStatsState, Version};

/// What a right is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// `check`, `plan`, `rebalance`, `reshard`, `run`.
    Moves,
    /// `verify`, besides.
    Verifies,
    /// `drain --forget`, besides.
    Retires,
    /// Letting standby nodes join, besides.
    Grows,
    /// Servers among themselves.
    Replicates,
}

/// A right to one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Right {
    /// As ACLs call it: `cluster|nodes`.
    pub(super) name: &'static str,
    /// The command in a form that the server can rule on.
    pub(super) trial: &'static str,
    pub(super) purpose: For,
    /// Which servers are told it.
    on: On,
    /// What happens without it, where that is less than a failure.
    pub(super) without: Option<&'static str>,
}

/// Which servers have a command, or need to be told it.
#[derive(Debug, Clone, Copy)]
enum On {
    All,
    From { redis: Option<Version>, valkey: Option<Version> },
    RedisBefore(Version),
}

impl On {
    fn includes(self, server: Server) -> bool {
        match self {
            Self::All => true,
            Self::From { redis, valkey } => {
                let from = if server.kind == ServerKind::Redis { redis } else { valkey };
                from.is_some_and(|from| server.version >= from)
            }
            Self::RedisBefore(end) => server.kind == ServerKind::Redis && server.version < end,
        }
    }
}

impl Right {
    const fn to(name: &'static str, trial: &'static str) -> Self {
        Self { name, trial, purpose: For::Moves, on: On::All, without: None }
    }

    const fn on(self, redis: Option<Version>, valkey: Option<Version>) -> Self {
        Self { on: On::From { redis, valkey }, ..self }
    }

    const fn before(self, redis: Version) -> Self {
        Self { on: On::RedisBefore(redis), ..self }
    }

    const fn without(self, what: &'static str) -> Self {
        Self { without: Some(what), ..self }
    }

    const fn verifies(self) -> Self {
        Self { purpose: For::Verifies, ..self }
    }

    const fn retires(self) -> Self {
        Self { purpose: For::Retires, ..self }
    }

    const fn grows(self) -> Self {
        Self { purpose: For::Grows, ..self }
    }

    const fn replicates(self) -> Self {
        Self { purpose: For::Replicates, ..self }
    }

    /// As the ACLs of this server call it: before Redis 7.0 there are rights to whole commands where all of it is meant.
    pub(super) fn name_on(&self, server: Server) -> &'static str {
        match self.name {
            "command|info" if is_old(server) => "command",
            "xinfo|stream" | "xinfo|groups" | "xinfo|consumers" if is_old(server) => "xinfo",
            name => name,
        }
    }

    /// Whether a server that can this does without: it counts what would have to be sampled.
    pub(super) fn is_idle(&self, can: &Capabilities) -> bool {
        match self.name {
            "object|freq" | "object|idletime" => can.slot_stats == SlotStatsState::On,
            "memory|usage" => can.slot_memory,
            _ => false,
        }
    }
}

/// Whether the server has no `ACL DRYRUN`, and no rights to subcommands as we say them.
pub(super) fn is_old(server: Server) -> bool {
    server.kind == ServerKind::Redis && server.version < SEVEN
}

const SEVEN: Version = Version(7, 0, 0);
const ATOMIC_REDIS: Version = Version(8, 4, 0);
const ATOMIC_VALKEY: Option<Version> = Some(Version(9, 0, 0));
const FUNCTIONS: (Option<Version>, Option<Version>) = (Some(SEVEN), Some(Version(7, 2, 0)));
const SLOT_BY_SLOT: &str = "slots get their new owner one by one, which takes longer";
const HIDDEN: &str = "keys in slots that a node does not own go unseen, so that flags stay that could be cleared";
const GUESSED: &str = "load and memory of slots are guessed from counts of keys";

/// In the order of `docs/access.md`.
pub(super) const RIGHTS: &[Right] = &[
    Right::to("ping", "PING"),
    Right::to("info", "INFO"),
    Right::to("role", "ROLE"),
    Right::to("multi", "MULTI").before(ATOMIC_REDIS).without(SLOT_BY_SLOT),
    Right::to("exec", "EXEC").before(ATOMIC_REDIS).without(SLOT_BY_SLOT),
    Right::to("multi", "MULTI").on(Some(ATOMIC_REDIS), None).without(HIDDEN),
    Right::to("exec", "EXEC").on(Some(ATOMIC_REDIS), None).without(HIDDEN),
    Right::to("dbsize", "DBSIZE").on(Some(ATOMIC_REDIS), None).without(HIDDEN),
    Right::to("select", "SELECT 0"),
    Right::to("command|info", "COMMAND INFO get"),
    Right::to("config|get", "CONFIG GET maxmemory"),
    Right::to("cluster|nodes", "CLUSTER NODES"),
    Right::to("cluster|setslot", "CLUSTER SETSLOT 0 STABLE"),
    Right::to("cluster|bumpepoch", "CLUSTER BUMPEPOCH"),
    Right::to("cluster|countkeysinslot", "CLUSTER COUNTKEYSINSLOT 0"),
    Right::to("cluster|getkeysinslot", "CLUSTER GETKEYSINSLOT 0 1"),
    Right::to("cluster|slot-stats", "CLUSTER SLOT-STATS SLOTSRANGE 0 0")
        .on(Some(Version(8, 2, 0)), Some(Version(8, 0, 0))),
    Right::to("cluster|migration", "CLUSTER MIGRATION STATUS ALL").on(Some(ATOMIC_REDIS), None),
    Right::to("cluster|migrateslots", "CLUSTER MIGRATESLOTS SLOTSRANGE 0 0 NODE x").on(None, ATOMIC_VALKEY),
    Right::to("cluster|getslotmigrations", "CLUSTER GETSLOTMIGRATIONS").on(None, ATOMIC_VALKEY),
    Right::to("cluster|cancelslotmigrations", "CLUSTER CANCELSLOTMIGRATIONS").on(None, ATOMIC_VALKEY),
    Right::to("memory|usage", "MEMORY USAGE x").without(GUESSED),
    Right::to("object|freq", "OBJECT FREQ x").without(GUESSED),
    Right::to("object|idletime", "OBJECT IDLETIME x").without(GUESSED),
    Right::to("function|list", "FUNCTION LIST").on(FUNCTIONS.0, FUNCTIONS.1),
    Right::to("migrate", "MIGRATE 127.0.0.1 7000 x 0 1000"),
    Right::to("restore-asking", "RESTORE-ASKING x 0 y"),
    Right::to("scan", "SCAN 0").verifies(),
    Right::to("exists", "EXISTS x").verifies(),
    Right::to("asking", "ASKING").verifies(),
    Right::to("type", "TYPE x").verifies(),
    Right::to("pttl", "PTTL x").verifies(),
    Right::to("getrange", "GETRANGE x 0 0").verifies(),
    Right::to("lrange", "LRANGE x 0 0").verifies(),
    Right::to("zrange", "ZRANGE x 0 0").verifies(),
    Right::to("sscan", "SSCAN x 0").verifies(),
    Right::to("hscan", "HSCAN x 0").verifies(),
    Right::to("hpexpiretime", "HPEXPIRETIME x FIELDS 1 f").on(Some(Version(7, 4, 0)), ATOMIC_VALKEY).verifies(),
    Right::to("xrange", "XRANGE x - +").verifies(),
    Right::to("xinfo|stream", "XINFO STREAM x").verifies(),
    Right::to("xinfo|groups", "XINFO GROUPS x").verifies(),
    Right::to("xinfo|consumers", "XINFO CONSUMERS x g").verifies(),
    Right::to("xpending", "XPENDING x g").verifies(),
    Right::to("dump", "DUMP x").verifies(),
    Right::to("cluster|replicate", "CLUSTER REPLICATE x").retires(),
    Right::to("cluster|forget", "CLUSTER FORGET x").retires(),
    Right::to("cluster|reset", "CLUSTER RESET SOFT").retires(),
    Right::to("cluster|meet", "CLUSTER MEET 127.0.0.1 7000").grows(),
    Right::to("function|dump", "FUNCTION DUMP").on(FUNCTIONS.0, FUNCTIONS.1).grows(),
    Right::to("function|restore", "FUNCTION RESTORE x REPLACE").on(FUNCTIONS.0, FUNCTIONS.1).grows(),
    // The source of an atomic migration on Valkey writes all that it sends in the name of the servers' own user.
    Right::to("cluster|syncslots", "CLUSTER SYNCSLOTS ESTABLISH SOURCE x").on(None, ATOMIC_VALKEY).replicates(),
    Right::to("select", "SELECT 0").on(None, ATOMIC_VALKEY).replicates(),
    Right::to("@write", "SET x y").on(None, ATOMIC_VALKEY).replicates(),
];

/// What a server has to grant for this purpose.
pub(super) fn rights(server: Server, purpose: For) -> impl Iterator<Item = &'static Right> {
    RIGHTS.iter().filter(move |right| right.purpose == purpose && right.on.includes(server))
}

/// `+ping +info …`, each once.
pub(super) fn grants<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<String> = Vec::new();
    for name in names {
        let word = format!("+{name}");
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/access.md");

    #[test]
    fn the_document_grants_what_is_examined_and_nothing_else() {
        for (section, kind, version) in [
            ("Redis 6.2", ServerKind::Redis, Version(6, 2, 5)),
            ("Redis 7.0", ServerKind::Redis, Version(7, 0, 15)),
            ("Redis 8.6", ServerKind::Redis, Version(8, 6, 3)),
            ("Valkey 8.0", ServerKind::Valkey, Version(8, 0, 1)),
            ("Valkey 9.1", ServerKind::Valkey, Version(9, 1, 2)),
        ] {
            let server = Server { kind, version };
            let granted = |purpose| grants(rights(server, purpose).map(|right| right.name_on(server)));
            let part = DOCUMENT.split(&format!("### {section}\n")).nth(1).expect("the section");
            let mut lines = part.lines().filter(|line| line.starts_with("ACL SETUSER"));
            let mut line = || lines.next().expect("three lines");
            assert_eq!(line(), format!("ACL SETUSER ballast on >PASSWORD ~* {}", granted(For::Moves)), "{section}");
            assert_eq!(line(), format!("ACL SETUSER ballast {}", granted(For::Verifies)), "{section}");
            assert!(line().ends_with(&granted(For::Replicates)), "{section}");
            let retires = format!("\nACL SETUSER ballast {}\n", granted(For::Retires));
            assert!(DOCUMENT.contains(&retires), "{retires}");
            // Before functions there is only the first of these.
            let grows = format!("\nACL SETUSER ballast {}", granted(For::Grows));
            assert!(DOCUMENT.contains(&grows), "{grows}");
        }
    }

    #[test]
    fn every_right_is_tried_by_its_own_command() {
        for right in RIGHTS.iter().filter(|right| !right.name.starts_with('@')) {
            let words = right.trial.to_lowercase();
            let tried = words.split(' ').take(right.name.split('|').count()).collect::<Vec<_>>().join("|");
            assert_eq!(tried, right.name);
        }
    }
}
