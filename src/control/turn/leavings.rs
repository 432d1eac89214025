//! Flags that our own migrations left behind: a node missed the word that closed a slot, and holds on to what it knew.
//!
//! A replica that synchronises anew while a slot is open may keep the flag for ever (docs/traps.md, 10); once it is promoted, its
//! flag stops every move. Whether clearing it is safe is what `repair` knows, as for `ballast fix`. What is known here in
//! addition is that nobody else set it: a migration of ours that has ended did.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Crew, Orders};
use crate::examine::{Audit, Evidence, listen};
use crate::migration::Intent;
use crate::model::{Mode, OpenSlot, SlotSet, Snapshot};
use crate::repair::{Assignments, Repair, perform, prescribe};
use crate::store::{Event, StoreError};
use crate::telemetry::chain;

/// So many of the newest migrations are asked whose flags these are; older ones are left to a person.
const RECENT: usize = 5_000;

/// Flags that stay: those of the last look, and those that nothing could be done about.
#[derive(Debug, Default)]
pub(in crate::control) struct Lasting {
    before: Vec<OpenSlot>,
    given_up: Vec<OpenSlot>,
}

impl Lasting {
    /// The flags in `snapshot` that were there at the last look too and are worth a try: a flag on a primary always is, since it
    /// holds up every move, one on a replica once.
    fn of(&mut self, snapshot: &Snapshot) -> Vec<OpenSlot> {
        let now = &snapshot.open_slots;
        self.given_up.retain(|open| now.contains(open));
        let reigns = |open: &OpenSlot| snapshot.index_of(&open.node).is_some();
        let lasts = |open: &&OpenSlot| self.before.contains(open) && (reigns(open) || !self.given_up.contains(open));
        let lasting: Vec<OpenSlot> = now.iter().filter(lasts).cloned().collect();
        self.before.clone_from(now);
        self.given_up.extend(lasting.iter().filter(|open| !reigns(open)).cloned());
        lasting
    }
}

/// Clears what migrations of ours that have ended left behind, as far as that is safe; the next look sees it.
pub(super) async fn clear(crew: &mut Crew, orders: &Orders, snapshot: &Snapshot) {
    let lasting = crew.lasting.of(snapshot);
    if lasting.is_empty() || orders.mode == Mode::Follower {
        return;
    }
    let ended = match ended(orders).await {
        Ok(ended) => ended,
        Err(error) => return warn!(error = %chain(&error), "whose flags these are cannot be told"),
    };
    let slots = ours(&lasting, &ended);
    if slots.is_empty() {
        return;
    }
    let addresses: Vec<_> = snapshot.members().map(|(_, address)| address.clone()).collect();
    let evidence = match listen(&*crew.cluster, &addresses, &Audit::Slots(slots.clone())).await {
        Ok(evidence) => evidence,
        Err(error) => return warn!(%slots, error = %chain(&error), "flags of ours that were left behind stay for now"),
    };
    let context = orders.context(crew.cluster.clone(), None);
    for (close, why) in closable(&evidence, &slots, &ended) {
        let Repair::Close { slots, node, .. } = &close else { continue };
        match perform(&close, &evidence, &context).await {
            Ok(_) => {
                info!(%slots, %node, why, "a flag that an ended migration of ours had left behind is cleared");
                orders.tell(Event::FlagsCleared { slots: slots.clone(), node: node.to_string(), why });
            }
            Err(error) => warn!(%slots, %node, error, "a flag of ours that was left behind stays for now"),
        }
    }
}

/// Migrations that have ended, newest first; none of a slot that one which has not ended is about.
async fn ended(orders: &Orders) -> Result<Vec<Intent>, StoreError> {
    let (store, journal) = (orders.keeper.store.clone(), Arc::clone(&orders.journal));
    let read = move || {
        let Ok(unfinished) = journal.unfinished() else { return Ok(Vec::new()) };
        let open: SlotSet = unfinished.iter().flat_map(|(_, intent)| intent.slots.iter()).collect();
        let ended = store.journal(RECENT)?.into_iter().filter(|entry| entry.ending.is_some());
        let without = |intent: Intent| Intent {
            slots: intent.slots.iter().filter(|slot| !open.contains(*slot)).collect(),
            ..intent
        };
        Ok(ended.map(|entry| without(entry.intent)).collect())
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()))
}

/// The slots all of whose `flags` a migration of ours may have set.
fn ours(flags: &[OpenSlot], ended: &[Intent]) -> SlotSet {
    let opened = |open: &OpenSlot| ended.iter().any(|intent| intent.opens(open));
    let (ours, others): (Vec<_>, Vec<_>) = flags.iter().partition(|open| opened(open));
    let others: SlotSet = others.into_iter().map(|open| open.slot).collect();
    ours.into_iter().map(|open| open.slot).filter(|slot| !others.contains(*slot)).collect()
}

/// The repairs that clear flags of `slots`, with the reason, as far as all flags that stand now are ours. Repairs that would do
/// more are a person's.
fn closable(evidence: &Evidence, slots: &SlotSet, ended: &[Intent]) -> Vec<(Repair, String)> {
    let flags: Vec<OpenSlot> = evidence.nodes.values().flat_map(|node| node.itself().open.clone()).collect();
    let still_ours = ours(&flags, ended);
    let repairs = prescribe(evidence, &Assignments::default()).repairs.into_iter();
    let close = |repair| match repair {
        Repair::Close { slots: found, node, reason } => {
            let slots: SlotSet =
                found.iter().filter(|slot| slots.contains(*slot) && still_ours.contains(*slot)).collect();
            (!slots.is_empty()).then(|| (Repair::Close { slots, node, reason: reason.clone() }, reason))
        }
        _ => None,
    };
    repairs.filter_map(close).collect()
}
