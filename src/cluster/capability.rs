//! What a server can do: found out by asking, by version only where asking cannot tell.
//!
//! Pure: [`Abilities`] words the question and reads the replies. Valkey and Redis share command names and differ in
//! meaning, so who answers is part of what it can do.

use std::fmt;
use std::str::FromStr;

use super::question::{AtomicProtocol, ConfigGet, KnownCommands, ServerInfo};
use super::{Command, Question, Reply, ReplyError};

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        })
    }
}

/// A version as servers write it: `8.0.2`; what follows the third number is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(['.', '-']).take(3);
        let mut next = || numbers.next().map_or(Ok(0), str::parse);
        Ok(Self(next()?, next()?, next().unwrap_or(0)))
    }
}

/// A server's kind and version: `valkey 9.1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Server {
    /// Whose.
    pub kind: ServerKind,
    /// Its own version, not the one that Valkey shows to old clients.
    pub version: Version,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.version)
    }
}

impl Server {
    /// The first and the last Valkey that end themselves soon after a failover while they count load per slot (valkey#1912, met by our
    /// tests: `docs/traps.md`).
    pub const DIES_OF_STATISTICS: (Version, Version) = (Version(8, 0, 0), Version(8, 0, 2));

    /// Whether it is one of these.
    #[must_use]
    pub fn dies_of_statistics(self) -> bool {
        let (first, last) = Self::DIES_OF_STATISTICS;
        self.kind == ServerKind::Valkey && (first..=last).contains(&self.version)
    }
}

/// Whether the server counts load per slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotStatsState {
    /// It counts.
    On,
    /// It could; see [`Capabilities::slot_stats_advice`].
    Off,
    /// Its version cannot.
    Absent,
}

/// What one server can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Who it is.
    pub server: Server,
    /// `CLUSTER SLOT-STATS`.
    pub slot_stats: SlotStatsState,
    /// Whether slot statistics include bytes of memory (Redis 8.4 with `cluster-slot-stats-enabled` of `yes` or `mem`
    /// since its start).
    pub slot_memory: bool,
    /// How slots move atomically, where they can.
    pub atomic: Option<AtomicProtocol>,
    /// How many databases a cluster node may have: 1 but on Valkey 9, where `cluster-databases` says; none when it is not
    /// to be had there.
    pub databases: Option<u32>,
    /// Why atomic migration must not be used although the server has it.
    pub atomic_defect: Option<&'static str>,
}

impl Capabilities {
    /// What a person can do to have load counted per slot; `None` when it is.
    #[must_use]
    pub fn slot_stats_advice(&self) -> Option<String> {
        match (self.slot_stats, self.slot_stats_command()) {
            (SlotStatsState::On, _) => None,
            _ if self.server.dies_of_statistics() => Some(format!(
                "upgrade first: {} ends itself soon after a failover while it counts (`ballast doctor`)",
                self.server
            )),
            (_, Some(command)) if self.atomic == Some(AtomicProtocol::RedisMigrationImport) => Some(format!(
                "{command} turns it on; yes in the server's configuration counts memory too, from its next start on"
            )),
            (_, Some(command)) => Some(format!("{command} turns it on")),
            (_, None) => Some(format!("{} cannot; Valkey from 8.0 and Redis from 8.2 on can", self.server)),
        }
    }

    /// The command that has load counted per slot; `None` where it is counted, or cannot be.
    #[must_use]
    pub fn slot_stats_command(&self) -> Option<&'static str> {
        match self.slot_stats {
            SlotStatsState::On | SlotStatsState::Absent => None,
            // Redis 8.4 and later take "yes" at start only, for it includes counting memory.
            SlotStatsState::Off if self.atomic == Some(AtomicProtocol::RedisMigrationImport) => {
                Some("CONFIG SET cluster-slot-stats-enabled \"cpu net\"")
            }
            SlotStatsState::Off => Some("CONFIG SET cluster-slot-stats-enabled yes"),
        }
    }

    /// Whether a node that gets slots by `SETSLOT NODE` tells all the others anew with each of them: Redis before 8.4 and
    /// Valkey before 9 send so many messages, later ones a single message (measured with 64 slots in one pipeline).
    #[must_use]
    pub fn tells_of_each_slot(&self) -> bool {
        self.atomic.is_none()
    }

    /// The protocol of atomic migration that may be used between this source and that target.
    #[must_use]
    pub fn atomic_with(&self, target: &Self) -> Option<AtomicProtocol> {
        let sound = self.atomic_defect.is_none() && target.atomic_defect.is_none();
        self.atomic.filter(|protocol| sound && target.atomic == Some(*protocol))
    }
}

/// What can this server do?
#[derive(Debug, Clone, Copy)]
pub struct Abilities;

const SLOT_STATS: &str = "cluster|slot-stats";
const MIGRATE_SLOTS: &str = "cluster|migrateslots";
const MIGRATION: &str = "cluster|migration";
const SETTINGS: [&str; 3] = ["cluster-slot-stats-enabled", "cluster-databases", "io-threads"];

fn commands_of_interest() -> KnownCommands {
    KnownCommands { names: [SLOT_STATS, MIGRATE_SLOTS, MIGRATION].map(str::to_owned).to_vec() }
}

impl Question for Abilities {
    type Answer = Capabilities;

    fn commands(&self) -> Vec<Command> {
        let mut commands = vec![Command::new("INFO server")];
        commands.extend(commands_of_interest().commands());
        commands.extend(ConfigGet::of(&SETTINGS).commands());
        commands
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Capabilities, ReplyError> {
        let mut replies = replies.into_iter();
        let info = ServerInfo::parse(&replies.next().unwrap_or(Reply::Nil).text()?);
        let server = info.server().ok_or_else(|| Reply::Nil.unexpected("INFO server with a version"))?;
        let known = commands_of_interest().read(replies.by_ref().take(1).collect())?;
        // Managed services refuse CONFIG. What depends on it is then taken as the server's default, and what the
        // replies themselves show (a slot's counters, or their absence) is believed over it.
        let settings = ConfigGet::of(&SETTINGS).read(replies.collect()).ok();
        let setting = |name: &str| settings.as_ref()?.get(name).map(String::as_str);

        let (has_slot_stats, has_migrate_slots, has_migration) = match known[..] {
            [slot_stats, migrate_slots, migration] => (slot_stats, migrate_slots, migration),
            _ => (false, false, false),
        };
        let counts = setting(SETTINGS[0]);
        let slot_stats = match (has_slot_stats, counts) {
            (false, _) => SlotStatsState::Absent,
            (true, Some("no")) => SlotStatsState::Off,
            (true, _) => SlotStatsState::On,
        };
        let atomic = if has_migrate_slots {
            Some(AtomicProtocol::ValkeyMigrateSlots)
        } else if has_migration {
            Some(AtomicProtocol::RedisMigrationImport)
        } else {
            None
        };
        let io_threads = setting(SETTINGS[2]).and_then(|text| text.parse().ok()).unwrap_or(1);
        Ok(Capabilities {
            server,
            slot_stats,
            slot_memory: has_migration && counts.is_some_and(|counts| counts == "yes" || counts.contains("mem")),
            atomic,
            databases: match setting(SETTINGS[1]) {
                Some(text) => text.parse().ok(),
                None if server.kind == ServerKind::Valkey && server.version >= Version(9, 0, 0) => None,
                None => Some(1),
            },
            atomic_defect: atomic_defect(server, io_threads),
        })
    }
}

/// Builds whose atomic migration is known to be broken.
fn atomic_defect(server: Server, io_threads: u32) -> Option<&'static str> {
    let invalid_crlf = matches!(server.version, Version(9, 0, 5) | Version(9, 1, 0 | 1));
    // https://github.com/valkey-io/valkey/issues/4545: writes into the moving slots end the snapshot phase with
    // "invalid CRLF" whenever replies are written by more than one thread.
    (server.kind == ServerKind::Valkey && invalid_crlf && io_threads > 1)
        .then_some("this build's atomic migration fails under writes with io-threads above 1 (valkey#4545)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    fn read(info: &str, known: [bool; 3], settings: &[(&str, &str)]) -> Capabilities {
        let entry = |known: bool| if known { Reply::List(vec![bytes("name")]) } else { Reply::Nil };
        let mut replies = vec![bytes(info), Reply::List(known.map(entry).to_vec())];
        replies.extend(SETTINGS.map(|name| {
            let setting = settings.iter().find(|(known, _)| *known == name);
            Reply::List(setting.map_or(Vec::new(), |(name, value)| vec![bytes(name), bytes(value)]))
        }));
        Abilities.read(replies).expect("readable")
    }

    #[test]
    fn an_old_server_can_only_do_the_classic_things() {
        let old = read("redis_version:6.2.6", [false; 3], &[("io-threads", "1")]);
        assert_eq!((old.slot_stats, old.atomic, old.databases), (SlotStatsState::Absent, None, Some(1)));
        assert!(old.slot_stats_advice().expect("advice").starts_with("redis 6.2.6 cannot"));
    }

    #[test]
    fn statistics_that_are_off_come_with_the_way_to_turn_them_on() {
        let dies = read("valkey_version:8.0.1", [true, false, false], &[("cluster-slot-stats-enabled", "no")]);
        assert!(dies.slot_stats_advice().is_some_and(|advice| advice.starts_with("upgrade first")), "{dies:?}");
        let valkey = read("valkey_version:8.0.3", [true, false, false], &[("cluster-slot-stats-enabled", "no")]);
        assert_eq!(valkey.slot_stats, SlotStatsState::Off);
        assert!(valkey.slot_stats_advice().expect("advice").contains("cluster-slot-stats-enabled yes"));
        let redis = read("redis_version:8.6.0", [true, false, true], &[("cluster-slot-stats-enabled", "no")]);
        assert!(redis.slot_stats_advice().expect("advice").contains("\"cpu net\""), "yes is refused at runtime");
    }

    #[test]
    fn a_server_that_refuses_config_is_believed_by_its_commands() {
        let mut replies = vec![bytes("redis_version:8.6.0"), Reply::List(vec![Reply::List(vec![bytes("x")]); 3])];
        let refusal = super::super::ServerError { code: "NOPERM".into(), message: "no".into() };
        replies.extend(SETTINGS.map(|_| Reply::Error(refusal.clone())));
        let managed = Abilities.read(replies).expect("readable");
        assert_eq!(managed.slot_stats, SlotStatsState::On);
    }

    #[test]
    fn known_broken_builds_are_not_used_for_atomic_moves() {
        let nine = |version: &str, threads: &str| {
            read(
                &format!("valkey_version:{version}"),
                [true, true, false],
                &[("io-threads", threads), ("cluster-databases", "4")],
            )
        };
        let (broken, single, later) = (nine("9.1.1", "4"), nine("9.1.1", "1"), nine("9.1.2", "4"));
        assert!(broken.atomic_defect.is_some() && single.atomic_defect.is_none() && later.atomic_defect.is_none());
        assert_eq!(single.databases, Some(4));
        assert_eq!(single.atomic_with(&later), Some(AtomicProtocol::ValkeyMigrateSlots));
        assert_eq!(single.atomic_with(&broken), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<Version>().expect("a version");
        assert!(version("8.10.0") > version("8.4.0"));
        assert_eq!(version("9.1.0-rc1"), Version(9, 1, 0));
        assert_eq!(version("8.6"), Version(8, 6, 0));
    }
}
