//! From files to something that runs: choose a runtime, load, check against the settings, warm up, choose threads.
//!
//! Blocking, and free of any state: the lifecycle runs it on a thread of its own.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::labels;
use super::layout::{ModelListing, VersionFiles};
use super::policy::Fingerprint;
use crate::error::{Error, Result};
use crate::infer::Labels;
use crate::model::settings::{ModelSettings, TensorDeclaration};
use crate::model::{RuntimeChoice, Signature, TensorSpec};
use crate::runtime::{Artifact, IdentityRuntime, Instance, LoadedModel, OnnxRuntime, Runtime, TractRuntime};
use crate::scheduler::{BatchLimits, Batching, Padded, SchedulerConfig, WarmUp, warm_up};

/// A model whose single row takes longer than this on one thread is tried on all of them: its latency counts for more than
/// the throughput that one thread an instance gives. A tenth of the default objective.
const WIDE_FROM: Duration = Duration::from_millis(10);

/// How much quicker all threads must make it to be worth having.
const WIDE_GAIN: f64 = 1.3;

/// The engines of this process.
pub struct Runtimes {
    library: Option<PathBuf>,
    /// Opened by the first ONNX model: a server without one does not carry the library's memory.
    onnx: OnceLock<Option<OnnxRuntime>>,
    tract: TractRuntime,
    identity: IdentityRuntime,
}

impl Runtimes {
    /// All engines, with ONNX Runtime from `library`. Without one, or where it cannot be opened, ONNX models run on tract.
    pub fn new(library: Option<PathBuf>) -> Self {
        let (tract, identity) = (TractRuntime::new(), IdentityRuntime::new());
        Self { library, onnx: OnceLock::new(), tract, identity }
    }

    fn onnx(&self) -> Option<&OnnxRuntime> {
        let open = || match self.library.as_deref().map(OnnxRuntime::open)? {
            Ok(runtime) => Some(runtime),
            Err(error) => {
                tracing::warn!("{error}: ONNX models run on tract");
                None
            }
        };
        self.onnx.get_or_init(open).as_ref()
    }

    fn choose(&self, choice: RuntimeChoice) -> Result<&dyn Runtime> {
        match choice {
            RuntimeChoice::Identity => Ok(&self.identity),
            RuntimeChoice::Tract => Ok(&self.tract),
            RuntimeChoice::Auto => Ok(self.onnx().map_or(&self.tract as &dyn Runtime, |onnx| onnx)),
            RuntimeChoice::Onnx => match self.onnx() {
                Some(onnx) => Ok(onnx),
                None => Err(Error::unavailable(
                    "runtime 'onnx' needs a libonnxruntime.so, and none could be opened: set ORT_DYLIB_PATH, or use runtime = \"tract\"",
                )),
            },
        }
    }
}

/// A version that runs, not yet in service.
pub(super) struct Loaded {
    pub(super) model: Arc<dyn LoadedModel>,
    pub(super) instances: Vec<Box<dyn Instance>>,
    pub(super) warm_up: WarmUp,
    /// By position of the outputs.
    pub(super) labels: Vec<Labels>,
    pub(super) runtime: &'static str,
    pub(super) platform: &'static str,
    pub(super) scheduler: SchedulerConfig,
    /// Whether its batches take their cores from those of all models: instances pinned by hand run whenever they can.
    pub(super) shares_cores: bool,
    /// The settings' `max_batch_size`, where rows can be joined at all: Triton refuses larger requests.
    pub(super) request_rows_max: Option<usize>,
    pub(super) settings: ModelSettings,
}

/// Identifies files and settings of a version.
pub(super) fn fingerprint(listing: &ModelListing, files: &VersionFiles) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    files.path.hash(&mut hasher);
    files.bytes.hash(&mut hasher);
    files.modified.hash(&mut hasher);
    // The settings are plain data, and their debug form shows all of them.
    format!("{:?}", listing.settings).hash(&mut hasher);
    labels::fingerprint(listing, &mut hasher);
    hasher.finish()
}

/// Loads and warms up one version, with at most `cores` cores; `objective` is for settings that state none.
///
/// # Errors
/// [`crate::error::Kind::ModelUnavailable`] with the reason, naming the file.
pub(super) fn load(
    runtimes: &Runtimes,
    listing: &ModelListing,
    files: &VersionFiles,
    cores: usize,
    objective: Option<Duration>,
) -> Result<Loaded> {
    if let Some(fault) = &files.fault {
        return Err(Error::unavailable(fault.clone()));
    }
    let settings = &listing.settings;
    // Before the model: a file that is missing is told at once.
    let labels = labels::read(listing)?;
    let runtime = runtimes.choose(settings.runtime)?;
    let narrow = settings.threads.map_or(1, NonZeroUsize::get);
    let mut attempt = match narrow {
        1 => unhurried(|| Attempt::run(runtime, settings, files, narrow))?,
        _ => Attempt::run(runtime, settings, files, narrow)?,
    };
    let alone = attempt.warm_up.curve.centre(1);
    let (mut instances, mut threads) = (cores, narrow);
    if settings.threads.is_none() && cores > 1 && alone > WIDE_FROM {
        let wide = Attempt::run(runtime, settings, files, cores)?;
        if wide.warm_up.curve.centre(1).mul_f64(WIDE_GAIN) < alone {
            (attempt, instances, threads) = (wide, 1, cores);
        }
    } else if narrow > 1 {
        instances = cores.div_ceil(narrow);
    }
    let instances = settings.instances.map_or(instances, NonZeroUsize::get);
    let mut made = vec![attempt.instance];
    while made.len() < instances {
        made.push(attempt.model.instance()?);
    }
    let batches = attempt.warm_up.batching == Batching::Verified;
    let request_rows_max = settings.max_batch_rows.filter(|&rows| batches && rows > 1);
    let scheduler = scheduler_config(settings, &attempt.warm_up, cores, objective);
    let scheduler = SchedulerConfig { threads, ..scheduler };
    let outputs = &attempt.model.signature().outputs;
    let labels = outputs.iter().map(|spec| labels.get(&*spec.name).cloned().unwrap_or_default()).collect();
    Ok(Loaded {
        labels,
        model: attempt.model,
        instances: made,
        warm_up: attempt.warm_up,
        runtime: runtime.name(),
        platform: runtime.platform(),
        scheduler,
        shares_cores: settings.instances.is_none() && settings.threads.is_none(),
        request_rows_max,
        settings: settings.clone(),
    })
}

/// Does `work` on a thread that gives way to whatever else wants a core, so that a load is hardly noticed by models that
/// serve. Not for sessions with threads of their own, which would inherit that for good.
fn unhurried<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let unhurried = || {
        // Where it cannot be had, the load is merely more noticeable.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
        work()
    };
    let done = std::thread::scope(|scope| scope.spawn(unhurried).join());
    done.unwrap_or_else(|_| Err(Error::internal("a load panicked")))
}

/// One load with a number of threads, and what its warm-up showed.
struct Attempt {
    model: Arc<dyn LoadedModel>,
    instance: Box<dyn Instance>,
    warm_up: WarmUp,
}

impl Attempt {
    fn run(runtime: &dyn Runtime, settings: &ModelSettings, files: &VersionFiles, threads: usize) -> Result<Self> {
        let artifact = Artifact {
            path: files.path.clone(),
            threads,
            declared: settings.declared(),
            execute_time: settings.execute_time,
        };
        let model = runtime.load(&artifact)?;
        check_declared(settings, model.signature())?;
        let mut instance = model.instance()?;
        let rows_max = settings.max_batch_rows.unwrap_or_else(|| BatchLimits::default().rows_max);
        let warm_up = if settings.warm_up {
            warm_up(instance.as_mut(), model.signature(), &settings.pads(model.signature()), rows_max)?
        } else {
            WarmUp::skipped(model.signature())
        };
        Ok(Self { model, instance, warm_up })
    }
}

/// Settings that declare tensors have to mean those that there are.
fn check_declared(settings: &ModelSettings, signature: &Signature) -> Result<()> {
    let check = |what: &str, declared: &[TensorDeclaration], specs: &[TensorSpec]| {
        for declaration in declared {
            let Some(spec) = specs.iter().find(|spec| *spec.name == declaration.name) else {
                let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
                return Err(Error::unavailable(format!(
                    "the settings declare {what} '{}', but the model has {}",
                    declaration.name,
                    names.join(", ")
                )));
            };
            if let Some(why) = declaration.disagreement(spec) {
                return Err(Error::unavailable(why));
            }
        }
        Ok(())
    };
    check("input", &settings.inputs, &signature.inputs)?;
    check("output", &settings.outputs, &signature.outputs)
}

fn scheduler_config(
    settings: &ModelSettings,
    warm_up: &WarmUp,
    cores: usize,
    objective: Option<Duration>,
) -> SchedulerConfig {
    let stated = settings.slo.or(objective);
    let defaults = SchedulerConfig::for_cores(cores);
    let rows_max = match (&warm_up.batching, settings.max_batch_rows) {
        (Batching::Off { .. }, _) => 1,
        (Batching::Verified, Some(pinned)) => pinned.max(1),
        (Batching::Verified, None) => defaults.limits.rows_max,
    };
    let limits = BatchLimits {
        rows_max,
        delay: settings.max_queue_delay.unwrap_or_default(),
        objective: stated.unwrap_or(defaults.limits.objective),
    };
    let padding = match &warm_up.padded {
        Padded::Verified(padding) => Some(Arc::clone(padding)),
        Padded::Undeclared | Padded::Off { .. } => None,
    };
    SchedulerConfig {
        limits,
        padding,
        queue_max: settings.queue_max.unwrap_or(defaults.queue_max),
        queue_timeout: settings.queue_timeout,
        in_place_max: defaults.in_place_max,
        objective_stated: stated.is_some(),
        threads: defaults.threads,
    }
}
