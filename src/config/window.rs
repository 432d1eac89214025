//! Change windows: when slots may move. Pure; the time is an argument.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A window that opens again and again: a `[[window]]` of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    opens: Cron,
    lasts: Duration,
    zone: TimeZone,
}

impl Window {
    /// A window that opens as `cron` says (minute, hour, day of the month, month, day of the week) by the clocks of `zone`,
    /// and stays open for as long as it `lasts`.
    ///
    /// # Errors
    /// The key that is wrong, and what is accepted.
    pub(super) fn new(cron: &str, lasts: Duration, zone: &str) -> Result<Self, (&'static str, String)> {
        const LIKE: &str = "minute, hour, day, month and weekday are accepted, such as \"0 2 * * MON-FRI\"";
        let wrong = |error: croner::errors::CronError| ("cron", format!("'{cron}' is no such time: {error}; {LIKE}"));
        if cron.split_whitespace().count() != 5 {
            return Err(("cron", LIKE.to_owned()));
        }
        let opens = Cron::from_str(cron).map_err(wrong)?;
        let unknown =
            |_| ("time_zone", format!("there is no '{zone}': names such as \"Europe/Berlin\" or \"UTC\" are accepted"));
        let zone = TimeZone::get(zone).map_err(unknown)?;
        if lasts < Duration::from_secs(60) || lasts > Duration::from_secs(7 * 86_400) {
            return Err(("duration", "1m to 7days is accepted".to_owned()));
        }
        Ok(Self { opens, lasts, zone })
    }

    fn at(&self, ms: u64) -> Option<Zoned> {
        Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok().map(|at| at.to_zoned(self.zone.clone()))
    }

    /// When it closes, if it is open.
    fn closes_ms(&self, now_ms: u64) -> Option<u64> {
        let opened = self.opens.find_previous_occurrence(&self.at(now_ms)?, true).ok()?;
        let opened_ms = u64::try_from(opened.timestamp().as_millisecond()).ok()?;
        let closes_ms = opened_ms + u64::try_from(self.lasts.as_millis()).ok()?;
        (closes_ms > now_ms).then_some(closes_ms)
    }

    /// When it opens next.
    fn opens(&self, now_ms: u64) -> Option<Zoned> {
        self.opens.find_next_occurrence(&self.at(now_ms)?, false).ok()
    }
}

/// Whether slots may move now, going by all windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// Whether they may.
    pub open: bool,
    /// Unix time in milliseconds at which that may change; absent when it never does.
    pub until_ms: Option<u64>,
    /// For people, while they may not: when they may next.
    pub why: String,
}

impl Hours {
    /// By `windows`; without any, always.
    #[must_use]
    pub fn of(windows: &[Window], now_ms: u64) -> Self {
        if windows.is_empty() {
            return Self { open: true, until_ms: None, why: String::new() };
        }
        // Windows that overlap stay open until the last one closes, which is looked at when the first one does.
        if let Some(closes_ms) = windows.iter().filter_map(|window| window.closes_ms(now_ms)).max() {
            return Self { open: true, until_ms: Some(closes_ms), why: String::new() };
        }
        let next = windows.iter().filter_map(|window| window.opens(now_ms)).min_by_key(Zoned::timestamp);
        let until_ms = next.as_ref().and_then(|next| u64::try_from(next.timestamp().as_millisecond()).ok());
        let when = next.map_or("never".to_owned(), |next| next.strftime("%A %Y-%m-%d %H:%M %Z").to_string());
        Self { open: false, until_ms, why: format!("outside the change windows; the next one opens {when}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(text: &str) -> u64 {
        let at: Zoned = text.parse().expect("a time");
        u64::try_from(at.timestamp().as_millisecond()).expect("after 1970")
    }

    fn hours(windows: &[Window], text: &str) -> Hours {
        Hours::of(windows, at(text))
    }

    #[test]
    fn a_window_is_open_from_its_time_for_as_long_as_it_lasts() {
        let nights = [Window::new("30 22 * * MON-FRI", 3 * HOUR, "Europe/Berlin").expect("a window")];
        let open = |text: &str| hours(&nights, text).open;
        assert!(!open("2026-11-27T22:29:59[Europe/Berlin]"));
        assert!(open("2026-11-27T22:30:00[Europe/Berlin]"), "a Friday");
        assert!(open("2026-11-28T01:29:59[Europe/Berlin]"), "and into the Saturday");
        assert!(!open("2026-11-28T01:30:00[Europe/Berlin]"));
        assert!(!open("2026-11-28T23:00:00[Europe/Berlin]"));
        let closed = hours(&nights, "2026-11-28T12:00:00[UTC]");
        assert_eq!(closed.why, "outside the change windows; the next one opens Monday 2026-11-30 22:30 CET");
        assert_eq!(closed.until_ms, Some(at("2026-11-30T22:30:00[Europe/Berlin]")));
        let open = hours(&nights, "2026-11-27T23:00:00[Europe/Berlin]");
        assert_eq!(open.until_ms, Some(at("2026-11-28T01:30:00[Europe/Berlin]")));
    }

    #[test]
    fn the_clocks_of_the_place_count_also_when_they_change() {
        let nights = [Window::new("0 2 * * *", HOUR, "Europe/Berlin").expect("a window")];
        // In winter 02:00 is 01:00 UTC, in summer 00:00 UTC.
        assert!(hours(&nights, "2026-01-10T01:30:00[UTC]").open);
        assert!(!hours(&nights, "2026-07-10T01:30:00[UTC]").open);
        assert!(hours(&nights, "2026-07-10T00:30:00[UTC]").open);
        // That night has no 02:00: the window is not lost.
        let day = |minute: u64| at("2026-03-28T23:00:00[UTC]") + minute * 60_000;
        assert!((0..24 * 60).any(|minute| Hours::of(&nights, day(minute)).open));
    }

    #[test]
    fn several_windows_are_one_and_none_is_always() {
        assert!(Hours::of(&[], 0).open);
        let windows = [
            Window::new("0 1 * * *", 2 * HOUR, "UTC").expect("a window"),
            Window::new("0 2 * * *", 2 * HOUR, "UTC").expect("a window"),
        ];
        let both = hours(&windows, "2026-11-28T02:30:00[UTC]");
        assert_eq!((both.open, both.until_ms), (true, Some(at("2026-11-28T04:00:00[UTC]"))));
        assert!(!hours(&windows, "2026-11-28T04:00:00[UTC]").open);
    }

    #[test]
    fn what_is_no_window_is_refused_by_its_key() {
        let refused = |cron, lasts, zone| Window::new(cron, lasts, zone).map(|_| ()).expect_err("no window");
        assert_eq!(refused("0 25 * * *", HOUR, "UTC").0, "cron");
        assert_eq!(refused("0 2 * *", HOUR, "UTC").0, "cron");
        let (key, why) = refused("0 2 * * *", HOUR, "Europe/Berlinn");
        assert!(key == "time_zone" && why.contains("Europe/Berlinn"), "{why}");
        assert_eq!(refused("0 2 * * *", Duration::ZERO, "UTC").0, "duration");
    }
}
