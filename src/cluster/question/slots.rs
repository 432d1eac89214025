//! Questions about slots and the keys in them.
//!
//! Connections are shared: a question that selects another database selects database 0 again at the end of the same
//! pipeline, which nobody else's commands can interrupt.

use super::{fields, single};
use crate::cluster::{Command, Question, Reply, ReplyError};
use crate::model::{SlotId, SlotSet};

/// `CLUSTER SLOT-STATS` (Valkey 8.0, Redis 8.2): counters of the owned slots between `start` and `end`.
#[derive(Debug, Clone, Copy)]
pub struct SlotStats {
    /// First slot.
    pub start: SlotId,
    /// Last slot, inclusive.
    pub end: SlotId,
}

impl SlotStats {
    /// Asks for every slot that the node owns.
    #[must_use]
    pub fn all() -> Self {
        let mut slots = SlotId::all();
        let start = slots.next().expect("there are slots");
        Self { start, end: slots.next_back().expect("there are slots") }
    }
}

/// What a server counts per slot; only the number of keys unless `cluster-slot-stats-enabled` is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotStat {
    /// Which slot.
    pub slot: SlotId,
    /// Keys in it now, in all databases.
    pub keys: u64,
    /// Microseconds of cpu since the start of the server.
    pub cpu_usec: Option<u64>,
    /// Bytes received since the start of the server.
    pub net_in: Option<u64>,
    /// Bytes sent since the start of the server.
    pub net_out: Option<u64>,
    /// Bytes of memory now (Redis 8.4).
    pub memory: Option<u64>,
}

impl Question for SlotStats {
    type Answer = Vec<SlotStat>;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("CLUSTER SLOT-STATS SLOTSRANGE").arg(self.start).arg(self.end)]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Vec<SlotStat>, ReplyError> {
        single(replies)?.list()?.into_iter().map(stat).collect()
    }
}

fn stat(entry: Reply) -> Result<SlotStat, ReplyError> {
    let mut parts = entry.list()?.into_iter();
    let slot = slot_of(parts.next().unwrap_or(Reply::Nil))?;
    let mut stat = SlotStat { slot, keys: 0, cpu_usec: None, net_in: None, net_out: None, memory: None };
    for (name, value) in fields(parts.next().unwrap_or(Reply::Nil))? {
        let value = count(value)?;
        match name.as_str() {
            "key-count" => stat.keys = value,
            "cpu-usec" => stat.cpu_usec = Some(value),
            "network-bytes-in" => stat.net_in = Some(value),
            "network-bytes-out" => stat.net_out = Some(value),
            "memory-bytes" => stat.memory = Some(value),
            // A newer server may count more.
            _ => {}
        }
    }
    Ok(stat)
}

fn slot_of(reply: Reply) -> Result<SlotId, ReplyError> {
    let number = reply.int()?;
    u16::try_from(number).ok().and_then(SlotId::new).ok_or_else(|| Reply::Int(number).unexpected("a slot"))
}

/// A number that cannot be below zero; servers have been seen to report small negative memory of a slot.
fn count(reply: Reply) -> Result<u64, ReplyError> {
    Ok(u64::try_from(reply.int()?).unwrap_or(0))
}

/// `CLUSTER COUNTKEYSINSLOT` for each of `slots`, owned or not, in one database.
#[derive(Debug, Clone)]
pub struct CountKeysInSlots {
    /// Which slots.
    pub slots: SlotSet,
    /// In which database: 0 but on Valkey 9 with `cluster-databases` above 1.
    pub db: u32,
}

impl Question for CountKeysInSlots {
    type Answer = Vec<(SlotId, u64)>;

    fn commands(&self) -> Vec<Command> {
        in_database(self.db, self.slots.iter().map(|slot| Command::new("CLUSTER COUNTKEYSINSLOT").arg(slot)))
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError> {
        let counts = from_database(self.db, replies)?;
        if counts.len() != self.slots.len() {
            return Err(Reply::List(counts).unexpected("one count per slot"));
        }
        self.slots.iter().zip(counts).map(|(slot, reply)| Ok((slot, count(reply)?))).collect()
    }
}

/// `CLUSTER GETKEYSINSLOT`: some keys of a slot, in no order.
#[derive(Debug, Clone, Copy)]
pub struct KeysInSlot {
    /// Which slot.
    pub slot: SlotId,
    /// At most how many keys.
    pub count: u32,
    /// In which database.
    pub db: u32,
}

impl Question for KeysInSlot {
    type Answer = Vec<Vec<u8>>;

    fn commands(&self) -> Vec<Command> {
        let command = Command::new("CLUSTER GETKEYSINSLOT").arg(self.slot).arg(self.count);
        in_database(self.db, std::iter::once(command))
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError> {
        single(from_database(self.db, replies)?)?.list()?.into_iter().map(Reply::bytes).collect()
    }
}

/// `EXISTS`: whether the node serves each of these keys of one slot; one that it sends us elsewhere for it does not have.
#[derive(Debug, Clone)]
pub struct KeysExist {
    /// Which keys.
    pub keys: Vec<Vec<u8>>,
    /// In which database.
    pub db: u32,
}

impl Question for KeysExist {
    type Answer = Vec<bool>;

    fn commands(&self) -> Vec<Command> {
        in_database(self.db, self.keys.iter().map(|key| Command::new("EXISTS").bytes(key.clone())))
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Vec<bool>, ReplyError> {
        let replies = from_database(self.db, replies)?;
        if replies.len() != self.keys.len() {
            return Err(Reply::List(replies).unexpected("one word per key"));
        }
        replies.into_iter().map(|reply| Ok(unless_gone(reply)?.is_some_and(|count| count > 0))).collect()
    }
}

/// `MEMORY USAGE` of keys in database 0: bytes with overhead, `None` for a key that is gone or served elsewhere.
#[derive(Debug, Clone)]
pub struct MemoryUsage {
    /// Which keys.
    pub keys: Vec<Vec<u8>>,
    /// How many elements of a collection the server measures; 0 means all of them, which may take long.
    pub samples: u32,
}

impl Question for MemoryUsage {
    type Answer = Vec<Option<u64>>;

    fn commands(&self) -> Vec<Command> {
        let command = |key: &Vec<u8>| Command::new("MEMORY USAGE").bytes(key.clone()).arg("SAMPLES").arg(self.samples);
        self.keys.iter().map(command).collect()
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError> {
        replies.into_iter().map(unless_gone).collect()
    }
}

/// What `OBJECT` tells about the use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// `OBJECT FREQ`: a logarithmic counter of accesses, 0 to 255. Known only under an LFU `maxmemory-policy`.
    Frequency,
    /// `OBJECT IDLETIME`: seconds since the last access. Known only under any other policy.
    IdleTime,
}

/// How keys in database 0 are used; `None` for a key that is gone or served elsewhere. Asking is not using.
#[derive(Debug, Clone)]
pub struct KeyUses {
    /// Which keys.
    pub keys: Vec<Vec<u8>>,
    /// What about them.
    pub what: KeyUse,
}

impl Question for KeyUses {
    type Answer = Vec<Option<u64>>;

    fn commands(&self) -> Vec<Command> {
        let words = match self.what {
            KeyUse::Frequency => "OBJECT FREQ",
            KeyUse::IdleTime => "OBJECT IDLETIME",
        };
        self.keys.iter().map(|key| Command::new(words).bytes(key.clone())).collect()
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError> {
        replies.into_iter().map(unless_gone).collect()
    }
}

/// A number about a key, `None` when the key went away, or moved, between being listed and being asked about.
fn unless_gone(reply: Reply) -> Result<Option<u64>, ReplyError> {
    match reply {
        Reply::Nil => Ok(None),
        Reply::Error(error) if matches!(error.code.as_str(), "MOVED" | "ASK" | "TRYAGAIN") => Ok(None),
        reply => count(reply).map(Some),
    }
}

/// `commands` between the selection of `db` and that of database 0, which connections stand at.
fn in_database(db: u32, commands: impl Iterator<Item = Command>) -> Vec<Command> {
    let select = |db: u32| Command::new("SELECT").arg(db);
    let (before, after) = if db == 0 { (None, None) } else { (Some(select(db)), Some(select(0))) };
    before.into_iter().chain(commands).chain(after).collect()
}

/// The replies without those of the selections; a refused selection refuses all, for they spoke of another database.
fn from_database(db: u32, mut replies: Vec<Reply>) -> Result<Vec<Reply>, ReplyError> {
    if db != 0 {
        replies.pop().unwrap_or(Reply::Nil).text()?;
        if replies.is_empty() {
            return Err(Reply::Nil.unexpected("a reply to SELECT"));
        }
        replies.remove(0).text()?;
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServerError;

    fn ok() -> Reply {
        Reply::Bytes(b"OK".to_vec())
    }

    fn slot(number: u16) -> SlotId {
        SlotId::new(number).expect("a slot")
    }

    fn error(code: &str) -> Reply {
        Reply::Error(ServerError { code: code.into(), message: "x".into() })
    }

    #[test]
    fn slot_stats_are_read_as_far_as_the_server_counts() {
        let entry = |number, fields: &[(&str, i64)]| {
            let fields = fields.iter().flat_map(|(name, value)| [Reply::Bytes((*name).into()), Reply::Int(*value)]);
            Reply::List(vec![Reply::Int(number), Reply::List(fields.collect())])
        };
        let full = entry(
            7,
            &[
                ("key-count", 3),
                ("cpu-usec", 40),
                ("network-bytes-in", 5),
                ("network-bytes-out", 6),
                ("memory-bytes", 900),
                ("new-one", 1),
            ],
        );
        let stats = SlotStats::all().read(vec![Reply::List(vec![full, entry(8, &[("key-count", 1)])])]).expect("read");
        let whole = SlotStat {
            slot: slot(7),
            keys: 3,
            cpu_usec: Some(40),
            net_in: Some(5),
            net_out: Some(6),
            memory: Some(900),
        };
        assert_eq!(stats[0], whole);
        assert_eq!((stats[1].keys, stats[1].cpu_usec, stats[1].memory), (1, None, None));
    }

    #[test]
    fn counting_in_another_database_leaves_the_connection_at_zero() {
        let question = CountKeysInSlots { slots: "3 9".parse().expect("slots"), db: 2 };
        let said: Vec<String> = question.commands().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["SELECT 2", "CLUSTER COUNTKEYSINSLOT 3", "CLUSTER COUNTKEYSINSLOT 9", "SELECT 0"]);
        let counts = question.read(vec![ok(), Reply::Int(4), Reply::Int(0), ok()]).expect("read");
        assert_eq!(counts, [(slot(3), 4), (slot(9), 0)]);
        let refused = question.read(vec![error("ERR"), Reply::Int(4), Reply::Int(0), ok()]);
        assert!(refused.is_err(), "counts of database 0 must not pass for those of database 2");
    }

    #[test]
    fn a_missing_count_is_an_error() {
        let question = CountKeysInSlots { slots: "3 9".parse().expect("slots"), db: 0 };
        assert!(question.read(vec![Reply::Int(4)]).is_err());
        assert!(question.read(vec![Reply::Int(4), error("CLUSTERDOWN")]).is_err());
    }

    #[test]
    fn keys_that_went_away_are_no_errors() {
        let question = MemoryUsage { keys: vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], samples: 5 };
        let usages = question.read(vec![Reply::Int(72), Reply::Nil, error("MOVED")]).expect("read");
        assert_eq!(usages, [Some(72), None, None]);
        assert!(question.read(vec![error("NOPERM")]).is_err(), "a refusal is told, not hidden");
    }

    #[test]
    fn a_key_that_the_node_sends_us_elsewhere_for_is_not_there() {
        let question = KeysExist { keys: vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], db: 0 };
        let replies = vec![Reply::Int(1), Reply::Int(0), error("ASK")];
        assert_eq!(question.read(replies), Ok(vec![true, false, false]));
        assert!(question.read(vec![Reply::Int(1)]).is_err(), "a missing word is no word");
    }
}
