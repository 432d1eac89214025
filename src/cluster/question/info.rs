//! `INFO`: what a node tells about itself, as text lines `name:value`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::single;
use crate::cluster::capability::{Server, ServerKind, Version};
use crate::cluster::{Command, Question, Reply, ReplyError};

/// Asks for the sections that a server shows by default: all that we read, and the same on every version.
#[derive(Debug, Clone, Copy)]
pub struct Info;

impl Question for Info {
    type Answer = ServerInfo;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("INFO")]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<ServerInfo, ReplyError> {
        Ok(ServerInfo::parse(&single(replies)?.text()?))
    }
}

/// All fields of `INFO` by name; what we understand has a method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo(BTreeMap<String, String>);

/// A replica as its primary sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaLink {
    /// Connected and in sync.
    pub online: bool,
    /// Bytes of replication stream that it has not acknowledged.
    pub lag_bytes: u64,
}

impl ServerInfo {
    /// Reads the text of `INFO`; lines that are no `name:value` are headings.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.trim_end().to_owned()))
                .collect(),
        )
    }

    /// A field as text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field as a number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// A database that holds keys, if any does. Servers list no others (`db0:keys=…`).
    #[must_use]
    pub fn database_with_keys(&self) -> Option<u32> {
        self.0.keys().find_map(|name| name.strip_prefix("db")?.parse().ok())
    }

    /// Which server it is, and its version. Valkey calls itself Redis 7.2.4 in `redis_version`, for old clients.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        let (kind, version) = match (self.get("valkey_version"), self.get("redis_version")) {
            (Some(version), _) => (ServerKind::Valkey, version),
            (None, Some(version)) => (ServerKind::Redis, version),
            (None, None) => return None,
        };
        Some(Server { kind, version: version.parse::<Version>().ok()? })
    }

    /// Changes with each start of the server: counters begin anew.
    #[must_use]
    pub fn run_id(&self) -> Option<&str> {
        self.get("run_id")
    }

    /// Whether the server counts itself a primary.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.get("role") == Some("master")
    }

    /// Whether the server is still reading its data set.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.get("loading") == Some("1") || self.get("async_loading") == Some("1")
    }

    /// Of a replica: whether its link to the primary is up.
    #[must_use]
    pub fn primary_link_up(&self) -> bool {
        self.get("master_link_status") == Some("up")
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn used_memory(&self) -> Option<u64> {
        self.number("used_memory")
    }

    /// Bytes of memory that keys and values use, without the server's own.
    #[must_use]
    pub fn used_memory_dataset(&self) -> Option<u64> {
        self.number("used_memory_dataset")
    }

    /// The limit on memory, in bytes; absent when there is none.
    #[must_use]
    pub fn maxmemory(&self) -> Option<u64> {
        self.number("maxmemory").filter(|bytes| *bytes > 0)
    }

    /// Seconds of cpu that the main thread used since the start; of the whole process on servers before Redis 6.2's
    /// builds with thread accounting, which show no other.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        let sum = |user: &str, system: &str| Some(self.number::<f64>(user)? + self.number::<f64>(system)?);
        sum("used_cpu_user_main_thread", "used_cpu_sys_main_thread").or_else(|| sum("used_cpu_user", "used_cpu_sys"))
    }

    /// Commands processed since the start.
    #[must_use]
    pub fn commands_processed(&self) -> Option<u64> {
        self.number("total_commands_processed")
    }

    /// Bytes received since the start.
    #[must_use]
    pub fn net_in(&self) -> Option<u64> {
        self.number("total_net_input_bytes")
    }

    /// Bytes sent since the start.
    #[must_use]
    pub fn net_out(&self) -> Option<u64> {
        self.number("total_net_output_bytes")
    }

    /// Keys evicted since the start.
    #[must_use]
    pub fn evicted_keys(&self) -> Option<u64> {
        self.number("evicted_keys")
    }

    /// How long its clients waited for its last fork; no time at all if there was none.
    #[must_use]
    pub fn last_fork(&self) -> Option<Duration> {
        self.number("latest_fork_usec").map(Duration::from_micros)
    }

    /// Whether the server counts how often keys are used: under an LFU `maxmemory_policy`, whatever `maxmemory` is.
    #[must_use]
    pub fn counts_uses(&self) -> bool {
        self.get("maxmemory_policy").is_some_and(|policy| policy.contains("lfu"))
    }

    /// Errors replied since the start, by code such as `MOVED` or `TRYAGAIN`.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix("errorstat_")?, value.strip_prefix("count=")?.parse().ok()?))
        })
    }

    /// Keys by database number.
    pub fn keyspace(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().filter_map(|(name, value)| {
            let db = name.strip_prefix("db")?.parse().ok()?;
            Some((db, part(value, "keys")?.parse().ok()?))
        })
    }

    /// Of a primary: its replicas.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaLink> {
        let offset: u64 = self.number("master_repl_offset").unwrap_or(0);
        self.0.iter().filter(|(name, _)| is_replica_line(name)).map(move |(_, value)| {
            let acknowledged: u64 = part(value, "offset").and_then(|text| text.parse().ok()).unwrap_or(0);
            ReplicaLink {
                online: part(value, "state") == Some("online"),
                lag_bytes: offset.saturating_sub(acknowledged),
            }
        })
    }
}

/// `slave0`, not `slave_priority`.
fn is_replica_line(name: &str) -> bool {
    let number = name.strip_prefix("slave").or_else(|| name.strip_prefix("replica"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The value of `name` in `name=value,name=value`.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.2\r\n\
        run_id:abc\r\n# Memory\r\nused_memory:1000\r\nmaxmemory:0\r\n# Replication\r\nrole:master\r\n\
        connected_slaves:2\r\nslave0:ip=127.0.0.1,port=7003,state=online,offset=900,lag=0\r\n\
        slave1:ip=127.0.0.1,port=7004,state=wait_bgsave,offset=0,lag=1\r\nmaster_repl_offset:1000\r\n\
        # CPU\r\nused_cpu_sys:9.0\r\nused_cpu_user:9.0\r\nused_cpu_sys_main_thread:1.5\r\n\
        used_cpu_user_main_thread:2.25\r\n# Errorstats\r\nerrorstat_MOVED:count=12\r\n\
        # Keyspace\r\ndb0:keys=10,expires=0,avg_ttl=0\r\ndb3:keys=2,expires=0,avg_ttl=0\r\n";

    #[test]
    fn valkey_is_known_behind_its_redis_version() {
        let server = ServerInfo::parse(PRIMARY).server().expect("known");
        assert_eq!(server.to_string(), "valkey 8.0.2");
        assert_eq!(ServerInfo::parse("redis_version:6.2.6\r\n").server().expect("known").to_string(), "redis 6.2.6");
        assert_eq!(ServerInfo::parse("").server(), None);
    }

    #[test]
    fn the_main_thread_counts_and_the_process_only_for_want_of_it() {
        assert_eq!(ServerInfo::parse(PRIMARY).cpu_seconds(), Some(3.75));
        assert_eq!(ServerInfo::parse("used_cpu_sys:1.0\r\nused_cpu_user:2.5").cpu_seconds(), Some(3.5));
        assert_eq!(ServerInfo::parse("used_cpu_sys:1.0").cpu_seconds(), None);
    }

    #[test]
    fn replicas_are_read_with_their_lag() {
        let replicas: Vec<_> = ServerInfo::parse(PRIMARY).replicas().collect();
        let expected = [ReplicaLink { online: true, lag_bytes: 100 }, ReplicaLink { online: false, lag_bytes: 1000 }];
        assert_eq!(replicas, expected);
    }

    #[test]
    fn the_rest_is_read_by_name() {
        let info = ServerInfo::parse(PRIMARY);
        assert_eq!(info.maxmemory(), None, "0 means no limit");
        assert_eq!(info.keyspace().collect::<Vec<_>>(), [(0, 10), (3, 2)]);
        assert_eq!(info.errors().collect::<Vec<_>>(), [("MOVED", 12)]);
        assert!(info.is_primary() && !info.is_loading());
    }
}
