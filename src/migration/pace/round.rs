//! How much goes into one round of a classic migration, learnt from how long rounds take.
//!
//! What a key costs is guessed from its bytes; how wrong the guess is on these servers, rounds tell.

use std::time::Duration;

/// What a small key costs its source in a MIGRATE of many, the wait for the target included: measured 7 to 10 µs on Redis 7.0
/// and Valkey 8.0 (processor time of both ends, 100-byte strings).
const PER_KEY: Duration = Duration::from_micros(9);
/// What a byte (by MEMORY USAGE) costs, in nanoseconds: measured 4 to 10 for strings of 1 MB and more, hashes, sets, sorted sets,
/// lists and streams of 10,000 members and more, at both ends together. The larger guess is the safer one.
const NANOS_PER_BYTE: f64 = 10.0;
/// What one round may add to the scale: rounds that met a busy processor took ten times as long, and cut those after them to a
/// few keys each.
const MOST_SLOWER: f64 = 1.25;
/// The guess holds within this factor either way; a server that seems quicker or slower than that was measured wrongly.
const MOST_WRONG: f64 = 30.0;

/// What a key would cost by the guess.
pub(in crate::migration) fn guess(bytes: u64) -> Duration {
    PER_KEY + Duration::from_nanos((bytes as f64 * NANOS_PER_BYTE) as u64)
}

/// Turns guesses into times on these servers.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::migration) struct Round {
    /// Measured ÷ guessed.
    scale: f64,
    /// The shortest that any call to the source took: the way there and back.
    way: Option<Duration>,
}

impl Round {
    pub(in crate::migration) fn new() -> Self {
        Self { scale: 1.0, way: None }
    }

    /// How long keys with this guess will keep the source.
    pub(in crate::migration) fn time(&self, guess: Duration) -> Duration {
        guess.mul_f64(self.scale)
    }

    /// Learns how long the way to the source is, from any call to it.
    pub(in crate::migration) fn learn_way(&mut self, took: Duration) {
        self.way = Some(self.way.map_or(took, |way| way.min(took)));
    }

    /// The way to the source and back.
    pub(in crate::migration) fn way(&self) -> Duration {
        self.way.unwrap_or_default()
    }

    /// For how long a call that took `took` kept the source.
    pub(in crate::migration) fn busy(&self, took: Duration) -> Duration {
        took.saturating_sub(self.way())
    }

    /// Learns from a round, and says for how long it kept the source.
    pub(in crate::migration) fn learn(&mut self, guess: Duration, took: Duration) -> Duration {
        let busy = self.busy(took);
        if !guess.is_zero() {
            let seen = busy.as_secs_f64() / guess.as_secs_f64();
            // One slow round may be the machine's: it is believed by a quarter more at most, and several by as much each.
            self.scale = (self.scale * 0.8 + seen * 0.2).min(self.scale * MOST_SLOWER);
            self.scale = self.scale.clamp(1.0 / MOST_WRONG, MOST_WRONG);
        }
        busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Duration = Duration::from_micros(200);

    /// After some rounds of `keys` keys on servers that need `per_key` for each.
    fn learnt(per_key: Duration, keys: u32) -> Round {
        let mut round = Round::new();
        round.learn_way(WAY);
        for _ in 0..50 {
            round.learn(guess(0) * keys, WAY + per_key * keys);
        }
        round
    }

    #[test]
    fn times_are_those_of_these_servers_and_not_of_the_way_to_them() {
        for per_key in [3, 9, 40].map(Duration::from_micros) {
            let expected = per_key * 100;
            let seen = learnt(per_key, 20).time(guess(0) * 100);
            assert!(seen.abs_diff(expected) < expected / 50, "{seen:?}, not {expected:?}");
        }
    }

    #[test]
    fn one_slow_round_changes_little_and_several_are_believed() {
        let mut round = learnt(Duration::from_micros(9), 20);
        let before = round.time(guess(0) * 100);
        round.learn(guess(0) * 10, WAY + Duration::from_millis(50));
        assert!(round.time(guess(0) * 100) < before.mul_f64(1.3));
        for _ in 0..10 {
            round.learn(guess(0) * 10, WAY + Duration::from_millis(1));
        }
        assert!(round.time(guess(0) * 100) > before * 5);
    }

    #[test]
    fn no_measurement_turns_a_guess_into_nothing_or_for_ever() {
        let mut round = Round::new();
        round.learn(guess(0), Duration::ZERO);
        for _ in 0..100 {
            round.learn(guess(0) * 1000, Duration::ZERO);
        }
        assert!(round.time(guess(0)) > Duration::from_nanos(100));
        round.learn(guess(0), Duration::from_secs(3600));
        assert!(round.time(guess(0)) < Duration::from_millis(1));
    }

    #[test]
    fn a_large_key_is_guessed_by_its_bytes() {
        // A hash of a million fields and 70 MB was measured to keep its source for 1.4 s.
        let hash = guess(70 << 20);
        assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&hash), "{hash:?}");
        assert!(guess(400 << 10) < Duration::from_millis(5), "what the default budget lets through");
    }
}
