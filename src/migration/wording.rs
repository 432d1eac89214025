//! The commands of a migration, word for word, and what servers' refusals mean.

use crate::cluster::question::ServerInfo;
use crate::cluster::{Command, Reply, ReplyError, ServerError};
use crate::model::{Address, NodeId, SlotId};

pub(super) fn importing(slot: SlotId, source: &NodeId) -> Command {
    Command::new("CLUSTER SETSLOT").arg(slot).arg("IMPORTING").arg(source)
}

pub(super) fn migrating(slot: SlotId, target: &NodeId) -> Command {
    Command::new("CLUSTER SETSLOT").arg(slot).arg("MIGRATING").arg(target)
}

pub(super) fn stable(slot: SlotId) -> Command {
    Command::new("CLUSTER SETSLOT").arg(slot).arg("STABLE")
}

pub(super) fn node(slot: SlotId, owner: &NodeId) -> Command {
    Command::new("CLUSTER SETSLOT").arg(slot).arg("NODE").arg(owner)
}

/// Gives slots that `target` is importing to it, so that it tells the others once of all of them.
///
/// It tells of a slot that it was importing, and then raises its epoch; so all but the last are no longer importing when they get
/// their owner. In a transaction, for between the two a slot would be nobody's. A transaction undoes nothing: should the last
/// not be importing any more, its epoch is raised all the same.
pub(super) fn node_in_one(slots: &[SlotId], source: &NodeId, target: &NodeId) -> Vec<Command> {
    let Some((last, others)) = slots.split_last() else { return Vec::new() };
    let mut commands = vec![Command::new("MULTI")];
    commands.extend(others.iter().flat_map(|slot| [stable(*slot), node(*slot, target)]));
    commands.extend([
        importing(*last, source),
        node(*last, target),
        Command::new("CLUSTER BUMPEPOCH"),
        Command::new("EXEC"),
    ]);
    commands
}

/// Reads the replies to [`node_in_one`]: two for each slot, or nothing if it was no transaction.
pub(super) fn read_node_in_one(mut replies: Vec<Reply>, slots: usize) -> Option<Vec<Reply>> {
    let mut replies = replies.pop()?.list().ok().filter(|replies| replies.len() == slots * 2 + 1)?;
    replies.truncate(slots * 2);
    Some(replies)
}

/// An empty transaction: whether we may begin and end one.
pub(super) fn transaction() -> [Command; 2] {
    ["MULTI", "EXEC"].map(Command::new)
}

pub(super) fn keys_in_slot(slot: SlotId, at_most: usize) -> Command {
    Command::new("CLUSTER GETKEYSINSLOT").arg(slot).arg(at_most)
}

pub(super) fn select(database: u32) -> Command {
    Command::new("SELECT").arg(database)
}

/// MIGRATE of some keys of one slot and database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer<'a> {
    /// The target as the *source* reaches it.
    pub(super) target: &'a Address,
    pub(super) database: u32,
    pub(super) timeout_ms: u64,
    pub(super) replace: bool,
    pub(super) credentials: Option<&'a (Option<String>, String)>,
}

pub(super) fn migrate(transfer: Transfer<'_>, keys: impl Iterator<Item = Vec<u8>>) -> Command {
    let Transfer { target, database, timeout_ms, replace, credentials } = transfer;
    let mut command =
        Command::new("MIGRATE").arg(&target.host).arg(target.port).bytes("").arg(database).arg(timeout_ms);
    if replace {
        command = command.arg("REPLACE");
    }
    command = match credentials {
        Some((Some(user), password)) => command.arg("AUTH2").arg(user).secret(password),
        Some((None, password)) => command.arg("AUTH").secret(password),
        None => command,
    };
    keys.fold(command.arg("KEYS"), Command::bytes)
}

/// Counts the keys of `slots` in every database. The connection ends in database 0, as it began.
pub(super) fn count_keys(slots: &[SlotId], databases: u32) -> Vec<Command> {
    let counts = || slots.iter().map(|slot| Command::new("CLUSTER COUNTKEYSINSLOT").arg(*slot));
    if databases <= 1 {
        return counts().collect();
    }
    let each = (0..databases).flat_map(|database| std::iter::once(select(database)).chain(counts()));
    each.chain(std::iter::once(select(0))).collect()
}

/// Reads the replies to [`count_keys`]: keys per slot over all databases.
pub(super) fn read_key_counts(replies: Vec<Reply>, slots: usize, databases: u32) -> Result<Vec<u64>, ReplyError> {
    let counts = read_key_counts_by_database(replies, slots, databases)?;
    Ok(counts.into_iter().map(|counts| counts.iter().sum()).collect())
}

/// The same, apart for each database.
pub(super) fn read_key_counts_by_database(
    replies: Vec<Reply>,
    slots: usize,
    databases: u32,
) -> Result<Vec<Vec<u64>>, ReplyError> {
    let stride = if databases <= 1 { slots } else { slots + 1 };
    let selects = stride - slots;
    let mut counts = vec![Vec::new(); slots];
    for (place, reply) in replies.into_iter().take(stride * databases.max(1) as usize).enumerate() {
        match (place % stride).checked_sub(selects) {
            Some(slot) => {
                let count = reply.int()?;
                let count = u64::try_from(count).map_err(|_| Reply::Int(count).unexpected("a number of keys"))?;
                counts[slot].push(count);
            }
            None => drop(reply.ok()?),
        }
    }
    Ok(counts)
}

pub(super) fn memory_usage(key: Vec<u8>, samples: u32) -> Command {
    Command::new("MEMORY USAGE").bytes(key).arg("SAMPLES").arg(samples)
}

pub(super) fn stats() -> Command {
    Command::new("INFO stats")
}

/// Reads the reply to [`stats`]: keys evicted since the server's start.
pub(super) fn evicted_keys(reply: Reply) -> Option<u64> {
    ServerInfo::parse(&reply.text().ok()?).evicted_keys()
}

/// The command that counts the members of a key of this type. Of a type that has none (a module's), the key itself.
pub(super) fn length_of(kind: &str) -> &'static str {
    match kind {
        "string" => "STRLEN",
        "hash" => "HLEN",
        "list" => "LLEN",
        "set" => "SCARD",
        "zset" => "ZCARD",
        "stream" => "XLEN",
        _ => "EXISTS",
    }
}

/// Asks a node what it is: only a primary's word about its keys counts.
pub(super) fn role() -> Command {
    Command::new("ROLE")
}

/// Reads the reply to [`role`].
pub(super) fn says_primary(reply: Reply) -> Result<bool, ReplyError> {
    let word = reply.list()?.into_iter().next().unwrap_or(Reply::Nil).text()?;
    Ok(word == "master")
}

/// What a refused MIGRATE says about the keys it carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The keys may be on both nodes: the source and the target lost each other half-way.
    Unknown,
    /// The target already has one of the keys.
    Busy,
    /// Nothing happened; the same call may succeed soon.
    Later,
    /// The source is not what it was: it lost the slot, or its rank.
    Changed,
    /// Nothing happened, and the same call will not succeed.
    Never,
}

pub(super) fn migrate_refusal(error: &ServerError) -> Refused {
    match error.code.as_str() {
        "IOERR" => Refused::Unknown,
        "BUSYKEY" => Refused::Busy,
        "TRYAGAIN" | "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "BUSY" => Refused::Later,
        "MOVED" | "ASK" | "READONLY" | "UNBLOCKED" => Refused::Changed,
        // "ERR Target instance replied with error: CODE …": the source passes the target's words on.
        _ if error.message.contains("BUSYKEY") => Refused::Busy,
        _ if ["LOADING", "TRYAGAIN", "CLUSTERDOWN"].iter().any(|code| error.message.contains(code)) => Refused::Later,
        _ if error.message.contains("error: MOVED") => Refused::Changed,
        _ => Refused::Never,
    }
}

/// Whether a refused `SETSLOT` may succeed soon: replicas were behind (Valkey 8+ replicates it before it executes it), or
/// the node's role was changing.
pub(super) fn setslot_may_succeed_later(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "NOREPLICAS" | "UNBLOCKED" | "LOADING" | "CLUSTERDOWN" | "TRYAGAIN")
}

/// Whether a refused `SETSLOT … IMPORTING` says that the node owns the slot already.
pub(super) fn says_already_owner(error: &ServerError) -> bool {
    error.message.contains("already the owner")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_in_every_database() {
        let slots: Vec<SlotId> = [3, 9].into_iter().filter_map(SlotId::new).collect();
        assert_eq!(count_keys(&slots, 1).len(), 2);
        let commands = count_keys(&slots, 2);
        assert_eq!(
            commands.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            "SELECT 0; CLUSTER COUNTKEYSINSLOT 3; CLUSTER COUNTKEYSINSLOT 9; SELECT 1; CLUSTER COUNTKEYSINSLOT 3; CLUSTER COUNTKEYSINSLOT 9; SELECT 0"
        );
        let ok = || Reply::Bytes(b"OK".to_vec());
        let replies = vec![ok(), Reply::Int(1), Reply::Int(0), ok(), Reply::Int(2), Reply::Int(5), ok()];
        assert_eq!(read_key_counts(replies, 2, 2), Ok(vec![3, 5]));
        assert_eq!(read_key_counts(vec![Reply::Int(4), Reply::Int(0)], 2, 1), Ok(vec![4, 0]));
    }

    #[test]
    fn the_target_s_words_are_understood_through_the_source() {
        let says =
            |code: &str, message: &str| migrate_refusal(&ServerError { code: code.into(), message: message.into() });
        assert_eq!(says("IOERR", "error or timeout reading from target instance"), Refused::Unknown);
        assert_eq!(
            says("ERR", "Target instance replied with error: BUSYKEY Target key name already exists."),
            Refused::Busy
        );
        assert_eq!(says("ERR", "Target instance replied with error: LOADING dataset in memory"), Refused::Later);
        assert_eq!(says("ERR", "Target instance replied with error: NOAUTH Authentication required."), Refused::Never);
        assert_eq!(says("ERR", "Target instance replied with error: OOM command not allowed"), Refused::Never);
        assert_eq!(says("MOVED", "7 127.0.0.1:7001"), Refused::Changed);
    }
}
