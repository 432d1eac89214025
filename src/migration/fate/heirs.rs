//! Who is what an end of a migration was when it began, by what nodes say of themselves: they fail over, and move between shards.

use super::super::journal::Intent;
use super::super::survey::{View, view_of};
use crate::model::{LinkState, NodeId, NodeRecord, OpenDirection, OpenSlot, Role};

/// The word of a node about itself.
pub(super) fn own_word<'a>(id: &NodeId, views: &'a [View]) -> Option<&'a NodeRecord> {
    view_of(views, id).and_then(View::itself)
}

/// Who leads now where `first` is: itself, or whom it follows by its own word, and whom that one follows. Absent when one of them
/// was not heard; a ring has no leader.
pub(in crate::migration) fn leader<'a>(first: &NodeId, views: &'a [View]) -> Option<&'a NodeRecord> {
    let mut node = own_word(first, views)?;
    for _ in views {
        match &node.role {
            Role::Primary => return Some(node),
            Role::Replica { of } => node = own_word(of.as_ref()?, views)?,
        }
    }
    None
}

/// Nobody waits for it any more: it failed, or nobody knows where it is.
pub(in crate::migration) const fn is_given_up(state: LinkState) -> bool {
    matches!(state, LinkState::Failed | LinkState::Unknown)
}

/// Whether this node knows that `other` reigns no more.
pub(super) fn outlived(view: &View, other: &NodeId) -> bool {
    let gone = |node: &NodeRecord| is_given_up(node.state) && node.slots.is_empty();
    let seen = view.nodes.iter().find(|node| node.id == *other);
    seen.is_none_or(|node| node.role != Role::Primary || gone(node))
}

/// Whom the ends of an intent follow now: replicas move between shards, so that it need not be one of those that followed them when
/// we began.
pub(super) struct Heirs<'a> {
    /// Absent for a source that follows the target or its heir: it gave its last slot away.
    pub(super) source: Option<&'a NodeId>,
    /// Absent for a target that follows the source: it has lost everything to it.
    pub(super) target: Option<&'a NodeId>,
}

impl<'a> Heirs<'a> {
    pub(super) fn of(intent: &Intent, views: &'a [View]) -> Self {
        let heir = |first: &NodeId, other: &NodeId| {
            leader(first, views).map(|node| &node.id).filter(|id| *id != first && *id != other)
        };
        let target = heir(&intent.target, &intent.source);
        let source = heir(&intent.source, &intent.target).filter(|id| Some(*id) != target);
        Self { source, target }
    }

    /// Whether `intent`, whose heirs these are, opened this slot: between its two ends, wherever these are now, and on the end that
    /// carries such a flag. Valkey changes flags by itself when an end is succeeded (migrating ones from 8.0 on, importing ones too): they
    /// name its heir then.
    pub(super) fn opened(&self, intent: &Intent, open: &OpenSlot) -> bool {
        intent.slots.contains(open.slot) && self.ends_of(intent, open) == [true, true]
    }

    /// Whether the node that this flag names is the end of `intent` that such a flag names, whoever carries it.
    pub(super) fn names_an_end(&self, intent: &Intent, open: &OpenSlot) -> bool {
        intent.slots.contains(open.slot) && self.ends_of(intent, open)[1]
    }

    /// Whether the node that carries this flag, and the one that it names, are the ends that they would be of.
    fn ends_of(&self, intent: &Intent, open: &OpenSlot) -> [bool; 2] {
        let heirs = match &open.direction {
            OpenDirection::Migrating(_) => [self.source, self.target],
            OpenDirection::Importing(_) => [self.target, self.source],
        };
        let [carries, named] = intent.ends_of(open);
        [(carries, heirs[0]), (named, heirs[1])].map(|((id, shard), heir)| shard.contains(id) || heir == Some(id))
    }
}
