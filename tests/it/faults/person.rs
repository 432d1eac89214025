//! What a person does with slots that Ballast leaves alone, since both nodes hold a live copy of some key, or another tool
//! opened them: keeps the newer copy of each key, and closes them.

use std::collections::BTreeSet;
use std::time::Duration;

use ballast::cluster::{Command, Reply};
use ballast::lab::Node;
use ballast::model::SlotId;

use super::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(10);

/// Decides `slots`: moves them to whoever holds keys of them besides their owner, or closes them where nobody does.
pub(super) async fn decide(stage: &Stage, slots: &BTreeSet<SlotId>) {
    for slot in slots {
        let owner = stage.cluster.owner_of(*slot).await.expect("a view").expect("an owner");
        let owner = stage.cluster.nodes.iter().find(|node| node.id == owner).expect("ours");
        let mut other = None;
        for node in primaries(stage).await.into_iter().filter(|node| node.id != owner.id) {
            let count = node.server.call(Command::new("CLUSTER COUNTKEYSINSLOT").arg(*slot)).await.expect("counted");
            if count != Reply::Int(0) {
                other = Some(node);
            }
        }
        let Some(other) = other else {
            for node in primaries(stage).await {
                let stable = Command::new("CLUSTER SETSLOT").arg(*slot).arg("STABLE");
                node.server.call(stable).await.expect("closed");
            }
            continue;
        };
        // While it imports, Redis hears of no owner but the one that it knew then.
        set(other, *slot, "NODE", owner).await;
        set(other, *slot, "IMPORTING", owner).await;
        set(owner, *slot, "MIGRATING", other).await;
        for key in (0..stage.keys.len()).filter(|key| stage.keys.slot(*key) == *slot) {
            match (version_on(stage, key, owner).await, version_on(stage, key, other).await) {
                (Some(here), Some(there)) if there > here => drop_copy(stage, key, owner).await,
                (Some(_), Some(_)) => drop_copy(stage, key, other).await,
                _ => {}
            }
        }
        let address = other.server.address();
        while let keys = keys_in(owner, *slot).await
            && !keys.is_empty()
        {
            let migrate = Command::new("MIGRATE").arg(&address.host).arg(address.port).bytes("").arg(0).arg(5000);
            let migrate = keys.into_iter().fold(migrate.arg("KEYS"), Command::bytes);
            owner.server.call(migrate).await.expect("no key collides any more");
        }
        set(other, *slot, "NODE", other).await;
        set(owner, *slot, "NODE", other).await;
    }
}

/// Deletes copies of keys on primaries that do not own their slots, and counts them. The replica of a target has copies of
/// what was on its way; when it succeeds the target and the slot ends elsewhere, they are nobody's.
pub(super) async fn sweep(stage: &Stage) -> usize {
    let view = stage.cluster.view().await.expect("a view");
    let slots: BTreeSet<SlotId> = (0..stage.keys.len()).map(|key| stage.keys.slot(key)).collect();
    let mut swept = 0;
    for node in primaries(stage).await {
        for slot in &slots {
            let owner = view.iter().find(|seen| seen.slots.contains(*slot)).expect("an owner");
            let strays = if owner.id == node.id { Vec::new() } else { keys_in(node, *slot).await };
            if strays.is_empty() {
                continue;
            }
            let importing = Command::new("CLUSTER SETSLOT").arg(slot).arg("IMPORTING").arg(&owner.id);
            node.server.call(importing).await.expect("set");
            for key in strays {
                assert_eq!(ask(node, Command::new("DEL").bytes(key)).await, Reply::Int(1), "the copy was there");
                swept += 1;
            }
            node.server.call(Command::new("CLUSTER SETSLOT").arg(slot).arg("STABLE")).await.expect("closed");
        }
    }
    swept
}

async fn primaries(stage: &Stage) -> Vec<&Node> {
    let view = stage.cluster.view().await.expect("a view");
    let owns = |node: &&Node| view.iter().any(|seen| seen.id == node.id && !seen.slots.is_empty());
    stage.cluster.nodes.iter().filter(owns).collect()
}

async fn set(node: &Node, slot: SlotId, word: &str, of: &Node) {
    node.server.call(Command::new("CLUSTER SETSLOT").arg(slot).arg(word).arg(&of.id)).await.expect("set");
}

async fn keys_in(node: &Node, slot: SlotId) -> Vec<Vec<u8>> {
    let reply = node.server.call(Command::new("CLUSTER GETKEYSINSLOT").arg(slot).arg(100)).await.expect("asked");
    reply.list().expect("a list").into_iter().map(|key| key.bytes().expect("a name")).collect()
}

async fn version_on(stage: &Stage, key: usize, node: &Node) -> Option<u64> {
    stage.keys.seen(key, ask(node, stage.keys.read(key)).await)
}

async fn drop_copy(stage: &Stage, key: usize, node: &Node) {
    assert_eq!(ask(node, Command::new("DEL").arg(stage.keys.name(key))).await, Reply::Int(1), "the copy was there");
}

/// Says a command to a node whether it owns the slot or imports it.
async fn ask(node: &Node, command: Command) -> Reply {
    let link = node.server.link().await.expect("a link");
    let replies = link.call(&[Command::new("ASKING"), command], PATIENCE).await.expect("replies");
    replies.into_iter().next_back().expect("two replies")
}
