//! A figure over time in a few hundred numbers, so that peaks survive.

use serde::Serialize;

/// Least and most of a figure in equal parts of the time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Seconds of each part.
    pub step_s: f64,
    /// Least in each part.
    pub least: Vec<f64>,
    /// Most in each part.
    pub most: Vec<f64>,
}

/// As many as a chart has room for.
const PARTS: usize = 400;

impl Series {
    /// Of so many milliseconds.
    pub(super) fn new(total_ms: u64) -> Self {
        let step_s = total_ms as f64 / 1000.0 / PARTS as f64;
        Self { step_s, least: vec![f64::NAN; PARTS], most: vec![f64::NAN; PARTS] }
    }

    /// The figure is `value` from `from_ms` to `to_ms`.
    pub(super) fn add(&mut self, from_ms: u64, to_ms: u64, value: f64) {
        let part = |at_ms: u64| ((at_ms as f64 / 1000.0 / self.step_s) as usize).min(PARTS - 1);
        if to_ms <= from_ms {
            return;
        }
        // The last millisecond is the one before `to_ms`: what begins then belongs to the next part.
        for place in part(from_ms)..=part(to_ms - 1) {
            // The smaller of a number and NaN is the number.
            self.least[place] = self.least[place].min(value);
            self.most[place] = self.most[place].max(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_peak_survives() {
        let mut series = Series::new(4_000_000);
        series.add(0, 2_000_000, 1.0);
        series.add(2_000_000, 2_000_010, 7.0);
        series.add(2_000_010, 4_000_000, 2.0);
        assert_eq!((series.least.len(), series.step_s), (PARTS, 10.0));
        assert_eq!((series.least[200], series.most[200]), (2.0, 7.0), "what ended where the part begins is not of it");
        assert_eq!((series.least[199], series.most[199]), (1.0, 1.0));
        assert_eq!((series.least[399], series.most[399]), (2.0, 2.0));
    }
}
