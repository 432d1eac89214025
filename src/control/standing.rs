//! Which mode the daemon is in, and why: what the configuration says, unless a person paused it or it halted. Pure.

use serde::{Deserialize, Serialize};

use crate::clock::utc;
use crate::model::Mode;

/// Cycles in a row that may fail to move anything before Ballast halts by itself. Three: one is an accident, two may be
/// a failover in between, three are a cluster that a person should look at.
const FAILED_CYCLES_MAX: u32 = 3;

/// What stands against the configured mode. Kept in the state directory, so that a restart does not undo a pause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pause: Option<Pause>,
    halt: Option<Halt>,
    /// Cycles in a row whose migrations moved nothing.
    #[serde(default)]
    failed_cycles: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pause {
    who: String,
    why: String,
    until_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Halt {
    why: String,
}

/// What became of the slots of a cycle that had moves to carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Nothing had to be moved, or somebody stopped it.
    None,
    /// Some slots moved.
    Fruitful,
    /// Slots should have moved, and none did.
    Vain,
}

impl Standing {
    /// The mode, and why it is that one. A person's pause is shown before a halt: it was asked for.
    pub(super) fn mode(&self, configured: Mode) -> (Mode, String) {
        self.mode_with(configured, format!("the configuration says {configured}"))
    }

    /// The same for a mode that is `wanted` for another reason than being configured.
    pub(super) fn mode_with(&self, wanted: Mode, reason: String) -> (Mode, String) {
        if let Some(pause) = &self.pause {
            let why = if pause.why.is_empty() { "no reason was given" } else { &pause.why };
            let until = pause.until_ms.map_or_else(String::new, |until_ms| format!(" until {}", utc(until_ms)));
            return (Mode::Paused, format!("paused by {}{until}: {why}", pause.who));
        }
        if let Some(halt) = &self.halt {
            return (Mode::Halted, halt.why.clone());
        }
        (wanted, reason)
    }

    pub(super) fn pause(&mut self, who: String, why: String, until_ms: Option<u64>) {
        self.pause = Some(Pause { who, why, until_ms });
    }

    /// Back to the configured mode, with a clean slate. Says whether anything stood against it.
    pub(super) fn resume(&mut self) -> bool {
        let before = std::mem::take(self);
        before.pause.is_some() || before.halt.is_some()
    }

    /// When a pause ends by itself: Unix time, milliseconds.
    pub(super) fn pause_ends_ms(&self) -> Option<u64> {
        self.pause.as_ref()?.until_ms
    }

    /// Ends a pause whose time has come. Says whether it did.
    pub(super) fn expire(&mut self, now_ms: u64) -> bool {
        let over = self.pause_ends_ms().is_some_and(|until_ms| until_ms <= now_ms);
        if over {
            self.pause = None;
        }
        over
    }

    /// Halts, unless it has already.
    pub(super) fn halt(&mut self, why: String) {
        self.halt.get_or_insert(Halt { why });
    }

    /// Counts efforts in vain, and halts after too many of them. Says whether anything changed.
    pub(super) fn learn(&mut self, effort: Effort, last_reason: &str) -> bool {
        let before = self.clone();
        match effort {
            Effort::None => (),
            Effort::Fruitful => self.failed_cycles = 0,
            Effort::Vain => self.failed_cycles += 1,
        }
        if self.failed_cycles >= FAILED_CYCLES_MAX && self.halt.is_none() {
            let why = format!(
                "{} cycles in a row could not move a slot, the last one because: {last_reason}; \
                 mend that, then `ballast resume`",
                self.failed_cycles
            );
            self.halt(why);
        }
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_decides_unless_something_stands_against_it() {
        let mut standing = Standing::default();
        check(&standing, Mode::Auto, "the configuration says auto");
        standing.pause("ann".into(), "release".into(), None);
        check(&standing, Mode::Paused, "paused by ann: release");
        standing.pause("ann".into(), String::new(), Some(1_795_874_700_000));
        check(&standing, Mode::Paused, "paused by ann until 2026-11-28 14:05 UTC: no reason was given");
        assert!(standing.resume());
        assert!(!standing.resume(), "nothing stood against it any more");
        check(&standing, Mode::Auto, "the configuration says auto");
    }

    #[test]
    fn a_pause_with_an_end_ends() {
        let mut standing = Standing::default();
        standing.pause("ann".into(), "release".into(), Some(5_000));
        assert!(!standing.expire(4_999));
        assert!(standing.expire(5_000));
        assert!(!standing.expire(5_001), "once");
        assert_eq!(standing.mode(Mode::Auto).0, Mode::Auto);
    }

    #[test]
    fn three_cycles_in_vain_in_a_row_halt() {
        let mut standing = Standing::default();
        for effort in [Effort::Vain, Effort::Vain, Effort::Fruitful, Effort::Vain, Effort::None, Effort::Vain] {
            standing.learn(effort, "IOERR");
            assert_eq!(standing.mode(Mode::Auto).0, Mode::Auto, "{effort:?}");
        }
        assert!(standing.learn(Effort::Vain, "IOERR"));
        let (mode, why) = standing.mode(Mode::Auto);
        assert_eq!(mode, Mode::Halted);
        assert!(why.contains("because: IOERR; mend that, then `ballast resume`"), "{why}");
        assert!(standing.resume());
        assert_eq!(standing, Standing::default());
    }

    fn check(standing: &Standing, mode: Mode, why: &str) {
        assert_eq!(standing.mode(Mode::Auto), (mode, why.to_owned()));
    }
}
