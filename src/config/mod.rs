//! Configuration: defaults, then `--config` file, then `TENSORGATE_*` environment, then flags; the later wins.
//!
//! [`Flags`] is what a person typed: options only, no I/O. [`File`] is the same from TOML. [`resolve`] merges them into the
//! [`Config`] that rooms take, and reports every fault at once, each with its key.

mod bounds;
mod file;
mod flags;
mod guard;
mod resolve;
mod storage;
#[cfg(test)]
mod tests;
mod watch;

use crate::repository::RepositoryConfig;
use crate::server::ServerConfig;
use crate::shared_memory::RegionsConfig;
use crate::telemetry::LogFormat;

pub use crate::model::settings::Fault;
pub use bounds::BoundsFlags;
pub use file::File;
pub use flags::{Flags, GuardFlags, WatchFlags};
pub use resolve::resolve;
pub use storage::StorageFlags;

/// Checked configuration of a server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where models come from.
    pub repository: RepositoryConfig,
    /// The doors.
    pub server: ServerConfig,
    /// Where clients may leave tensors in shared memory; without it, nowhere.
    pub shared_memory: Option<RegionsConfig>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are: a level, or a `tracing` filter.
    pub log_level: String,
}
