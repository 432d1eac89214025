//! Finds out, before slots are opened, how large their keys are: a MIGRATE keeps its source from all clients for as long as
//! its keys are large, and a slot that is open can only go forward.
//!
//! ```text
//! List     GETKEYSINSLOT, at most so many keys of a slot
//! Measure  MEMORY USAGE of each
//! Type     TYPE of those that are too large,
//! Count    and how many members they have: what a person needs to find them
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::pace::guess;
use super::super::wording;
use super::window::Key;
use crate::cluster::{Command, Reply};
use crate::model::{SlotId, SlotSet, units};

/// Keys of one slot and database that are listed beforehand: a list of ten thousand was measured to keep a server for half a
/// millisecond to one. Those beyond are taken for as large as the mean.
pub(super) const MOST_LISTED: u64 = 10_000;
/// What it takes a server that is busy with clients, too, to list a key and to measure a small one: less than half of that
/// was measured where it was alone.
const LISTING_TIME: Duration = Duration::from_nanos(300);
const MEASURING_TIME: Duration = Duration::from_micros(2);
/// Keys listed, and keys measured, by one call at least and at most, whatever time there is.
const LISTED_PER_CALL: (u64, u64) = (1000, 20_000);
const MEASURED_PER_CALL: (usize, usize) = (100, 5000);
/// Elements of a collection that MEMORY USAGE samples: its default.
const SAMPLES: u32 = 5;
/// The beginning of a key's name that people are shown.
const SHOWN_BYTES: usize = 64;

/// The weighing of a window's slots. Says commands for the source, hears replies.
#[derive(Debug)]
pub(super) struct Weighing {
    databases: u32,
    /// The slots whose keys are measured; those of others are taken for as large as the mean.
    weigh: SlotSet,
    mean_bytes: u64,
    /// What is yet to be listed: slot, database, keys to expect.
    to_list: VecDeque<(SlotId, u32, u64)>,
    to_measure: VecDeque<Place>,
    measured: BTreeMap<(SlotId, u32), Vec<Key>>,
    /// Slots of which not everything was listed.
    partly: BTreeSet<SlotId>,
    /// Too large.
    heavy: Vec<Heavy>,
    step: Step,
    /// Commands under way were about these.
    sent: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    slot: SlotId,
    database: u32,
    name: Vec<u8>,
}

#[derive(Debug)]
struct Heavy {
    place: Place,
    bytes: u64,
    kind: String,
    members: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    List,
    Measure,
    Type,
    Count,
    Done,
}

/// What the weighing found.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// The keys of each slot and database, as far as they were listed.
    pub(super) keys: BTreeMap<(SlotId, u32), Vec<Key>>,
    /// Slots of which not everything was listed.
    pub(super) partly: BTreeSet<SlotId>,
    /// Slots that hold a key too large to be moved, and the reason in words.
    pub(super) pinned: BTreeMap<SlotId, String>,
}

impl Weighing {
    /// Of slots with so many keys by database.
    pub(super) fn new(counts: &[(SlotId, Vec<u64>)], databases: u32, weigh: SlotSet, mean_bytes: u64) -> Self {
        let to_list: VecDeque<_> = counts
            .iter()
            .flat_map(|(slot, counts)| (0..).zip(counts).map(|(database, count)| (*slot, database, *count)))
            .filter(|(.., count)| *count > 0)
            .collect();
        Self {
            databases,
            weigh,
            mean_bytes,
            step: if to_list.is_empty() { Step::Done } else { Step::List },
            to_list,
            to_measure: VecDeque::new(),
            measured: BTreeMap::new(),
            partly: BTreeSet::new(),
            heavy: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// What to say to the source next, so that it is busy for about `time`; nothing when it is done.
    pub(super) fn commands(&mut self, time: Duration) -> Option<Vec<Command>> {
        self.sent.clear();
        let mut commands = Vec::new();
        match self.step {
            Step::List => {
                let mut room = (time.as_nanos() / LISTING_TIME.as_nanos()) as u64;
                room = room.clamp(LISTED_PER_CALL.0, LISTED_PER_CALL.1);
                while let Some((slot, database, count)) = self.to_list.front().copied() {
                    let count = count.min(MOST_LISTED);
                    if count > room && !self.sent.is_empty() {
                        break;
                    }
                    room = room.saturating_sub(count);
                    self.to_list.pop_front();
                    self.say(&mut commands, Place { slot, database, name: Vec::new() }, |_| {
                        // One more than were counted tells whether it grew meanwhile.
                        wording::keys_in_slot(slot, count as usize + 1)
                    });
                }
            }
            Step::Measure => {
                let many = (time.as_nanos() / MEASURING_TIME.as_nanos()) as usize;
                for _ in 0..many.clamp(MEASURED_PER_CALL.0, MEASURED_PER_CALL.1) {
                    let Some(place) = self.to_measure.pop_front() else { break };
                    self.say(&mut commands, place, |name| wording::memory_usage(name, SAMPLES));
                }
            }
            Step::Type => {
                for place in self.heavy.iter().map(|heavy| heavy.place.clone()).collect::<Vec<_>>() {
                    self.say(&mut commands, place, |name| Command::new("TYPE").bytes(name));
                }
            }
            Step::Count => {
                let heavy: Vec<_> =
                    self.heavy.iter().map(|heavy| (heavy.place.clone(), wording::length_of(&heavy.kind))).collect();
                for (place, word) in heavy {
                    self.say(&mut commands, place, |name| Command::new(word).bytes(name));
                }
            }
            Step::Done => return None,
        }
        if self.databases > 1 {
            commands.push(wording::select(0));
        }
        Some(commands)
    }

    fn say(&mut self, commands: &mut Vec<Command>, place: Place, word: impl Fn(Vec<u8>) -> Command) {
        if self.databases > 1 {
            commands.push(wording::select(place.database));
        }
        commands.push(word(place.name.clone()));
        self.sent.push(place);
    }

    /// Hears the replies to [`commands`](Self::commands). A key that would take longer than `most` is too large: by the guess,
    /// not by how long rounds took lately, for a slot must not be pinned because a machine was busy.
    pub(super) fn hear(&mut self, replies: Vec<Reply>, most: Duration) {
        let stride = if self.databases > 1 { 2 } else { 1 };
        let replies: Vec<Reply> = replies.into_iter().skip(stride - 1).step_by(stride).collect();
        let sent = std::mem::take(&mut self.sent);
        match self.step {
            Step::List => {
                for (place, reply) in sent.into_iter().zip(replies) {
                    self.hear_list(&place, reply);
                }
                if self.to_list.is_empty() {
                    self.step = if self.to_measure.is_empty() { Step::Done } else { Step::Measure };
                }
            }
            Step::Measure => {
                for (place, reply) in sent.into_iter().zip(replies) {
                    // A key that is gone has no size; one that we may not ask about is taken for a small one.
                    let bytes = reply.int().ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
                    if guess(bytes) > most {
                        let place = place.clone();
                        self.heavy.push(Heavy { place, bytes, kind: String::new(), members: 0 });
                    }
                    let of = self.measured.entry((place.slot, place.database)).or_default();
                    of.push(Key { name: place.name, bytes });
                }
                if self.to_measure.is_empty() {
                    self.step = if self.heavy.is_empty() { Step::Done } else { Step::Type };
                }
            }
            Step::Type => {
                for (heavy, reply) in self.heavy.iter_mut().zip(replies) {
                    heavy.kind = reply.text().unwrap_or_default();
                }
                self.step = Step::Count;
            }
            Step::Count => {
                for (heavy, reply) in self.heavy.iter_mut().zip(replies) {
                    heavy.members = reply.int().ok().and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
                }
                self.step = Step::Done;
            }
            Step::Done => {}
        }
    }

    fn hear_list(&mut self, place: &Place, reply: Reply) {
        // What cannot be listed now is asked for when its slot is open.
        let names: Option<Vec<Vec<u8>>> =
            reply.list().ok().and_then(|names| names.into_iter().map(|name| name.bytes().ok()).collect());
        let Some(names) = names else {
            self.partly.insert(place.slot);
            return;
        };
        if names.len() as u64 > MOST_LISTED {
            self.partly.insert(place.slot);
        }
        if self.weigh.contains(place.slot) {
            self.to_measure.extend(names.into_iter().map(|name| Place { name, ..place.clone() }));
        } else {
            let bytes = self.mean_bytes;
            let keys = names.into_iter().map(|name| Key { name, bytes });
            self.measured.insert((place.slot, place.database), keys.collect());
        }
    }

    /// Whether nothing is left to say.
    pub(super) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// What it found, once [`commands`](Self::commands) has nothing more to say.
    pub(super) fn found(self, most: Duration) -> Weights {
        let mut heavy = self.heavy;
        heavy.sort_by_key(|heavy| heavy.bytes);
        // The largest of a slot comes last and stays.
        let pinned = heavy.iter().map(|heavy| (heavy.place.slot, heavy.reason(most))).collect();
        Weights { keys: self.measured, partly: self.partly, pinned }
    }
}

impl Heavy {
    fn reason(&self, most: Duration) -> String {
        let shown = &self.place.name[..self.place.name.len().min(SHOWN_BYTES)];
        let more = if self.place.name.len() > SHOWN_BYTES { "…" } else { "" };
        let unit = if self.kind == "string" { "bytes" } else { "members" };
        format!(
            "pinned by key '{}{more}' ({} of {} {unit}, {}): one MIGRATE would keep the source for about {}, longer than \
             max_block ({}); raise it, or split the key",
            shown.escape_ascii(),
            self.kind,
            self.members,
            units::size::format(self.bytes),
            milliseconds(guess(self.bytes)),
            milliseconds(most),
        )
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(5);
    const ROUND: Duration = Duration::from_micros(1500);

    fn slot(number: u16) -> SlotId {
        SlotId::new(number).expect("a slot")
    }

    /// Plays the source: one small key and one hash of this size in each slot and database.
    fn weigh(databases: u32, hash_bytes: i64) -> Weights {
        let counts: Vec<_> = [7, 9].map(|number| (slot(number), vec![2; databases as usize])).to_vec();
        let mut weighing = Weighing::new(&counts, databases, counts.iter().map(|(slot, _)| *slot).collect(), 100);
        while let Some(commands) = weighing.commands(ROUND) {
            let answer = |command: &Command| {
                let words: Vec<String> =
                    command.words().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["SELECT", _] => Reply::Bytes(b"OK".to_vec()),
                    ["CLUSTER", "GETKEYSINSLOT", ..] => {
                        Reply::List([&b"small"[..], b"hash"].map(|name| Reply::Bytes(name.to_vec())).to_vec())
                    }
                    ["MEMORY", "USAGE", "hash", ..] => Reply::Int(hash_bytes),
                    ["MEMORY", "USAGE", ..] => Reply::Int(72),
                    ["TYPE", _] => Reply::Bytes(b"hash".to_vec()),
                    ["HLEN", "hash"] => Reply::Int(1_000_000),
                    _ => panic!("{command}"),
                }
            };
            weighing.hear(commands.iter().map(answer).collect(), MOST);
        }
        weighing.found(MOST)
    }

    #[test]
    fn keys_are_weighed_in_every_database() {
        for databases in [1, 3] {
            let weights = weigh(databases, 2000);
            assert!(weights.pinned.is_empty());
            assert_eq!(weights.keys.len(), 2 * databases as usize);
            let keys = &weights.keys[&(slot(9), databases - 1)];
            assert_eq!(keys.iter().map(|key| key.bytes).collect::<Vec<_>>(), [72, 2000]);
        }
    }

    #[test]
    fn a_key_that_takes_too_long_pins_its_slot_and_is_described() {
        let weights = weigh(1, 64 << 20);
        assert_eq!(weights.pinned.len(), 2);
        let reason = &weights.pinned[&slot(7)];
        assert!(reason.contains("key 'hash' (hash of 1000000 members, 64MiB)"), "{reason}");
        assert!(reason.contains("about 671 ms, longer than max_block (5 ms)"), "{reason}");
    }

    #[test]
    fn many_keys_are_listed_and_measured_in_parts() {
        let counts: Vec<_> = (0..130).map(|number| (slot(number), vec![100])).collect();
        let mut weighing = Weighing::new(&counts, 1, SlotSet::default(), 100);
        assert_eq!(weighing.commands(ROUND).map(|commands| commands.len()), Some(50));
        let huge = [(slot(1), vec![5_000_000])];
        let said = Weighing::new(&huge, 1, SlotSet::default(), 100).commands(ROUND).expect("something to say");
        assert_eq!(said[0].to_string(), format!("CLUSTER GETKEYSINSLOT 1 {}", MOST_LISTED + 1));
    }

    #[test]
    fn slots_that_need_no_weighing_are_only_listed() {
        let counts = [(slot(7), vec![2])];
        let mut weighing = Weighing::new(&counts, 1, SlotSet::default(), 100);
        weighing.commands(ROUND).expect("a list");
        let names = [&b"a"[..], b"b"].map(|name| Reply::Bytes(name.to_vec())).to_vec();
        weighing.hear(vec![Reply::List(names)], MOST);
        assert!(weighing.is_done());
        let weights = weighing.found(MOST);
        assert_eq!(weights.keys[&(slot(7), 0)].iter().map(|key| key.bytes).sum::<u64>(), 200);
        assert!(weights.partly.is_empty());
    }
}
