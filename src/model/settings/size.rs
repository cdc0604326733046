//! Sizes in bytes, as settings and flags write them.

/// A number of bytes, `None` where it is none: "4096", "512KiB", "64MiB", "1GiB"; KB, MB and GB are powers of 1000.
pub fn parse_size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        let sizes = ["0", "4096", "7B", "512KiB", "64MiB", "1GiB", "3MB"].map(parse_size);
        assert_eq!(sizes, [0, 4096, 7, 512 << 10, 64 << 20, 1 << 30, 3_000_000].map(Some));
        for text in ["", "MiB", "64 megs", "-1", "1.5GiB", "99999999999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
