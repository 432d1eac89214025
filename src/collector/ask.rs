//! Asks one node everything, within its patience. The only part of the collector that speaks.

use std::time::{Duration, Instant};

use super::agree::View;
use super::estimate::{self, Sample, Samples, Uses};
use super::settings::Settings;
use crate::cluster::capability::{Abilities, Capabilities, SlotStatsState};
use crate::cluster::question::{
    AtomicJobs, ClusterNodes, CountKeysInSlots, Info, JobRecord, KeyUse, KeyUses, KeysInSlot, MemoryUsage, Ping,
    ServerInfo, SlotStats, Together,
};
use crate::cluster::{AskError, Cluster, LinkError, Question, Reply, ask};
use crate::model::{Address, Role, SLOT_COUNT, SlotId, SlotSet};

/// What a node answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) node: Address,
    /// When `INFO` arrived.
    pub(super) at_ms: u64,
    /// From the first question to the last answer.
    pub(super) took: Duration,
    pub(super) info: ServerInfo,
    /// Absent while the node is loading: it tells nothing else then.
    pub(super) told: Option<Told>,
}

/// What a node that serves has told besides `INFO`.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) view: View,
    pub(super) capabilities: Capabilities,
    pub(super) probe: Duration,
    pub(super) jobs: Vec<JobRecord>,
    /// Of each slot that it owns.
    pub(super) slots: Vec<SlotReading>,
    /// `None` for a slot in which no key was found.
    pub(super) samples: Vec<(SlotId, Option<Sample>)>,
}

/// One slot as its owner counts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SlotReading {
    pub(super) slot: SlotId,
    pub(super) at_ms: u64,
    pub(super) keys: u64,
    /// Cpu microseconds, bytes in, bytes out, since the start; absent where the server does not count them.
    pub(super) counters: Option<[f64; 3]>,
    /// Bytes, where the server counts them.
    pub(super) memory: Option<u64>,
}

/// What asking needs beside the node.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) cluster: &'a dyn Cluster,
    pub(super) settings: &'a Settings,
    pub(super) samples: &'a Samples,
    /// Times are milliseconds since this.
    pub(super) epoch: Instant,
}

/// So many slots are asked for in one `SLOT-STATS`. The server formats the whole reply in one go, during which it
/// serves nobody: a quarter of a large node's slots holds it up for about a millisecond.
const SLOT_STATS_AT_ONCE: usize = 2048;

impl Asking<'_> {
    /// Asks `node`; the text of an error says why it counts as unreachable.
    pub(super) async fn node(self, node: Address) -> Result<Answer, (Address, String)> {
        let interview = Interview { asking: self, node: &node, deadline: Instant::now() + self.settings.node_patience };
        match interview.whole().await {
            Ok(answer) => Ok(answer),
            Err(error) => Err((node, reason(&error))),
        }
    }
}

/// Why a node counts as unreachable, without its name.
fn reason(error: &AskError) -> String {
    match error {
        AskError::Link(LinkError::Unreachable { detail, .. }) => format!("no connection: {detail}"),
        AskError::Link(LinkError::Refused { detail, .. }) => format!("it refused the connection: {detail}"),
        AskError::Link(LinkError::Lost { detail, .. }) => format!("no reply: {detail}"),
        AskError::Reply { command, cause, .. } => format!("{command}: {cause}"),
    }
}

/// One node being asked.
struct Interview<'a> {
    asking: Asking<'a>,
    node: &'a Address,
    deadline: Instant,
}

impl Interview<'_> {
    async fn whole(&self) -> Result<Answer, AskError> {
        let began = Instant::now();
        let info = self.ask(&Info).await?;
        let at_ms = self.now_ms();
        let told = if info.is_loading() { None } else { Some(self.rest(&info).await?) };
        Ok(Answer { node: self.node.clone(), at_ms, took: began.elapsed(), info, told })
    }

    async fn rest(&self, info: &ServerInfo) -> Result<Told, AskError> {
        // The connection exists by now, so this is a bare round trip.
        let before = Instant::now();
        self.ask(&Ping).await?;
        let probe = before.elapsed();

        let view = View::new(self.ask(&ClusterNodes::of(self.node)).await?).ok_or_else(|| AskError::Reply {
            node: self.node.clone(),
            command: "CLUSTER NODES".to_owned(),
            cause: Reply::Nil.unexpected("a line about the node itself"),
        })?;
        let capabilities = self.ask(&Abilities).await?;
        let jobs = match capabilities.atomic {
            Some(protocol) => self.ask(&AtomicJobs { protocol }).await?,
            None => Vec::new(),
        };
        let (mut slots, mut samples) = (Vec::new(), Vec::new());
        let owned = &view.myself.slots;
        if view.myself.role == Role::Primary && !owned.is_empty() {
            slots = match capabilities.slot_stats {
                SlotStatsState::Absent => self.count_keys(owned, info).await?,
                SlotStatsState::On | SlotStatsState::Off => self.slot_stats(owned).await?,
            };
            samples = self.sample(&slots, info).await?;
        }
        Ok(Told { view, capabilities, probe, jobs, slots, samples })
    }

    async fn slot_stats(&self, owned: &SlotSet) -> Result<Vec<SlotReading>, AskError> {
        let mut readings = Vec::with_capacity(owned.len());
        let slots: Vec<SlotId> = SlotId::all().collect();
        for part in slots.chunks(SLOT_STATS_AT_ONCE) {
            let (start, end) = (part[0], part[part.len() - 1]);
            if !part.iter().any(|slot| owned.contains(*slot)) {
                continue;
            }
            let stats = self.ask(&SlotStats { start, end }).await?;
            let at_ms = self.now_ms();
            readings.extend(stats.into_iter().map(|stat| {
                SlotReading {
                    slot: stat.slot,
                    at_ms,
                    keys: stat.keys,
                    counters: stat
                        .cpu_usec
                        .zip(stat.net_in)
                        .zip(stat.net_out)
                        .map(|((cpu, received), sent)| [cpu as f64, received as f64, sent as f64]),
                    memory: stat.memory,
                }
            }));
        }
        Ok(readings)
    }

    async fn count_keys(&self, owned: &SlotSet, info: &ServerInfo) -> Result<Vec<SlotReading>, AskError> {
        let mut keys = vec![0; SLOT_COUNT];
        for (db, _) in info.keyspace() {
            for (slot, count) in self.ask(&CountKeysInSlots { slots: owned.clone(), db }).await? {
                keys[slot.index()] += count;
            }
        }
        let at_ms = self.now_ms();
        let reading =
            |slot: SlotId| SlotReading { slot, at_ms, keys: keys[slot.index()], counters: None, memory: None };
        Ok(owned.iter().map(reading).collect())
    }

    /// Looks at some keys of the slots whose turn it is, where the server leaves something to guess.
    async fn sample(
        &self,
        slots: &[SlotReading],
        info: &ServerInfo,
    ) -> Result<Vec<(SlotId, Option<Sample>)>, AskError> {
        let wants_heat = slots.iter().any(|reading| reading.counters.is_none());
        if !wants_heat && slots.iter().all(|reading| reading.memory.is_some()) {
            return Ok(Vec::new());
        }
        let settings = self.asking.settings;
        let keys: Vec<(SlotId, u64)> = slots.iter().map(|reading| (reading.slot, reading.keys)).collect();
        let due = self.asking.samples.due(&keys, settings.sample_slots);
        let questions = due.iter().map(|slot| KeysInSlot { slot: *slot, count: settings.sample_keys, db: 0 });
        let Some(names) = self.if_allowed(&Together(questions.collect())).await? else {
            return Ok(Vec::new());
        };
        let keys: Vec<Vec<u8>> = names.iter().flatten().cloned().collect();
        let sizes = MemoryUsage { keys: keys.clone(), samples: settings.sample_elements };
        let Some(sizes) = self.if_allowed(&sizes).await? else {
            return Ok(Vec::new());
        };
        let heats = if wants_heat { self.heat(keys, info).await? } else { None };
        let heats = heats.unwrap_or_else(|| vec![None; sizes.len()]);

        let mut looked_at = sizes.into_iter().zip(heats);
        let samples = due.into_iter().zip(names);
        Ok(samples.map(|(slot, names)| (slot, mean(looked_at.by_ref().take(names.len())))).collect())
    }

    /// Accesses per minute of each key, as far as the server's eviction policy makes it keep track.
    async fn heat(&self, keys: Vec<Vec<u8>>, info: &ServerInfo) -> Result<Option<Vec<Option<f64>>>, AskError> {
        let what = if info.counts_uses() { KeyUse::Frequency } else { KeyUse::IdleTime };
        let uptime_minutes = info.number::<f64>("uptime_in_seconds").unwrap_or(f64::INFINITY) / 60.0;
        let heat = |found| match what {
            KeyUse::Frequency => estimate::heat_of_frequency(found, uptime_minutes),
            KeyUse::IdleTime => estimate::heat_of_idle_time(found),
        };
        let uses = self.if_allowed(&KeyUses { keys, what }).await?;
        Ok(uses.map(|uses| uses.into_iter().map(|found| found.map(heat)).collect()))
    }

    /// Asks within what is left of the patience.
    async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, AskError> {
        let answer = ask(self.asking.cluster, self.node, question, self.left()).await;
        match answer {
            // A connection that was idle while its server restarted fails at its next use. Questions change nothing,
            // so asking once more is safe; after a time-out nothing is left to ask with.
            Err(AskError::Link(LinkError::Lost { .. })) if !self.left().is_zero() => {
                ask(self.asking.cluster, self.node, question, self.left()).await
            }
            answer => answer,
        }
    }

    /// `None` where the server refuses, as managed ones and narrow ACLs do: estimates do without then.
    async fn if_allowed<Q: Question>(&self, question: &Q) -> Result<Option<Q::Answer>, AskError> {
        match self.ask(question).await {
            Ok(answer) => Ok(Some(answer)),
            Err(AskError::Reply { cause, .. }) => {
                tracing::debug!(node = %self.node, %cause, "sample refused");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.asking.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Keys that went away between being listed and being asked about do not count.
fn mean(keys: impl Iterator<Item = (Option<u64>, Option<f64>)>) -> Option<Sample> {
    let found: Vec<(f64, Option<f64>)> = keys.filter_map(|(size, heat)| Some((size? as f64, heat))).collect();
    let used: Vec<(f64, f64)> = found.iter().filter_map(|(size, heat)| Some((*size, (*heat)?))).collect();
    let uses = (!used.is_empty()).then(|| Uses {
        mean_heat: used.iter().map(|(_, heat)| heat).sum::<f64>() / used.len() as f64,
        mean_traffic: used.iter().map(|(size, heat)| size * heat).sum::<f64>() / used.len() as f64,
    });
    (!found.is_empty()).then(|| Sample {
        keys: found.len() as u64,
        mean_bytes: found.iter().map(|(size, _)| size).sum::<f64>() / found.len() as f64,
        uses,
    })
}
