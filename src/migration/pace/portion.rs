//! How much one atomic migration takes, and for how long it keeps its source from its clients. Pure.
//!
//! The source stands still twice: while it forks, which takes as long for one slot as for all of them; and while it hands
//! over, when it lets go of the keys. Small portions make the second short and the first frequent, so a hand-over may take as
//! long as a fork does anyway, within reason.

use std::time::Duration;

use crate::cluster::question::AtomicProtocol;

/// What one atomic migration takes at most: whichever bound is met first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Portion {
    pub(in crate::migration) slots: usize,
    pub(in crate::migration) bytes: f64,
    /// For how long the source may stand still when it hands over.
    pub(in crate::migration) hand_over: Duration,
}

/// What a migration carries.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::migration) struct Freight {
    pub(in crate::migration) slots: usize,
    pub(in crate::migration) keys: f64,
    pub(in crate::migration) bytes: f64,
}

/// How much larger portions become where forks are long: beyond this, a hand-over would come near to what nodes take for death.
const MOST_LARGER: f64 = 8.0;

impl Portion {
    /// This much, or as much more as a fork of the source is longer than the hand-over.
    pub(in crate::migration) fn beside(self, fork: Duration) -> Self {
        if fork <= self.hand_over {
            return self;
        }
        let larger = (fork.as_secs_f64() / self.hand_over.as_secs_f64()).min(MOST_LARGER);
        Self {
            slots: (self.slots as f64 * larger) as usize,
            bytes: self.bytes * larger,
            hand_over: self.hand_over.mul_f64(larger),
        }
    }

    /// Whether all of it goes at once.
    pub(in crate::migration) fn holds(&self, form: AtomicProtocol, freight: Freight) -> bool {
        freight.slots <= self.slots && freight.bytes <= self.bytes && hand_over(form, freight) <= self.hand_over
    }
}

/// For how long a source stands still when it hands over.
///
/// Measured with PING every half millisecond on two cores, strings of 100 bytes. Valkey 9.1 deletes the keys there and then,
/// each on a page that the fork made it copy, and writes a line into its log for each slot: 200 slots took 13 ms with 18 keys
/// in each and 46 ms with 92. Redis 8.6 leaves the keys to a thread: 200 slots took 4 ms, 3000 slots 9 ms, whatever they held.
pub(in crate::migration) fn hand_over(form: AtomicProtocol, freight: Freight) -> Duration {
    let (base, slot, key) = match form {
        AtomicProtocol::ValkeyMigrateSlots => (0.5e-3, 20e-6, 2.4e-6),
        AtomicProtocol::RedisMigrationImport => (3e-3, 2e-6, 0.02e-6),
    };
    Duration::from_secs_f64(base + slot * freight.slots as f64 + key * freight.keys.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [AtomicProtocol; 2] = [AtomicProtocol::ValkeyMigrateSlots, AtomicProtocol::RedisMigrationImport];

    #[test]
    fn each_bound_is_a_bound() {
        let portion = Portion { slots: 100, bytes: 1e6, hand_over: Duration::from_millis(10) };
        for form in FORMS {
            let fits = Freight { slots: 100, keys: 1000.0, bytes: 1e6 };
            assert!(portion.holds(form, fits));
            assert!(!portion.holds(form, Freight { slots: 101, ..fits }));
            assert!(!portion.holds(form, Freight { bytes: 1.1e6, ..fits }));
            assert!(!portion.holds(form, Freight { keys: 1e6, ..fits }));
        }
    }

    #[test]
    fn long_forks_make_portions_larger_up_to_a_bound() {
        let portion = Portion { slots: 100, bytes: 1e6, hand_over: Duration::from_millis(10) };
        assert_eq!(portion.beside(Duration::from_millis(3)), portion);
        assert_eq!(portion.beside(Duration::from_millis(30)).slots, 300);
        assert_eq!(portion.beside(Duration::from_secs(60)).hand_over, Duration::from_millis(80));
    }

    #[test]
    fn a_hand_over_takes_what_was_measured() {
        let took = |form, slots, keys| hand_over(form, Freight { slots, keys, bytes: 0.0 }).as_secs_f64() * 1e3;
        let [valkey, redis] = FORMS;
        for (estimate, measured) in [
            (took(valkey, 200, 3_650.0), 13.0),
            (took(valkey, 200, 18_350.0), 46.0),
            (took(redis, 200, 18_350.0), 4.0),
            (took(redis, 3000, 55_000.0), 9.0),
        ] {
            assert!((0.75..1.33).contains(&(estimate / measured)), "{estimate} ms for {measured} ms");
        }
    }
}
