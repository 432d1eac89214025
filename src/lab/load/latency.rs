//! Latencies, apart for each phase.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What the cluster does while clients ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No slot is moving.
    Idle,
    /// Slots are moving.
    Migrating,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 2] = [Self::Idle, Self::Migrating];
}

/// How long requests took, in milliseconds from the instant at which each was due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub requests: u64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// 999 of 1000 took no longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Three digits are kept of each latency, from a microsecond to a minute.
#[derive(Debug)]
pub(super) struct Latencies {
    /// The place of the present phase among all; beyond them when nothing is kept.
    phase: AtomicUsize,
    histograms: [Mutex<Histogram<u64>>; Phase::ALL.len()],
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        Self { phase: AtomicUsize::new(0), histograms: std::array::from_fn(|_| Mutex::new(histogram())) }
    }
}

impl Latencies {
    pub(super) fn enter(&self, phase: Option<Phase>) {
        self.phase.store(phase.map_or(Phase::ALL.len(), |phase| phase as usize), Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        Phase::ALL.get(self.phase.load(Ordering::Relaxed)).copied()
    }

    pub(super) fn record(&self, phase: Option<Phase>, latency: Duration) {
        let Some(phase) = phase else { return };
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histograms[phase as usize].lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    pub(super) fn read(&self) -> Vec<(Phase, Latency)> {
        Phase::ALL.into_iter().map(|phase| (phase, self.read_one(phase))).collect()
    }

    fn read_one(&self, phase: Phase) -> Latency {
        let histogram = self.histograms[phase as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |micros: u64| micros as f64 / 1000.0;
        Latency {
            requests: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            p999_ms: ms(histogram.value_at_quantile(0.999)),
            max_ms: ms(histogram.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_own_latencies() {
        let latencies = Latencies::default();
        latencies.record(latencies.phase(), Duration::from_millis(1));
        latencies.enter(None);
        latencies.record(latencies.phase(), Duration::from_millis(500));
        latencies.enter(Some(Phase::Migrating));
        latencies.record(latencies.phase(), Duration::from_millis(50));
        let [(_, idle), (_, migrating)] = latencies.read()[..] else { panic!("two phases") };
        assert!((0.9..1.1).contains(&idle.max_ms), "{idle:?}");
        assert!((49.0..51.0).contains(&migrating.p50_ms), "{migrating:?}");
    }
}
