//! Servers driven with the least that has to be said to them: all sources at once, nothing checked.

use std::time::{Duration, Instant};

use ballast::cluster::{Command, Reply};
use ballast::lab::{LocalCluster, Node};
use ballast::model::{SlotId, SlotSet};

use super::{Step, say};

/// `SETSLOT`, `MIGRATE` and `SETSLOT` again, a hundred slots in a pipeline, each source by itself.
pub(crate) async fn classic(cluster: &LocalCluster, steps: &[Step]) -> Duration {
    let begun = Instant::now();
    let moves = steps.iter().map(|step| async move {
        let (source, target) = (&cluster.nodes[step.source], &cluster.nodes[step.target]);
        let (from, to) = (source.server.link().await.unwrap(), target.server.link().await.unwrap());
        let slots: Vec<SlotId> = step.slots.iter().collect();
        let setslot =
            |slot: &SlotId, word: &str, node: &Node| Command::new("CLUSTER SETSLOT").arg(slot).arg(word).arg(&node.id);
        for part in slots.chunks(100) {
            say(&to, &part.iter().map(|slot| setslot(slot, "IMPORTING", source)).collect::<Vec<_>>()).await;
            say(&from, &part.iter().map(|slot| setslot(slot, "MIGRATING", target)).collect::<Vec<_>>()).await;
            let mut left: Vec<SlotId> = part.to_vec();
            while !left.is_empty() {
                let ask = |slot: &SlotId| Command::new("CLUSTER GETKEYSINSLOT").arg(slot).arg(1000);
                let keys = say(&from, &left.iter().map(ask).collect::<Vec<_>>()).await;
                let keys: Vec<Vec<Reply>> = keys.into_iter().map(|keys| keys.list().unwrap()).collect();
                let migrate = |keys: &Vec<Reply>| {
                    let address = target.server.address();
                    let head = Command::new("MIGRATE").arg(address.host).arg(address.port).bytes(Vec::new());
                    let head = head.arg(0).arg(10_000).arg("KEYS");
                    keys.iter().fold(head, |command, key| command.bytes(key.clone().bytes().unwrap()))
                };
                let some: Vec<Command> = keys.iter().filter(|keys| !keys.is_empty()).map(migrate).collect();
                if !some.is_empty() {
                    say(&from, &some).await;
                }
                let full = left.iter().zip(&keys).filter(|(_, keys)| keys.len() == 1000);
                left = full.map(|(slot, _)| *slot).collect();
            }
            for link in [&to, &from] {
                say(link, &part.iter().map(|slot| setslot(slot, "NODE", target)).collect::<Vec<_>>()).await;
            }
        }
    });
    futures_util::future::join_all(moves).await;
    begun.elapsed()
}

pub(crate) fn with_ranges(head: &'static str, slots: &SlotSet) -> Command {
    slots.ranges().into_iter().fold(Command::new(head), |command, (start, end)| command.arg(start).arg(end))
}

/// `CLUSTER MIGRATESLOTS` at every source at once, all of its slots in one job for each target.
pub(crate) async fn atomic(cluster: &LocalCluster, steps: &[Step]) -> Duration {
    let begun = Instant::now();
    for step in steps {
        let command = with_ranges("CLUSTER MIGRATESLOTS SLOTSRANGE", &step.slots);
        let target = &cluster.nodes[step.target].id;
        cluster.nodes[step.source].server.call(command.arg("NODE").arg(target)).await.unwrap();
    }
    for step in steps {
        wait_for(cluster, step).await;
    }
    begun.elapsed()
}

/// `CLUSTER MIGRATION IMPORT` at the target, one task after another: a node has one at a time.
pub(crate) async fn import(cluster: &LocalCluster, steps: &[Step]) -> Duration {
    let begun = Instant::now();
    for step in steps {
        let command = with_ranges("CLUSTER MIGRATION IMPORT", &step.slots);
        // The one before may still wind down at the target.
        while cluster.nodes[step.target].server.call(command.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        wait_for(cluster, step).await;
    }
    begun.elapsed()
}

pub(crate) async fn wait_for(cluster: &LocalCluster, step: &Step) {
    let target = &cluster.nodes[step.target];
    loop {
        let seen = target.view().await.unwrap().into_iter().find(|seen| seen.id == target.id).unwrap();
        if step.slots.iter().all(|slot| seen.slots.contains(slot)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
