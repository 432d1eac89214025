//! Prometheus metrics: a view of what the loop tells.
//!
//! The only user of the prometheus crate. Two registries: what belongs to the process, and what belongs to the cluster
//! and carries its name. Labels come from small closed sets, whose values all exist from the start, and from the nodes
//! that are members now: never slots (but the sixteen hottest, or all by wish), keys or error texts.

mod family;
mod http;
mod loads;
mod nodes;
mod shadows;
mod work;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::control::Notice;
use family::Families;
use http::Http;
use loads::Loads;
use nodes::Nodes;
use shadows::Shadows;
use work::Work;

/// What [`Metrics::encode`] writes, as HTTP names it.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    process: Registry,
    cluster: Registry,
    nodes: Nodes,
    work: Work,
    shadows: Shadows,
    loads: Loads,
    http: Http,
}

impl Metrics {
    /// Metrics of the cluster that is called `cluster`, all at their beginning.
    ///
    /// # Panics
    /// When two families have one name: a bug that every test finds.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        const SOUND: &str = "names are constants, and each is used once";
        let labels = [("cluster".to_owned(), cluster.to_owned())].into();
        let (process, cluster) = (Registry::new(), Registry::new_custom(None, Some(labels)).expect(SOUND));
        process.register(Box::new(ProcessCollector::for_self())).expect(SOUND);
        let (of_process, of_cluster) = (Families(&process), Families(&cluster));
        of_process
            .gauges("ballast_build_info", "What was built; always 1.", &["version", "revision", "rustc"])
            .with_label_values(&[
                env!("CARGO_PKG_VERSION"),
                option_env!("BALLAST_REVISION").unwrap_or("unknown"),
                option_env!("BALLAST_RUSTC").unwrap_or("unknown"),
            ])
            .set(1.0);
        Self {
            nodes: Nodes::new(&of_cluster),
            work: Work::new(&of_cluster),
            shadows: Shadows::new(&of_cluster),
            loads: Loads::new(&of_process, &of_cluster),
            http: Http::new(&of_process, &of_cluster),
            process,
            cluster,
        }
    }

    /// The same, and the load of every slot: 16384 series more.
    ///
    /// # Panics
    /// When it is asked for twice.
    #[must_use]
    pub fn with_every_slot(mut self) -> Self {
        self.nodes.show_every_slot(&Families(&self.cluster));
        self
    }

    /// Takes note of what the loop tells.
    pub fn observe(&self, notice: &Notice) {
        match notice {
            Notice::Event(stored) => self.loads.observe(stored.at_ms, &stored.event),
            Notice::Cycle { report, snapshot } => {
                self.work.cycle(report);
                // Nobody is asked about a cluster that was not seen; that is no reason to forget what was counted.
                if snapshot.is_some() {
                    self.shadows.cycle(&report.shadows);
                } else {
                    self.nodes.unseen();
                }
            }
            Notice::Seen(snapshot) => self.nodes.seen(snapshot),
            Notice::Moving { migrations, overall, stuck } => {
                self.work.running(migrations);
                self.work.moving(overall.as_ref(), *stuck);
            }
            Notice::Scale(scale) => self.nodes.scale(scale),
            Notice::Standby(count) => self.nodes.standby(*count),
            Notice::PolicyMemory(bytes) => self.work.policy_memory(*bytes),
            Notice::Answered { seconds, primary } => self.work.answered(*seconds, *primary),
            Notice::Probe { seconds, migrating } => self.work.probe(*seconds, *migrating),
        }
    }

    /// Takes note of an answered HTTP request. `handler` is a route, never a path as it was asked for.
    pub fn http_request(&self, handler: &str, method: &str, code: u16, seconds: f64) {
        self.http.request(handler, method, code, seconds);
    }

    /// Counts a listener of the stream more, or with -1 one less.
    pub(crate) fn listeners(&self, more: f64) {
        self.http.streams(more);
    }

    /// Takes note of what came of telling a webhook: `delivered`, `failed` or `dropped`; with a count of 0 it shows that there is one.
    pub fn webhook(&self, hook: &str, result: &str, count: u64) {
        self.http.webhook(hook, result, count);
    }

    /// Everything, in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut families = self.process.gather();
        families.extend(self.cluster.gather());
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&families, &mut text);
        debug_assert!(encoded.is_ok(), "writing to memory does not fail, and every family has a sample: {encoded:?}");
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests;
