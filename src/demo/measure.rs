//! What the servers themselves say, asked directly and without the daemon: counters, and what they show between two looks.

use anyhow::Context;
use tokio::time::Instant;

use crate::cluster::Command;
use crate::lab::{LocalCluster, Node, Role};
use crate::model::{Address, NodeId};

use super::report::NodeFigures;

/// The commands of the load: others, such as those that collect or migrate, are no load.
const COMMANDS: [&str; 11] =
    ["get", "set", "hgetall", "hset", "lrange", "lset", "smembers", "sadd", "srem", "zrange", "zadd"];

const SCRIPT: &str = "eval";

/// One look at all primaries.
#[derive(Debug)]
pub(super) struct Look {
    at: Instant,
    primaries: Vec<Primary>,
}

#[derive(Debug)]
struct Primary {
    id: NodeId,
    address: Address,
    slots: usize,
    keys: u64,
    bytes: u64,
    /// Calls of the load's commands since the server started.
    calls: u64,
    /// Microseconds that they took.
    usec: u64,
}

impl Look {
    pub(super) async fn take(cluster: &LocalCluster) -> anyhow::Result<Self> {
        let view = cluster.view().await?;
        let primaries = view.iter().filter(|node| node.role == Role::Primary);
        let mut look = Self { at: Instant::now(), primaries: Vec::new() };
        for primary in primaries {
            let node = cluster.nodes.iter().find(|node| node.id == primary.id);
            let node = node.with_context(|| format!("{} is none of our nodes", primary.address))?;
            look.primaries.push(Primary::look(node, primary.slots.len()).await?);
        }
        look.primaries.sort_by_key(|primary| cluster.nodes.iter().position(|node| node.id == primary.id));
        Ok(look)
    }

    /// How many slots each primary has, by id.
    pub(super) fn slots_of(&self, id: &NodeId) -> usize {
        self.primaries.iter().find(|primary| primary.id == *id).map_or(0, |primary| primary.slots)
    }

    /// What this look shows, with rates since an earlier one.
    pub(super) fn figures_since(&self, earlier: &Self) -> Vec<NodeFigures> {
        let seconds = (self.at - earlier.at).as_secs_f64().max(f64::EPSILON);
        let figures = |now: &Primary| {
            let before = earlier.primaries.iter().find(|primary| primary.id == now.id);
            let since =
                |count: fn(&Primary) -> u64| count(now).saturating_sub(before.map_or(0, count)) as f64 / seconds;
            NodeFigures {
                node: now.address.clone(),
                slots: now.slots,
                keys: now.keys,
                bytes: now.bytes,
                cpu: since(|primary| primary.usec) / 1e6,
                ops: since(|primary| primary.calls),
            }
        };
        self.primaries.iter().map(figures).collect()
    }
}

impl Primary {
    async fn look(node: &Node, slots: usize) -> anyhow::Result<Self> {
        let info = node.server.text(Command::new("INFO everything")).await?;
        let size = node.server.call(Command::new("DBSIZE")).await?.int()?;
        let (calls, usec) = command_totals(&info);
        Ok(Self {
            id: node.id.clone(),
            address: node.server.address(),
            slots,
            keys: u64::try_from(size)?,
            bytes: info
                .lines()
                .find_map(|line| line.strip_prefix("used_memory_dataset:"))
                .unwrap_or("0")
                .trim()
                .parse()?,
            calls,
            usec,
        })
    }
}

/// Calls and microseconds of the load's commands, from lines like `cmdstat_get:calls=7,usec=11,usec_per_call=1.57`.
fn command_totals(info: &str) -> (u64, u64) {
    let mut totals = (0, 0);
    for (name, fields) in info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':')) {
        // What a script calls counts as a call of its own, so that the script itself is none.
        if COMMANDS.contains(&name) || name == SCRIPT {
            let field = |name: &str| {
                let value = fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
            };
            totals.0 += if name == SCRIPT { 0 } else { field("calls") };
            totals.1 += field("usec");
        }
    }
    totals
}

/// The largest share of cpu ÷ the mean, over all primaries; 1 is even.
pub(super) fn imbalance(figures: &[NodeFigures]) -> f64 {
    let total: f64 = figures.iter().map(|node| node.cpu).sum();
    let largest = figures.iter().map(|node| node.cpu).fold(0.0, f64::max);
    if total > 0.0 { largest * figures.len() as f64 / total } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_commands_of_the_load_count() {
        let info = "# Commandstats\r\ncmdstat_get:calls=7,usec=11,usec_per_call=1.57,rejected_calls=0\r\n\
                    cmdstat_hgetall:calls=3,usec=90,usec_per_call=30\r\ncmdstat_info:calls=1,usec=500\r\n";
        assert_eq!(command_totals(info), (10, 101));
    }

    #[test]
    fn imbalance_is_the_largest_share_by_the_mean() {
        let node = |cpu| NodeFigures { node: Address::new("h", 1), slots: 0, keys: 0, bytes: 0, cpu, ops: 0.0 };
        assert!((imbalance(&[node(0.3), node(0.1), node(0.2)]) - 1.5).abs() < 1e-9);
        assert!((imbalance(&[node(0.0)]) - 1.0).abs() < 1e-9);
    }
}
