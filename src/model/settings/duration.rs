//! Durations as people write them: "50ms".

use std::time::Duration;

/// Longest duration of a setting. A longer one is a slip of the unit, and arithmetic on clocks stays far from overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A duration such as "50ms", "1.5s" or "200us": a decimal number and one of the units us, ms, s, m and h, with nothing
/// between. A number alone is refused, because every program takes another unit for it.
///
/// # Errors
/// What is wrong with `text` and what would be right, ready to stand behind a key.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let shown: String = text.chars().take(40).collect();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let nanos_of_unit: u128 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 60 * 60 * 1_000_000_000,
        "" if !number.is_empty() => return Err(format!("'{shown}' has no unit: write '{shown}ms' or '{shown}s'")),
        _ => return Err(no_duration(&shown)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let (Some(whole), Some(digits)) = (digits(whole), digits(fraction)) else {
        return Err(no_duration(&shown));
    };
    // At most 18 digits and below 2^42 ns in a unit: no product here comes near 2^128.
    let nanos = whole * nanos_of_unit + digits * nanos_of_unit / 10_u128.pow(fraction.len() as u32);
    if nanos > LONGEST.as_nanos() {
        return Err(format!("'{shown}' is longer than {} days", LONGEST.as_secs() / 86_400));
    }
    Ok(Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32))
}

fn digits(text: &str) -> Option<u128> {
    (text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn no_duration(shown: &str) -> String {
    format!("'{shown}' is no duration: expected a number and one of the units us, ms, s, m and h, such as '50ms'")
}
