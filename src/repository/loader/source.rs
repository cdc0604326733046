//! One source of a version, and the loads that are tried of it: with how many threads it serves best.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use super::super::curves::{CurveFile, CurveKey};
use super::super::layout::VersionFiles;
use super::offer::Offer;
use super::{Precedent, Surroundings, gently};
use crate::error::{Error, Result};
use crate::model::settings::{ModelSettings, TensorDeclaration};
use crate::model::{Device, Pad, Signature, TensorSpec};
use crate::runtime::{Artifact, Instance, LoadedModel, Runtime};
use crate::scheduler::{BatchLimits, Batching, Padded, Priority, SchedulerConfig, WarmUp, prove, warm_up};
use crate::storage::Digest;
use crate::text::{Beside, TextFace};

/// What is loaded.
pub(super) struct Source<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) runtime: &'a dyn Runtime,
    pub(super) device: Device,
    pub(super) settings: &'a ModelSettings,
    pub(super) files: &'a VersionFiles,
    pub(super) digest: Option<Digest>,
    /// What lies beside it for texts.
    pub(super) beside: Option<&'a Beside>,
    pub(super) precedent: Option<&'a Precedent>,
}

/// A model that is in memory and has not run.
pub(super) struct Opened {
    pub(super) model: Arc<dyn LoadedModel>,
    pub(super) instance: Box<dyn Instance>,
    pub(super) text: Option<Result<TextFace, String>>,
}

/// One load with a number of threads, and what its warm-up showed.
pub(super) struct Attempt {
    pub(super) model: Arc<dyn LoadedModel>,
    pub(super) instance: Box<dyn Instance>,
    pub(super) text: Option<Result<TextFace, String>>,
    pub(super) warm_up: WarmUp,
    pub(super) curve_file: Option<Arc<CurveFile>>,
    pub(super) instances: usize,
    pub(super) scheduler: SchedulerConfig,
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
    pub(super) fn best(&self) -> Result<Attempt> {
        if let Some(precedent) = self.precedent {
            return self.again(precedent);
        }
        let cores = self.surroundings.cores;
        let threads = self.settings.threads.map_or(1, NonZeroUsize::get);
        if self.device.is_gpu() {
            // One instance for the device: kernels of several would take turns on it. Its thread mostly waits, and takes no core.
            return self.attempt(threads, 1);
        }
        let narrow = gently(self.surroundings.urgent, || self.attempt(threads, cores.div_ceil(threads)))?;
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
        Ok(if wide.offer().is_better_than(&offer) { wide } else { narrow })
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
        let mut opened = self.open(threads)?;
        let (signature, settings) = (opened.model.signature(), self.settings);
        // What a person states holds over what the artifact tells, and that over what is usual for texts.
        let mut pads = settings.pads(signature);
        pads.iter_mut().zip(opened.model.pads()).for_each(|(stated, told)| *stated = stated.take().or(told));
        if let Some(Ok(face)) = &opened.text {
            let usual = face.form().pads().into_iter();
            let usual = usual.map(|element| element.map(|element| Pad { element, is_needed: true }));
            pads.iter_mut().zip(usual).for_each(|(own, usual)| *own = own.take().or(usual));
        }
        let rows_max = settings.max_batch_rows.unwrap_or_else(|| BatchLimits::default().rows_max);
        let warm_up = if settings.warm_up {
            warm_up(opened.instance.as_mut(), signature, &pads, rows_max)?
        } else {
            WarmUp::skipped(signature)
        };
        let curve_file = self.curve_file(threads, &warm_up.padded).map(Arc::new);
        let kept = curve_file.as_ref().and_then(|file| file.read());
        let curve = kept.map(|kept| kept.corrected_by(&warm_up.curve));
        let warm_up = WarmUp { curve: curve.unwrap_or(warm_up.curve), ..warm_up };
        Ok(self.attempt_of(opened, warm_up, curve_file, threads, instances))
    }

    /// The load of a version that this process has had in memory before: how many threads serve it best, and that its rows may
    /// be joined, it has learned then.
    fn again(&self, precedent: &Precedent) -> Result<Attempt> {
        let Precedent { warm_up, threads, instances } = precedent;
        let load = || {
            let mut opened = self.open(*threads)?;
            if self.settings.warm_up && warm_up.not_run.is_none() {
                prove(opened.instance.as_mut(), opened.model.signature())?;
            }
            let curve_file = self.curve_file(*threads, &warm_up.padded).map(Arc::new);
            let kept = curve_file.as_ref().and_then(|file| file.read());
            let warm_up = WarmUp { curve: kept.unwrap_or_else(|| warm_up.curve.clone()), ..warm_up.clone() };
            Ok(self.attempt_of(opened, warm_up, curve_file, *threads, *instances))
        };
        gently(self.surroundings.urgent || self.device.is_gpu(), load)
    }

    pub(super) fn open(&self, threads: usize) -> Result<Opened> {
        if self.device.is_gpu() && self.runtime.name() == "tract" {
            return Err(Error::unavailable("ONNX Runtime cannot be opened, and tract runs on the CPU alone"));
        }
        let model = self.runtime.load(&self.artifact(threads))?;
        check_declared(self.settings, model.signature())?;
        let instance = model.instance()?;
        let pool = &self.surroundings.pool;
        let text = self.beside.map(|beside| TextFace::of(beside, model.signature(), pool));
        Ok(Opened { model, instance, text })
    }

    fn attempt_of(
        &self,
        opened: Opened,
        warm_up: WarmUp,
        curve_file: Option<Arc<CurveFile>>,
        threads: usize,
        instances: usize,
    ) -> Attempt {
        let Opened { model, instance, text } = opened;
        let Surroundings { cores, objective, .. } = *self.surroundings;
        let scheduler = SchedulerConfig { threads, ..scheduler_config(self.settings, &warm_up, cores, objective) };
        let instances = self.settings.instances.map_or(instances, NonZeroUsize::get);
        Attempt { model, instance, text, warm_up, curve_file, instances, scheduler }
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
        idle_time_is_free: defaults.idle_time_is_free,
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
