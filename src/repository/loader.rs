//! From files to something that runs: load with the runtime chosen, check against the settings, warm up, choose threads. What an
//! earlier load has learned of the same bytes on the same hardware is known from the start, and corrected by the warm-up.
//!
//! Blocking, and free of any state: the lifecycle runs it on a thread of its own.

mod offer;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::beside;
use super::curves::{CurveFile, CurveStore};
use super::disk::Here;
use super::labels;
use super::places::Place;
use super::runtimes::Runtimes;
use super::sha256::{Identity, Sha256s};
use super::twin::{self, Spare, Twin};
use super::verify::verify;
use crate::error::{Error, Result};
use crate::infer::Labels;
use crate::model::Device;
use crate::model::settings::ModelSettings;
use crate::runtime::{Instance, LoadedModel, idle_time_is_free, unhurried};
use crate::scheduler::{Batching, SchedulerConfig, WarmUp, prove};
use crate::storage::Digest;
use crate::text::{Pool, TextFace};
use source::{Opened, Source};

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
    /// Where it is executed with threads of the engine's own.
    pub(super) twin: Option<Twin>,
}

/// What an earlier load of the same bytes in this process has shown, and the next one need not.
pub(super) struct Precedent {
    pub(super) warm_up: WarmUp,
    /// Of one execution.
    pub(super) threads: usize,
    pub(super) instances: usize,
}

impl Loaded {
    pub(super) fn precedent(&self) -> Precedent {
        Precedent { warm_up: self.warm_up.clone(), threads: self.scheduler.threads, instances: self.instances.len() }
    }
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
    /// What twins may take.
    pub(super) spare: Arc<Spare>,
}

/// Loads and warms up one version. Where it was loaded before, as `precedent` tells, it is only proven that it runs.
///
/// # Errors
/// [`crate::error::Kind::ModelUnavailable`] with the reason, naming the file.
pub(super) fn load(surroundings: &Surroundings, here: &Here, precedent: Option<&Precedent>) -> Result<Loaded> {
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
    let (digest, beside) = (identity.as_ref().map(|identity| identity.digest), beside.as_ref());
    let source = Source { surroundings, runtime, device, settings, files, digest, beside, precedent };
    let (attempt, device) = match source.best() {
        Err(error) if device.is_gpu() && or_cpu => {
            tracing::warn!(model = %listing.name, version = %files.version, "served on the CPU, since {device} does not serve it: {error}");
            (Source { device: Device::Cpu, precedent: None, ..source }.best()?, Device::Cpu)
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
    let has_threads = attempt.scheduler.threads > 1 && !device.is_gpu() && idle_time_is_free();
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
        twin: has_threads.then(|| Twin::new(narrow(surroundings.clone(), here, digest))),
    })
}

/// Loads what `here` was once more, for one thread, if it still has the bytes that `digest` is of.
fn narrow(surroundings: Surroundings, here: &Here, digest: Option<Digest>) -> twin::Source {
    // What was fetched for it need not stay for this.
    let here = Here { listing: here.listing.clone(), files: here.files.clone(), tree: None };
    Box::new(move || {
        let Here { listing, files, .. } = &here;
        let settings = &listing.settings;
        let runtime = surroundings.runtimes.choose(settings.runtime, &files.path)?;
        // Its weights, and what engines pack of them.
        let needed = files.bytes * 2;
        if !surroundings.spare.take(needed) {
            return Err(Error::unavailable(format!(
                "it would take about {needed} bytes again, more than the models in memory leave of --memory-max"
            )));
        }
        if settings.runtime.needs_file() && Some(verify(&here, &surroundings.sha256s)?.digest()) != digest {
            return Err(Error::unavailable(format!("{}: it was changed since it was loaded", files.path.display())));
        }
        let device = Device::default();
        let source = Source {
            surroundings: &surroundings,
            runtime,
            device,
            settings,
            files,
            digest,
            beside: None,
            precedent: None,
        };
        let Opened { model, mut instance, .. } = source.open(1)?;
        if settings.warm_up {
            prove(instance.as_mut(), model.signature())?;
        }
        Ok((model, instance))
    })
}

/// Does `work` so that models which serve hardly notice it, unless it is `urgent`.
pub(super) fn gently<T: Send>(urgent: bool, work: impl FnOnce() -> T + Send) -> T {
    if urgent { work() } else { unhurried(work) }
}
