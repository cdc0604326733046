//! Prometheus' text format 0.0.4, read: samples with their names, labels and values. Comments, types and time stamps are passed
//! over; nothing is kept that the text does not hold.

use std::borrow::Cow;
use std::fmt;

/// Labels of one sample: more than any metric has, so that a line cannot make a list of its own length.
const LABELS_MAX: usize = 64;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Its labels, in the order of the text.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// Its value; NaN and infinities as they are.
    pub value: f64,
}

impl Sample<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_ref())
    }
}

/// A line that is no sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What was wanted there.
    pub wanted: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the metrics: {} is wanted", self.line, self.wanted)
    }
}

impl std::error::Error for ParseError {}

/// The samples of `text`, line by line.
pub fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, ParseError>> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_matches([' ', '\t', '\r'])));
    let told = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    told.map(|(line, text)| sample(text).map_err(|wanted| ParseError { line, wanted }))
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = split_name(line, true).ok_or("a name")?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = words.next().and_then(number).ok_or("a number")?;
    // A time stamp in milliseconds may follow.
    if words.next().is_some_and(|stamp| stamp.parse::<i64>().is_err()) || words.next().is_some() {
        return Err("the end of the line after a number and a time stamp");
    }
    Ok(Sample { name, labels, value })
}

/// As Go writes numbers.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust reads words too that no exporter writes.
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => text.parse().ok(),
        _ => None,
    }
}

/// A name from the begin, and what follows; colons are for metrics alone.
fn split_name(text: &str, colons: bool) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if labels.len() == LABELS_MAX {
            return Err("at most 64 labels");
        }
        let (name, after) = split_name(rest, false).ok_or("a label's name or a closing brace")?;
        let after = after.trim_start_matches([' ', '\t']).strip_prefix('=').ok_or("an equals sign")?;
        let after = after.trim_start_matches([' ', '\t']).strip_prefix('"').ok_or("a label's value in quotes")?;
        let (value, after) = quoted(after)?;
        labels.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("a comma or a closing brace"),
        }
    }
}

/// A value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut value = String::new();
    let mut from = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (false, '"') => {
                let last = &text[from..at];
                let value = if from == 0 { Cow::Borrowed(last) } else { Cow::Owned(value + last) };
                return Ok((value, &text[at + 1..]));
            }
            (false, '\\') => {
                value.push_str(&text[from..at]);
                escaped = true;
            }
            (false, _) => {}
            (true, c) => {
                value.push(match c {
                    'n' => '\n',
                    '\\' | '"' => c,
                    _ => return Err("\\\\, \\\" or \\n"),
                });
                (escaped, from) = (false, at + 1);
            }
        }
    }
    Err("a closing quote")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Result<Sample<'_>, &'static str> {
        samples(line).next().expect("a sample").map_err(|error| error.wanted)
    }

    #[test]
    fn the_examples_of_the_format_are_read() {
        let text = "# HELP http_requests_total The total.\n# TYPE http_requests_total counter\n\
                    http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\n\
                    msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"no\\n\\\"file\\\"\"} 1.458255915e9\n\
                    metric_without_timestamp_and_labels 12.47\nsomething_weird{problem=\"division by zero\"} +Inf -3982045\n";
        let all: Vec<Sample<'_>> = samples(text).map(Result::unwrap).collect();
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].label("code"), all[0].value), (Some("200"), 1027.0));
        assert_eq!(all[1].label("path"), Some("C:\\DIR\\FILE.TXT"));
        assert_eq!(all[1].label("error"), Some("no\n\"file\""));
        assert_eq!(all[2].labels, []);
        assert_eq!(all[3].value, f64::INFINITY);
        assert_eq!(one("a{} 1"), one("a 1"));
        assert_eq!(one("a{b=\"c\",} 1").unwrap().label("b"), Some("c"));
        assert!(one("a NaN").unwrap().value.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_told_with_its_line() {
        for (line, wanted) in [
            ("{a=\"b\"} 1", "a name"),
            ("1a 1", "a name"),
            ("a", "a number"),
            ("a one", "a number"),
            ("a inf", "a number"),
            ("a{b} 1", "an equals sign"),
            ("a{b=c} 1", "a label's value in quotes"),
            ("a{b=\"c} 1", "a closing quote"),
            ("a{b=\"\\t\"} 1", "\\\\, \\\" or \\n"),
            ("a{b=\"c\" d=\"e\"} 1", "a comma or a closing brace"),
            ("a{b=\"c\"", "a comma or a closing brace"),
            ("a 1 2 3", "the end of the line after a number and a time stamp"),
        ] {
            assert_eq!(one(line), Err(wanted), "{line}");
        }
        let error = samples("a 1\n\nb x\n").find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), "line 3 of the metrics: a number is wanted");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s)[a-z{}=\",\\\\ \n0-9.#é-]{0,200}") {
            for sample in samples(&text).flatten() {
                prop_assert!(text.contains(sample.name) && sample.labels.len() <= LABELS_MAX);
            }
        }

        #[test]
        fn what_is_written_is_read_again(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,10}",
            labels in proptest::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,5}", "(?s).{0,12}"), 0..5), value in any::<f64>(),
        ) {
            let written: Vec<String> = labels.iter().map(|(name, value)| {
                format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
            }).collect();
            // A line ends at a line feed alone, but readers take a carriage return before it for a part of the end.
            let line = format!("{name}{{{}}} {value:e}", written.join(","));
            prop_assume!(!line.contains('\r') && value.is_finite());
            let sample = one(&line).unwrap();
            prop_assert_eq!((sample.name, sample.value), (name.as_str(), value));
            let read: Vec<(String, String)> =
                sample.labels.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
            prop_assert_eq!(read, labels);
        }
    }
}
