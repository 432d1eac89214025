//! Makes families and registers them, in one line each.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, MetricFamily, MetricType};
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry, proto};

use crate::model::Spread;

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

    pub(super) fn spreads(&self, name: &str, help: &str) -> Spreads {
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), [].into()).expect(SOUND);
        self.add(Spreads { desc: Arc::new(desc), sum: Arc::default() })
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect(SOUND);
        collector
    }
}

/// A histogram whose samples come in bulk, counted already.
#[derive(Debug, Clone)]
pub(super) struct Spreads {
    desc: Arc<Desc>,
    sum: Arc<Mutex<Spread>>,
}

impl Spreads {
    pub(super) fn add(&self, more: &Spread) {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner).merge(more);
    }
}

impl Collector for Spreads {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sum = *self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let mut below = 0;
        let buckets = Spread::BOUNDS.iter().zip(sum.counts).map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(sum.times());
        histogram.set_sample_sum(sum.seconds);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
