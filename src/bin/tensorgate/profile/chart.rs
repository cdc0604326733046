//! Latency and throughput by batch rows, as bars beside one another.

use std::time::Duration;

use tensorgate::repository::ProfiledSize;

use super::{count, time};

/// Columns that the numbers take, and the gaps beside them.
const NUMBERS: usize = 36;

/// Columns of one bar.
const BAR: std::ops::RangeInclusive<usize> = 8..=60;

/// A bar's last column, in eighths.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// How bars are drawn.
pub(super) struct Chart {
    width: usize,
    /// Whether blocks can be shown: they are plain signs in a file or a pipe.
    blocks: bool,
}

impl Chart {
    /// Bars for a terminal of so many columns, or for what is none.
    pub(super) fn new(columns: Option<usize>) -> Self {
        let width = columns.unwrap_or(super::COLUMNS).saturating_sub(NUMBERS) / 2;
        Self { width: width.clamp(*BAR.start(), *BAR.end()), blocks: columns.is_some() }
    }

    /// A line for each size.
    pub(super) fn draw(&self, sizes: &[ProfiledSize]) -> String {
        let longest = sizes.iter().map(|size| size.p95).max().unwrap_or_default();
        let highest = sizes.iter().map(ProfiledSize::rows_per_second).fold(0.0, f64::max);
        let mut text =
            format!("{:>6}  {:width$}  {}\n", "ROWS", "LATENCY (P50, to P95)", "ROWS/S", width = self.width + 12);
        for size in sizes {
            let latency = self.bar(share(size.p50, longest), share(size.p95, longest));
            let rate = size.rows_per_second();
            let throughput = self.bar(rate / highest.max(1e-9), 0.0);
            let (p50, rate) = (time(size.p50), count(rate));
            text.push_str(&format!("{:>6}  {latency} {p50:>10}   {throughput} {rate:>10}\n", size.rows));
        }
        text
    }

    /// A bar of `share` of the width, and from there a thin one up to `reach`.
    fn bar(&self, share: f64, reach: f64) -> String {
        let eighths = (share.clamp(0.0, 1.0) * (self.width * 8) as f64).round() as usize;
        let (full, rest) = (eighths / 8, eighths % 8);
        let reach = ((reach.clamp(0.0, 1.0) * self.width as f64).round() as usize).max(full);
        let mut bar = String::new();
        let (block, thin) = if self.blocks { ('█', '─') } else { ('#', '-') };
        bar.extend(std::iter::repeat_n(block, full));
        let mut drawn = full;
        if self.blocks && rest > 0 && drawn < self.width {
            bar.push(EIGHTHS[rest]);
            drawn += 1;
        }
        bar.extend(std::iter::repeat_n(thin, reach.saturating_sub(drawn)));
        bar.extend(std::iter::repeat_n(' ', self.width - drawn.max(reach)));
        bar
    }
}

fn share(time: Duration, of: Duration) -> f64 {
    time.as_secs_f64() / of.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(rows: usize, p50: u64, p95: u64) -> ProfiledSize {
        let [p50, p95] = [p50, p95].map(Duration::from_millis);
        ProfiledSize { rows, p50, p95, runs: 1 }
    }

    #[test]
    fn lines_are_as_wide_as_the_terminal_and_plain_where_there_is_none() {
        let sizes = [size(1, 10, 11), size(2, 10, 20), size(128, 400, 500)];
        for columns in [40, 80, 200] {
            let drawn = Chart::new(Some(columns)).draw(&sizes);
            let widths: Vec<usize> = drawn.lines().skip(1).map(|line| line.chars().count()).collect();
            assert!(widths.iter().all(|width| *width == widths[0] && *width <= columns.max(52)), "{drawn}");
            assert!(drawn.contains('█'));
        }
        let drawn = Chart::new(None).draw(&sizes);
        assert!(drawn.is_ascii() && drawn.contains('#') && drawn.contains("400 ms"), "{drawn}");
    }

    #[test]
    fn bars_are_in_proportion() {
        let chart = Chart { width: 8, blocks: true };
        assert_eq!(chart.bar(1.0, 1.0), "████████");
        assert_eq!(chart.bar(0.5, 0.75), "████──  ");
        assert_eq!(chart.bar(9.0 / 64.0, 0.0), "█▏      ");
        assert_eq!(chart.bar(0.0, 0.0), "        ");
        assert_eq!(Chart { width: 4, blocks: false }.bar(0.5, 1.0), "##--");
    }
}
