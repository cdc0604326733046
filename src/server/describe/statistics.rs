//! The statistics extension.

use std::time::SystemTime;

use crate::protocol::proto::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};
use crate::repository::Model;
use crate::telemetry::{BatchSize, Counted};

/// What `model` has done since it was loaded. There is no response cache, so nothing hit or missed it.
pub(in super::super) fn statistics(model: &Model) -> ModelStatistics {
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
            cache_hit: duration(Counted::default()),
            cache_miss: duration(Counted::default()),
        }),
        batch_stats: summary.sizes.iter().map(size).collect(),
        memory_usage: Vec::new(),
        response_stats: Default::default(),
    }
}

fn duration(counted: Counted) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: counted.count, ns: counted.ns })
}

/// Milliseconds since 1970: the wire wants the time of day; nothing is decided by it.
fn now_milliseconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}
