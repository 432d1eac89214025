//! How far the moves are, for people: one line, redrawn in place on a terminal, said now and then elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::screen::Screen;
use crate::migration::Overall;
use crate::model::units;

/// Ten times a second looks alive and costs nothing.
const REDRAW: Duration = Duration::from_millis(100);
/// In a log, a line every five seconds shows that it goes on without drowning the rest.
const REPEAT: Duration = Duration::from_secs(5);

/// Shows how far the moves are.
pub(super) struct Advance<'s> {
    screen: &'s Screen,
    bar: Option<ProgressBar>,
    last: String,
}

impl<'s> Advance<'s> {
    pub(super) fn new(screen: &'s Screen) -> Self {
        let bar = screen.is_live().then(|| {
            let bar = ProgressBar::new_spinner();
            // One line, cut at the edge of the terminal rather than broken.
            bar.with_style(ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { screen, bar, last: String::new() }
    }

    /// How often to show it.
    pub(super) fn every(&self) -> Duration {
        if self.bar.is_some() { REDRAW } else { REPEAT }
    }

    /// Shows it, if it is another picture than before.
    pub(super) fn show(&mut self, overall: &Overall) {
        let line = format!("moving  {}", line(overall));
        if line == self.last {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(line.clone()),
            None => self.screen.note(&line),
        }
        self.last = line;
    }

    /// Tells something else meanwhile.
    pub(super) fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.screen.note(text)),
            None => self.screen.note(text),
        }
    }

    /// Leaves the terminal as if it had never been there.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_message("");
            bar.finish_and_clear();
        }
        self.last.clear();
    }

    /// Goes on after [`clear`](Self::clear).
    pub(super) fn again(&mut self) {
        if let Some(bar) = &self.bar {
            bar.reset();
        }
    }
}

/// `1,204/4,096 slots  1.2M/4.0M keys  310.0MiB/1.1GiB  41.0k keys/s  eta 1m 12s`.
pub(super) fn line(overall: &Overall) -> String {
    let total = &overall.total;
    let mut parts = vec![format!("{}/{} slots", grouped(overall.slots_moved), grouped(total.slots))];
    if let Some(keys) = total.keys {
        // Keys that came since the snapshot move too.
        parts.push(format!("{}/{} keys", short(overall.keys_moved), short(keys.max(overall.keys_moved))));
    }
    if let Some(bytes) = total.bytes {
        parts.push(format!("{}/{}", units::size::format(overall.bytes_moved), units::size::format(bytes)));
    }
    parts.extend(overall.keys_per_s.map(|rate| format!("{} keys/s", short(rate as u64))));
    parts.extend(overall.eta_ms.map(|eta_ms| format!("eta {}", seconds(eta_ms))));
    parts.join("  ")
}

/// A duration in whole seconds, rounded up: `1m 12s`.
pub(super) fn seconds(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms.div_ceil(1000))).to_string()
}

/// `16,384`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

/// `9,999`, `41.0k`, `1.2M`.
fn short(number: u64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(size, _)| number >= 10_000 && number as f64 >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", number as f64 / size),
        None => grouped(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Amount;

    fn overall() -> Overall {
        Overall {
            slots_moved: 1_204,
            slots_waiting: 0,
            keys_moved: 1_200_000,
            bytes_moved: 310 << 20,
            total: Amount { slots: 16_384, keys: Some(4_000_000), bytes: Some(2 << 30) },
            keys_per_s: Some(41_234.5),
            bytes_per_s: Some(1e7),
            eta_ms: Some(71_400),
        }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let text = "1,204/16,384 slots  1.2M/4.0M keys  310MiB/2GiB  41.2k keys/s  eta 1m 12s";
        assert_eq!(line(&overall()), text);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let total = Amount { slots: 100, keys: None, bytes: None };
        let unknown = Overall { total, slots_moved: 0, keys_per_s: None, eta_ms: None, ..overall() };
        assert_eq!(line(&unknown), "0/100 slots");
        let more = Overall { total: Amount { keys: Some(7), ..total }, keys_moved: 9, ..unknown };
        assert_eq!(line(&more), "0/100 slots  9/9 keys", "keys that came meanwhile");
    }
}
