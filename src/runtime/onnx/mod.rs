//! ONNX Runtime, through `ort`.
//!
//! Sessions are built and described with `ort`'s safe interface. The run itself goes to the C API that `ort` exposes: it
//! needs no allocation for names, no cast per datatype, and a session may be shared by several instances ([`session`]).

mod cuda;
mod sequence;
mod session;
#[cfg(test)]
mod tests;
mod threads;
mod value;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::{Artifact, LoadedModel, Runtime};
use crate::error::{Error, Result};
use crate::model::Device;

pub use cuda::library_uses_gpus;
use session::{OnnxModel, OnnxModels};
use threads::Threads;

const LIBRARY: &str = "libonnxruntime.so";

/// ONNX Runtime allows one environment per process; it lives as long as the process.
static OPENED: OnceLock<Opened> = OnceLock::new();

struct Opened {
    environment: Environment,
    library: PathBuf,
}

/// Serialises [`OnnxRuntime::open`], so that two callers do not both build the environment.
static OPENING: Mutex<()> = Mutex::new(());

/// The engine behind `libonnxruntime.so`.
pub struct OnnxRuntime {
    opened: &'static Opened,
}

/// The library to open: `ORT_DYLIB_PATH`, else beside the executable, else in `.onnxruntime/` of the working directory or
/// a directory above it, else the loader's own choice where it has one.
///
/// `None` where `ORT_DYLIB_PATH` is empty or nothing is found: then ONNX models run on tract.
pub fn find_library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return (!path.is_empty()).then(|| PathBuf::from(path));
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|dir| dir.join(LIBRARY)));
    let above = std::env::current_dir().ok();
    let above = above.iter().flat_map(|dir| dir.ancestors()).map(|dir| dir.join(".onnxruntime").join(LIBRARY));
    let system =
        ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let system = system.iter().map(|dir| Path::new(dir).join(LIBRARY));
    beside.into_iter().chain(above).chain(system).find(|path| path.exists())
}

impl OnnxRuntime {
    /// Opens the library at `path`. A process opens one library; a later call returns the first.
    ///
    /// # Errors
    /// [`crate::error::Kind::ModelUnavailable`] where the library is missing, broken or too old.
    pub fn open(path: &Path) -> Result<Self> {
        let _alone = OPENING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(opened) = OPENED.get() {
            return Ok(Self { opened });
        }
        let unusable =
            |cause: String| Error::unavailable(format!("cannot use ONNX Runtime at {}: {cause}", path.display()));
        // `ort` reads a relative path from the executable's directory, we from the working directory as everyone else.
        let absolute = std::path::absolute(path).map_err(|cause| unusable(cause.to_string()))?;
        let environment = ort::init_from(absolute.clone())
            .map_err(|cause| unusable(cause.to_string()))?
            .with_name("tensorgate")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|cause| unusable(cause.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        Threads::prepare();
        Ok(Self { opened: OPENED.get_or_init(|| Opened { environment, library: absolute }) })
    }

    fn session(&self, artifact: &Artifact) -> ort::Result<Session> {
        let builder = Session::builder(&self.opened.environment)?;
        let builder = match artifact.device {
            Device::Cpu => builder,
            Device::Cuda(number) => {
                cuda::preload(&self.opened.library);
                builder.with_execution_providers([cuda::provider(number, artifact.device_bytes_max)])?
            }
        };
        builder
            // `All`: in this crate `Level3` leaves out the layout optimisers.
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(artifact.threads.max(1))?
            .with_thread_manager(Threads)?
            .with_inter_threads(1)?
            // Spinning makes an idle pool burn the cores that other models need.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .commit_from_file(&artifact.path)
    }
}

impl Runtime for OnnxRuntime {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn platform(&self) -> &'static str {
        "onnxruntime_onnx"
    }

    fn version(&self) -> String {
        // SAFETY: ONNX Runtime gives a string that ends with NUL and is never freed.
        let described = unsafe { CStr::from_ptr((ort::api().GetBuildInfoString)()) };
        one_line(&described.to_string_lossy())
    }

    fn load(&self, artifact: &Artifact) -> Result<Arc<dyn LoadedModel>> {
        let failed = |cause: String| Error::unavailable(format!("{}: {cause}", artifact.path.display()));
        if !artifact.path.exists() {
            return Err(failed("no such file".into()));
        }
        let session =
            self.session(artifact).map_err(|cause| failed(cuda::told(artifact.device, &cause.to_string())))?;
        let model = OnnxModel::new(session, artifact.device).map_err(|cause| failed(cause.to_string()))?;
        if artifact.device == Device::Cpu {
            return Ok(Arc::new(model));
        }
        // Providers other than the CPU's do not promise that a session may run twice at once (pykeio/ort#402).
        let (runtime, artifact) = (Self { opened: self.opened }, artifact.clone());
        let another = move || {
            let session = runtime.session(&artifact);
            let session =
                session.map_err(|cause| Error::unavailable(cuda::told(artifact.device, &cause.to_string())))?;
            OnnxModel::new(session, artifact.device)
        };
        Ok(Arc::new(OnnxModels::new(model, Box::new(another))))
    }
}

/// ONNX Runtime's messages span lines and name its source files; ours do not.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Passes ONNX Runtime's log on. Its errors come back as errors of the call, so they are not repeated at that level.
fn log(level: LogLevel, category: &str, _id: &str, _location: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, "{message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(target: "onnxruntime", category, "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", category, "{message}"),
    }
}
