//! What a daemon has recorded becomes a case: the loads as they were, with other decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::case::{Case, Mark};
use super::scenario;
use super::workload::{Loads, Workload, ms};
use super::world::{Counted, Node, Noise};
use crate::collector;
use crate::guard::Limits;
use crate::model::{NO_OWNER, Primary, SLOT_COUNT, Snapshot, Tag, resource};

/// Why a history cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Nothing was decided yet, so nothing whole was kept.
    #[error("the history holds no snapshot: a daemon keeps one for each cycle in which its policy proposes something")]
    NoSnapshot,
    /// Estimating loads from what was not seen would be a guess.
    #[error("the first snapshot in the history has no column {0}")]
    NoColumn(&'static str),
    /// A model cluster serves all slots.
    #[error("the first snapshot in the history shows {0} slots that nobody serves")]
    Uncovered(usize),
}

/// Snapshots that a daemon kept, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording(Vec<Snapshot>);

impl Recording {
    /// These snapshots, if they can be replayed. Those without loads are left out, but for the first.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn of(mut snapshots: Vec<Snapshot>) -> Result<Self, HistoryError> {
        snapshots.sort_by_key(|snapshot| snapshot.taken_at_ms);
        let first = snapshots.first().ok_or(HistoryError::NoSnapshot)?;
        for name in [resource::CPU_USEC, resource::BYTES, resource::KEYS] {
            first.slot_column(name).ok_or(HistoryError::NoColumn(name))?;
        }
        let uncovered = first.owners.as_slice().iter().filter(|owner| **owner == NO_OWNER).count();
        if uncovered > 0 {
            return Err(HistoryError::Uncovered(uncovered));
        }
        snapshots.retain(|snapshot| snapshot.slot_column(resource::CPU_USEC).is_some());
        Ok(Self(snapshots))
    }

    /// Milliseconds from the first snapshot to the last.
    fn span_ms(&self) -> u64 {
        self.0[self.0.len() - 1].taken_at_ms - self.0[0].taken_at_ms
    }

    /// A case that begins as the first snapshot shows the cluster. `hours`: by default as long as was recorded, an hour at
    /// least; what is longer repeats the recording.
    #[must_use]
    pub fn case(&self, name: &str, hours: Option<f64>, seed: u64) -> Case {
        let (first, span_ms) = (&self.0[0], self.span_ms());
        let cycle = Duration::from_secs(10);
        let end_ms = hours.map_or(span_ms.max(3_600_000), |hours| (hours * 3_600_000.0) as u64);
        let count = self.0.len();
        Case {
            name: name.to_owned(),
            summary: format!("{count} recorded snapshots over {:.1} h", span_ms as f64 / 3_600_000.0),
            parameters: BTreeMap::new(),
            seed,
            end_ms,
            warm_up_ms: 0,
            cycle_ms: ms(cycle),
            nodes: first.primaries.iter().enumerate().map(|(place, primary)| node(place, primary, first)).collect(),
            newcomers: scenario::Cluster::of(first.primaries.len()),
            owners: first.owners.as_slice().to_vec(),
            workload: Workload::Recorded(self.frames(end_ms)),
            events: Vec::new(),
            marks: vec![Mark::disturbs(0, "start")],
            noise: Noise { variation: variation(first), command_usec: 10.0, cycle_ms: ms(cycle) },
            migration: scenario::Migration::default(),
            limits: Limits::default(),
            scaling: None,
            collect: collector::Settings::default(),
        }
    }

    /// Loads by the time from which they hold, again and again until the end.
    fn frames(&self, end_ms: u64) -> Vec<(u64, Loads)> {
        let began_ms = self.0[0].taken_at_ms;
        let frames: Vec<(u64, Loads)> =
            self.0.iter().map(|snapshot| (snapshot.taken_at_ms - began_ms, loads(snapshot))).collect();
        let period_ms = self.span_ms();
        if period_ms == 0 {
            return frames;
        }
        let again = |round: u64| {
            frames.iter().skip(usize::from(round > 0)).map(move |(at, loads)| (at + round * period_ms, loads.clone()))
        };
        (0..=end_ms / period_ms).flat_map(again).filter(|(at_ms, _)| *at_ms <= end_ms).collect()
    }
}

fn loads(snapshot: &Snapshot) -> Loads {
    let column = |name: &str| -> Vec<f64> {
        let sound = |value: &f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
        snapshot.slot_column(name).map_or_else(|| vec![0.0; SLOT_COUNT], |column| column.iter().map(sound).collect())
    };
    Loads {
        cpu: column(resource::CPU_USEC),
        net_in: column(resource::NET_IN),
        net_out: column(resource::NET_OUT),
        bytes: Arc::from(column(resource::BYTES)),
        keys: Arc::from(column(resource::KEYS)),
    }
}

fn node(place: usize, primary: &Primary, snapshot: &Snapshot) -> Node {
    let read = |name: &str| snapshot.node_column(name).and_then(|column| column.get(place)).copied();
    let read = |name: &str| read(name).filter(|value| value.is_finite());
    Node {
        id: primary.id.clone(),
        address: primary.address.clone(),
        zone: primary.zone.clone(),
        weight: read(resource::WEIGHT).filter(|weight| *weight > 0.0).unwrap_or(1.0),
        memory_max: read(resource::MEMORY_MAX).unwrap_or(0.0) as u64,
        replicas: read(resource::REPLICAS).unwrap_or(0.0) as u32,
        epoch: primary.config_epoch,
        draining: primary.is(Tag::Draining),
        down: false,
        silent: false,
        migrations: 0,
        counted: Counted::default(),
    }
}

/// The coefficient of variation of the median slot's windows.
fn variation(snapshot: &Snapshot) -> f64 {
    let name = resource::CPU_USEC;
    let Some(variance) = snapshot.slot_column(&format!("{name}/variance")) else { return 0.0 };
    let Some(means) = snapshot.slot_column(name) else { return 0.0 };
    let known = means.iter().zip(variance.iter()).filter(|(mean, _)| **mean > 0.0);
    let mut variations: Vec<f64> = known.map(|(mean, variance)| (variance.sqrt() / mean).min(2.0)).collect();
    variations.sort_by(f64::total_cmp);
    variations.get(variations.len() / 2).copied().unwrap_or(0.0)
}
