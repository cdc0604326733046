//! From files to something that runs: load with the runtime chosen, check against the settings, warm up, choose threads. What an
//! earlier load has learned of the same bytes on the same hardware is known from the start, and corrected by the warm-up.
//!
//! Blocking, and free of any state: the lifecycle runs it on a thread of its own.

mod offer;

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::beside;
use super::curves::{CurveFile, CurveKey, CurveStore};
use super::disk::Here;
use super::labels;
use super::layout::VersionFiles;
use super::places::Place;
use super::runtimes::Runtimes;
use super::sha256::{Identity, Sha256s};
use super::verify::verify;
use crate::error::{Error, Result};
use crate::infer::Labels;
use crate::model::settings::{ModelSettings, TensorDeclaration};
use crate::model::{Device, Pad, Signature, TensorSpec};
use crate::runtime::{Artifact, Instance, LoadedModel, Runtime, unhurried};
use crate::scheduler::{BatchLimits, Batching, Padded, Priority, SchedulerConfig, WarmUp, warm_up};
use crate::storage::Digest;
use crate::text::{Beside, Pool, TextFace};
use offer::Offer;

/// A version that runs, not yet in service.
pub(super) struct Loaded {
    pub(super) model: Arc<dyn LoadedModel>,
    pub(super) instances: Vec<Box<dyn Instance>>,
    pub(super) warm_up: WarmUp,
    /// Where what is learned is kept, if it is.
    pub(super) curve_file: Option<Arc<CurveFile>>,
    /// What the artifact's bytes are, where there is one.
    pub(super) identity: Option<Identity>,
    /// By position of the outputs.
    pub(super) labels: Vec<Labels>,
    /// What it takes texts with, where it does.
    pub(super) text: Option<TextFace>,
    pub(super) runtime: &'static str,
    pub(super) platform: &'static str,
    pub(super) device: Device,
    pub(super) scheduler: SchedulerConfig,
    /// Whether its batches take their cores from those of all models: instances pinned by hand run whenever they can.
    pub(super) shares_cores: bool,
    /// The settings' `max_batch_size`, where rows can be joined at all: Triton refuses larger requests.
    pub(super) request_rows_max: Option<usize>,
    pub(super) settings: ModelSettings,
}

/// What loads share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) runtimes: Arc<Runtimes>,
    /// Where learned curves are kept, if they are.
    pub(super) curves: Option<Arc<CurveStore>>,
    /// Whether requests wait for the load, so that it does not give way to those that run.
    pub(super) urgent: bool,
    /// Where it is loaded.
    pub(super) place: Place,
    /// Cores that a version may use.
    pub(super) cores: usize,
    /// The objective of settings that state none, where somebody stated one.
    pub(super) objective: Option<Duration>,
    /// What tokenizes long texts.
    pub(super) pool: Arc<Pool>,
    /// What is known of artifacts.
    pub(super) sha256s: Arc<Sha256s>,
}

/// Loads and warms up one version.
///
/// # Errors
/// [`crate::error::Kind::ModelUnavailable`] with the reason, naming the file.
pub(super) fn load(surroundings: &Surroundings, here: &Here) -> Result<Loaded> {
    let Here { listing, files, tree } = here;
    if let Some(fault) = &files.fault {
        return Err(Error::unavailable(fault.clone()));
    }
    let settings = &listing.settings;
    // Before the model: a file that is missing is told at once.
    let declared = labels::read(listing)?;
    let beside = beside::read(here)?;
    let runtime = surroundings.runtimes.choose(settings.runtime, &files.path)?;
    let folder = files.path.parent().unwrap_or(Path::new(""));
    let artifact = match settings.runtime.needs_file() {
        true => Some(gently(surroundings.urgent, || verify(here, &surroundings.sha256s))?),
        false => None,
    };
    let identity = artifact.map(|artifact| surroundings.sha256s.identity(artifact, folder, tree.as_ref()));
    let Place { device, or_cpu, .. } = surroundings.place;
    let (known, beside) = (identity.as_ref().map(|identity| identity.digest), beside.as_ref());
    let source = Source { surroundings, runtime, device, settings, files, digest: known, beside };
    let (attempt, device) = match source.best() {
        Err(error) if device.is_gpu() && or_cpu => {
            tracing::warn!(model = %listing.name, version = %files.version, "served on the CPU, since {device} does not serve it: {error}");
            (Source { device: Device::Cpu, ..source }.best()?, Device::Cpu)
        }
        attempt => (attempt?, device),
    };
    let mut made = vec![attempt.instance];
    while made.len() < attempt.instances {
        made.push(attempt.model.instance()?);
    }
    let batches = attempt.warm_up.batching == Batching::Verified;
    let request_rows_max = settings.max_batch_rows.filter(|&rows| batches && rows > 1);
    let text = attempt.text.and_then(|face| {
        face.inspect_err(|why| tracing::warn!(model = %listing.name, version = %files.version, "takes no texts: {why}"))
            .ok()
    });
    let outputs = &attempt.model.signature().outputs;
    let own = |position| Labels::from_names(attempt.model.labels(position));
    let labels = outputs.iter().enumerate();
    let labels = labels.map(|(at, spec)| declared.get(&*spec.name).cloned().unwrap_or_else(|| own(at))).collect();
    Ok(Loaded {
        labels,
        text,
        model: attempt.model,
        instances: made,
        warm_up: attempt.warm_up,
        curve_file: attempt.curve_file,
        identity,
        runtime: runtime.name(),
        platform: runtime.platform(),
        device,
        scheduler: attempt.scheduler,
        // Whoever states a share wants one, with instances pinned too.
        shares_cores: !device.is_gpu()
            && (settings.instances.is_none() && settings.threads.is_none() || settings.weight.is_some()),
        request_rows_max,
        settings: settings.clone(),
    })
}

/// Does `work` so that models which serve hardly notice it, unless it is `urgent`. The threads of a session that is made meanwhile
/// inherit that for good.
fn gently<T: Send>(urgent: bool, mut work: impl FnMut() -> T + Send) -> T {
    if urgent { work() } else { unhurried(work) }
}

/// What is loaded.
struct Source<'a> {
    surroundings: &'a Surroundings,
    runtime: &'a dyn Runtime,
    device: Device,
    settings: &'a ModelSettings,
    files: &'a VersionFiles,
    digest: Option<Digest>,
    /// What lies beside it for texts.
    beside: Option<&'a Beside>,
}

/// One load with a number of threads, and what its warm-up showed.
struct Attempt {
    model: Arc<dyn LoadedModel>,
    instance: Box<dyn Instance>,
    text: Option<Result<TextFace, String>>,
    warm_up: WarmUp,
    curve_file: Option<Arc<CurveFile>>,
    instances: usize,
    scheduler: SchedulerConfig,
}

impl Attempt {
    fn offer(&self) -> Offer {
        Offer::of(&self.warm_up.curve, &self.scheduler.limits, self.instances, 1.0)
    }

    /// What all of `cores` threads for one execution would give, did they make it as many times as fast.
    fn ideal(&self, cores: usize, instances: usize) -> Offer {
        Offer::of(&self.warm_up.curve, &self.scheduler.limits, instances, cores as f64)
    }
}

impl Source<'_> {
    /// Loads with as many threads as the settings say; else with one for each of many instances or all for one, whichever
    /// serves more.
    fn best(&self) -> Result<Attempt> {
        let cores = self.surroundings.cores;
        let threads = self.settings.threads.map_or(1, NonZeroUsize::get);
        if self.device.is_gpu() {
            // One instance for the device: kernels of several would take turns on it. Its thread mostly waits, and takes no core.
            return self.attempt(threads, 1);
        }
        let narrow = match threads {
            1 => gently(self.surroundings.urgent, || self.attempt(1, cores))?,
            _ => self.attempt(threads, cores.div_ceil(threads))?,
        };
        if self.settings.threads.is_some() || cores == 1 {
            return Ok(narrow);
        }
        // With threads that cost nothing: if even that would not be chosen, the second load is saved.
        let offer = narrow.offer();
        let ideal = narrow.ideal(cores, self.settings.instances.map_or(1, NonZeroUsize::get));
        if !ideal.is_better_than(&offer) {
            return Ok(narrow);
        }
        let wide = gently(self.surroundings.urgent, || self.attempt(cores, 1))?;
        if !wide.offer().is_better_than(&offer) {
            return Ok(narrow);
        }
        if self.surroundings.urgent {
            return Ok(wide);
        }
        // The threads of that session give way for good, as the one that made them did: it was there to be measured.
        drop((narrow, wide.instance, wide.model));
        let model = self.runtime.load(&self.artifact(cores))?;
        Ok(Attempt { instance: model.instance()?, model, ..wide })
    }

    fn artifact(&self, threads: usize) -> Artifact {
        Artifact {
            path: self.files.path.clone(),
            threads,
            device: self.device,
            device_bytes_max: self.surroundings.place.bytes_max,
            declared: self.settings.declared(),
            execute_time: self.settings.execute_time,
        }
    }

    fn attempt(&self, threads: usize, instances: usize) -> Result<Attempt> {
        let Self { runtime, settings, .. } = self;
        if self.device.is_gpu() && runtime.name() == "tract" {
            return Err(Error::unavailable("ONNX Runtime cannot be opened, and tract runs on the CPU alone"));
        }
        let model = runtime.load(&self.artifact(threads))?;
        check_declared(settings, model.signature())?;
        let mut instance = model.instance()?;
        let pool = &self.surroundings.pool;
        let text = self.beside.map(|beside| TextFace::of(beside, model.signature(), pool));
        // What a person states holds over what the artifact tells, and that over what is usual for texts.
        let mut pads = settings.pads(model.signature());
        pads.iter_mut().zip(model.pads()).for_each(|(stated, told)| *stated = stated.take().or(told));
        if let Some(Ok(face)) = &text {
            let usual = face.form().pads().into_iter();
            let usual = usual.map(|element| element.map(|element| Pad { element, is_needed: true }));
            pads.iter_mut().zip(usual).for_each(|(own, usual)| *own = own.take().or(usual));
        }
        let rows_max = settings.max_batch_rows.unwrap_or_else(|| BatchLimits::default().rows_max);
        let warm_up = if settings.warm_up {
            warm_up(instance.as_mut(), model.signature(), &pads, rows_max)?
        } else {
            WarmUp::skipped(model.signature())
        };
        let curve_file = self.curve_file(threads, &warm_up.padded).map(Arc::new);
        let kept = curve_file.as_ref().and_then(|file| file.read());
        let curve = kept.map(|kept| kept.corrected_by(&warm_up.curve));
        let warm_up = WarmUp { curve: curve.unwrap_or(warm_up.curve), ..warm_up };
        let Surroundings { cores, objective, .. } = *self.surroundings;
        let scheduler = SchedulerConfig { threads, ..scheduler_config(settings, &warm_up, cores, objective) };
        let instances = settings.instances.map_or(instances, NonZeroUsize::get);
        Ok(Attempt { model, instance, text, warm_up, curve_file, instances, scheduler })
    }

    /// Where what is learned of executions with `threads` threads is kept. Work is another where rows are padded.
    fn curve_file(&self, threads: usize, padded: &Padded) -> Option<CurveFile> {
        let store = self.surroundings.curves.as_ref()?;
        // Without a digest nobody knows what the file would be about.
        let digest = match self.settings.runtime.needs_file() {
            true => self.digest?.to_string(),
            false => String::new(),
        };
        let engine = format!("{} {}", self.runtime.name(), self.runtime.version());
        let runtime = match self.device {
            Device::Cpu => engine,
            // What kind it is, and not which of several.
            Device::Cuda(number) => {
                let gpu = self.surroundings.runtimes.devices().gpu(number);
                format!("{engine} on {}", gpu.map_or("a GPU", |gpu| &gpu.described.name))
            }
        };
        let work = if matches!(padded, Padded::Verified(_)) { "cells" } else { "rows" };
        let settings = format!("{work} {}", executed_settings(self.settings));
        Some(store.file(&CurveKey { digest, runtime, threads, cores: self.surroundings.cores, settings }))
    }
}

/// The settings without those that change what is run when, and not how long it takes. Whatever is added to settings counts
/// until somebody says that it does not.
fn executed_settings(settings: &ModelSettings) -> String {
    let defaults = ModelSettings::default();
    let executed = ModelSettings {
        version_policy: defaults.version_policy,
        max_batch_rows: None,
        max_queue_delay: None,
        queue_max: None,
        queue_bytes_max: None,
        queue_timeout: None,
        late_is_delayed: false,
        priority_levels: None,
        default_priority_level: None,
        priority_timeouts: Vec::new(),
        weight: None,
        instances: None,
        threads: None,
        slo: None,
        // The key has what it came to.
        device: defaults.device,
        traffic: None,
        pin: false,
        response_cache: None,
        ..settings.clone()
    };
    // Plain data, and its debug form shows all of it.
    format!("{executed:?}")
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
    let of_level = |(level, timeout): &(NonZeroU16, Duration)| (Priority::level(level.get()), *timeout);
    SchedulerConfig {
        limits,
        padding,
        queue_max: settings.queue_max.unwrap_or(defaults.queue_max),
        queue_timeout: settings.queue_timeout,
        queue_bytes_max: settings.queue_bytes_max.unwrap_or(defaults.queue_bytes_max),
        late_is_delayed: settings.late_is_delayed,
        top_class: settings.priority_levels.map_or(Priority::NORMAL, |_| Priority::level(1)),
        class_timeouts: settings.priority_timeouts.iter().map(of_level).collect(),
        weight: settings.weight.map_or(1.0, |thousandths| f64::from(thousandths.get()) / 1000.0),
        in_place_max: defaults.in_place_max,
        objective_stated: stated.is_some(),
        threads: defaults.threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RuntimeChoice;

    #[test]
    fn what_changes_no_execution_changes_no_key() {
        let settings = ModelSettings::default();
        let objective = ModelSettings { slo: Some(Duration::from_millis(5)), ..settings.clone() };
        assert_eq!(executed_settings(&objective), executed_settings(&settings));
        let other = ModelSettings { runtime: RuntimeChoice::Tract, ..settings.clone() };
        assert_ne!(executed_settings(&other), executed_settings(&settings));
    }
}
