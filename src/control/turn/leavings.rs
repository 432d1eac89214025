//! Flags that our own migrations left behind: a node missed the word that closed a slot, and holds on to what it knew.
//!
//! A replica that synchronises anew while a slot is open may keep the flag for ever (docs/traps.md, 10); once it is promoted, its
//! flag stops every move. Whether clearing it is safe is what `repair` knows, as for `ballast fix`. What is known here in
//! addition is that nobody else set it: a migration of ours that has ended did. What is not known of any member counts against
//! clearing: here nobody is asked first.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{Crew, Orders};
use crate::cluster::Cluster;
use crate::examine::{Audit, Evidence, Party, Testimony, listen};
use crate::lease::NOT_BEGUN;
use crate::migration::{self, Intent};
use crate::model::{Address, NodeId, OpenSlot, Protocol, SlotId, SlotSet, Snapshot};
use crate::repair::{Assignments, Repair, at_work, prescribe};
use crate::store::{Event, JournalEntry};
use crate::telemetry::chain;

/// So many of the newest migrations are asked whose flags these are; older ones are left to a person.
const RECENT: usize = 5_000;

/// Flags are cleared node by node, each after looks of its own; the next turn goes on.
const NODES_A_TURN: usize = 8;

/// Whoever moves slots changes something within a second; and within a second a replica has what its primary was told.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// A look asks every node, and a cycle has better to do, while nothing changes.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Flags that stay: those of the last look, and those that nothing could be done about.
#[derive(Debug, Default)]
pub(in crate::control) struct Lasting {
    before: Vec<OpenSlot>,
    /// Those of them that stand on a primary, where they hold up every move.
    in_force: Vec<OpenSlot>,
    given_up: Vec<OpenSlot>,
    /// Until when, and how long the next time, while the same flags stay in spite of all; and what was said to be in the way.
    wait: Option<(Instant, Duration)>,
    in_the_way: String,
}

impl Lasting {
    /// The flags in `snapshot` that were there at the last look too and were not given up.
    fn of(&mut self, snapshot: &Snapshot) -> Vec<OpenSlot> {
        let now = &snapshot.open_slots;
        let reigns = |open: &OpenSlot| snapshot.index_of(&open.node).is_some();
        self.given_up.retain(|open| now.contains(open) && !reigns(open));
        let lasts = |open: &&OpenSlot| self.before.contains(open) && !self.given_up.contains(open);
        let lasting: Vec<OpenSlot> = now.iter().filter(lasts).cloned().collect();
        // Whoever is promoted brings its flags into force: that does not wait.
        let in_force: Vec<OpenSlot> = now.iter().filter(|open| reigns(open)).cloned().collect();
        if self.before != *now || self.in_force != in_force {
            (self.wait, self.in_the_way) = (None, String::new());
        }
        self.before.clone_from(now);
        self.in_force = in_force;
        lasting
    }

    /// Whether it is too early to try again.
    fn rests(&self) -> bool {
        self.wait.is_some_and(|(until, _)| Instant::now() < until)
    }

    /// Nothing can be done about what is left: the same is tried again later and later, until something changes. `why` is logged once.
    fn rest(&mut self, slots: &SlotSet, why: &str) {
        let next = self.wait.map_or(FIRST_REST, |(_, next)| (next * 2).min(LONGEST_REST));
        self.wait = Some((Instant::now() + next, next));
        if self.in_the_way != why {
            why.clone_into(&mut self.in_the_way);
            if !why.is_empty() {
                warn!(%slots, why, "flags of ours that were left behind stay for now");
            }
        }
    }

    /// These flags are not looked at again for as long as they stand on a replica: on a primary they hold up every move.
    fn give_up<'a>(&mut self, flags: impl Iterator<Item = &'a OpenSlot>, snapshot: &Snapshot) {
        self.given_up.extend(flags.filter(|open| snapshot.index_of(&open.node).is_none()).cloned());
    }
}

/// Migrations of ours, as far as flags can be theirs.
struct Past {
    /// Those that have ended and set flags, newest first.
    ended: Vec<Intent>,
    /// Slots of those that have not ended: nobody's business but theirs.
    unfinished: SlotSet,
}

/// Clears what migrations of ours that have ended left behind, as far as that is safe; the next look sees it.
pub(super) async fn clear(crew: &mut Crew, orders: &Orders, snapshot: &Snapshot) {
    let lasting = crew.lasting.of(snapshot);
    // Who pauses us to move slots by hand finds nobody else at it.
    if lasting.is_empty() || !orders.mode.acts() || crew.lasting.rests() {
        return;
    }
    let past = match past(orders).await {
        Ok(past) => past,
        Err(error) => return warn!(error = %chain(&*error), "whose flags these are cannot be told"),
    };
    let slots = past.ours(&lasting);
    let not_ours = |open: &&OpenSlot| !slots.contains(open.slot) && !past.unfinished.contains(open.slot);
    crew.lasting.give_up(lasting.iter().filter(not_ours), snapshot);
    if slots.is_empty() {
        return crew.lasting.rest(&slots, "");
    }
    let addresses: Vec<_> = snapshot.members().map(|(_, address)| address.clone()).collect();
    let looks = Looks { cluster: crew.cluster.clone(), addresses, slots: &slots, past: &past };
    match close_all(&looks, orders).await {
        // What is left on replicas now goes away with them, or with their promotion.
        Ok(true) => {
            crew.lasting.give_up(lasting.iter(), snapshot);
            crew.lasting.rest(&slots, "");
        }
        Ok(false) => {}
        Err(why) => crew.lasting.rest(&slots, &why),
    }
}

/// Closes node after node, each by looks of its own; whether nothing is left that can be closed. The text of an error says what is
/// in the way.
async fn close_all(looks: &Looks<'_>, orders: &Orders) -> Result<bool, String> {
    let context = orders.context(looks.cluster.clone(), None);
    let mut before = looks.look().await?;
    let mut said: Vec<Close> = Vec::new();
    loop {
        let fresh = |evidence: &Evidence| {
            closable(evidence, looks.slots, looks.past).into_iter().find(|close| !said.contains(close))
        };
        if fresh(&before).is_none() {
            return Ok(true);
        }
        sleep(BETWEEN_LOOKS).await;
        let evidence = looks.look().await?;
        if let Some(sign) = at_work(&before, &evidence) {
            return Err(format!("somebody is moving slots: {sign}"));
        }
        let Some(close) = fresh(&evidence) else { return Ok(true) };
        if said.len() == NODES_A_TURN || orders.stop.is_asked() {
            return Ok(false);
        }
        let address = close.node.address.as_ref().ok_or("nobody knows where it is")?;
        migration::close_once(address, &close.slots.iter().collect::<Vec<_>>(), &context).await?;
        sleep(BETWEEN_LOOKS).await;
        before = looks.look().await?;
        // A word that does not arrive where the flag is clears nothing, and is not said again.
        if !closable(&before, looks.slots, looks.past).contains(&close) {
            let Close { node, slots, why } = close.clone();
            info!(%slots, %node, why, "a flag that an ended migration of ours had left behind is cleared");
            orders.tell(Event::FlagsCleared { slots, node: node.to_string(), why });
        }
        said.push(close);
    }
}

/// What is looked at again and again.
struct Looks<'a> {
    cluster: Arc<dyn Cluster>,
    addresses: Vec<Address>,
    slots: &'a SlotSet,
    past: &'a Past,
}

impl Looks<'_> {
    /// What all primaries say. The text of an error says who did not.
    async fn look(&self) -> Result<Evidence, String> {
        let heard = listen(&*self.cluster, &self.addresses, &Audit::Slots(self.slots.clone())).await;
        let evidence = heard.map_err(|error| chain(&error))?;
        if evidence.is_whole() { Ok(evidence) } else { Err("not every primary tells all that it is asked".to_owned()) }
    }
}

/// Migrations that have ended, as far as they set flags; and the slots of those that have not.
async fn past(orders: &Orders) -> Result<Past, Box<dyn Error + Send + Sync>> {
    let (store, journal) = (orders.keeper.store.clone(), Arc::clone(&orders.journal));
    let read = move || {
        let unfinished = journal.unfinished()?.iter().flat_map(|(_, intent)| intent.slots.iter()).collect();
        let began = |entry: &JournalEntry| entry.ending.as_ref().is_some_and(|ending| ending != NOT_BEGUN);
        let ended = store.journal(RECENT)?.into_iter().filter(began).map(|entry| entry.intent);
        let ended = ended.filter(|intent| intent.protocol == Protocol::Classic).collect();
        Ok(Past { ended, unfinished })
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()))
}

impl Past {
    /// The slots of these `flags` that an ended migration of ours moved.
    fn ours<'a>(&self, flags: impl IntoIterator<Item = &'a OpenSlot>) -> SlotSet {
        self.ours_by(flags, |_, _| true)
    }

    /// The slots all of whose flags, as they stand now, such a migration may have set: between its shards, whoever is of them by now.
    /// (Valkey changes a flag by itself to name whoever succeeds the node that it named.)
    fn still_ours(&self, evidence: &Evidence) -> SlotSet {
        let flags = evidence.nodes.values().flat_map(|node| &node.itself().open);
        self.ours_by(flags, |intent, open| {
            let is_of = |(node, shard): (&NodeId, &[NodeId])| evidence.kin(node).iter().any(|kin| shard.contains(kin));
            intent.ends_of(open).into_iter().all(is_of)
        })
    }

    fn ours_by<'a>(
        &self,
        flags: impl IntoIterator<Item = &'a OpenSlot>,
        and: impl Fn(&Intent, &OpenSlot) -> bool,
    ) -> SlotSet {
        let opened = |open: &OpenSlot| {
            !self.unfinished.contains(open.slot)
                && self.ended.iter().any(|intent| intent.slots.contains(open.slot) && and(intent, open))
        };
        let (ours, others): (Vec<_>, Vec<_>) = flags.into_iter().partition(|open| opened(open));
        let others: SlotSet = others.into_iter().map(|open| open.slot).collect();
        ours.into_iter().map(|open| open.slot).filter(|slot| !others.contains(*slot)).collect()
    }
}

/// Flags of one node that may go.
#[derive(Debug, Clone, PartialEq)]
struct Close {
    node: Party,
    slots: SlotSet,
    why: String,
}

/// The flags of `slots` that may be cleared, as far as all flags that stand on these slots now are ours. Repairs that would do more
/// are a person's.
fn closable(evidence: &Evidence, slots: &SlotSet, past: &Past) -> Vec<Close> {
    let still_ours = past.still_ours(evidence);
    // Whoever owns a slot may be sending it; and keys on anybody else are for `ballast fix` to bring home.
    let at_home = |slot: SlotId| {
        evidence.claim(slot).agreed().is_some_and(|owner| {
            let strays = |node: &Testimony| node.keys_in(slot) > 0 && node.itself().id != *owner;
            evidence.nodes.contains_key(owner) && !evidence.primaries().any(strays)
        })
    };
    let mine = |slot: &SlotId| slots.contains(*slot) && still_ours.contains(*slot) && at_home(*slot);
    let close = |repair| match repair {
        Repair::Close { slots: found, node, reason } => {
            let slots: SlotSet = found.iter().filter(mine).collect();
            (!slots.is_empty()).then_some(Close { node, slots, why: reason })
        }
        _ => None,
    };
    prescribe(evidence, &Assignments::default()).repairs.into_iter().filter_map(close).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::examine::tests::{Stage, from, id, of, slot, to};
    use crate::model::{Primary, Role};

    /// Slots 7 and 8 went from a to b once.
    fn past() -> Past {
        let intent = Intent {
            source: id('a'),
            source_shard: vec![id('a'), id('d')],
            target: id('b'),
            target_shard: vec![id('b'), id('e')],
            source_run_id: String::new(),
            source_epoch: 1,
            slots: "7-8".parse().expect("slots"),
            protocol: Protocol::Classic,
            started_at_ms: 0,
            began_by: String::new(),
            reason: String::new(),
        };
        Past { ended: vec![intent], unfinished: SlotSet::default() }
    }

    fn closed(stage: Stage, past: &Past) -> Vec<(String, String)> {
        let slots = "0-16383".parse().expect("slots");
        let close = closable(&stage.evidence(), &slots, past);
        close.into_iter().map(|close| (close.node.to_string(), close.slots.to_string())).collect()
    }

    /// Found by two hours of soak: what nothing could be done about on a replica held everything up once that one led.
    #[test]
    fn a_flag_that_comes_into_force_is_looked_at_without_delay() {
        let mut snapshot = synthetic(3, 1);
        let stray = Primary { id: id('e'), ..snapshot.primaries[0].clone() };
        snapshot.open_slots = vec![OpenSlot { slot: slot(7), node: stray.id.clone(), direction: from('a') }];
        let mut lasting = Lasting::default();
        assert_eq!(lasting.of(&snapshot), [], "seen for the first time");
        assert_eq!(lasting.of(&snapshot).len(), 1);
        lasting.give_up(snapshot.open_slots.iter(), &snapshot);
        lasting.rest(&SlotSet::default(), "");
        assert_eq!((lasting.of(&snapshot), lasting.rests()), (Vec::new(), true), "on a replica it does no harm");
        snapshot.primaries.push(stray);
        assert_eq!((lasting.of(&snapshot).len(), lasting.rests()), (1, false), "it leads");
    }

    #[test]
    fn a_flag_is_ours_by_whom_it_names_and_by_who_carries_it() {
        let stage = Stage::new;
        assert_eq!(closed(stage().open('b', 7, from('a')), &past()), [("b:7000".to_owned(), "7".to_owned())]);
        assert_eq!(closed(stage().open('a', 7, to('b')), &past()), [("a:7000".to_owned(), "7".to_owned())]);
        assert_eq!(closed(stage().open('c', 7, from('a')), &past()), [], "somebody else moves it to c");
        assert_eq!(closed(stage().open('b', 9, from('a')), &past()), [], "no such slot was ours");
        assert_eq!(closed(stage().open('b', 7, from('c')), &past()), []);
        // Valkey had it name who succeeded the source: nobody of its shard when we began, and kin of one by now.
        let renamed = stage()
            .open('b', 7, from('c'))
            .all_see(|records| of(records, 'd').role = Role::Replica { of: Some(id('c')) });
        assert_eq!(closed(renamed, &past()), [("b:7000".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn a_slot_that_one_flag_of_somebody_else_stands_on_is_left_alone() {
        let both = Stage::new().open('b', 7, from('a')).open('c', 7, from('a'));
        assert_eq!(closed(both, &past()), []);
    }

    #[test]
    fn what_is_unfinished_is_left_to_its_end_and_what_holds_keys_to_a_person() {
        let unfinished = Past { unfinished: SlotSet::from_iter([slot(7)]), ..past() };
        assert_eq!(closed(Stage::new().open('b', 7, from('a')), &unfinished), []);
        assert_eq!(closed(Stage::new().open('b', 7, from('a')).holds('b', 7, 1), &past()), []);
        let mut evidence = Stage::new().open('a', 7, to('b')).evidence();
        assert!(evidence.is_whole());
        evidence.nodes.remove(&id('b'));
        assert!(!evidence.is_whole());
        assert!(closable(&evidence, &SlotSet::from_iter([slot(7)]), &past()).is_empty());
    }

    #[test]
    fn a_flag_on_a_replica_is_given_up_when_it_was_tried_and_one_on_a_primary_never() {
        let mut lasting = Lasting::default();
        let mut snapshot = Snapshot::default();
        let flag =
            OpenSlot { slot: slot(7), node: id('e'), direction: crate::model::OpenDirection::Importing(id('a')) };
        snapshot.open_slots = vec![flag.clone()];
        assert_eq!(lasting.of(&snapshot), [], "it may be on its way out");
        assert_eq!(lasting.of(&snapshot), snapshot.open_slots);
        assert_eq!(lasting.of(&snapshot), snapshot.open_slots, "nobody has tried yet");
        lasting.give_up([&flag].into_iter(), &snapshot);
        assert_eq!(lasting.of(&snapshot), []);
        snapshot.open_slots.clear();
        assert_eq!(lasting.of(&snapshot), []);
        snapshot.open_slots = vec![flag.clone()];
        assert_eq!(lasting.of(&snapshot), []);
        assert_eq!(lasting.of(&snapshot), snapshot.open_slots, "it came back");
        lasting.give_up([&flag].into_iter(), &snapshot);
        assert_eq!(lasting.of(&snapshot), []);
        let leads = crate::policy::synthetic_snapshot(1).primaries.remove(0);
        snapshot.primaries = vec![Primary { id: id('e'), ..leads }];
        assert_eq!(lasting.of(&snapshot), [flag], "it was promoted, and holds up every move");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_tried_again_later_and_later_until_something_changes() {
        let (mut lasting, mut snapshot) = (Lasting::default(), Snapshot::default());
        let flag = |slot_number| OpenSlot {
            slot: slot(slot_number),
            node: id('a'),
            direction: crate::model::OpenDirection::Migrating(id('b')),
        };
        snapshot.open_slots = vec![flag(7)];
        let slots = SlotSet::from_iter([slot(7)]);
        lasting.of(&snapshot);
        lasting.rest(&slots, "a node is silent");
        assert!(lasting.rests());
        tokio::time::advance(FIRST_REST).await;
        assert!(!lasting.rests());
        lasting.rest(&slots, "a node is silent");
        tokio::time::advance(FIRST_REST).await;
        assert!(lasting.rests(), "twice as long");
        snapshot.open_slots.push(flag(8));
        lasting.of(&snapshot);
        assert!(!lasting.rests());
    }
}
