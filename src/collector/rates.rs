//! Counters become rates, rates become smoothed means with their spread. Pure: time is an argument.
//!
//! A counter belongs to one run of one server. What cannot be a difference of two readings of the same run (a restart,
//! a reset, a clock that did not advance) is dropped, so that a reset never looks like a burst and never like a cold slot.

use std::sync::Arc;

/// After how many seconds an observation has lost half of its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HalfLives {
    /// Of the mean that follows load quickly, and of the variance.
    pub fast_s: f64,
    /// Of the mean that shows what lasts.
    pub slow_s: f64,
}

/// `N` counters, read at one moment from one run of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<const N: usize> {
    /// Which run: counters of different runs have nothing to do with each other.
    pub run: Arc<str>,
    /// Milliseconds on any clock that only advances.
    pub at_ms: u64,
    /// Never falling, unless reset.
    pub counters: [f64; N],
}

/// Rates over the time between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window<const N: usize> {
    /// Seconds between the readings, above 0.
    pub seconds: f64,
    /// Per second, never negative.
    pub rates: [f64; N],
}

/// A rate, smoothed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Smoothed {
    /// Mean that follows quickly.
    pub fast: f64,
    /// Mean that shows what lasts.
    pub slow: f64,
    /// Variance of the windows' rates around the fast mean.
    pub variance: f64,
}

/// Follows `N` counters of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Meter<const N: usize> {
    last: Option<Reading<N>>,
    watched_s: f64,
    smoothed: [Smoothed; N],
}

impl<const N: usize> Default for Meter<N> {
    fn default() -> Self {
        Self { last: None, watched_s: 0.0, smoothed: [Smoothed::default(); N] }
    }
}

impl<const N: usize> Meter<N> {
    /// Takes a reading; gives the window since the one before, which it has added, or `None` when there is none.
    pub fn read(&mut self, reading: Reading<N>, half_lives: HalfLives) -> Option<Window<N>> {
        let window = self.last.as_ref().and_then(|last| between(last, &reading));
        self.last = Some(reading);
        if let Some(window) = window {
            self.add(window, half_lives);
        }
        window
    }

    /// Adds a window's rates.
    pub fn add(&mut self, window: Window<N>, half_lives: HalfLives) {
        self.watched_s += window.seconds;
        // While little has been seen, the plain mean: else the first window would weigh as much as all before it.
        let weight =
            |half_life: f64| (1.0 - 0.5_f64.powf(window.seconds / half_life)).max(window.seconds / self.watched_s);
        let (fast, slow) = (weight(half_lives.fast_s), weight(half_lives.slow_s));
        for (smoothed, rate) in self.smoothed.iter_mut().zip(window.rates) {
            smoothed.add(rate, fast, slow);
        }
    }

    /// The next reading starts anew; the smoothed rates stay.
    pub fn forget_reading(&mut self) {
        self.last = None;
    }

    /// Seconds over which rates were measured; 0 while there are none.
    #[must_use]
    pub fn watched_s(&self) -> f64 {
        self.watched_s
    }

    /// The smoothed rates, all 0 while there are none.
    #[must_use]
    pub fn smoothed(&self) -> &[Smoothed; N] {
        &self.smoothed
    }
}

fn between<const N: usize>(last: &Reading<N>, now: &Reading<N>) -> Option<Window<N>> {
    let milliseconds = now.at_ms.checked_sub(last.at_ms).filter(|elapsed| *elapsed > 0)?;
    let seconds = milliseconds as f64 / 1000.0;
    let rates: [f64; N] = std::array::from_fn(|place| (now.counters[place] - last.counters[place]) / seconds);
    // One counter that fell shows a reset, and a reset spoils them all.
    let sound = last.run == now.run && rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0);
    sound.then_some(Window { seconds, rates })
}

impl Smoothed {
    /// Adds a window's rate, with the weight that it has in each mean.
    fn add(&mut self, rate: f64, fast: f64, slow: f64) {
        if fast >= 1.0 {
            // One window says nothing of the spread. Half of the rate stands in, and fades as windows come: a
            // spread of 0 would make a policy sure of a single look.
            *self = Self { fast: rate, slow: rate, variance: (rate / 2.0).powi(2) };
            return;
        }
        let surprise = rate - self.fast;
        self.fast += fast * surprise;
        self.variance = (1.0 - fast) * (self.variance + fast * surprise * surprise);
        self.slow += slow * (rate - self.slow);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF_LIVES: HalfLives = HalfLives { fast_s: 30.0, slow_s: 300.0 };

    fn reading(run: &str, at_ms: u64, counter: f64) -> Reading<1> {
        Reading { run: run.into(), at_ms, counters: [counter] }
    }

    fn read(meter: &mut Meter<1>, run: &str, at_ms: u64, counter: f64) -> Option<f64> {
        meter.read(reading(run, at_ms, counter), HALF_LIVES).map(|window| window.rates[0])
    }

    #[test]
    fn two_readings_make_a_rate() {
        let mut meter = Meter::default();
        assert_eq!(read(&mut meter, "a", 1_000, 500.0), None);
        assert_eq!(read(&mut meter, "a", 11_000, 1_500.0), Some(100.0));
        assert_eq!(meter.smoothed()[0].fast, 100.0);
        assert_eq!(meter.watched_s(), 10.0);
    }

    #[test]
    fn a_restart_is_neither_a_burst_nor_a_lull() {
        let mut meter = Meter::default();
        read(&mut meter, "a", 0, 0.0);
        read(&mut meter, "a", 10_000, 1_000.0);
        let before = *meter.smoothed();
        assert_eq!(read(&mut meter, "b", 20_000, 5_000.0), None, "another run");
        assert_eq!(read(&mut meter, "b", 30_000, 10.0), None, "a reset within the run");
        assert_eq!(read(&mut meter, "b", 30_000, 20.0), None, "no time has passed");
        assert_eq!(*meter.smoothed(), before);
        assert_eq!(read(&mut meter, "b", 40_000, 1_020.0), Some(100.0), "and then it goes on");
    }

    #[test]
    fn the_fast_mean_goes_half_way_in_a_half_life_and_the_slow_one_does_not() {
        let mut meter = Meter::<1>::default();
        let mut add = |rate: f64, times: usize| {
            for _ in 0..times {
                meter.add(Window { seconds: 10.0, rates: [rate] }, HALF_LIVES);
            }
            meter.smoothed()[0]
        };
        add(100.0, 300);
        let jumped = add(200.0, 3);
        assert!((jumped.fast - 150.0).abs() < 1.0, "{jumped:?}");
        assert!(jumped.slow < 110.0, "{jumped:?}");
        assert!(jumped.variance > 1_000.0, "a jump is spread: {jumped:?}");
        let settled = add(200.0, 60);
        assert!(settled.variance < 10.0, "and is forgotten: {settled:?}");
    }

    #[test]
    fn early_windows_weigh_alike() {
        let mut meter = Meter::<1>::default();
        for rate in [100.0, 200.0] {
            meter.add(Window { seconds: 1.0, rates: [rate] }, HALF_LIVES);
        }
        assert_eq!(meter.smoothed()[0].slow, 150.0);
    }

    proptest! {
        #[test]
        fn rates_are_finite_and_never_negative_whatever_the_readings(
            readings in prop::collection::vec((0..3_u8, 0..100_000_u64, 0.0..1e15_f64), 1..60),
            forgets in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut meter = Meter::<2>::default();
            for ((run, at_ms, counter), forget) in readings.into_iter().zip(forgets) {
                let run = run.to_string().into();
                let window = meter.read(Reading { run, at_ms, counters: [counter, counter / 3.0] }, HALF_LIVES);
                for rate in window.iter().flat_map(|window| window.rates) {
                    prop_assert!(rate.is_finite() && rate >= 0.0);
                }
                for smoothed in meter.smoothed() {
                    for value in [smoothed.fast, smoothed.slow, smoothed.variance] {
                        prop_assert!(value.is_finite() && value >= 0.0, "{smoothed:?}");
                    }
                }
                if forget {
                    meter.forget_reading();
                }
            }
        }
    }
}
