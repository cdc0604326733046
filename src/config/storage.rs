//! Flags of where models come from over the network, and how they are kept; the reasons for defaults stand at
//! `storage::StorageConfig`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::resolve::Reading;
use super::{Fault, Flags};
use crate::model::ModelName;
use crate::repository::RepositoryConfig;
use crate::storage::{Environment, StorageConfig, StorageUri};

/// Flags of storage.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Storage")]
pub struct StorageFlags {
    /// Where the model of --model-name lies: s3://, gs://, az://, https://, http:// or file://, a folder or an .onnx file
    #[arg(long, value_name = "URI", env = "TENSORGATE_STORAGE_URI")]
    pub storage_uri: Option<String>,

    /// Where fetched models are kept; servers may share it [default: tensorgate/models in $XDG_CACHE_HOME or ~/.cache, else in
    /// /var/cache]
    #[arg(long, value_name = "DIR", env = "TENSORGATE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// The most that they may take there; those used longest ago go first [default: what the disk has, but for 64MiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_CACHE_BYTES_MAX")]
    pub cache_bytes_max: Option<String>,

    /// Requests to stores at once, of all models [default: 8]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_FETCH_PARALLEL")]
    pub fetch_parallel: Option<usize>,

    /// The most that all of them bring in a second, such as 100MB [default: as fast as it goes]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_FETCH_BYTES_PER_SECOND")]
    pub fetch_bytes_per_second: Option<String>,
}

/// Most requests at once: beyond, they are the store's problem and no faster.
const PARALLEL_MAX: usize = 256;

/// Sorts what was given as repositories and models into what is here and what is in stores.
pub(super) fn storage(flags: &Flags, repository: &mut RepositoryConfig, faults: &mut Vec<Fault>) {
    for given in flags.repositories.iter().chain(&flags.model_repository) {
        match StorageUri::parse(&given.to_string_lossy()) {
            // A path need not be text.
            Ok(StorageUri::Local(_)) if !given.to_string_lossy().contains("://") => {
                repository.repositories.push(given.clone())
            }
            Ok(StorageUri::Local(path)) => repository.repositories.push(path),
            Ok(StorageUri::Remote(uri)) => repository.remote.push((uri, None)),
            Err(message) => faults.push(Fault::new("REPOSITORY", message)),
        }
    }
    single(flags, repository, faults);
    let (given, config) = (&flags.storage, &mut repository.storage);
    config.environment = Environment::current();
    config.cache_directory = given
        .cache_dir
        .clone()
        .or_else(|| usual(|name| std::env::var_os(name)))
        .unwrap_or(StorageConfig::default().cache_directory);
    let mut read = Reading { faults };
    read.count("--fetch-parallel", given.fetch_parallel, 1..=PARALLEL_MAX, &mut config.parallel);
    for (key, text, expected, target) in [
        ("--cache-bytes-max", &given.cache_bytes_max, "what a disk holds, such as 50GiB", &mut config.cache_bytes_max),
        (
            "--fetch-bytes-per-second",
            &given.fetch_bytes_per_second,
            "what a network brings, such as 100MB",
            &mut config.bytes_per_second,
        ),
    ] {
        let mut bytes = 0;
        read.size(key, text, 1..=usize::MAX, expected, &mut bytes);
        *target = (bytes > 0).then_some(bytes as u64);
    }
}

fn single(flags: &Flags, repository: &mut RepositoryConfig, faults: &mut Vec<Fault>) {
    match (&flags.model_name, &flags.model_dir, &flags.storage.storage_uri) {
        (Some(_), Some(_), Some(_)) => faults
            .push(Fault::new("--storage-uri", "says where the model lies, and so does --model-dir: give one of them")),
        (Some(name), Some(directory), None) => match StorageUri::parse(&directory.to_string_lossy()) {
            Ok(StorageUri::Remote(_)) => {
                faults.push(Fault::new("--model-dir", "is no directory: give --storage-uri for what lies in a store"))
            }
            _ => repository.single.push((ModelName::new(name), directory.clone())),
        },
        (Some(name), None, Some(uri)) => match StorageUri::parse(uri) {
            Ok(StorageUri::Local(path)) => repository.single.push((ModelName::new(name), path)),
            Ok(StorageUri::Remote(uri)) => repository.remote.push((uri, Some(ModelName::new(name)))),
            Err(message) => faults.push(Fault::new("--storage-uri", message)),
        },
        (None, None, None) => {}
        (Some(_), None, None) => faults
            .push(Fault::new("--model-name", "needs --model-dir or --storage-uri, which say where the model lies")),
        (None, Some(_), _) => faults.push(Fault::new("--model-dir", "needs --model-name, the name to serve it under")),
        (None, None, Some(_)) => {
            faults.push(Fault::new("--storage-uri", "needs --model-name, the name to serve it under"))
        }
    }
}

/// Where caches of this user lie (XDG Base Directory Specification); `None` where nobody says.
pub(super) fn user_cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("tensorgate"))
}

fn usual(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    user_cache(variable).map(|cache| cache.join("models"))
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;

    fn with(storage: StorageFlags) -> Flags {
        Flags { storage, model_name: Some("m".into()), ..Flags::default() }
    }

    #[test]
    fn places_are_sorted_into_those_here_and_those_in_stores() {
        let repositories =
            ["models", "file:///a", "s3://bucket/models", "https://host/models"].map(PathBuf::from).into();
        let storage = StorageFlags { storage_uri: Some("gs://bucket/m".into()), ..StorageFlags::default() };
        let config = resolve(&Flags { repositories, ..with(storage) }).unwrap().repository;
        assert_eq!(config.repositories, [PathBuf::from("models"), "/a".into()]);
        let remote: Vec<_> = config.remote.iter().map(|(uri, name)| (uri.to_string(), name.is_some())).collect();
        let expected = [("s3://bucket/models", false), ("https://host/models", false), ("gs://bucket/m", true)];
        assert_eq!(remote, expected.map(|(uri, single)| (uri.to_owned(), single)));
        let storage = StorageFlags { storage_uri: Some("file:///a/m".into()), ..StorageFlags::default() };
        assert_eq!(resolve(&with(storage)).unwrap().repository.single, [(ModelName::new("m"), "/a/m".into())]);
    }

    #[test]
    fn every_bound_of_storage_is_read_and_checked() {
        let storage = StorageFlags {
            cache_dir: Some("/c".into()),
            cache_bytes_max: Some("50GiB".into()),
            fetch_parallel: Some(3),
            fetch_bytes_per_second: Some("100MB".into()),
            storage_uri: Some("s3://b/m".into()),
        };
        let config = resolve(&with(storage)).unwrap().repository.storage;
        assert_eq!((config.cache_directory, config.cache_bytes_max), ("/c".into(), Some(50 << 30)));
        assert_eq!((config.parallel, config.bytes_per_second), (3, Some(100_000_000)));
        let storage = StorageFlags {
            cache_bytes_max: Some("much".into()),
            fetch_parallel: Some(0),
            fetch_bytes_per_second: Some("0".into()),
            storage_uri: Some("hdfs://b/m".into()),
            cache_dir: None,
        };
        let faults = resolve(&with(storage)).unwrap_err();
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["--storage-uri", "--fetch-parallel", "--cache-bytes-max", "--fetch-bytes-per-second"]);
    }
}
