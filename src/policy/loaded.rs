//! A policy in use: asks it, judges the form of its answer, and starts it afresh when it dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::bindings::ballast::policy::types::{Failure, Proposal};
use super::failure::{FailureKind, LoadFailure, PolicyFailure, Stage};
use super::fault::Fault;
use super::guest::{cut, plain};
use super::instance::{Advice, Instance, Program};
use super::view::View;
use super::{Policy, Settings, Source};
use crate::clock::now_ms;
use crate::model::{Plan, PolicyId, ProposedMove, Snapshot};

/// How long a policy rests after its first fault; doubled with every further one in a row.
const FIRST_REST: Duration = Duration::from_secs(1);

/// The longest rest: an author who mends the cluster rather than the policy waits no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What a policy says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// Metrics without which it cannot plan.
    pub needs: Vec<String>,
    /// JSON Schema of its parameters; empty if none.
    pub parameters_schema: String,
}

/// What a policy saved for its next instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// Name of the policy that saved.
    pub policy: String,
    /// Its version.
    pub version: String,
    /// Whatever it likes.
    pub data: Vec<u8>,
}

/// How many shards the cluster should have, in a policy's opinion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingAdvice {
    /// Primaries that should own slots.
    pub shards: u32,
    /// Indexes in the snapshot's primaries to empty, best first; unchecked.
    pub retire: Vec<u32>,
    /// Why.
    pub reason: String,
}

/// Figures about a loaded policy, since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls of `plan` into WebAssembly.
    pub calls: u64,
    /// Calls that ended in a failure other than not-ready.
    pub faults: u64,
    /// Faults since the last success.
    pub faults_in_row: u32,
    /// How often a fresh instance replaced a dead one.
    pub restarts: u64,
    /// The last call of `plan`, with lowering and lifting.
    pub last_call: Duration,
    /// All calls of `plan` together.
    pub total_calls: Duration,
    /// Bytes of linear memory now; 0 while there is no instance.
    pub memory_bytes: usize,
}

/// A policy that was compiled, linked, described and configured.
pub struct LoadedPolicy {
    id: PolicyId,
    source: Source,
    description: Description,
    loaded_at_ms: u64,
    parameters: String,
    program: Arc<Program>,
    settings: Arc<Settings>,
    instance: Option<Instance>,
    saved: Option<SavedState>,
    resting: Option<Rest>,
    view: Option<Arc<View>>,
    log_lines: Vec<String>,
    stats: Stats,
}

/// A pause after a fault.
struct Rest {
    until: Instant,
    last: Fault,
}

impl std::fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoadedPolicy({} from {})", self.id, self.source)
    }
}

/// What is settled before the first call.
pub(super) struct Beginning {
    pub(super) source: Source,
    pub(super) digest: String,
    pub(super) program: Program,
    pub(super) parameters: String,
}

impl LoadedPolicy {
    /// Starts, describes and configures.
    pub(super) fn begin(beginning: Beginning, settings: &Arc<Settings>) -> Result<Self, LoadFailure> {
        let Beginning { source, digest, program, parameters } = beginning;
        let mut name = source.to_string();
        let refuse = |name: &str, stage, reason: String, next_step: &str| LoadFailure {
            policy: name.to_owned(),
            digest: Some(digest.clone()),
            stage,
            reason,
            next_step: next_step.to_owned(),
            unfinished: false,
        };
        let look = "look at its log lines above, and run `ballast policy check` on it";
        let mut instance = Instance::start(&program, &name, settings)
            .map_err(|fault| refuse(&name, Stage::Describe, fault.reason, look))?;
        let described = instance.describe().map_err(|fault| refuse(&name, Stage::Describe, fault.reason, look))?;
        let description = Description {
            name: described.name,
            version: described.version,
            summary: plain(cut(&described.summary, settings.summary_bytes_max)),
            needs: described.needs,
            parameters_schema: described.parameters_schema,
        };
        if let Some(problem) = misdescription(&description) {
            return Err(refuse(&name, Stage::Describe, problem, "mend `describe`"));
        }
        name = format!("{} {} from {source}", description.name, description.version);
        instance.configure(&parameters).map_err(|fault| refuse(&name, Stage::Configure, fault.reason, look))?.map_err(
            |reason| {
                let reason = plain(cut(&reason, settings.summary_bytes_max));
                refuse(&name, Stage::Configure, reason, "correct the policy's parameters in the configuration")
            },
        )?;
        Ok(Self {
            id: PolicyId { name: description.name.clone(), version: description.version.clone(), digest },
            source,
            description,
            loaded_at_ms: now_ms(),
            parameters,
            program: Arc::new(program),
            settings: Arc::clone(settings),
            instance: Some(instance),
            saved: None,
            resting: None,
            view: None,
            log_lines: Vec::new(),
            stats: Stats::default(),
        })
    }

    /// Where it came from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// What it says of itself.
    #[must_use]
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// Metrics without which it cannot plan: `slot/cpu-usec`, `node/memory-used`.
    #[must_use]
    pub fn needs(&self) -> &[String] {
        &self.description.needs
    }

    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.id.digest
    }

    /// Unix time in milliseconds at which it was loaded.
    #[must_use]
    pub const fn loaded_at_ms(&self) -> u64 {
        self.loaded_at_ms
    }

    /// The parameters that it accepted last.
    #[must_use]
    pub fn parameters(&self) -> &str {
        &self.parameters
    }

    /// Figures since it was loaded.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let memory_bytes = self.instance.as_ref().map_or(0, Instance::memory_bytes);
        Stats { memory_bytes, ..self.stats }
    }

    /// The interfaces that it imports, with their versions.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        self.program.imports()
    }

    /// Whether it keeps state.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.program.remembers()
    }

    /// Whether it gives scaling advice.
    #[must_use]
    pub fn scales(&self) -> bool {
        self.program.scales()
    }

    /// What it saved after its last successful plan, for the next instance, the next version or the next start.
    #[must_use]
    pub const fn saved_state(&self) -> Option<&SavedState> {
        self.saved.as_ref()
    }

    /// The lines that its last call of `plan` logged.
    #[must_use]
    pub fn log_lines(&self) -> &[String] {
        &self.log_lines
    }

    /// Gives it other parameters. A refusal leaves it as it was, with the old ones.
    ///
    /// # Errors
    /// When the policy refuses them, or faults.
    pub fn configure(&mut self, parameters: &str) -> Result<(), LoadFailure> {
        let old = std::mem::replace(&mut self.parameters, parameters.to_owned());
        let answer = self.try_parameters();
        let reason = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => plain(cut(&reason, self.settings.summary_bytes_max)),
            Err(fault) => fault.reason,
        };
        // Whatever a refusing instance half took over goes with it.
        self.parameters = old;
        self.instance = None;
        Err(LoadFailure {
            policy: self.title(),
            digest: Some(self.id.digest.clone()),
            stage: Stage::Configure,
            reason,
            next_step: "correct the policy's parameters in the configuration; the old ones stay in force".to_owned(),
            unfinished: false,
        })
    }

    fn try_parameters(&mut self) -> Result<Result<(), String>, Fault> {
        let Some(mut instance) = self.instance.take() else {
            // The next instance is configured as it starts; see whether it does.
            self.instance = Some(self.start()?);
            return Ok(Ok(()));
        };
        let answer = instance.configure(&self.parameters)?;
        self.instance = Some(instance);
        Ok(answer)
    }

    /// Hands over what another instance saved. An unfit state means a cold start, and the log says so.
    pub fn restore(&mut self, saved: &SavedState) {
        if self.remembers() && saved.policy == self.id.name {
            self.saved = Some(saved.clone());
            // A fresh instance takes it over as it starts.
            self.instance = None;
        }
    }

    /// Begins anew as if it had never been asked, with what `state` says.
    pub(super) fn forget_trial(&mut self, state: Option<&SavedState>) {
        self.instance = None;
        self.saved = None;
        self.resting = None;
        self.view = None;
        self.stats = Stats::default();
        if let Some(state) = state {
            self.restore(state);
        }
    }

    /// Skips the pause after a fault, which goes by the clock on the wall: for tests, and where time is simulated.
    pub fn end_rest(&mut self) {
        if let Some(rest) = &mut self.resting {
            rest.until = Instant::now();
        }
    }

    fn title(&self) -> String {
        format!("{} {}", self.id.name, self.id.version)
    }

    fn failure(&self, kind: FailureKind, reason: String) -> PolicyFailure {
        PolicyFailure { policy: self.title(), kind, reason }
    }

    fn own_words(&self, failure: Failure) -> PolicyFailure {
        let (kind, reason) = match failure {
            Failure::BadParameters(reason) => (FailureKind::Error, format!("its parameters do not fit: {reason}")),
            Failure::NotReady(reason) => (FailureKind::NotReady, reason),
            Failure::Internal(reason) => (FailureKind::Error, reason),
        };
        self.failure(kind, plain(cut(&reason, self.settings.summary_bytes_max)))
    }

    fn view_of(&mut self, snapshot: &Arc<Snapshot>) -> Arc<View> {
        match &self.view {
            Some(view) if Arc::ptr_eq(view.snapshot(), snapshot) => Arc::clone(view),
            _ => Arc::clone(self.view.insert(Arc::new(View::new(snapshot)))),
        }
    }

    /// An instance to call: the living one, or a fresh one unless the policy rests.
    fn awake(&mut self) -> Result<Instance, PolicyFailure> {
        if let Some(instance) = self.instance.take() {
            return Ok(instance);
        }
        if let Some(rest) = &self.resting {
            let left = rest.until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let reason = format!(
                    "resting for {} s after {} faults in a row; the last: {}",
                    left.as_secs() + 1,
                    self.stats.faults_in_row,
                    rest.last.reason
                );
                return Err(self.failure(rest.last.kind, reason));
            }
        }
        let started = self.start();
        if self.resting.take().is_some() {
            self.stats.restarts += 1;
            info!(policy = %self.id, "policy started afresh");
        }
        started.map_err(|fault| self.died(fault))
    }

    /// A fresh instance: configured, with its saved state.
    fn start(&self) -> Result<Instance, Fault> {
        let mut instance = Instance::start(&self.program, &self.title(), &self.settings)?;
        instance.configure(&self.parameters)?.map_err(|reason| Fault {
            kind: FailureKind::Error,
            reason: format!("`configure` refuses parameters: {}", plain(&reason)),
        })?;
        let Some(saved) = &self.saved else { return Ok(instance) };
        match instance.restore(&saved.version, &saved.data) {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(reason)) => {
                let reason = plain(&reason);
                warn!(policy = %self.id, saved_by = %saved.version, %reason, "policy starts cold: state not taken over");
                Ok(instance)
            }
            Err(fault) => {
                warn!(policy = %self.id, saved_by = %saved.version, reason = %fault.reason,
                    "policy starts cold: state killed it");
                let mut instance = Instance::start(&self.program, &self.title(), &self.settings)?;
                // It accepted the same parameters a moment ago.
                instance.configure(&self.parameters)?.ok();
                Ok(instance)
            }
        }
    }

    /// Keeps the instance for the next call, or buries it.
    fn keep_unless_dead<T>(&mut self, instance: Instance, answer: Result<T, Fault>) -> Result<T, PolicyFailure> {
        match answer {
            Ok(answer) => {
                self.instance = Some(instance);
                Ok(answer)
            }
            Err(fault) => Err(self.died(fault)),
        }
    }

    fn died(&mut self, fault: Fault) -> PolicyFailure {
        self.count_fault();
        let doublings = self.stats.faults_in_row.saturating_sub(1).min(16);
        let rest = FIRST_REST.saturating_mul(1 << doublings).min(LONGEST_REST);
        self.resting = Some(Rest { until: Instant::now() + rest, last: fault.clone() });
        self.failure(fault.kind, fault.reason)
    }

    const fn count_fault(&mut self) {
        self.stats.faults += 1;
        self.stats.faults_in_row += 1;
    }

    /// Saves after a success. Whatever goes wrong here does not take the plan back.
    fn remember(&mut self) {
        let Some(mut instance) = self.instance.take() else { return };
        let bytes_max = self.settings.state_kib_max << 10;
        match instance.save() {
            Ok(Some(data)) if data.len() > bytes_max => {
                warn!(policy = %self.id, bytes = data.len(), bytes_max, "policy state dropped: too large");
            }
            Ok(Some(data)) => {
                self.saved = Some(SavedState { policy: self.id.name.clone(), version: self.id.version.clone(), data });
            }
            Ok(None) => {}
            Err(fault) => {
                warn!(policy = %self.id, reason = %fault.reason, "policy state not saved");
                self.died(fault);
                return;
            }
        }
        self.instance = Some(instance);
    }

    /// The plan in the proposal, if it keeps the bounds of the interface.
    fn shape(&self, proposal: Proposal, generation: u64) -> Result<Plan, PolicyFailure> {
        let Settings { moves_max, reason_bytes_max, summary_bytes_max, gauges_max, .. } = *self.settings;
        if proposal.moves.len() > moves_max {
            let reason = format!("proposed {} moves; at most {moves_max} are allowed", proposal.moves.len());
            return Err(self.failure(FailureKind::Invalid, reason));
        }
        let moves = proposal.moves.into_iter().map(|proposed| ProposedMove {
            slot: proposed.slot,
            target: proposed.target,
            reason: plain(cut(&proposed.reason, reason_bytes_max)),
        });
        let offered = proposal.gauges.len();
        let gauges: Vec<(String, f64)> = proposal
            .gauges
            .into_iter()
            .filter(|(name, value)| value.is_finite() && is_gauge_name(name))
            .take(gauges_max)
            .collect();
        if gauges.len() < offered {
            warn!(policy = %self.id, offered, kept = gauges.len(), "policy gauges dropped: too many, ill-named or not finite");
        }
        Ok(Plan {
            policy: self.id.clone(),
            generation,
            moves: moves.collect(),
            summary: plain(cut(&proposal.summary, summary_bytes_max)),
            gauges,
        })
    }
}

impl Policy for LoadedPolicy {
    fn id(&self) -> &PolicyId {
        &self.id
    }

    fn plan(&mut self, snapshot: &Arc<Snapshot>) -> Result<Plan, PolicyFailure> {
        let view = self.view_of(snapshot);
        let mut instance = self.awake()?;
        let started = Instant::now();
        let answer = instance.plan(&view);
        self.log_lines = instance.take_log_lines();
        self.stats.calls += 1;
        self.stats.last_call = started.elapsed();
        self.stats.total_calls += self.stats.last_call;
        let proposal = self.keep_unless_dead(instance, answer)?;
        let plan = proposal
            .map_err(|failure| self.own_words(failure))
            .and_then(|proposal| self.shape(proposal, snapshot.generation));
        match &plan {
            Ok(_) => {
                self.stats.faults_in_row = 0;
                self.remember();
            }
            Err(failure) if failure.kind.is_fault() => self.count_fault(),
            Err(_) => {}
        }
        plan
    }

    fn advise(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<ScalingAdvice>, PolicyFailure> {
        if !self.scales() {
            return Ok(None);
        }
        let view = self.view_of(snapshot);
        let mut instance = self.awake()?;
        let answer = instance.advise(&view);
        let answer = self.keep_unless_dead(instance, answer)?;
        let shape = |advice: Advice| ScalingAdvice {
            shards: advice.shards,
            retire: advice.retire,
            reason: plain(cut(&advice.reason, self.settings.reason_bytes_max)),
        };
        answer.transpose().map(|advice| advice.map(shape)).map_err(|failure| self.own_words(failure))
    }
}

fn misdescription(description: &Description) -> Option<String> {
    let is_name = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
    };
    if !is_name(&description.name) {
        let name = plain(cut(&description.name, 80));
        return Some(format!("its name is '{name}': 1 to 64 characters out of a-z, 0-9, '-', '_', '.' are accepted"));
    }
    let version = &description.version;
    if !(1..=64).contains(&version.len()) || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
        let version = plain(cut(version, 80));
        return Some(format!("its version is '{version}': 1 to 64 visible characters are accepted"));
    }
    let odd = description.needs.iter().find(|need| !need.starts_with("slot/") && !need.starts_with("node/"));
    odd.map(|need| format!("it needs '{}': metrics begin with 'slot/' or 'node/'", plain(cut(need, 80))))
}

fn is_gauge_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}
