//! `ballast reshard`: moves slots by hand, through the same guard and the same hands as everything else.

use std::time::Duration;

use serde::Serialize;

use super::carry_out::{Done, Hands, Manner};
use super::look::Eye;
use super::nodes;
use super::outcome::{Exit, Outcome, refused};
use super::proposal::Proposal;
use super::rebalance::tell;
use super::screen::Screen;
use super::target::Target;
use crate::guard::Limits;
use crate::model::{NodeIndex, Plan, PolicyId, ProposedMove, Refusal, SLOT_COUNT, SlotId, SlotSet, Snapshot, units};

/// What to move. What is missing is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Primaries to take slots from, by address or id, parted by commas; or all
    #[arg(long, value_name = "NODES|all")]
    from: Option<String>,
    /// Primary to give them to, by address or id
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// How many slots, or which: 100, or 0-99,200
    #[arg(long, value_name = "COUNT|RANGES")]
    slots: Option<String>,
    #[command(flatten)]
    manner: Manner,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
}

/// What a reshard did.
#[derive(Debug, Serialize)]
struct Reshard {
    #[serde(flatten)]
    done: Done,
    refusals: Vec<Refusal>,
}

/// Two looks this far apart: a person has decided, so the load does not matter, only that the cluster is well.
const SAMPLE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    screen.can_ask(args.yes)?;
    let connection = args.target.connect(screen)?;
    let mut eye = Eye::new(&connection);
    let seen = eye.glance().await?;
    let asking = |given: &Option<String>, question: &str, flag: &str| match given {
        Some(given) => Ok(given.clone()),
        None => {
            screen.note(&nodes::listing(&seen));
            screen.ask(question, flag)
        }
    };
    let slots = asking(&args.slots, "How many slots do you want to move, or which (0-99,200)?", "--slots")?;
    let to = asking(&args.to, "Which node shall receive them?", "--to")?;
    let from = asking(&args.from, "Which nodes shall give them (addresses or ids, or all)?", "--from")?;

    // Once now, so that a slip of the keyboard is told before anything is done.
    choose_all(&slots, &from, &to, &seen)?;
    let mut hands = Hands::ready(&connection, &seen, &args.manner, screen).await?;
    // And again: what an interrupted command had begun may have moved meanwhile.
    let snapshot = eye.sample(SAMPLE).await?;
    let (chosen, to) = choose_all(&slots, &from, &to, &snapshot)?;
    let proposal = Proposal::review(
        plan(&chosen, to, args.manner.reason.as_deref(), &snapshot),
        snapshot,
        &limits(&connection.config.limits),
    );
    screen.note(&proposal.body());
    if proposal.verdict.approved.is_empty() {
        let exit = if proposal.is_content() { Exit::Ok } else { Exit::Refused };
        let body = Reshard { done: Done::default(), refusals: proposal.verdict.refusals };
        screen.show("Reshard", &body, || "Nothing was moved.\n".into())?;
        return Ok(exit);
    }
    if !screen.confirm("Move these slots?", args.yes)? {
        screen.note("nothing was moved");
        return Ok(Exit::Refused);
    }
    let done = hands.carry_out(proposal.verdict.approved, &proposal.snapshot, screen).await?;
    tell(&done, screen);
    let body = Reshard { done, refusals: proposal.verdict.refusals };
    screen.show("Reshard", &body, || {
        let Done { slots_moved, keys, bytes, .. } = &body.done;
        format!("Moved {slots_moved} slots, {keys} keys, {}.\n", units::size::format(*bytes))
    })?;
    Ok(if body.done.is_whole() && body.refusals.is_empty() { Exit::Ok } else { Exit::Partly })
}

/// A person named the slots: budgets are theirs, and so is emptying a primary. Health and room are not.
fn limits(configured: &Limits) -> Limits {
    Limits {
        min_slots: 0,
        max_moves_per_cycle: u32::MAX,
        max_moves_per_node: u32::MAX,
        max_bytes_per_cycle: u64::MAX,
        max_bytes_per_node: u64::MAX,
        ..configured.clone().for_one_shot()
    }
}

/// The slots that are meant, and who gets them.
fn choose_all(slots: &str, from: &str, to: &str, snapshot: &Snapshot) -> anyhow::Result<(SlotSet, NodeIndex)> {
    let to = nodes::primary(to, snapshot)?;
    Ok((choose(slots, &sources(from, to, snapshot)?, to, snapshot)?, to))
}

/// The primaries that give, without the one that gets.
fn sources(text: &str, to: NodeIndex, snapshot: &Snapshot) -> anyhow::Result<Vec<NodeIndex>> {
    if text == "all" {
        return Ok((0..).zip(&snapshot.primaries).map(|(index, _)| index).filter(|index| *index != to).collect());
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut found = names.map(|name| nodes::primary(name, snapshot)).collect::<anyhow::Result<Vec<_>>>()?;
    found.sort_unstable();
    found.dedup();
    if found.contains(&to) {
        return Err(refused("the receiving node cannot give to itself", "leave it out of --from"));
    }
    Ok(found)
}

/// The slots to move: those named that are not there already, or as many as said, shared among the sources by what they
/// own.
fn choose(text: &str, from: &[NodeIndex], to: NodeIndex, snapshot: &Snapshot) -> anyhow::Result<SlotSet> {
    let owned: Vec<SlotSet> = from.iter().map(|source| snapshot.slots_of(*source)).collect();
    let Ok(count) = text.parse::<usize>() else {
        let named: SlotSet = text
            .parse()
            .map_err(|error| refused(format!("--slots: {error}"), "give a count, or ranges such as 0-99,200"))?;
        let named: SlotSet = named.iter().filter(|slot| snapshot.owners.get(*slot) != Some(to)).collect();
        let strangers: SlotSet = named.iter().filter(|slot| !owned.iter().any(|slots| slots.contains(*slot))).collect();
        if !strangers.is_empty() {
            return Err(refused(
                format!("the sources do not own slots {strangers}"),
                "name their owners in --from, or all",
            ));
        }
        return Ok(named);
    };
    let total: usize = owned.iter().map(SlotSet::len).sum();
    if count == 0 || count > total {
        return Err(refused(
            format!("{count} slots cannot be moved: the sources own {total}"),
            format!("give 1 to {}", total.min(SLOT_COUNT)),
        ));
    }
    // Rounded up for the largest, as redis-cli does, and the last ones give what is left.
    let mut largest_first: Vec<&SlotSet> = owned.iter().collect();
    largest_first.sort_by_key(|slots| std::cmp::Reverse(slots.len()));
    let mut chosen: Vec<SlotId> = Vec::with_capacity(count);
    for slots in largest_first {
        let share = (count * slots.len()).div_ceil(total);
        chosen.extend(slots.iter().take(share.min(count - chosen.len())));
    }
    Ok(chosen.into_iter().collect())
}

/// The person's wish as a plan. Its author is this command.
fn plan(slots: &SlotSet, to: NodeIndex, reason: Option<&str>, snapshot: &Snapshot) -> Plan {
    let reason = reason.map_or_else(|| "by hand".to_owned(), |reason| format!("by hand: {reason}"));
    let propose = |slot: SlotId| ProposedMove { slot: slot.number(), target: to, reason: reason.clone() };
    Plan {
        policy: PolicyId {
            name: "reshard".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            digest: "by-hand".into(),
        },
        generation: snapshot.generation,
        moves: slots.iter().map(propose).collect(),
        summary: format!("{} slots to {}", slots.len(), nodes::address(to, snapshot)),
        gauges: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;

    #[test]
    fn a_count_is_shared_among_the_sources_by_what_they_own() {
        let snapshot = synthetic(4, 1);
        let chosen = choose("100", &[0, 1], 3, &snapshot).expect("chosen");
        assert_eq!(chosen.len(), 100);
        let from_first = chosen.iter().filter(|slot| snapshot.owners.get(*slot) == Some(0)).count();
        assert_eq!(from_first, 50);
        assert_eq!(chosen.ranges().len(), 2, "in ranges: {chosen}");
        assert_eq!(choose("8192", &[0, 1], 3, &snapshot).expect("all").len(), 8192);
    }

    #[test]
    fn slots_that_the_sources_do_not_own_are_refused_by_name() {
        let snapshot = synthetic(4, 1);
        assert_eq!(choose("0-3,7", &[0], 3, &snapshot).expect("owned").len(), 5);
        assert_eq!(choose("0-3", &[0], 0, &snapshot).expect("there").len(), 0, "they are there already");
        for (text, reason) in [
            ("0-3,5000,8200", "do not own slots 5000"),
            ("8193", "the sources own 8192"),
            ("0", "cannot be moved"),
            ("some", "'some' is not a slot"),
        ] {
            let error = choose(text, &[0, 3], 2, &snapshot).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn all_means_everybody_but_the_one_that_gets() {
        let snapshot = synthetic(3, 1);
        assert_eq!(sources("all", 1, &snapshot).expect("sources"), [0, 2]);
        let own = snapshot.primaries[1].address.to_string();
        assert!(sources(&own, 1, &snapshot).expect_err("itself").to_string().contains("cannot give to itself"));
    }
}
