//! Engines that execute models, behind three traits: a [`Runtime`] loads an artifact into a [`LoadedModel`], which makes
//! [`Instance`]s that execute batches.
//!
//! A runtime does not know where files come from, what a request is, or how a batch was formed. One file or folder per
//! engine; each engine's crate is named nowhere else.

pub mod candle;
mod identity;
mod memory;
mod onnx;
mod prompt;
mod tract;
mod unhurried;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::model::{Device, Pad, Signature, TensorSpec};
use crate::tensor::Tensor;

pub use candle::CandleRuntime;
pub use identity::IdentityRuntime;
pub use memory::{heap_bytes, release_free_memory, resident_bytes};
pub use onnx::{OnnxRuntime, find_library, library_uses_gpus};
pub use prompt::promptly;
pub use tract::TractRuntime;
pub use unhurried::{Left, give_way, idle_time_is_free, put_away, unhurried, unhurriedly, waited_for_a_core};

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The model's file (of a Hugging Face folder, its `config.json`); for a runtime that needs none (identity), the model's
    /// directory.
    pub path: PathBuf,
    /// Threads that one execution may use, at least 1. No runtime takes more, and none spins while idle.
    pub threads: usize,
    /// Where executions run. ONNX Runtime and candle take a GPU where their libraries can, the identity is anywhere.
    pub device: Device,
    /// Bytes that the model may take of a GPU's memory, where that is bounded.
    pub device_bytes_max: Option<u64>,
    /// Inputs and outputs declared in the settings, for artifacts that do not state their own.
    pub declared: Signature,
    /// For [`IdentityRuntime`]: how long an execution takes, however many rows it has.
    pub execute_time: Duration,
}

impl Artifact {
    /// The artifact at `path`, run on one thread.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (declared, execute_time) = (Signature::default(), Duration::ZERO);
        Self { path: path.into(), threads: 1, device: Device::Cpu, device_bytes_max: None, declared, execute_time }
    }
}

/// An engine. Loading is blocking and may take seconds: never call it on the request path.
pub trait Runtime: Send + Sync {
    /// The name in settings, logs and metrics: "onnx".
    fn name(&self) -> &'static str;

    /// The platform name that metadata report, in the words of V2 servers: "onnxruntime_onnx".
    fn platform(&self) -> &'static str;

    /// Which engine exactly: another one takes other times. Those that are part of this program have its version.
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    /// Loads `artifact`.
    ///
    /// # Errors
    /// [`crate::error::Kind::ModelUnavailable`] that says which file and why: missing, broken, or with operators or
    /// datatypes that this engine does not have.
    fn load(&self, artifact: &Artifact) -> Result<Arc<dyn LoadedModel>>;
}

/// A model in memory. Instances made from it share its weights where the engine allows.
pub trait LoadedModel: Send + Sync {
    /// Inputs and outputs, in the order in which [`Instance::execute`] takes and gives them.
    fn signature(&self) -> &Signature;

    /// One more executable copy.
    ///
    /// # Errors
    /// [`crate::error::Kind::ModelUnavailable`] where the engine cannot make another.
    fn instance(&self) -> Result<Box<dyn Instance>>;

    /// Bytes of memory that it takes, where the engine counts them itself: they are not malloc's.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// What each input may be padded with, where the artifact tells; empty where it tells of none.
    fn pads(&self) -> Vec<Option<Pad>> {
        Vec::new()
    }

    /// The names of the classes that the output at `position` has a value for each of, where the artifact tells.
    fn labels(&self, position: usize) -> &[String] {
        let _ = position;
        &[]
    }
}

/// One executable copy of a model, owned by one thread at a time.
pub trait Instance: Send {
    /// Executes one batch, blocking.
    ///
    /// `inputs` has one entry per input of the signature, `None` for an optional input that is left out; each tensor fits
    /// its spec and is aligned ([`Tensor::is_aligned`]). `outputs` are positions in the signature; the answer holds those
    /// outputs, in that order. Output bytes belong to the answer: they may live on in responses after this instance is gone.
    ///
    /// # Errors
    /// [`crate::error::Kind::Execution`] where the engine fails on these values. The instance stays usable.
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>>;

    /// What stops an execution from another thread, where the engine can be stopped.
    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        None
    }
}

/// Stops an execution.
pub trait Interrupt: Send + Sync {
    /// Has the execution that is under way fail as soon as the engine notices; the next one is not affected. Called between
    /// executions it does nothing.
    fn interrupt(&self);
}

/// The specs of `outputs`, for engines that look them up by position.
fn wanted<'a>(signature: &'a Signature, outputs: &'a [usize]) -> impl Iterator<Item = &'a TensorSpec> {
    outputs.iter().map(|&position| &signature.outputs[position])
}
