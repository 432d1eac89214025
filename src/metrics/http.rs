//! Our own HTTP faces, as metrics.

use prometheus::{CounterVec, HistogramVec};

use super::family::Families;

/// From a status held in memory to a page of history from the disk.
const BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0];

#[derive(Debug)]
pub(super) struct Http {
    requests: CounterVec,
    duration: HistogramVec,
}

impl Http {
    pub(super) fn new(process: &Families<'_>) -> Self {
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
        }
    }

    pub(super) fn request(&self, handler: &str, method: &str, code: u16, seconds: f64) {
        self.requests.with_label_values(&[handler, method, &code.to_string()]).inc();
        self.duration.with_label_values(&[handler]).observe(seconds);
    }
}
