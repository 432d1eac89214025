//! One running instance of a policy, and the calls into it, each bounded.
//!
//! After a fault an instance is dead: wasmtime never enters it again. Its owner drops it and starts another.

use std::sync::Arc;

use wasmtime::component::{Component, InstancePre};
use wasmtime::{Engine, Store};

use super::Settings;
use super::bindings::ballast::policy::types::{Failure, Proposal};
use super::bindings::exports::ballast::policy::{policy, scaling, state};
use super::fault::{Fault, one_line};
use super::guest::{Guest, cut, interface, linker};
use super::view::View;

/// What a policy says of itself.
pub(super) use super::bindings::ballast::policy::types::Description;
/// What a policy advises about the number of shards.
pub(super) use super::bindings::exports::ballast::policy::scaling::Advice;

/// Bytes of a dying policy's last line that its failure quotes: a message and a place in a source file.
const LAST_LINE_BYTES_MAX: usize = 300;

/// A policy that is compiled and linked, ready to be instantiated any number of times.
pub(super) struct Program {
    pre: InstancePre<Guest>,
    policy: policy::GuestIndices,
    state: Option<state::GuestIndices>,
    scaling: Option<scaling::GuestIndices>,
    imports: Vec<String>,
}

impl Program {
    /// Checks imports and exports against the contract. The error says what does not fit.
    pub(super) fn link(engine: &Engine, component: &Component) -> Result<Self, String> {
        refuse_foreign_imports(engine, component)?;
        refuse_missing_exports(engine, component)?;
        let pre = linker(engine).and_then(|linker| linker.instantiate_pre(component)).map_err(|e| one_line(&e))?;
        let has = |name: &str| component.get_export_index(None, interface(name)).is_some();
        let policy = policy::GuestIndices::new(&pre).map_err(|e| one_line(&e))?;
        let state = has("state").then(|| state::GuestIndices::new(&pre)).transpose().map_err(|e| one_line(&e))?;
        let scaling = has("scaling").then(|| scaling::GuestIndices::new(&pre)).transpose().map_err(|e| one_line(&e))?;
        let imports = component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect();
        Ok(Self { pre, policy, state, scaling, imports })
    }

    pub(super) fn imports(&self) -> &[String] {
        &self.imports
    }

    pub(super) const fn remembers(&self) -> bool {
        self.state.is_some()
    }

    pub(super) const fn scales(&self) -> bool {
        self.scaling.is_some()
    }
}

fn names(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

fn refuse_foreign_imports(engine: &Engine, component: &Component) -> Result<(), String> {
    let kind = component.component_type();
    for (name, _) in kind.imports(engine) {
        let (base, version) = name.split_once('@').unwrap_or((name, ""));
        let known = ["types", "cluster", "search", "log"].iter().any(|own| base == format!("ballast:policy/{own}"));
        if name.starts_with("wasi:") {
            return Err(format!(
                "it imports {name}, and a policy gets no WASI: no files, network, environment or clock"
            ));
        }
        if !known {
            return Err(format!("it imports {name}, which is not part of ballast:policy@{}", super::guest::CONTRACT));
        }
        if !version.starts_with("0.1.") {
            return Err(wrong_version(version));
        }
    }
    Ok(())
}

fn refuse_missing_exports(engine: &Engine, component: &Component) -> Result<(), String> {
    if component.get_export_index(None, interface("policy")).is_some() {
        return Ok(());
    }
    let kind = component.component_type();
    let other =
        kind.exports(engine).find_map(|(name, _)| name.strip_prefix("ballast:policy/policy@").map(str::to_owned));
    Err(match other {
        Some(version) => wrong_version(&version),
        None => {
            let has = names(kind.exports(engine).map(|(name, _)| name.to_owned()));
            format!("it does not export {}; it exports {has}", interface("policy"))
        }
    })
}

fn wrong_version(version: &str) -> String {
    format!("it is built for ballast:policy@{version}, and this daemon speaks {}", super::guest::CONTRACT)
}

/// One instance, alive until its first fault.
pub(super) struct Instance {
    store: Store<Guest>,
    policy: policy::Guest,
    state: Option<state::Guest>,
    scaling: Option<scaling::Guest>,
    settings: Arc<Settings>,
}

impl Instance {
    /// Starts an instance; `name` is how its log lines are labelled.
    pub(super) fn start(program: &Program, name: &str, settings: &Arc<Settings>) -> Result<Self, Fault> {
        let mut store = Store::new(program.pre.engine(), Guest::new(name.to_owned(), settings));
        store.limiter(|guest| &mut guest.limits);
        store.set_hostcall_fuel(settings.transfer_mib << 20);
        // A module's start function runs here: it has a deadline as every call.
        store.set_epoch_deadline(super::engine::ticks(settings.deadline()));
        store.data_mut().begin_call(None);
        let fault = |error: &wasmtime::Error| Fault::of(error, "start", settings);
        let started = program.pre.instantiate(&mut store).map_err(|e| fault(&e))?;
        let policy = program.policy.load(&mut store, &started).map_err(|e| fault(&e))?;
        let state = match &program.state {
            Some(indices) => Some(indices.load(&mut store, &started).map_err(|e| fault(&e))?),
            None => None,
        };
        let scaling = match &program.scaling {
            Some(indices) => Some(indices.load(&mut store, &started).map_err(|e| fault(&e))?),
            None => None,
        };
        store.data_mut().end_call();
        Ok(Self { store, policy, state, scaling, settings: Arc::clone(settings) })
    }

    /// Bytes of linear memory that the instance has now. Memories never shrink, so this is its peak as well.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().limits.memory_bytes
    }

    /// Hands over the lines that the last call logged.
    pub(super) fn take_log_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.store.data_mut().log.lines)
    }

    /// Arms the deadline, lends the view, calls, takes the view back.
    fn call<T>(
        &mut self,
        function: &str,
        view: Option<&Arc<View>>,
        call: impl FnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.store.set_epoch_deadline(super::engine::ticks(self.settings.deadline()));
        self.store.data_mut().begin_call(view.cloned());
        let answer = call(self);
        self.store.data_mut().end_call();
        answer.map_err(|error| {
            let mut fault = Fault::of(&error, function, &self.settings);
            // A panic hook logs what the trap itself cannot say.
            if let Some(line) = self.store.data().log.lines.last() {
                fault.reason = format!("{}; its last line: {}", fault.reason, cut(line, LAST_LINE_BYTES_MAX));
            }
            fault
        })
    }

    pub(super) fn describe(&mut self) -> Result<Description, Fault> {
        self.call("describe", None, |it| it.policy.call_describe(&mut it.store))
    }

    pub(super) fn configure(&mut self, parameters: &str) -> Result<Result<(), String>, Fault> {
        self.call("configure", None, |it| it.policy.call_configure(&mut it.store, parameters))
    }

    pub(super) fn plan(&mut self, view: &Arc<View>) -> Result<Result<Proposal, Failure>, Fault> {
        self.call("plan", Some(view), |it| it.policy.call_plan(&mut it.store))
    }

    /// `None` if the policy offers no advice.
    pub(super) fn advise(&mut self, view: &Arc<View>) -> Result<Option<Result<Advice, Failure>>, Fault> {
        self.call("advise", Some(view), |it| match &it.scaling {
            Some(scaling) => scaling.call_advise(&mut it.store).map(Some),
            None => Ok(None),
        })
    }

    /// `None` if the policy keeps no state.
    pub(super) fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.call("save", None, |it| match &it.state {
            Some(state) => state.call_save(&mut it.store).map(Some),
            None => Ok(None),
        })
    }

    /// Nothing happens if the policy keeps no state.
    pub(super) fn restore(&mut self, saved_by: &str, data: &[u8]) -> Result<Result<(), String>, Fault> {
        self.call("restore", None, |it| match &it.state {
            Some(state) => state.call_restore(&mut it.store, saved_by, data),
            None => Ok(Ok(())),
        })
    }
}
