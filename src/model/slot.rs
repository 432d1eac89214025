//! Hash slots: the unit of placement in a Redis or Valkey Cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many hash slots a cluster has, fixed by the protocol
/// (Redis Cluster specification, "Key distribution model").
pub const SLOT_COUNT: usize = 16384;

/// A hash slot, 0 to 16383. It cannot hold anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct SlotId(u16);

/// A number that is no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a slot: slots are 0 to 16383")]
pub struct InvalidSlot(pub String);

impl SlotId {
    /// The slot with this number, or `None` from 16384 up.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The slot's number, 0 to 16383.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The slot's place in a column of [`SLOT_COUNT`] values.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every slot, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..16384).map(Self)
    }

    /// The slot that serves `key`: CRC16 (XMODEM) of the hash tag, or of the whole key, modulo 16384
    /// (Redis Cluster specification, "Hash tags").
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key).unwrap_or(key)) % 16384)
    }
}

/// What stands between the first `{` and the next `}`, unless that is nothing.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let start = key.iter().position(|byte| *byte == b'{')? + 1;
    let length = key[start..].iter().position(|byte| *byte == b'}')?;
    (length > 0).then(|| &key[start..start + length])
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u16> for SlotId {
    type Error = InvalidSlot;

    fn try_from(number: u16) -> Result<Self, InvalidSlot> {
        Self::new(number).ok_or_else(|| InvalidSlot(number.to_string()))
    }
}

impl From<SlotId> for u16 {
    fn from(slot: SlotId) -> Self {
        slot.0
    }
}

impl FromStr for SlotId {
    type Err = InvalidSlot;

    fn from_str(text: &str) -> Result<Self, InvalidSlot> {
        text.parse::<u16>().ok().and_then(Self::new).ok_or_else(|| InvalidSlot(text.to_owned()))
    }
}

/// A set of slots, written and parsed as people and servers write it: `0-5460 5462`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotSet {
    /// Sorted, without duplicates.
    slots: Vec<SlotId>,
}

impl SlotSet {
    /// How many slots the set holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the set holds no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether `slot` is in the set.
    #[must_use]
    pub fn contains(&self, slot: SlotId) -> bool {
        self.slots.binary_search(&slot).is_ok()
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = SlotId> + ExactSizeIterator + '_ {
        self.slots.iter().copied()
    }

    /// The slots as inclusive ranges, ascending, adjacent ones merged (Redis 8.4.0 mishandles
    /// adjacent ranges, redis#14637).
    #[must_use]
    pub fn ranges(&self) -> Vec<(SlotId, SlotId)> {
        let mut ranges: Vec<(SlotId, SlotId)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, end)) if end.0 + 1 == slot.0 => *end = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }
}

impl FromIterator<SlotId> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotId>>(slots: I) -> Self {
        let mut slots: Vec<SlotId> = slots.into_iter().collect();
        slots.sort_unstable();
        slots.dedup();
        Self { slots }
    }
}

impl<'a> IntoIterator for &'a SlotSet {
    type Item = SlotId;
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, SlotId>>;

    fn into_iter(self) -> Self::IntoIter {
        self.slots.iter().copied()
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (start, end)) in self.ranges().into_iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            if start == end { write!(f, "{gap}{start}")? } else { write!(f, "{gap}{start}-{end}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

impl FromStr for SlotSet {
    type Err = InvalidSlot;

    /// Reads numbers and `start-end` ranges, parted by spaces or commas.
    fn from_str(text: &str) -> Result<Self, InvalidSlot> {
        let mut slots = Vec::new();
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let (start, end) = word.split_once('-').unwrap_or((word, word));
            let (start, end): (SlotId, SlotId) = (start.parse()?, end.parse()?);
            if start > end {
                return Err(InvalidSlot(word.to_owned()));
            }
            slots.extend((start.0..=end.0).map(SlotId));
        }
        Ok(slots.into_iter().collect())
    }
}

impl TryFrom<String> for SlotSet {
    type Error = InvalidSlot;

    fn try_from(text: String) -> Result<Self, InvalidSlot> {
        text.parse()
    }
}

impl From<SlotSet> for String {
    fn from(set: SlotSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_the_servers_hash_them() {
        // `CLUSTER KEYSLOT` of a real server said these.
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("{user1000}.following", 3443), ("foo{}{bar}", 8363)] {
            assert_eq!(SlotId::of_key(key.as_bytes()).number(), slot, "{key}");
        }
        assert_eq!(SlotId::of_key(b"foo{{bar}}zap"), SlotId::of_key(b"{bar"), "the tag is what the first braces hold");
        assert_eq!(SlotId::of_key(b"{user1000}.followers"), SlotId::of_key(b"user1000"));
    }

    #[test]
    fn sets_read_what_they_write() {
        let set: SlotSet = "10 0-3,5 4 16383".parse().expect("valid");
        assert_eq!(set.to_string(), "0-5 10 16383");
        assert_eq!(set.to_string().parse::<SlotSet>().as_ref(), Ok(&set));
        assert_eq!(set.len(), 8);
    }

    #[test]
    fn numbers_past_the_last_slot_are_refused_by_name() {
        for text in ["16384", "3-1", "-1", "x", "0-16384"] {
            assert!(text.parse::<SlotSet>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<SlotId>("16384").is_err());
    }
}
