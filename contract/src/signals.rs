//! What a server's metrics tell an autoscaler of its models: read from the text of `/metrics`, by the names of [`crate::metrics`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::capacity::Point;
use crate::exposition::{self, ParseError, Sample};
use crate::metrics as names;

/// Versions that are told apart: more than a server that is scaled has, so that a text cannot fill the reader's memory.
const VERSIONS_MAX: usize = 256;

/// Points of one curve: two to an octave of all sizes.
const POINTS_MAX: usize = 64;

/// The kinds of [`names::REQUESTS`] that say that a request could not be answered in time.
const LATE_KINDS: [&str; 2] = ["overloaded", "deadline_exceeded"];

/// One version of a model. Counters count since the version was loaded, or the server started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Rows that arrived, refused ones included.
    pub arrived: f64,
    /// Requests waiting for a batch.
    pub waiting: f64,
    /// Requests without an answer yet, waiting ones included.
    pub in_flight: f64,
    /// Requests that ended, however.
    pub ended: f64,
    /// Of those, the ones answered after the objective, refused because they would have been, or given up.
    pub bad: f64,
    /// The latency objective; zero where it is not told.
    pub objective: Duration,
    /// Batches that may run at once.
    pub instances: usize,
    /// Threads of one execution; at least 1.
    pub threads: usize,
    /// Seconds of executions, times their threads.
    pub executed: f64,
    /// Seconds of processor time of the whole server, whatever for.
    pub processor: f64,
    /// Processor time that a row takes beside its execution, whichever model's; none where the server does not tell.
    pub overhead: Option<Duration>,
    /// The most rows of a batch.
    pub rows_max: usize,
    /// Work of a typical row.
    pub unit: usize,
    /// Batches executed that the curve was learned from.
    pub executions: u64,
    /// The latency curve, by ascending work.
    pub points: Vec<Point>,
    /// How long the last load took, warm-up included.
    pub load: Duration,
}

/// The signals of every version that `text` tells of, by model and version.
///
/// # Errors
/// The first line that is no sample.
pub fn read(text: &str) -> Result<BTreeMap<(String, String), Signals>, ParseError> {
    let mut all: BTreeMap<(String, String), Gathered> = BTreeMap::new();
    let (mut processor, mut overhead) = (0.0, None);
    for sample in exposition::samples(text) {
        let sample = sample?;
        if sample.name == names::process::CPU_SECONDS && sample.value.is_finite() {
            processor = sample.value.max(0.0);
        }
        if sample.name == names::ROW_OVERHEAD && sample.value.is_finite() {
            overhead = Some(seconds(sample.value));
        }
        let (Some(model), Some(version)) = (sample.label("model"), sample.label("version")) else { continue };
        // Requests for models that there are not.
        if model.is_empty() || !sample.name.starts_with("tensorgate_") || !sample.value.is_finite() {
            continue;
        }
        let key = (model.to_owned(), version.to_owned());
        if all.len() >= VERSIONS_MAX && !all.contains_key(&key) {
            continue;
        }
        all.entry(key).or_default().take(&sample);
    }
    Ok(all.into_iter().map(|(key, gathered)| (key, Signals { overhead, ..gathered.finish(processor) })).collect())
}

#[derive(Default)]
struct Gathered {
    signals: Signals,
    /// Centre and upper quantile by work.
    latency: BTreeMap<usize, (Option<f64>, Option<f64>)>,
}

impl Gathered {
    fn take(&mut self, sample: &Sample<'_>) {
        let (signals, value) = (&mut self.signals, sample.value.max(0.0));
        match sample.name {
            names::ARRIVED_ROWS => signals.arrived = value,
            names::QUEUE_DEPTH => signals.waiting = value,
            names::IN_FLIGHT => signals.in_flight = value,
            names::REQUESTS => {
                signals.ended += value;
                let late = sample.label("kind").is_some_and(|kind| LATE_KINDS.contains(&kind));
                signals.bad += if late { value } else { 0.0 };
            }
            names::LATE => signals.bad += value,
            names::MODEL_OBJECTIVE => signals.objective = seconds(value),
            names::MODEL_INSTANCES => signals.instances = value as usize,
            names::MODEL_THREADS => signals.threads = value as usize,
            name if name.strip_suffix("_sum") == Some(names::EXECUTE_SECONDS) => signals.executed = value,
            names::MODEL_ROWS_MAX => signals.rows_max = value as usize,
            names::MODEL_ROW_WORK => signals.unit = value as usize,
            names::MODEL_EXECUTIONS => signals.executions = value as u64,
            names::LOAD_SECONDS => signals.load = seconds(value),
            names::MODEL_LATENCY => {
                let Some(work) = sample.label("work").and_then(|work| work.parse().ok()) else { return };
                if self.latency.len() >= POINTS_MAX && !self.latency.contains_key(&work) {
                    return;
                }
                let point = self.latency.entry(work).or_default();
                match sample.label("quantile") {
                    Some("0.5") => point.0 = Some(value),
                    Some("0.95") => point.1 = Some(value),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn finish(self, processor: f64) -> Signals {
        let point = |(work, (centre, upper)): (usize, (Option<f64>, Option<f64>))| {
            let centre = centre.filter(|centre| *centre > 0.0)?;
            let upper = upper.unwrap_or(centre).max(centre);
            (work > 0).then(|| Point { work, centre: seconds(centre), upper: seconds(upper) })
        };
        let points = self.latency.into_iter().filter_map(point).collect();
        let threads = self.signals.threads.max(1);
        // Older servers do not tell of threads.
        let executed = self.signals.executed * threads as f64;
        Signals { points, threads, executed, processor, ..self.signals }
    }
}

/// Up to a year: what is more was no time.
fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.0, 31_536_000.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_tells_is_read() {
        let text = "tensorgate_requests_total{kind=\"ok\",model=\"iris\",version=\"1\"} 90\n\
            tensorgate_requests_total{kind=\"overloaded\",model=\"iris\",version=\"1\"} 8\n\
            tensorgate_requests_total{kind=\"invalid_request\",model=\"\",version=\"\"} 3\n\
            tensorgate_late_total{model=\"iris\",version=\"1\"} 2\n\
            tensorgate_arrived_rows_total{model=\"iris\",version=\"1\"} 400\n\
            tensorgate_queue_depth{model=\"iris\",version=\"1\"} 5\n\
            tensorgate_in_flight{model=\"iris\",version=\"1\"} 7\n\
            tensorgate_model_objective_seconds{model=\"iris\",version=\"1\"} 0.1\n\
            tensorgate_model_instances{model=\"iris\",version=\"1\"} 2\n\
            tensorgate_model_rows_max{model=\"iris\",version=\"1\"} 64\n\
            tensorgate_model_row_work{model=\"iris\",version=\"1\"} 1\n\
            tensorgate_model_executions{model=\"iris\",version=\"1\"} 1000\n\
            tensorgate_model_latency_seconds{model=\"iris\",version=\"1\",work=\"16\",quantile=\"0.5\"} 0.02\n\
            tensorgate_model_latency_seconds{model=\"iris\",version=\"1\",work=\"16\",quantile=\"0.95\"} 0.03\n\
            tensorgate_model_latency_seconds{model=\"iris\",version=\"1\",work=\"2\",quantile=\"0.5\"} 0.01\n\
            tensorgate_model_threads{model=\"iris\",version=\"1\"} 4\n\
            tensorgate_execute_seconds_sum{model=\"iris\",version=\"1\"} 2.5\n\
            process_cpu_seconds_total 12.5\n\
            tensorgate_row_overhead_seconds 0.00002\n\
            tensorgate_load_seconds{model=\"iris\",version=\"1\"} 1.5\nother{model=\"iris\",version=\"1\"} 1\n";
        let all = read(text).unwrap();
        assert_eq!(all.len(), 1);
        let signals = &all[&("iris".to_owned(), "1".to_owned())];
        let millis = Duration::from_millis;
        let points = vec![
            Point { work: 2, centre: millis(10), upper: millis(10) },
            Point { work: 16, centre: millis(20), upper: millis(30) },
        ];
        let expected = Signals {
            arrived: 400.0,
            waiting: 5.0,
            in_flight: 7.0,
            ended: 98.0,
            bad: 10.0,
            objective: millis(100),
            instances: 2,
            threads: 4,
            executed: 10.0,
            processor: 12.5,
            overhead: Some(Duration::from_micros(20)),
            rows_max: 64,
            unit: 1,
            executions: 1000,
            points,
            load: millis(1500),
        };
        assert_eq!(*signals, expected);
    }

    proptest! {
        #[test]
        fn any_text_gives_finite_signals_within_bounds(lines in proptest::collection::vec(
            ("tensorgate_(late_total|model_latency_seconds|requests_total|model_rows_max)", "[a-c]", "[0-9]{1,25}|x", "-?[0-9]{1,30}|NaN|\\+Inf"), 0..40,
        )) {
            let text: String = lines.iter().map(|(name, model, work, value)| {
                format!("{name}{{model=\"{model}\",version=\"1\",work=\"{work}\",quantile=\"0.5\",kind=\"ok\"}} {value}\n")
            }).collect();
            for signals in read(&text).unwrap().values() {
                prop_assert!(signals.bad.is_finite() && signals.bad >= 0.0 && signals.points.len() <= POINTS_MAX);
                prop_assert!(signals.points.is_sorted_by_key(|point| point.work));
            }
        }
    }
}
