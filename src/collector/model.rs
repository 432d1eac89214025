//! What the nodes of a model cluster would answer: the same values that `ask` makes of servers' replies, and from there on
//! the same arithmetic.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::agree::{Silent, Story, View};
use super::ask::{Answer, SlotReading, Told};
use super::observe::Observer;
use super::settings::Marks;
use crate::cluster::capability::{Capabilities, Server, ServerKind, SlotStatsState, Version};
use crate::cluster::question::{AtomicProtocol, ServerInfo};
use crate::model::{Address, NodeRecord, SlotId, Snapshot};

/// A primary of a model cluster, as it would answer. Counters count since its start.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelNode {
    /// Itself, as in `CLUSTER NODES`.
    pub record: NodeRecord,
    /// Changes with each start.
    pub run: String,
    /// Main thread, microseconds.
    pub cpu_usec: f64,
    /// Commands processed.
    pub commands: f64,
    /// Bytes received.
    pub net_in: f64,
    /// Bytes sent.
    pub net_out: f64,
    /// Bytes of memory in use.
    pub memory: f64,
    /// `maxmemory`, in bytes; 0 is none.
    pub memory_max: u64,
    /// Replicas in sync.
    pub replicas: u32,
    /// Round trip of a probe.
    pub probe: Duration,
    /// The slots that it owns.
    pub slots: Vec<ModelSlot>,
}

/// One slot of a model node, counted by its owner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelSlot {
    /// Which.
    pub slot: SlotId,
    /// How many keys.
    pub keys: f64,
    /// Bytes of them.
    pub bytes: f64,
    /// Cpu microseconds, bytes in, bytes out.
    pub counters: [f64; 3],
}

impl Observer {
    /// Looks at a model cluster at `at_ms` of its own clock, which also counts as Unix time. `records` are all members as
    /// everybody sees them, by id; `silent` are those that do not answer, and why.
    pub fn see_model(
        &mut self,
        nodes: Vec<ModelNode>,
        records: Vec<NodeRecord>,
        silent: &BTreeMap<Address, String>,
        marks: &Marks,
        at_ms: u64,
    ) -> Snapshot {
        let story: Story = records.into();
        let silent: &Silent = silent;
        let answers = nodes.into_iter().filter(|node| !silent.contains_key(&node.record.address));
        let answers = answers.map(|node| (node.record.id.clone(), answer(node, &story, at_ms)));
        self.see(&answers.collect(), silent, marks, at_ms)
    }
}

fn answer(node: ModelNode, story: &Story, at_ms: u64) -> Answer {
    let info = ServerInfo::parse(&info(&node));
    let reading = |slot: &ModelSlot| SlotReading {
        slot: slot.slot,
        at_ms,
        keys: slot.keys as u64,
        counters: Some(slot.counters),
        memory: Some(slot.bytes as u64),
    };
    let told = Told {
        capabilities: capabilities(),
        probe: node.probe,
        jobs: Vec::new(),
        slots: node.slots.iter().map(reading).collect(),
        samples: Vec::new(),
        view: View { myself: NodeRecord { myself: true, ..node.record.clone() }, story: story.clone() },
    };
    Answer { node: node.record.address, at_ms, took: Duration::ZERO, info, told: Some(told) }
}

/// A server that counts everything: what a policy sees is then noise and delay, and no estimate.
fn capabilities() -> Capabilities {
    Capabilities {
        server: Server { kind: ServerKind::Valkey, version: Version(9, 1, 0) },
        slot_stats: SlotStatsState::On,
        slot_memory: true,
        atomic: Some(AtomicProtocol::ValkeyMigrateSlots),
        databases: Some(1),
        atomic_defect: None,
    }
}

/// The fields of `INFO` that the collector reads.
fn info(node: &ModelNode) -> String {
    let mut text = format!(
        "redis_version:7.2.4\nserver_name:valkey\nvalkey_version:9.1.0\nrun_id:{}\nrole:master\nused_memory:{:.0}\n\
         maxmemory:{}\nused_cpu_sys_main_thread:0\nused_cpu_user_main_thread:{:.6}\ntotal_commands_processed:{:.0}\n\
         total_net_input_bytes:{:.0}\ntotal_net_output_bytes:{:.0}\nmaster_repl_offset:0\n",
        node.run,
        node.memory,
        node.memory_max,
        node.cpu_usec / 1e6,
        node.commands,
        node.net_in,
        node.net_out,
    );
    for number in 0..node.replicas {
        let _ = writeln!(text, "slave{number}:state=online,offset=0,lag=0");
    }
    text
}
