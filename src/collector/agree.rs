//! Compares what all nodes say about the cluster. Pure.
//!
//! A node is believed about itself: its own slots, epoch and open slots. What others say of it counts only while it is
//! silent. Where primaries tell different stories about who owns a slot, that is a problem, and named.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::model::{
    Address, LinkState, NO_OWNER, NodeId, NodeIndex, NodeRecord, OpenSlot, Problem, Role, SLOT_COUNT, SlotId, SlotSet,
};

/// Every node that one node knows, by id, without what only a node itself tells (`myself`, open slots): nodes that
/// agree tell the same story, and share it.
pub type Story = Arc<Vec<NodeRecord>>;

/// The cluster as one node described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The node that described it, by its own word.
    pub myself: NodeRecord,
    /// All nodes, itself included.
    pub story: Story,
}

impl View {
    /// What `CLUSTER NODES` showed; `None` without a line about the node itself.
    #[must_use]
    pub fn new(mut records: Vec<NodeRecord>) -> Option<Self> {
        let myself = records.iter().find(|record| record.myself)?.clone();
        records.sort_by(|one, other| one.id.cmp(&other.id));
        for record in &mut records {
            record.myself = false;
            record.open = Vec::new();
        }
        Some(Self { myself, story: Arc::new(records) })
    }

    /// Takes the story over from `known` if one there is the same; else adds it there. A thousand nodes that agree
    /// then need the memory of one.
    pub fn share(&mut self, known: &mut Vec<Story>) {
        match known.iter().find(|known| **known == self.story) {
            Some(same) => self.story = same.clone(),
            None => known.push(self.story.clone()),
        }
    }
}

/// The cluster as all views together show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Primaries by id; `state` is the worst that any primary sees.
    pub primaries: Vec<NodeRecord>,
    /// Replicas by id.
    pub replicas: Vec<NodeRecord>,
    /// By slot, the owner's place in `primaries`, or [`NO_OWNER`].
    pub owners: Vec<NodeIndex>,
    /// Every flag on any node that answered.
    pub open: Vec<OpenSlot>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// What became of asking a node that the views name: its address, and why it gave no answer.
pub type Silent = BTreeMap<Address, String>;

/// Puts the views together.
#[must_use]
pub fn agree(views: &[View], silent: &Silent) -> Topology {
    let views = &*insiders(views);
    let members = members(views);
    let told = told_by_primaries(views);
    let suspicions = suspicions(&told);
    let mut problems = Vec::new();

    let (mut primaries, mut replicas) = (Vec::new(), Vec::new());
    for mut member in members.into_values() {
        let reason = silent.get(&member.address).filter(|_| !member.myself);
        let suspicion = suspicions.get(&member.id);
        if let Some(suspicion) = suspicion {
            member.state = if suspicion.failed { LinkState::Failed } else { LinkState::Suspect };
        }
        let node = member.address.clone();
        match (&member.role, reason, suspicion) {
            (Role::Primary, Some(_), Some(Suspicion { by, failed: true })) if member.slots.is_empty() => {
                problems.push(Problem::MemberFailed { id: Some(member.id), node, by: by.clone() });
                continue;
            }
            (Role::Primary, reason, suspicion) => {
                problems
                    .extend(reason.map(|why| Problem::PrimaryUnreachable { node: node.clone(), detail: why.clone() }));
                problems.extend(suspicion.map(|seen| Problem::NodeSuspected {
                    node,
                    by: seen.by.clone(),
                    failed: seen.failed,
                }));
                primaries.push(member);
            }
            (Role::Replica { .. }, reason, suspicion) => {
                let detail = reason.cloned().or_else(|| {
                    suspicion.filter(|seen| seen.failed).map(|seen| format!("{} sees it as failed", seen.by))
                });
                let failed = suspicion.is_some_and(|seen| seen.failed);
                problems.extend(detail.map(|detail| Problem::ReplicaUnreachable { node, detail, failed }));
                replicas.push(member);
            }
        }
    }

    let owners = owners(&primaries);
    problems.extend(strangers(&told, &primaries));
    problems.extend(disagreements(&told));
    problems.extend(epoch_collisions(&primaries));
    let uncovered: SlotSet = SlotId::all().filter(|slot| owners[slot.index()] == NO_OWNER).collect();
    if !uncovered.is_empty() {
        problems.push(Problem::SlotsUncovered { slots: uncovered });
    }
    let mut open = Vec::new();
    for myself in views.iter().map(|view| &view.myself).filter(|myself| !myself.open.is_empty()) {
        let slots = myself.open.iter().map(|open| open.slot).collect();
        problems.push(Problem::SlotsOpen { node: myself.address.clone(), slots });
        open.extend(myself.open.iter().cloned());
    }
    Topology { primaries, replicas, owners, open, problems }
}

/// The views of those who belong together. A node that was forgotten and reset, as `CLUSTER FORGET` and `CLUSTER RESET` do it, still
/// answers where it was asked before: it knows nobody and nobody knows it, and it is no member any more.
fn insiders(views: &[View]) -> Cow<'_, [View]> {
    let is_alone = |view: &View| view.story.len() == 1 && view.myself.slots.is_empty();
    let serves = views.iter().any(|view| !view.myself.slots.is_empty());
    let is_known = |view: &View| {
        let mut others = views.iter().filter(|other| other.myself.id != view.myself.id);
        others.any(|other| other.story.iter().any(|record| record.id == view.myself.id))
    };
    let stays = |view: &View| !(serves && is_alone(view) && !is_known(view));
    if views.iter().all(stays) {
        return Cow::Borrowed(views);
    }
    views.iter().filter(|view| stays(view)).cloned().collect()
}

/// A story, and the primaries that tell it.
struct Told<'a> {
    story: &'a Story,
    by: Vec<&'a Address>,
}

/// The different stories, each with at least one primary that tells it, in the order of the views.
fn told_by_primaries(views: &[View]) -> Vec<Told<'_>> {
    let mut stories: Vec<Told<'_>> = Vec::new();
    for view in views.iter().filter(|view| view.myself.role == Role::Primary) {
        match stories.iter_mut().find(|told| same(told.story, &view.story)) {
            Some(told) => told.by.push(&view.myself.address),
            None => stories.push(Told { story: &view.story, by: vec![&view.myself.address] }),
        }
    }
    stories
}

fn same(one: &Story, other: &Story) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Every node by id: by its own word where it answered, else as the story with the highest epoch has it.
fn members(views: &[View]) -> BTreeMap<NodeId, NodeRecord> {
    let mut members: BTreeMap<NodeId, NodeRecord> =
        views.iter().map(|view| (view.myself.id.clone(), view.myself.clone())).collect();
    let mut heard: Vec<&Story> = Vec::new();
    for view in views {
        if heard.iter().any(|story| Arc::ptr_eq(story, &view.story)) {
            continue;
        }
        heard.push(&view.story);
        for record in view.story.iter().filter(|record| record.state != LinkState::Unknown) {
            match members.get(&record.id) {
                Some(known) if known.myself || known.config_epoch >= record.config_epoch => {}
                _ => {
                    members.insert(record.id.clone(), record.clone());
                }
            }
        }
    }
    members
}

/// That some primary cannot reach a node.
struct Suspicion {
    by: Address,
    failed: bool,
}

/// One suspicion per node: a thousand primaries that see the same failure are one problem.
fn suspicions(told: &[Told<'_>]) -> HashMap<NodeId, Suspicion> {
    let mut suspicions: HashMap<NodeId, Suspicion> = HashMap::new();
    for Told { story, by } in told {
        for record in story.iter() {
            let failed = match record.state {
                LinkState::Failed => true,
                LinkState::Suspect => false,
                LinkState::Ok | LinkState::Unknown => continue,
            };
            let known = suspicions.get(&record.id);
            if known.is_none_or(|known| failed && !known.failed) {
                suspicions.insert(record.id.clone(), Suspicion { by: by[0].clone(), failed });
            }
        }
    }
    suspicions
}

/// Who owns each slot: of several claimants the one with the highest epoch, as the servers decide it.
fn owners(primaries: &[NodeRecord]) -> Vec<NodeIndex> {
    let mut owners = vec![NO_OWNER; SLOT_COUNT];
    for (place, primary) in (0..).zip(primaries) {
        for slot in &primary.slots {
            let owner = &mut owners[slot.index()];
            let rival = primaries.get(*owner as usize);
            if rival.is_none_or(|rival| primary.config_epoch > rival.config_epoch) {
                *owner = place;
            }
        }
    }
    owners
}

/// Members that a primary does not know, or knows without address: it would refuse to move a slot there.
fn strangers(told: &[Told<'_>], primaries: &[NodeRecord]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for Told { story, by } in told {
        let known: BTreeSet<&NodeId> = story.iter().map(|record| &record.id).collect();
        let unknown = story.iter().filter(|record| record.state == LinkState::Unknown).map(|record| &record.id);
        let missing = primaries.iter().map(|primary| &primary.id).filter(|id| !known.contains(id));
        for id in unknown.chain(missing) {
            if seen.insert(id) {
                problems.push(Problem::UnknownNode { node: id.clone(), by: by[0].clone() });
            }
        }
    }
    problems
}

/// Which node each slot belongs to, in one story.
fn map(story: &Story) -> Vec<Option<&NodeId>> {
    let mut owners = vec![None; SLOT_COUNT];
    for record in story.iter() {
        for slot in &record.slots {
            owners[slot.index()] = Some(&record.id);
        }
    }
    owners
}

/// One problem for each story whose slots have other owners than in the commonest ones.
fn disagreements(told: &[Told<'_>]) -> Vec<Problem> {
    // One story has nobody to disagree with, and that is the rule.
    if told.len() < 2 {
        return Vec::new();
    }
    // Stories may differ in other things than slots, so maps are what is counted; by digest, for they are large.
    let digests: Vec<u64> = told
        .iter()
        .map(|told| {
            let mut hasher = DefaultHasher::new();
            map(told.story).hash(&mut hasher);
            hasher.finish()
        })
        .collect();
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for (digest, told) in digests.iter().zip(told) {
        *votes.entry(*digest).or_default() += told.by.len();
    }
    // Of equally common maps the one told first, so that the same views give the same answer.
    let most = votes.values().max().copied().unwrap_or(0);
    let Some(reference) = digests.iter().position(|digest| votes[digest] == most) else {
        return Vec::new();
    };
    let common = map(told[reference].story);
    let dissent = digests.iter().zip(told).filter(|(digest, _)| **digest != digests[reference]);
    dissent
        .map(|(_, dissenter)| {
            let other = map(dissenter.story);
            let slots = SlotId::all().filter(|slot| other[slot.index()] != common[slot.index()]).collect();
            Problem::Disagreement { node: dissenter.by[0].clone(), other: told[reference].by[0].clone(), slots }
        })
        .collect()
}

/// Primaries with slots that share an epoch.
fn epoch_collisions(primaries: &[NodeRecord]) -> Vec<Problem> {
    let mut by_epoch: BTreeMap<u64, &NodeRecord> = BTreeMap::new();
    let mut problems = Vec::new();
    for primary in primaries.iter().filter(|primary| !primary.slots.is_empty()) {
        if let Some(other) = by_epoch.insert(primary.config_epoch, primary) {
            problems.push(Problem::EpochCollision {
                node: other.address.clone(),
                other: primary.address.clone(),
                epoch: primary.config_epoch,
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OpenDirection;

    fn id(name: char) -> NodeId {
        name.to_string().repeat(40).parse().expect("forty hexadecimal digits")
    }

    fn address(name: char) -> Address {
        Address::new(name.to_string(), 7000)
    }

    /// Primaries a, b and c with a third of the slots each, and d, which follows a.
    fn cluster() -> Vec<NodeRecord> {
        let node = |name, role, epoch, slots: &str| NodeRecord {
            id: id(name),
            address: address(name),
            hostname: None,
            myself: false,
            role,
            state: LinkState::Ok,
            config_epoch: epoch,
            slots: slots.parse().expect("slots"),
            open: Vec::new(),
        };
        vec![
            node('a', Role::Primary, 1, "0-5460"),
            node('b', Role::Primary, 2, "5461-10922"),
            node('c', Role::Primary, 3, "10923-16383"),
            node('d', Role::Replica { of: Some(id('a')) }, 1, ""),
        ]
    }

    fn view(by: char, change: impl Fn(&mut NodeRecord)) -> View {
        let mut records = cluster();
        for record in &mut records {
            record.myself = record.id == id(by);
            change(record);
        }
        View::new(records).expect("it describes itself")
    }

    fn views() -> Vec<View> {
        "abcd".chars().map(|by| view(by, |_| {})).collect()
    }

    fn problems(views: &[View], silent: &[char]) -> Vec<String> {
        let silent = silent.iter().map(|name| (address(*name), "timed out".to_owned())).collect();
        agree(views, &silent).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_healthy_cluster_has_no_problems() {
        let topology = agree(&views(), &Silent::new());
        assert_eq!(topology.problems, []);
        assert_eq!((topology.primaries.len(), topology.replicas.len()), (3, 1));
        assert_eq!((topology.owners[5460], topology.owners[5461], topology.owners[16383]), (0, 1, 2));
    }

    #[test]
    fn a_silent_primary_keeps_the_slots_that_others_know_of() {
        let views = [view('a', |_| {}), view('c', |_| {})];
        let topology = agree(&views, &Silent::from([(address('b'), "timed out".to_owned())]));
        assert_eq!(topology.owners[6000], 1);
        assert_eq!(problems(&views, &['b']), ["primary b:7000 cannot be reached: timed out"]);
    }

    #[test]
    fn a_failure_that_all_see_is_one_problem() {
        let failed = |record: &mut NodeRecord| {
            if record.id == id('b') {
                record.state = LinkState::Failed;
            }
        };
        let views = [view('a', failed), view('c', failed)];
        let told = problems(&views, &['b']);
        assert_eq!(told, ["primary b:7000 cannot be reached: timed out", "a:7000 sees b:7000 as failed"]);
    }

    #[test]
    fn a_dead_member_without_slots_does_not_block() {
        let after_failover = |record: &mut NodeRecord| match record.address.host.as_str() {
            "a" => (record.slots, record.state) = (SlotSet::default(), LinkState::Failed),
            "d" => (record.role, record.slots) = (Role::Primary, "0-5460".parse().expect("slots")),
            _ => {}
        };
        let views = ['b', 'c', 'd'].map(|by| view(by, after_failover));
        let topology = agree(&views, &Silent::from([(address('a'), "refused".to_owned())]));
        assert!(!topology.problems.iter().any(Problem::blocks_moves), "{:?}", topology.problems);
        let told = topology.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told, ["b:7000 sees a:7000, which owns no slot, as failed"]);
        assert_eq!(topology.primaries.len(), 3);
    }

    #[test]
    fn a_dead_replica_is_told_and_does_not_block() {
        let views = "abc".chars().map(|by| view(by, |_| {})).collect::<Vec<_>>();
        assert_eq!(problems(&views, &['d']), ["replica d:7000 cannot be reached: timed out"]);
    }

    #[test]
    fn the_odd_one_out_is_named_with_the_slots_in_question() {
        let stale = |record: &mut NodeRecord| match record.address.host.as_str() {
            "a" => record.slots = "0-5459".parse().expect("slots"),
            "b" => record.slots = "5460-10922".parse().expect("slots"),
            _ => {}
        };
        let views = [view('c', stale), view('a', |_| {}), view('b', |_| {})];
        let told = problems(&views, &[]);
        assert_eq!(told, ["c:7000 and a:7000 disagree about slots 5460"]);
    }

    #[test]
    fn of_two_claimants_the_higher_epoch_owns() {
        let greedy = |record: &mut NodeRecord| {
            if record.id == id('b') {
                record.slots = "5460-10922".parse().expect("slots");
            }
        };
        let views = [view('a', |_| {}), view('b', greedy), view('c', |_| {})];
        let topology = agree(&views, &Silent::new());
        assert_eq!(topology.owners[5460], 1);
        assert!(topology.problems.iter().any(|problem| matches!(problem, Problem::Disagreement { .. })));
    }

    #[test]
    fn slots_that_nobody_serves_are_told() {
        let hole = |record: &mut NodeRecord| {
            if record.id == id('a') {
                record.slots = "0-99 200-5460".parse().expect("slots");
            }
        };
        let views = "abcd".chars().map(|by| view(by, hole)).collect::<Vec<_>>();
        assert_eq!(problems(&views, &[]), ["nobody serves slots 100-199"]);
    }

    #[test]
    fn open_slots_are_found_on_replicas_too() {
        let mut views = views();
        let slot = SlotId::new(77).expect("a slot");
        let open = OpenSlot { slot, node: id('d'), direction: OpenDirection::Importing(id('b')) };
        views[3].myself.open = vec![open];
        assert_eq!(problems(&views, &[]), ["slots 77 are open on d:7000"]);
    }

    #[test]
    fn a_node_that_not_all_have_met_is_no_target_yet() {
        let newcomer = NodeRecord {
            id: id('e'),
            address: address('e'),
            slots: SlotSet::default(),
            config_epoch: 0,
            ..cluster().remove(0)
        };
        let met = |by: char| {
            let mut records = cluster();
            records.push(newcomer.clone());
            records.iter_mut().for_each(|record| record.myself = record.id == id(by));
            View::new(records).expect("it describes itself")
        };
        let views = [met('a'), met('b'), view('c', |_| {}), met('e')];
        assert_eq!(problems(&views, &[]), ["c:7000 does not know the address of node eeeeeeee"]);
    }

    #[test]
    fn a_node_that_was_forgotten_and_reset_is_no_member_though_it_answers() {
        let blank = NodeRecord {
            id: id('e'),
            address: address('e'),
            slots: SlotSet::default(),
            myself: true,
            ..cluster().remove(0)
        };
        let alone = View::new(vec![blank.clone()]).expect("it describes itself");
        let with_it = agree(&[view('a', |_| {}), view('b', |_| {}), view('c', |_| {}), alone.clone()], &Silent::new());
        assert_eq!(with_it, agree(&[view('a', |_| {}), view('b', |_| {}), view('c', |_| {})], &Silent::new()));
        // One that owns slots, or that somebody still knows, is a problem and not a stranger.
        let owner = NodeRecord { slots: "5".parse().expect("slots"), ..blank.clone() };
        let owner = View::new(vec![owner]).expect("it describes itself");
        assert_ne!(
            problems(&[view('a', |_| {}), view('b', |_| {}), view('c', |_| {}), owner], &[]),
            Vec::<String>::new()
        );
        let mut remembers = cluster();
        remembers.push(NodeRecord { myself: false, ..blank });
        remembers.iter_mut().for_each(|record| record.myself = record.id == id('a'));
        let remembers = View::new(remembers).expect("it describes itself");
        assert_ne!(
            problems(&[remembers, view('b', |_| {}), view('c', |_| {}), alone.clone()], &[]),
            Vec::<String>::new()
        );
        // And alone among the blank it is all that there is.
        assert_eq!(agree(&[alone], &Silent::new()).primaries.len(), 1);
    }

    #[test]
    fn a_node_without_address_is_told() {
        let lost = |record: &mut NodeRecord| {
            if record.id == id('d') {
                record.state = LinkState::Unknown;
            }
        };
        let views = [view('a', |_| {}), view('b', lost), view('c', |_| {})];
        assert!(problems(&views, &[]).contains(&"b:7000 does not know the address of node dddddddd".to_owned()));
    }

    #[test]
    fn nodes_that_agree_share_one_story() {
        let mut known = Vec::new();
        let mut views = views();
        for view in &mut views {
            view.share(&mut known);
        }
        assert_eq!(known.len(), 1);
        assert!(views.iter().all(|view| Arc::ptr_eq(&view.story, &known[0])));
        assert_eq!(agree(&views, &Silent::new()).problems, []);
    }

    #[test]
    fn owners_with_the_same_epoch_are_told() {
        let same = |record: &mut NodeRecord| record.config_epoch = record.config_epoch.max(2);
        let views = "abc".chars().map(|by| view(by, same)).collect::<Vec<_>>();
        assert_eq!(problems(&views, &[]), ["a:7000 and b:7000 share config epoch 2"]);
    }
}
