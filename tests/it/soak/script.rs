//! What happens in a soak, and when: drawn from its seed alone, so that the same seed gives the same events. Pure.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// From the end of one event to the next one, in milliseconds.
const GAP_MS: std::ops::Range<u64> = 300..3_000;

/// A daemon's life in events, which take some seven seconds each: every other one is long enough to judge its memory by, the
/// others may be as short as they like.
const LIFE: [std::ops::Range<usize>; 2] = [10..20, 0..6];

/// Shorter than half a node time-out, after which the others would break off and vote: the soak provokes no elections.
const CUT_MS: std::ops::Range<u64> = 200..2_500;

/// Primaries that join beyond those of the beginning, at most.
const MORE_PRIMARIES: usize = 2;

/// Something that is done to the cluster, the daemon or the clients. `who` is a number to choose a node by, from those that
/// are there then.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// An empty primary joins.
    ScaleOut,
    /// `ballast drain --forget` of a primary; what happens next happens meanwhile.
    ScaleIn { who: usize },
    /// `daemon.toml` is written anew; with `hup` the daemon is told so by a signal.
    Config { wishes: Wishes, hup: bool },
    /// A `daemon.toml` with a mistake, and a good one again.
    BrokenConfig,
    /// The policy's file is replaced by the other policy.
    Policy,
    /// By something that is none, and by a good one again.
    BrokenPolicy,
    /// `kill -9`, and another start. `amid` a migration, if one begins soon.
    Kill { amid: bool },
    /// `ballast pause --for`; ended by `ballast resume`, or by itself.
    Pause { seconds: u64, resumed: bool },
    /// `CLUSTER FAILOVER`, said to a replica.
    Failover { who: usize },
    /// A replica is killed, and comes back.
    ReplicaDies { who: usize, ms: u64 },
    /// All connections to a node, but that of the soak itself, break and are refused.
    Breaks { who: usize, ms: u64 },
    /// They stand, and nothing arrives.
    Stalls { who: usize, ms: u64 },
    /// Clients ask for other keys from now on.
    Load { seed: u64, skew: f64, hot_share: f64 },
}

/// What a configuration may say one way or another, and all is as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) interval_ms: u64,
    pub(super) pace: &'static str,
    pub(super) protocol: &'static str,
    pub(super) moves: u32,
    /// A node that counts twice, so that it gets more slots.
    pub(super) heavy: Option<usize>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { interval_ms: 1000, pace: "default", protocol: "auto", moves: 16384, heavy: None }
    }
}

impl Event {
    /// What it is counted as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ScaleOut => "scale out",
            Self::ScaleIn { .. } => "scale in",
            Self::Config { .. } => "config reload",
            Self::BrokenConfig => "broken config",
            Self::Policy => "policy reload",
            Self::BrokenPolicy => "broken policy",
            Self::Kill { .. } => "daemon kill",
            Self::Pause { .. } => "pause",
            Self::Failover { .. } => "failover",
            Self::ReplicaDies { .. } => "replica kill",
            Self::Breaks { .. } => "network break",
            Self::Stalls { .. } => "network stall",
            Self::Load { .. } => "other load",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Config { wishes: Wishes { interval_ms, pace, protocol, moves, heavy }, hup } => {
                write!(f, " (every {interval_ms} ms, {pace}, {protocol}, {moves} moves")?;
                f.write_str(if heavy.is_some() { ", one node counts twice" } else { "" })?;
                f.write_str(if *hup { ", SIGHUP)" } else { ")" })
            }
            Self::Kill { amid: true } => f.write_str(" amid a migration"),
            Self::Pause { seconds, resumed } => {
                write!(f, " for {seconds} s{}", if *resumed { ", resumed" } else { "" })
            }
            Self::ReplicaDies { ms, .. } | Self::Breaks { ms, .. } | Self::Stalls { ms, .. } => {
                write!(f, " for {ms} ms")
            }
            Self::Load { skew, hot_share, .. } => write!(f, " (skew {skew:.2}, {hot_share:.2} to hot slots)"),
            _ => Ok(()),
        }
    }
}

/// Draws one event after the other.
pub(super) struct Script {
    random: StdRng,
    /// Of which every kind comes before one comes again too often.
    deck: Vec<Card>,
    /// Primaries beyond those of the beginning.
    more: usize,
    lives: usize,
    /// Events until this daemon is killed.
    life: usize,
}

/// A kind of event whose figures are not drawn yet. Kills come by the daemon's life, and not by a card.
#[derive(Debug, Clone, Copy)]
enum Card {
    Scale,
    Load,
    Config,
    Policy,
    Broken,
    Pause,
    Failover,
    ReplicaDies,
    Cut,
}

/// What makes slots move comes twice.
const DECK: [Card; 15] = [
    Card::Scale,
    Card::Scale,
    Card::Load,
    Card::Load,
    Card::Config,
    Card::Config,
    Card::Policy,
    Card::Policy,
    Card::Broken,
    Card::Pause,
    Card::Failover,
    Card::Failover,
    Card::ReplicaDies,
    Card::Cut,
    Card::Cut,
];

impl Script {
    pub(super) fn of(seed: u64) -> Self {
        let mut script = Self { random: StdRng::seed_from_u64(seed), deck: Vec::new(), more: 0, lives: 0, life: 0 };
        script.begin_life();
        script
    }

    /// What happens next, and how long after the event before it.
    pub(super) fn next(&mut self) -> (Duration, Event) {
        let gap_ms = self.random.random_range(GAP_MS);
        let event = if let Some(left) = self.life.checked_sub(1) {
            self.life = left;
            self.draw()
        } else {
            self.begin_life();
            Event::Kill { amid: self.random.random() }
        };
        (Duration::from_millis(gap_ms), event)
    }

    fn begin_life(&mut self) {
        self.life = self.random.random_range(LIFE[self.lives % LIFE.len()].clone());
        self.lives += 1;
    }

    fn draw(&mut self) -> Event {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            self.deck.shuffle(&mut self.random);
        }
        let card = self.deck.pop().expect("it was filled");
        let random = &mut self.random;
        let who = random.random_range(0..1000);
        match card {
            Card::Scale if self.more == 0 || self.more < MORE_PRIMARIES && random.random() => {
                self.more += 1;
                Event::ScaleOut
            }
            Card::Scale => {
                self.more -= 1;
                Event::ScaleIn { who }
            }
            Card::Load => Event::Load {
                seed: random.random(),
                skew: random.random_range(0.5..1.1),
                hot_share: random.random_range(0.0..0.8),
            },
            Card::Config => Event::Config {
                wishes: Wishes {
                    interval_ms: [1000, 1500, 2000][random.random_range(0..3)],
                    // A gentle pace eases off on a machine that is as busy as this one: a drain would take an hour.
                    pace: ["default", "fast"][random.random_range(0..2)],
                    protocol: ["auto", "classic"][random.random_range(0..2)],
                    moves: [16384, 4096, 1024][random.random_range(0..3)],
                    heavy: random.random_bool(0.7).then_some(who),
                },
                hup: random.random(),
            },
            Card::Policy => Event::Policy,
            Card::Broken if random.random() => Event::BrokenPolicy,
            Card::Broken => Event::BrokenConfig,
            Card::Pause => Event::Pause { seconds: random.random_range(2..8), resumed: random.random() },
            Card::Failover => Event::Failover { who },
            Card::ReplicaDies => Event::ReplicaDies { who, ms: random.random_range(500..12_000) },
            Card::Cut if random.random() => Event::Breaks { who, ms: random.random_range(CUT_MS) },
            Card::Cut => Event::Stalls { who, ms: random.random_range(CUT_MS) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn events(seed: u64, count: usize) -> Vec<(Duration, Event)> {
        let mut script = Script::of(seed);
        (0..count).map(|_| script.next()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_one_others() {
        assert_eq!(events(7, 200), events(7, 200));
        assert_ne!(events(7, 20), events(8, 20));
    }

    #[test]
    fn every_kind_comes_about_and_nobody_is_drained_who_did_not_join() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut more = 0_usize;
        for (_, event) in events(1, 500) {
            *counts.entry(event.kind()).or_default() += 1;
            match event {
                Event::ScaleOut => more += 1,
                Event::ScaleIn { .. } => more = more.checked_sub(1).expect("one more had joined"),
                _ => {}
            }
            assert!(more <= MORE_PRIMARIES);
        }
        assert_eq!(counts.len(), 13, "{counts:?}");
    }

    #[test]
    fn every_other_life_is_long_enough_to_judge_its_memory_by() {
        let events = events(3, 2000);
        let lives: Vec<usize> =
            events.split(|(_, event)| matches!(event, Event::Kill { .. })).map(<[_]>::len).collect();
        let (_, whole) = lives.split_last().expect("one lives");
        assert!(whole.len() > 100 && whole.iter().step_by(2).all(|life| *life >= 10), "{lives:?}");
    }
}
