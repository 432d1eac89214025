//! `ballast plan`: what would a policy move, and what would that do? Changes nothing.

use std::path::PathBuf;

use anyhow::Context as _;

use super::look::Eye;
use super::outcome::{Exit, Outcome};
use super::proposal::{Choice, Proposal};
use super::screen::{Screen, document};
use super::target::Target;

/// Which cluster, who decides, and what to do with the answer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    choice: Choice,
    /// Also writes the plan as JSON to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exits with 10 when there is something to move
    #[arg(long)]
    detailed_exitcode: bool,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let connection = args.target.connect(screen)?;
    let mut policy = args.choice.load(&connection.config)?;
    let snapshot = Eye::new(&connection).sample(args.choice.sample).await?;
    let limits = connection.config.limits.clone().for_one_shot();
    let proposal = Proposal::ask(&mut policy, snapshot, &limits, None)?;
    let shown = proposal.document();
    if let Some(path) = &args.out {
        std::fs::write(path, document("Plan", &shown)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    screen.show("Plan", &shown, || proposal.text())?;
    let approved = !proposal.verdict.approved.is_empty();
    Ok(match (approved, proposal.is_content()) {
        (true, _) if args.detailed_exitcode => Exit::Changes,
        (true, _) | (false, true) => Exit::Ok,
        // Moves were proposed, and the guard held back every one.
        (false, false) => Exit::Refused,
    })
}
