//! Decides how to go on with slots whose migration was interrupted, by what the cluster itself says. Pure.
//!
//! Ballast may have been killed, a link may have broken, either end may have failed over. The journal says what we meant;
//! the flags and claims of all nodes say how far it came. Only what a node was heard to say counts: what is not known holds.
//! Forward is possible while both shards have one primary; a slot that cannot go on is held open, for it still serves.

mod heirs;

use serde::{Deserialize, Serialize};

use super::call::Copies;
use super::journal::Intent;
use super::survey::{View, view_of};
use crate::model::{NodeId, NodeRecord, OpenDirection, OpenSlot, Protocol, Role, SlotId, SlotSet};
use heirs::{Heirs, outlived, own_word};
pub(super) use heirs::{is_given_up, leader};

/// How to go on with one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The target's shard owns it.
    Moved,
    /// Its owner has all of it, and a flag of ours is left: who learns of a loss by gossip keeps its own.
    Close { owner: NodeId },
    /// Nothing is open, and its source owns it, or somebody else who got it from other hands.
    Stayed(String),
    /// Its source owns it and does not give it away. It was not moved, unless the target holds keys of it: whoever forgets a node
    /// (`CLUSTER FORGET`) clears the flags that name it, a person may have said `STABLE`, and on Redis a successor has no flags.
    Ask(Inquiry),
    /// Take it up again.
    Resume { source: NodeId, target: NodeId, copies: Copies },
    /// The source failed over, and the target cannot hear so while it imports the slot: it has to be told. Its keys stay
    /// where they are.
    Rebind { owner: NodeId, target: NodeId },
    /// Nothing safe can be done now, and why.
    Hold(String),
}

/// What a person can do about an end that does not answer.
const MEND_IT: &str = "bring it back, or have all others forget it (CLUSTER FORGET)";

/// Why a slot stayed that nobody began to move.
pub(super) const NOT_MOVED: &str = "it was not moved";

/// What the target of slots is asked that are not given away: whether it holds keys of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inquiry {
    /// Who owns them.
    pub(super) owner: NodeId,
    /// Who is asked.
    pub(super) target: NodeId,
    /// The owner is not what it was when we began: no copy on the target is taken for an older one, so that they may go on.
    pub(super) suspect: bool,
    /// The target imports them.
    pub(super) open: bool,
}

/// Whether a server still works on an atomic job of the intent's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Jobs {
    Running,
    None,
    Unknown,
}

/// A slot that somebody else opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The flag, and the node that carries it.
    pub open: OpenSlot,
}

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Slots of ours that were brought to an end, moved or not.
    pub settled: SlotSet,
    /// Those of migrations that are over which have another owner than when these began.
    #[serde(default)]
    pub moved: SlotSet,
    /// Slots of ours that are still open or in doubt, and why.
    pub held: Vec<(SlotId, String)>,
    /// Open slots that are not ours: nothing else may begin while there are any.
    pub foreign: Vec<Foreign>,
    /// The migrations of the journal that were unfinished: whose they were, and why.
    #[serde(default)]
    pub taken_up: Vec<Intent>,
}

impl Recovery {
    /// Whether nothing is left that forbids new migrations.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.held.is_empty() && self.foreign.is_empty()
    }
}

/// The fate of each slot of `intent`, by what nodes say. Replicas are among them, for a source may have become one.
pub(super) fn fates(intent: &Intent, views: &[View], jobs: Jobs) -> Vec<(SlotId, Fate)> {
    let scene = Scene { intent, views, jobs, heirs: Heirs::of(intent, views) };
    intent.slots.iter().map(|slot| (slot, scene.fate(slot).unwrap_or_else(Fate::Hold))).collect()
}

struct Scene<'a> {
    intent: &'a Intent,
    views: &'a [View],
    jobs: Jobs,
    heirs: Heirs<'a>,
}

impl Scene<'_> {
    /// An error is why the slot is held.
    fn fate(&self, slot: SlotId) -> Result<Fate, String> {
        let owner = self.owner(slot)?;
        let open = self.flags(slot)?;
        if self.arrived(owner, slot) {
            self.source_was_heard(owner)?;
            return Ok(if open { Fate::Close { owner: owner.id.clone() } } else { Fate::Moved });
        }
        let classic = self.intent.protocol == Protocol::Classic;
        if self.heirs.source != Some(&owner.id) && !self.intent.source_shard.contains(&owner.id) {
            let elsewhere = format!("{} owns it, which is neither its source nor its target", owner.address);
            if open || self.intent.target_shard.contains(&owner.id) {
                return Err(elsewhere);
            }
            // The source may have been succeeded by it, and keys be on the target.
            let in_doubt = classic && !self.source_is_known(owner);
            return if in_doubt { self.ask(owner, slot, false) } else { Ok(Fate::Stayed(elsewhere)) };
        }
        if !open && self.target_is_forgotten(owner) {
            return Ok(Fate::Stayed("its target was forgotten, and what it may have held of it went along".to_owned()));
        }
        match (self.intent.protocol, self.jobs) {
            (Protocol::Atomic, Jobs::Unknown) => {
                return Err("a node did not say whether it still works on it".to_owned());
            }
            // The servers clean up by themselves.
            (Protocol::Atomic, Jobs::None) => return Ok(Fate::Stayed(NOT_MOVED.to_owned())),
            (Protocol::Atomic, Jobs::Running) | (Protocol::Classic, _) => {}
        }
        if self.target_follows(owner) && !primaries(self.views).any(|node| imports(node, slot)) {
            return Ok(if open { Fate::Close { owner: owner.id.clone() } } else { Fate::Stayed(NOT_MOVED.to_owned()) });
        }
        if classic && !open {
            return match self.ask(owner, slot, false) {
                // Where nobody was forgotten and nothing restarted, a flag that is not there was never set, unless a person took it: the
                // target's own is there still.
                Err(_) if self.is_as_it_was(owner) && self.remembers_the_target(owner) => {
                    Ok(Fate::Stayed(NOT_MOVED.to_owned()))
                }
                fate => fate,
            };
        }
        // Its clients had nil for what has gone, and may have written it anew, whoever took its flag. After a death between the two flags
        // the target holds nothing.
        if classic && self.is_as_it_was(owner) && !gives(owner, slot) {
            return self.ask(owner, slot, true);
        }
        self.forward(owner, slot)
    }

    /// The way on for a slot that was begun, if both ends have a leader and agree on `owner`.
    fn forward(&self, owner: &NodeRecord, slot: SlotId) -> Result<Fate, String> {
        let still_there = |id: &&NodeId| Some(*id) != self.heirs.target && **id != owner.id;
        let mut source_shard: Vec<NodeId> = self.intent.source_shard.iter().filter(still_there).cloned().collect();
        source_shard.push(owner.id.clone());
        self.primary_of(&source_shard, &owner.id, "source")?;
        let target = self.target(owner, slot)?;
        let itself = target.itself().expect("a view was chosen by its own line");
        let believed = target.nodes.iter().find(|node| node.slots.contains(slot));
        if believed.is_none_or(|believed| believed.id != owner.id) {
            // While Redis imports a slot, it hears of no new owner: after a failover of the source, of none at all. It takes our word for
            // it once it knows that one as a primary; till then it would lose its flag and get no other.
            let knows = target.nodes.iter().any(|node| node.id == owner.id && node.role == Role::Primary);
            let deaf = !self.is_as_it_was(owner) && itself.open.iter().any(|open| open.slot == slot);
            if deaf && knows {
                return Ok(Fate::Rebind { owner: owner.id.clone(), target: itself.id.clone() });
            }
            return Err("the target does not see its owner as its owner yet".to_owned());
        }
        let copies = if self.is_as_it_was(owner) { Copies::Ours } else { Copies::Suspect };
        Ok(Fate::Resume { source: owner.id.clone(), target: itself.id.clone(), copies })
    }

    /// The target has to say whether it holds keys of it. `open`: whether a flag stands somewhere.
    fn ask(&self, owner: &NodeRecord, slot: SlotId, open: bool) -> Result<Fate, String> {
        let target = self.target(owner, slot)?.itself().expect("a view was chosen by its own line");
        let imports = target.open.iter().any(|open| open.slot == slot);
        if open && !imports {
            return Err("it is open on another node than its target".to_owned());
        }
        let suspect = !self.is_as_it_was(owner);
        Ok(Fate::Ask(Inquiry { owner: owner.id.clone(), target: target.id.clone(), suspect, open: imports }))
    }

    /// Whether `owner` leads what the target led when we began. Who gives a slot away has not got it.
    fn arrived(&self, owner: &NodeRecord, slot: SlotId) -> bool {
        let Intent { source, target, target_shard, .. } = self.intent;
        if owner.id == *source || gives(owner, slot) {
            return false;
        }
        let leads = |first: &NodeId| leader(first, self.views).is_some_and(|node| node.id == owner.id);
        match own_word(target, self.views).map(|node| &node.role) {
            Some(Role::Primary) => owner.id == *target,
            // It may have moved on since it was succeeded.
            Some(Role::Replica { .. }) => leads(target) || target_shard.contains(&owner.id) && !leads(source),
            None => {
                target_shard.contains(&owner.id)
                    && view_of(self.views, &owner.id).is_some_and(|view| outlived(view, target))
            }
        }
    }

    /// Who leads the target's shard now. If the target follows somebody, that one; unless another member of its shard leads something too
    /// and may be whom it was succeeded by before it moved on: then only an importing flag tells.
    fn target(&self, owner: &NodeRecord, slot: SlotId) -> Result<&View, String> {
        let Intent { target, target_shard, .. } = self.intent;
        let others: Vec<NodeId> = target_shard.iter().filter(|id| **id != owner.id).cloned().collect();
        match own_word(target, self.views).map(|node| &node.role) {
            Some(Role::Primary) => self.primary_of(&others, target, "target"),
            None => {
                let view = self.primary_of(&others, target, "target")?;
                if outlived(view, target) {
                    Ok(view)
                } else {
                    Err(format!("the target cannot be asked, and was not succeeded; {MEND_IT}"))
                }
            }
            Some(Role::Replica { .. }) => {
                let heir = self.heirs.target.filter(|heir| **heir != owner.id);
                let view = heir.and_then(|heir| view_of(self.views, heir));
                let view = view.ok_or_else(|| format!("the target's shard has no reachable primary; {MEND_IT}"))?;
                let reigns = |id: &NodeId| match own_word(id, self.views) {
                    Some(node) => node.role == Role::Primary,
                    None => !outlived(view, id),
                };
                let may_have_succeeded = others.iter().any(|id| Some(id) != heir && id != target && reigns(id));
                // Valkey's replicas import with their primary, whom they succeed.
                if may_have_succeeded && !view.itself().is_some_and(|node| imports(node, slot)) {
                    return Err("who succeeded the target is not known".to_owned());
                }
                Ok(view)
            }
        }
    }

    /// Whether the source's shard has a leader whom we know, or no member that `owner` knows.
    fn source_is_known(&self, owner: &NodeRecord) -> bool {
        let known = |view: &View| view.nodes.iter().any(|node| self.intent.source_shard.contains(&node.id));
        leader(&self.intent.source, self.views).is_some() || !view_of(self.views, &owner.id).is_some_and(known)
    }

    /// Whether nobody knows any node of the target's shard, though everybody was heard whom `owner` has not given up: nobody can be asked for
    /// keys, and none comes back by itself.
    fn target_is_forgotten(&self, owner: &NodeRecord) -> bool {
        let Some(view) = view_of(self.views, &owner.id) else { return false };
        let heard = |node: &NodeRecord| is_given_up(node.state) || view_of(self.views, &node.id).is_some();
        let mut known = self.views.iter().flat_map(|view| &view.nodes);
        !known.any(|node| self.intent.target_shard.contains(&node.id)) && view.nodes.iter().all(heard)
    }

    /// Whether `owner` knows every node of the target's shard.
    fn remembers_the_target(&self, owner: &NodeRecord) -> bool {
        let knows = |view: &View, id: &NodeId| view.nodes.iter().any(|node| node.id == *id);
        view_of(self.views, &owner.id).is_some_and(|view| self.intent.target_shard.iter().all(|id| knows(view, id)))
    }

    /// Whether every node of the target's shard follows `owner`, by its own word: what it held, it has thrown away for what that one holds.
    fn target_follows(&self, owner: &NodeRecord) -> bool {
        let others = self.intent.target_shard.iter().filter(|id| **id != owner.id);
        let follows = |id: &NodeId| {
            let follows_it = |node: &NodeRecord| node.role == Role::Replica { of: Some(owner.id.clone()) };
            own_word(id, self.views).is_some_and(follows_it)
        };
        others.clone().next().is_some() && others.into_iter().all(follows)
    }

    /// The primary that claims `slot`, if it is the only one.
    fn owner(&self, slot: SlotId) -> Result<&NodeRecord, String> {
        let mut claims = primaries(self.views).filter(|node| node.slots.contains(slot));
        match (claims.next(), claims.next()) {
            (Some(owner), None) => Ok(owner),
            (Some(one), Some(other)) => Err(format!("both {} and {} claim it", one.address, other.address)),
            (None, _) => Err("no reachable primary owns it".to_owned()),
        }
    }

    /// Whether a flag stands on a primary that takes part in what we began. A third node that imports from our source does: it is told
    /// with the others who got the slot.
    fn flags(&self, slot: SlotId) -> Result<bool, String> {
        let mut any = false;
        for open in primaries(self.views).flat_map(|node| &node.open).filter(|open| open.slot == slot) {
            let importing = matches!(open.direction, OpenDirection::Importing(_));
            let names_us = || importing && self.heirs.names_an_end(self.intent, open);
            if !self.heirs.opened(self.intent, open) && !names_us() {
                return Err("somebody else opened it".to_owned());
            }
            any = true;
        }
        Ok(any)
    }

    /// A source that nobody heard may come back with a flag that nobody clears, unless the others gave it up.
    fn source_was_heard(&self, owner: &NodeRecord) -> Result<(), String> {
        let shard = &self.intent.source_shard;
        let heard = self.views.iter().filter_map(View::itself).any(|node| shard.contains(&node.id));
        let owners_view = view_of(self.views, &owner.id);
        let given_up = |id: &NodeId| {
            let seen = owners_view.and_then(|view| view.nodes.iter().find(|node| node.id == *id));
            seen.is_none_or(|seen| is_given_up(seen.state))
        };
        if heard || shard.iter().all(given_up) { Ok(()) } else { Err("its source cannot be asked".to_owned()) }
    }

    /// Whether the source owns the slots in the same process and the same reign as when we began.
    fn is_as_it_was(&self, owner: &NodeRecord) -> bool {
        let same_process = view_of(self.views, &owner.id).is_some_and(|view| view.run_id == self.intent.source_run_id);
        let same_reign = owner.id == self.intent.source && owner.config_epoch == self.intent.source_epoch;
        same_process && same_reign
    }

    /// The only member of `shard` that calls itself a primary. Of several that take each other for primaries, `expected`:
    /// a replica may have moved to another shard since, and succeeded its primary there. (Who comes back after a failover
    /// still takes its successor for a replica.)
    fn primary_of(&self, shard: &[NodeId], expected: &NodeId, role: &str) -> Result<&View, String> {
        let id = |view: &View| view.itself().map(|node| node.id.clone());
        let reigns =
            |view: &&View| view.itself().is_some_and(|node| node.role == Role::Primary && shard.contains(&node.id));
        let reigning: Vec<&View> = self.views.iter().filter(reigns).collect();
        let recognises = |view: &View, other: &View| {
            view.nodes.iter().any(|node| Some(&node.id) == id(other).as_ref() && node.role == Role::Primary)
        };
        let at_peace = || reigning.iter().all(|view| reigning.iter().all(|other| recognises(view, other)));
        match reigning.as_slice() {
            [] => Err(format!("the {role}'s shard has no reachable primary; {MEND_IT}")),
            [view] => Ok(view),
            several => several
                .iter()
                .find(|view| id(view).as_ref() == Some(expected) && at_peace())
                .copied()
                .ok_or_else(|| format!("two nodes of the {role}'s shard call themselves primaries")),
        }
    }
}

/// Whether a node has opened the slot to give it away.
fn gives(node: &NodeRecord, slot: SlotId) -> bool {
    node.open.iter().any(|open| open.slot == slot && matches!(open.direction, OpenDirection::Migrating(_)))
}

/// Whether a node has opened the slot to get it.
fn imports(node: &NodeRecord, slot: SlotId) -> bool {
    node.open.iter().any(|open| open.slot == slot && matches!(open.direction, OpenDirection::Importing(_)))
}

/// What every primary says of itself.
fn primaries(views: &[View]) -> impl Iterator<Item = &NodeRecord> {
    views.iter().filter_map(View::itself).filter(|node| node.role == Role::Primary)
}

/// Open slots on primaries that no intent accounts for. (Replicas of Valkey may keep flags that nobody can clear,
/// valkey#998: they do no harm while they are replicas.)
pub(super) fn foreign(intents: &[Intent], views: &[View]) -> Vec<Foreign> {
    let ours: Vec<(&Intent, Heirs<'_>)> = intents.iter().map(|intent| (intent, Heirs::of(intent, views))).collect();
    primaries(views)
        .flat_map(|node| &node.open)
        .filter(|open| !ours.iter().any(|(intent, heirs)| heirs.opened(intent, open)))
        .map(|open| Foreign { open: open.clone() })
        .collect()
}

#[cfg(test)]
mod tests;
