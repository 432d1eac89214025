//! `ballast explain`: why did a slot move, why did a cycle do what it did, why does nothing move?

use serde::Serialize;

use super::archive::{Archive, unknown};
use super::outcome::{Exit, Outcome, refused};
use super::screen::Screen;
use crate::clock::now_ms;
use crate::explain::{Explanation, Question, Unexplained, explain};
use crate::model::SlotId;

/// What is to be explained.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    archive: Archive,
    /// A cycle, by its number
    #[arg(value_name = "CYCLE", conflicts_with_all = ["slot", "now"])]
    cycle: Option<u64>,
    /// Why this slot moved, or did not
    #[arg(long, value_name = "N", conflicts_with = "now")]
    slot: Option<u16>,
    /// Why nothing moves, or what does; the same as no argument at all
    #[arg(long)]
    now: bool,
    /// At most so many moves of a slot
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,
}

#[derive(Serialize)]
struct Explained {
    items: Vec<Explanation>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Outcome {
    let question = match (args.cycle, args.slot) {
        (Some(cycle), _) => Question::Cycle(cycle),
        (None, Some(number)) => {
            let slot = SlotId::new(number);
            let slot = slot.ok_or_else(|| refused(format!("there is no slot {number}"), "slots are 0 to 16383"))?;
            Question::Slot(slot, args.limit)
        }
        (None, None) => Question::Now,
    };
    let store = args.archive.open(screen)?;
    let items = explain(question, &store, now_ms()).map_err(|why| match why {
        Unexplained::Unknown(cycle) => unknown(cycle),
        other => other.into(),
    })?;
    let explained = Explained { items };
    screen.show("Explanation", &explained, || {
        let texts: Vec<String> = explained.items.iter().map(ToString::to_string).collect();
        texts.join("\n")
    })?;
    Ok(Exit::Ok)
}
