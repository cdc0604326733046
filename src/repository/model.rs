//! A version of a model that is loaded, warmed up and ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::infer::{Labels, Parameters, ValidRequest};
use crate::model::{ModelName, ModelSettings, Signature, Version};
use crate::scheduler::{Batching, Executed, Priority, Scheduler, SchedulerConfig};
use crate::telemetry::ModelMetrics;

/// A ready version. Whoever holds it may submit to it, also after it was taken out of service: it goes when the last
/// holder lets go, so that no request that found it is lost.
pub struct Model {
    pub(super) name: ModelName,
    pub(super) version: Version,
    pub(super) signature: Signature,
    /// By position of the outputs.
    pub(super) labels: Vec<Labels>,
    pub(super) runtime: &'static str,
    pub(super) platform: &'static str,
    pub(super) request_rows_max: Option<usize>,
    pub(super) settings: ModelSettings,
    pub(super) instances: usize,
    pub(super) scheduling: SchedulerConfig,
    pub(super) batching: Batching,
    pub(super) scheduler: Scheduler,
    pub(super) metrics: Arc<ModelMetrics>,
}

impl Model {
    /// Its name.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The names of the classes of the output at `position`; none where the settings name no file of them.
    ///
    /// # Panics
    /// Where the signature has no such output.
    pub fn labels(&self, position: usize) -> &Labels {
        &self.labels[position]
    }

    /// The runtime that executes it: "onnx".
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    /// The platform, in the words of V2 metadata: "onnxruntime_onnx".
    pub fn platform(&self) -> &'static str {
        self.platform
    }

    /// Rows that requests joined into one batch may have together; 1 where requests are not joined.
    pub fn rows_max(&self) -> usize {
        self.scheduling.limits.rows_max
    }

    /// How long a batch that is not full may wait for company.
    pub fn max_queue_delay(&self) -> Duration {
        self.scheduling.limits.delay
    }

    /// Requests that may wait.
    pub fn queue_max(&self) -> usize {
        self.scheduling.queue_max
    }

    /// How long a request that brings no deadline may wait, where that is bounded.
    pub fn queue_timeout(&self) -> Option<Duration> {
        self.scheduling.queue_timeout
    }

    /// Executable copies.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// What a person pinned about it.
    pub fn settings(&self) -> &ModelSettings {
        &self.settings
    }

    /// The most rows that a single request may have: the settings' `max_batch_size`, where they state one.
    pub fn request_rows_max(&self) -> Option<usize> {
        self.request_rows_max
    }

    /// Whether requests are joined, and why not.
    pub fn batching(&self) -> &Batching {
        &self.batching
    }

    /// Handles to its metrics.
    pub fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// Whether a request that has arrived could be answered before `deadline`, or else within the objective; a refusal is
    /// counted.
    ///
    /// # Errors
    /// Those of [`Scheduler::admit`].
    pub fn admit(&self, deadline: Option<Instant>) -> Result<()> {
        self.scheduler.admit(1, deadline).map_err(|error| {
            self.metrics.start_request().finish(Some(error.kind()));
            error.within(format_args!("model '{}'", self.name))
        })
    }

    /// Runs a request that fits [`Model::signature`].
    ///
    /// # Errors
    /// Those of [`Scheduler::submit`].
    pub async fn submit(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
    ) -> Result<Executed> {
        self.scheduler.submit(request, parameters, deadline, Priority::NORMAL).await
    }
}
