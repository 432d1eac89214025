//! `ballast check`: is the cluster healthy? Reads only.

use std::fmt::Write as _;

use serde::Serialize;

use super::look::Eye;
use super::nodes;
use super::outcome::{Exit, Outcome};
use super::screen::Screen;
use super::status::told_once;
use super::target::Target;
use crate::control::{NodeRow, node_rows};
use crate::examine::{self, Audit, Evidence, Finding, Severity};
use crate::model::units::counted;
use crate::model::{AtomicJob, NO_OWNER, OpenSlot, Problem, Replica, SLOT_COUNT, Snapshot};

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Does not look for keys in slots that their node does not own
    #[arg(long)]
    skip_keys: bool,
}

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    taken_at_ms: u64,
    slots_served: usize,
    primaries: Vec<NodeRow>,
    replicas: &'a [Replica],
    open_slots: &'a [OpenSlot],
    atomic_jobs: &'a [AtomicJob],
    problems: Vec<Named<'a>>,
    findings: Vec<Told>,
}

/// A problem with its sentence.
#[derive(Serialize)]
struct Named<'a> {
    message: String,
    unhealthy: bool,
    #[serde(flatten)]
    problem: &'a Problem,
}

/// A finding in words.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub(super) message: String,
    severity: Severity,
    pub(super) remedy: String,
    #[serde(flatten)]
    finding: Finding,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let connection = args.target.connect(screen)?;
    let snapshot = Eye::new(&connection).glance().await?;
    let audit = if args.skip_keys { Audit::OpenSlots } else { Audit::Everything };
    let evidence = examine::listen(&*connection.cluster, &connection.config.cluster.seeds, &audit).await?;
    let health = weigh(&snapshot, &evidence);
    screen.show("Check", &health, || text(&health, &snapshot))?;
    Ok(if health.healthy { Exit::Ok } else { Exit::Unhealthy })
}

fn weigh<'a>(snapshot: &'a Snapshot, evidence: &Evidence) -> Health<'a> {
    let findings = told(snapshot, evidence);
    let problems = snapshot.problems.iter().filter(|problem| matters(problem));
    Health {
        healthy: is_healthy(&findings),
        taken_at_ms: snapshot.taken_at_ms,
        slots_served: snapshot.owners.as_slice().iter().filter(|owner| **owner != NO_OWNER).count(),
        primaries: node_rows(snapshot),
        replicas: &snapshot.replicas,
        open_slots: &snapshot.open_slots,
        atomic_jobs: &snapshot.atomic_jobs,
        problems: problems
            .map(|problem| Named {
                message: problem.to_string(),
                unhealthy: Finding::Seen(problem.clone()).severity() == Severity::Unhealthy,
                problem,
            })
            .collect(),
        findings,
    }
}

/// One look is all that health takes.
fn matters(problem: &Problem) -> bool {
    *problem != Problem::WarmingUp
}

/// What the examination found, and what the snapshot alone knows: how well load is counted.
pub(super) fn told(snapshot: &Snapshot, evidence: &Evidence) -> Vec<Told> {
    let precision = snapshot.problems.iter().filter(|problem| matches!(problem, Problem::SlotStatsOff { .. }));
    let findings = examine::findings(evidence).into_iter().chain(precision.cloned().map(Finding::Seen));
    findings.map(Told::new).collect()
}

pub(super) fn is_healthy(findings: &[Told]) -> bool {
    !findings.iter().any(Told::is_unhealthy)
}

impl Told {
    fn new(finding: Finding) -> Self {
        Self { message: finding.to_string(), severity: finding.severity(), remedy: finding.remedy(), finding }
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.severity == Severity::Unhealthy
    }

    /// How well load is counted, if that is what it is about.
    fn precision(&self) -> Option<&Problem> {
        match &self.finding {
            Finding::Seen(problem @ Problem::SlotStatsOff { .. }) => Some(problem),
            _ => None,
        }
    }

    /// Two lines: what it is, and what to do about it.
    pub(super) fn text(&self) -> String {
        let mark = if self.is_unhealthy() { "!" } else { "-" };
        let mut text = format!("{mark} {}\n", self.message);
        if !self.remedy.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "    {}", self.remedy);
        }
        text
    }
}

fn text(health: &Health<'_>, snapshot: &Snapshot) -> String {
    let mut text = format!(
        "{}, {}, {} of {SLOT_COUNT} slots served\n",
        counted(health.primaries.len(), "primary", "primaries"),
        counted(health.replicas.len(), "replica", "replicas"),
        health.slots_served
    );
    text.push_str(&nodes::listing(snapshot));
    text.extend(health.findings.iter().filter(|told| told.precision().is_none()).map(Told::text));
    let precision = told_once(health.findings.iter().filter_map(Told::precision));
    text.extend(precision.into_iter().map(|line| format!("- {line}\n")));
    let _ =
        writeln!(text, "{}", if health.healthy { "The cluster is healthy." } else { "The cluster is not healthy." });
    text
}
