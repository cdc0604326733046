//! A curve as text, to be kept in a file: a line for each number, and one that says that nothing is missing.

use std::fmt::Write;

use super::{Bits, Curve, KNOTS, SPREAD_MAX, work_at};

/// The last line.
const END: &str = "end";

/// The resolution of a duration: what is below was not measured.
const SECONDS_MIN: f64 = 1e-9;

/// Nothing takes longer than a day.
const SECONDS_MAX: f64 = 86_400.0;

/// The most work that can have run: what the last knot stands for, and its octave.
const WORK_MAX: usize = 1 << 40;

impl Curve {
    /// The curve as text, for [`Curve::from_text`].
    pub fn to_text(&self) -> String {
        let mut text = format!("spread {}\nlargest {}\n", self.spread, self.largest);
        for knot in Bits(self.measured) {
            // Writing to a string cannot fail.
            let seconds = self.seconds[knot].max(SECONDS_MIN);
            let _ = writeln!(text, "work {} seconds {seconds} seen {}", work_at(knot), self.seen[knot]);
        }
        text + END + "\n"
    }

    /// The curve that [`Curve::to_text`] wrote. Nothing else is taken for one: whoever reads a file that somebody else wrote,
    /// or only half of one, learns nothing from it.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let spread: f64 = number(lines.next(), "spread")?;
        if !(0.0..=SPREAD_MAX).contains(&spread) {
            return Err(format!("the spread is {spread}, expected 0 to {SPREAD_MAX}"));
        }
        let largest = number(lines.next(), "largest")?;
        if largest > WORK_MAX {
            return Err(format!("the largest work is {largest}, expected at most {WORK_MAX}"));
        }
        let mut curve = Self { spread, factor: spread.exp(), largest, ..Self::default() };
        let mut next = 0;
        for line in lines.by_ref().take_while(|line| *line != END) {
            next = curve.take_line(line, next)? + 1;
        }
        match text.lines().filter(|line| *line == END).count() == 1 && lines.next().is_none() {
            true => Ok(curve),
            false => Err(format!("it does not end with '{END}'")),
        }
    }

    /// Takes the knot that `line` says, which is `next` or a later one; gives which it was.
    fn take_line(&mut self, line: &str, next: usize) -> Result<usize, String> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["work", work, "seconds", seconds, "seen", seen] = words[..] else {
            return Err(format!("'{}' is no size", line.chars().take(40).collect::<String>()));
        };
        let work: usize = parsed(work)?;
        let knot = (next..KNOTS).find(|&knot| work_at(knot) == work);
        let knot = knot.ok_or_else(|| format!("work {work} is no size of a curve, or not in order"))?;
        let seconds: f64 = parsed(seconds)?;
        let before = Bits(self.measured).last().map_or(SECONDS_MIN, |before| self.seconds[before]);
        if !(before..=SECONDS_MAX).contains(&seconds) {
            return Err(format!("work {work} takes {seconds} s, expected {before} to {SECONDS_MAX}"));
        }
        (self.seconds[knot], self.seen[knot]) = (seconds, parsed(seen)?);
        self.measured |= 1 << knot;
        Ok(knot)
    }
}

/// The number in a line of `name` and a number.
fn number<T: std::str::FromStr>(line: Option<&str>, name: &str) -> Result<T, String> {
    let value = line.and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
    parsed(value.ok_or_else(|| format!("'{name}' is missing"))?)
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{}' is no number", text.chars().take(40).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_learned_comes_back(batches in prop::collection::vec((1_usize..5000, 1_000_u64..1_000_000_000), 0..60)) {
            let mut curve = Curve::default();
            for (work, nanoseconds) in batches {
                curve.note(work, Duration::from_nanos(nanoseconds));
            }
            let text = curve.to_text();
            let back = Curve::from_text(&text).unwrap();
            prop_assert_eq!(back.to_text(), text);
            prop_assert!(back.points().eq(curve.points()));
            prop_assert_eq!(back.largest(), curve.largest());
            for work in [1, 2, 7, 100, 6000] {
                prop_assert_eq!(back.upper(work), curve.upper(work));
            }
        }

        #[test]
        fn half_of_a_text_is_none(cut in any::<prop::sample::Index>()) {
            let mut curve = Curve::default();
            for work in [1, 2, 8, 64] {
                curve.note(work, Duration::from_micros(100 + 10 * work as u64));
            }
            let text = curve.to_text();
            // But for the last line's end, which says nothing.
            prop_assert!(Curve::from_text(&text[..cut.index(text.len() - 1)]).is_err());
        }
    }

    #[test]
    fn what_no_curve_can_be_is_refused() {
        for text in [
            "",
            "spread 0.1\nlargest 1\n",
            "spread 9\nlargest 1\nend\n",
            "spread NaN\nlargest 1\nend\n",
            "spread 0.1\nlargest -1\nend\n",
            "spread 0.1\nlargest 99999999999999\nend\n",
            "spread 0.1\nlargest 1\nwork 1 seconds 0 seen 1\nend\n",
            "spread 0.1\nlargest 1\nwork 1 seconds inf seen 1\nend\n",
            "spread 0.1\nlargest 1\nwork 1 seconds 1e9 seen 1\nend\n",
            "spread 0.1\nlargest 5\nwork 5 seconds 1 seen 1\nend\n",
            "spread 0.1\nlargest 2\nwork 2 seconds 1 seen 1\nwork 1 seconds 1 seen 1\nend\n",
            "spread 0.1\nlargest 2\nwork 1 seconds 2 seen 1\nwork 2 seconds 1 seen 1\nend\n",
            "spread 0.1\nlargest 1\nwork 1 seconds 1 seen 1\nend\nend\n",
            "spread 0.1\nlargest 1\nend\nmore\n",
        ] {
            assert!(Curve::from_text(text).is_err(), "{text}");
        }
        assert!(Curve::from_text("spread 0.1\nlargest 0\nend\n").unwrap().is_empty());
    }
}
