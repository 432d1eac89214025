//! When a wish for more or fewer shards is acted on.
//!
//! A policy wishes anew in each cycle. Wishes that last are followed, growing soon and shrinking late; never in soon after
//! out; out at once what was about to go.

use serde::{Deserialize, Serialize};

use super::Scaling;

/// What is remembered of wishes. Kept in the state directory, so that a restart does not shrink what has just grown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scaler {
    more_since_ms: Option<u64>,
    fewer_since_ms: Option<u64>,
    /// When shards were added last, by whoever.
    grown_at_ms: u64,
    /// How many there were, those that drain not counted.
    shards: u32,
}

/// What is to be done about the number of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing, and why if something is wished.
    Nothing(Option<String>),
    /// So many more.
    More(u32),
    /// One less.
    Fewer,
}

impl Scaler {
    /// `shards` are there that do not drain, and so many are `wanted`, if anybody says.
    pub(crate) fn hear(&mut self, now_ms: u64, shards: u32, wanted: Option<u32>, settings: &Scaling) -> Due {
        if self.shards > 0 && shards > self.shards {
            self.grown_at_ms = now_ms;
        }
        self.shards = shards;
        // A cycle without advice says nothing: wishes neither end nor ripen.
        if wanted.is_none() {
            return Due::Nothing(None);
        }
        let wanted =
            wanted.map(|wanted| wanted.clamp(settings.min_shards, settings.max_shards.max(settings.min_shards)));
        let more = wanted.filter(|wanted| *wanted > shards);
        let fewer = wanted.filter(|wanted| *wanted < shards);
        // A clock that was set back has not waited yet.
        let since = |since_ms: Option<u64>| Some(since_ms.map_or(now_ms, |since_ms| since_ms.min(now_ms)));
        self.more_since_ms = more.and(since(self.more_since_ms));
        self.fewer_since_ms = fewer.and(since(self.fewer_since_ms));
        self.grown_at_ms = self.grown_at_ms.min(now_ms);
        let left = |since_ms: u64, after: std::time::Duration| {
            let over_ms = since_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            over_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)
        };
        if let (Some(since_ms), Some(wanted)) = (self.more_since_ms, more) {
            return match left(since_ms, settings.out_after) {
                Some(left_ms) => Due::Nothing(Some(format!(
                    "{wanted} shards are wanted; if still so in {} s, more are added",
                    left_ms / 1000
                ))),
                None => Due::More(wanted - shards),
            };
        }
        if let (Some(since_ms), Some(wanted)) = (self.fewer_since_ms, fewer) {
            let still = left(since_ms, settings.in_after);
            // Never grown is not grown at the beginning of time.
            let rest = (self.grown_at_ms > 0).then(|| left(self.grown_at_ms, settings.rest)).flatten();
            return match still.max(rest) {
                Some(left_ms) => Due::Nothing(Some(format!(
                    "{wanted} shards would do; if still so in {} s, one is emptied",
                    left_ms / 1000
                ))),
                None => Due::Fewer,
            };
        }
        Due::Nothing(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn settings() -> Scaling {
        Scaling {
            out_after: Duration::from_secs(60),
            in_after: Duration::from_secs(600),
            rest: Duration::from_secs(1800),
            ..Scaling::default()
        }
    }

    #[test]
    fn a_wish_is_followed_once_it_has_lasted() {
        let mut scaler = Scaler::default();
        let mut hear = |minute: u64, shards, wanted| scaler.hear(minute * MINUTE_MS, shards, Some(wanted), &settings());
        assert_eq!(hear(0, 4, 4), Due::Nothing(None));
        assert!(
            matches!(hear(1, 4, 6), Due::Nothing(Some(why)) if why.contains("6 shards are wanted; if still so in 60 s"))
        );
        assert_eq!(hear(2, 4, 6), Due::More(2));
        assert_eq!(hear(3, 5, 6), Due::More(1), "one has joined");
        let mut silent = scaler.clone();
        assert_eq!(silent.hear(4 * MINUTE_MS, 5, None, &settings()), Due::Nothing(None));
        assert_eq!(silent.hear(5 * MINUTE_MS, 5, Some(6), &settings()), Due::More(1), "it goes on");
        let mut hear = |minute: u64, shards, wanted| scaler.hear(minute * MINUTE_MS, shards, Some(wanted), &settings());
        assert_eq!(hear(4, 6, 6), Due::Nothing(None));
        assert!(matches!(hear(5, 6, 4), Due::Nothing(Some(_))));
        assert!(matches!(hear(16, 6, 4), Due::Nothing(Some(why)) if why.contains("in 1080 s")), "in after out");
        assert_eq!(hear(17, 6, 6), Due::Nothing(None), "the wish is gone");
        assert!(matches!(hear(33, 6, 5), Due::Nothing(Some(_))), "and begins anew");
        assert!(matches!(hear(34, 6, 5), Due::Nothing(Some(_))));
        assert_eq!(hear(43, 6, 5), Due::Fewer);
        assert_eq!(hear(44, 5, 5), Due::Nothing(None), "it drains, and does not count");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_anybody_wait_for_longer() {
        let mut scaler = Scaler::default();
        scaler.hear(1_000 * MINUTE_MS, 4, Some(5), &settings());
        assert!(matches!(scaler.hear(10 * MINUTE_MS, 4, Some(5), &settings()), Due::Nothing(Some(_))));
        assert_eq!(scaler.hear(11 * MINUTE_MS, 4, Some(5), &settings()), Due::More(1));
    }

    #[test]
    fn wishes_end_at_the_floor_and_the_ceiling() {
        let settings = Scaling { max_shards: 6, out_after: Duration::ZERO, in_after: Duration::ZERO, ..settings() };
        let due = |shards, wanted| Scaler::default().hear(1, shards, wanted, &settings);
        assert_eq!(due(4, Some(100)), Due::More(2));
        assert_eq!(due(3, Some(1)), Due::Nothing(None));
        assert_eq!(due(4, Some(1)), Due::Fewer);
        assert_eq!(due(4, None), Due::Nothing(None));
    }

    #[test]
    fn a_restart_remembers_what_has_just_grown() {
        let settings = Scaling { in_after: Duration::ZERO, ..settings() };
        let mut scaler = Scaler::default();
        scaler.hear(1_000, 3, None, &settings);
        scaler.hear(2_000, 4, None, &settings);
        let kept = serde_json::to_string(&scaler).expect("plain");
        let mut scaler: Scaler = serde_json::from_str(&kept).expect("the same");
        assert!(matches!(scaler.hear(3_000, 4, Some(3), &settings), Due::Nothing(Some(_))));
    }
}
