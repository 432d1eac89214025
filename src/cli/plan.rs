//! `ballast plan`: what would a policy move, and what would that do? Changes nothing.

use std::path::PathBuf;

use anyhow::Context as _;

use super::archive::Archive;
use super::look::Eye;
use super::outcome::{Exit, Outcome};
use super::proposal::{Choice, Proposal};
use super::replay;
use super::screen::{Screen, document};
use super::target::Target;

/// Which cluster, who decides, and what to do with the answer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    choice: Choice,
    /// Decides once more by what this cycle of a daemon was decided by; --policy asks another policy about it
    #[arg(long, value_name = "CYCLE", conflicts_with = "url")]
    at: Option<u64>,
    /// With --at: the daemon's state directory, where --config does not name it
    #[arg(long, value_name = "DIR", requires = "at")]
    state: Option<PathBuf>,
    /// Also writes the plan as JSON to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exits with 10 when there is something to move
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Looks at the cluster, and asks.
async fn propose(args: &Args, screen: &Screen) -> anyhow::Result<Proposal> {
    let connection = args.target.connect(screen)?;
    let mut policy = args.choice.load(&connection.config)?;
    let snapshot = Eye::new(&connection).sample(args.choice.sample).await?;
    let limits = connection.config.limits.clone().for_one_shot();
    Proposal::ask(&mut policy, snapshot, &limits, None)
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let proposal = match args.at {
        Some(cycle) => {
            let archive = Archive::of(args.target.config.clone(), args.state.clone());
            replay::propose(cycle, &archive, &args.choice, screen)?
        }
        None => propose(&args, screen).await?,
    };
    let shown = proposal.document();
    if let Some(path) = &args.out {
        std::fs::write(path, document("Plan", &shown)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    screen.show("Plan", &shown, || proposal.text())?;
    let approved = !proposal.verdict.approved.is_empty();
    if approved && args.at.is_none() && !screen.is_json() {
        screen.note(&match &args.out {
            Some(path) => format!(
                "`ballast rebalance --plan {}` carries this out, while every slot is where it is",
                path.display()
            ),
            None => {
                "`ballast rebalance` plans anew and carries that out; to carry out this very plan: `ballast plan --out FILE`, then \
                 `ballast rebalance --plan FILE`"
                    .to_owned()
            }
        });
    }
    Ok(match (approved, proposal.is_content()) {
        (true, _) if args.detailed_exitcode => Exit::Changes,
        (true, _) | (false, true) => Exit::Ok,
        // Moves were proposed, and the guard held back every one.
        (false, false) => Exit::Refused,
    })
}
