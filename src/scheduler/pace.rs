//! How long an execution takes, by rows: learned from every batch that runs, seeded by the warm-up.

use std::time::Duration;

/// Weight of the newest measurement: recent enough to follow a change within tens of batches, old enough to shrug off one
/// that was disturbed.
const NEWEST: f64 = 0.1;

/// Sizes are told apart by the power of two above them; a batch has at most 2^31 rows.
const BUCKETS: usize = 32;

/// Mean execution time by size of batch.
#[derive(Clone, Debug)]
pub struct Pace {
    seconds: [Option<f64>; BUCKETS],
}

impl Default for Pace {
    fn default() -> Self {
        Self { seconds: [None; BUCKETS] }
    }
}

fn bucket(rows: usize) -> usize {
    (rows.max(1).next_power_of_two().trailing_zeros() as usize).min(BUCKETS - 1)
}

impl Pace {
    /// Notes that `rows` rows took `took`.
    pub fn note(&mut self, rows: usize, took: Duration) {
        let took = took.as_secs_f64();
        let known = &mut self.seconds[bucket(rows)];
        *known = Some(known.map_or(took, |mean| mean + NEWEST * (took - mean)));
    }

    /// The time that `rows` rows are predicted to take: the measured mean of that size; else the nearest smaller size in
    /// proportion to the rows, which errs on the slow side; else the nearest larger one; `None` where nothing is known.
    pub fn predict(&self, rows: usize) -> Option<Duration> {
        let wanted = bucket(rows);
        let below =
            self.seconds[..=wanted].iter().enumerate().rev().find_map(|(size, mean)| mean.map(|mean| (size, mean)));
        let seconds = match below {
            Some((size, mean)) => mean * f64::from(1_u32 << (wanted - size).min(31)),
            None => self.seconds[wanted..].iter().flatten().copied().next()?,
        };
        Some(Duration::from_secs_f64(seconds))
    }

    /// The most rows that are predicted to run within `limit`, at least 1; without bound where nothing is known.
    pub fn rows_within(&self, limit: Duration) -> usize {
        (0..BUCKETS - 1)
            .map(|size| 1_usize << size)
            .take_while(|&rows| self.predict(rows).is_none_or(|predicted| predicted <= limit))
            .last()
            .unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn nothing_known_predicts_nothing() {
        assert_eq!(Pace::default().predict(8), None);
        assert_eq!(Pace::default().rows_within(ms(1)), 1 << 30);
    }

    #[test]
    fn an_unseen_size_is_predicted_in_proportion() {
        let mut pace = Pace::default();
        pace.note(1, ms(2));
        assert_eq!(pace.predict(1), Some(ms(2)));
        assert_eq!(pace.predict(4), Some(ms(8)));
        assert_eq!(pace.rows_within(ms(9)), 4);
        pace.note(4, ms(3));
        assert_eq!(pace.predict(8), Some(ms(6)));
        assert_eq!(pace.rows_within(ms(9)), 8);
    }

    #[test]
    fn a_change_is_followed_and_one_outlier_is_not() {
        let mut pace = Pace::default();
        pace.note(1, ms(10));
        pace.note(1, ms(100));
        assert!(pace.predict(1) < Some(ms(20)));
        for _ in 0..60 {
            pace.note(1, ms(50));
        }
        assert!(pace.predict(1) > Some(ms(49)));
    }
}
