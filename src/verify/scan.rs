//! Goes through all keys of a primary, and looks again at those that seem astray.
//!
//! A slot has one owner, so a key that is on two primaries is on one that does not own its slot: it is enough to suspect
//! the keys of foreign slots, and no other key has to be kept in mind. While slots move, most suspicions are false. Each
//! is followed until it dissolves, or stands for longer than a server takes to tidy up after a move.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::VerifyError;
use super::map::Map;
use super::reach::{Name, PATIENCE, Reach};
use super::record::{Entry, Recorder};
use super::report::{Finding, KeyName};
use crate::cluster::{Command, LinkError, Reply, ReplyError};
use crate::model::{Address, SlotId};

/// Keys in one step of a SCAN: well below a millisecond of a server's time.
const SCAN_COUNT: usize = 512;
/// Suspicions kept in mind per primary; more are only counted. A primary with so many is in trouble, or in motion.
const MOST_SUSPECTS: usize = 10_000;
/// While a page holds suspects, the map is looked at again, but not more often than this.
const LOOK_GAP: Duration = Duration::from_millis(200);
/// How long suspicions have to stand, none of them dissolving: a server that gave slots away may delete their keys in the
/// background, and gossip takes a second or two.
const STANDING: Duration = Duration::from_secs(3);
/// Before suspicions are looked at again.
const PAUSE: Duration = Duration::from_millis(200);
/// Slots asked about in one pipeline.
const SLOTS_AT_ONCE: usize = 256;
/// Keys of a foreign slot that are listed to see which are still there.
const MOST_LISTED: usize = 10_000;

/// What a scan of one primary brought.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) keys: u64,
    /// Databases with keys.
    pub(super) databases: Vec<u32>,
    pub(super) suspects: Suspects,
    pub(super) unexamined: u64,
}

/// Keys of foreign slots by database and slot, each with whether the owner was seen to have it too.
type Suspects = BTreeMap<(u32, SlotId), BTreeMap<Vec<u8>, bool>>;

/// Suspects by the owner of their slot and the database: whom to ask, about what.
type Groups<'a> = BTreeMap<(&'a Address, u32), Vec<(SlotId, Vec<u8>)>>;

/// What became of suspicions.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) under_way: u64,
    pub(super) moved_meanwhile: u64,
    pub(super) findings: Vec<Finding>,
}

/// Goes through all keys of `node` in every database, and adds those of its own slots to the record.
pub(super) async fn scan(
    reach: &Reach<'_>,
    node: &Address,
    recorder: Option<&Mutex<Recorder>>,
) -> Result<Scanned, VerifyError> {
    let keyspace = one(reach, node, 0, Command::new("INFO keyspace")).await?;
    let unreadable = |cause| VerifyError::Refused { node: node.clone(), command: "INFO keyspace".into(), cause };
    let mut scanned = Scanned { databases: databases(&keyspace.text().map_err(unreadable)?), ..Scanned::default() };
    let mut looked = Instant::now();
    for database in scanned.databases.clone() {
        let mut cursor = b"0".to_vec();
        loop {
            let command = Command::new("SCAN").bytes(cursor).arg("COUNT").arg(SCAN_COUNT);
            let reply = one(reach, node, database, command).await?;
            let refused = |cause| VerifyError::Refused { node: node.clone(), command: "SCAN".into(), cause };
            let (next, keys) = read_scan(reply).map_err(refused)?;
            scanned.keys += keys.len() as u64;
            let foreign = |map: &Map, key: &[u8]| map.owner(SlotId::of_key(key)) != Some(node);
            let mut map = reach.map();
            if looked.elapsed() > LOOK_GAP && keys.iter().any(|key| foreign(&map, key)) {
                map = reach.look_again().await;
                looked = Instant::now();
            }
            let (astray, own): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| foreign(&map, key));
            scanned.suspect(database, astray);
            if let Some(recorder) = recorder {
                let names: Vec<Name> = own.into_iter().map(|key| (database, key)).collect();
                let seen = reach.read(&names).await?;
                let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                for ((database, key), seen) in names.into_iter().zip(seen) {
                    if let Some(seen) = seen {
                        recorder.add(&Entry { database, key, seen })?;
                    }
                }
            }
            cursor = next;
            if cursor == b"0" {
                break;
            }
        }
    }
    Ok(scanned)
}

impl Scanned {
    fn suspect(&mut self, database: u32, keys: Vec<Vec<u8>>) {
        for key in keys {
            if count(&self.suspects) < MOST_SUSPECTS {
                self.suspects.entry((database, SlotId::of_key(&key))).or_default().insert(key, false);
            } else {
                self.unexamined += 1;
            }
        }
    }
}

/// Looks at suspects of `node` until none is left, or those that are have stood for long enough.
pub(super) async fn settle(reach: &Reach<'_>, node: &Address, mut suspects: Suspects) -> Result<Settled, VerifyError> {
    let mut deadline = Instant::now() + STANDING;
    let mut settled = Settled::default();
    let mut map = reach.map();
    while !suspects.is_empty() {
        let before = count(&suspects);
        map = reach.look_again().await;
        drop_gone(reach, node, &map, &mut suspects, &mut settled).await?;
        ask_owners(reach, &map, &mut suspects).await;
        for ((_, slot), keys) in &mut suspects {
            if map.is_importing(node, *slot) {
                let before = keys.len();
                keys.retain(|_, at_owner| *at_owner);
                settled.under_way += (before - keys.len()) as u64;
            }
        }
        suspects.retain(|_, keys| !keys.is_empty());
        if count(&suspects) < before {
            deadline = Instant::now() + STANDING;
        } else if Instant::now() > deadline {
            break;
        }
        if !suspects.is_empty() {
            sleep(PAUSE).await;
        }
    }
    for ((database, slot), keys) in suspects {
        for (key, at_owner) in keys {
            let (name, node, owner) = (KeyName::of(database, &key), node.clone(), map.owner(slot).cloned());
            settled.findings.push(match owner {
                Some(owner) if at_owner => Finding::Duplicate { name, node, owner },
                owner => Finding::Orphan { name, node, owner },
            });
        }
    }
    Ok(settled)
}

/// Lets go of slots that `node` owns by now, and of keys that it does not have any more.
async fn drop_gone(
    reach: &Reach<'_>,
    node: &Address,
    map: &Map,
    suspects: &mut Suspects,
    settled: &mut Settled,
) -> Result<(), VerifyError> {
    let before = count(suspects);
    suspects.retain(|(_, slot), _| map.owner(*slot) != Some(node));
    let mut by_database: BTreeMap<u32, Vec<SlotId>> = BTreeMap::new();
    for (database, slot) in suspects.keys() {
        by_database.entry(*database).or_default().push(*slot);
    }
    for (database, slots) in by_database {
        for slots in slots.chunks(SLOTS_AT_ONCE) {
            let list = |slot: &SlotId| Command::new("CLUSTER GETKEYSINSLOT").arg(slot).arg(MOST_LISTED);
            let replies = reach.say(node, database, slots.iter().map(list).collect()).await?;
            for (slot, reply) in slots.iter().zip(replies) {
                let held =
                    reply.list().and_then(|keys| keys.into_iter().map(Reply::bytes).collect::<Result<Vec<_>, _>>());
                let command = "CLUSTER GETKEYSINSLOT".to_owned();
                let mut held = held.map_err(|cause| VerifyError::Refused { node: node.clone(), command, cause })?;
                held.sort_unstable();
                // A list that is full does not say what is missing from it.
                if held.len() < MOST_LISTED
                    && let Some(keys) = suspects.get_mut(&(database, *slot))
                {
                    keys.retain(|key, _| held.binary_search(key).is_ok());
                }
            }
        }
    }
    suspects.retain(|_, keys| !keys.is_empty());
    settled.moved_meanwhile += (before - count(suspects)) as u64;
    Ok(())
}

fn count(suspects: &Suspects) -> usize {
    suspects.values().map(BTreeMap::len).sum()
}

/// Asks the owners whether they have the suspects too. One that does not answer leaves what was known.
async fn ask_owners(reach: &Reach<'_>, map: &Map, suspects: &mut Suspects) {
    let mut groups: Groups<'_> = BTreeMap::new();
    for ((database, slot), keys) in suspects.iter() {
        if let Some(owner) = map.owner(*slot) {
            groups.entry((owner, *database)).or_default().extend(keys.keys().map(|key| (*slot, key.clone())));
        }
    }
    let asked = groups.into_iter().map(async |((owner, database), keys)| {
        let commands = keys.iter().map(|(_, key)| Command::new("EXISTS").bytes(key.clone())).collect();
        (database, keys, reach.say(owner, database, commands).await)
    });
    for (database, keys, replies) in join_all(asked).await {
        for ((slot, key), reply) in keys.into_iter().zip(replies.unwrap_or_default()) {
            // ASK says that it is not here any more; any other error says nothing.
            let has = match reply {
                Reply::Int(count) => count > 0,
                Reply::Error(error) if error.code == "ASK" => false,
                _ => continue,
            };
            if let Some(keys) = suspects.get_mut(&(database, slot)) {
                keys.insert(key, has);
            }
        }
    }
}

/// One command, tried again while the node does not answer.
async fn one(reach: &Reach<'_>, node: &Address, database: u32, command: Command) -> Result<Reply, LinkError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reach.say(node, database, vec![command.clone()]).await {
            Ok(mut replies) => return Ok(replies.pop().unwrap_or(Reply::Nil)),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The databases that `INFO keyspace` lists: those with keys.
fn databases(keyspace: &str) -> Vec<u32> {
    keyspace.lines().filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok()).collect()
}

fn read_scan(reply: Reply) -> Result<(Vec<u8>, Vec<Vec<u8>>), ReplyError> {
    let mut parts = reply.list()?.into_iter();
    let cursor = parts.next().unwrap_or(Reply::Nil).bytes()?;
    let keys = parts.next().unwrap_or(Reply::Nil).list()?;
    Ok((cursor, keys.into_iter().map(Reply::bytes).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_with_keys_are_read() {
        let text = "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb11:keys=1,expires=0,avg_ttl=0\r\n";
        assert_eq!(databases(text), [0, 11]);
        assert_eq!(databases("# Keyspace\r\n"), Vec::<u32>::new());
    }

    #[test]
    fn suspects_beyond_the_bound_are_counted() {
        let mut scanned = Scanned::default();
        scanned.suspect(0, (0..MOST_SUSPECTS + 3).map(|n| n.to_string().into_bytes()).collect());
        assert_eq!(scanned.unexamined, 3);
    }
}
