//! How hard we lean on the servers.
//!
//! A server executes a pipeline of MIGRATEs without serving anybody else in between, so the unit that clients feel is the
//! *round*: all keys sent in one pipeline. The pace bounds how long a round may take and how long we rest after it; the
//! number of keys follows from what rounds were measured to take: it grows by a quarter while they fit, and halves when
//! one does not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How hard we may lean on the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Clients should not be able to tell.
    Gentle,
    /// Quick, and within the budget that most applications never notice.
    #[default]
    Default,
    /// As fast as the servers go.
    Fast,
}

impl Pace {
    /// Longest time that one round may block the source.
    #[must_use]
    pub const fn round_budget(self) -> Duration {
        match self {
            Self::Gentle => Duration::from_millis(1),
            // Half of the five milliseconds promised: a round is measured from outside, the network included.
            Self::Default => Duration::from_micros(2500),
            Self::Fast => Duration::from_millis(50),
        }
    }

    /// How long to rest after a round that took `took`.
    #[must_use]
    pub fn rest_after(self, took: Duration) -> Duration {
        match self {
            Self::Gentle => took * 4,
            Self::Default => took / 2,
            Self::Fast => Duration::ZERO,
        }
    }

    /// Slots that are open at the same time in a classic migration.
    ///
    /// Multi-key commands on an open slot get TRYAGAIN, so few is kind; each phase is one round trip and one save of the
    /// server's cluster file for all of them, so many is quick.
    #[must_use]
    pub const fn open_slots(self) -> usize {
        match self {
            Self::Gentle => 4,
            Self::Default => 16,
            Self::Fast => 128,
        }
    }

    /// Migrations at the same time: each source has its own main thread, and its own fork.
    #[must_use]
    pub const fn migrations(self) -> usize {
        match self {
            Self::Gentle => 1,
            // Two sources feeding one target measured 1.4 times one.
            Self::Default => 2,
            Self::Fast => usize::MAX,
        }
    }

    /// Slots in one atomic migration: the server pauses writes once for each, for as long as its last changes take.
    #[must_use]
    pub const fn atomic_slots(self) -> usize {
        match self {
            Self::Gentle => 64,
            Self::Default => 256,
            Self::Fast => 4096,
        }
    }
}

/// Keys per round, learnt from how long rounds took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RoundSize {
    budget: Duration,
    keys: usize,
}

/// A first guess that a server moves well within a millisecond unless values are large.
const FIRST_ROUND_KEYS: usize = 32;
/// More gains nothing: the reply of GETKEYSINSLOT and the MIGRATE itself become large.
const MOST_KEYS: usize = 20_000;

impl RoundSize {
    pub(super) fn new(pace: Pace) -> Self {
        Self { budget: pace.round_budget(), keys: FIRST_ROUND_KEYS }
    }

    /// Keys for the next round, at least 1.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// Learns from a round that moved `keys` keys.
    pub(super) fn learn(&mut self, keys: usize, took: Duration) {
        if took > self.budget {
            self.keys = (keys.min(self.keys) / 2).max(1);
        } else if keys * 2 > self.keys {
            // Only a round that was about full says that there is room for more.
            self.keys = (self.keys + self.keys / 4 + 1).min(MOST_KEYS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_grow_while_they_fit_and_halve_when_they_do_not() {
        let mut size = RoundSize::new(Pace::Default);
        let cost = Duration::from_micros(10);
        for _ in 0..100 {
            let keys = size.keys();
            size.learn(keys, cost * u32::try_from(keys).expect("few keys"));
        }
        assert!((100..=320).contains(&size.keys()), "settles around 250 keys of 10 µs: {}", size.keys());
        size.learn(size.keys(), Duration::from_secs(1));
        assert!(size.keys() <= 160);
        for _ in 0..20 {
            size.learn(size.keys(), Duration::from_secs(1));
        }
        assert_eq!(size.keys(), 1, "one key is the least");
    }

    #[test]
    fn a_round_that_was_nearly_empty_teaches_nothing() {
        let mut size = RoundSize::new(Pace::Fast);
        size.learn(1, Duration::from_micros(1));
        assert_eq!(size.keys(), FIRST_ROUND_KEYS);
    }
}
