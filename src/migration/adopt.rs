//! Finishes moves that somebody else began and left.
//!
//! What the target holds of them came from other hands: a key that is on both ends is never overwritten. Where both copies
//! are equal the target's is dropped beforehand (`home`), and what is left is settled as a move of our own, with copies
//! that are suspect.

use super::Context;
use super::home::{self, Double, Ends};
use super::journal::{Intent, JournalError};
use super::progress::Weights;
use super::settle::{finish_if_settled, settle};
use crate::clock::now_ms;
use crate::model::{Address, NodeId, Protocol, SlotId, SlotSet};

/// A move that is to be finished.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The owner of the slots.
    pub source: NodeId,
    /// Who gets them.
    pub target: NodeId,
    /// The source and its replicas.
    pub source_shard: Vec<NodeId>,
    /// The target and its replicas: the source's flags name one of them.
    pub target_shard: Vec<NodeId>,
    /// Which slots.
    pub slots: SlotSet,
    /// Both ends: the target holds the copies that are astray.
    pub ends: Ends,
}

/// What became of an [`Adoption`].
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    /// The target owns them.
    pub moved: SlotSet,
    /// They are as they were, or still open, and why.
    pub left: Vec<(SlotId, String)>,
    /// Keys that are on both ends with different values; their slots are among those left.
    pub different: Vec<Double>,
    /// Equal copies that were dropped.
    pub dropped: u64,
}

/// Finishes a move. `addresses` are nodes that may answer.
///
/// # Errors
/// When the journal does not take the intent: nothing has moved then.
pub async fn adopt(adoption: &Adoption, addresses: &[Address], context: &Context) -> Result<Adopted, JournalError> {
    let mut adopted = Adopted::default();
    let all: Vec<SlotId> = adoption.slots.iter().collect();
    let cleared = async {
        home::import_from(&adoption.ends.stray, &all, &adoption.source, context).await?;
        home::drop_equal_copies(&adoption.ends, &all, context).await
    };
    match cleared.await {
        Ok((dropped, different)) => (adopted.dropped, adopted.different) = (dropped, different),
        Err(reason) => {
            adopted.left = all.into_iter().map(|slot| (slot, reason.clone())).collect();
            return Ok(adopted);
        }
    }
    let apart: SlotSet = adopted.different.iter().map(|double| double.slot).collect();
    let reason = "a key has different values on both ends";
    adopted.left = apart.iter().map(|slot| (slot, reason.to_owned())).collect();
    let slots: SlotSet = adoption.slots.iter().filter(|slot| !apart.contains(*slot)).collect();
    if slots.is_empty() {
        return Ok(adopted);
    }
    let intent = Intent {
        source: adoption.source.clone(),
        target: adoption.target.clone(),
        source_shard: adoption.source_shard.clone(),
        target_shard: adoption.target_shard.clone(),
        // No process and no reign is the one that it began in: every copy is suspect.
        source_run_id: String::new(),
        source_epoch: 0,
        slots,
        protocol: Protocol::Classic,
        began_by: context.began_by.clone(),
        reason: "left open by somebody else".to_owned(),
        started_at_ms: now_ms(),
    };
    let id = context.journal.begin(&intent)?;
    let ending = settle(&intent, addresses, SlotSet::default(), (&Weights::default(), now_ms()), context).await;
    finish_if_settled(context, id, &ending);
    adopted.moved = ending.moved;
    adopted.left.extend(ending.stayed.into_iter().chain(ending.unsettled));
    Ok(adopted)
}
