//! Tries a policy on made-up clusters and says how it did: what `ballast policy check FILE` prints.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::failure::{FailureKind, LoadFailure};
use super::golden::{self, Golden};
use super::loaded::{Description, LoadedPolicy};
use super::view::offers;
use super::{Policy, PolicyHost, Source, synthetic};
use crate::model::{Plan, PolicyId, SLOT_COUNT, Snapshot, Tag};

/// Calls of which the fastest counts.
const CALLS: usize = 10;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// As it should be.
    Pass,
    /// Worth a look; the daemon would take the policy.
    Warn,
    /// The daemon would refuse the policy, or the guard its plans.
    Fail,
}

impl Grade {
    /// The grade as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked: `needs`, `plan-3-nodes`, `honours-drain`, …
    pub check: String,
    /// How it ended.
    pub grade: Grade,
    /// For people: what was seen and, where it matters, what to do.
    pub detail: String,
}

/// What else a check is to do.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The policy's own parameters: a JSON object; none when empty.
    pub parameters: String,
    /// The author's own snapshots.
    pub golden: Option<Golden>,
    /// Whether calls are timed.
    pub bench: bool,
}

/// Everything that was found about a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Where it came from.
    pub source: String,
    /// Name, version and digest.
    pub policy: PolicyId,
    /// The contract that it was checked against.
    pub contract: String,
    /// What it says of itself.
    pub description: Description,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Optional interfaces that it exports: `state`, `scaling`.
    pub offers: Vec<String>,
    /// Milliseconds from reading the file to a configured instance, compiling included.
    pub load_ms: f64,
    /// Bytes of memory after the largest trial.
    pub memory_bytes: usize,
    /// Milliseconds of the slowest call of `plan`.
    pub slowest_call_ms: f64,
    /// Milliseconds of the fastest of some calls, by number of nodes, if calls were to be timed.
    pub bench: Vec<(usize, f64)>,
    /// What it logged during the last trial in which it logged anything.
    pub log: Vec<String>,
    /// Every check, in order.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.grade < Grade::Fail)
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = &self.description;
        writeln!(f, "policy    {} from {}", self.policy, self.source)?;
        writeln!(f, "says      {}", description.summary)?;
        writeln!(f, "contract  ballast:policy@{}", self.contract)?;
        writeln!(f, "needs     {}", list(&description.needs))?;
        writeln!(f, "imports   {}", list(&self.imports))?;
        writeln!(f, "offers    {}", list(&self.offers))?;
        let (load, call, mib) = (self.load_ms, self.slowest_call_ms, self.memory_bytes.div_ceil(1 << 20));
        writeln!(f, "used      {load:.0} ms to load, at most {call:.1} ms a call, {mib} MiB")?;
        for (nodes, milliseconds) in &self.bench {
            writeln!(f, "takes     {milliseconds:.2} ms a call at {nodes} nodes")?;
        }
        for line in &self.log {
            writeln!(f, "log       {line}")?;
        }
        for Finding { check, grade, detail } in &self.findings {
            writeln!(f, "{:<4}  {check:<16}  {detail}", grade.as_str())?;
        }
        f.write_str(if self.passed() { "the policy is fit for use" } else { "the policy is not fit for use" })
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Loads a policy and tries it. Blocks for as long as compiling and the calls take.
///
/// # Errors
/// When it cannot be loaded, so that there is nothing to try.
pub fn check(host: &PolicyHost, source: &Source, wishes: &Wishes) -> Result<CheckReport, LoadFailure> {
    let started = Instant::now();
    let policy = host.load(source, &wishes.parameters)?;
    let optional = [("state", policy.remembers()), ("scaling", policy.scales())];
    let report = CheckReport {
        source: source.to_string(),
        policy: policy.id().clone(),
        contract: super::guest::CONTRACT.to_owned(),
        description: policy.description().clone(),
        imports: policy.imports().to_vec(),
        offers: optional.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()).collect(),
        load_ms: started.elapsed().as_secs_f64() * 1e3,
        memory_bytes: 0,
        slowest_call_ms: 0.0,
        bench: Vec::new(),
        log: Vec::new(),
        findings: Vec::new(),
    };
    Ok(Trials { policy, report, deadline: host.settings().deadline() }.run(wishes))
}

struct Trials {
    policy: LoadedPolicy,
    report: CheckReport,
    deadline: Duration,
}

impl Trials {
    fn run(mut self, wishes: &Wishes) -> CheckReport {
        let (grade, detail) = self.has_what_it_needs();
        self.note("needs", grade, detail);
        for nodes in [0, 3, 1000] {
            let (grade, detail) = self.plans(nodes);
            self.note(&format!("plan-{nodes}-nodes"), grade, detail);
        }
        let (grade, detail) = self.honours_drain();
        self.note("honours-drain", grade, detail);
        let (grade, detail) = self.is_content_when_balanced();
        self.note("content", grade, detail);
        let (grade, detail) = self.is_deterministic();
        self.note("deterministic", grade, detail);
        if let Some(golden) = &wishes.golden {
            self.report.findings.extend(golden::try_all(golden, &mut self.policy));
        }
        if wishes.bench {
            self.report.bench = self.timings();
        }
        self.report
    }

    fn note(&mut self, check: &str, grade: Grade, detail: String) {
        self.report.findings.push(Finding { check: check.to_owned(), grade, detail });
    }

    fn has_what_it_needs(&self) -> (Grade, String) {
        let view = synthetic::snapshot(3);
        let unknown: Vec<&str> =
            self.policy.needs().iter().filter(|need| !offers(&view, need)).map(String::as_str).collect();
        if unknown.is_empty() {
            (Grade::Pass, "every metric that it needs exists".to_owned())
        } else {
            (Grade::Fail, format!("it needs {}, which no server version offers", unknown.join(", ")))
        }
    }

    /// Asks a fresh instance.
    fn ask(&mut self, snapshot: &Arc<Snapshot>) -> Result<Plan, (FailureKind, String)> {
        self.policy.forget_trial(None);
        let answer = self.policy.plan(snapshot);
        if !self.policy.log_lines().is_empty() {
            self.report.log = self.policy.log_lines().to_vec();
        }
        let stats = self.policy.stats();
        self.report.memory_bytes = self.report.memory_bytes.max(stats.memory_bytes);
        self.report.slowest_call_ms = self.report.slowest_call_ms.max(stats.last_call.as_secs_f64() * 1e3);
        answer.map_err(|failure| (failure.kind, format!("{}: {}", failure.kind, failure.reason)))
    }

    fn plans(&mut self, nodes: usize) -> (Grade, String) {
        let snapshot = Arc::new(synthetic::snapshot(nodes));
        let plan = match self.ask(&snapshot) {
            Ok(plan) => plan,
            Err((FailureKind::NotReady, reason)) => return (Grade::Pass, reason),
            // Nobody can plan for nothing; saying so is fine.
            Err((FailureKind::Error, reason)) if nodes == 0 => return (Grade::Pass, reason),
            Err((_, reason)) => return (Grade::Fail, reason),
        };
        if let Some(nonsense) = nonsense(&plan, &snapshot) {
            return (Grade::Fail, nonsense);
        }
        let took = self.policy.stats().last_call;
        let detail = format!("{} moves in {:.1} ms: {}", plan.moves.len(), took.as_secs_f64() * 1e3, plan.summary);
        let slow = took * 2 > self.deadline;
        (if slow { Grade::Warn } else { Grade::Pass }, detail)
    }

    /// Milliseconds of the fastest call of a living instance at each size: other work on the machine only ever adds.
    fn timings(&mut self) -> Vec<(usize, f64)> {
        let mut timings = Vec::new();
        for nodes in [10, 100, 1000] {
            let snapshot = Arc::new(synthetic::snapshot(nodes));
            self.policy.forget_trial(None);
            let mut fastest = f64::INFINITY;
            for _ in 0..CALLS {
                if self.policy.plan(&snapshot).is_ok() {
                    fastest = fastest.min(self.policy.stats().last_call.as_secs_f64() * 1e3);
                }
            }
            if fastest.is_finite() {
                timings.push((nodes, fastest));
            }
        }
        timings
    }

    /// Of three nodes the first has to be emptied and the second gets nothing.
    fn honours_drain(&mut self) -> (Grade, String) {
        let mut snapshot = synthetic::snapshot(3);
        snapshot.primaries[0].tags.push(Tag::Draining);
        snapshot.primaries[1].tags.push(Tag::Cordoned);
        let snapshot = Arc::new(snapshot);
        let plan = match self.ask(&snapshot) {
            Ok(plan) => plan,
            Err((_, reason)) => return (Grade::Fail, reason),
        };
        if let Some(wrong) = plan.moves.iter().find(|proposed| proposed.target < 2) {
            let tag = if wrong.target == 0 { "draining" } else { "cordoned" };
            return (Grade::Fail, format!("it moves slot {} to a {tag} node; the guard would refuse that", wrong.slot));
        }
        let owners = snapshot.owners.as_slice();
        let leaving = plan.moves.iter().filter(|proposed| owners.get(usize::from(proposed.slot)) == Some(&0)).count();
        if leaving == 0 {
            return (Grade::Warn, "it moves nothing off a draining node, which then stays full".to_owned());
        }
        (Grade::Pass, format!("{leaving} moves off the draining node, none to it or to the cordoned one"))
    }

    fn is_content_when_balanced(&mut self) -> (Grade, String) {
        match self.ask(&Arc::new(synthetic::balanced(4))) {
            Ok(plan) if plan.moves.is_empty() => (Grade::Pass, plan.summary),
            Ok(plan) => {
                let count = plan.moves.len();
                (Grade::Warn, format!("it proposes {count} moves on a cluster that is even in every respect"))
            }
            Err((FailureKind::NotReady, reason)) => (Grade::Pass, reason),
            Err((_, reason)) => (Grade::Fail, reason),
        }
    }

    fn is_deterministic(&mut self) -> (Grade, String) {
        let snapshot = Arc::new(synthetic::snapshot(10));
        let (first, second) = (self.ask(&snapshot), self.ask(&snapshot));
        if let (Err((_, reason)), Err(_)) = (&first, &second) {
            (Grade::Warn, format!("there is no plan to compare: {reason}"))
        } else if first == second {
            (Grade::Pass, "two instances give the same answer to the same view".to_owned())
        } else {
            (
                Grade::Fail,
                "two instances give different answers to the same view: no replay could repeat them".to_owned(),
            )
        }
    }
}

/// A move that the guard would refuse whatever the cluster.
fn nonsense(plan: &Plan, snapshot: &Snapshot) -> Option<String> {
    let owners = snapshot.owners.as_slice();
    let mut seen = BTreeSet::new();
    plan.moves.iter().find_map(|proposed| {
        let (slot, target) = (proposed.slot, proposed.target);
        if !seen.insert(slot) {
            return Some(format!("it moves slot {slot} more than once; the first move would count"));
        }
        let Some(owner) = owners.get(usize::from(slot)) else {
            return Some(format!("it moves slot {slot}; slots are 0 to {}", SLOT_COUNT - 1));
        };
        if target as usize >= snapshot.primaries.len() {
            return Some(format!("it moves slot {slot} to node {target} of {}", snapshot.primaries.len()));
        }
        (*owner == target).then(|| format!("it moves slot {slot} to node {target}, which owns it already"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{Fixture, host};

    fn report_of(fixture: &Fixture) -> CheckReport {
        let file = tempfile::NamedTempFile::new().expect("room");
        std::fs::write(file.path(), fixture.module()).expect("writable");
        let wishes = Wishes { bench: true, ..Wishes::default() };
        check(&host(), &Source::File(file.path().to_owned()), &wishes).expect("it loads")
    }

    #[track_caller]
    fn finds(report: &CheckReport, check: &str, grade: Grade, words: &str) {
        let finding = report.findings.iter().find(|finding| finding.check == check).expect("checked");
        assert_eq!(finding.grade, grade, "{finding:?}");
        assert!(finding.detail.contains(words), "'{words}' is not in {finding:?}");
    }

    #[test]
    fn a_policy_that_never_moves_passes_with_a_warning() {
        let report = report_of(&Fixture::default());
        assert!(report.passed(), "{report}");
        finds(&report, "honours-drain", Grade::Warn, "stays full");
        finds(&report, "plan-1000-nodes", Grade::Pass, "0 moves");
        let text = report.to_string();
        assert!(report.bench.len() == 3 && text.contains("ms a call at 1000 nodes"), "{text}");
        assert!(text.starts_with("policy    fixture 0.1.0 sha256:"), "{text}");
        assert!(text.ends_with("the policy is fit for use"), "{text}");
    }

    #[test]
    fn nonsense_traps_and_unknown_needs_fail() {
        let move_of = |slot: u16, target: u32| {
            Fixture::planning(&format!(
                "(i32.store offset=516 (i32.const 0) (i32.const 640)) (i32.store offset=520 (i32.const 0) (i32.const 1))
                 (i32.store16 offset=640 (i32.const 0) (i32.const {slot}))
                 (i32.store offset=644 (i32.const 0) (i32.const {target}))"
            ))
        };
        finds(&report_of(&move_of(60_000, 0)), "plan-3-nodes", Grade::Fail, "slots are 0 to 16383");
        finds(&report_of(&move_of(7, 999)), "plan-3-nodes", Grade::Fail, "node 999 of 3");
        finds(&report_of(&move_of(7, 0)), "plan-3-nodes", Grade::Fail, "owns it already");
        finds(&report_of(&move_of(16_000, 1)), "honours-drain", Grade::Fail, "cordoned");
        let trapped = report_of(&Fixture::planning("unreachable"));
        for trial in ["plan-3-nodes", "plan-1000-nodes", "honours-drain", "content"] {
            finds(&trapped, trial, Grade::Fail, "trap: `plan` gave up");
        }
        assert!(trapped.bench.is_empty(), "a policy that fails takes no time");
        let report = report_of(&Fixture { needs: Some("slot/moon"), ..Fixture::default() });
        finds(&report, "needs", Grade::Fail, "slot/moon");
        assert!(!report.passed());
    }
}
