//! A report as text.

use std::fmt;

use super::Report;
use super::latencies::Quantiles;
use super::outcome::Class;

/// Microseconds as milliseconds with as many decimals as tell something.
pub(crate) fn millis(micros: f64) -> String {
    let millis = micros / 1e3;
    match millis {
        _ if millis >= 100.0 => format!("{millis:.0}"),
        _ if millis >= 10.0 => format!("{millis:.1}"),
        _ if millis >= 1.0 => format!("{millis:.2}"),
        _ => format!("{millis:.3}"),
    }
}

fn latencies(f: &mut fmt::Formatter<'_>, name: &str, of: &Quantiles) -> fmt::Result {
    let values = [of.p50_us, of.p90_us, of.p95_us, of.p99_us, of.p999_us, of.max_us].map(millis);
    let [p50, p90, p95, p99, p999, max] = &values;
    writeln!(f, "  {name:<10} {p50:>9} {p90:>9} {p95:>9} {p99:>9} {p999:>9} {max:>9}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.outcomes.total().max(1) as f64;
        writeln!(f, "offered      {} in {:.2} s = {:.1}/s", self.offered, self.seconds, self.offered_rate)?;
        writeln!(f, "answered     {} ok, {:.1}/s within the window", self.ok, self.rate)?;
        for class in Class::ALL {
            let count = self.outcomes.of(class);
            write!(f, "  {:<10} {count:>9}  {:>6.2} %", class.name(), 100.0 * count as f64 / total)?;
            match (class, self.slo_ms) {
                (Class::Good, Some(slo)) => writeln!(f, "  = {:.1}/s within {slo} ms", self.goodput)?,
                (Class::Good, None) => writeln!(f, "  (no --slo: every answer is good)")?,
                _ => writeln!(f)?,
            }
        }
        writeln!(f, "latency ms         p50       p90       p95       p99     p99.9       max")?;
        latencies(f, "answered", &self.answered)?;
        if self.outcomes.late > 0 {
            latencies(f, "good", &self.good)?;
        }
        if self.refused.count > 0 {
            latencies(f, "refused", &self.refused)?;
        }
        if let Some(corrected) = &self.corrected {
            latencies(f, "corrected", corrected)?;
        }
        if let Some(generator) = &self.generator {
            latencies(f, "own lag", &generator.lag)?;
        }
        writeln!(f, "connections  {}; at most {} requests in flight", self.connections, self.in_flight_max)?;
        if let Some(cpu) = self.server_cpu_us {
            writeln!(f, "server cpu   {cpu:.2} us a request")?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "errors       {count} {kind}")?;
        }
        if self.warmup_errors > 0 {
            writeln!(f, "errors       {} during the warm-up", self.warmup_errors)?;
        }
        if let Some(limit) = self.generator_limit() {
            writeln!(f, "WARNING      the generator is the limit: {limit}")?;
        }
        Ok(())
    }
}

/// The heading of a table with a line for each run.
pub(crate) const HEADING: &str =
    "   offered/s      good/s   good %   late %  refused %  failed %    p50 ms    p99 ms  p99.9 ms  cpu us";

/// A report as a line of a table.
pub(crate) fn row(report: &Report) -> String {
    let total = report.outcomes.total().max(1) as f64;
    let [good, late, refused, failed] = Class::ALL.map(|class| 100.0 * report.outcomes.of(class) as f64 / total);
    let [p50, p99, p999] = [report.answered.p50_us, report.answered.p99_us, report.answered.p999_us].map(millis);
    let cpu = report.server_cpu_us.map_or("-".to_owned(), |cpu| format!("{cpu:.1}"));
    let mark = if report.generator_limit().is_some() { "  generator is the limit" } else { "" };
    format!(
        "{:>12.1} {:>11.1} {good:>8.2} {late:>8.2} {refused:>10.2} {failed:>9.2} {p50:>9} {p99:>9} {p999:>9} {cpu:>7}{mark}",
        report.offered_rate, report.goodput
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::protocol::Failure;
    use crate::report::tally::{Closing, Phase, Tally};

    fn report(lag: u64, held: Option<u64>) -> Report {
        let mut tally = Tally::new(Duration::from_secs(1), Some(Duration::from_millis(10)));
        for (nanos, outcome) in
            [(1_000_000, Ok(())), (20_000_000, Ok(())), (5_000, Err(Failure::Status(429))), (5, Err(Failure::Closed))]
        {
            tally.end(Phase::Window(0), outcome, nanos, 1);
        }
        tally.lag(lag);
        tally.report(Closing { seconds: 1.0, answered: 2, held, ..Closing::default() })
    }

    #[test]
    fn a_report_tells_every_class_and_what_went_wrong() {
        let text = report(1_000, Some(0)).to_string();
        for part in
            ["good               1   25.00 %  = 1.0/s within 10 ms", "own lag", "errors       1 http 429", "refused"]
        {
            assert!(text.contains(part), "'{part}' is missing in\n{text}");
        }
        assert!(!text.contains("WARNING"), "{text}");
        assert_eq!(HEADING.len(), row(&report(1, None)).len(), "{HEADING}\n{}", row(&report(1, None)));
    }

    #[test]
    fn a_generator_that_is_the_limit_says_so() {
        assert!(report(20_000_000, Some(0)).to_string().contains("more CPU"));
        assert!(report(1_000, Some(7)).to_string().contains("7 requests waited for a connection"));
        assert!(row(&report(1_000, Some(7))).ends_with("generator is the limit"));
        assert!(report(20_000_000, None).generator_limit().is_none(), "a closed loop has no due times");
    }
}
