//! Whether two nodes hold the same value under one key, and dropping the one that is astray if they do.
//!
//! `DUMP` is compared first. Equal values may still have unequal dumps: servers order the members of large sets and hashes
//! by a seed of their own, so those are read and sorted. What cannot be compared so counts as different.

use std::time::Duration;

use crate::cluster::{Cluster, Command, Lane, Reply};
use crate::model::Address;

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The owner has an equal one, and the stray one is gone.
    Dropped,
    /// The owner has another one; nothing was done.
    Different,
    /// One of them was changed, or went away, while we looked; nothing was done.
    Changed,
}

/// A large value takes a while.
const PATIENCE: Duration = Duration::from_secs(30);
/// Copies carry their time to live as milliseconds from now, and we look at one after the other.
const SAME_TTL_MS: i64 = 5000;
/// What `DUMP` ends with: the version of the format, and a checksum over both.
const DUMP_TRAILER: usize = 10;

/// Deletes `key` on `stray` if `owner` has an equal value. Whoever changes the stray copy between our look and the deletion
/// keeps it: it is watched.
pub(super) async fn drop_if_equal(
    cluster: &dyn Cluster,
    stray: &Address,
    owner: &Address,
    database: u32,
    key: &[u8],
) -> Result<Verdict, String> {
    let about = |words: &str| Command::new(words).bytes(key);
    let questions = || vec![about("TYPE"), about("DUMP"), about("PTTL")];
    let stray = Place { cluster, node: stray, database, asking: true };
    let owner = Place { cluster, node: owner, database, asking: false };

    // First watched, then looked at, then compared with the owner's: a copy that is still unchanged at the end was equal to
    // one that the owner served after we had begun to watch.
    stray.say(vec![about("WATCH")]).await?;
    let mine = Value::read(stray.say(questions()).await?);
    let theirs = Value::read(owner.say(questions()).await?);
    let verdict = match (mine, theirs) {
        (Some(mine), Some(theirs)) if mine.is(&theirs) => Verdict::Dropped,
        (Some(mine), Some(theirs)) if mine.kind == theirs.kind && mine.lives_as_long_as(&theirs) => {
            match (members(&stray, &mine.kind, key).await?, members(&owner, &mine.kind, key).await?) {
                (Some(mine), Some(theirs)) if mine == theirs => Verdict::Dropped,
                _ => Verdict::Different,
            }
        }
        (Some(_), Some(_)) => Verdict::Different,
        _ => Verdict::Changed,
    };
    if verdict != Verdict::Dropped {
        stray.say(vec![Command::new("UNWATCH")]).await?;
        return Ok(verdict);
    }
    // ASKING holds for a whole transaction.
    let replies =
        stray.say_raw(vec![Command::new("ASKING"), Command::new("MULTI"), about("DEL"), Command::new("EXEC")]).await?;
    match replies.last() {
        Some(Reply::List(_)) => Ok(Verdict::Dropped),
        Some(Reply::Nil) => Ok(Verdict::Changed),
        other => Err(format!("{}: a copy was not deleted: {other:?}", stray.node)),
    }
}

/// One node, one database.
struct Place<'a> {
    cluster: &'a dyn Cluster,
    node: &'a Address,
    database: u32,
    /// Whether its slot is importing there, so that each command needs the word.
    asking: bool,
}

impl Place<'_> {
    /// The replies to `commands`.
    async fn say(&self, commands: Vec<Command>) -> Result<Vec<Reply>, String> {
        let stride = if self.asking { 2 } else { 1 };
        let word = || self.asking.then(|| Command::new("ASKING"));
        let commands = commands.into_iter().flat_map(|command| word().into_iter().chain([command])).collect();
        let replies = self.say_raw(commands).await?;
        Ok(replies.into_iter().skip(stride - 1).step_by(stride).collect())
    }

    /// The replies to `commands` as they are. All on one connection: what is watched is watched by a connection, and one
    /// that breaks in between fails the call that finds it broken.
    async fn say_raw(&self, mut commands: Vec<Command>) -> Result<Vec<Reply>, String> {
        if self.database > 0 {
            commands.insert(0, Command::new("SELECT").arg(self.database));
            commands.push(Command::new("SELECT").arg(0));
        }
        let replies = self.cluster.call(self.node, Lane::Transfer, &commands, PATIENCE).await;
        let mut replies = replies.map_err(|error| error.to_string())?;
        if self.database > 0 {
            if let Some(Reply::Error(error)) = replies.first() {
                return Err(format!("{}: {error}", self.node));
            }
            replies.remove(0);
            replies.pop();
        }
        Ok(replies)
    }
}

/// A key's value, as one node has it.
#[derive(Debug, Clone, PartialEq)]
struct Value {
    kind: String,
    dump: Vec<u8>,
    ttl_ms: i64,
}

impl Value {
    /// None for a key that is not there, or that the node sends us elsewhere for.
    fn read(replies: Vec<Reply>) -> Option<Self> {
        let mut replies = replies.into_iter();
        let kind = replies.next()?.text().ok()?;
        let mut dump = replies.next()?.bytes().ok()?;
        dump.truncate(dump.len().saturating_sub(DUMP_TRAILER));
        Some(Self { kind, dump, ttl_ms: replies.next()?.int().ok()? })
    }

    fn is(&self, other: &Self) -> bool {
        self.dump == other.dump && self.lives_as_long_as(other)
    }

    fn lives_as_long_as(&self, other: &Self) -> bool {
        let eternal = [self, other].map(|value| value.ttl_ms < 0);
        eternal == [true, true] || eternal == [false, false] && (self.ttl_ms - other.ttl_ms).abs() <= SAME_TTL_MS
    }
}

/// Everything in a value, in an order that does not depend on the server; none where that does not tell all of it.
async fn members(place: &Place<'_>, kind: &str, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, String> {
    let about = |words: &str| Command::new(words).bytes(key);
    let read = match kind {
        "string" => about("GET"),
        "list" => about("LRANGE").arg(0).arg(-1),
        "set" => about("SMEMBERS"),
        "zset" => about("ZRANGE").arg(0).arg(-1).arg("WITHSCORES"),
        "hash" => about("HGETALL"),
        _ => return Ok(None),
    };
    let Some(reply) = place.say(vec![read]).await?.pop() else { return Ok(None) };
    let items = match reply {
        Reply::Bytes(value) => vec![value],
        Reply::List(items) => {
            let items: Result<Vec<_>, _> = items.into_iter().map(Reply::bytes).collect();
            items.map_err(|error| error.to_string())?
        }
        _ => return Ok(None),
    };
    if kind != "hash" {
        return Ok(Some(in_order(kind, items)));
    }
    let items = in_order(kind, items);
    let fields: Vec<&Vec<u8>> = items.iter().step_by(2).collect();
    let times = about("HPEXPIRETIME").arg("FIELDS").arg(fields.len());
    let times = fields.into_iter().fold(times, |command, field| command.bytes(field.clone()));
    // Fields expire from Redis 7.4 and Valkey 9.0 on; older servers do not know the word.
    let expire = match place.say(vec![times]).await?.pop() {
        Some(Reply::List(times)) => {
            times.into_iter().map(|time| time.int().unwrap_or(-1).to_string().into_bytes()).collect()
        }
        _ => Vec::new(),
    };
    let never = expire.iter().all(|time: &Vec<u8>| time == b"-1");
    Ok(Some(items.into_iter().chain(if never { Vec::new() } else { expire }).collect()))
}

/// Members of sets and fields of hashes sorted; lists and sorted sets have an order of their own.
fn in_order(kind: &str, mut items: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    match kind {
        "set" => {
            items.sort_unstable();
            items
        }
        "hash" => {
            let mut pairs: Vec<&[Vec<u8>]> = items.chunks(2).collect();
            pairs.sort_unstable();
            pairs.concat()
        }
        _ => items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(dump: &[u8], ttl_ms: i64) -> Value {
        let trailer = [0; DUMP_TRAILER];
        let dump = [dump, &trailer].concat();
        let replies = vec![Reply::Bytes(b"string".to_vec()), Reply::Bytes(dump), Reply::Int(ttl_ms)];
        Value::read(replies).expect("a value")
    }

    #[test]
    fn values_are_the_same_by_content_and_time_to_live() {
        assert!(value(b"x", -1).is(&value(b"x", -1)));
        assert!(!value(b"x", -1).is(&value(b"y", -1)));
        assert!(!value(b"x", -1).is(&value(b"x", 60_000)), "one of them would be gone in a minute");
        assert!(value(b"x", 60_000).is(&value(b"x", 59_000)), "we looked one second later");
        assert!(!value(b"x", 60_000).is(&value(b"x", 10_000)));
    }

    #[test]
    fn members_are_sorted_where_the_server_s_order_means_nothing() {
        let items = |text: &str| text.bytes().map(|byte| vec![byte]).collect::<Vec<_>>();
        assert_eq!(in_order("set", items("cab")), items("abc"));
        assert_eq!(in_order("hash", items("b1a2")), items("a2b1"));
        assert_eq!(in_order("list", items("cab")), items("cab"));
    }

    #[test]
    fn a_key_that_is_not_there_has_no_value() {
        assert_eq!(Value::read(vec![Reply::Bytes(b"none".to_vec()), Reply::Nil, Reply::Int(-2)]), None);
    }
}
