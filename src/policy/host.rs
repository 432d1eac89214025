//! From a file or an embedded name to a policy that may be asked, one stage after the other.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::Engine;

use super::compile::compile;
use super::failure::{LoadFailure, Stage};
use super::instance::Program;
use super::loaded::{Beginning, LoadedPolicy, SavedState};
use super::{Policy, Settings, Source, embedded, engine, view};
use crate::model::{PolicyId, Snapshot};

/// The engine that policies run in, and the bounds that it sets. Cheap to clone; clones share one engine.
#[derive(Clone)]
pub struct PolicyHost {
    engine: Engine,
    settings: Arc<Settings>,
}

/// The host cannot run: nothing about any one policy.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// wasmtime refuses its configuration.
    #[error("the WebAssembly engine cannot be started: {0}")]
    Engine(String),
    /// Numbers that make no sense.
    #[error("policy settings: {}", .0.join("; "))]
    Settings(Vec<String>),
}

/// What a new policy is tried on before it may replace the live one.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// The parameters that it must accept: a JSON object.
    pub parameters: String,
    /// Digest of the policy that is live, so that the same file is not taken twice.
    pub live: Option<String>,
    /// What the live policy saved last.
    pub state: Option<SavedState>,
    /// The latest view, once there is one. Its columns are what `needs` may name.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl PolicyHost {
    /// A host with its engine and its epoch ticker, which ends with the last clone.
    ///
    /// # Errors
    /// When the settings make no sense, or this machine cannot run wasmtime.
    pub fn new(settings: Settings) -> Result<Self, HostError> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(HostError::Settings(problems));
        }
        let engine = engine::running(&settings).map_err(|error| HostError::Engine(error.to_string()))?;
        Ok(Self { engine, settings: Arc::new(settings) })
    }

    /// The bounds.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same host, for files whose digest nobody pinned.
    #[must_use]
    pub fn unpinned(&self) -> Self {
        let settings = Settings { sha256: None, ..(*self.settings).clone() };
        Self { engine: self.engine.clone(), settings: Arc::new(settings) }
    }

    /// Loads a policy up to its configuration: it was not asked for a plan yet. Blocks: for milliseconds when the
    /// policy is small or cached, for seconds otherwise.
    ///
    /// # Errors
    /// With the stage that it did not pass.
    pub fn load(&self, source: &Source, parameters: &str) -> Result<LoadedPolicy, LoadFailure> {
        let bytes = self.read(source)?;
        self.load_bytes(source, bytes, parameters)
    }

    /// Loads a policy and tries it: what it needs must be there, and it must answer. Blocks as [`Self::load`].
    ///
    /// # Errors
    /// With the stage that it did not pass.
    pub fn load_on(&self, source: &Source, ground: &Ground) -> Result<LoadedPolicy, LoadFailure> {
        let bytes = self.read(source)?;
        let policy = self.load_bytes(source, bytes, &ground.parameters)?;
        try_on(policy, ground)
    }

    fn refusal(source: &Source, digest: Option<&str>, stage: Stage, reason: String, next_step: &str) -> LoadFailure {
        LoadFailure {
            policy: source.to_string(),
            digest: digest.map(str::to_owned),
            stage,
            reason,
            next_step: next_step.to_owned(),
            unfinished: matches!(stage, Stage::Read),
        }
    }

    pub(super) fn read(&self, source: &Source) -> Result<Vec<u8>, LoadFailure> {
        let path = match source {
            Source::Embedded(name) => {
                return embedded::find(name).map(<[u8]>::to_vec).ok_or_else(|| {
                    let known = embedded::embedded_names().join(", ");
                    let next_step = format!("embedded policies are: {known}");
                    Self::refusal(source, None, Stage::Read, "there is no such policy".to_owned(), &next_step)
                });
            }
            Source::File(path) => path,
        };
        let limit = self.settings.file_mib_max << 20;
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too large from one that just fits.
        let read = regular_file(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            let reason = format!("the file cannot be read: {error}");
            return Err(Self::refusal(source, None, Stage::Read, reason, "check the path and its permissions"));
        }
        if bytes.len() as u64 > limit {
            let reason = format!("the file is larger than {} MiB", self.settings.file_mib_max);
            let next_step = "strip its debug information, or raise `file-mib-max`";
            return Err(Self::refusal(source, None, Stage::Read, reason, next_step));
        }
        Ok(bytes)
    }

    /// How a policy's file is known: its SHA-256, 64 hexadecimal digits.
    #[must_use]
    pub fn digest(file: &[u8]) -> String {
        digest(file)
    }

    /// The file that `policy` came from; nothing when there is another in its place by now.
    #[must_use]
    pub fn file_of(&self, policy: &PolicyId, source: &Source) -> Option<Vec<u8>> {
        self.read(source).ok().filter(|file| digest(file) == policy.digest)
    }

    /// As [`Self::load`], for a file that was read already; `source` is how it is called.
    ///
    /// # Errors
    /// With the stage that it did not pass.
    pub fn load_bytes(&self, source: &Source, bytes: Vec<u8>, parameters: &str) -> Result<LoadedPolicy, LoadFailure> {
        let digest = digest(&bytes);
        let refuse =
            |stage, reason: String, next_step: &str| Self::refusal(source, Some(&digest), stage, reason, next_step);
        if let (Source::File(_), Some(pin)) = (source, &self.settings.sha256)
            && !pin.eq_ignore_ascii_case(&digest)
        {
            let reason = format!("its digest is {digest}, and {pin} is pinned");
            return Err(refuse(
                Stage::Pin,
                reason,
                "change `sha256` in the configuration if this file is the right one",
            ));
        }
        let component = compile(&self.engine, &self.settings, &bytes).map_err(|unfit| LoadFailure {
            unfinished: unfit.unfinished,
            ..refuse(unfit.stage, unfit.reason, &unfit.next_step)
        })?;
        let program = Program::link(&self.engine, &component)
            .map_err(|reason| refuse(Stage::Link, reason, "build it against `ballast policy wit`"))?;
        // An absent table of parameters is an empty one.
        let parameters = if parameters.is_empty() { "{}" } else { parameters }.to_owned();
        LoadedPolicy::begin(Beginning { source: source.clone(), digest, program, parameters }, &self.settings)
    }
}

/// Opens a file that ends: a pipe or a device in its place would keep the reader waiting for ever.
fn regular_file(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

/// SHA-256 in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Tries a policy on the latest view, if there is one. The trial leaves no trace in the policy that is returned.
pub(super) fn try_on(mut policy: LoadedPolicy, ground: &Ground) -> Result<LoadedPolicy, LoadFailure> {
    let refuse = |policy: &LoadedPolicy, stage, reason: String, next_step: &str| LoadFailure {
        policy: format!("{} {} from {}", policy.id().name, policy.id().version, policy.source()),
        digest: Some(policy.digest().to_owned()),
        stage,
        reason,
        next_step: next_step.to_owned(),
        unfinished: false,
    };
    if let Some(state) = &ground.state {
        policy.restore(state);
    }
    let Some(snapshot) = &ground.snapshot else { return Ok(policy) };
    let missing: Vec<&str> =
        policy.needs().iter().filter(|need| !view::offers(snapshot, need)).map(String::as_str).collect();
    if !missing.is_empty() {
        let reason = format!("it needs {}, which this cluster does not offer", missing.join(", "));
        return Err(refuse(&policy, Stage::Needs, reason, "see `ballast check` for the metrics that it offers"));
    }
    match policy.plan(snapshot) {
        Err(failure) if failure.kind.is_fault() => {
            let reason = format!("{}: {}", failure.kind, failure.reason);
            Err(refuse(&policy, Stage::Trial, reason, "mend the policy; `ballast policy check` repeats the trial"))
        }
        _ => {
            policy.forget_trial(ground.state.as_ref());
            Ok(policy)
        }
    }
}
