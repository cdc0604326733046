//! Wall-clock times for what leaves the server.

#![expect(clippy::disallowed_methods, reason = "spans and events carry wall-clock times; nothing is decided by them")]

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Maps the monotonic clock to the wall clock as it was at the start, so that a span never ends before it begins.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    since_1970: Duration,
}

impl Clock {
    /// A clock set now.
    pub fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), since_1970 }
    }

    /// The time from 1970 to `at`.
    pub fn since_1970(&self, at: Instant) -> Duration {
        self.since_1970 + at.saturating_duration_since(self.origin)
    }

    /// `at` as RFC 3339 has it, in UTC with milliseconds.
    pub fn rfc_3339(&self, at: Instant) -> String {
        rfc_3339(self.since_1970(at))
    }
}

fn rfc_3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_798_761_600, "2027-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc_3339(Duration::from_secs(seconds)), text);
        }
    }
}
