//! `ballast simulate`: what would policies do, over hours, on a model cluster? Touches no server.

mod chart;
mod page;
mod text;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::outcome::{Exit, Outcome, refused};
use super::proposal::source_of;
use super::screen::Screen;
use crate::model::{Plan, PolicyId, Snapshot};
use crate::policy::{self, LoadedPolicy, Policy, PolicyFailure, PolicyHost, ScalingAdvice};
use crate::simulate::{Case, Player, Progress, Recording, Scenario, builtin, builtin_names, simulate};
use crate::store::{Store, StoreError};

/// Who plays, on what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An embedded policy or a file, with parameters if wanted: 'balance={"trigger":1.3}'; may be repeated. Without it, every
    /// embedded policy
    #[arg(long, value_name = "NAME|FILE[=JSON]")]
    policy: Vec<String>,
    /// A scenario's name or file, or all; may be repeated
    #[arg(long, value_name = "NAME|FILE|all", required_unless_present = "history")]
    scenario: Vec<String>,
    /// A daemon's state directory: its recorded loads, from its first snapshot on
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    /// Simulates so many hours instead of as many as the scenario says or were recorded
    #[arg(long, value_name = "H")]
    hours: Option<f64>,
    /// What chance is decided by: the same seed gives the same result
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Also writes a page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also writes the table to this file, in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// A policy gets longer than in the daemon, which other work on this machine must not decide about: results repeat.
const DEADLINE_MS: u64 = 20_000;

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let waiting = screen.clone();
    let report = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let games = games(&args)?;
        let report = simulate(games, args.seed, |Progress { case, player, ended, all }| {
            if waiting.is_live() {
                waiting.note(&format!("{ended} of {all} runs: {case}, {player}"));
            }
        });
        if let Some(path) = &args.html {
            write(path, &page::page(&report))?;
        }
        if let Some(path) = &args.markdown {
            write(path, &text::markdown(&report))?;
        }
        Ok(report)
    });
    let report = report.await??;
    screen.show("Simulation", &report, || text::text(&report))?;
    Ok(Exit::Ok)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Every case with policies of its own.
fn games(args: &Args) -> anyhow::Result<Vec<(Case, Vec<Player>)>> {
    if let Some(hours) = args.hours.filter(|hours| !(*hours > 0.0 && *hours <= 10_000.0)) {
        return Err(refused(format!("--hours {hours} makes no sense"), "more than 0 and at most 10000 are accepted"));
    }
    let compiled = tempfile::tempdir().context("cannot keep compiled policies")?;
    let settings = policy::Settings {
        deadline_ms: DEADLINE_MS,
        cache_dir: Some(compiled.path().join("compiled")),
        ..policy::Settings::default()
    };
    let host = PolicyHost::new(settings)?;
    let specs = match args.policy.as_slice() {
        [] => policy::embedded_names().into_iter().map(str::to_owned).collect(),
        given => given.to_vec(),
    };
    let contestants = contestants(&specs)?;
    let games = cases(args)?.into_iter().map(|case| {
        let mut players = vec![Player { label: "none".to_owned(), policy: None }];
        for contestant in &contestants {
            players.push(contestant.enter(&host, &case)?);
        }
        Ok((case, players))
    });
    games.collect()
}

/// All who play, told apart by their labels.
fn contestants(specs: &[String]) -> anyhow::Result<Vec<Contestant>> {
    let mut contestants: Vec<Contestant> = Vec::new();
    for spec in specs {
        let one = Contestant::read(spec)?;
        if contestants.iter().any(|other| other.label == one.label) {
            let hint = "policies are told apart by name and parameters; rename a file if two have the same";
            return Err(refused(format!("--policy {spec}: there is one called '{}' already", one.label), hint));
        }
        contestants.push(one);
    }
    Ok(contestants)
}

fn cases(args: &Args) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in &args.scenario {
        let named = if name == "all" { builtin_names() } else { vec![name.as_str()] };
        for name in named {
            let mut scenario = scenario(name)?;
            if let Some(hours) = args.hours {
                scenario.shorten(hours);
            }
            cases.push(Case::of(&scenario, args.seed));
        }
    }
    if let Some(directory) = &args.history {
        cases.push(recorded(directory, args)?);
    }
    Ok(cases)
}

fn scenario(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = builtin(name) {
        return Ok(scenario?);
    }
    let path = Path::new(name);
    if !path.is_file() {
        let hint = format!("scenarios: {}; anything else is taken for a file", builtin_names().join(", "));
        return Err(refused(format!("there is no scenario '{name}'"), hint));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    Scenario::read(&stem, &text)
        .map_err(|error| refused(format!("scenario {name}: {error}"), "docs/simulate.md shows every key"))
}

/// What a daemon recorded, read beside it or after it.
fn recorded(directory: &Path, args: &Args) -> anyhow::Result<Case> {
    let store = Store::look(directory).map_err(|error| match error {
        StoreError::Absent { .. } => refused(error.to_string(), "give a daemon's state directory"),
        other => other.into(),
    })?;
    let recording = Recording::of(store.snapshots()?).map_err(|error| {
        refused(format!("{}: {error}", directory.display()), "run the daemon for a while, in any mode")
    })?;
    Ok(recording.case("history", args.hours, args.seed))
}

/// A policy as it was asked for.
struct Contestant {
    label: String,
    source: policy::Source,
    /// What was given beside its name.
    parameters: Map<String, Value>,
}

impl Contestant {
    /// `NAME|FILE[=JSON]`.
    fn read(spec: &str) -> anyhow::Result<Self> {
        let (name, parameters) = match spec.split_once("={") {
            Some((name, json)) => (name, object(spec, &format!("{{{json}"))?),
            None => (spec, Map::new()),
        };
        let source = source_of(name)?;
        let path = Path::new(name);
        let named = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let stem = named(path.file_stem()).unwrap_or_else(|| name.to_owned());
        // What `ballast policy new` makes is always policy.wasm: its directory tells projects apart.
        let directory = path.parent().and_then(|parent| named(parent.file_name())).filter(|_| stem == "policy");
        let stem = directory.unwrap_or(stem);
        Ok(Self { label: label(&stem, &parameters), source, parameters })
    }

    /// A fresh one for a case: what was given counts more than what the case has for it, key by key, so that two sets of
    /// parameters differ in nothing else.
    fn enter(&self, host: &PolicyHost, case: &Case) -> anyhow::Result<Player> {
        let load = |parameters: Map<String, Value>| host.load(&self.source, &Value::Object(parameters).to_string());
        let mut policy = load(self.parameters.clone())?;
        if let Some(of_case) = case.parameters.get(&policy.id().name) {
            let mut parameters = of_case.clone();
            parameters.extend(self.parameters.clone());
            policy = load(parameters)?;
        }
        Ok(Player { label: self.label.clone(), policy: Some(Box::new(Tireless(policy))) })
    }
}

fn object(spec: &str, json: &str) -> anyhow::Result<Map<String, Value>> {
    serde_json::from_str(json).map_err(|error| {
        let hint = "parameters are a JSON object: --policy 'balance={\"trigger\":1.3}'";
        refused(format!("--policy {spec}: {error}"), hint)
    })
}

/// "balance preset=calm": parameters without JSON's signs where they can do without.
fn label(name: &str, parameters: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    parameters.iter().fold(name.to_owned(), |label, (key, value)| format!("{label} {key}={}", text(value)))
}

/// A policy whose pauses after faults, which go by the clock on the wall, are over at once: simulated cycles come sooner.
struct Tireless(LoadedPolicy);

impl Policy for Tireless {
    fn id(&self) -> &PolicyId {
        self.0.id()
    }

    fn plan(&mut self, snapshot: &Arc<Snapshot>) -> Result<Plan, PolicyFailure> {
        self.0.end_rest();
        self.0.plan(snapshot)
    }

    fn advise(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<ScalingAdvice>, PolicyFailure> {
        self.0.advise(snapshot)
    }
}
