//! Triton's names for what our metrics say, so that its dashboards, alerts and autoscalers work unmodified.
//!
//! Worked out from our own families when somebody asks: a request pays nothing for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::proto::{Metric, MetricFamily};

use super::text::Text;
use super::{Counted, Statistics, Summary};
use crate::contract::metrics::{self as names, triton};

/// Triton's reasons by the kinds of ours: "REJECTED" is what the queue turned away.
const REASONS: [(&str, &[&str]); 3] = [
    ("REJECTED", &["overloaded", "deadline_exceeded"]),
    ("CANCELED", &["cancelled"]),
    ("BACKEND", &["execution", "internal"]),
];
/// Everything else.
const OTHER: &str = "OTHER";

const US_PER_SECOND: f64 = 1e6;

/// The families of ours, as gathered, under Triton's names.
pub(super) fn write(families: &[MetricFamily], text: &mut Text) {
    outcomes(families, text);
    let sum = |metric: &Metric| metric.get_histogram().get_sample_sum();
    let micros = |metric: &Metric| (metric.get_histogram().get_sample_sum() * US_PER_SECOND).round();
    let count = |metric: &Metric| metric.get_histogram().get_sample_count() as f64;
    let gauge = |metric: &Metric| metric.get_gauge().get_value();
    let mut renamed = |of: &str, name: &str, kind: &str, help: &str, value: &dyn Fn(&Metric) -> f64| {
        text.family(name, kind, help);
        for metric in metrics(families, of) {
            let labels = [("model", label(metric, "model")), ("version", label(metric, "version"))];
            text.sample(name, &labels, value(metric));
        }
    };
    renamed(names::BATCH_ROWS, triton::COUNT, "counter", "Rows executed", &sum);
    renamed(names::BATCH_ROWS, triton::EXEC_COUNT, "counter", "Batches executed", &count);
    let help = "Cumulative time from arrival to answer, in microseconds";
    renamed(names::REQUEST_SECONDS, triton::REQUEST_US, "counter", help, &micros);
    let help = "Cumulative wait for a batch, in microseconds";
    renamed(names::QUEUE_SECONDS, triton::QUEUE_US, "counter", help, &micros);
    renamed(names::QUEUE_DEPTH, triton::PENDING, "gauge", "Requests waiting for a batch", &gauge);
    renamed(names::LOAD_SECONDS, triton::LOAD_SECONDS, "gauge", "Duration of the last load, in seconds", &gauge);
}

/// Times that every request of a batch is charged with the whole batch's, as the statistics extension has them.
pub(super) fn write_computing(versions: &BTreeMap<(String, String), Arc<Statistics>>, text: &mut Text) {
    type Part = fn(&Summary) -> Counted;
    let parts: [(&str, &str, Part); 3] = [
        (triton::COMPUTE_INPUT_US, "Cumulative time of joining inputs, in microseconds", |summary| summary.input),
        (triton::COMPUTE_INFER_US, "Cumulative time of executions, in microseconds", |summary| summary.infer),
        (triton::COMPUTE_OUTPUT_US, "Cumulative time of splitting outputs, in microseconds", |summary| summary.output),
    ];
    for (name, help, part) in parts {
        text.family(name, "counter", help);
        for ((model, version), statistics) in versions {
            let micros = part(&statistics.summary()).ns / 1000;
            text.sample(name, &[("model", model), ("version", version)], micros);
        }
    }
}

/// Kept answers of versions that keep some.
pub(super) fn write_cache(versions: &BTreeMap<(String, String), Arc<Statistics>>, text: &mut Text) {
    let counted = |(version, statistics): (&(String, String), &Arc<Statistics>)| {
        let summary = statistics.summary();
        (version.clone(), summary.cache_hit, summary.cache_miss)
    };
    let keeps = |(_, hits, misses): &((String, String), Counted, Counted)| hits.count + misses.count > 0;
    let counted: Vec<_> = versions.iter().map(counted).filter(keeps).collect();
    if counted.is_empty() {
        return;
    }
    type Value = fn(Counted, Counted) -> u64;
    let families: [(&str, &str, Value); 6] = [
        (names::CACHE_HITS, "Requests answered with a kept answer", |hits, _| hits.count),
        (names::CACHE_MISSES, "Requests whose answer was not kept yet", |_, misses| misses.count),
        (triton::CACHE_HITS, "Requests answered with a kept answer", |hits, _| hits.count),
        (triton::CACHE_MISSES, "Requests whose answer was not kept yet", |_, misses| misses.count),
        (triton::CACHE_HIT_US, "Cumulative time of cache hits, in microseconds", |hits, _| hits.ns / 1000),
        (triton::CACHE_MISS_US, "Cumulative time of cache misses, in microseconds", |_, misses| misses.ns / 1000),
    ];
    for (name, help, value) in families {
        text.family(name, "counter", help);
        for ((model, version), hits, misses) in &counted {
            text.sample(name, &[("model", model), ("version", version)], value(*hits, *misses));
        }
    }
}

/// Successes, and failures by reason.
fn outcomes(families: &[MetricFamily], text: &mut Text) {
    let mut versions: BTreeMap<(&str, &str), BTreeMap<&str, f64>> = BTreeMap::new();
    for metric in metrics(families, names::REQUESTS) {
        let kind = label(metric, "kind");
        let reason = match REASONS.iter().find(|(_, kinds)| kinds.contains(&kind)) {
            _ if kind == "ok" => "",
            Some((reason, _)) => reason,
            None => OTHER,
        };
        let version = (label(metric, "model"), label(metric, "version"));
        *versions.entry(version).or_default().entry(reason).or_default() += metric.get_counter().get_value();
    }
    text.family(triton::SUCCESS, "counter", "Requests answered");
    for ((model, version), counts) in &versions {
        if let Some(count) = counts.get("") {
            text.sample(triton::SUCCESS, &[("model", model), ("version", version)], count);
        }
    }
    text.family(triton::FAILURE, "counter", "Requests failed");
    for ((model, version), counts) in &versions {
        for (reason, count) in counts.iter().filter(|(reason, _)| !reason.is_empty()) {
            text.sample(triton::FAILURE, &[("model", model), ("reason", reason), ("version", version)], count);
        }
    }
}

fn metrics<'a>(families: &'a [MetricFamily], name: &str) -> impl Iterator<Item = &'a Metric> {
    let family = families.iter().find(|family| family.name() == name);
    family.into_iter().flat_map(|family| family.get_metric())
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|label| label.name() == name).map_or("", |label| label.value())
}
