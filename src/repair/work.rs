//! Whether somebody moves slots right now, by two looks a second apart. Pure.

use std::collections::BTreeSet;

use crate::examine::Evidence;
use crate::model::{NodeId, SlotId};

/// What shows that somebody moves slots: flags or owners that changed between the two looks, or keys that left one end of an
/// open slot while the other end got some. None when nothing does.
#[must_use]
pub fn at_work(first: &Evidence, second: &Evidence) -> Option<String> {
    let flags = |evidence: &Evidence| -> BTreeSet<(NodeId, SlotId)> {
        let primaries = evidence.primaries().flat_map(|node| &node.itself().open);
        primaries.map(|open| (open.node.clone(), open.slot)).collect()
    };
    let (before, after) = (flags(first), flags(second));
    if let Some((node, slot)) = before.symmetric_difference(&after).next() {
        return Some(format!("the flag of slot {slot} on {} came or went within a second", second.party(node)));
    }
    for node in second.primaries() {
        let before = first.nodes.get(&node.itself().id).map(|node| &node.itself().slots);
        if before.is_some_and(|before| *before != node.itself().slots) {
            return Some(format!("{} gained or lost slots within a second", node.itself().address));
        }
    }
    let slots: BTreeSet<SlotId> = after.iter().map(|(_, slot)| *slot).collect();
    slots.into_iter().find_map(|slot| {
        let change = |id: &NodeId| {
            let keys = |evidence: &Evidence| evidence.nodes.get(id).map_or(0, |node| node.keys_in(slot));
            keys(second) as i128 - keys(first) as i128
        };
        let changes: Vec<i128> = second.primaries().map(|node| change(&node.itself().id)).collect();
        // Clients alone may write to one end and let keys of the other expire; that both happens within a second is rare.
        let moves = changes.iter().any(|change| *change < 0) && changes.iter().any(|change| *change > 0);
        moves.then(|| format!("keys of slot {slot} went from one node to another within a second"))
    })
}
