//! A version of a model that is loaded, warmed up and ready.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::curves::CurveFile;
use super::loader::Precedent;
use super::sha256::Identity;
use super::twin::Twin;
use crate::error::{Error, Result};
use crate::infer::{Labels, ParameterValue, Parameters, ValidRequest};
use crate::model::{Device, ModelName, ModelSettings, Signature, TensorSpec, Version};
use crate::runtime::put_away;
use crate::scheduler::curve::Point;
use crate::scheduler::{Batching, Executed, Priority, Scheduler, SchedulerConfig, capacity_of};
use crate::storage::Digest;
use crate::telemetry::{Known, KnownPoint, ModelMetrics};
use crate::text::TextFace;

/// One load of a version, for whoever keeps something that goes with it.
pub struct Life {
    number: u64,
    /// Tells by its end that nobody holds the load any more.
    held: watch::Sender<()>,
}

impl Default for Life {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Only to be different.
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), held: watch::Sender::new(()) }
    }
}

impl Life {
    /// A number that no other load in this process has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Ends when nobody holds the load any more.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut held = self.held.subscribe();
        async move { while held.changed().await.is_ok() {} }
    }
}

/// A ready version. Whoever holds it may submit to it, also after it was taken out of service: it goes when the last
/// holder lets go, so that no request that found it is lost.
pub struct Model {
    pub(super) name: ModelName,
    pub(super) version: Version,
    pub(super) signature: Signature,
    /// By position of the outputs.
    pub(super) labels: Vec<Labels>,
    /// What it takes texts with, where it does.
    pub(super) text: Option<TextFace>,
    pub(super) runtime: &'static str,
    pub(super) platform: &'static str,
    pub(super) device: Device,
    pub(super) request_rows_max: Option<usize>,
    pub(super) settings: ModelSettings,
    pub(super) instances: usize,
    pub(super) scheduling: SchedulerConfig,
    pub(super) precedent: Arc<Precedent>,
    pub(super) life: Arc<Life>,
    /// Where it is in memory.
    pub(super) scheduler: Option<Scheduler>,
    /// Where it is in memory, and executed with threads of the engine's own.
    pub(super) twin: Option<Twin>,
    pub(super) metrics: Arc<ModelMetrics>,
    /// None where it has no file.
    pub(super) identity: Option<Identity>,
    pub(super) curve_file: Option<Arc<CurveFile>>,
}

impl Model {
    /// Whether it is in memory, and so takes requests.
    pub fn is_in_memory(&self) -> bool {
        self.scheduler.is_some()
    }

    /// What is told of it while it is not in memory.
    pub(super) fn paged_out(&self) -> Self {
        Self {
            name: self.name.clone(),
            signature: self.signature.clone(),
            labels: self.labels.clone(),
            text: self.text.as_ref().map(TextFace::paged_out),
            settings: self.settings.clone(),
            scheduling: self.scheduling.clone(),
            precedent: Arc::clone(&self.precedent),
            scheduler: None,
            twin: None,
            metrics: Arc::clone(&self.metrics),
            life: Arc::clone(&self.life),
            identity: self.identity.clone(),
            curve_file: None,
            ..*self
        }
    }

    /// Which load of the version it is. One that leaves memory and comes back as it was is the same.
    pub fn life(&self) -> &Life {
        &self.life
    }

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

    /// What it takes texts with: its other face, where a tokenizer lies beside it.
    pub fn text(&self) -> Option<&TextFace> {
        self.text.as_ref()
    }

    /// The inputs of both faces, as metadata tell them.
    pub fn inputs_told(&self) -> impl Iterator<Item = &TensorSpec> {
        let texts = self.text.iter().flat_map(|face| face.form().inputs_told());
        self.signature.inputs.iter().chain(texts)
    }

    /// The outputs of both faces, as metadata tell them; what both have stands there once.
    pub fn outputs_told(&self) -> impl Iterator<Item = &TensorSpec> {
        let texts = self.text.iter().flat_map(|face| &face.form().signature().outputs);
        self.signature.outputs.iter().chain(texts.filter(|spec| self.signature.output(&spec.name).is_none()))
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

    /// Where its executions run.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Rows that requests joined into one batch may have together; 1 where requests are not joined.
    pub fn rows_max(&self) -> usize {
        self.scheduling.limits.rows_max
    }

    /// How long a batch that is not full may wait for company.
    pub fn max_queue_delay(&self) -> Duration {
        self.scheduling.limits.delay
    }

    /// The latency objective.
    pub fn objective(&self) -> Duration {
        self.scheduling.limits.objective
    }

    /// Whether its batches of the lowest priority leave the cores to others of themselves: see [`SchedulerConfig::gives_way`].
    pub fn gives_way(&self) -> bool {
        !self.device.is_gpu() && (self.scheduling.gives_way() || self.has_twin())
    }

    /// Waits until batches of the lowest priority leave the cores to others of themselves, where they are ever going to.
    pub async fn will_give_way(&self) {
        if let Some(twin) = &self.twin {
            self.filler();
            twin.made().await;
        }
    }

    /// Whether it is in memory twice.
    pub(super) fn has_twin(&self) -> bool {
        self.twin.as_ref().is_some_and(|twin| twin.scheduler().is_some())
    }

    /// What requests are asked by that only fill what is left over, where that is another scheduler; the first of them has it made.
    fn filler(&self) -> Option<&Scheduler> {
        let twin = self.twin.as_ref()?;
        twin.begin(&self.name, self.version, &self.scheduling, &self.metrics);
        twin.scheduler()
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
        &self.precedent.warm_up.batching
    }

    /// Handles to its metrics.
    pub fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// What metadata tells beyond the signature: the SHA-256 of its artifact, once it is known, and the GPU that it is on.
    pub fn properties(&self) -> impl Iterator<Item = (String, String)> {
        let gpu = self.device.is_gpu().then(|| ("device".to_owned(), self.device.to_string()));
        let sha256 = self.identity.as_ref().and_then(Identity::sha256);
        sha256.map(|sha256| ("digest".to_owned(), format!("sha256:{sha256}"))).into_iter().chain(gpu)
    }

    /// By which its artifact is told apart from others; none where it has no file.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.identity.as_ref().map(|identity| identity.digest)
    }

    /// Writes down what the scheduler has learned, where that is kept and has changed.
    pub(super) async fn keep_curve(&self) {
        let Some(file) = self.curve_file.clone() else { return };
        let Some(scheduler) = &self.scheduler else { return };
        let Some(learned) = scheduler.learned().await else { return };
        put_away(move || file.save(&learned.curve)).await;
    }

    /// What the scheduler has learned up to now, and what follows from it.
    pub async fn known(&self) -> Known {
        let learned = match &self.scheduler {
            Some(scheduler) => scheduler.learned().await,
            None => None,
        };
        let learned = learned.unwrap_or_default();
        let (curve, limits) = (&learned.curve, &self.scheduling.limits);
        let beside = self.metrics.row_overhead().unwrap_or_default() / self.scheduling.threads.max(1) as u32;
        let capacity = capacity_of(curve, limits, learned.unit, self.instances, 1.0, beside);
        let point = |point: Point| {
            let Point { work, centre, upper, seen } = point;
            KnownPoint { work, centre, upper, seen }
        };
        Known {
            model: self.name.to_string(),
            version: self.version.to_string(),
            objective: limits.objective,
            capacity: capacity.rows_per_second,
            batch: capacity.batch,
            arrivals: learned.rows_per_second,
            offered_and_late: self.metrics.statistics.offered_and_late(),
            instances: self.instances,
            threads: self.scheduling.threads,
            rows_max: limits.rows_max,
            unit: learned.unit.max(1),
            latency: curve.points().map(point).collect(),
        }
    }

    /// Whether a request that has arrived could be answered before `deadline`, or else within the objective; a refusal is
    /// counted.
    ///
    /// # Errors
    /// Those of [`Scheduler::admit`].
    pub fn admit(&self, deadline: Option<Instant>) -> Result<()> {
        // One that is brought in first has nobody waiting.
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        scheduler.admit(1, deadline).map_err(|error| {
            self.metrics.start_request().finish(Some(error.kind()));
            error.within(format_args!("model '{}'", self.name))
        })
    }

    /// Runs a request that fits [`Model::signature`]. The parameter `priority` is acted on here.
    ///
    /// # Errors
    /// Those of [`Scheduler::submit`]; `InvalidRequest` for a priority that the model does not have; `ModelUnavailable` where
    /// it is not in memory.
    pub fn submit(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Executed>> + Send {
        let whole = request.rows;
        self.submit_part(request, parameters, deadline, whole)
    }

    /// The same for a part of what is one request of `whole` rows to its caller: see [`Scheduler::submit_part`].
    ///
    /// # Errors
    /// Those of [`Model::submit`].
    pub fn submit_part(
        &self,
        request: ValidRequest,
        mut parameters: Parameters,
        deadline: Option<Instant>,
        whole: usize,
    ) -> impl Future<Output = Result<Executed>> + Send {
        // Taken out, so that requests which differ in nothing else may share a batch.
        let asked = parameters.remove(PRIORITY);
        let scheduler = self.scheduler.as_ref().ok_or_else(|| Error::unavailable("it is not in memory"));
        let queued = scheduler.and_then(|scheduler| {
            let priority = priority(&self.settings, asked.as_ref())?;
            let filler = if priority.is_filler() { self.filler() } else { None };
            Ok(filler.unwrap_or(scheduler).submit_part(request, parameters, deadline, priority, whole))
        });
        // Without the request, which is in the queue by now.
        async move { queued?.await }
    }
}

/// The request parameter that says how important a request is (Triton's schedule policy extension).
const PRIORITY: &str = "priority";

/// Its value for work that only fills what is left over; ours.
const LOW: &str = "low";

/// The class of a request that asks for the priority `asked`: one of the model's levels, 0 for their default, or "low". A
/// model that has no levels takes every number for its default, as Triton does.
fn priority(settings: &ModelSettings, asked: Option<&ParameterValue>) -> Result<Priority> {
    let usual = settings.priority_default().map_or(Priority::NORMAL, Priority::level);
    let level = match asked {
        None => return Ok(usual),
        Some(ParameterValue::String(text)) if text == LOW => return Ok(Priority::LOW),
        Some(ParameterValue::Int64(level)) => u64::try_from(*level).ok(),
        Some(ParameterValue::Uint64(level)) => Some(*level),
        Some(ParameterValue::String(text)) => text.parse().ok(),
        Some(ParameterValue::Bool(_) | ParameterValue::Double(_)) => None,
    };
    match (level, settings.priority_levels) {
        (Some(0), _) | (Some(_), None) => return Ok(usual),
        (Some(level), Some(levels)) if level <= levels.get().into() => {
            return Ok(Priority::level(u16::try_from(level).unwrap_or(u16::MAX)));
        }
        _ => {}
    }
    let shown = match asked {
        Some(ParameterValue::String(text)) => format!("'{}'", text.chars().take(40).collect::<String>()),
        Some(ParameterValue::Int64(number)) => number.to_string(),
        Some(ParameterValue::Uint64(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let range = match settings.priority_levels {
        Some(levels) => format!("1 (first) to {levels} (last), 0 for the default"),
        None => "0, since the model has no priority_levels".into(),
    };
    Err(Error::invalid(format!("parameter '{PRIORITY}' is {shown}, expected {range}, or \"{LOW}\"")))
}

#[cfg(test)]
mod tests;
