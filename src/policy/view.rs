//! A snapshot as policies see it: frozen, and lowered at most once however often it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::bindings::ballast::policy::types;
use crate::model::{Column, MetricInfo, MetricSource, Snapshot};

/// One frozen view of the cluster.
pub(super) struct View {
    snapshot: Arc<Snapshot>,
    nodes: OnceLock<Arc<[types::Node]>>,
    owners: OnceLock<Arc<[u32]>>,
    for_search: OnceLock<Arc<ballast_search::View>>,
}

impl View {
    pub(super) fn new(snapshot: &Arc<Snapshot>) -> Self {
        Self {
            snapshot: Arc::clone(snapshot),
            nodes: OnceLock::new(),
            owners: OnceLock::new(),
            for_search: OnceLock::new(),
        }
    }

    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(super) fn nodes(&self) -> Arc<[types::Node]> {
        let lower = |primary: &crate::model::Primary| types::Node {
            id: primary.id.to_string(),
            address: primary.address.to_string(),
            zone: primary.zone.clone(),
            tags: primary.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        };
        Arc::clone(self.nodes.get_or_init(|| self.snapshot.primaries.iter().map(lower).collect()))
    }

    pub(super) fn owners(&self) -> Arc<[u32]> {
        Arc::clone(self.owners.get_or_init(|| self.snapshot.owners.as_slice().into()))
    }

    /// The contract promises finite numbers from 0 up; a column that breaks it (a rate from a clock that jumped) is
    /// mended here rather than in every policy.
    pub(super) fn slot_metric(&self, name: &str) -> Option<Column> {
        let column = self.snapshot.slot_column(name)?;
        let fine = |value: &f64| value.is_finite() && *value >= 0.0;
        if column.iter().all(fine) {
            return Some(Arc::clone(column));
        }
        Some(column.iter().map(|value| if fine(value) { *value } else { 0.0 }).collect())
    }

    pub(super) fn node_metric(&self, name: &str) -> Option<Vec<f64>> {
        self.snapshot.node_column(name).map(<[f64]>::to_vec)
    }

    pub(super) fn metrics(&self) -> Vec<types::Metric> {
        let lower = |metric: &MetricInfo| types::Metric {
            name: metric.name.clone(),
            unit: metric.unit.clone(),
            help: metric.help.clone(),
            source: match metric.source {
                MetricSource::Measured => types::MetricSource::Measured,
                MetricSource::Estimated => types::MetricSource::Estimated,
            },
            confidence: metric.confidence,
        };
        self.snapshot.metrics.iter().map(lower).collect()
    }

    /// The same view in the words of the planning library.
    pub(super) fn for_search(&self) -> Arc<ballast_search::View> {
        Arc::clone(self.for_search.get_or_init(|| {
            let node = |node: &types::Node| ballast_search::ViewNode {
                id: node.id.clone(),
                address: node.address.clone(),
                zone: node.zone.clone(),
                tags: node.tags.clone(),
            };
            let begun = |begun: types::Move| ballast_search::Move {
                slot: begun.slot,
                target: begun.target,
                reason: begun.reason,
            };
            let slot_columns = self.snapshot.slot_columns.keys();
            let node_columns = self.snapshot.node_columns.iter();
            Arc::new(ballast_search::View {
                generation: self.snapshot.generation,
                taken_at_ms: self.snapshot.taken_at_ms,
                window_s: self.snapshot.window_s,
                nodes: self.nodes().iter().map(node).collect(),
                owners: self.owners(),
                slot_columns: slot_columns.filter_map(|name| Some((name.clone(), self.slot_metric(name)?))).collect(),
                node_columns: node_columns.map(|(name, column)| (name.clone(), column.0.as_slice().into())).collect(),
                confidence: confidence(&self.snapshot.metrics),
                in_flight: self.in_flight().into_iter().map(begun).collect(),
            })
        }))
    }

    /// Moves whose target has left the cluster are not listed: they have no index any more.
    pub(super) fn in_flight(&self) -> Vec<types::Move> {
        let lower = |begun: &crate::model::Move| {
            Some(types::Move {
                slot: begun.slot.number(),
                target: self.snapshot.index_of(&begun.to)?,
                reason: begun.reason.clone(),
            })
        };
        self.snapshot.in_flight.iter().filter_map(lower).collect()
    }
}

/// How far to trust slot columns that were not counted.
fn confidence(metrics: &[MetricInfo]) -> BTreeMap<String, f64> {
    let of_slots = |metric: &MetricInfo| Some((metric.name.strip_prefix("slot/")?.to_owned(), metric.confidence));
    metrics.iter().filter(|metric| metric.confidence < 1.0).filter_map(of_slots).collect()
}

/// The snapshot in the words of the planning library, as the `search` import gives it.
#[must_use]
pub fn search_view(snapshot: &Arc<Snapshot>) -> Arc<ballast_search::View> {
    View::new(snapshot).for_search()
}

/// Whether the snapshot offers a metric by the name that `description.needs` uses.
pub(super) fn offers(snapshot: &Snapshot, need: &str) -> bool {
    match need.split_once('/') {
        Some(("slot", name)) => snapshot.slot_columns.contains_key(name),
        Some(("node", name)) => snapshot.node_columns.contains_key(name),
        _ => false,
    }
}
