//! How many faults a test injects, from which seed, and what came of them.

use std::env;
use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// `BALLAST_TEST_FAULTS` multiplies the faults of every family; `BALLAST_TEST_SEED` chooses others.
pub(super) struct Dice {
    times: usize,
    random: StdRng,
}

impl Dice {
    /// Prints the seed, without which a failure could not be met again. Each family has instants of its own.
    #[expect(clippy::print_stdout, reason = "what a test tells")]
    pub(super) fn cast(family: &str) -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let (times, seed) = (number("BALLAST_TEST_FAULTS").unwrap_or(1), number("BALLAST_TEST_SEED").unwrap_or(1));
        println!("{family}: BALLAST_TEST_SEED={seed} BALLAST_TEST_FAULTS={times}");
        let times = usize::try_from(times.max(1)).expect("a multiple");
        let family = family.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Self { times, random: StdRng::seed_from_u64(seed.wrapping_add(family)) }
    }

    /// `few` of `all`, or as many times more as we were asked for; all of them, if that is more.
    pub(super) fn some_of<T>(&mut self, few: usize, mut all: Vec<T>) -> Vec<T> {
        while all.len() > few * self.times {
            let place = self.random.random_range(0..all.len());
            all.swap_remove(place);
        }
        all
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    /// How many rounds instead of `few`.
    pub(super) fn rounds(&self, few: usize) -> usize {
        few * self.times
    }
}

/// What came of the faults of one family. What was lost is not counted: the first loss fails its test.
#[derive(Debug, Default)]
pub(super) struct Toll {
    pub(super) family: String,
    /// Faults that were injected.
    pub(super) injected: usize,
    /// Servers that crashed by themselves meanwhile.
    pub(super) crashed: usize,
    /// Flags that stood open when the engine was through, before anybody took them up.
    pub(super) found_open: usize,
    /// Slots that recovery brought to an end.
    pub(super) mended: usize,
    /// Slots that recovery left to a person, since both nodes held a live copy of a key.
    pub(super) left_to_a_person: usize,
    /// Flags that replicas keep: nobody can clear them there.
    pub(super) on_replicas: usize,
    /// Copies of keys on primaries that do not own them, served to nobody.
    pub(super) strays: usize,
}

impl Toll {
    pub(super) fn of(family: impl Into<String>) -> Self {
        Self { family: family.into(), ..Self::default() }
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, injected, crashed, found_open, mended, left_to_a_person, on_replicas, strays } = self;
        write!(
            f,
            "{family}: {injected} faults, {crashed} crashes besides, {found_open} flags found open, {mended} slots mended, \
             {left_to_a_person} left to a person, {on_replicas} flags kept by replicas, {strays} stray copies, 0 lost"
        )
    }
}
