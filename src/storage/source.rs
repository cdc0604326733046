//! One place in one store: what it holds, and folders of what is needed of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStore;

use super::Storage;
use super::cache::Blob;
use super::credentials::Environment;
use super::digest::{Digest, Sha256};
use super::failure::{Class, Failure};
use super::fetch::Job;
use super::listing::{self, Object, Snapshot};
use super::lock::Lock;
use super::partial::Partial;
use super::progress::Progress;
use super::sums::{SUMS_BYTES_MAX, SUMS_FILE, Sums};
use super::tree::Tree;
use super::uri::{RemoteUri, Store};

/// Files of one version. More are no model, and each is a link in the cache.
const FILES_MAX: usize = 20_000;

/// Failures in a row after which a store is taken to be what it last was: a second or two.
const FAILURES_MAX: u32 = 4;

/// Files to be put into a folder: by their paths in it, their paths in the source and what is listed of them.
pub type Wanted = BTreeMap<String, (String, Object)>;

/// A place in a store.
pub struct Source {
    storage: Arc<Storage>,
    store: Arc<dyn ObjectStore>,
    uri: RemoteUri,
    /// What tells it from places that are called the same and are others.
    identity: String,
    is_down: AtomicBool,
}

/// A file to be fetched, with what is needed meanwhile.
struct Missing<'a> {
    path: &'a str,
    key: String,
    job: Arc<Job>,
    partial: Arc<Partial>,
    expected: Option<Sha256>,
    _lock: Lock,
}

/// Ends the thread that reads a file as it comes, however the download ends.
struct GiveUp<'a>(&'a Partial);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Source {
    pub(super) fn new(storage: Arc<Storage>, store: Arc<dyn ObjectStore>, uri: RemoteUri) -> Self {
        let identity = format!("{uri} {}", servers(&storage.environment));
        Self { storage, store, uri, identity, is_down: AtomicBool::new(false) }
    }

    /// Breaks off whatever is fetched from here and elsewhere, see [`Storage::close`].
    pub fn close(&self) {
        self.storage.close();
    }

    /// Its URI.
    pub fn uri(&self) -> &RemoteUri {
        &self.uri
    }

    /// What there is; with `below`, in that folder alone, by the same paths. The small files of models come with it, where they
    /// lie at most `depth` folders deep. A store that cannot be asked now is taken to hold what it last did, which is
    /// one line of the log.
    ///
    /// # Errors
    /// Where the store cannot be asked and nothing is kept of it, or refuses; nothing there is no error with `below`.
    pub fn snapshot(&self, below: Option<&str>, depth: usize) -> Result<Snapshot, Failure> {
        match (self.list(below, depth), below) {
            (Ok(snapshot), below) => {
                self.note_up(&snapshot, below);
                Ok(snapshot)
            }
            (Err(failure), Some(_)) if failure.class == Class::Missing => Ok(Snapshot::default()),
            (Err(failure), below) if failure.is_outage() => self.kept(below).ok_or(failure.clone()).inspect(|_| {
                if !self.is_down.swap(true, Ordering::Relaxed) {
                    let cause = &failure.message;
                    tracing::warn!(uri = %self.uri, "storage is down, models are served from the cache: {cause}");
                }
            }),
            (Err(failure), _) => Err(failure),
        }
    }

    fn list(&self, below: Option<&str>, depth: usize) -> Result<Snapshot, Failure> {
        let storage = &self.storage;
        let mut patience = storage.fetcher.patience.clone();
        if self.kept(below).is_some() {
            // Nobody has to wait for a store that is down where there is another way.
            patience.policy.failures_max = patience.policy.failures_max.min(FAILURES_MAX);
        }
        match below {
            None => storage.wait(listing::list(&self.store, &self.uri, depth, &patience)),
            // Its list of digests is at the top.
            Some(below) if matches!(self.uri.store, Store::Http { .. }) => {
                Ok(within(storage.wait(listing::list(&self.store, &self.uri, depth, &patience))?, below))
            }
            Some(below) => {
                let depth = depth.saturating_sub(1);
                let listed = storage.wait(listing::list(&self.store, &self.uri.join(below), depth, &patience))?;
                Ok(moved(listed, below))
            }
        }
    }

    fn note_up(&self, snapshot: &Snapshot, below: Option<&str>) {
        if self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!(uri = %self.uri, "storage can be asked again");
        }
        for why in &snapshot.refused {
            tracing::warn!(uri = %self.uri, "an object is left out, no file can have its key: {why}");
        }
        let kept = serde_json::to_vec(snapshot).map_err(|cause| Failure::new(Class::Wrong, cause.to_string()));
        if let Err(failure) = kept.and_then(|text| self.storage.cache.keep_listing(&self.listing_key(below), &text)) {
            tracing::warn!(uri = %self.uri, "the listing cannot be kept for a start without storage: {failure}");
        }
    }

    /// What was listed last.
    fn kept(&self, below: Option<&str>) -> Option<Snapshot> {
        let read = |key: &str| serde_json::from_slice::<Snapshot>(&self.storage.cache.listing(key)?).ok();
        let kept = match below {
            None => read(&self.listing_key(None)),
            Some(folder) => {
                read(&self.listing_key(below)).or_else(|| read(&self.listing_key(None)).map(|all| within(all, folder)))
            }
        };
        kept.map(|kept| Snapshot { is_stale: true, ..kept })
    }

    fn listing_key(&self, below: Option<&str>) -> String {
        key_of(&[&self.identity, below.unwrap_or("")])
    }

    /// A folder with the files that are `wanted`, of which what is not in the cache is fetched. Digests that a `SHA256SUMS`
    /// among them states are held against what came. `label` says in the log what it is for; where somebody has to know the SHA-256
    /// of the files, `with_sha256` has it worked out while they come.
    ///
    /// # Errors
    /// `Changed` where an object is no longer the one listed; `Damaged` where it is not what its digest says; `TooLarge` and
    /// `Disk` where there is no room; else what the store says.
    pub fn fetch(&self, label: &str, wanted: &Wanted, with_sha256: bool) -> Result<Tree, Failure> {
        if wanted.len() > FILES_MAX {
            let message = format!("{label}: {} files, at most {FILES_MAX} make a version", wanted.len());
            return Err(Failure::new(Class::TooLarge, message));
        }
        for path in wanted.keys() {
            super::check_key(path).map_err(|why| Failure::new(Class::Wrong, format!("{label}: {why}")))?;
        }
        /// Other servers may make room between the look at a file and the link to it.
        const TRIES_MAX: usize = 3;
        let mut tries = 0;
        loop {
            tries += 1;
            let blobs = self.blobs(label, wanted, with_sha256)?;
            match self.storage.cache.tree(&blobs) {
                Err(failure) if failure.class == Class::Changed && tries < TRIES_MAX => {}
                done => return done,
            }
        }
    }

    fn blobs(&self, label: &str, wanted: &Wanted, with_sha256: bool) -> Result<BTreeMap<String, Blob>, Failure> {
        let is_sums = |path: &str| path.rsplit('/').next() == Some(SUMS_FILE);
        let (sums, others): (Wanted, Wanted) =
            wanted.iter().map(|(path, file)| (path.clone(), file.clone())).partition(|(path, _)| is_sums(path));
        let mut expected = BTreeMap::new();
        let mut blobs = self.group(label, &sums, &expected, with_sha256)?;
        if !sums.is_empty() {
            let tree = self.storage.cache.tree(&blobs)?;
            for path in sums.keys() {
                let folder = path.strip_suffix(SUMS_FILE).unwrap_or_default();
                for (name, sha256) in read_sums(&tree, path, label)?.iter() {
                    expected.insert(format!("{folder}{name}"), sha256);
                }
            }
        }
        blobs.extend(self.group(label, &others, &expected, with_sha256)?);
        Ok(blobs)
    }

    /// The blobs of some files, fetched where they are not there.
    fn group(
        &self,
        label: &str,
        files: &Wanted,
        expected: &BTreeMap<String, Sha256>,
        with_sha256: bool,
    ) -> Result<BTreeMap<String, Blob>, Failure> {
        let Storage { cache, fetcher, metrics, .. } = &*self.storage;
        let mut blobs = BTreeMap::new();
        let mut absent = BTreeMap::new();
        for (path, (source_path, object)) in files {
            let expected = expected.get(path).copied().or(object.sha256);
            let key = self.file_key(source_path, object);
            let there = self.cached(&key, object, expected);
            metrics.count_lookup(there.is_some());
            match there {
                Some(blob) => drop(blobs.insert(path.clone(), self.checked(source_path, blob, expected)?)),
                // By their keys, so that servers which want the same files wait for one another and never in a circle.
                None => drop(absent.insert(key, (path, source_path, object, expected))),
            }
        }
        let mut missing = Vec::new();
        for (key, &(path, source_path, object, expected)) in &absent {
            let lock = cache.lock(key)?;
            if let Some(blob) = self.cached(key, object, expected) {
                blobs.insert(path.clone(), self.checked(source_path, blob, expected)?);
                continue;
            }
            let mut partial = cache.partial(key, object.bytes)?;
            if !is_identified(object) {
                let _ = partial.discard();
                partial = cache.partial(key, object.bytes)?;
            }
            metrics.add_resumed(object.bytes - partial.missing_bytes());
            let partial = Arc::new(partial);
            let place = self.place(source_path);
            let job = Arc::new(Job {
                store: Arc::clone(&self.store),
                key: listing::key(&self.uri, source_path),
                place,
                object: object.clone(),
                partial: Arc::clone(&partial),
            });
            missing.push(Missing { path, key: key.clone(), job, partial, expected, _lock: lock });
        }
        if missing.is_empty() {
            return Ok(blobs);
        }
        let bytes = missing.iter().map(|file| file.partial.missing_bytes()).sum();
        cache.make_room(bytes)?;
        let mut progress = Progress::begin(label, missing.len(), bytes, Arc::clone(metrics));
        let files_at_once = fetcher.at_once;
        let fetched = self.storage.wait(progress.during(async {
            let work = futures_util::stream::iter(&missing)
                .map(|file| self.file(file, with_sha256))
                .buffer_unordered(files_at_once);
            work.try_collect::<Vec<_>>().await
        }));
        progress.end(fetched.is_ok());
        for (path, blob) in fetched? {
            blobs.insert(path.to_owned(), blob);
        }
        Ok(blobs)
    }

    fn place(&self, source_path: &str) -> String {
        if source_path.is_empty() { self.uri.to_string() } else { self.uri.join(source_path).to_string() }
    }

    fn cached(&self, key: &str, object: &Object, expected: Option<Sha256>) -> Option<Blob> {
        let cache = &self.storage.cache;
        let by_sha256 = expected.and_then(|sha256| cache.of_sha256(sha256, object.bytes));
        by_sha256.or_else(|| is_identified(object).then(|| cache.known(key, object.bytes)).flatten())
    }

    /// A blob of the cache, which is what is stated where something is.
    fn checked(&self, source_path: &str, blob: Blob, expected: Option<Sha256>) -> Result<Blob, Failure> {
        if expected.is_some() {
            check(self.place(source_path), self.storage.cache.sha256_of(&blob)?, expected)?;
        }
        Ok(blob)
    }

    /// Fetches one file and makes a blob of it.
    async fn file<'a>(&self, file: &'a Missing<'a>, with_sha256: bool) -> Result<(&'a str, Blob), Failure> {
        let Storage { cache, fetcher, .. } = &*self.storage;
        let place = &file.job.place;
        let partial = Arc::clone(&file.partial);
        let is_needed = with_sha256 || file.expected.is_some();
        let reading = is_needed.then(|| tokio::task::spawn_blocking(move || partial.sha256()));
        let giving_up = GiveUp(&file.partial);
        fetcher.fetch(&file.job).await?;
        drop(giving_up);
        let gone =
            |cause: &dyn std::fmt::Display| Failure::new(Class::Disk, format!("{place}: cannot be read: {cause}"));
        let digest = file.partial.digest().map_err(|cause| Failure::disk(place, &cause))?;
        let blob = Blob { digest, bytes: file.job.object.bytes };
        let sha256 = match reading {
            Some(reading) => {
                let read =
                    reading.await.map_err(|cause| gone(&cause))?.map_err(|cause| Failure::disk(place, &cause))?;
                Some(read.ok_or_else(|| gone(&"it was given up"))?)
            }
            None => None,
        };
        if let Some(sha256) = sha256 {
            check(place, sha256, file.expected).inspect_err(|_| {
                // It would be found again, whole and wrong.
                let _ = file.partial.discard();
            })?;
        }
        cache.publish(&file.partial, &blob)?;
        if let Some(sha256) = sha256 {
            cache.note_sha256(&blob, sha256);
        }
        cache.remember(&file.key, &blob)?;
        Ok((file.path, blob))
    }

    fn file_key(&self, path: &str, object: &Object) -> String {
        let Object { bytes, tag, modified_ms, sha256 } = object;
        // A tag says more than a time, which copies of an object keep or not.
        let written = tag.clone().unwrap_or_else(|| modified_ms.to_string());
        let sha256 = sha256.map(|sha256| sha256.to_string()).unwrap_or_default();
        key_of(&[&self.identity, path, &bytes.to_string(), &written, &sha256])
    }
}

/// Whether what is listed of an object changes with its content.
fn is_identified(object: &Object) -> bool {
    object.tag.is_some() || object.sha256.is_some() || object.modified_ms != 0
}

fn check(place: impl std::fmt::Display, actual: Sha256, expected: Option<Sha256>) -> Result<(), Failure> {
    match expected {
        Some(expected) if actual != expected => {
            let message =
                format!("{place}: its SHA-256 is {actual}, and {SUMS_FILE} says {expected}: it is not served");
            Err(Failure::new(Class::Damaged, message))
        }
        _ => Ok(()),
    }
}

fn read_sums(tree: &Tree, path: &str, label: &str) -> Result<Sums, Failure> {
    let wrong = |why: String| Failure::new(Class::Wrong, format!("{label}: {path}: {why}"));
    let file = tree.directory().join(path);
    let length = std::fs::metadata(&file).map_err(|cause| Failure::disk(file.display(), &cause))?.len();
    if length > SUMS_BYTES_MAX as u64 {
        return Err(wrong(format!("has {length} bytes, at most {SUMS_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(&file).map_err(|cause| wrong(cause.to_string()))?;
    Sums::parse(&text).map_err(wrong)
}

/// The servers that the environment names: the same bucket may be another one there.
fn servers(environment: &Environment) -> String {
    const NAMES: [&str; 8] = [
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT",
        "S3_ENDPOINT",
        "STORAGE_EMULATOR_HOST",
        "GOOGLE_BASE_URL",
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ENDPOINT",
    ];
    NAMES.iter().filter_map(|name| environment.get(name)).collect::<Vec<_>>().join(" ")
}

/// What of a snapshot is in a folder.
fn within(mut snapshot: Snapshot, folder: &str) -> Snapshot {
    let is_within = |path: &String| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    snapshot.objects.retain(|path, _| is_within(path));
    snapshot.texts.retain(|path, _| is_within(path));
    snapshot
}

/// What was listed in a folder, as it is seen from above that.
fn moved(snapshot: Snapshot, below: &str) -> Snapshot {
    let place = |path: String| if path.is_empty() { below.to_owned() } else { format!("{below}/{path}") };
    let objects = snapshot.objects.into_iter().map(|(path, object)| (place(path), object)).collect();
    let texts = snapshot.texts.into_iter().map(|(path, text)| (place(path), text)).collect();
    Snapshot { objects, texts, ..snapshot }
}

/// A name for a file, from what identifies something.
fn key_of(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        // Lengths keep neighbours apart.
        text.push_str(&format!("{} {part}\n", part.len()));
    }
    Digest::of(text.as_bytes()).to_string()
}
