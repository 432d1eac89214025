//! `ballast approve`: shows the plan that waits for a person, and approves it or drops it.

use std::collections::BTreeMap;

use serde_json::json;

use super::author;
use super::daemon::Daemon;
use super::outcome::Outcome;
use super::screen::Screen;
use crate::control::{Status, Waiting};
use crate::explain::imbalance;
use crate::model::{Address, NodeId, SlotSet, units};

/// Which plan, and what becomes of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the plan is called; without it, shows the one that waits
    plan: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Drops it instead
    #[arg(long, requires = "plan")]
    reject: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let line = args.daemon.reach(screen)?;
    if let Some(plan) = &args.plan {
        let path = if args.reject { "/api/v1/reject" } else { "/api/v1/approve" };
        let wish = json!({ "plan": plan, "reason": args.reason, "who": author::person() });
        return line.ask(path, &wish, screen).await;
    }
    let waiting: Waiting = line.get("/api/v1/approval", "plan").await?;
    let status: Status = line.get("/api/v1/status", "status").await?;
    let addresses = status.nodes.into_iter().map(|node| (node.id, node.address)).collect();
    screen.show("Approval", &waiting, || text(&waiting, &addresses))?;
    Ok(super::outcome::Exit::Ok)
}

fn text(waiting: &Waiting, addresses: &BTreeMap<NodeId, Address>) -> String {
    let at = |id: &NodeId| addresses.get(id).map_or_else(|| id.short().to_owned(), ToString::to_string);
    let bytes = waiting.bytes.map(|bytes| format!(", {}", units::size::format(bytes))).unwrap_or_default();
    let mut text = format!(
        "plan {} of {} (cycle {}): {} slots{bytes}\n",
        waiting.plan,
        waiting.policy,
        waiting.cycle,
        waiting.moves.len()
    );
    if let Some(effect) = imbalance(&waiting.predictions, true) {
        text.push_str(&format!("  imbalance: {effect}\n"));
    }
    if !waiting.summary.is_empty() {
        text.push_str(&format!("  the policy, of all that it proposed: {}\n", waiting.summary));
    }
    let mut ends: BTreeMap<(String, String), Vec<_>> = BTreeMap::new();
    for step in &waiting.moves {
        ends.entry((at(&step.from), at(&step.to))).or_default().push(step.slot);
    }
    for ((from, to), slots) in ends {
        let slots: SlotSet = slots.into_iter().collect();
        text.push_str(&format!("  {from} -> {to}: {slots}\n"));
    }
    let next = match &waiting.approved_by {
        Some(who) => format!("approved by {who}: the next cycle carries it out\n"),
        None => {
            format!("`ballast approve {0}` has it carried out, `ballast approve {0} --reject` drops it\n", waiting.plan)
        }
    };
    text + &next
}
