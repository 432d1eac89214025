//! HTTP, of our own faces and to webhooks, as metrics.

use prometheus::{CounterVec, Gauge, HistogramVec};

use super::family::Families;

/// From a status held in memory to a page of history from the disk.
const BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0];

#[derive(Debug)]
pub(super) struct Http {
    requests: CounterVec,
    duration: HistogramVec,
    streams: Gauge,
    webhooks: CounterVec,
}

impl Http {
    pub(super) fn new(process: &Families<'_>, cluster: &Families<'_>) -> Self {
        Self {
            requests: process.counters_by(
                "ballast_http_requests_total",
                "HTTP requests answered.",
                &["handler", "method", "code"],
            ),
            duration: process.histograms(
                "ballast_http_request_duration_seconds",
                "Time to answer an HTTP request.",
                "handler",
                BUCKETS,
            ),
            streams: process.gauge("ballast_http_streams", "Those who listen to /api/v1/stream."),
            webhooks: cluster.counters_by(
                "ballast_webhook_calls_total",
                "Calls of webhooks: delivered, failed (they are repeated), and events dropped for good.",
                &["hook", "result"],
            ),
        }
    }

    pub(super) fn request(&self, handler: &str, method: &str, code: u16, seconds: f64) {
        self.requests.with_label_values(&[handler, method, &code.to_string()]).inc();
        self.duration.with_label_values(&[handler]).observe(seconds);
    }

    /// Counts a listener more, or with -1 one less.
    pub(super) fn streams(&self, more: f64) {
        self.streams.add(more);
    }

    pub(super) fn webhook(&self, hook: &str, result: &str, count: u64) {
        self.webhooks.with_label_values(&[hook, result]).inc_by(count as f64);
    }
}
