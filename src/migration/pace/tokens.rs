//! Bytes per second: a bucket of tokens that may be overdrawn once and is then waited for.

use std::time::Duration;

/// What may be spent at once after a pause, as time of the rate: long enough not to lose what a slow reply took, far
/// below what a network's buffers absorb.
const MOST_SAVED: Duration = Duration::from_millis(50);

/// The bucket. Time is an argument, as the time since any fixed instant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tokens {
    bytes_per_second: u64,
    /// When everything that was taken will have been earned.
    paid_at: Duration,
}

impl Tokens {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_at: Duration::ZERO }
    }

    /// Takes `bytes` at `now`, and says how long to wait before more may be taken.
    pub(super) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.paid_at = self.paid_at.max(now.saturating_sub(MOST_SAVED)) + price;
        self.paid_at.saturating_sub(now)
    }

    /// Bytes that are earned in `time`.
    pub(super) fn earned_in(&self, time: Duration) -> f64 {
        self.bytes_per_second as f64 * time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whatever_the_pieces() {
        for piece in [100_u64, 10_000, 3_000_000] {
            let mut tokens = Tokens::new(1_000_000);
            let (mut now, mut taken) = (Duration::from_secs(5), 0);
            let began = now;
            while now < began + Duration::from_secs(20) {
                // Each piece also takes a while to be moved.
                now += tokens.take(piece, now).max(Duration::from_micros(50));
                taken += piece;
            }
            let rate = taken as f64 / (now - began).as_secs_f64();
            assert!((0.95e6..1.05e6).contains(&rate), "pieces of {piece}: {rate}");
        }
    }

    #[test]
    fn a_pause_does_not_save_up_for_a_flood() {
        let mut tokens = Tokens::new(1_000_000);
        assert_eq!(tokens.take(0, Duration::from_secs(100)), Duration::ZERO);
        let wait = tokens.take(1_000_000, Duration::from_secs(100));
        assert!(wait > Duration::from_millis(900), "{wait:?}");
    }
}
