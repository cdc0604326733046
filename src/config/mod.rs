//! Configuration: defaults, then `--config` file, then `TENSORGATE_*` environment, then flags; the later wins.
//!
//! [`Flags`] is what a person typed: options only, no I/O. [`File`] is the same from TOML. [`resolve`] merges them into the
//! [`Config`] that rooms take, and reports every fault at once, each with its key.

mod file;
mod flags;
mod guard;
mod resolve;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;

use crate::repository::RepositoryConfig;
use crate::server::ServerConfig;
use crate::telemetry::LogFormat;

pub use file::File;
pub use flags::{Flags, GuardFlags, WatchFlags};
pub use resolve::resolve;

/// Checked configuration of a server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where models come from.
    pub repository: RepositoryConfig,
    /// The doors.
    pub server: ServerConfig,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are: a level, or a `tracing` filter.
    pub log_level: String,
}

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The flag or key: "--grpc-port", "server.grpc_port".
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Fault {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Fault {}
