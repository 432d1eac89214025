//! The keys of a load: their names, types, sizes and versions. Wording and reading of commands are pure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::{Command, Reply};
use crate::model::{SlotId, SlotSet};

/// A checksum of all that a key holds, reckoned by the server: much of its cpu for a small reply.
const DIGEST: &str = "\
local parts = redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
if type(parts) ~= 'table' then parts = {parts or ''} end
local sum = 0
for _, part in ipairs(parts) do
  for place = 1, #part do sum = (sum * 31 + part:byte(place)) % 65521 end
end
return sum";

/// Redis types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    /// The version, a colon, padding.
    String,
    /// The version in the field `version`, beside other fields.
    Hash,
    /// The version first, then other elements.
    List,
    /// The version as a member `v…`, beside other members.
    Set,
    /// The version as the score of the member `version`, beside others.
    SortedSet,
}

/// What filling wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Keys.
    pub keys: usize,
    /// Bytes said to the servers.
    pub bytes: u64,
}

/// A number of keys of mixed types and sizes, the same for the same seed, and what is known of their versions.
#[derive(Debug)]
pub struct KeySpace {
    naming: Naming,
    keys: Vec<Key>,
    hot: SlotSet,
}

/// How keys are called: by a seed, so that two key spaces do not meet, and perhaps by whom they belong to.
#[derive(Debug, Clone, Copy)]
struct Naming {
    seed: u64,
    /// Keys of one tenant carry the same hash tag, so that they share a slot. 0: there are none.
    tenants: usize,
}

#[derive(Debug)]
struct Key {
    kind: KeyType,
    slot: SlotId,
    /// Elements beside the version; of a string, one.
    elements: usize,
    /// Bytes of each.
    bytes: usize,
    /// The highest version that a server acknowledged.
    acknowledged: AtomicU64,
    /// The highest version that was sent, whether or not it arrived.
    sent: AtomicU64,
    writing: AtomicBool,
}

/// A write under way: the only one of its key until dropped.
#[derive(Debug)]
pub(super) struct Write<'a> {
    key: &'a Key,
    pub(super) version: u64,
}

impl Write<'_> {
    pub(super) fn acknowledge(self) {
        self.key.acknowledged.store(self.version, Ordering::Release);
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.key.writing.store(false, Ordering::Release);
    }
}

impl KeySpace {
    /// `count` keys. `hot` are slots whose keys a load may prefer.
    #[must_use]
    pub fn new(count: usize, seed: u64, hot: SlotSet) -> Self {
        Self::named(count, Naming { seed, tenants: 0 }, hot)
    }

    /// The same, each key belonging to one of `tenants`, whose keys share a slot.
    #[must_use]
    pub fn of_tenants(count: usize, tenants: usize, seed: u64, hot: SlotSet) -> Self {
        Self::named(count, Naming { seed, tenants }, hot)
    }

    fn named(count: usize, naming: Naming, hot: SlotSet) -> Self {
        let seed = naming.seed;
        let mut random = StdRng::seed_from_u64(seed);
        let mut keys = Vec::with_capacity(count);
        for number in 0..count {
            let kind = match random.random_range(0..10) {
                0..5 => KeyType::String,
                5..7 => KeyType::Hash,
                7 => KeyType::List,
                8 => KeyType::Set,
                _ => KeyType::SortedSet,
            };
            // As many keys between 16 and 64 bytes as between 1 and 4 KiB: most values are small, most bytes are not.
            let bytes = 2_f64.powf(random.random_range(4.0..12.0)) as usize;
            let elements = if kind == KeyType::String { 1 } else { random.random_range(4..=32) };
            keys.push(Key {
                kind,
                slot: SlotId::of_key(naming.name(kind, number).as_bytes()),
                elements,
                bytes: (bytes / elements).max(8),
                acknowledged: AtomicU64::new(0),
                sent: AtomicU64::new(0),
                writing: AtomicBool::new(false),
            });
        }
        Self { naming, keys, hot }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The slots whose keys a load may prefer.
    #[must_use]
    pub fn hot(&self) -> &SlotSet {
        &self.hot
    }

    /// The name of the `number`-th key.
    #[must_use]
    pub fn name(&self, number: usize) -> String {
        self.naming.name(self.keys[number].kind, number)
    }

    /// The slot of the `number`-th key.
    #[must_use]
    pub fn slot(&self, number: usize) -> SlotId {
        self.keys[number].slot
    }

    pub(super) fn is_hot(&self, number: usize) -> bool {
        self.hot.contains(self.keys[number].slot)
    }

    /// The numbers of all keys, in an order that the seed decides.
    pub(super) fn shuffled(&self, seed: u64) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.keys.len()).map(|number| number as u32).collect();
        numbers.shuffle(&mut StdRng::seed_from_u64(seed));
        numbers
    }

    /// The highest version that a server acknowledged.
    pub(super) fn acknowledged(&self, number: usize) -> u64 {
        self.keys[number].acknowledged.load(Ordering::Acquire)
    }

    /// The highest version that was sent.
    pub(super) fn sent(&self, number: usize) -> u64 {
        self.keys[number].sent.load(Ordering::Acquire)
    }

    /// Begins the next write of a key, unless one is under way.
    pub(super) fn begin_write(&self, number: usize) -> Option<Write<'_>> {
        let key = &self.keys[number];
        key.writing.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        let version = key.sent.fetch_add(1, Ordering::AcqRel) + 1;
        Some(Write { key, version })
    }

    /// The commands, to be said one after the other, that bring a key to `version`; the first one makes the key.
    pub(super) fn write(&self, number: usize, version: u64) -> Vec<Command> {
        let key = &self.keys[number];
        let name = self.name(number);
        let elements = if version == 1 { key.elements } else { 0 };
        let padding = "x".repeat(key.bytes);
        match key.kind {
            KeyType::String => vec![Command::new("SET").arg(name).arg(format_args!("{version}:{padding}"))],
            KeyType::Hash => {
                let write = Command::new("HSET").arg(name).arg("version").arg(version);
                vec![(0..elements).fold(write, |write, field| write.arg(format_args!("f{field}")).arg(&padding))]
            }
            KeyType::List if version == 1 => {
                let write = Command::new("RPUSH").arg(name).arg(version);
                vec![(0..elements).fold(write, |write, _| write.arg(&padding))]
            }
            KeyType::List => vec![Command::new("LSET").arg(name).arg(0).arg(version)],
            KeyType::Set if version == 1 => {
                let write = Command::new("SADD").arg(name).arg("v1");
                vec![(0..elements).fold(write, |write, member| write.arg(format_args!("m{member}{padding}")))]
            }
            // The old version goes only when the new one is acknowledged, so that one of them is always there.
            KeyType::Set => vec![
                Command::new("SADD").arg(&name).arg(format_args!("v{version}")),
                Command::new("SREM").arg(&name).arg(format_args!("v{}", version - 1)),
            ],
            KeyType::SortedSet => {
                let write = Command::new("ZADD").arg(name).arg(version).arg("version");
                vec![(0..elements).fold(write, |write, member| write.arg(0).arg(format_args!("m{member}{padding}")))]
            }
        }
    }

    /// The command that reads a whole key.
    #[must_use]
    pub fn read(&self, number: usize) -> Command {
        let name = self.name(number);
        match self.keys[number].kind {
            KeyType::String => Command::new("GET").arg(name),
            KeyType::Hash => Command::new("HGETALL").arg(name),
            KeyType::List => Command::new("LRANGE").arg(name).arg(0).arg(-1),
            KeyType::Set => Command::new("SMEMBERS").arg(name),
            KeyType::SortedSet => Command::new("ZRANGE").arg(name).arg(0).arg(-1).arg("WITHSCORES"),
        }
    }

    /// The command that makes the server reckon a checksum of a whole key. A `declared` script says that it is one.
    pub(super) fn digest(&self, number: usize, declared: bool) -> Command {
        let read = self.read(number);
        let (name, words) = read.words().split_first().expect("a command has a name");
        let (key, more) = words.split_first().expect("it reads a key");
        let script = if declared { format!("#!lua\n{DIGEST}") } else { DIGEST.to_owned() };
        let digest = Command::new("EVAL").arg(script).arg(1).bytes(key.clone()).bytes(name.clone());
        more.iter().fold(digest, |digest, word| digest.bytes(word.clone()))
    }

    /// The version in a reply to [`KeySpace::read`]; `None` when the key or its version is not there.
    #[must_use]
    pub fn seen(&self, number: usize, reply: Reply) -> Option<u64> {
        let texts =
            || -> Option<Vec<String>> { reply.clone().list().ok()?.into_iter().map(|item| item.text().ok()).collect() };
        match self.keys[number].kind {
            KeyType::String => reply.text().ok()?.split(':').next()?.parse().ok(),
            KeyType::List => texts()?.first()?.parse().ok(),
            KeyType::Set => texts()?.iter().filter_map(|member| member.strip_prefix('v')?.parse().ok()).max(),
            KeyType::Hash | KeyType::SortedSet => {
                let texts = texts()?;
                texts.iter().zip(texts.iter().skip(1)).find(|(name, _)| *name == "version")?.1.parse().ok()
            }
        }
    }
}

impl Naming {
    fn name(self, kind: KeyType, number: usize) -> String {
        let kind = match kind {
            KeyType::String => "string",
            KeyType::Hash => "hash",
            KeyType::List => "list",
            KeyType::Set => "set",
            KeyType::SortedSet => "zset",
        };
        match number.checked_rem(self.tenants) {
            None => format!("lab:{}:{kind}:{number}", self.seed),
            Some(tenant) => format!("lab:{}:{{tenant-{tenant}}}:{kind}:{number}", self.seed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_keys() {
        let names = |seed| {
            let keys = KeySpace::new(50, seed, SlotSet::default());
            (0..50).map(|number| (keys.name(number), keys.write(number, 1))).collect::<Vec<_>>()
        };
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
    }

    #[test]
    fn a_key_has_one_write_at_a_time_and_versions_that_rise() {
        let keys = KeySpace::new(1, 1, SlotSet::default());
        let first = keys.begin_write(0).expect("none is under way");
        assert!(keys.begin_write(0).is_none());
        first.acknowledge();
        assert_eq!((keys.acknowledged(0), keys.sent(0)), (1, 1));
        // The second is never acknowledged: it may have arrived, and the third is still another version.
        drop(keys.begin_write(0));
        assert_eq!(keys.begin_write(0).map(|write| write.version), Some(3));
        assert_eq!((keys.acknowledged(0), keys.sent(0)), (1, 3));
    }

    #[test]
    fn keys_of_one_tenant_share_a_slot() {
        let keys = KeySpace::of_tenants(100, 10, 1, SlotSet::default());
        assert_eq!(keys.slot(3), keys.slot(93));
        assert_ne!(keys.name(3), keys.name(93));
        let slots: SlotSet = (0..100).map(|number| keys.slot(number)).collect();
        assert!((2..=10).contains(&slots.len()), "{slots}");
    }
}
