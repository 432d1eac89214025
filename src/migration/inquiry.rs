//! Asks the target of slots that their source owns and does not give away whether it holds keys of them, and does what follows.

use super::Context;
use super::fate::Inquiry;
use super::home::{self, Flags};
use crate::model::{Address, SlotId};

/// What the target said of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// It holds nothing, and imports nothing: the slot was not moved.
    Vacant,
    /// It holds keys. The slot is importing again: the next look sees that it goes on.
    Reopened,
    /// It holds keys, and nobody may go on who does not compare values: why, and what to do.
    Apart(String),
    /// Nothing is known, and why.
    Silent(String),
}

/// Asks the target, which is reached `at`.
pub(super) async fn ask(at: &Address, inquiry: &Inquiry, slots: &[SlotId], context: &Context) -> Vec<(SlotId, Word)> {
    let Inquiry { owner, suspect, open, .. } = inquiry;
    let flags = match (open, suspect) {
        (true, _) => Flags::Standing,
        (false, true) => Flags::Wanted,
        (false, false) => Flags::Absent,
    };
    let all = |word: Word| slots.iter().map(|slot| (*slot, word.clone())).collect();
    let held = match home::held(at, slots, (owner, flags), context).await {
        Ok(held) => held,
        Err(why) => return all(Word::Silent(why)),
    };
    let vacant: Vec<SlotId> = slots.iter().copied().filter(|slot| !held.contains(*slot)).collect();
    // On the target alone: a flag that somebody else set is not ours.
    let closed = if *open { home::close_once(at, &vacant, context).await } else { Ok(()) };
    let word = |slot: SlotId| match (held.contains(slot), &closed) {
        (true, _) if *suspect => Word::Reopened,
        // Its clients had nil for what the target holds, and may have written it anew.
        (true, _) => Word::Apart(format!(
            "its source does not give it away, and keys of it are on {at}: `ballast fix` brings them home"
        )),
        (false, Ok(())) => Word::Vacant,
        (false, Err(why)) => Word::Silent(why.clone()),
    };
    slots.iter().map(|slot| (*slot, word(*slot))).collect()
}
