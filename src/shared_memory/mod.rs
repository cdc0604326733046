//! Regions of system shared memory that clients have registered (Triton's system shared memory extension): a client on the
//! same machine leaves tensors in a file of `/dev/shm` and names the place in its request.
//!
//! Nothing is mapped. Tensors are copied out of a region and into it by positioned reads and writes, so that a client which
//! shortens its file gets an error where a mapping would end the process, and one which writes into it cannot change a
//! tensor that was checked already. Off by default; only files of one directory, whose names start as configured, can be
//! registered.

mod region;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::error::{Error, Kind, Result};

pub use region::{Held, Region};

/// What the extension is called in metadata and errors.
pub const EXTENSION: &str = "system_shared_memory";

/// Regions registered at once, by default: each keeps a file open, and a client has one or two.
pub const REGIONS_MAX: usize = 256;

/// When a client that met the bound on held bytes may try again: most requests are answered in less.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where regions may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionsConfig {
    /// The directory that keys are looked up in.
    pub directory: PathBuf,
    /// How names in it have to start; empty for every name.
    pub name_prefix: String,
    /// Regions registered at once. Default [`REGIONS_MAX`].
    pub regions_max: usize,
    /// Bytes of tensors copied out of regions that are held at once: requests that name a place are small, what they make
    /// the server hold is not.
    pub held_bytes_max: usize,
}

impl RegionsConfig {
    /// Regions below `prefix`: a directory (`/dev/shm`), or a directory and how the names in it start
    /// (`/dev/shm/tensors-`).
    ///
    /// # Errors
    /// What is wrong with it: it is not absolute, or its directory is not there.
    pub fn new(prefix: &Path, regions_max: usize, held_bytes_max: usize) -> Result<Self, String> {
        let shown = prefix.display();
        if !prefix.is_absolute() {
            return Err(format!("'{shown}' is not absolute, expected a path such as /dev/shm/tensors-"));
        }
        let (directory, name_prefix) = if prefix.is_dir() {
            (prefix, String::new())
        } else {
            let name = prefix.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| format!("'{shown}' ends in no name"))?;
            (prefix.parent().unwrap_or(Path::new("/")), name.to_owned())
        };
        // The one place where links are followed: whoever configures the directory may mean what it points to.
        let directory =
            fs::canonicalize(directory).map_err(|cause| format!("cannot use '{}': {cause}", directory.display()))?;
        if !directory.is_dir() {
            return Err(format!("'{}' is no directory", directory.display()));
        }
        Ok(Self { directory, name_prefix, regions_max, held_bytes_max })
    }

    /// The file of `key`, whose slash at the start is optional, as in `shm_open`.
    fn file(&self, key: &str) -> Result<PathBuf> {
        let name = key.strip_prefix('/').unwrap_or(key);
        // Without a slash it is a name of this directory; "." and ".." are the two that lead out.
        let plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        if plain && name.starts_with(&self.name_prefix) {
            return Ok(self.directory.join(name));
        }
        Err(Error::invalid(format!("key '{}' is not allowed, expected a file of {self}", shown(key))))
    }
}

/// What may be registered, for messages.
impl fmt::Display for RegionsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}* (--shared-memory-prefix)", self.directory.display(), self.name_prefix)
    }
}

/// The regions that are registered.
#[derive(Debug)]
pub struct Regions {
    config: RegionsConfig,
    held: Arc<AtomicUsize>,
    by_name: RwLock<BTreeMap<String, Arc<Region>>>,
}

impl Regions {
    /// None yet.
    pub fn new(config: RegionsConfig) -> Self {
        Self { config, held: Arc::default(), by_name: RwLock::default() }
    }

    /// Registers `byte_size` bytes from `offset` of the file that `key` names, as `name`.
    ///
    /// # Errors
    /// `InvalidRequest` for a key outside the prefix, a file that is not there, is no regular file or is shorter;
    /// `Conflict` for a name that is taken; `TooLarge` beyond the number of regions.
    pub fn register(&self, name: &str, key: &str, offset: u64, byte_size: u64) -> Result<()> {
        let about = |error: Error| error.within(format_args!("region '{}'", shown(name)));
        if name.is_empty() {
            return Err(Error::invalid("the region has no name"));
        }
        // Before the lock: opening a file may take as long as the file system likes.
        self.room_for(name).map_err(about)?;
        let region = self.config.file(key).and_then(|path| Region::open(name, key, &path, offset, byte_size));
        let region = Arc::new(region.map_err(about)?);
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        room_in(&by_name, name, self.config.regions_max).map_err(about)?;
        by_name.insert(name.to_owned(), region);
        Ok(())
    }

    fn room_for(&self, name: &str) -> Result<()> {
        room_in(&self.by_name.read().unwrap_or_else(PoisonError::into_inner), name, self.config.regions_max)
    }

    /// Forgets the region called `name`, or all of them. A request that uses one finishes with it. One that is not there is
    /// forgotten already, as with Triton: clients unregister before they register.
    pub fn unregister(&self, name: Option<&str>) {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            Some(name) => drop(by_name.remove(name)),
            None => by_name.clear(),
        }
    }

    /// The region called `name`, or all of them, by their names.
    ///
    /// # Errors
    /// `UnknownModel`, which is "not found", where there is none of that name.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<Arc<Region>>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        match name {
            None => Ok(by_name.values().cloned().collect()),
            Some(name) => match by_name.get(name) {
                Some(region) => Ok(vec![Arc::clone(region)]),
                None => Err(Error::unknown_model(unknown(name))),
            },
        }
    }

    /// The region called `name`, for a tensor of `byte_size` bytes at `offset` in it.
    ///
    /// # Errors
    /// `InvalidRequest` where there is none of that name, or the place reaches beyond it.
    pub fn place(&self, name: &str, offset: u64, byte_size: usize) -> Result<Arc<Region>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let region = by_name.get(name).ok_or_else(|| Error::invalid(unknown(name)))?;
        region.check(offset, byte_size)?;
        Ok(Arc::clone(region))
    }

    /// Counts `bytes` that are about to be copied out of regions, until what is given back is dropped.
    ///
    /// # Errors
    /// `Overloaded` where too many are held.
    pub fn hold(&self, bytes: usize) -> Result<Held> {
        let held = Held::new(Arc::clone(&self.held), bytes);
        let bytes_max = self.config.held_bytes_max;
        if self.held.load(Ordering::Relaxed) <= bytes_max {
            return Ok(held);
        }
        if bytes > bytes_max {
            let message = format!("{bytes} bytes in shared memory are more than {bytes_max} (--buffered-max)");
            return Err(Error::too_large(message));
        }
        let message = format!("tensors out of shared memory hold more than {bytes_max} bytes (--buffered-max)");
        Err(Error::new(Kind::Overloaded, message).with_retry_after(RETRY_AFTER))
    }
}

fn room_in(by_name: &BTreeMap<String, Arc<Region>>, name: &str, regions_max: usize) -> Result<()> {
    if by_name.contains_key(name) {
        return Err(Error::new(Kind::Conflict, "is registered already, unregister it first"));
    }
    if by_name.len() >= regions_max {
        let message = format!("{regions_max} regions are registered, which is the limit (--shared-memory-regions-max)");
        return Err(Error::too_large(message));
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    format!("unknown shared memory region '{}', expected one that is registered", shown(name))
}

/// A name short enough for a message.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}
