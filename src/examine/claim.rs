//! Who owns a slot, by what everybody says. Pure.

use super::evidence::{Evidence, Testimony};
use crate::model::{LinkState, NodeId, OpenDirection, OpenSlot, SlotId};

/// Who owns a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This primary says so itself, and no other primary contradicts.
    Agreed(NodeId),
    /// Several claim it, or others see another owner than the one that claims it. First the one that gossip will settle
    /// on: it claims the slot with the highest config epoch.
    Contested(Vec<NodeId>),
    /// Others say that this node owns it, and it does not answer.
    Silent(NodeId),
    /// No primary that answered claims it; perhaps one of them is believed by others to own it.
    Nobody {
        /// It answered, and says that it does not.
        believed: Option<NodeId>,
    },
}

impl Claim {
    /// The owner that all agree on.
    #[must_use]
    pub fn agreed(&self) -> Option<&NodeId> {
        match self {
            Self::Agreed(owner) => Some(owner),
            _ => None,
        }
    }
}

impl Evidence {
    /// Who owns `slot`.
    #[must_use]
    pub fn claim(&self, slot: SlotId) -> Claim {
        let mut claimants: Vec<_> =
            self.primaries().map(|node| node.itself()).filter(|node| node.slots.contains(slot)).collect();
        claimants.sort_by_key(|node| std::cmp::Reverse(node.config_epoch));
        // Who imports a slot does not listen to gossip about it: it may believe in a former owner for ever.
        let listens = |node: &&Testimony| {
            let importing =
                |open: &OpenSlot| open.slot == slot && matches!(open.direction, OpenDirection::Importing(_));
            !node.itself().open.iter().any(importing)
        };
        let believed = || {
            let stories = self.primaries().filter(listens).flat_map(|node| node.view.story.iter());
            stories.filter(|record| record.slots.contains(slot)).map(|record| record.id.clone())
        };
        match claimants.as_slice() {
            [] => match believed().find(|id| !self.nodes.contains_key(id)) {
                Some(silent) => Claim::Silent(silent),
                None => Claim::Nobody { believed: believed().next() },
            },
            [owner] => match believed().find(|id| *id != owner.id) {
                Some(other) => Claim::Contested(vec![owner.id.clone(), other]),
                None => Claim::Agreed(owner.id.clone()),
            },
            several => Claim::Contested(several.iter().map(|node| node.id.clone()).collect()),
        }
    }

    /// Whether every primary that answered sees this node as a healthy one.
    #[must_use]
    pub fn is_well(&self, id: &NodeId) -> bool {
        self.nodes.contains_key(id)
            && self
                .primaries()
                .all(|node| node.view.story.iter().any(|record| record.id == *id && record.state == LinkState::Ok))
    }
}
