//! How hard we lean on the servers. Pure.
//!
//! A [`Pace`] is what the operator chose: upper bounds. A [`Throttle`] learns below them from what clients feel: its *share*
//! of the pace grows a little with every probe that comes back in time, and shrinks by a part with every one that does not.
//! [`Allowance`] is both together: what a machine may take now; for atomic migrations, whose machine is the server, a
//! [`Portion`] and the rest after it.

mod portion;
mod round;
mod throttle;
mod tokens;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use portion::Portion;
pub(super) use portion::{Freight, hand_over};
pub(super) use round::{Round, guess};
pub(super) use throttle::{Throttle, Vitals};

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

/// What a machine may take now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Allowance {
    /// Longest time that one round (all MIGRATEs of one pipeline) may keep the source from its clients.
    pub(super) round: Duration,
    /// Longest time that one MIGRATE may.
    pub(super) call: Duration,
    /// The share of time in which the source may be kept busy, above 0 to 1.
    pub(super) duty: f64,
}

/// No rest of a classic migration is longer, however little is borne: slots may be open meanwhile, and a stop waits for it.
const MOST_REST: Duration = Duration::from_secs(2);
/// Nothing is open between atomic migrations, and a stop cuts the rest short.
const MOST_ATOMIC_REST: Duration = Duration::from_secs(60);

/// How long to rest after `busy`, so that no more than this share of time is busy.
fn rest(busy: Duration, duty: f64) -> Duration {
    busy.mul_f64(1.0 / duty - 1.0)
}

impl Pace {
    /// Longest time that one round may keep the source from its clients.
    const fn round(self) -> Duration {
        match self {
            // A tenth of what a client on a good network waits anyway.
            Self::Gentle => Duration::from_micros(150),
            // Whoever comes meanwhile waits for as long: a 99th percentile grows by a round however rare rounds are, so short
            // ones without rests between them cost clients less than long ones with rests.
            Self::Default => Duration::from_micros(500),
            Self::Fast => Duration::from_millis(50),
        }
    }

    /// The share of time in which a source may be kept busy with rounds.
    const fn duty(self) -> f64 {
        match self {
            // What one request in a hundred may feel has to be rare.
            Self::Gentle => 0.05,
            Self::Default => 0.9,
            Self::Fast => 1.0,
        }
    }

    /// The share of time in which a source may stand still for atomic migrations. Of all requests, those to this one node meet
    /// that: with four primaries, three in a hundred there are one in a hundred of all. Measured on Valkey 9.1 and two cores, where
    /// the child that sends the snapshot is felt as well: 5,000 keys a second at 1.3 times the 99th percentile; with
    /// hand-overs of 5 ms instead of 20 as many keys at 2.5 times, for the forks that they cost.
    const fn atomic_duty(self) -> f64 {
        match self {
            Self::Gentle => 0.01,
            Self::Default => 0.03,
            Self::Fast => 1.0,
        }
    }

    /// What clients may feel: a probe is slow beyond `factor` times what is usual, or `slack` more than that, whichever is
    /// longer: on a fast network a factor alone would be a few microseconds. None: whatever the servers do.
    const fn tolerance(self) -> Option<(f64, Duration)> {
        match self {
            Self::Gentle => Some((1.1, Duration::from_micros(300))),
            Self::Default => Some((1.5, Duration::from_micros(500))),
            Self::Fast => None,
        }
    }

    /// Slots that are open at the same time in a classic migration.
    ///
    /// Multi-key commands on an open slot get TRYAGAIN, so few is kind; each phase is one round trip and one save of the
    /// cluster file on every node for all of them, so many is quick, and kind too: with 4 slots of 25 small keys at a time the
    /// saves were what clients felt.
    pub(super) const fn open_slots(self) -> usize {
        match self {
            Self::Gentle => 16,
            Self::Default => 64,
            Self::Fast => 512,
        }
    }

    /// Migrations at the same time: each source has its own main thread, and its own fork.
    pub(crate) const fn migrations(self) -> usize {
        match self {
            Self::Gentle => 1,
            // Pairs that share no node do not feel each other.
            Self::Default => 4,
            Self::Fast => usize::MAX,
        }
    }

    /// Sources that feed one target at the same time: it takes them in with one main thread. On two cores three sources
    /// measured no faster than one at the default pace, and were felt more.
    pub(super) const fn sources(self) -> usize {
        match self {
            Self::Gentle | Self::Default => 1,
            Self::Fast => 4,
        }
    }

    /// Classic migrations between the same two nodes at the same time: while one thinks, the other's round is under way.
    pub(super) const fn lanes(self) -> usize {
        match self {
            Self::Gentle | Self::Default => 1,
            Self::Fast => 2,
        }
    }

    /// What one atomic migration takes at most from a source that forks in no time.
    pub(crate) fn portion(self) -> Portion {
        let ms = Duration::from_millis;
        let (slots, bytes, hand_over) = match self {
            Self::Gentle => (64, 8 << 20, ms(5)),
            Self::Default => (256, 32 << 20, ms(15)),
            Self::Fast => (4096, 4_u64 << 30, Duration::MAX),
        };
        Portion { slots, bytes: bytes as f64, hand_over }
    }
}

impl Allowance {
    /// How long to leave the source to its clients after it was kept busy for `busy`, where the next call reaches it `way`
    /// later than we say so.
    pub(super) fn rest_after(&self, busy: Duration, way: Duration) -> Duration {
        rest(busy, self.duty).min(MOST_REST).saturating_sub(way)
    }
}
