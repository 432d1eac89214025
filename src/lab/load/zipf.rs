//! Ranks by Zipf's law: the rank-th is asked in proportion to `1 / rank^exponent`. Pure.

/// A table of cumulative weights: for the tens of thousands of keys of a demo or a test, nothing smarter pays.
#[derive(Debug)]
pub(super) struct Zipf {
    /// Ascending; the last is 1.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(super) fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        for weight in &mut cumulative {
            *weight /= sum;
        }
        Self { cumulative }
    }

    /// The rank, counted from 0, at `place` in \[0, 1).
    pub(super) fn rank(&self, place: f64) -> usize {
        let rank = self.cumulative.partition_point(|weight| *weight <= place);
        rank.min(self.cumulative.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each rank comes when asked at even places.
    fn counts(zipf: &Zipf, ranks: usize) -> Vec<usize> {
        let mut counts = vec![0; ranks];
        for step in 0..100_000 {
            counts[zipf.rank(f64::from(step) / 100_000.0)] += 1;
        }
        counts
    }

    #[test]
    fn ranks_come_in_proportion_to_their_weight() {
        let counts = counts(&Zipf::new(4, 1.0), 4);
        // 1 : 1/2 : 1/3 : 1/4 of 25/12, to the rounding of the steps.
        for (count, expected) in counts.into_iter().zip([48_000_usize, 24_000, 16_000, 12_000]) {
            assert!(count.abs_diff(expected) <= 1, "{count} of {expected}");
        }
    }

    #[test]
    fn without_skew_all_ranks_are_alike() {
        assert_eq!(counts(&Zipf::new(5, 0.0), 5), [20_000; 5]);
    }
}
