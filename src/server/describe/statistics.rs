//! The statistics extension, and beside it what the scheduler has learned.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;

use crate::protocol::proto::{
    InferBatchStatistics, InferStatistics, LatencyPoint, LearnedStatistics, ModelStatistics, StatisticDuration,
};
use crate::repository::Model;
use crate::telemetry::{BatchSize, Counted, Known, KnownPoint};

/// What `models` have done since they were loaded, and learned.
pub(in super::super) async fn statistics(models: &[Arc<Model>]) -> Vec<ModelStatistics> {
    join_all(models.iter().map(|model| async move { of_model(model, model.known().await) })).await
}

fn of_model(model: &Model, known: Known) -> ModelStatistics {
    let summary = model.metrics().statistics.summary();
    let size = |size: &BatchSize| InferBatchStatistics {
        batch_size: size.rows,
        compute_input: duration(size.input),
        compute_infer: duration(size.infer),
        compute_output: duration(size.output),
    };
    ModelStatistics {
        name: model.name().to_string(),
        version: model.version().to_string(),
        last_inference: summary
            .last_inference
            .map_or(0, |ago| now_milliseconds().saturating_sub(ago.as_millis() as u64)),
        inference_count: summary.rows,
        execution_count: summary.executions,
        inference_stats: Some(InferStatistics {
            success: duration(summary.success),
            fail: duration(summary.fail),
            queue: duration(summary.queue),
            compute_input: duration(summary.input),
            compute_infer: duration(summary.infer),
            compute_output: duration(summary.output),
            cache_hit: duration(summary.cache_hit),
            cache_miss: duration(summary.cache_miss),
        }),
        batch_stats: summary.sizes.iter().map(size).collect(),
        memory_usage: Vec::new(),
        response_stats: Default::default(),
        learned: Some(learned(&known)),
    }
}

fn learned(known: &Known) -> LearnedStatistics {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let point = |point: &KnownPoint| LatencyPoint {
        work: point.work as u64,
        centre_ns: nanoseconds(point.centre),
        upper_ns: nanoseconds(point.upper),
        count: point.seen.into(),
    };
    LearnedStatistics {
        objective_ns: nanoseconds(known.objective),
        capacity_rows_per_second: known.capacity,
        batch_rows: known.batch as u64,
        arrivals_rows_per_second: known.arrivals,
        latency: known.latency.iter().map(point).collect(),
    }
}

fn duration(counted: Counted) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: counted.count, ns: counted.ns })
}

/// Milliseconds since 1970: the wire wants the time of day; nothing is decided by it.
fn now_milliseconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}
