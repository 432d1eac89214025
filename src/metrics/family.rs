//! Makes families and registers them, in one line each.

use prometheus::core::Collector;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry};

/// Names, helps and labels are constants of ours, so that a mistake shows at the first start.
const SOUND: &str = "names are constants, and each is used once";

/// A registry that families are added to.
pub(super) struct Families<'a>(pub(super) &'a Registry);

impl Families<'_> {
    pub(super) fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help).expect(SOUND))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels).expect(SOUND))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Counter {
        self.add(Counter::new(name, help).expect(SOUND))
    }

    /// Counters by one label, one for each of `values` from the start: a rate over a series that appears with its
    /// first increment misses that increment.
    pub(super) fn counters<'v>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'v str>,
    ) -> CounterVec {
        let counters = self.add(CounterVec::new(Opts::new(name, help), &[label]).expect(SOUND));
        for value in values {
            counters.with_label_values(&[value]);
        }
        counters
    }

    pub(super) fn counters_by(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add(CounterVec::new(Opts::new(name, help), labels).expect(SOUND))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(SOUND))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, label: &str, buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(HistogramVec::new(options, &[label]).expect(SOUND))
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect(SOUND);
        collector
    }
}
