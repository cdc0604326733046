//! Checkpoints as Hugging Face has them, without an export: `config.json`, `*.safetensors`, and `modules.json` of
//! sentence-transformers.
//!
//! `config` and `safetensors` decode the files, `checkpoint` finds tensors by name, and `architecture` has a file for each family
//! that says which of an [`encoder::Encoder`]'s parts are called what. `forward` runs it, on the CPU with kernels of our own
//! (the package `tensorgate-kernels`), `device` on a GPU where this was built for it, `head` makes classes, words or one vector of what comes out. All instances share one copy
//! of the weights. Nothing here runs code out of a checkpoint: an architecture is one of ours, or is refused.

mod architecture;
mod checkpoint;
mod config;
pub mod decoders;
#[cfg(feature = "candle")]
mod device;
mod encoder;
mod forward;
mod head;
mod model;
mod safetensors;
mod sentence;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use super::{Artifact, LoadedModel, Runtime};
use crate::error::{Error, Result};
use crate::model::Device;

use architecture::{Built, Task};
use checkpoint::Checkpoint;
use config::Config;
use model::{CandleModel, Model};

/// Hugging Face folders.
#[derive(Clone, Copy, Debug, Default)]
pub struct CandleRuntime;

impl CandleRuntime {
    /// The runtime; it needs nothing on the machine.
    pub fn new() -> Self {
        Self
    }

    /// Whether this program was built to run them on GPUs.
    ///
    /// # Errors
    /// How to get one that was.
    pub fn uses_gpus(&self) -> Result<(), String> {
        match cfg!(feature = "cuda") {
            true => Ok(()),
            false => Err("Hugging Face folders run on GPUs in a build with --features cuda (docs/gpu.md)".into()),
        }
    }
}

impl Runtime for CandleRuntime {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn platform(&self) -> &'static str {
        "candle_safetensors"
    }

    fn version(&self) -> String {
        format!("{} {}", env!("CARGO_PKG_VERSION"), tensorgate_kernels::level())
    }

    /// Loads the folder whose `config.json` is the artifact's file.
    fn load(&self, artifact: &Artifact) -> Result<Arc<dyn LoadedModel>> {
        let folder = artifact.path.parent().unwrap_or(Path::new(""));
        let config = Config::read(&artifact.path)?;
        let checkpoint = Checkpoint::open(folder)?;
        let model = assemble(&config, &checkpoint, folder, artifact.threads)?;
        match artifact.device {
            Device::Cpu => Ok(Arc::new(CandleModel(Arc::new(model)))),
            #[cfg(feature = "candle")]
            Device::Cuda(number) => {
                let model = device::on_gpu(model, number, checkpoint.datatype())?;
                Ok(Arc::new(device::OnDevice(Arc::new(model))))
            }
            #[cfg(not(feature = "candle"))]
            Device::Cuda(_) => Err(Error::unavailable(self.uses_gpus().err().unwrap_or_default())),
        }
    }
}

/// The model that `config` describes, of the weights in `checkpoint` and the modules in `folder`.
fn assemble(config: &Config, checkpoint: &Checkpoint, folder: &Path, threads: usize) -> Result<Model> {
    // A sentence transformer's encoder is the encoder, whatever it was trained with.
    let bare = folder.join("modules.json").exists();
    let (Built { encoder, head }, task) = architecture::build(config, &checkpoint.weights(), bare)?;
    let pooled = sentence::head(folder, encoder.width)?;
    if pooled.is_some() && !matches!(encoder.input, encoder::Input::Text(_)) {
        return Err(Error::unavailable(format!("{}: modules.json is served for texts alone", folder.display())));
    }
    let labels = if matches!(task, Task::Classify | Task::Tag) { config.labels()? } else { Vec::new() };
    Ok(Model::new(encoder, head, pooled, task, labels, threads.max(1)))
}
