//! Asks every node. The only part of an examination that speaks, and it says nothing but questions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::evidence::{Evidence, Held, Testimony};
use crate::clock::now_ms;
use crate::cluster::capability::{Abilities, Capabilities, ServerKind, Version};
use crate::cluster::question::{
    AtomicJobs, AtomicProtocol, ClusterNodes, CountKeysInSlots, Info, KeysExist, KeysInSlot, ServerInfo, SlotStats,
};
use crate::cluster::{AskError, Cluster, Command, Question, Reply, ReplyError, ask};
use crate::collector::agree::{Silent, Story, View};
use crate::model::{Address, LinkState, SlotId, SlotSet};
use crate::telemetry::chain;

/// Which slots a primary is asked about that it does not own. Open slots are always among them.
#[derive(Debug, Clone, PartialEq)]
pub enum Audit {
    /// All of them: some hundred milliseconds per primary and database with keys.
    Everything,
    /// These.
    Slots(SlotSet),
    /// None.
    OpenSlots,
}

/// There is nobody to examine.
#[derive(Debug, thiserror::Error)]
#[error("no node answered: {}", reasons.join("; "))]
pub struct ExamineError {
    /// What each of those asked said, or why it said nothing.
    pub reasons: Vec<String>,
}

/// One question, however large, is answered within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nodes asked at the same time.
const CONCURRENCY: usize = 32;
/// Rounds of asking: members lead to members.
const ROUNDS: usize = 4;
/// Commands in one pipeline. A count takes the server about a microsecond, and it serves nobody in between.
const CHUNK: usize = 1000;
/// Of how many slots with stray keys some are looked at, and at how many.
const SAMPLED_SLOTS: usize = 100;
const SAMPLED_KEYS: u32 = 10;
/// A server deletes what has left it in the background: counts that fall are looked at again, for so long at most.
const TRIM_PAUSE: Duration = Duration::from_millis(200);
const TRIM_LOOKS: usize = 10;

/// Asks every node that `seeds` lead to. Nothing is changed.
///
/// # Errors
/// [`ExamineError`] when none answers.
pub async fn listen(cluster: &dyn Cluster, seeds: &[Address], audit: &Audit) -> Result<Evidence, ExamineError> {
    let (mut nodes, silent) = introduce(cluster, seeds).await;
    if nodes.is_empty() {
        return Err(ExamineError { reasons: silent.into_iter().map(|(node, why)| format!("{node}: {why}")).collect() });
    }
    let open: SlotSet = nodes.iter().flat_map(|node| &node.itself().open).map(|open| open.slot).collect();
    // Made before they are waited for: a future that holds the closures could not go to another thread.
    let audits: Vec<_> =
        nodes.iter_mut().filter(|node| node.is_primary()).map(|node| count(cluster, node, audit, &open)).collect();
    stream::iter(audits).buffer_unordered(CONCURRENCY).collect::<Vec<()>>().await;
    let mut evidence = Evidence::new(nodes, silent, now_ms());
    compare_with_owners(cluster, &mut evidence).await;
    Ok(evidence)
}

/// Who everybody is.
async fn introduce(cluster: &dyn Cluster, seeds: &[Address]) -> (Vec<Testimony>, Silent) {
    let mut nodes: BTreeMap<_, Testimony> = BTreeMap::new();
    let mut silent = Silent::new();
    let mut stories: Vec<Story> = Vec::new();
    let mut asked: BTreeSet<Address> = BTreeSet::new();
    let mut next: BTreeSet<Address> = seeds.iter().cloned().collect();
    for _ in 0..ROUNDS {
        asked.extend(next.iter().cloned());
        let answers = stream::iter(std::mem::take(&mut next)).map(|node| async move {
            let answer = meet(cluster, &node).await;
            (node, answer)
        });
        for (node, answer) in answers.buffer_unordered(CONCURRENCY).collect::<Vec<_>>().await {
            match answer {
                Ok(mut told) => {
                    told.view.share(&mut stories);
                    // One node may be known by several addresses.
                    nodes.entry(told.itself().id.clone()).or_insert(told);
                }
                Err(reason) => drop(silent.insert(node, reason)),
            }
        }
        let known = stories.iter().flat_map(|story| story.iter());
        let unasked = known.filter(|record| record.state != LinkState::Unknown && !nodes.contains_key(&record.id));
        next = unasked.map(|record| record.address.clone()).filter(|address| !asked.contains(address)).collect();
        if next.is_empty() {
            break;
        }
    }
    (nodes.into_values().collect(), silent)
}

/// What a node says of itself and of the others; the text of an error says why it counts as silent.
async fn meet(cluster: &dyn Cluster, node: &Address) -> Result<Testimony, String> {
    let told = |error: AskError| chain(&error);
    let info = ask(cluster, node, &Info, PATIENCE).await.map_err(told)?;
    if info.is_loading() {
        return Err("it is still loading its data set".to_owned());
    }
    let records = ask(cluster, node, &ClusterNodes::of(node), PATIENCE).await.map_err(told)?;
    let view = View::new(records).ok_or("it does not list itself")?;
    let mut untold = Vec::new();
    let can = ask(cluster, node, &Abilities, PATIENCE).await.map_err(told);
    let can = can.map_err(|error| untold.push(error)).ok();
    let atomic = can.as_ref().and_then(|can| can.atomic);
    let jobs = match atomic {
        Some(protocol) => ask(cluster, node, &AtomicJobs { protocol }, PATIENCE).await.map_err(told),
        None => Ok(Vec::new()),
    };
    let jobs = jobs.map_err(|error| untold.push(error)).unwrap_or_default();
    Ok(Testimony {
        view,
        run_id: info.run_id().unwrap_or_default().to_owned(),
        link_up: info.is_primary() || info.primary_link_up(),
        held: Vec::new(),
        hidden: 0,
        replicates_setslot: replicates_setslot(&info),
        databases: can.as_ref().and_then(|can: &Capabilities| can.databases),
        atomic,
        jobs: jobs.into_iter().filter(|job| !job.finished).collect(),
        untold,
    })
}

fn replicates_setslot(info: &ServerInfo) -> bool {
    info.server().is_some_and(|server| server.kind == ServerKind::Valkey && server.version >= Version(8, 0, 0))
}

/// Counts a primary's keys in slots that it does not own, and in those that are open.
async fn count(cluster: &dyn Cluster, node: &mut Testimony, audit: &Audit, open: &SlotSet) {
    let address = node.itself().address.clone();
    let owned = node.itself().slots.clone();
    let slots: SlotSet = match audit {
        Audit::Everything => SlotId::all().filter(|slot| !owned.contains(*slot) || open.contains(*slot)).collect(),
        Audit::Slots(slots) => slots.iter().chain(open.iter()).collect(),
        Audit::OpenSlots => open.clone(),
    };
    let outcome = async {
        let mut held = held(cluster, &address, &slots).await?;
        // What is being deleted in the background is on its way out, and what has just come with its slot is at home.
        for _ in 0..TRIM_LOOKS {
            let astray: SlotSet = held
                .iter()
                .map(|held| held.slot)
                .filter(|slot| !owned.contains(*slot) && !open.contains(*slot))
                .collect();
            if astray.is_empty() {
                break;
            }
            tokio::time::sleep(TRIM_PAUSE).await;
            let records = ask(cluster, &address, &ClusterNodes::of(&address), PATIENCE).await?;
            let now_owned = records.into_iter().find(|record| record.myself).map(|record| record.slots);
            let came = |slot: SlotId| now_owned.as_ref().is_some_and(|slots| slots.contains(slot));
            let before = sum(held.iter().filter(|held| astray.contains(held.slot)));
            held.retain(|held| !astray.contains(held.slot));
            let astray: SlotSet = astray.iter().filter(|slot| !came(*slot)).collect();
            let again = self::held(cluster, &address, &astray).await?;
            let falls = sum(&again) < before;
            held.extend(again);
            if !falls {
                break;
            }
        }
        // Without open slots, who skips the audit does not ask for these either.
        let asked = *audit != Audit::OpenSlots || !open.is_empty();
        let hidden = match node.atomic {
            Some(AtomicProtocol::RedisMigrationImport) if asked => {
                let importing = open.iter().filter(|slot| !owned.contains(*slot)).collect();
                hidden(cluster, &address, &importing).await?
            }
            _ => 0,
        };
        Ok::<_, AskError>((held, hidden))
    };
    match outcome.await {
        Ok((held, hidden)) => (node.held, node.hidden) = (held, hidden),
        Err(error) => node.untold.push(chain(&error)),
    }
}

fn sum<'a>(held: impl IntoIterator<Item = &'a Held>) -> u64 {
    held.into_iter().map(|held| held.keys).sum()
}

/// Keys of `slots` on a node, in each database that has any.
async fn held(cluster: &dyn Cluster, node: &Address, slots: &SlotSet) -> Result<Vec<Held>, AskError> {
    let info = ask(cluster, node, &Info, PATIENCE).await?;
    let slots: Vec<SlotId> = slots.iter().collect();
    let mut found = Vec::new();
    for (database, _) in info.keyspace() {
        for chunk in slots.chunks(CHUNK) {
            let question = CountKeysInSlots { slots: chunk.iter().copied().collect(), db: database };
            let counts = ask(cluster, node, &question, PATIENCE).await?;
            found.extend(counts.into_iter().filter(|(_, keys)| *keys > 0).map(|(slot, keys)| Held {
                slot,
                database,
                keys,
                sampled: 0,
                doubled: 0,
                example: None,
            }));
        }
    }
    Ok(found)
}

/// Keys of a node that runs Redis 8.4 or later in slots that it neither owns nor imports: there `COUNTKEYSINSLOT` says 0,
/// while `DBSIZE` counts them.
async fn hidden(cluster: &dyn Cluster, node: &Address, importing: &SlotSet) -> Result<u64, AskError> {
    let question = Hidden { importing: importing.clone() };
    let mut hidden = ask(cluster, node, &question, PATIENCE).await?;
    for _ in 0..TRIM_LOOKS {
        if hidden == 0 {
            break;
        }
        tokio::time::sleep(TRIM_PAUSE).await;
        let again = ask(cluster, node, &question, PATIENCE).await?;
        let falls = again < hidden;
        hidden = again;
        if !falls {
            break;
        }
    }
    Ok(hidden)
}

/// All keys, less those in slots that show theirs; at one instant, or a client's writes in between would be counted.
struct Hidden {
    importing: SlotSet,
}

impl Question for Hidden {
    type Answer = u64;

    fn commands(&self) -> Vec<Command> {
        let mut commands = vec![Command::new("MULTI"), Command::new("DBSIZE")];
        commands.extend(SlotStats::all().commands());
        commands.extend(CountKeysInSlots { slots: self.importing.clone(), db: 0 }.commands());
        commands.push(Command::new("EXEC"));
        commands
    }

    fn read(&self, mut replies: Vec<Reply>) -> Result<u64, ReplyError> {
        let mut told = replies.pop().unwrap_or(Reply::Nil).list()?.into_iter();
        let mut next = || told.next().unwrap_or(Reply::Nil);
        let all = next().int()?;
        let shown: u64 = SlotStats::all().read(vec![next()])?.iter().map(|stat| stat.keys).sum();
        let importing = CountKeysInSlots { slots: self.importing.clone(), db: 0 }.read(told.collect())?;
        let importing: u64 = importing.iter().map(|(_, keys)| keys).sum();
        Ok(u64::try_from(all).unwrap_or(0).saturating_sub(shown + importing))
    }
}

/// Looks whether the owners of slots with stray keys have the same keys too: some of them.
async fn compare_with_owners(cluster: &dyn Cluster, evidence: &mut Evidence) {
    let mut wanted = Vec::new();
    for node in evidence.primaries() {
        let astray = node.held.iter().enumerate().filter(|(_, held)| !node.itself().slots.contains(held.slot));
        for (place, held) in astray.take(SAMPLED_SLOTS) {
            let owner = evidence.claim(held.slot).agreed().and_then(|owner| evidence.nodes.get(owner));
            let owner = owner.map(|owner| owner.itself().address.clone());
            let question = KeysInSlot { slot: held.slot, count: SAMPLED_KEYS, db: held.database };
            wanted.push((node.itself().id.clone(), node.itself().address.clone(), place, owner, question));
        }
    }
    for (id, address, place, owner, question) in wanted {
        let Ok(keys) = ask(cluster, &address, &question, PATIENCE).await else { continue };
        let doubled = match &owner {
            Some(owner) => ask(cluster, owner, &KeysExist { keys: keys.clone(), db: question.db }, PATIENCE).await.ok(),
            None => None,
        };
        let known = doubled.as_ref().map_or(0, |_| keys.len() as u64);
        let doubled = doubled.unwrap_or_default();
        let example = keys.iter().zip(&doubled).find(|(_, doubled)| **doubled).map(|(key, _)| key).or(keys.first());
        if let Some(held) = evidence.nodes.get_mut(&id).and_then(|node| node.held.get_mut(place)) {
            held.sampled = known;
            held.doubled = doubled.iter().filter(|doubled| **doubled).count() as u64;
            held.example = example.map(|key| key.escape_ascii().to_string());
        }
    }
}
