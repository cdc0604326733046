//! A version once more, on one thread, for requests that only fill what is left over.
//!
//! Threads that an engine has of its own are those of all executions: none can give way alone. Where a version is executed with such,
//! what only fills is executed by its twin, on an idle thread, and gets on wherever a core has time to spare. It is loaded, in the same
//! way, when the first such request comes, and takes the memory of the version again, where models leave so much: nothing leaves for it.
//! Until it is there, and where it cannot be, these requests take cores as all others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::SetOnce;
use tokio::task::spawn_blocking;

use crate::error::Result;
use crate::model::{ModelName, Version};
use crate::runtime::{Instance, LoadedModel, unhurried};
use crate::scheduler::{Curve, Scheduler, SchedulerConfig};
use crate::telemetry::ModelMetrics;

/// Loads it. Blocking.
pub(super) type Source = Box<dyn Fn() -> Result<(Arc<dyn LoadedModel>, Box<dyn Instance>)> + Send + Sync>;

/// Bytes of memory that models leave, as far as it is known: twins take of these alone.
pub(super) struct Spare(AtomicU64);

impl Default for Spare {
    /// All that there is.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Spare {
    /// Tells how much it is now.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Takes `bytes` of it, if it is so much.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let less = |spare: u64| spare.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// The twin of a version, which need not be there yet.
pub(super) struct Twin(Arc<State>);

struct State {
    source: Source,
    begun: AtomicBool,
    /// None where it cannot be loaded.
    scheduler: SetOnce<Option<Scheduler>>,
}

impl Twin {
    /// One that `source` loads once somebody asks for it.
    pub(super) fn new(source: Source) -> Self {
        Self(Arc::new(State { source, begun: AtomicBool::new(false), scheduler: SetOnce::new() }))
    }

    /// What it is asked by, where it is loaded.
    pub(super) fn scheduler(&self) -> Option<&Scheduler> {
        self.0.scheduler.get()?.as_ref()
    }

    /// Waits until it is loaded, or cannot be. It has to be begun.
    pub(super) async fn made(&self) {
        self.0.scheduler.wait().await;
    }

    /// Has it loaded, the first time; it is scheduled as `config` says of the version, and counted by `metrics`.
    pub(super) fn begin(&self, name: &ModelName, version: Version, config: &SchedulerConfig, metrics: &ModelMetrics) {
        if self.0.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let config = SchedulerConfig { threads: 1, ..config.clone() };
        let (state, metrics, name) = (Arc::clone(&self.0), Arc::new(metrics.of_twin()), name.clone());
        tokio::spawn(async move {
            let loading = Arc::clone(&state);
            let scheduler = match spawn_blocking(move || unhurried(|| (loading.source)())).await {
                Ok(Ok((model, instance))) => {
                    tracing::info!(model = %name, %version, "loaded once more on one thread, for what only fills what is left over");
                    let (curve, instances) = (Curve::default(), vec![instance]);
                    Some(Scheduler::start(model, instances, curve, config, None, metrics).0)
                }
                Ok(Err(error)) => {
                    tracing::warn!(model = %name, %version, "requests of low priority take cores as others do: {error}");
                    None
                }
                // In the log.
                Err(_panic) => None,
            };
            // Nobody else sets it.
            let _ = state.scheduler.set(scheduler);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use smallvec::smallvec;

    use super::*;
    use crate::error::Error;
    use crate::infer::{Parameters, ValidRequest};
    use crate::model::{Dim, Signature, TensorSpec};
    use crate::runtime::{Artifact, IdentityRuntime, Runtime};
    use crate::scheduler::Priority;
    use crate::telemetry::Telemetry;
    use crate::tensor::{DataType, Shape, Tensor};

    fn identity() -> Result<(Arc<dyn LoadedModel>, Box<dyn Instance>)> {
        let spec = |name| TensorSpec::new(name, DataType::Int64, [Dim::Dynamic(None)]);
        let declared = Signature { inputs: vec![spec("in")], outputs: vec![spec("out")] };
        let model = IdentityRuntime::new().load(&Artifact { declared, ..Artifact::new("") })?;
        let instance = model.instance()?;
        Ok((model, instance))
    }

    /// A twin that is loaded by `load`, how often that was, and how it is begun.
    fn twin(
        load: impl Fn() -> Result<(Arc<dyn LoadedModel>, Box<dyn Instance>)> + Send + Sync + 'static,
    ) -> (Arc<Twin>, Arc<AtomicUsize>, impl Fn()) {
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let source = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            load()
        };
        let twin = Arc::new(Twin::new(Box::new(source)));
        let (begun, metrics) = (Arc::clone(&twin), Telemetry::new().model("model", "1"));
        let config = SchedulerConfig { threads: 2, ..SchedulerConfig::default() };
        let name = ModelName::new("model");
        let begin = move || begun.begin(&name, Version::parse("1").unwrap(), &config, &metrics);
        (twin, loads, begin)
    }

    #[tokio::test]
    async fn a_twin_is_loaded_once_when_it_is_first_asked_for_and_answers() {
        let (twin, loads, begin) = twin(identity);
        assert!(twin.scheduler().is_none());
        assert_eq!(loads.load(Ordering::SeqCst), 0);
        (0..3).for_each(|_| begin());
        twin.made().await;
        let tensor = Tensor::from_elements(Shape::from([1]), &[7_i64]).unwrap();
        let request =
            ValidRequest { inputs: smallvec![Some(tensor.clone())], outputs: smallvec![0], rows: 1, rows_agree: true };
        let answer = twin.scheduler().unwrap().submit(request, Parameters::new(), None, Priority::LOW).await.unwrap();
        assert_eq!(answer.outputs[0].data(), tensor.data());
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn no_more_is_taken_than_is_left() {
        let spare = Spare::default();
        spare.set(10);
        assert!(spare.take(6) && !spare.take(6) && spare.take(4) && !spare.take(1));
        spare.set(10);
        assert!(spare.take(10));
    }

    #[tokio::test]
    async fn a_twin_that_cannot_be_loaded_is_not_tried_again() {
        let (twin, loads, begin) = twin(|| Err(Error::unavailable("it was changed")));
        begin();
        twin.made().await;
        begin();
        assert!(twin.scheduler().is_none());
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }
}
