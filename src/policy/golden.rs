//! A policy's own tests: recorded snapshots, and what its author expects of it on them.
//!
//! `NAME.json` is a snapshot as `GET /api/v1/snapshot` gives it, `NAME.expect.json` what is expected: see [`Expectation`]. Without
//! the second the policy only has to answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballast_search::{Goals, Problem, ResourceGoal};
use serde::{Deserialize, Serialize};

use super::check::{Finding, Grade};
use super::loaded::LoadedPolicy;
use super::view::search_view;
use super::{Policy as _, PolicyFailure};
use crate::model::{Plan, Snapshot};

/// What is expected of a policy on one snapshot. Every key may be left out; unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Expectation {
    /// The parameters to ask with, instead of those given.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<serde_json::Value>,
    /// Exactly these moves, in order: a slot, and the target's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    moves: Option<Vec<(u16, String)>>,
    /// At least so many moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    moves_min: Option<usize>,
    /// At most so many moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    moves_max: Option<usize>,
    /// By resource (cpu, memory, network, keys, slots or a slot column): the most that largest utilisation ÷ mean may be after
    /// all moves.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    imbalance_max: BTreeMap<String, f64>,
    /// No plan, but a failure of this kind: `not-ready`, `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Where snapshots lie, and whether what the policy answers is to become what is expected.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The directory.
    pub directory: PathBuf,
    /// Writes the moves of each snapshot that has no expectation yet, and those of expectations that name moves.
    pub bless: bool,
}

/// Asks `policy` about each snapshot; one finding each, in the order of their names.
pub(super) fn try_all(golden: &Golden, policy: &mut LoadedPolicy) -> Vec<Finding> {
    let parameters = policy.parameters().to_owned();
    let mut findings = Vec::new();
    let snapshots = match snapshots(&golden.directory) {
        Ok(snapshots) => snapshots,
        Err(reason) => return vec![finding("snapshots", Grade::Fail, reason)],
    };
    for path in snapshots {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (grade, detail) = match try_one(&path, golden.bless, policy, &parameters) {
            Ok(detail) => (Grade::Pass, detail),
            Err(reason) => (Grade::Fail, reason),
        };
        findings.push(finding(&name, grade, detail));
    }
    findings
}

fn finding(check: &str, grade: Grade, detail: String) -> Finding {
    Finding { check: check.to_owned(), grade, detail }
}

fn snapshots(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("'{}' cannot be read: {error}", directory.display());
    let mut snapshots = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".json") && !name.ends_with(".expect.json") {
            snapshots.push(path);
        }
    }
    if snapshots.is_empty() {
        return Err(format!(
            "'{}' holds no snapshot: save one with `curl -s http://127.0.0.1:9899/api/v1/snapshot > {}`",
            directory.display(),
            directory.join("today.json").display()
        ));
    }
    snapshots.sort();
    Ok(snapshots)
}

fn try_one(path: &Path, bless: bool, policy: &mut LoadedPolicy, parameters: &str) -> Result<String, String> {
    let snapshot: Arc<Snapshot> = Arc::new(read(path, "a snapshot as GET /api/v1/snapshot gives it")?);
    let beside = path.with_extension("expect.json");
    let known = beside.exists();
    let mut expected: Expectation = if known { read(&beside, "an expectation")? } else { Expectation::default() };
    let own = expected.parameters.as_ref().map(ToString::to_string);
    policy.configure(own.as_deref().unwrap_or(parameters)).map_err(|refusal| refusal.to_string())?;
    policy.forget_trial(None);
    let answer = policy.plan(&snapshot);
    if bless
        && let Ok(plan) = &answer
        && (!known || expected.moves.is_some())
    {
        expected.moves = Some(moves(plan, &snapshot));
        let text = serde_json::to_string_pretty(&expected).map_err(|error| error.to_string())?;
        fs::write(&beside, text + "\n")
            .map_err(|error| format!("'{}' cannot be written: {error}", beside.display()))?;
        return Ok(format!("{} moves are expected from now on", plan.moves.len()));
    }
    expected.judge(answer, &snapshot)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("'{}' cannot be read: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("'{}' is not {what}: {error}", path.display()))
}

/// The moves of a plan, with addresses; a target that does not exist has none.
fn moves(plan: &Plan, snapshot: &Snapshot) -> Vec<(u16, String)> {
    let address = |target: u32| snapshot.primaries.get(target as usize).map(|primary| primary.address.to_string());
    plan.moves.iter().map(|step| (step.slot, address(step.target).unwrap_or_default())).collect()
}

impl Expectation {
    fn judge(&self, answer: Result<Plan, PolicyFailure>, snapshot: &Arc<Snapshot>) -> Result<String, String> {
        let plan = match (answer, &self.failure) {
            (Ok(_), Some(kind)) => return Err(format!("it plans, where {kind} is expected")),
            (Err(failure), Some(kind)) if failure.kind() == kind => return Ok(failure.reason),
            (Err(failure), _) => return Err(format!("{}: {}", failure.kind, failure.reason)),
            (Ok(plan), None) => plan,
        };
        let count = plan.moves.len();
        if let Some(expected) = &self.moves {
            let found = moves(&plan, snapshot);
            let differs = expected.iter().zip(&found).position(|(expected, found)| expected != found);
            if let Some(place) = differs {
                let show = |(slot, address): &(u16, String)| format!("slot {slot} to {address}");
                let (expected, found) = (show(&expected[place]), show(&found[place]));
                return Err(format!("move {} is {found}, where {expected} is expected", place + 1));
            }
            if expected.len() != found.len() {
                return Err(format!("{count} moves, where {} are expected", expected.len()));
            }
        }
        if let Some(least) = self.moves_min.filter(|least| count < *least) {
            return Err(format!("{count} moves, where at least {least} are expected"));
        }
        if let Some(most) = self.moves_max.filter(|most| count > *most) {
            return Err(format!("{count} moves, where at most {most} are expected"));
        }
        for (resource, most) in &self.imbalance_max {
            let after = imbalance_after(resource, &plan, snapshot)?;
            if after > *most {
                return Err(format!("{resource} would be {after:.3} of the mean, where at most {most} is expected"));
            }
        }
        Ok(format!("{count} moves: {}", plan.summary))
    }
}

/// Largest utilisation ÷ mean of a resource after all moves.
fn imbalance_after(resource: &str, plan: &Plan, snapshot: &Arc<Snapshot>) -> Result<f64, String> {
    let view = search_view(snapshot);
    let goals = Goals { resources: vec![ResourceGoal::named(resource)], ..Goals::default() };
    let problem = Problem::of(&view, &goals).map_err(|error| error.to_string())?;
    let found = problem.resources.iter().find(|found| found.name() == resource);
    let found = found.ok_or_else(|| format!("imbalance-max: the snapshot has no column for '{resource}'"))?;
    let moves: Vec<ballast_search::Move> = (plan.moves.iter())
        .map(|step| ballast_search::Move { slot: step.slot, target: step.target, reason: String::new() })
        .collect();
    Ok(problem.imbalance_of(found, &problem.owners_after(&moves)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::synthetic;
    use crate::policy::testing::{Fixture, host};

    /// A policy that moves slot 7 to node 1.
    fn mover() -> LoadedPolicy {
        let fixture = Fixture::planning(
            "(i32.store offset=516 (i32.const 0) (i32.const 640)) (i32.store offset=520 (i32.const 0) (i32.const 1))
             (i32.store16 offset=640 (i32.const 0) (i32.const 7))
             (i32.store offset=644 (i32.const 0) (i32.const 1))",
        );
        host().load_bytes(&crate::policy::Source::Embedded("mover".into()), fixture.module(), "{}").expect("it loads")
    }

    /// What is found when the snapshot has this expectation.
    fn with(expectation: &str) -> Finding {
        let directory = tempfile::tempdir().expect("room");
        let text = serde_json::to_string(&synthetic::snapshot(3)).expect("plain");
        fs::write(directory.path().join("three.json"), text).expect("writable");
        fs::write(directory.path().join("three.expect.json"), expectation).expect("writable");
        let golden = Golden { directory: directory.path().to_owned(), bless: false };
        let mut findings = try_all(&golden, &mut mover());
        assert_eq!(findings.len(), 1);
        findings.remove(0)
    }

    #[test]
    fn what_is_expected_is_compared_and_the_difference_is_named() {
        let address = synthetic::snapshot(3).primaries[1].address.to_string();
        for fine in ["{}", r#"{"moves-min": 1, "moves-max": 1, "imbalance-max": {"slots": 1.1}}"#] {
            assert_eq!(with(fine).grade, Grade::Pass, "{fine}: {:?}", with(fine));
        }
        let exact = format!(r#"{{"moves": [[7, "{address}"]]}}"#);
        assert_eq!(with(&exact).grade, Grade::Pass, "{:?}", with(&exact));
        for (expectation, words) in [
            (format!(r#"{{"moves": [[8, "{address}"]]}}"#), "where slot 8 to"),
            (r#"{"moves": []}"#.to_owned(), "1 moves, where 0 are expected"),
            (r#"{"moves-max": 0}"#.to_owned(), "at most 0"),
            (r#"{"moves-min": 2}"#.to_owned(), "at least 2"),
            (r#"{"imbalance-max": {"slots": 1.0}}"#.to_owned(), "of the mean"),
            (r#"{"imbalance-max": {"moon": 1.0}}"#.to_owned(), "no column for 'moon'"),
            (r#"{"failure": "not-ready"}"#.to_owned(), "it plans, where not-ready is expected"),
            (r#"{"mvoes": []}"#.to_owned(), "unknown field `mvoes`"),
        ] {
            let found = with(&expectation);
            assert_eq!(found.grade, Grade::Fail, "{expectation}");
            assert!(found.detail.contains(words), "'{words}' is not in {found:?}");
        }
    }

    #[test]
    fn what_is_answered_now_can_become_what_is_expected() {
        let directory = tempfile::tempdir().expect("room");
        let golden = |bless| Golden { directory: directory.path().to_owned(), bless };
        let none = try_all(&golden(false), &mut mover());
        assert!(none[0].grade == Grade::Fail && none[0].detail.contains("curl"), "{none:?}");
        let text = serde_json::to_string(&synthetic::snapshot(3)).expect("plain");
        fs::write(directory.path().join("a.json"), text).expect("writable");
        assert_eq!(try_all(&golden(true), &mut mover())[0].grade, Grade::Pass);
        let kept = fs::read_to_string(directory.path().join("a.expect.json")).expect("written");
        assert!(kept.contains("\"moves\"") && !kept.contains("parameters"), "{kept}");
        assert_eq!(try_all(&golden(false), &mut mover())[0].grade, Grade::Pass);
    }
}
