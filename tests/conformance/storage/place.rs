//! Stores to run the suite over, and what fetches from them.

use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;
use tensorgate::storage::{
    Environment, RemoteUri, RetryPolicy, Snapshot, Source, Storage, StorageConfig, StorageUri, Wanted,
};
use tensorgate::telemetry::StorageMetrics;

use super::bucket::Bucket;

/// A kind of store that holds what a test puts into it, below `models`.
pub(crate) enum Kind {
    Store { store: Arc<dyn ObjectStore>, _folder: Option<TempDir> },
    S3(Bucket),
    Web(Bucket),
}

impl Kind {
    pub(crate) fn local() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        Self::Store { store, _folder: Some(folder) }
    }

    pub(crate) fn memory() -> Self {
        Self::Store { store: Arc::new(InMemory::new()), _folder: None }
    }

    pub(crate) fn s3() -> Self {
        Self::S3(Bucket::start())
    }

    /// A web server, which says what it holds by a list of digests.
    pub(crate) fn web() -> Self {
        Self::Web(Bucket::start())
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let key = format!("models/{path}");
        match self {
            Self::Store { store, .. } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(store.put(&Key::from(key.as_str()), bytes.to_vec().into())).unwrap();
            }
            Self::S3(bucket) => bucket.put(&key, bytes),
            Self::Web(bucket) => bucket.put(&key, bytes),
        }
    }

    /// Says what there is, where the store cannot.
    pub(crate) fn publish(&self, files: &[(&str, &[u8])]) {
        files.iter().for_each(|(path, bytes)| self.put(path, bytes));
        if let Self::Web(bucket) = self {
            let lines: String = files.iter().map(|(path, bytes)| format!("{}  {path}\n", sha256(bytes))).collect();
            bucket.put("models/SHA256SUMS", lines);
        }
    }

    pub(crate) fn source(&self, storage: &Arc<Storage>, path: &str) -> Source {
        match self {
            Self::Store { store, .. } => storage.source_in(Arc::clone(store), remote(&format!("s3://here/{path}"))),
            Self::S3(bucket) => storage.source(remote(&bucket.uri(path))).unwrap(),
            Self::Web(bucket) => storage.source(remote(&bucket.web_uri(path))).unwrap(),
        }
    }
}

pub(crate) fn remote(uri: &str) -> RemoteUri {
    match StorageUri::parse(uri).unwrap() {
        StorageUri::Remote(uri) => uri,
        StorageUri::Local(path) => panic!("{}", path.display()),
    }
}

/// A fetching side with a cache.
pub(crate) struct Side {
    pub(crate) storage: Arc<Storage>,
    pub(crate) metrics: Arc<StorageMetrics>,
}

/// Quick to try again, and to lose patience.
pub(crate) fn config(cache: &TempDir) -> StorageConfig {
    let retry =
        RetryPolicy { first: Duration::from_millis(1), longest: Duration::from_millis(20), ..RetryPolicy::default() };
    StorageConfig {
        cache_directory: cache.path().join("cache"),
        retry,
        stall: Duration::from_secs(5),
        environment: Environment::from_iter([("awsAnonymousCredential", "true")]),
        ..StorageConfig::default()
    }
}

impl Side {
    pub(crate) fn new(config: &StorageConfig) -> Self {
        let metrics = Arc::new(StorageMetrics::default());
        Self { storage: Storage::open(config, Arc::clone(&metrics)).unwrap(), metrics }
    }
}

/// All of a snapshot.
pub(crate) fn all(snapshot: &Snapshot) -> Wanted {
    snapshot.objects.iter().map(|(path, object)| (path.clone(), (path.clone(), object.clone()))).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that are not the same everywhere.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
