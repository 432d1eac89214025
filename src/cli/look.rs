//! Looks at a cluster long enough to know its load.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::target::Connection;
use crate::collector::{CollectError, Collector, Marks};
use crate::control;
use crate::model::{Address, Problem, SlotSet, Snapshot};

/// Looks in one sample, the first included: enough for the smoothed rates to forget where they began.
const LOOKS: u32 = 5;
/// Looks beyond that, for a node that restarted meanwhile and has to be looked at twice again.
const EXTRA_LOOKS: u32 = 3;

/// Looks again and again, and remembers what rates need.
pub(super) struct Eye {
    collector: Collector,
    seeds: Vec<Address>,
    rules: Vec<crate::config::NodeRule>,
    seen: Option<Arc<Snapshot>>,
}

impl Eye {
    pub(super) fn new(connection: &Connection) -> Self {
        let config = &connection.config;
        Self {
            collector: Collector::new(connection.cluster.clone(), config.collector.clone()),
            seeds: config.cluster.seeds.clone(),
            rules: config.nodes.clone(),
            seen: None,
        }
    }

    /// One look. Rates are not known after the first.
    pub(super) async fn glance(&mut self) -> Result<Arc<Snapshot>, CollectError> {
        let snapshot = Arc::new(self.collector.collect(&self.seeds, &self.marks()).await?);
        self.seen = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Looks for as long as `sample`, at least twice.
    pub(super) async fn sample(&mut self, sample: Duration) -> Result<Arc<Snapshot>, CollectError> {
        let step = sample / (LOOKS - 1);
        let mut snapshot = self.glance().await?;
        let mut next = Instant::now() + step;
        for look in 1..LOOKS + EXTRA_LOOKS {
            let warm = !snapshot.problems.contains(&Problem::WarmingUp);
            if look >= LOOKS && warm {
                break;
            }
            sleep_until(next).await;
            next += step;
            snapshot = self.glance().await?;
        }
        Ok(snapshot)
    }

    /// Says that slots moved, so that what the move cost is not taken for load.
    pub(super) fn moved(&mut self, slots: &SlotSet) {
        self.collector.slots_moved(slots);
    }

    fn marks(&self) -> Marks {
        control::marks(&self.rules, self.seen.as_deref())
    }
}
