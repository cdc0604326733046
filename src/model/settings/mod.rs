//! What a person may pin about a model: its settings, from `model.toml` or from Triton's `config.pbtxt`.
//!
//! Nothing here must be given. What is `None` is learned: from the artifact, or from what serving shows. Both formats
//! end in one [`ModelSettings`], and everything wrong in a file is reported at once, each [`Fault`] with its place.
//! This room reads text only; finding and opening the file is `repository::layout`'s work.

mod duration;
mod fault;
mod size;
#[cfg(test)]
mod tests;
mod toml;
mod traffic;
mod triton;

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use super::{DeviceChoice, Dim, Pad, Signature, TensorSpec, TrafficSettings, Version};
use crate::tensor::{DataType, Scalar};

pub use duration::parse_duration;
pub use fault::{Fault, nearest};
pub use size::parse_size;

/// Bytes that a settings file may have. The largest ones seen in the wild are some tens of KiB; the bound keeps a model
/// file that was named `config.pbtxt` by mistake out of memory.
pub const SETTINGS_BYTES_MAX: usize = 1 << 20;

/// Which engine executes a model: `runtime` in `model.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RuntimeChoice {
    /// For an ONNX file ONNX Runtime where its library is found, tract elsewhere; for a Hugging Face folder candle.
    #[default]
    Auto,
    /// ONNX Runtime, and no other.
    Onnx,
    /// tract, and no other.
    Tract,
    /// A Hugging Face folder, and no ONNX file beside it.
    Candle,
    /// Outputs are the inputs: for measuring and for testing clients. Needs no model file.
    Identity,
}

impl RuntimeChoice {
    /// Every choice.
    pub const ALL: [RuntimeChoice; 5] = [
        RuntimeChoice::Auto,
        RuntimeChoice::Onnx,
        RuntimeChoice::Tract,
        RuntimeChoice::Candle,
        RuntimeChoice::Identity,
    ];

    /// The name in settings: "auto".
    pub const fn name(self) -> &'static str {
        match self {
            RuntimeChoice::Auto => "auto",
            RuntimeChoice::Onnx => "onnx",
            RuntimeChoice::Tract => "tract",
            RuntimeChoice::Candle => "candle",
            RuntimeChoice::Identity => "identity",
        }
    }

    /// The choice with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }

    /// Whether a version of the model is a file on disk.
    pub const fn needs_file(self) -> bool {
        !matches!(self, RuntimeChoice::Identity)
    }
}

impl fmt::Display for RuntimeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of the versions on disk are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The newest ones, this many.
    Latest(NonZeroUsize),
    /// Every one.
    All,
    /// These, where they are there; ascending, each once.
    Specific(Vec<Version>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(NonZeroUsize::MIN)
    }
}

impl VersionPolicy {
    /// The versions to serve out of those that are there, ascending and each once, whatever the order of `available`.
    pub fn select(&self, available: &[Version]) -> Vec<Version> {
        let mut versions = available.to_vec();
        versions.sort_unstable();
        versions.dedup();
        match self {
            VersionPolicy::All => versions,
            VersionPolicy::Latest(count) => versions.split_off(versions.len().saturating_sub(count.get())),
            VersionPolicy::Specific(wanted) => {
                versions.retain(|version| wanted.contains(version));
                versions
            }
        }
    }
}

/// An input or output as a settings file declares it. What it leaves out is the artifact's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorDeclaration {
    /// The artifact's name of it.
    pub name: String,
    /// Its datatype.
    pub datatype: Option<DataType>,
    /// Its dimensions, batch dimension included (unless [`Self::rows_open`]).
    pub shape: Option<Vec<Dim>>,
    /// Whether [`Self::shape`] may lack the batch dimension. So it is in a `config.pbtxt` without `max_batch_size`:
    /// Triton then compares `dims` with the artifact to find out whether they count it.
    pub rows_open: bool,
    /// An input that requests may leave out.
    pub optional: bool,
    /// For an input: the value that may stand behind a request's own in every dynamic dimension but the first, and leaves the
    /// answers as they are, so that requests of different lengths can share a batch.
    pub pad: Option<Scalar>,
    /// For an output: the file in the model's directory whose lines name its classes.
    pub labels: Option<String>,
}

impl TensorDeclaration {
    /// Why `spec`, which the artifact states, cannot be the tensor declared here; `None` where the two agree. A
    /// dimension that is dynamic on either side agrees with any.
    pub fn disagreement(&self, spec: &TensorSpec) -> Option<String> {
        let datatype_fits = self.datatype.is_none_or(|datatype| datatype == spec.datatype);
        let shape_fits = match (&self.shape, &spec.shape) {
            (Some(declared), Some(actual)) => {
                dims_agree(declared, actual)
                    || (self.rows_open && spec.has_dynamic_rows() && dims_agree(declared, &actual[1..]))
            }
            _ => true,
        };
        if datatype_fits && shape_fits {
            return self.pad.and_then(|pad| not_padded(spec, pad));
        }
        let datatype = self.datatype.unwrap_or(spec.datatype);
        let declared =
            TensorSpec { name: self.name.as_str().into(), datatype, shape: self.shape.clone(), optional: false };
        Some(format!("the settings declare {declared}, but the model has {spec}"))
    }
}

/// Why `pad` cannot pad `spec`.
fn not_padded(spec: &TensorSpec, pad: Scalar) -> Option<String> {
    let dynamic = |dims: &[Dim]| dims.iter().skip(1).any(|dim| matches!(dim, Dim::Dynamic(_)));
    let why = if spec.datatype == DataType::Bytes {
        "strings cannot be padded".to_owned()
    } else if !spec.shape.as_deref().is_some_and(dynamic) {
        "no dimension behind the first is dynamic".to_owned()
    } else if pad.element(spec.datatype).is_none() {
        format!("{} has no such value", spec.datatype)
    } else {
        return None;
    };
    Some(format!("the settings pad input '{}' with {pad}, but it is {spec}: {why}", spec.name))
}

fn dims_agree(declared: &[Dim], actual: &[Dim]) -> bool {
    let agree = |pair: (&Dim, &Dim)| match pair {
        (Dim::Fixed(declared), Dim::Fixed(actual)) => declared == actual,
        _ => true,
    };
    declared.len() == actual.len() && declared.iter().zip(actual).all(agree)
}

/// Everything that can be pinned about a model. The default pins nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// The SHA-256 that the artifact has to have, as lowercase hexadecimal digits.
    pub digest: Option<String>,
    /// Which engine executes it.
    pub runtime: RuntimeChoice,
    /// Where it is executed.
    pub device: DeviceChoice,
    /// Which versions are served.
    pub version_policy: VersionPolicy,
    /// Most rows of one batch; 0 or 1: requests are not joined. `None`: found out at load.
    pub max_batch_rows: Option<usize>,
    /// Longest wait for more rows while an instance is free. `None`: learned.
    pub max_queue_delay: Option<Duration>,
    /// Most requests that may wait, at least 1.
    pub queue_max: Option<usize>,
    /// Most bytes that the inputs of requests without an answer may take, at least 1.
    pub queue_bytes_max: Option<usize>,
    /// Longest wait in the queue, above zero, for requests that bring no deadline of their own.
    pub queue_timeout: Option<Duration>,
    /// Whether a request that waited for its time-out is answered after all others instead of refused (Triton's
    /// `timeout_action: DELAY`).
    pub late_is_delayed: bool,
    /// How many priorities requests may have, 1 the most important one; without it, one for all.
    pub priority_levels: Option<NonZeroU16>,
    /// The priority of requests that state none, at most [`Self::priority_levels`]; the least important where it is left out.
    pub default_priority_level: Option<NonZeroU16>,
    /// Time-outs of single priorities, in place of [`Self::queue_timeout`]; above zero.
    pub priority_timeouts: Vec<(NonZeroU16, Duration)>,
    /// The share of the machine's cores where models compete for them, beside that of others, in thousandths: 1000 is the
    /// usual one. Above zero.
    pub weight: Option<NonZeroU32>,
    /// Executable copies of each version.
    pub instances: Option<NonZeroUsize>,
    /// Threads that one execution may use.
    pub threads: Option<NonZeroUsize>,
    /// The latency objective, above zero.
    pub slo: Option<Duration>,
    /// The model file of each version, relative to the version's directory, and never outside it.
    pub model_file: Option<String>,
    /// Inputs, with names that differ.
    pub inputs: Vec<TensorDeclaration>,
    /// Outputs, with names that differ.
    pub outputs: Vec<TensorDeclaration>,
    /// For [`RuntimeChoice::Identity`]: how long an execution takes.
    pub execute_time: Duration,
    /// Whether a version runs once before it is ready.
    pub warm_up: bool,
    /// How requests that name no version are shared out; without it, all to the newest. Shared: a request asks for it.
    pub traffic: Option<Arc<TrafficSettings>>,
    /// Bytes that kept answers may take, where answers are kept.
    pub response_cache: Option<NonZeroUsize>,
    /// Whether versions stay in memory, however seldom they are asked for.
    pub pin: bool,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            digest: None,
            runtime: RuntimeChoice::default(),
            device: DeviceChoice::default(),
            version_policy: VersionPolicy::default(),
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
            model_file: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            execute_time: Duration::ZERO,
            warm_up: true,
            traffic: None,
            response_cache: None,
            pin: false,
        }
    }
}

impl ModelSettings {
    /// The settings in the text of a `model.toml`.
    ///
    /// # Errors
    /// Every fault of the text, unknown keys among them.
    pub fn from_toml(text: &str) -> Result<Parsed, Vec<Fault>> {
        toml::read(without_mark(text)?)
    }

    /// The settings in the text of Triton's `config.pbtxt` for the model called `model_name`. What cannot be honoured,
    /// but leaves the answers right, is a warning; what would make them wrong is a fault.
    ///
    /// # Errors
    /// The first syntax error, or every fault of the content, each with its line.
    pub fn from_pbtxt(text: &str, model_name: &str) -> Result<Parsed, Vec<Fault>> {
        triton::read(without_mark(text)?, model_name)
    }

    /// The settings in Triton's model configuration as JSON, as a load request brings it: the fields and rules of
    /// [`ModelSettings::from_pbtxt`].
    ///
    /// # Errors
    /// What is wrong with the JSON, or every fault of the content, each with its field.
    pub fn from_config_json(text: &str, model_name: &str) -> Result<Parsed, Vec<Fault>> {
        triton::read_json(without_mark(text)?, model_name)
    }

    /// What each input of `signature` is padded with, if it is.
    pub fn pads(&self, signature: &Signature) -> Vec<Option<Pad>> {
        let pad = |spec: &TensorSpec| {
            let declaration = self.inputs.iter().find(|declaration| declaration.name == *spec.name)?;
            Some(Pad { element: declaration.pad?.element(spec.datatype)?, is_needed: true })
        };
        signature.inputs.iter().map(pad).collect()
    }

    /// The priority of requests that state none, where the model has levels.
    pub fn priority_default(&self) -> Option<u16> {
        let levels = self.priority_levels?;
        Some(self.default_priority_level.unwrap_or(levels).get())
    }

    /// The declared inputs and outputs that have a datatype: the signature for an artifact that states none.
    pub fn declared(&self) -> Signature {
        let spec = |tensor: &TensorDeclaration| {
            let (shape, optional) = (tensor.shape.clone(), tensor.optional);
            Some(TensorSpec { name: tensor.name.as_str().into(), datatype: tensor.datatype?, shape, optional })
        };
        let specs = |tensors: &[TensorDeclaration]| tensors.iter().filter_map(spec).collect();
        Signature { inputs: specs(&self.inputs), outputs: specs(&self.outputs) }
    }
}

/// Settings that can be served, and what a person should know about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The settings.
    pub settings: ModelSettings,
    /// What the file asks for and does not get, in the order of its lines where they are known.
    pub warnings: Vec<String>,
}

/// The text without a byte order mark, which some Windows editors put first, and within the size bound.
fn without_mark(text: &str) -> Result<&str, Vec<Fault>> {
    if text.len() > SETTINGS_BYTES_MAX {
        let message = format!("the settings have {} bytes, at most {SETTINGS_BYTES_MAX} are read", text.len());
        return Err(vec![Fault::new("line 1", message)]);
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// A file named by a setting: relative, and inside the directory it is relative to.
fn inner_file(path: &str) -> Result<String, String> {
    let inside = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !inside {
        return Err(format!("'{path}' must be a relative path that stays inside the model's directory"));
    }
    Ok(path.to_owned())
}

/// Rules that hold in both formats: what is said of priorities is said of levels that there are.
fn check_priorities(settings: &ModelSettings) -> Option<Fault> {
    let levels = settings.priority_levels.map_or(0, NonZeroU16::get);
    let named = settings.priority_timeouts.iter().map(|(level, _)| ("priority_queue_policy", *level));
    let default = settings.default_priority_level.map(|level| ("default_priority_level", level));
    let (key, level) = default.into_iter().chain(named).find(|(_, level)| level.get() > levels)?;
    Some(Fault::new(key, format!("{level} is no level, expected 1 to {levels} (priority_levels)")))
}

/// Rules that hold in both formats: names differ, and what has no artifact declares its datatypes.
fn check_tensors(list: &str, settings: &ModelSettings, tensors: &[TensorDeclaration], faults: &mut Vec<Fault>) {
    for (i, tensor) in tensors.iter().enumerate() {
        if tensors[..i].iter().any(|earlier| earlier.name == tensor.name) {
            faults.push(Fault::new(format!("{list}[{i}].name"), format!("'{}' is declared twice", tensor.name)));
        }
        if settings.runtime == RuntimeChoice::Identity && tensor.datatype.is_none() {
            let message = format!("'{}' needs a datatype, because the identity runtime has no model file", tensor.name);
            faults.push(Fault::new(format!("{list}[{i}]"), message));
        }
    }
}
