//! `ballast rebalance`: plan, ask, move, and again until the policy is content; or what was planned and written down, once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::carry_out::{Done, Hands, Manner};
use super::look::Eye;
use super::outcome::{Exit, Outcome};
use super::planned::Planned;
use super::proposal::{Choice, Proposal, slots_of, with_reason};
use super::screen::Screen;
use super::target::Target;
use crate::guard::Limits;
use crate::model::{PolicyId, Prediction, Refusal, Snapshot, units};
use crate::policy::LoadedPolicy;

/// Which cluster, who decides, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    choice: Choice,
    /// Carries out what `ballast plan --out FILE` wrote, once, if every slot is where it was then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "parameters"])]
    plan: Option<PathBuf>,
    #[command(flatten)]
    manner: Manner,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
    /// Plans at most so many times: a policy that is never content is not balancing
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// What a rebalance did.
#[derive(Debug, Serialize)]
struct Rebalance {
    policy: PolicyId,
    /// The policy has nothing left to move.
    content: bool,
    /// Times that something was moved.
    rounds: u32,
    #[serde(flatten)]
    done: Done,
    /// What the guard held back last.
    refusals: Vec<Refusal>,
    /// Before the first move; `imbalance_after` is what the first plan predicted.
    first: BTreeMap<String, Prediction>,
    /// As seen last.
    last: BTreeMap<String, Prediction>,
}

/// Who says what to move.
enum Decider {
    Policy(Box<LoadedPolicy>),
    Planned(Planned),
}

impl Decider {
    fn propose(&mut self, snapshot: Arc<Snapshot>, limits: &Limits, reason: Option<&str>) -> anyhow::Result<Proposal> {
        match self {
            Self::Policy(policy) => Proposal::ask(policy, snapshot, limits, reason),
            Self::Planned(planned) => {
                Ok(Proposal::review(with_reason(planned.plan(&snapshot)?, reason), snapshot, limits))
            }
        }
    }

    const fn question(&self) -> &'static str {
        match self {
            Self::Policy(_) => "Move these slots, and go on until the policy is content?",
            Self::Planned(_) => "Move these slots?",
        }
    }
}

/// Between rounds: slots keep the rates that they had, so there is less to learn than at first.
const LATER_SAMPLE: Duration = Duration::from_secs(2);

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    screen.can_ask(args.yes)?;
    let connection = args.target.connect(screen)?;
    let mut decider = match &args.plan {
        Some(path) => Decider::Planned(Planned::read(path)?),
        None => Decider::Policy(Box::new(args.choice.load(&connection.config)?)),
    };
    let limits = connection.config.limits.clone().for_one_shot();
    let mut eye = Eye::new(&connection);
    let mut hands = Hands::ready(&connection, &*eye.glance().await?, &args.manner, screen).await?;
    let mut result: Option<Rebalance> = None;
    let exit = loop {
        let sample = if result.is_none() { args.choice.sample } else { args.choice.sample.min(LATER_SAMPLE) };
        let Some(seen) = hands.idle(eye.sample(sample)).await? else {
            screen.note("stopped between two rounds; no slot is open, and the same command goes on");
            result.iter_mut().for_each(|result| result.done.stopped = true);
            break Exit::Partly;
        };
        let proposal = decider.propose(seen?, &limits, args.manner.reason.as_deref())?;
        let first = proposal.verdict.predictions.clone();
        let result = result.get_or_insert_with(|| Rebalance {
            policy: proposal.plan.policy.clone(),
            content: false,
            rounds: 0,
            done: Done::default(),
            refusals: Vec::new(),
            last: first.clone(),
            first,
        });
        result.last.clone_from(&proposal.verdict.predictions);
        result.refusals.clone_from(&proposal.verdict.refusals);
        screen.note(&proposal.text());
        if proposal.is_content() {
            result.content = true;
            break Exit::Ok;
        }
        if proposal.verdict.approved.is_empty() {
            break Exit::Refused;
        }
        if result.rounds == args.rounds {
            screen.note(&format!("the policy is not content after {} rounds (--rounds)", args.rounds));
            break Exit::TimedOut;
        }
        if result.rounds == 0 && !screen.confirm(decider.question(), args.yes)? {
            screen.note("nothing was moved");
            break Exit::Refused;
        }
        let slots = slots_of(&proposal.verdict);
        let done = hands.carry_out(proposal.verdict.approved, &proposal.snapshot, screen).await?;
        eye.moved(&slots);
        result.rounds += 1;
        let whole = done.is_whole();
        tell(&done, screen);
        result.done.add(done);
        if !whole {
            break Exit::Partly;
        }
        if let Decider::Planned(_) = &decider {
            break if result.refusals.is_empty() { Exit::Ok } else { Exit::Partly };
        }
    };
    if let Some(result) = &result {
        screen.show("Rebalance", result, || text(result))?;
    }
    Ok(exit)
}

/// What one round came to.
pub(super) fn tell(done: &Done, screen: &Screen) {
    for (reason, slots) in done.reasons() {
        screen.note(&format!("{slots} slots stayed: {reason}"));
    }
    if done.is_whole() {
        return;
    }
    let planned = done.slots_moved + done.slots_stayed + done.slots_not_begun;
    screen.note(&format!(
        "{} of {planned} slots moved, {} stayed, {} were not begun",
        done.slots_moved, done.slots_stayed, done.slots_not_begun
    ));
    screen.note(&match done.slots_in_doubt {
        0 => "no slot is left open; the same command goes on".to_owned(),
        slots => {
            format!("{slots} slots could not be brought to an end and may be open; the same command takes them up")
        }
    });
}

fn text(result: &Rebalance) -> String {
    let Done { slots_moved, keys, bytes, .. } = &result.done;
    let mut text = format!("Moved {slots_moved} slots, {keys} keys, {}.", units::size::format(*bytes));
    for (name, last) in &result.last {
        let before = result.first.get(name).map_or(last.imbalance_before, |first| first.imbalance_before);
        text.push_str(&format!(" {name} {before:.2} -> {:.2}.", last.imbalance_before));
    }
    text.push_str(if result.content { " The policy is content.\n" } else { "\n" });
    text
}
