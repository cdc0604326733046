//! Recorded arrivals: a file of times, or of counts per minute.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use tensorgate_random::Random;

/// Length of a bin in a file of counts.
const BIN_SECONDS: f64 = 60.0;

#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// Seconds from the recording's begin, ascending.
    Times(Vec<f64>),
    /// Arrivals of each minute.
    Counts(Vec<u32>),
}

/// A recording.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    /// The file's name.
    pub(super) name: String,
    /// How long it lasts; above zero.
    pub(super) seconds: f64,
    content: Content,
}

impl Trace {
    /// A file with one arrival time in seconds on each line, in ascending order. Empty lines and those that begin
    /// with `#` are skipped. The recording begins at 0 and ends with its last arrival.
    pub(super) fn times(file: &Path) -> Result<Self, String> {
        let fits = |time: &f64, last: Option<&f64>| time.is_finite() && *time >= *last.unwrap_or(&0.0);
        let times: Vec<f64> = lines(file, "a time in seconds that is not before the line above", fits)?;
        let seconds = times.last().copied().unwrap_or(0.0);
        if seconds <= 0.0 {
            return Err(format!("{}: a trace needs a time above zero", file.display()));
        }
        Ok(Self { name: name(file), seconds, content: Content::Times(times) })
    }

    /// A file with the count of arrivals of one minute on each line; skipped lines as above.
    pub(super) fn counts(file: &Path) -> Result<Self, String> {
        let counts: Vec<u32> = lines(file, "a count of arrivals", |_, _| true)?;
        if counts.iter().all(|count| *count == 0) {
            return Err(format!("{}: no minute has an arrival", file.display()));
        }
        Ok(Self { name: name(file), seconds: counts.len() as f64 * BIN_SECONDS, content: Content::Counts(counts) })
    }

    fn count(&self) -> f64 {
        match &self.content {
            Content::Times(times) => times.len() as f64,
            Content::Counts(counts) => counts.iter().map(|count| f64::from(*count)).sum(),
        }
    }

    /// By which factor time passes faster than recorded, for a mean of `rate` arrivals per second.
    pub(super) fn speed(&self, rate: Option<f64>) -> f64 {
        rate.map_or(1.0, |rate| rate * self.seconds / self.count())
    }

    /// Seconds from the recording's begin, ascending. Within a minute that is only counted, arrivals fall anywhere,
    /// as those of a Poisson process do of which just the count is known.
    pub(super) fn arrivals(&self, random: &mut Random) -> Vec<f64> {
        match &self.content {
            Content::Times(times) => times.clone(),
            Content::Counts(counts) => {
                let mut times = Vec::new();
                for (minute, count) in counts.iter().enumerate() {
                    let begin = times.len();
                    times.extend((0..*count).map(|_| (minute as f64 + random.unit()) * BIN_SECONDS));
                    times[begin..].sort_by(f64::total_cmp);
                }
                times
            }
        }
    }
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// One value from each line that is neither empty nor a comment; `fits` also sees the value before.
fn lines<T: FromStr>(file: &Path, what: &str, fits: impl Fn(&T, Option<&T>) -> bool) -> Result<Vec<T>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut values = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse().ok().filter(|value| fits(value, values.last())) {
            Some(value) => values.push(value),
            None => return Err(format!("{}:{}: '{line}' is not {what}", file.display(), index + 1)),
        }
    }
    Ok(values)
}
