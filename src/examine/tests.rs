//! What is found in what was heard.

use super::*;
use crate::cluster::question::{AtomicProtocol, JobOperation, JobRecord};
use crate::collector::agree::View;
use crate::model::{Address, LinkState, NodeId, NodeRecord, OpenDirection, OpenSlot, Problem, Role, SlotId, SlotSet};

/// What nodes say, changed by each test: a, b and c own a third of the slots each, and d follows a.
pub(crate) struct Stage {
    told: Vec<Testimony>,
}

pub(crate) fn id(name: char) -> NodeId {
    name.to_string().repeat(40).parse().expect("hexadecimal")
}

pub(crate) fn slot(number: u16) -> SlotId {
    SlotId::new(number).expect("a slot")
}

pub(crate) fn to(name: char) -> OpenDirection {
    OpenDirection::Migrating(id(name))
}

pub(crate) fn from(name: char) -> OpenDirection {
    OpenDirection::Importing(id(name))
}

impl Stage {
    pub(crate) fn new() -> Self {
        let record = |name: char, role, epoch, slots: &str| NodeRecord {
            id: id(name),
            address: Address::new(name.to_string(), 7000),
            hostname: None,
            myself: false,
            role,
            state: LinkState::Ok,
            config_epoch: epoch,
            slots: slots.parse().expect("slots"),
            open: Vec::new(),
        };
        let records = vec![
            record('a', Role::Primary, 1, "0-5460"),
            record('b', Role::Primary, 2, "5461-10922"),
            record('c', Role::Primary, 3, "10923-16383"),
            record('d', Role::Replica { of: Some(id('a')) }, 1, ""),
        ];
        Self { told: records.iter().map(|itself| Self::testimony(records.clone(), &itself.id)).collect() }
    }

    /// Changes what one node says.
    pub(crate) fn says(mut self, name: char, change: impl Fn(&mut Testimony)) -> Self {
        change(self.told.iter_mut().find(|node| node.itself().id == id(name)).expect("on stage"));
        self
    }

    /// Changes what one node has in its list, itself included.
    pub(crate) fn sees(self, name: char, change: impl Fn(&mut Vec<NodeRecord>)) -> Self {
        self.says(name, |node| {
            let open = std::mem::take(&mut node.view.myself.open);
            let mut records = node.view.story.to_vec();
            change(&mut records);
            records.iter_mut().for_each(|record| record.myself = record.id == id(name));
            node.view = View::new(records).expect("it lists itself");
            node.view.myself.open = open;
        })
    }

    /// Changes what all have in their lists.
    pub(crate) fn all_see(self, change: impl Fn(&mut Vec<NodeRecord>)) -> Self {
        ['a', 'b', 'c', 'd'].into_iter().fold(self, |stage, name| stage.sees(name, &change))
    }

    pub(crate) fn open(self, name: char, number: u16, direction: OpenDirection) -> Self {
        self.says(name, |node| {
            node.view.myself.open.push(OpenSlot { slot: slot(number), node: id(name), direction: direction.clone() });
        })
    }

    pub(crate) fn holds(self, name: char, number: u16, keys: u64) -> Self {
        self.says(name, |node| {
            node.held.push(Held { slot: slot(number), database: 0, keys, sampled: 0, doubled: 0, example: None });
        })
    }

    pub(crate) fn evidence(self) -> Evidence {
        Evidence::new(self.told, Default::default(), 1_000_000)
    }

    fn testimony(mut records: Vec<NodeRecord>, by: &NodeId) -> Testimony {
        records.iter_mut().for_each(|record| record.myself = record.id == *by);
        Testimony {
            view: View::new(records).expect("it lists itself"),
            run_id: by.to_string(),
            link_up: true,
            held: Vec::new(),
            hidden: 0,
            replicates_setslot: false,
            databases: Some(1),
            atomic: None,
            jobs: Vec::new(),
            untold: Vec::new(),
        }
    }
}

/// The record of that node in a list.
pub(crate) fn of(records: &mut [NodeRecord], name: char) -> &mut NodeRecord {
    records.iter_mut().find(|record| record.id == id(name)).expect("a member")
}

fn told(stage: Stage) -> Vec<String> {
    findings(&stage.evidence()).iter().map(ToString::to_string).collect()
}

fn job(operation: JobOperation, state: &str, created_at_ms: u64) -> JobRecord {
    JobRecord {
        name: "job".into(),
        operation,
        slots: "7".parse().expect("slots"),
        source: Some(id('a')),
        target: Some(id('b')),
        state: state.into(),
        message: String::new(),
        created_at_ms: Some(created_at_ms),
        finished: false,
    }
}

#[test]
fn nothing_is_found_in_a_healthy_cluster() {
    assert_eq!(told(Stage::new()), Vec::<String>::new());
}

#[test]
fn each_way_in_which_a_slot_may_be_open_is_told_apart() {
    let stage = Stage::new;
    for (stage, sentence) in [
        (
            stage().open('a', 7, to('b')).open('b', 7, from('a')).holds('b', 7, 3),
            "slot 7 is half-moved from a:7000 to b:7000, which holds 3 keys of it",
        ),
        (
            stage().open('a', 7, to('b')).holds('b', 7, 3),
            "slot 7 is migrating on a:7000 to b:7000, and nobody imports it; b:7000 holds 3 keys of it",
        ),
        (stage().open('a', 7, to('b')), "slot 7 is migrating on a:7000 to b:7000, and nobody imports it"),
        (
            stage().open('a', 7, to('f')),
            "slot 7 is migrating on a:7000 to unknown node ffffffff, and nobody imports it; that node is no member",
        ),
        (
            stage().open('b', 7, from('d')).holds('b', 7, 2),
            "slot 7 is importing on b:7000 from d:7000, and its owner a:7000 does not migrate it there; b:7000 holds 2 keys of it",
        ),
        (stage().open('b', 7, to('c')), "slot 7 carries a flag on b:7000 that says nothing there"),
        (stage().open('d', 7, to('b')), "replica d:7000 carries a flag of slot 7 that its primary does not"),
    ] {
        let told = told(stage);
        assert_eq!(told, [sentence]);
    }
}

#[test]
fn a_slot_that_goes_one_way_and_is_taken_another_way_is_two_findings() {
    let stage = Stage::new().open('a', 7, to('b')).open('b', 7, from('a')).open('c', 7, from('a'));
    let told = told(stage);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("half-moved from a:7000 to b:7000") && told[1].contains("importing on c:7000"),
        "{told:?}"
    );
}

#[test]
fn a_replica_that_valkey_keeps_informed_is_no_finding_of_its_own() {
    let stage = Stage::new().open('a', 7, to('b')).open('d', 7, to('b')).open('b', 7, from('a'));
    assert_eq!(told(stage).len(), 1);
}

#[test]
fn keys_on_a_node_that_does_not_own_their_slot_are_strays_unless_the_slot_is_open_there() {
    let told_of = told(Stage::new().holds('b', 7, 3).holds('b', 9, 1));
    assert_eq!(told_of, ["b:7000 holds 4 keys in slots 7 9, which it does not own"]);
    let moving = Stage::new().holds('b', 7, 3).says('a', |node| {
        node.jobs = vec![job(JobOperation::Export, "snapshotting", 999_000)];
        node.atomic = Some(AtomicProtocol::ValkeyMigrateSlots);
    });
    assert!(!told(moving).iter().any(|told| told.contains("does not own")), "the server is at it");
    assert!(told(Stage::new().says('b', |node| node.hidden = 4))[0].contains("does not say in which"));
}

#[test]
fn jobs_that_will_not_end_by_themselves_are_unhealthy() {
    let with = |job: JobRecord| {
        let stage = Stage::new().says('a', |node| {
            node.jobs = vec![job.clone()];
            node.atomic = Some(AtomicProtocol::RedisMigrationImport);
        });
        findings(&stage.evidence()).remove(0).severity()
    };
    assert_eq!(with(job(JobOperation::Import, "send-stream", 999_000)), Severity::WorthKnowing);
    assert_eq!(with(job(JobOperation::Import, "failed", 999_000)), Severity::Unhealthy, "it tries for ever");
    assert_eq!(with(job(JobOperation::Export, "replicating", 1_000)), Severity::Unhealthy, "for a quarter of an hour");
}

#[test]
fn a_slot_that_two_own_is_settled_by_the_higher_epoch() {
    let both = Stage::new().says('b', |node| {
        let mut greedy = node.view.myself.clone();
        greedy.slots = "5460-10922".parse().expect("slots");
        let others = node.view.story.iter().filter(|record| record.id != greedy.id).cloned();
        let mut records: Vec<NodeRecord> = others.collect();
        for record in records.iter_mut().filter(|record| record.id == id('a')) {
            record.slots = "0-5459".parse().expect("slots");
        }
        greedy.myself = true;
        records.push(greedy);
        node.view = View::new(records).expect("it lists itself");
    });
    let evidence = both.evidence();
    assert_eq!(evidence.claim(slot(5460)), Claim::Contested(vec![id('b'), id('a')]));
    assert_eq!(evidence.claim(slot(1)), Claim::Agreed(id('a')));
    let told: Vec<String> = findings(&evidence).iter().map(ToString::to_string).collect();
    assert!(told.contains(&"slot 5460 is taken to be owned by b:7000 and by a:7000".to_owned()), "{told:?}");
}

#[test]
fn a_slot_that_nobody_owns_is_told_with_who_was_believed_to() {
    let gone = Stage::new().says('a', |node| {
        let slots: SlotSet = "1-5460".parse().expect("slots");
        let mut records = node.view.story.to_vec();
        for record in records.iter_mut().filter(|record| record.id == id('a')) {
            (record.slots, record.myself) = (slots.clone(), true);
        }
        node.view = View::new(records).expect("it lists itself");
    });
    let evidence = gone.evidence();
    assert_eq!(evidence.claim(slot(0)), Claim::Nobody { believed: Some(id('a')) });
    assert!(findings(&evidence).iter().any(|found| matches!(found, Finding::Seen(Problem::SlotsUncovered { .. }))));
}

#[test]
fn every_unhealthy_finding_comes_with_a_remedy() {
    let stage = Stage::new()
        .open('a', 7, to('b'))
        .open('b', 8, from('a'))
        .open('d', 9, from('a'))
        .holds('c', 7, 1)
        .says('d', |node| node.link_up = false)
        .says('c', |node| node.hidden = 1);
    for finding in findings(&stage.evidence()) {
        assert!(!finding.remedy().is_empty(), "{finding}");
    }
    let precision = Problem::SlotStatsOff { node: Address::new("a", 1), detail: "off".into() };
    assert_eq!(Finding::Seen(precision).severity(), Severity::WorthKnowing, "a matter of precision, not of health");
}

#[test]
fn an_importing_node_that_missed_a_failover_does_not_contest_the_new_owner() {
    let story = |node: &mut Testimony, change: &dyn Fn(&mut NodeRecord)| {
        let mut records = node.view.story.to_vec();
        let myself = node.view.myself.id.clone();
        records.iter_mut().for_each(change);
        records.iter_mut().filter(|record| record.id == myself).for_each(|record| record.myself = true);
        node.view = View::new(records).expect("it lists itself");
    };
    let took_over = |record: &mut NodeRecord| match record.address.host.as_str() {
        "a" => (record.role, record.slots) = (Role::Replica { of: Some(id('d')) }, SlotSet::default()),
        "d" => (record.role, record.slots) = (Role::Primary, "0-5460".parse().expect("slots")),
        _ => {}
    };
    let missed = |record: &mut NodeRecord| match record.address.host.as_str() {
        "a" => (record.role, record.slots) = (Role::Replica { of: Some(id('d')) }, "7".parse().expect("slots")),
        "d" => (record.role, record.slots) = (Role::Primary, "0-6 8-5460".parse().expect("slots")),
        _ => {}
    };
    let stage = "acd".chars().fold(Stage::new(), |stage, name| stage.says(name, |node| story(node, &took_over)));
    let stage = stage.says('b', |node| story(node, &missed)).open('b', 7, from('a')).holds('b', 7, 2);
    let evidence = stage.evidence();
    assert_eq!(evidence.claim(slot(7)), Claim::Agreed(id('d')));
}
