//! The engines of a process, and which of them a model runs on, and where.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::layout::is_folder_model;
use super::places::Places;
use crate::devices::Devices;
use crate::error::{Error, Result};
use crate::model::settings::ModelSettings;
use crate::model::{DeviceChoice, RuntimeChoice};
use crate::runtime::{CandleRuntime, IdentityRuntime, OnnxRuntime, Runtime, TractRuntime, library_uses_gpus};

/// The engines of this process.
pub struct Runtimes {
    library: Option<PathBuf>,
    /// Whether it can use GPUs, once that was asked.
    uses_gpus: OnceLock<Result<(), String>>,
    /// Opened by the first ONNX model: a server without one does not carry the library's memory.
    onnx: OnceLock<Option<OnnxRuntime>>,
    tract: TractRuntime,
    candle: CandleRuntime,
    identity: IdentityRuntime,
    devices: Arc<Devices>,
}

impl Runtimes {
    /// All engines, with ONNX Runtime from `library`. Without one, or where it cannot be opened, ONNX models run on tract.
    pub fn new(library: Option<PathBuf>) -> Self {
        Self::with_devices(library, Arc::default())
    }

    /// The same beside these GPUs.
    pub fn with_devices(library: Option<PathBuf>, devices: Arc<Devices>) -> Self {
        let (tract, candle, identity) = (TractRuntime::new(), CandleRuntime::new(), IdentityRuntime::new());
        Self { library, uses_gpus: OnceLock::new(), onnx: OnceLock::new(), tract, candle, identity, devices }
    }

    /// The GPUs that there are.
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// Where the model file at `path` can be loaded with `settings`, as far as can be told without opening an engine.
    ///
    /// # Errors
    /// Those of [`Places::of`].
    pub(super) fn places(&self, settings: &ModelSettings, path: &Path) -> Result<Places> {
        let support = match settings.runtime {
            RuntimeChoice::Candle => self.candle.uses_gpus(),
            RuntimeChoice::Auto if is_folder_model(path) => self.candle.uses_gpus(),
            // There is nothing to compute: it is wherever it is said to be, but takes no GPU that nobody asked for.
            RuntimeChoice::Identity if settings.device == DeviceChoice::Auto => return Ok(Places::CPU),
            RuntimeChoice::Identity => Ok(()),
            RuntimeChoice::Tract => Err("runtime 'tract' runs on the CPU alone".into()),
            RuntimeChoice::Auto | RuntimeChoice::Onnx => match &self.library {
                Some(library) => self.uses_gpus.get_or_init(|| library_uses_gpus(library)).clone(),
                None => Err("there is no libonnxruntime.so, and tract runs on the CPU alone: make run ORT=gpu".into()),
            },
        };
        Places::of(settings.device, support, &self.devices)
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

    /// The engine for the model file at `path`.
    pub(super) fn choose(&self, choice: RuntimeChoice, path: &Path) -> Result<&dyn Runtime> {
        match choice {
            RuntimeChoice::Candle => Ok(&self.candle),
            RuntimeChoice::Auto if is_folder_model(path) => Ok(&self.candle),
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
