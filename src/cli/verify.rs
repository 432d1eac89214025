//! `ballast verify`: is every key where it belongs, and as it was? Reads only.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::outcome::{Exit, Outcome};
use super::screen::{Screen, table};
use super::target::Target;
use crate::verify::{Compared, Report, Task, verify};

/// Which cluster, and what to compare it with.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Writes what every key is like (type, expiry, a digest of its value) to this file
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    record: Option<PathBuf>,
    /// Compares every key with what it was like when this file was written
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let connection = args.target.connect(screen)?;
    let task = match (&args.record, &args.against) {
        (Some(path), _) => Task::Record(path),
        (None, Some(path)) => Task::Against(path),
        (None, None) => Task::Look,
    };
    let report = verify(&*connection.cluster, &connection.config.cluster.seeds, task).await?;
    screen.show("Verify", &report, || text(&report))?;
    Ok(if report.clean { Exit::Ok } else { Exit::Unhealthy })
}

fn text(report: &Report) -> String {
    let rows: Vec<Vec<String>> =
        report.nodes.iter().map(|node| vec![node.node.to_string(), node.keys.to_string()]).collect();
    let mut text = table(1, &["PRIMARY", "KEYS"], &rows);
    if report.under_way > 0 {
        let _ = writeln!(text, "- {} keys of open slots are under way", report.under_way);
    }
    if let Some(keys) = report.recorded {
        let _ = writeln!(text, "- {keys} keys were recorded");
    }
    if let Some(Compared { same, different, expired, fields_expired, new }) = &report.compared {
        let _ = writeln!(text, "- {same} keys are as recorded, {different} are not; {new} are new");
        let _ =
            writeln!(text, "- {expired} expired as they were to, and {fields_expired} lost fields that were to expire");
    }
    for finding in &report.findings {
        let _ = writeln!(text, "! {finding}");
    }
    let found: u64 = report.counts.values().sum();
    let more = found.saturating_sub(report.findings.len() as u64);
    if more > 0 {
        let counts: Vec<String> = report.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(text, "! and {more} more: {} in all", counts.join(", "));
    }
    let verdict = if report.clean { "Every key is where it belongs." } else { "Not all is as it should be." };
    let _ = writeln!(text, "{verdict}");
    text
}
