//! Writing and reading keys, and what reading them proves.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::client::{Client, Trouble};
use super::keys::{Filled, KeySpace, Write};
use crate::cluster::{Command, LinkError, Reply, ReplyError};
use crate::lab::view::Role;
use crate::model::Address;

/// Keys said to the servers at once when all of them are filled or read.
const CHUNK: usize = 256;

/// Such chunks under way.
const CHUNKS: usize = 4;

/// Keys that a server returns in one step of a SCAN.
const SCAN_COUNT: usize = 1000;

/// How long such a step may take.
const SCAN_PATIENCE: Duration = Duration::from_secs(10);

/// Names of keys kept for people; the rest are only counted.
const NAMED: usize = 10;

/// What reading every key proved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Acknowledged writes whose effect was looked for: those of the load and one per filled key.
    pub checked: u64,
    /// Keys that are missing or show less than their last acknowledged version, or one that was never written.
    pub lost: u64,
    /// The first of them: name, acknowledged version, what was seen.
    pub examples: Vec<String>,
}

/// Where the keys are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Keys found on exactly one primary.
    pub single: usize,
    /// Keys found on two primaries or more.
    pub duplicated: Vec<String>,
    /// Keys found on none.
    pub missing: Vec<String>,
}

impl KeySpace {
    /// Makes every key on the cluster, many at once.
    ///
    /// # Errors
    /// What a server refused, or could not do in time.
    pub async fn fill(&self, client: &Client) -> Result<Filled, String> {
        let chunks = (0..self.len()).step_by(CHUNK).map(|start| start..(start + CHUNK).min(self.len()));
        let filled = stream::iter(chunks).map(|chunk| self.fill_chunk(client, chunk)).buffer_unordered(CHUNKS);
        let filled: Vec<Result<u64, String>> = filled.collect().await;
        let bytes = filled.into_iter().sum::<Result<u64, String>>()?;
        Ok(Filled { keys: self.len(), bytes })
    }

    async fn fill_chunk(&self, client: &Client, chunk: std::ops::Range<usize>) -> Result<u64, String> {
        let writes: Vec<_> = chunk.clone().filter_map(|number| Some((number, self.begin_write(number)?))).collect();
        let commands = |(number, write): &(usize, Write<'_>)| {
            let slot = self.slot(*number);
            self.write(*number, write.version).into_iter().map(move |command| (slot, command)).collect::<Vec<_>>()
        };
        let commands: Vec<_> = writes.iter().flat_map(commands).collect();
        let bytes = commands.iter().flat_map(|(_, command)| command.words()).map(|word| word.len() as u64).sum();
        for (slot, command, reply) in client.say_all(commands).await {
            if matches!(reply, None | Some(Reply::Error(_))) {
                client.say(slot, &command).await.map_err(|trouble| trouble.to_string())?;
            }
        }
        writes.into_iter().for_each(|(_, write)| write.acknowledge());
        Ok(bytes)
    }
}

/// Brings a key to `version`. Whether `replicas` replicas have it too: if not, an older version may come back.
pub(super) async fn write(
    client: &Client,
    keys: &KeySpace,
    key: usize,
    version: u64,
    replicas: u32,
) -> Result<bool, Trouble> {
    for command in keys.write(key, version) {
        let (_, kept) = client.say_and_wait(keys.slot(key), &command, replicas).await?;
        // What follows takes the old version away.
        if !kept {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The version of a key, or `None` when it is not there.
pub(super) async fn read(client: &Client, keys: &KeySpace, key: usize) -> Result<Option<u64>, Trouble> {
    let reply = client.say(keys.slot(key), &keys.read(key)).await?;
    Ok(keys.seen(key, reply))
}

/// Has the server reckon over a whole key; the result says nothing about versions.
pub(super) async fn digest(client: &Client, keys: &KeySpace, key: usize, declared: bool) -> Result<(), Trouble> {
    client.say(keys.slot(key), &keys.digest(key, declared)).await.map(drop)
}

/// Reads every key that was ever acknowledged. Only when no load runs: a write under way looks like an invented one.
///
/// # Errors
/// What a server refused, or could not do in time.
pub async fn verify(client: &Client, keys: &KeySpace) -> Result<Verification, String> {
    let written = (0..keys.len()).filter(|key| keys.acknowledged(*key) > 0);
    let reads = stream::iter(written).map(async |key| (key, read(client, keys, key).await)).buffer_unordered(CHUNK);
    let mut reads = std::pin::pin!(reads);
    let mut found = Verification::default();
    while let Some((key, seen)) = reads.next().await {
        let seen = seen.map_err(|trouble| trouble.to_string())?;
        let (acknowledged, sent) = (keys.acknowledged(key), keys.sent(key));
        found.checked += acknowledged;
        if seen.is_none_or(|seen| seen < acknowledged || seen > sent) {
            found.lost += 1;
            if found.examples.len() < NAMED {
                let seen = seen.map_or("nothing".to_owned(), |seen| format!("version {seen}"));
                found.examples.push(format!("{}: wrote version {acknowledged}, found {seen}", keys.name(key)));
            }
        }
    }
    Ok(found)
}

/// Looks for every key on every primary, whoever owns its slot.
///
/// # Errors
/// [`LinkError`] when a primary does not answer.
pub async fn find_duplicates(client: &Client, keys: &KeySpace) -> Result<Placement, LinkError> {
    let mut nodes_with: HashMap<String, usize> = HashMap::new();
    for node in client.view().await? {
        if node.role == Role::Primary && node.is_well() {
            for name in names_on(client, &node.address).await? {
                *nodes_with.entry(name).or_default() += 1;
            }
        }
    }
    let mut placement = Placement::default();
    for name in (0..keys.len()).map(|key| keys.name(key)) {
        match nodes_with.get(&name) {
            None => placement.missing.push(name),
            Some(1) => placement.single += 1,
            Some(_) => placement.duplicated.push(name),
        }
    }
    Ok(placement)
}

/// Every key that a node holds, whether or not it owns the slot. A set: SCAN may show a key twice.
async fn names_on(client: &Client, node: &Address) -> Result<HashSet<String>, LinkError> {
    let link = client.link(node).await?;
    let mut names = HashSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let scan = Command::new("SCAN").arg(&cursor).arg("COUNT").arg(SCAN_COUNT);
        let reply = link.call(&[scan], SCAN_PATIENCE).await?.pop().unwrap_or(Reply::Nil);
        let unreadable = |error: ReplyError| LinkError::Lost { node: node.clone(), detail: error.to_string() };
        let (next, found) = read_scan(reply).map_err(unreadable)?;
        names.extend(found);
        cursor = next;
        if cursor == "0" {
            return Ok(names);
        }
    }
}

/// The next cursor, and some keys.
fn read_scan(reply: Reply) -> Result<(String, Vec<String>), ReplyError> {
    let trouble = reply.unexpected("a cursor and keys");
    let mut parts = reply.list()?.into_iter();
    let (Some(cursor), Some(names)) = (parts.next(), parts.next()) else { return Err(trouble) };
    Ok((cursor.text()?, names.list()?.into_iter().map(Reply::text).collect::<Result<_, _>>()?))
}
