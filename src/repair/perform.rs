//! Carries out one repair.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Repair;
use crate::cluster::question::{AtomicProtocol, ClusterNodes};
use crate::cluster::{Command, Lane, Reply, ask};
use crate::examine::{Audit, Evidence, Party, listen};
use crate::migration::{self, Adoption, Context, Double, Ends};
use crate::model::{Address, NodeRecord, SlotId, SlotSet};
use crate::telemetry::chain;

/// What a repair came to.
#[derive(Debug, Clone, Default)]
pub struct Performed {
    /// What was done, in words.
    pub done: String,
    /// Slots that it could not mend, and why.
    pub left: Vec<(SlotId, String)>,
    /// Keys with different values on two nodes: the one that is astray, and the owner.
    pub different: Vec<(Double, Party, Party)>,
}

/// One command is answered within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nodes get to tell each other who owns a slot now: gossip takes about a second.
const CONVERGENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

/// Carries out one repair, which `evidence` still asks for.
///
/// # Errors
/// What kept it from being done, in words. The cluster is as it was, or nearer to its mending; doing it again goes on.
pub async fn perform(repair: &Repair, evidence: &Evidence, context: &Context) -> Result<Performed, String> {
    let mut performed = Performed::default();
    match repair {
        Repair::Cancel { node, jobs, protocol, .. } => {
            let commands: Vec<Command> = match protocol {
                AtomicProtocol::ValkeyMigrateSlots => vec![Command::new("CLUSTER CANCELSLOTMIGRATIONS")],
                AtomicProtocol::RedisMigrationImport => {
                    jobs.iter().map(|job| Command::new("CLUSTER MIGRATION CANCEL ID").arg(job)).collect()
                }
            };
            say(address(node)?, &commands, context).await?;
            performed.done = format!("cancelled {}", jobs.join(", "));
        }
        Repair::RaiseEpoch { node, .. } => {
            let replies = say(address(node)?, &[Command::new("CLUSTER BUMPEPOCH")], context).await?;
            performed.done = replies.into_iter().next().and_then(|reply| reply.text().ok()).unwrap_or_default();
            converge(evidence, &SlotSet::default(), context).await?;
        }
        Repair::Assign { slots, node, .. } => {
            give(slots, node, evidence, context).await?;
            converge(evidence, slots, context).await?;
            performed.done = format!("{} slots have an owner", slots.len());
        }
        Repair::Close { slots, node, .. } => {
            migration::close(address(node)?, &slots.iter().collect::<Vec<_>>(), context).await?;
            performed.done = format!("{} flags cleared", slots.len());
        }
        Repair::Finish { slots, source, target } => {
            listen_again(target, source, slots, evidence, context).await?;
            // Others that import the slots are not in the way while their flags name the source; their keys come home later.
            for third in evidence.primaries().filter(|node| ![&source.id, &target.id].contains(&&node.itself().id)) {
                let itself = third.itself();
                let imports = |slot: &SlotId| itself.open.iter().any(|open| open.slot == *slot);
                let imported: Vec<SlotId> = slots.iter().filter(imports).collect();
                migration::import_from(&itself.address, &imported, &source.id, context).await?;
            }
            let adoption = adoption(slots, source, target, evidence)?;
            let adopted =
                migration::adopt(&adoption, &seeds(evidence), context).await.map_err(|error| chain(&error))?;
            performed.done = format!("{} slots moved, {} equal copies dropped", adopted.moved.len(), adopted.dropped);
            performed.left = adopted.left;
            let pair = |double| (double, target.clone(), source.clone());
            performed.different = adopted.different.into_iter().map(pair).collect();
        }
        Repair::Unhide { node } => {
            let node_told = evidence.nodes.get(&node.id).ok_or("it does not answer")?;
            let other = evidence.primaries().map(|other| &other.itself().id).find(|id| **id != node.id);
            let other = other.ok_or("there is no other primary")?;
            let itself = node_told.itself();
            let in_jobs = evidence.in_jobs();
            let free = |slot: &SlotId| {
                !itself.slots.contains(*slot)
                    && itself.open.iter().all(|open| open.slot != *slot)
                    && !in_jobs.contains(*slot)
            };
            let slots: Vec<SlotId> = SlotId::all().filter(free).collect();
            let found = migration::unhide(address(node)?, &slots, other, context).await?.len();
            performed.done = format!("{found} slots hold such keys; they are importing there now");
        }
        Repair::BringHome { slots, from, to } => {
            let open = evidence.nodes.get(&from.id).map(|node| &node.itself().open);
            let flagged: Vec<SlotId> = open.into_iter().flatten().map(|open| open.slot).collect();
            listen_again(from, to, slots, evidence, context).await?;
            let slots: Vec<SlotId> = slots.iter().collect();
            let came = migration::bring_home(&ends(from, to, evidence)?, &slots, &flagged, context).await?;
            performed.done = format!("{} keys moved to {to}, {} equal copies dropped", came.moved, came.dropped);
            performed.different = came.different.into_iter().map(|double| (double, from.clone(), to.clone())).collect();
        }
    }
    Ok(performed)
}

fn address(party: &Party) -> Result<&Address, String> {
    party.address.as_ref().ok_or_else(|| format!("{party} has no address"))
}

fn seeds(evidence: &Evidence) -> Vec<Address> {
    evidence.nodes.values().map(|node| node.itself().address.clone()).collect()
}

/// Says commands to a node; the first refusal is an error.
async fn say(node: &Address, commands: &[Command], context: &Context) -> Result<Vec<Reply>, String> {
    let replies =
        context.cluster.call(node, Lane::Control, commands, PATIENCE).await.map_err(|error| error.to_string())?;
    replies.into_iter().map(|reply| reply.ok().map_err(|error| format!("{node}: {error}"))).collect()
}

/// Where the keys on `stray` belong: to `owner`.
fn ends(stray: &Party, owner: &Party, evidence: &Evidence) -> Result<Ends, String> {
    let told = evidence.nodes.get(&stray.id).ok_or_else(|| format!("{stray} does not answer"))?;
    let at_owner = evidence.nodes.get(&owner.id).ok_or_else(|| format!("{owner} does not answer"))?;
    let seen = told.view.story.iter().find(|record| record.id == owner.id);
    let databases = told.databases.zip(at_owner.databases).map(|(one, other)| one.max(other));
    Ok(Ends {
        stray: address(stray)?.clone(),
        owner: address(owner)?.clone(),
        owner_id: owner.id.clone(),
        owner_from_stray: seen.ok_or_else(|| format!("{stray} does not know {owner}"))?.address.clone(),
        databases: databases
            .ok_or("how many databases there are is not known: allow 'CONFIG GET' and 'COMMAND INFO'")?,
    })
}

fn adoption(slots: &SlotSet, source: &Party, target: &Party, evidence: &Evidence) -> Result<Adoption, String> {
    Ok(Adoption {
        source: source.id.clone(),
        target: target.id.clone(),
        source_shard: evidence.shard(&source.id),
        target_shard: evidence.shard(&target.id),
        slots: slots.clone(),
        ends: ends(target, source, evidence)?,
    })
}

async fn give(slots: &SlotSet, node: &Party, evidence: &Evidence, context: &Context) -> Result<(), String> {
    let told = evidence.nodes.get(&node.id).ok_or("it does not answer")?;
    // A node does not take a slot that it believes another to own.
    let taken = |slot: &SlotId| told.view.story.iter().any(|record| record.slots.contains(*slot));
    let with =
        |words: &str, slots: &[SlotId]| slots.iter().fold(Command::new(words), |command, slot| command.arg(*slot));
    let all: Vec<SlotId> = slots.iter().collect();
    let busy: Vec<SlotId> = all.iter().copied().filter(taken).collect();
    let mut commands = Vec::new();
    if !busy.is_empty() {
        commands.push(with("CLUSTER DELSLOTS", &busy));
    }
    commands.push(with("CLUSTER ADDSLOTS", &all));
    commands.push(Command::new("CLUSTER BUMPEPOCH"));
    say(address(node)?, &commands, context).await.map(drop)
}

/// Makes an importing node learn who owns `slots`. Redis does not change the owner of a slot that is importing: after a
/// failover of the source the target knows none, and says CLUSTERDOWN to everybody, us included. Closed, it hears of it.
async fn listen_again(
    node: &Party,
    owner: &Party,
    slots: &SlotSet,
    evidence: &Evidence,
    context: &Context,
) -> Result<(), String> {
    let story = evidence.nodes.get(&node.id).map(|node| &node.view.story).ok_or("it does not answer")?;
    let knows = |records: &[NodeRecord], slot: SlotId| {
        records.iter().any(|record| record.id == owner.id && record.slots.contains(slot))
    };
    let deaf: Vec<SlotId> = slots.iter().filter(|slot| !knows(story, *slot)).collect();
    if deaf.is_empty() {
        return Ok(());
    }
    let address = address(node)?;
    migration::close(address, &deaf, context).await?;
    let deadline = Instant::now() + CONVERGENCE;
    loop {
        let records = ask(&*context.cluster, address, &ClusterNodes::of(address), PATIENCE).await;
        let records = records.map_err(|error| chain(&error))?;
        let info = say(address, &[Command::new("CLUSTER INFO")], context).await?.pop().unwrap_or(Reply::Nil);
        let serves = info.text().is_ok_and(|text| text.contains("cluster_state:ok"));
        let missing = deaf.iter().find(|slot| !knows(&records, **slot));
        match missing {
            None if serves => return Ok(()),
            _ if Instant::now() >= deadline => {
                return Err(format!("{node} did not learn within {} s that {owner} owns slots", CONVERGENCE.as_secs()));
            }
            _ => sleep(PAUSE).await,
        }
    }
}

/// Waits until all agree about `slots`, and nothing is contested.
async fn converge(evidence: &Evidence, slots: &SlotSet, context: &Context) -> Result<(), String> {
    let deadline = Instant::now() + CONVERGENCE;
    loop {
        let seen =
            listen(&*context.cluster, &seeds(evidence), &Audit::OpenSlots).await.map_err(|error| chain(&error))?;
        let doubtful = slots.iter().find(|slot| seen.claim(*slot).agreed().is_none());
        match doubtful {
            None => return Ok(()),
            Some(slot) if Instant::now() >= deadline => {
                return Err(format!("not all nodes agree about slot {slot} after {} s", CONVERGENCE.as_secs()));
            }
            Some(_) => sleep(PAUSE).await,
        }
    }
}
