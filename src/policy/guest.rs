//! What one instance of a policy may touch: its limits, the view of the current call, and a log with an end.

use std::sync::Arc;

use tracing::{debug, error, info, warn};
use wasmtime::component::Linker;
use wasmtime::{Engine, ResourceLimiter, StoreContextMut};

use super::bindings::ballast::policy::log::Level;
use super::bindings::ballast::policy::search::Outcome;
use super::view::View;
use super::{Settings, search};

/// The version of the contract that this host speaks.
pub(super) const CONTRACT: &str = "0.1.0";

/// The host's side of one instance.
pub(super) struct Guest {
    pub(super) limits: Limits,
    /// Present only while `plan` or `advise` runs.
    pub(super) view: Option<Arc<View>>,
    pub(super) log: Log,
    searches_left: u64,
    settings: Arc<Settings>,
}

impl Guest {
    pub(super) fn new(policy: String, settings: &Arc<Settings>) -> Self {
        Self {
            limits: Limits::new(settings),
            view: None,
            log: Log { policy, lines: Vec::new(), dropped: 0 },
            searches_left: 0,
            settings: Arc::clone(settings),
        }
    }

    /// Grants what every call gets anew.
    pub(super) fn begin_call(&mut self, view: Option<Arc<View>>) {
        self.view = view;
        self.searches_left = self.settings.searches_max;
        self.log.lines.clear();
        self.log.dropped = 0;
    }

    /// Takes the view away, and owns up to lines that were dropped.
    pub(super) fn end_call(&mut self) {
        self.view = None;
        if self.log.dropped > 0 {
            warn!(policy = %self.log.policy, dropped = self.log.dropped, "policy logged too much");
        }
    }

    fn view(&self) -> wasmtime::Result<&Arc<View>> {
        self.view.as_ref().ok_or_else(|| OutsideCall.into())
    }
}

/// A guest asked for the cluster while no call had a view.
#[derive(Debug, thiserror::Error)]
#[error("`cluster` and `search` answer only while `plan` or `advise` runs")]
pub(super) struct OutsideCall;

/// A guest wanted more linear memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("wanted {wanted_mib} MiB of memory, {allowed_mib} MiB are allowed")]
pub(super) struct OverMemory {
    wanted_mib: usize,
    allowed_mib: usize,
}

/// A guest wanted more table elements than it may have.
#[derive(Debug, thiserror::Error)]
#[error("wanted {wanted} table elements, {allowed} are allowed")]
pub(super) struct OverTable {
    wanted: usize,
    allowed: usize,
}

/// Counts memory and tables over the whole instance, where wasmtime's own limiter counts each memory by itself.
pub(super) struct Limits {
    pub(super) memory_bytes: usize,
    memory_bytes_max: usize,
    elements: usize,
    elements_max: usize,
}

impl Limits {
    const fn new(settings: &Settings) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: settings.memory_mib << 20,
            elements: 0,
            elements_max: settings.table_elements,
        }
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if wanted > self.memory_bytes_max {
            return Err(
                OverMemory { wanted_mib: wanted.div_ceil(1 << 20), allowed_mib: self.memory_bytes_max >> 20 }.into()
            );
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.elements.saturating_add(desired.saturating_sub(current));
        if wanted > self.elements_max {
            return Err(OverTable { wanted, allowed: self.elements_max }.into());
        }
        self.elements = wanted;
        Ok(true)
    }

    // Componentized modules have three core instances, StarlingMonkey five; each has a table and at most one memory.
    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        8
    }
}

/// The lines of one call.
pub(super) struct Log {
    pub(super) policy: String,
    pub(super) lines: Vec<String>,
    dropped: u64,
}

impl Log {
    fn write(&mut self, level: Level, message: &str, settings: &Settings) {
        if self.lines.len() >= settings.log_lines_max {
            self.dropped += 1;
            return;
        }
        let line = plain(cut(message, settings.log_line_bytes_max));
        let policy = &self.policy;
        match level {
            Level::Debug => debug!(%policy, %line, "policy says"),
            Level::Info => info!(%policy, %line, "policy says"),
            Level::Warn => warn!(%policy, %line, "policy says"),
            Level::Error => error!(%policy, %line, "policy says"),
        }
        self.lines.push(line);
    }
}

/// The longest beginning of `text` that has at most `bytes` bytes and ends between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// `text` on one line, without control characters: what guests write ends in terminals, logs and web pages.
pub(super) fn plain(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Everything that a policy may import, and nothing else.
///
/// Wired by hand rather than through generated traits, so that columns cross as the shared slices that they are.
/// The types are checked against the component's own when it is linked.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    type Call<'a> = StoreContextMut<'a, Guest>;
    let mut linker = Linker::new(engine);

    let mut log = linker.instance(&interface("log"))?;
    log.func_wrap("log", |mut call: Call<'_>, (level, message): (Level, String)| {
        let guest = call.data_mut();
        guest.log.write(level, &message, &guest.settings);
        Ok(())
    })?;

    let mut cluster = linker.instance(&interface("cluster"))?;
    cluster.func_wrap("taken-at-ms", |call: Call<'_>, ()| Ok((call.data().view()?.snapshot().taken_at_ms,)))?;
    cluster.func_wrap("window-s", |call: Call<'_>, ()| Ok((call.data().view()?.snapshot().window_s,)))?;
    cluster.func_wrap("generation", |call: Call<'_>, ()| Ok((call.data().view()?.snapshot().generation,)))?;
    cluster.func_wrap("nodes", |call: Call<'_>, ()| Ok((call.data().view()?.nodes(),)))?;
    cluster.func_wrap("owners", |call: Call<'_>, ()| Ok((call.data().view()?.owners(),)))?;
    cluster
        .func_wrap("slot-metric", |call: Call<'_>, (name,): (String,)| Ok((call.data().view()?.slot_metric(&name),)))?;
    cluster
        .func_wrap("node-metric", |call: Call<'_>, (name,): (String,)| Ok((call.data().view()?.node_metric(&name),)))?;
    cluster.func_wrap("metrics", |call: Call<'_>, ()| Ok((call.data().view()?.metrics(),)))?;
    cluster.func_wrap("in-flight", |call: Call<'_>, ()| Ok((call.data().view()?.in_flight(),)))?;

    let mut search = linker.instance(&interface("search"))?;
    search.func_wrap("solve", |mut call: Call<'_>, (goals,): (String,)| {
        let guest = call.data_mut();
        let view = Arc::clone(guest.view()?);
        let Some(left) = guest.searches_left.checked_sub(1) else {
            let refusal = format!("at most {} searches a call are allowed", guest.settings.searches_max);
            return Ok((Err::<Outcome, String>(refusal),));
        };
        guest.searches_left = left;
        Ok((search::solve(&view, &goals),))
    })?;
    Ok(linker)
}

/// The full name of an interface of the contract.
pub(super) fn interface(name: &str) -> String {
    format!("ballast:policy/{name}@{CONTRACT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("grün", 3), "gr");
        assert_eq!(cut("grün", 4), "grü");
        assert_eq!(cut("grün", 400), "grün");
    }

    #[test]
    fn guests_cannot_forge_log_lines_or_move_the_cursor() {
        assert_eq!(plain("one\ntwo\u{1b}[2J\n"), "one two [2J");
    }
}
