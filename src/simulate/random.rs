//! Chance by seed: the same seed gives the same numbers on every machine.

use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A stream of numbers.
pub(super) struct Random(StdRng);

/// What a stream is for: the same seed gives each purpose a stream of its own, so that one does not shift the other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Which slots are hot, and how large each is.
    Slots,
    /// Where load goes when it changes for the so-manyth time.
    Change(u64),
    /// What one look shows, by the time of the look: all policies see the same noise.
    Noise(u64),
}

impl Random {
    pub(super) fn new(seed: u64, purpose: Purpose) -> Self {
        let (kind, number) = match purpose {
            Purpose::Slots => (1, 0),
            Purpose::Change(number) => (2, number),
            Purpose::Noise(at_ms) => (3, at_ms),
        };
        let mut bytes = [0; 32];
        for (place, word) in [seed, kind, number].into_iter().enumerate() {
            bytes[place * 8..place * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        Self(StdRng::from_seed(bytes))
    }

    /// A number from 0 up to, not including, `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// Puts a list in any order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for place in (1..list.len()).rev() {
            list.swap(place, self.below(place + 1));
        }
    }

    /// Two numbers of the standard normal distribution (Box and Muller).
    pub(super) fn normal_pair(&mut self) -> [f64; 2] {
        let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
        let (sine, cosine) = (TAU * self.0.random::<f64>()).sin_cos();
        [radius * cosine, radius * sine]
    }
}

/// A number of the gamma distribution with mean 1 and this coefficient of variation, out of a standard normal one (Wilson
/// and Hilferty 1931). Never negative; above a variation of 1 it is an approximation with a mean below 1.
pub(super) fn gamma(variation: f64, normal: f64) -> f64 {
    let ninth = variation * variation / 9.0;
    (1.0 - ninth + normal * ninth.sqrt()).powi(3).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_has_the_mean_and_the_variation_that_are_asked_for() {
        let mut random = Random::new(1, Purpose::Noise(0));
        let normals: Vec<f64> = (0..100_000).flat_map(|_| random.normal_pair()).collect();
        for variation in [0.05, 0.3, 0.7] {
            let values: Vec<f64> = normals.iter().map(|normal| gamma(variation, *normal)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            assert!((mean - 1.0).abs() < 0.01, "{variation}: mean {mean}");
            assert!((variance.sqrt() / variation - 1.0).abs() < 0.03, "{variation}: {}", variance.sqrt());
        }
    }

    #[test]
    fn streams_repeat_and_differ_by_purpose() {
        let first = |seed, purpose| Random::new(seed, purpose).below(usize::MAX);
        assert_eq!(first(1, Purpose::Slots), first(1, Purpose::Slots));
        assert_ne!(first(1, Purpose::Slots), first(1, Purpose::Change(0)));
        assert_ne!(first(1, Purpose::Slots), first(2, Purpose::Slots));
        assert_ne!(first(1, Purpose::Change(2)), first(2, Purpose::Change(1)), "seeds share no change");
        assert_ne!(first(1, Purpose::Noise(1)), first(1, Purpose::Noise(2)));
    }
}
