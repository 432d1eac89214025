//! What clients feel, by how busy nodes are. Pure.
//!
//! A node is a queue with one server, exponential arrivals and service (M/M/1): the time in it is exponential with a mean of
//! service ÷ (1 − utilisation) (Kleinrock, *Queueing Systems* I, 3.2). Clients meet nodes in proportion to their load.
//! Real service times vary less than exponential ones and bursts vary more; figures compare policies and predict nothing.

/// Beyond this utilisation the queue would grow without end; the factor is then a hundred.
const SATURATED: f64 = 0.99;

/// The 99th percentile of all requests' latency, as a multiple of what it is on idle nodes. `utilisations` are of those nodes
/// that serve; idle ones have no requests.
pub(super) fn p99_factor(utilisations: &[f64]) -> f64 {
    let total: f64 = utilisations.iter().sum();
    if total <= 0.0 {
        return 1.0;
    }
    // The share of requests that take longer than `factor` × ln 100 service times, less the one in a hundred.
    let beyond = |factor: f64| {
        let share = |busy: &f64| busy / total * 0.01_f64.powf(factor * (1.0 - busy.min(SATURATED)));
        utilisations.iter().map(share).sum::<f64>() - 0.01
    };
    let (mut low, mut high) = (1.0, 1.0 / (1.0 - SATURATED));
    for _ in 0..24 {
        let middle = f64::midpoint(low, high);
        if beyond(middle) > 0.0 { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_nodes_are_one_queue_and_a_hot_one_is_felt_by_all() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
        close(p99_factor(&[0.5; 10]), 2.0);
        close(p99_factor(&[0.9]), 10.0);
        close(p99_factor(&[2.0]), 100.0);
        close(p99_factor(&[]), 1.0);
        let hot = p99_factor(&[0.95, 0.3, 0.3, 0.3]);
        assert!(hot > 10.0 && hot < 20.0, "half of the requests meet the hot node: {hot}");
    }
}
