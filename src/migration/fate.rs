//! Decides how to go on with slots whose migration was interrupted, by what the cluster itself says. Pure.
//!
//! Ballast may have been killed, a link may have broken, either end may have failed over. The journal says what we meant;
//! the flags and claims of all nodes say how far it came. Only what a node was heard to say counts: what is not known holds.
//! Forward is possible while both shards have one primary; a slot that cannot go on is held open, for it still serves.

use serde::{Deserialize, Serialize};

use super::call::Copies;
use super::journal::Intent;
use super::survey::View;
use crate::model::{LinkState, NodeId, NodeRecord, OpenDirection, OpenSlot, Protocol, Role, SlotId, SlotSet};

/// How to go on with one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The target's shard owns it.
    Moved,
    /// Its owner has all of it, and a flag of ours is left: who learns of a loss by gossip keeps its own.
    Close { owner: NodeId },
    /// Nothing is open, and its source owns it, or somebody else who got it from other hands.
    Stayed(String),
    /// Nothing is open, and its source owns it. It was not moved, unless the target holds keys of it: whoever forgets a node
    /// (`CLUSTER FORGET`) clears the flags that name it, and a person may have said `STABLE`.
    Ask { owner: NodeId, target: NodeId },
    /// Take it up again.
    Resume { source: NodeId, target: NodeId, copies: Copies },
    /// The source failed over, and the target cannot hear so while it imports the slot: it has to be told. Its keys stay
    /// where they are.
    Rebind { owner: NodeId, target: NodeId },
    /// Nothing safe can be done now, and why.
    Hold(String),
}

/// Why a slot stayed that nobody began to move.
pub(super) const NOT_MOVED: &str = "it was not moved";

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
    let scene = Scene { intent, views, jobs };
    intent.slots.iter().map(|slot| (slot, scene.fate(slot).unwrap_or_else(Fate::Hold))).collect()
}

struct Scene<'a> {
    intent: &'a Intent,
    views: &'a [View],
    jobs: Jobs,
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
        let heirs = heirs(self.intent, self.views);
        if heirs.source != Some(&owner.id) && !self.intent.source_shard.contains(&owner.id) {
            let elsewhere = format!("{} owns it, which is neither its source nor its target", owner.address);
            let in_doubt = self.intent.protocol == Protocol::Classic && !self.source_is_known(owner);
            let of_the_target = self.intent.target_shard.contains(&owner.id);
            return if open || in_doubt || of_the_target { Err(elsewhere) } else { Ok(Fate::Stayed(elsewhere)) };
        }
        let copies = self.copies(owner);
        // Of an atomic job the servers clean up by themselves. After a failover of the source its flag may be gone, and
        // keys be on the target all the same.
        let begun = match (self.intent.protocol, self.jobs) {
            (Protocol::Atomic, Jobs::Running) => true,
            (Protocol::Atomic, Jobs::None) => false,
            (Protocol::Atomic, Jobs::Unknown) => {
                return Err("a node did not say whether it still works on it".to_owned());
            }
            (Protocol::Classic, _) => open || copies == Copies::Suspect,
        };
        if !open && self.target_is_forgotten() || !begun && self.intent.protocol == Protocol::Atomic {
            return Ok(Fate::Stayed(NOT_MOVED.to_owned()));
        }
        if !begun {
            return match self.target(owner, slot).map(View::itself) {
                Ok(Some(target)) => Ok(Fate::Ask { owner: owner.id.clone(), target: target.id.clone() }),
                // Who forgot nobody has no flag that was cleared: none was set.
                _ if self.remembers_the_target(owner) => Ok(Fate::Stayed(NOT_MOVED.to_owned())),
                Ok(None) => Err("the target does not list itself".to_owned()),
                Err(why) => Err(why),
            };
        }
        if self.target_follows(owner) {
            let flagged = || Fate::Close { owner: owner.id.clone() };
            return Ok(if open { flagged() } else { Fate::Stayed(NOT_MOVED.to_owned()) });
        }
        let still_there = |id: &&NodeId| Some(*id) != heirs.target && **id != owner.id;
        let mut source_shard: Vec<NodeId> = self.intent.source_shard.iter().filter(still_there).cloned().collect();
        source_shard.push(owner.id.clone());
        self.primary_of(&source_shard, &owner.id, "source")?;
        let target = self.target(owner, slot)?;
        let itself = target.itself().expect("a view was chosen by its own line");
        let believed = target.nodes.iter().find(|node| node.slots.contains(slot));
        if believed.is_none_or(|believed| believed.id != owner.id) {
            // While Redis imports a slot, it hears of no new owner: after a failover of the source, of none at all.
            let deaf = copies == Copies::Suspect && itself.open.iter().any(|open| open.slot == slot);
            if deaf {
                return Ok(Fate::Rebind { owner: owner.id.clone(), target: itself.id.clone() });
            }
            return Err("the target does not see its owner as its owner yet".to_owned());
        }
        Ok(Fate::Resume { source: owner.id.clone(), target: itself.id.clone(), copies })
    }

    /// Whether `owner` leads what the target led when we began. Who gives a slot away has not got it.
    fn arrived(&self, owner: &NodeRecord, slot: SlotId) -> bool {
        let Intent { source, target, target_shard, .. } = self.intent;
        let gives = |open: &OpenSlot| open.slot == slot && matches!(open.direction, OpenDirection::Migrating(_));
        if owner.id == *source || owner.open.iter().any(gives) {
            return false;
        }
        let leads = |first: &NodeId| leader(first, self.views).is_some_and(|node| node.id == owner.id);
        match own_word(target, self.views).map(|node| &node.role) {
            Some(Role::Primary) => owner.id == *target,
            // It may have moved on since it was succeeded.
            Some(Role::Replica { .. }) => leads(target) || target_shard.contains(&owner.id) && !leads(source),
            None => {
                target_shard.contains(&owner.id) && self.view_of(&owner.id).is_some_and(|view| outlived(view, target))
            }
        }
    }

    /// Who leads the target's shard now. A target's word that it follows somebody tells of its heir only while nobody else can be that.
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
                    Err("the target cannot be asked, and was not succeeded".to_owned())
                }
            }
            Some(Role::Replica { .. }) => {
                let heir = heirs(self.intent, self.views).target.filter(|heir| **heir != owner.id);
                let view = heir.and_then(|heir| self.view_of(heir));
                let view = view.ok_or("the target's shard has no reachable primary")?;
                let reigns = |id: &NodeId| match own_word(id, self.views) {
                    Some(node) => node.role == Role::Primary,
                    None => !outlived(view, id),
                };
                let rival = others.iter().any(|id| Some(id) != heir && id != target && reigns(id));
                // Valkey's replicas import with their primary, whom they succeed.
                let imports =
                    |open: &OpenSlot| open.slot == slot && matches!(open.direction, OpenDirection::Importing(_));
                if rival && !view.itself().is_some_and(|node| node.open.iter().any(imports)) {
                    return Err("who succeeded the target is not known".to_owned());
                }
                Ok(view)
            }
        }
    }

    /// Whether the source's shard has a leader whom we know, or no member that `owner` knows.
    fn source_is_known(&self, owner: &NodeRecord) -> bool {
        let known = |view: &View| view.nodes.iter().any(|node| self.intent.source_shard.contains(&node.id));
        leader(&self.intent.source, self.views).is_some() || !self.view_of(&owner.id).is_some_and(known)
    }

    /// Whether nobody knows any node of the target's shard: nobody can be asked for keys, and none will come back by itself.
    fn target_is_forgotten(&self) -> bool {
        let mut known = self.views.iter().flat_map(|view| &view.nodes);
        !known.any(|node| self.intent.target_shard.contains(&node.id))
    }

    /// Whether `owner` knows every node of the target's shard.
    fn remembers_the_target(&self, owner: &NodeRecord) -> bool {
        let knows = |view: &View, id: &NodeId| view.nodes.iter().any(|node| node.id == *id);
        self.view_of(&owner.id).is_some_and(|view| self.intent.target_shard.iter().all(|id| knows(view, id)))
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

    fn view_of(&self, id: &NodeId) -> Option<&View> {
        self.views.iter().find(|view| view.itself().is_some_and(|node| node.id == *id))
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

    /// Whether a flag of ours stands on a primary.
    fn flags(&self, slot: SlotId) -> Result<bool, String> {
        let mut any = false;
        for open in primaries(self.views).flat_map(|node| &node.open).filter(|open| open.slot == slot) {
            if !opened(self.intent, self.views, open) {
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
        let owners_view = self.view_of(&owner.id);
        let given_up = |id: &NodeId| {
            let seen = owners_view.and_then(|view| view.nodes.iter().find(|node| node.id == *id));
            seen.is_none_or(|seen| is_given_up(seen.state))
        };
        if heard || shard.iter().all(given_up) { Ok(()) } else { Err("its source cannot be asked".to_owned()) }
    }

    fn copies(&self, owner: &NodeRecord) -> Copies {
        let view = self.view_of(&owner.id);
        let same_process = view.is_some_and(|view| view.run_id == self.intent.source_run_id);
        let same_reign = owner.id == self.intent.source && owner.config_epoch == self.intent.source_epoch;
        if same_process && same_reign { Copies::Ours } else { Copies::Suspect }
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
            [] => Err(format!("the {role}'s shard has no reachable primary")),
            [view] => Ok(view),
            several => several
                .iter()
                .find(|view| id(view).as_ref() == Some(expected) && at_peace())
                .copied()
                .ok_or_else(|| format!("two nodes of the {role}'s shard call themselves primaries")),
        }
    }
}

/// The word of a node about itself.
fn own_word<'a>(id: &NodeId, views: &'a [View]) -> Option<&'a NodeRecord> {
    views.iter().filter_map(View::itself).find(|node| node.id == *id)
}

/// Who leads now where `first` is: itself, or whom it follows by its own word, and whom that one follows. Absent when one of them
/// was not heard; a ring has no leader.
fn leader<'a>(first: &NodeId, views: &'a [View]) -> Option<&'a NodeRecord> {
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
pub(super) const fn is_given_up(state: LinkState) -> bool {
    matches!(state, LinkState::Failed | LinkState::Unknown)
}

/// Whether this node knows that `other` reigns no more.
fn outlived(view: &View, other: &NodeId) -> bool {
    let gone = |node: &NodeRecord| is_given_up(node.state) && node.slots.is_empty();
    let seen = view.nodes.iter().find(|node| node.id == *other);
    seen.is_none_or(|node| node.role != Role::Primary || gone(node))
}

/// Whom the ends of an intent follow now: replicas move between shards, so that it need not be one of those that followed them when
/// we began.
struct Heirs<'a> {
    /// Absent for a source that follows the target or its heir: it gave its last slot away.
    source: Option<&'a NodeId>,
    /// Absent for a target that follows the source: it has lost everything to it.
    target: Option<&'a NodeId>,
}

fn heirs<'a>(intent: &Intent, views: &'a [View]) -> Heirs<'a> {
    let heir = |first: &NodeId, other: &NodeId| {
        leader(first, views).map(|node| &node.id).filter(|id| *id != first && *id != other)
    };
    let target = heir(&intent.target, &intent.source);
    let source = heir(&intent.source, &intent.target).filter(|id| Some(*id) != target);
    Heirs { source, target }
}

/// Whether `intent` opened this slot: between its two ends, wherever these are now, and on the end that carries such a flag. Valkey
/// changes flags by itself when an end is succeeded (migrating ones from 8.0 on, importing ones too): they name its heir then.
fn opened(intent: &Intent, views: &[View], open: &OpenSlot) -> bool {
    let heirs = heirs(intent, views);
    let [carrier, named] = match &open.direction {
        OpenDirection::Migrating(_) => [heirs.source, heirs.target],
        OpenDirection::Importing(_) => [heirs.target, heirs.source],
    };
    let of = |(id, shard): (&NodeId, &[NodeId]), heir: Option<&NodeId>| shard.contains(id) || heir == Some(id);
    let [carries, is_named] = intent.ends_of(open);
    intent.slots.contains(open.slot) && of(carries, carrier) && of(is_named, named)
}

/// What every primary says of itself.
fn primaries(views: &[View]) -> impl Iterator<Item = &NodeRecord> {
    views.iter().filter_map(View::itself).filter(|node| node.role == Role::Primary)
}

/// Open slots on primaries that no intent accounts for. (Replicas of Valkey may keep flags that nobody can clear,
/// valkey#998: they do no harm while they are replicas.)
pub(super) fn foreign(intents: &[Intent], views: &[View]) -> Vec<Foreign> {
    primaries(views)
        .flat_map(|node| &node.open)
        .filter(|open| !intents.iter().any(|intent| opened(intent, views, open)))
        .map(|open| Foreign { open: open.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Address;

    fn id(name: char) -> NodeId {
        name.to_string().repeat(40).parse().expect("hexadecimal")
    }

    fn record(name: char, slots: &str, myself: bool) -> NodeRecord {
        NodeRecord {
            id: id(name),
            address: Address::new("127.0.0.1", 7000),
            hostname: None,
            myself,
            role: Role::Primary,
            state: LinkState::Ok,
            config_epoch: 1,
            slots: slots.parse().expect("slots"),
            open: Vec::new(),
        }
    }

    /// What the primary `name` says of itself.
    fn view(name: char, slots: &str, open: &[OpenDirection]) -> View {
        let slot = SlotId::new(7).expect("in range");
        let mut itself = record(name, slots, true);
        itself.open =
            open.iter().map(|direction| OpenSlot { slot, node: id(name), direction: direction.clone() }).collect();
        View { address: itself.address.clone(), run_id: name.to_string(), nodes: vec![itself] }
    }

    /// A target that sees `owner` own the slot.
    fn target(name: char, owner: char, open: &[OpenDirection]) -> View {
        let mut view = view(name, "", open);
        view.nodes.push(record(owner, "7", false));
        view
    }

    fn intent() -> Intent {
        Intent {
            source: id('a'),
            target: id('b'),
            source_shard: vec![id('a'), id('c')],
            target_shard: vec![id('b'), id('d')],
            source_run_id: "a".into(),
            source_epoch: 1,
            slots: "7".parse().expect("slots"),
            protocol: Protocol::Classic,
            started_at_ms: 0,
            began_by: String::new(),
            reason: String::new(),
        }
    }

    fn fate_of(views: &[View]) -> Fate {
        fates(&intent(), views, Jobs::None).pop().expect("one slot").1
    }

    fn resume(source: char, target: char, copies: Copies) -> Fate {
        Fate::Resume { source: id(source), target: id(target), copies }
    }

    fn to(name: char) -> OpenDirection {
        OpenDirection::Migrating(id(name))
    }

    fn from(name: char) -> OpenDirection {
        OpenDirection::Importing(id(name))
    }

    #[test]
    fn a_slot_that_was_never_opened_is_left_alone() {
        let atomic = Intent { protocol: Protocol::Atomic, ..intent() };
        let views = [view('a', "0-100", &[]), target('b', 'a', &[])];
        assert!(matches!(fates(&atomic, &views, Jobs::None)[0].1, Fate::Stayed(_)), "the servers clean up");
        assert_eq!(fate_of(&views), Fate::Ask { owner: id('a'), target: id('b') }, "unless keys are there");
    }

    #[test]
    fn a_half_moved_slot_goes_forward() {
        let ours = |target_name| resume('a', target_name, Copies::Ours);
        assert_eq!(fate_of(&[view('a', "7", &[to('b')]), target('b', 'a', &[from('a')])]), ours('b'));
        assert_eq!(fate_of(&[view('a', "7", &[]), target('b', 'a', &[from('a')])]), ours('b'));
        assert_eq!(fate_of(&[view('a', "7", &[to('b')]), target('d', 'a', &[])]), ours('d'), "target failed over");
        assert!(matches!(fate_of(&[view('a', "7", &[to('b')])]), Fate::Hold(_)), "no target");
        let two = [view('a', "7", &[to('b')]), target('b', 'a', &[]), target('d', 'a', &[])];
        assert!(matches!(fate_of(&two), Fate::Hold(_)), "two targets");
        assert!(matches!(fate_of(&[view('a', "7", &[to('b')]), target('b', 'e', &[])]), Fate::Hold(_)), "not agreed");
    }

    #[test]
    fn copies_are_suspect_once_the_source_is_not_what_it_was() {
        assert_eq!(fate_of(&[view('c', "7", &[]), target('b', 'c', &[])]), resume('c', 'b', Copies::Suspect));
        let mut restarted = view('a', "7", &[to('b')]);
        restarted.run_id = "another".into();
        assert_eq!(fate_of(&[restarted, target('b', 'a', &[])]), resume('a', 'b', Copies::Suspect));
        let mut back_in_power = view('a', "7", &[]);
        back_in_power.nodes[0].config_epoch = 9;
        assert_eq!(fate_of(&[back_in_power, target('b', 'a', &[])]), resume('a', 'b', Copies::Suspect));
    }

    #[test]
    fn a_replica_that_leads_another_shard_now_is_no_second_primary() {
        let mut source = view('a', "7", &[to('b')]);
        source.nodes.push(record('c', "9", false));
        let mut elsewhere = view('c', "9", &[]);
        let target = target('b', 'a', &[from('a')]);
        let hold = fate_of(&[source.clone(), elsewhere.clone(), target.clone()]);
        assert!(matches!(hold, Fate::Hold(_)), "it takes the source for its replica: {hold:?}");
        elsewhere.nodes.push(record('a', "7", false));
        assert_eq!(fate_of(&[source, elsewhere, target]), resume('a', 'b', Copies::Ours));
    }

    /// Found by the soak: the target took the last slot of a shard, whose nodes followed it from then on, and one of them succeeded it
    /// amid the next move.
    #[test]
    fn a_flag_that_follows_the_target_to_its_successor_is_ours() {
        let flag = |name: char, direction: OpenDirection| view(name, if name == 'a' { "7" } else { "" }, &[direction]);
        let scene = |to_whom: char, leader: char| {
            [flag('a', to(to_whom)), target('e', 'a', &[from('a')]), follows('b', leader)]
        };
        assert_eq!(fate_of(&scene('e', 'e')), resume('a', 'e', Copies::Ours));
        assert!(foreign(&[intent()], &scene('e', 'e')).is_empty());
        assert!(matches!(fate_of(&scene('f', 'e')), Fate::Hold(_)), "it names a third one");
        assert_eq!(foreign(&[intent()], &scene('f', 'e')).len(), 1);
        let elsewhere = [flag('f', to('e')), target('e', 'a', &[]), follows('b', 'e')];
        assert_eq!(foreign(&[intent()], &elsewhere).len(), 1, "our source does not carry it");
    }

    fn follows(name: char, primary: char) -> View {
        let mut follower = view(name, "", &[]);
        follower.nodes[0].role = Role::Replica { of: Some(id(primary)) };
        follower
    }

    #[test]
    fn a_source_is_succeeded_by_whom_it_follows() {
        let suspect = resume('e', 'b', Copies::Suspect);
        let renamed = [view('e', "7", &[to('b')]), target('b', 'e', &[from('e')]), follows('a', 'e')];
        assert_eq!(fate_of(&renamed), suspect);
        assert!(foreign(&[intent()], &renamed).is_empty());
        let as_it_was = [view('e', "7", &[to('b')]), target('b', 'e', &[from('a')]), follows('a', 'e')];
        assert_eq!(fate_of(&as_it_was), suspect);
        let bare = [view('e', "7", &[]), target('b', 'e', &[]), follows('a', 'e')];
        assert_eq!(fate_of(&bare), suspect, "no flag is left");
        let deaf = [view('e', "7", &[]), target('b', 'a', &[from('a')]), follows('a', 'e')];
        assert_eq!(fate_of(&deaf), Fate::Rebind { owner: id('e'), target: id('b') }, "Redis");
        let mut heir = view('e', "7", &[to('b')]);
        heir.nodes.push(record('a', "", false));
        let silent = [heir.clone(), target('b', 'e', &[from('a')])];
        assert!(matches!(fate_of(&silent), Fate::Hold(_)), "nobody says whom it succeeded");
        heir.nodes[0].open.clear();
        assert!(matches!(fate_of(&[heir, target('b', 'e', &[])]), Fate::Hold(_)), "it may be the source's heir");
    }

    #[test]
    fn successions_are_followed_to_their_end() {
        let chain = [view('f', "7", &[]), target('b', 'f', &[]), follows('a', 'e'), follows('e', 'f')];
        assert_eq!(fate_of(&chain), resume('f', 'b', Copies::Suspect));
        let mut owner = view('f', "7", &[]);
        owner.nodes.push(record('a', "", false));
        let ring = [owner, target('b', 'f', &[]), follows('a', 'e'), follows('e', 'a')];
        assert!(matches!(fate_of(&ring), Fate::Hold(_)));
    }

    #[test]
    fn a_source_that_follows_the_target_has_no_heir() {
        assert_eq!(fate_of(&[follows('a', 'b'), view('b', "7", &[])]), Fate::Moved);
        assert_eq!(fate_of(&[follows('a', 'e'), follows('b', 'e'), view('e', "7", &[])]), Fate::Moved);
        let elsewhere = [follows('a', 'b'), view('b', "", &[]), view('e', "7", &[])];
        assert!(matches!(fate_of(&elsewhere), Fate::Stayed(_)));
    }

    #[test]
    fn ends_that_change_places_are_told_apart_by_their_own_words() {
        let apart = [follows('a', 'd'), follows('b', 'c')];
        let moved = [apart[0].clone(), apart[1].clone(), view('d', "", &[]), view('c', "7", &[])];
        assert_eq!(fate_of(&moved), Fate::Moved);
        let back = [apart[0].clone(), apart[1].clone(), view('d', "7", &[to('c')]), target('c', 'd', &[from('d')])];
        assert_eq!(fate_of(&back), resume('d', 'c', Copies::Suspect));
    }

    #[test]
    fn a_replica_of_the_target_that_leads_the_sources_shard_has_not_got_the_slot() {
        let views = [view('d', "7", &[]), target('b', 'a', &[from('a')]), follows('a', 'd')];
        assert_eq!(fate_of(&views), Fate::Rebind { owner: id('d'), target: id('b') });
    }

    #[test]
    fn a_target_that_moved_on_after_it_was_succeeded_names_nobody() {
        let scene = |open: &[OpenDirection]| {
            [view('a', "7", &[to('b')]), follows('b', 'e'), view('d', "9", &[]), target('e', 'a', open)]
        };
        assert!(matches!(fate_of(&scene(&[])), Fate::Hold(_)), "d may hold the keys");
        assert_eq!(fate_of(&scene(&[from('a')])), resume('a', 'e', Copies::Ours), "it imports");
        let arrived = [view('a', "", &[]), follows('b', 'e'), view('d', "7", &[]), view('e', "", &[])];
        assert_eq!(fate_of(&arrived), Fate::Moved);
    }

    #[test]
    fn a_silent_target_is_succeeded_by_who_outlived_it() {
        let mut relative = target('d', 'a', &[]);
        relative.nodes.push(record('b', "", false));
        let source = view('a', "7", &[to('b')]);
        assert!(
            matches!(fate_of(&[source.clone(), relative.clone()]), Fate::Hold(_)),
            "it lives, and we cannot reach it"
        );
        relative.nodes[2].state = LinkState::Failed;
        assert_eq!(fate_of(&[source, relative]), resume('a', 'd', Copies::Ours));
    }

    #[test]
    fn a_target_that_follows_the_source_has_thrown_its_keys_away() {
        let all = [view('a', "7", &[to('b')]), follows('b', 'a'), follows('d', 'a')];
        assert_eq!(fate_of(&all), Fate::Close { owner: id('a') });
        assert!(matches!(fate_of(&all[..2]), Fate::Hold(_)), "d may hold some");
        let closed = [view('a', "7", &[]), follows('b', 'a'), follows('d', 'a')];
        assert!(matches!(fate_of(&closed), Fate::Stayed(_) | Fate::Hold(_)), "nothing is open");
    }

    #[test]
    fn a_flag_on_a_third_node_is_somebody_elses() {
        let views = [view('a', "7", &[to('b')]), target('b', 'a', &[from('a')]), view('f', "", &[from('a')])];
        assert!(matches!(fate_of(&views), Fate::Hold(_)));
        assert_eq!(foreign(&[intent()], &views).len(), 1);
    }

    /// Flags go when a node that they name is forgotten, and when a person says so; keys do not.
    #[test]
    fn a_slot_without_flags_stayed_only_if_the_target_holds_none_of_it() {
        let ask = |target: char| Fate::Ask { owner: id('a'), target: id(target) };
        assert_eq!(fate_of(&[view('a', "7", &[]), target('b', 'a', &[])]), ask('b'));
        assert_eq!(fate_of(&[view('a', "7", &[]), target('d', 'a', &[])]), ask('d'), "b was forgotten");
        // The target is silent.
        let mut source = view('a', "7", &[]);
        source.nodes.push(record('b', "", false));
        assert!(matches!(fate_of(&[source.clone()]), Fate::Hold(_)), "d, whom the flag may have named, was forgotten");
        source.nodes.push(record('d', "", false));
        assert!(matches!(fate_of(&[source]), Fate::Stayed(_)), "whoever it named is known: the flag was never set");
        let alone = view('a', "7", &[]);
        assert!(matches!(fate_of(std::slice::from_ref(&alone)), Fate::Stayed(_)), "nobody of the target is left");
        let mut restarted = alone;
        restarted.run_id = "another".into();
        assert!(matches!(fate_of(&[restarted]), Fate::Stayed(_)), "nor would anybody ever say more");
    }

    #[test]
    fn a_target_is_succeeded_by_whom_it_follows() {
        // When we began, the source's replica was c; since then it moved to the target's shard, and leads it.
        let mut demoted = view('b', "", &[]);
        demoted.nodes[0].role = Role::Replica { of: Some(id('c')) };
        assert_eq!(fate_of(&[view('a', "9", &[]), demoted.clone(), view('c', "7", &[])]), Fate::Moved);
        let successor = target('c', 'a', &[]);
        assert_eq!(fate_of(&[view('a', "7", &[to('b')]), demoted, successor]), resume('a', 'c', Copies::Ours));
    }

    #[test]
    fn a_target_that_imports_cannot_hear_that_the_source_failed_over() {
        let rebind = Fate::Rebind { owner: id('c'), target: id('b') };
        let source = view('c', "7", &[]);
        assert_eq!(fate_of(&[source.clone(), target('b', 'a', &[from('a')])]), rebind, "it believes in the old one");
        assert_eq!(fate_of(&[source.clone(), view('b', "", &[from('a')])]), rebind, "it has seen the old one demoted");
        assert!(matches!(fate_of(&[source, target('b', 'a', &[])]), Fate::Hold(_)), "it will hear of it");
        let same_reign = view('a', "7", &[to('b')]);
        assert!(matches!(fate_of(&[same_reign, target('b', 'e', &[from('a')])]), Fate::Hold(_)), "it knows another");
    }

    #[test]
    fn a_slot_with_its_target_is_moved_once_its_source_was_heard() {
        assert_eq!(fate_of(&[view('a', "", &[]), view('b', "7", &[])]), Fate::Moved);
        assert_eq!(fate_of(&[view('a', "", &[]), view('d', "7", &[])]), Fate::Moved, "its replica took over");
        assert_eq!(fate_of(&[view('a', "", &[to('b')]), view('b', "7", &[])]), Fate::Close { owner: id('b') });
        let mut lonely = view('b', "7", &[]);
        assert_eq!(fate_of(std::slice::from_ref(&lonely)), Fate::Moved, "nobody knows the source any more");
        lonely.nodes.push(record('a', "", false));
        assert!(matches!(fate_of(&[lonely]), Fate::Hold(_)), "it may come back with its flag");
    }

    #[test]
    fn doubt_holds() {
        assert!(matches!(fate_of(&[view('a', "7", &[]), view('b', "7", &[])]), Fate::Hold(_)));
        assert!(matches!(fate_of(&[view('b', "", &[])]), Fate::Hold(_)));
        assert!(matches!(fate_of(&[view('a', "7", &[to('e')]), target('b', 'a', &[])]), Fate::Hold(_)), "foreign flag");
        assert!(matches!(fate_of(&[view('e', "7", &[]), view('b', "", &[])]), Fate::Stayed(_)), "moved by others");
        let atomic = Intent { protocol: Protocol::Atomic, ..intent() };
        let views = [view('a', "7", &[]), target('b', 'a', &[])];
        assert!(matches!(fates(&atomic, &views, Jobs::Unknown)[0].1, Fate::Hold(_)));
        assert_eq!(fates(&atomic, &views, Jobs::Running)[0].1, resume('a', 'b', Copies::Ours));
    }

    #[test]
    fn open_slots_outside_the_journal_are_foreign() {
        let views = [view('a', "7", &[to('b')])];
        assert_eq!(foreign(&[], &views).len(), 1);
        assert_eq!(foreign(&[intent()], &views).len(), 0);
        assert_eq!(foreign(&[intent()], &[view('a', "7", &[to('e')])]).len(), 1, "our slot, their flag");
    }
}
