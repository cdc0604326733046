//! The models that there are, the versions that are loaded, and the way from one to the other.
//!
//! [`layout`] reads what lies on disk or in a store. [`policy`] decides, as a pure function of what is wanted and what there is, what to
//! load and unload next. [`lifecycle`] does it, off the request path. [`Repository::resolve`] is the request path: one
//! look-up, no lock held while a model runs.

mod beside;
mod budget;
mod catalog;
mod curves;
mod digest;
mod disk;
mod labels;
pub mod layout;
mod lifecycle;
mod loader;
mod machine;
mod marks;
mod model;
mod pace;
mod places;
pub mod policy;
mod profile;
mod remote;
mod runtimes;
mod sha256;
mod turns;
mod twin;
mod upload;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::model::{LoadOverrides, LoadParameter, ModelName, ModelState, Version, VersionStatus};
use crate::storage::{RemoteUri, StorageConfig};
use crate::telemetry::{Known, Telemetry};

use catalog::Catalog;
pub use catalog::Found;
use lifecycle::Lifecycle;
pub use model::{Life, Model};
pub use profile::{Profile, ProfiledSize, profile};
pub use runtimes::Runtimes;

/// How long a request without a deadline waits for a version to be brought into memory: longer than most loads, shorter than
/// the usual time-outs of gateways.
const BROUGHT_IN_MAX: Duration = Duration::from_secs(30);

/// Who decides which models are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Control {
    /// All that the repositories hold at start; nothing changes afterwards.
    #[default]
    None,
    /// What callers load and unload.
    Explicit,
    /// What the repositories hold, looked at again and again.
    Poll,
}

/// Where models come from and how they are loaded.
#[derive(Clone, Debug)]
pub struct RepositoryConfig {
    /// Directories that hold models.
    pub repositories: Vec<PathBuf>,
    /// Single models by name, as KServe mounts them.
    pub single: Vec<(ModelName, PathBuf)>,
    /// Places in stores: repositories, and with a name single models.
    pub remote: Vec<(RemoteUri, Option<ModelName>)>,
    /// How what lies there is fetched and kept.
    pub storage: StorageConfig,
    /// Who decides.
    pub control: Control,
    /// With [`Control::Poll`]: how long after one look at the repositories the next begins. Default 15 s, Triton's.
    pub poll_interval: Duration,
    /// With [`Control::Explicit`]: what to load at start; "*" for all.
    pub load_at_start: Vec<String>,
    /// The latency objective of models whose settings state none, where somebody stated one.
    pub objective: Option<Duration>,
    /// Cores that this process may use: the cgroup's quota, not the host's.
    pub cores: usize,
    /// Bytes that the files of all load requests may take on disk while models are served from them. Default 1 GiB: sixteen
    /// of the largest bodies, and less than a container's usual scratch space.
    pub uploads_bytes_max: usize,
    /// Where learned latencies are kept from one start to the next; without it, nowhere.
    pub state_directory: Option<PathBuf>,
    /// How often they are written down where they have changed. Default 1 min: what a process that is killed forgets.
    pub curves_kept_every: Duration,
    /// Bytes that the versions in memory may take together; those that are asked for least leave for others. Without it,
    /// three quarters of what the cgroup allows, or of what the machine has.
    pub memory_bytes_max: Option<u64>,
    /// Bytes that the versions on one GPU may take of its memory together. Without it, four fifths of what it has: the rest is for
    /// CUDA itself, and for what runs take beyond what their warm-up has shown.
    pub gpu_memory_bytes_max: Option<u64>,
    /// Loads that run at once. Default half the cores, so that the others go on serving meanwhile.
    pub loads_at_once: usize,
}

impl Default for RepositoryConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            repositories: Vec::new(),
            single: Vec::new(),
            remote: Vec::new(),
            storage: StorageConfig::default(),
            control: Control::None,
            poll_interval: Duration::from_secs(15),
            load_at_start: Vec::new(),
            objective: None,
            cores,
            uploads_bytes_max: 1 << 30,
            state_directory: None,
            curves_kept_every: Duration::from_secs(60),
            memory_bytes_max: None,
            gpu_memory_bytes_max: None,
            loads_at_once: cores.div_ceil(2),
        }
    }
}

/// How a load or a start ended, for the table that is shown.
#[derive(Clone)]
pub struct ModelSummary {
    /// The model.
    pub name: ModelName,
    /// Its versions, oldest first; one without a number where the model has none.
    pub versions: Vec<VersionStatus>,
    /// Inputs and outputs of its newest ready version, and the name of the runtime.
    pub ready: Option<Arc<Model>>,
}

/// One line of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexLine {
    /// The model.
    pub name: ModelName,
    /// The version; `None` for a model that has none.
    pub version: Option<Version>,
    /// What it is doing, and why it is not served.
    pub state: ModelState,
}

/// All models of one server.
pub struct Repository {
    catalog: Arc<Catalog>,
    lifecycle: Lifecycle,
    control: Control,
}

impl Repository {
    /// Reads the repositories and starts loading, in the background: see [`Repository::settled`].
    ///
    /// # Errors
    /// Where a repository directory cannot be read at all, or `load_at_start` names a model that none holds.
    pub async fn open(config: RepositoryConfig, runtimes: Arc<Runtimes>, telemetry: Arc<Telemetry>) -> Result<Self> {
        let catalog = Arc::new(Catalog::default());
        let control = config.control;
        let lifecycle = Lifecycle::start(config, Arc::clone(&catalog), runtimes, telemetry).await?;
        Ok(Self { catalog, lifecycle, control })
    }

    /// Whether a request for a model could be answered before `deadline`, or else within the objective, as far as its head
    /// tells. What else is wrong with it is found out later.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] where it could not.
    pub fn admit(&self, name: &str, version: Option<&str>, deadline: Option<Instant>) -> Result<()> {
        match self.resolve(name, version) {
            Ok(model) => model.admit(deadline),
            Err(_) => Ok(()),
        }
    }

    /// The version of `name` that answers a request: the one named, else the newest that is ready.
    ///
    /// # Errors
    /// [`crate::error::Kind::UnknownModel`] where there is no such model or version; `ModelUnavailable`, with its reason,
    /// where it is there but not ready.
    pub fn resolve(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>> {
        self.catalog.resolve(name, version)
    }

    /// The same, and whether it is in memory; for those that can wait until it is, see [`Repository::bring_in`].
    ///
    /// # Errors
    /// Those of [`Repository::resolve`].
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Found> {
        self.catalog.find(name, version)
    }

    /// A version of `name` that is ready, was never in memory and is one that `wanted` asks for.
    pub fn find_cold(&self, name: &str, wanted: impl Fn(Version) -> bool) -> Option<Version> {
        self.catalog.find_cold(name, wanted)
    }

    /// Waits until the version is in memory, but no longer than until `deadline`; requests without one wait for 30 s at most.
    ///
    /// # Errors
    /// [`Kind::ModelUnavailable`] where that takes longer, or fails; `Overloaded` where too many wait for it.
    pub async fn bring_in(&self, name: &ModelName, version: Version, deadline: Option<Instant>) -> Result<Arc<Model>> {
        // A little before the deadline, so that whoever waits hears why.
        let until = match deadline {
            Some(deadline) => deadline.checked_sub(Duration::from_millis(1)).unwrap_or(deadline),
            None => Instant::now() + BROUGHT_IN_MAX,
        };
        let brought = self.lifecycle.summon((name.clone(), version), deadline);
        match tokio::time::timeout_at(until, brought).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let known = self.catalog.get(name, version).map(|model| model.metrics().load_seconds.get());
                let retry =
                    known.filter(|seconds| *seconds > 0.0).map_or(Duration::from_secs(1), Duration::from_secs_f64);
                let message = format!(
                    "model '{name}' is not in memory, and could not be brought in within the time that the request may wait"
                );
                Err(Error::unavailable(message).with_retry_after(retry))
            }
        }
    }

    /// Has the signature of a version known, for whoever asks about a model that was never in memory yet, and waits for it until
    /// `deadline`.
    ///
    /// # Errors
    /// Those of [`Repository::resolve`] and [`Repository::bring_in`].
    pub async fn learn(&self, name: &str, version: Option<&str>, deadline: Option<Instant>) -> Result<()> {
        match self.find(name, version)? {
            Found::Cold(name, version) => self.bring_in(&name, version, deadline).await.map(drop),
            Found::Known(_) => Ok(()),
        }
    }

    /// Every model and what its versions are doing, sorted by name.
    pub fn index(&self) -> Vec<ModelSummary> {
        self.catalog.index()
    }

    /// The index as V2's repository extension lists it: a line for each version, or only for those that are ready.
    pub fn index_lines(&self, ready_only: bool) -> Vec<IndexLine> {
        let lines = |summary: ModelSummary| {
            let line = move |status: VersionStatus| IndexLine {
                name: summary.name.clone(),
                version: status.version,
                state: status.state,
            };
            summary.versions.into_iter().map(line).collect::<Vec<_>>()
        };
        let wanted = |line: &IndexLine| !ready_only || line.state == ModelState::Ready;
        self.index().into_iter().flat_map(lines).filter(wanted).collect()
    }

    /// The versions that are ready: all, those of `name`, or the one named.
    ///
    /// # Errors
    /// Those of [`Repository::resolve`], where a name is given.
    pub fn ready(&self, name: Option<&str>, version: Option<&str>) -> Result<Vec<Arc<Model>>> {
        match (name, version) {
            (None, _) => Ok(self.catalog.all_ready()),
            (Some(name), Some(version)) => self.resolve(name, Some(version)).map(|model| vec![model]),
            // Resolved too, so that a model that is not there or not ready says so.
            (Some(name), None) => self.resolve(name, None).map(|_| self.catalog.ready(name)),
        }
    }

    /// What the schedulers of all versions that serve have learned.
    pub async fn known(&self) -> Vec<Known> {
        let models: Vec<_> = self.catalog.all_ready().into_iter().filter(|model| model.is_in_memory()).collect();
        join_all(models.iter().map(|model| model.known())).await
    }

    /// Checks that a repository holds `name`, ready or not.
    ///
    /// # Errors
    /// [`Kind::UnknownModel`] where none does.
    pub fn knows(&self, name: &str) -> Result<()> {
        self.why_not_ready(name, None).map(drop)
    }

    /// What every version of `name` is doing, ascending; one without a number says why there is none.
    ///
    /// # Errors
    /// [`Kind::UnknownModel`].
    pub fn versions(&self, name: &str) -> Result<Vec<VersionStatus>> {
        self.catalog.statuses(name)
    }

    /// What `choose` makes of the versions of `name` that are ready, oldest first; it must not ask the repository anything.
    pub fn choose<T>(&self, name: &str, choose: impl FnOnce(&[Arc<Model>]) -> Option<T>) -> Option<T> {
        self.catalog.choose(name, choose)
    }

    /// Whether the settings of any model that was ever ready keep callers at a version.
    pub fn declares_sticky(&self) -> bool {
        self.catalog.declares_sticky()
    }

    /// Waits until some batch finds too few cores free.
    pub fn pressed(&self) -> impl Future<Output = ()> + '_ {
        self.lifecycle.pressed()
    }

    /// Marks every change of a model's or the repository's readiness from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.catalog.changes()
    }

    /// Versions of `name` that are ready, oldest first.
    pub fn ready_versions(&self, name: &str) -> Vec<Version> {
        self.catalog.ready_versions(name)
    }

    /// Whether a version, or else any of the model, is ready: `None` where it is, else why not.
    ///
    /// # Errors
    /// [`Kind::UnknownModel`] where there is no such model or version.
    pub fn why_not_ready(&self, name: &str, version: Option<&str>) -> Result<Option<Error>> {
        match self.find(name, version) {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == Kind::ModelUnavailable => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Whether the server can take traffic: what was wanted at start has been tried, and if any model was, one is ready.
    pub fn is_ready(&self) -> bool {
        self.lifecycle.has_settled() && self.catalog.serves_or_is_empty()
    }

    /// Waits until everything wanted has been loaded or has failed.
    pub async fn settled(&self) {
        self.lifecycle.settled().await;
    }

    /// Loads `name`, or brings it up to date with what is on disk, and waits for the outcome. `parameters` may bring
    /// settings in place of its own, or a whole model directory in place of what a repository holds, until the next load or
    /// unload: see [`LoadOverrides`]. A load that brings something unfit changes nothing.
    ///
    /// # Errors
    /// `Conflict` where callers do not decide; `UnknownModel`; `ModelUnavailable` with the reason where it fails; for
    /// parameters those of [`LoadOverrides::new`], and `TooLarge` for files above [`RepositoryConfig::uploads_bytes_max`].
    pub async fn load(&self, name: &str, parameters: Vec<(String, LoadParameter)>) -> Result<()> {
        self.check_explicit("load", name)?;
        self.lifecycle.load(name, LoadOverrides::new(name, parameters)?).await
    }

    /// Takes `name` out of service and waits until the requests it has are answered and its memory is free.
    ///
    /// # Errors
    /// `Conflict` where callers do not decide; `UnknownModel`.
    pub async fn unload(&self, name: &str) -> Result<()> {
        self.check_explicit("unload", name)?;
        self.lifecycle.unload(name).await
    }

    /// Unloads everything, waiting for requests under way at most `timeout`. For the end of the process.
    pub async fn close(&self, timeout: Duration) {
        // What is still running then ends with the process.
        let _ = tokio::time::timeout(timeout, self.lifecycle.close()).await;
        self.lifecycle.forget_uploads().await;
    }

    fn check_explicit(&self, call: &str, name: &str) -> Result<()> {
        let mode = match self.control {
            Control::Explicit => return Ok(()),
            Control::None => "none",
            // As Triton has it: what the next look finds would undo the call.
            Control::Poll => "poll, which serves what the repositories hold",
        };
        Err(Error::conflict(format!(
            "cannot {call} model '{name}': this server runs with --model-control {mode}; start it with --model-control explicit"
        )))
    }
}
