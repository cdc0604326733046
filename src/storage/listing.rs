//! What a store holds below a prefix: listed, never fetched, but for the small files that settings are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::digest::Sha256;
use super::failure::{Class, Failure};
use super::fetch::Patience;
use super::sums::{SUMS_BYTES_MAX, SUMS_FILE, Sums};
use super::uri::{RemoteUri, Store, check_key};

/// Objects of one listing. Ten thousand models of ten files with ten versions: a bucket that is given by mistake has more, and
/// each takes some hundred bytes of memory.
const OBJECTS_MAX: usize = 1_000_000;

/// Small files that are read with a listing, at once. Their pauses add up otherwise where there are a thousand models.
const TEXTS_AT_ONCE: usize = 16;

/// Bytes of a small file that are read: one more than settings may have, so that their reader sees that they are too large.
const TEXT_BYTES_MAX: usize = (1 << 20) + 1;

/// Names of files that are read with a listing.
const TEXTS: [&str; 2] = ["model.toml", "config.pbtxt"];

/// An object, as its listing tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its size.
    pub bytes: u64,
    /// What changes with its content: its ETag, where the store has any.
    pub tag: Option<String>,
    /// When it was last written, in milliseconds since 1970; 0 where nobody says.
    pub modified_ms: i64,
    /// Where the listing was one of those.
    pub sha256: Option<Sha256>,
}

/// Everything below a prefix, at one time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Objects by path, relative to the prefix.
    pub objects: BTreeMap<String, Object>,
    /// The content of the small files, or why it cannot be had.
    pub texts: BTreeMap<String, Result<Vec<u8>, String>>,
    /// Keys that no file can have, each with the reason.
    pub refused: Vec<String>,
    /// Not what the store holds now, which cannot be asked: what it held when it last could.
    #[serde(skip)]
    pub is_stale: bool,
}

impl Snapshot {
    fn add(&mut self, path: &str, object: Object) {
        match check_key(path) {
            Ok(()) => drop(self.objects.insert(path.to_owned(), object)),
            Err(why) => self.refused.push(why),
        }
    }

    /// Consoles make an empty object where a folder is to be seen; and no file can be a folder too.
    fn without_folders(mut self) -> Self {
        let paths: Vec<String> = self.objects.keys().cloned().collect();
        for path in &paths {
            let below = format!("{path}/");
            let is_folder =
                self.objects.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below));
            if is_folder && self.objects.remove(path).is_some_and(|object| object.bytes > 0) {
                self.refused.push(format!("'{path}' is a file and a folder"));
            }
        }
        self
    }
}

/// Lists what is below `uri`, or the one object that it is, with the small files of models that lie at most `depth` folders
/// deep. Where `uri` is an object, its path in the snapshot is "".
///
/// # Errors
/// Where the store cannot be asked, or holds nothing there.
pub(super) async fn list(
    store: &Arc<dyn ObjectStore>,
    uri: &RemoteUri,
    depth: usize,
    patience: &Patience,
) -> Result<Snapshot, Failure> {
    let listed = match &uri.store {
        Store::Http { .. } => list_web(store, uri, patience).await?,
        _ => list_store(store, uri, patience).await?,
    };
    let mut snapshot = listed.without_folders();
    let is_text = |path: &&String| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folders = folder.split('/').filter(|part| !part.is_empty()).count();
        TEXTS.contains(&name) && folders <= depth
    };
    let texts: Vec<String> = snapshot.objects.keys().filter(is_text).cloned().collect();
    let read = texts.into_iter().map(|path| async {
        let text = read_text(store, &key(uri, &path), patience, TEXT_BYTES_MAX).await;
        // Of an outage nothing is kept: the whole listing is tried again.
        match text {
            Ok(text) => Ok((path, Ok(text.to_vec()))),
            Err(failure) if failure.is_outage() => Err(failure),
            Err(failure) => Ok((path, Err(failure.message))),
        }
    });
    snapshot.texts = futures_util::stream::iter(read).buffer_unordered(TEXTS_AT_ONCE).try_collect().await?;
    Ok(snapshot)
}

/// The key of what lies at `path` below `uri`; of `uri` itself for "".
pub(super) fn key(uri: &RemoteUri, path: &str) -> Key {
    let full = match (uri.prefix.as_str(), path) {
        (prefix, "") => prefix.to_owned(),
        ("", path) => path.to_owned(),
        (prefix, path) => format!("{prefix}/{path}"),
    };
    // Checked by whoever made `uri` and `path`; what the crate does not take is no key in its stores.
    Key::parse(&full).unwrap_or_default()
}

async fn list_store(store: &Arc<dyn ObjectStore>, uri: &RemoteUri, patience: &Patience) -> Result<Snapshot, Failure> {
    let prefix = key(uri, "");
    let listed = patience
        .through(uri, || async {
            let mut snapshot = Snapshot::default();
            let mut objects = store.list((!uri.prefix.is_empty()).then_some(&prefix));
            while let Some(meta) = patience.next(uri, &mut objects).await? {
                let path = meta.location.as_ref();
                let path = path.strip_prefix(prefix.as_ref()).unwrap_or(path).trim_start_matches('/').to_owned();
                if snapshot.objects.len() >= OBJECTS_MAX {
                    let message = format!("{uri}: more than {OBJECTS_MAX} objects, which no repository of models has");
                    return Err(Failure::new(Class::TooLarge, message));
                }
                snapshot.add(&path, object(&meta));
            }
            Ok(snapshot)
        })
        .await?;
    if !listed.objects.is_empty() || !listed.refused.is_empty() || uri.prefix.is_empty() {
        return Ok(listed);
    }
    let meta = head(store, &prefix, uri, patience).await?;
    Ok(Snapshot { objects: BTreeMap::from([(String::new(), object(&meta))]), ..Snapshot::default() })
}

/// Web servers: an object; a folder with `SHA256SUMS`; or WebDAV, which can list.
async fn list_web(store: &Arc<dyn ObjectStore>, uri: &RemoteUri, patience: &Patience) -> Result<Snapshot, Failure> {
    if uri.prefix.ends_with(".onnx") {
        let meta = match head(store, &key(uri, ""), uri, patience).await {
            // A URL that is signed for GET alone.
            Err(failure) if uri.query.is_some() && failure.class == Class::Refused => {
                first_byte(store, uri, patience).await?
            }
            other => other?,
        };
        return Ok(Snapshot { objects: BTreeMap::from([(String::new(), object(&meta))]), ..Snapshot::default() });
    }
    match read_text(store, &key(uri, SUMS_FILE), patience, SUMS_BYTES_MAX).await {
        Ok(text) => return list_sums(store, uri, &text, patience).await,
        Err(failure) if failure.class == Class::Missing => {}
        Err(failure) => return Err(failure),
    }
    match list_store(store, uri, patience).await {
        Err(failure) if matches!(failure.class, Class::Wrong | Class::NoRanges | Class::Missing) => {
            let message = format!(
                "{uri}: a web server that is not WebDAV cannot list; put a {SUMS_FILE} there that names every file, as \
                 sha256sum prints it, or give the address of one .onnx file"
            );
            Err(Failure::new(Class::Wrong, message))
        }
        other => other,
    }
}

async fn list_sums(
    store: &Arc<dyn ObjectStore>,
    uri: &RemoteUri,
    text: &Bytes,
    patience: &Patience,
) -> Result<Snapshot, Failure> {
    let wrong = |why: String| Failure::new(Class::Wrong, format!("{uri}/{SUMS_FILE}: {why}"));
    let text = std::str::from_utf8(text).map_err(|cause| wrong(cause.to_string()))?;
    let sums = Sums::parse(text).map_err(wrong)?;
    let sized = sums.iter().map(|(path, sha256)| {
        let place = uri.join(path);
        async move {
            let meta = head(store, &key(uri, path), &place, patience).await?;
            Ok::<_, Failure>((path.to_owned(), Object { sha256: Some(sha256), ..object(&meta) }))
        }
    });
    let objects = futures_util::stream::iter(sized).buffer_unordered(TEXTS_AT_ONCE).try_collect().await?;
    Ok(Snapshot { objects, ..Snapshot::default() })
}

fn object(meta: &ObjectMeta) -> Object {
    Object {
        bytes: meta.size,
        tag: meta.e_tag.clone(),
        modified_ms: meta.last_modified.timestamp_millis(),
        sha256: None,
    }
}

async fn head(
    store: &Arc<dyn ObjectStore>,
    key: &Key,
    place: &RemoteUri,
    patience: &Patience,
) -> Result<ObjectMeta, Failure> {
    patience.through(place, || async { patience.answer(place, store.head(key)).await }).await
}

/// What an answer with a part of an object tells of it.
async fn first_byte(store: &Arc<dyn ObjectStore>, uri: &RemoteUri, patience: &Patience) -> Result<ObjectMeta, Failure> {
    let key = key(uri, "");
    let ask = || async {
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        Ok(patience.answer(uri, store.get_opts(&key, options)).await?.meta)
    };
    patience.through(uri, ask).await
}

/// A small file, cut off after `bytes_max`.
async fn read_text(
    store: &Arc<dyn ObjectStore>,
    key: &Key,
    patience: &Patience,
    bytes_max: usize,
) -> Result<Bytes, Failure> {
    patience
        .through(key, || async {
            let got = patience.answer(key, store.get_opts(key, GetOptions::default())).await?;
            let mut body = got.into_stream();
            let mut text = Vec::new();
            while let Some(chunk) = patience.next(key, &mut body).await? {
                text.extend_from_slice(&chunk);
                if text.len() >= bytes_max {
                    text.truncate(bytes_max);
                    break;
                }
            }
            Ok(text.into())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> Object {
        Object { bytes, tag: None, modified_ms: 0, sha256: None }
    }

    #[test]
    fn markers_of_folders_are_no_files_and_odd_keys_are_told() {
        let mut snapshot = Snapshot::default();
        for (path, bytes) in
            [("m", 0), ("m/1", 0), ("m/1/model.onnx", 5), ("n", 3), ("n/1", 1), ("../x", 1), ("a//b", 1)]
        {
            snapshot.add(path, file(bytes));
        }
        let snapshot = snapshot.without_folders();
        assert_eq!(snapshot.objects.keys().collect::<Vec<_>>(), ["m/1/model.onnx", "n/1"]);
        assert_eq!(snapshot.refused.len(), 3, "{:?}", snapshot.refused);
    }
}
