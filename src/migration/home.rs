//! Brings stray keys home: keys of slots that their node does not own go to the owner, unless the owner has them.
//!
//! A server hands out keys of a slot that it does not own only while the slot is importing, and to who says ASKING; MIGRATE
//! needs the flag too (tried on Redis 7.0 and 8.6, Valkey 8.0 and 9.1). Nothing is ever overwritten: MIGRATE goes without
//! REPLACE. A key that the owner has too is compared: an equal copy is dropped, by a transaction that fails when a client
//! changed it since we looked, and a different one is left to a person.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::wording::{self, Refused, Transfer};
use super::{Context, values};
use crate::cluster::capability::Abilities;
use crate::cluster::question::{AtomicProtocol, CountKeysInSlots, KeysExist, KeysInSlot};
use crate::cluster::{Cluster, Command, Lane, Reply, ReplyError, ask};
use crate::model::{Address, NodeId, SlotId, SlotSet};
use crate::telemetry::chain;

/// Where keys are astray, and where they belong.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The node that holds them.
    pub stray: Address,
    /// The owner of their slots.
    pub owner: Address,
    /// Its name.
    pub owner_id: NodeId,
    /// Where the stray node reaches it.
    pub owner_from_stray: Address,
    /// Databases that may hold keys.
    pub databases: u32,
}

/// A key with different values on two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Double {
    /// Its slot.
    pub slot: SlotId,
    /// Its database.
    pub database: u32,
    /// Its name; bytes that are no text are escaped.
    pub key: String,
}

/// What became of stray keys.
#[derive(Debug, Clone, Default)]
pub struct Homecoming {
    /// Keys that the owner lacked, and has now.
    pub moved: u64,
    /// Equal copies that were dropped.
    pub dropped: u64,
    /// Keys that stay where they are: the owner's value is another one.
    pub different: Vec<Double>,
}

/// Every wait but MIGRATE's.
const PATIENCE: Duration = Duration::from_secs(5);
/// Keys in one MIGRATE: few, for these are nobody's daily work, and the source serves nobody meanwhile.
const KEYS_AT_ONCE: u32 = 100;
/// How often in a row nothing may get better before a slot is given up.
const MOST_STALLS: u32 = 10;
const STALL_PAUSE: Duration = Duration::from_millis(100);
/// How often a `SETSLOT` is said again while replicas lag.
const MOST_RETRIES: u32 = 6;
/// For so many commands of a pipeline replicas are waited for.
const MOST_WAITS: u32 = 15;

/// Brings the keys of `slots` home. `flagged` are those among them that were importing before: a slot that keeps keys keeps
/// its flag too, and the others are closed in any case.
///
/// # Errors
/// What kept it from going on, in words. What was done till then is safe, and doing it again goes on.
pub async fn bring_home(
    ends: &Ends,
    slots: &[SlotId],
    flagged: &[SlotId],
    context: &Context,
) -> Result<Homecoming, String> {
    let cluster = &*context.cluster;
    import_from(&ends.stray, slots, &ends.owner_id, context).await?;
    let mut came = Homecoming::default();
    let mut outcome = Ok(());
    'slots: for slot in slots {
        for database in 0..ends.databases {
            outcome = bring_part(ends, *slot, database, context, &mut came).await;
            if outcome.is_err() {
                break 'slots;
            }
        }
    }
    let flagged: Vec<SlotId> = slots.iter().copied().filter(|slot| flagged.contains(slot)).collect();
    let keep = holding(cluster, &ends.stray, &flagged, ends.databases).await?;
    let close: Vec<Command> =
        slots.iter().filter(|slot| !keep.contains(**slot)).map(|slot| wording::stable(*slot)).collect();
    setslot(cluster, &ends.stray, &close, MOST_RETRIES).await?;
    outcome.map(|()| came)
}

async fn bring_part(
    ends: &Ends,
    slot: SlotId,
    database: u32,
    context: &Context,
    came: &mut Homecoming,
) -> Result<(), String> {
    let cluster = &*context.cluster;
    let mut kept: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut stalls = 0;
    while stalls < MOST_STALLS {
        let most = KEYS_AT_ONCE + u32::try_from(kept.len()).unwrap_or(u32::MAX - KEYS_AT_ONCE);
        let mut keys = question(cluster, &ends.stray, &KeysInSlot { slot, count: most, db: database }).await?;
        keys.retain(|key| !kept.contains(key));
        if keys.is_empty() {
            return Ok(());
        }
        let (present, absent) = parted(cluster, &ends.owner, database, keys).await?;
        let before = (came.moved, came.dropped, kept.len());
        if !absent.is_empty() && migrate(ends, database, &absent, context).await? {
            came.moved += absent.len() as u64;
        }
        for key in present {
            match values::drop_if_equal(cluster, &ends.stray, &ends.owner, database, &key).await? {
                values::Verdict::Dropped => came.dropped += 1,
                values::Verdict::Different => {
                    came.different.push(double(slot, database, &key));
                    kept.insert(key);
                }
                values::Verdict::Changed => {}
            }
        }
        if before == (came.moved, came.dropped, kept.len()) {
            stalls += 1;
            tokio::time::sleep(STALL_PAUSE).await;
        } else {
            stalls = 0;
        }
    }
    Err(format!("slot {slot}: its keys do not leave {}", ends.stray))
}

/// Whether all of `keys` arrived. They did not when the owner had one after all, or lost us half-way: look again.
async fn migrate(ends: &Ends, database: u32, keys: &[Vec<u8>], context: &Context) -> Result<bool, String> {
    let timeout_ms = context.settings.migrate_timeout_ms;
    let credentials = context.cluster.credentials();
    let transfer = Transfer {
        target: &ends.owner_from_stray,
        database,
        timeout_ms,
        replace: false,
        credentials: credentials.as_ref(),
    };
    let commands = [wording::select(database), wording::migrate(transfer, keys.iter().cloned()), wording::select(0)];
    // It waits for its socket to connect, to write and to read.
    let patience = PATIENCE + Duration::from_millis(timeout_ms.saturating_mul(3));
    let replies = context.cluster.call(&ends.stray, Lane::Transfer, &commands, patience).await;
    let replies = replies.map_err(|error| error.to_string())?;
    match replies.into_iter().nth(1).unwrap_or(Reply::Nil).ok() {
        Ok(_) => Ok(true),
        Err(ReplyError::Refused(error)) => match wording::migrate_refusal(&error) {
            Refused::Unknown | Refused::Busy | Refused::Later => Ok(false),
            Refused::Changed | Refused::Never => Err(format!("MIGRATE was refused: {error}")),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Drops the stray copies of keys whose owner has an equal one: how many, and which have another value there. The slots are
/// importing on the stray node.
pub(super) async fn drop_equal_copies(
    ends: &Ends,
    slots: &[SlotId],
    context: &Context,
) -> Result<(u64, Vec<Double>), String> {
    let cluster = &*context.cluster;
    let (mut dropped, mut different) = (0, Vec::new());
    for slot in slots {
        for database in 0..ends.databases {
            let counted = CountKeysInSlots { slots: [*slot].into_iter().collect(), db: database };
            let keys = question(cluster, &ends.stray, &counted).await?.first().map_or(0, |(_, keys)| *keys);
            if keys == 0 {
                continue;
            }
            // Clients may add some meanwhile; those have no other copy.
            let most = u32::try_from(keys).unwrap_or(u32::MAX);
            let keys = question(cluster, &ends.stray, &KeysInSlot { slot: *slot, count: most, db: database }).await?;
            for part in keys.chunks(KEYS_AT_ONCE as usize) {
                let (present, _) = parted(cluster, &ends.owner, database, part.to_vec()).await?;
                for key in present {
                    match values::drop_if_equal(cluster, &ends.stray, &ends.owner, database, &key).await? {
                        values::Verdict::Dropped => dropped += 1,
                        values::Verdict::Different => different.push(double(*slot, database, &key)),
                        // It has left one of them since: no copy to care for. If it has not, the move will say so.
                        values::Verdict::Changed => {}
                    }
                }
            }
        }
    }
    Ok((dropped, different))
}

fn double(slot: SlotId, database: u32, key: &[u8]) -> Double {
    Double { slot, database, key: key.escape_ascii().to_string() }
}

/// Those that the owner has, and those that it lacks.
async fn parted(
    cluster: &dyn Cluster,
    owner: &Address,
    database: u32,
    keys: Vec<Vec<u8>>,
) -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>), String> {
    let there = question(cluster, owner, &KeysExist { keys: keys.clone(), db: database }).await?;
    let (present, absent): (Vec<_>, Vec<_>) = keys.into_iter().zip(there).partition(|(_, there)| *there);
    let names = |pairs: Vec<(Vec<u8>, bool)>| pairs.into_iter().map(|(key, _)| key).collect();
    Ok((names(present), names(absent)))
}

/// What is known of the importing flags of slots on a node, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flags {
    /// They stand, and stay.
    Standing,
    /// There are none, and none are left.
    Absent,
    /// There are none; slots with keys are importing afterwards, so that whoever looks next sees that they are not done.
    Wanted,
}

/// Which of `slots` hold keys on `node`, a primary before and after; `other` is whom flags name that are set meanwhile.
///
/// # Errors
/// What kept it from being said, in words.
pub(super) async fn held(
    node: &Address,
    slots: &[SlotId],
    (other, flags): (&NodeId, Flags),
    context: &Context,
) -> Result<SlotSet, String> {
    let cluster = &*context.cluster;
    let can = question(cluster, node, &Abilities).await?;
    let list = |held: &SlotSet| held.iter().collect::<Vec<_>>();
    let hides = can.atomic == Some(AtomicProtocol::RedisMigrationImport) && flags != Flags::Standing;
    let held = if hides {
        unhide(node, slots, other, context).await?
    } else {
        let databases = can.databases.ok_or("how many databases the target has is not known: allow 'CONFIG GET'")?;
        holding(cluster, node, slots, databases).await?
    };
    match flags {
        Flags::Absent if hides => close(node, &list(&held), context).await?,
        Flags::Wanted if !hides => import_from(node, &list(&held), other, context).await?,
        _ => {}
    }
    // A node that was demoted meanwhile forgets its keys, and had none to count.
    let role =
        cluster.call(node, Lane::Control, &[wording::role()], PATIENCE).await.map_err(|error| error.to_string())?;
    match wording::says_primary(role.into_iter().next().unwrap_or(Reply::Nil)) {
        Ok(true) => Ok(held),
        _ => Err("the target is no primary any more".to_owned()),
    }
}

/// Those of `slots` of which `node` counts a key in any database.
///
/// # Errors
/// Why it did not count them, in words.
pub(super) async fn holding(
    cluster: &dyn Cluster,
    node: &Address,
    slots: &[SlotId],
    databases: u32,
) -> Result<SlotSet, String> {
    let mut held = Vec::new();
    for part in slots.chunks(SLOTS_AT_ONCE) {
        for db in 0..databases {
            let counted = CountKeysInSlots { slots: part.iter().copied().collect(), db };
            let counts = question(cluster, node, &counted).await?;
            held.extend(counts.into_iter().filter(|(_, keys)| *keys > 0).map(|(slot, _)| slot));
        }
    }
    Ok(held.into_iter().collect())
}

async fn question<Q: crate::cluster::Question>(
    cluster: &dyn Cluster,
    node: &Address,
    question: &Q,
) -> Result<Q::Answer, String> {
    ask(cluster, node, question, PATIENCE).await.map_err(|error| chain(&error))
}

/// Says `SETSLOT`s to a node in one pipeline, and up to `retries` times again while its replicas lag.
///
/// # Errors
/// The first refusal, in words.
async fn setslot(cluster: &dyn Cluster, node: &Address, commands: &[Command], retries: u32) -> Result<(), String> {
    if commands.is_empty() {
        return Ok(());
    }
    // Valkey waits two seconds for the replicas, for each command; where more than a few wait so long, none succeeds.
    let waits = u32::try_from(commands.len()).unwrap_or(u32::MAX).min(MOST_WAITS);
    let patience = PATIENCE + Duration::from_secs(2) * waits;
    for attempt in 0.. {
        let replies = cluster.call(node, Lane::Control, commands, patience).await.map_err(|error| error.to_string())?;
        let refusals: Vec<_> = replies.into_iter().filter_map(|reply| reply.ok().err()).collect();
        let Some(first) = refusals.first() else { return Ok(()) };
        let lags = |error: &ReplyError| matches!(error, ReplyError::Refused(error) if wording::setslot_may_succeed_later(error));
        if attempt == retries || !refusals.iter().all(lags) {
            return Err(format!("{node}: {first}"));
        }
        tokio::time::sleep(STALL_PAUSE * (1 << attempt)).await;
    }
    unreachable!("the last attempt returns")
}

/// Clears the flags of `slots` on a node.
///
/// # Errors
/// The first refusal, in words.
pub async fn close(node: &Address, slots: &[SlotId], context: &Context) -> Result<(), String> {
    setslot(&*context.cluster, node, &stable(slots), MOST_RETRIES).await
}

/// The same, said once: for who looks again before he repeats himself.
///
/// # Errors
/// The first refusal, in words.
pub async fn close_once(node: &Address, slots: &[SlotId], context: &Context) -> Result<(), String> {
    setslot(&*context.cluster, node, &stable(slots), 0).await
}

fn stable(slots: &[SlotId]) -> Vec<Command> {
    slots.iter().map(|slot| wording::stable(*slot)).collect()
}

/// Sets `slots` importing on a node, from `source`.
///
/// # Errors
/// The first refusal, in words.
pub async fn import_from(node: &Address, slots: &[SlotId], source: &NodeId, context: &Context) -> Result<(), String> {
    let commands: Vec<Command> = slots.iter().map(|slot| wording::importing(*slot, source)).collect();
    setslot(&*context.cluster, node, &commands, MOST_RETRIES).await
}

/// Finds out which of `slots` hold keys on a node that hides those of slots that it neither owns nor imports (Redis from
/// 8.4 on): all are set importing from `other` for a moment, and those with keys stay so.
///
/// # Errors
/// What kept it from going on, in words.
pub async fn unhide(node: &Address, slots: &[SlotId], other: &NodeId, context: &Context) -> Result<SlotSet, String> {
    let mut found = Vec::new();
    for part in slots.chunks(SLOTS_AT_ONCE) {
        let counted = CountKeysInSlots { slots: part.iter().copied().collect(), db: 0 };
        let counts = async {
            import_from(node, part, other, context).await?;
            question(&*context.cluster, node, &counted).await
        };
        let counts = match counts.await {
            Ok(counts) => counts,
            Err(why) => {
                // Some may stand open now that nobody means to move.
                drop(close(node, part, context).await);
                return Err(why);
            }
        };
        let (empty, held): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(_, keys)| *keys == 0);
        found.extend(held.into_iter().map(|(slot, _)| slot));
        close(node, &empty.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>(), context).await?;
    }
    Ok(found.into_iter().collect())
}

/// A server saves its cluster file once per pipeline; a second of flags is the most that a crash leaves to close.
const SLOTS_AT_ONCE: usize = 1000;
