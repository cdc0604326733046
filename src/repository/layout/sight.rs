//! Where a layout is read from: a disk, or what is listed of a store.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::storage::Snapshot;

/// What can be seen of files without loading any.
pub trait Sight {
    /// What is in a folder.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn entries(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// What a path is, through links.
    ///
    /// # Errors
    /// Where there is nothing, or it cannot be read.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Whether there is anything at a path, and be it a broken link.
    fn is_there(&self, path: &Path) -> bool;

    /// The bytes of a small file, of which at most one more than `bytes_max` are read.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Whether it is a folder itself, and no link to one.
    pub is_folder: bool,
}

/// What something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// A folder, or else a file or something like one.
    pub is_folder: bool,
    /// Whether it is a file.
    pub is_file: bool,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, where somebody knows.
    pub modified: Option<SystemTime>,
    /// What else changes with its content: an ETag.
    pub tag: Option<String>,
}

impl Stat {
    /// Changes with what the file at `path` holds.
    pub(super) fn stamp(&self, path: &Path) -> u64 {
        let mut hasher = DefaultHasher::new();
        (path, self.bytes, self.modified, &self.tag).hash(&mut hasher);
        hasher.finish()
    }
}

/// The disks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl Sight for Local {
    fn entries(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            Ok(Entry { name: entry.file_name(), is_folder })
        };
        fs::read_dir(folder)?.map(entry).collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let metadata = fs::metadata(path)?;
        Ok(Stat {
            is_folder: metadata.is_dir(),
            is_file: metadata.is_file(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            tag: None,
        })
    }

    fn is_there(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What a store was listed to hold. Its paths start with its URI, as people see them.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    root: &'a Path,
    snapshot: &'a Snapshot,
}

impl<'a> Listed<'a> {
    /// What `snapshot` holds below `root`.
    pub fn new(root: &'a Path, snapshot: &'a Snapshot) -> Self {
        Self { root, snapshot }
    }

    fn relative(&self, path: &Path) -> io::Result<String> {
        relative(self.root, path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Paths below a folder, relative to it.
    fn below(&self, folder: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let objects = self.snapshot.objects.range(prefix.clone()..);
        objects.map_while(move |(path, _)| path.strip_prefix(&prefix)).filter(|path| !path.is_empty())
    }
}

/// The path of `path` below `root`, with slashes; `None` where it is elsewhere.
pub(in crate::repository) fn relative(root: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
}

impl Sight for Listed<'_> {
    fn entries(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let folder = self.relative(folder)?;
        let (mut names, mut entries) = (BTreeSet::new(), Vec::new());
        for path in self.below(&folder) {
            let (name, rest) = path.split_once('/').map_or((path, None), |(name, rest)| (name, Some(rest)));
            if names.insert(name) {
                entries.push(Entry { name: name.into(), is_folder: rest.is_some() });
            }
        }
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let path = self.relative(path)?;
        if let Some(object) = self.snapshot.objects.get(&path) {
            let modified = u64::try_from(object.modified_ms).ok().filter(|&ms| ms > 0);
            let modified = modified.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
            let tag = object.sha256.map(|sha256| sha256.to_string()).or_else(|| object.tag.clone());
            return Ok(Stat { is_folder: false, is_file: true, bytes: object.bytes, modified, tag });
        }
        // The top is there even where it is empty.
        if path.is_empty() || self.below(&path).next().is_some() {
            return Ok(Stat { is_folder: true, is_file: false, bytes: 0, modified: None, tag: None });
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_there(&self, path: &Path) -> bool {
        self.stat(path).is_ok()
    }

    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        match self.snapshot.texts.get(&self.relative(path)?) {
            Some(Ok(text)) => Ok(text.clone()),
            Some(Err(why)) => Err(io::Error::other(why.clone())),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A name that no model, version or weight has: those of editors, Kubernetes' volumes, Python's caches.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    matches!(name.as_encoded_bytes().first(), Some(b'.' | b'_'))
}

/// As people see a place in a store.
pub(in crate::repository) fn root_of(uri: &crate::storage::RemoteUri) -> PathBuf {
    PathBuf::from(uri.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Object;

    #[test]
    fn a_listing_looks_like_folders() {
        let mut snapshot = Snapshot::default();
        for path in ["b/1/model.onnx", "b/1/w/x.bin", "b/10/model.onnx", "b-c/model.onnx", "note"] {
            let object = Object { bytes: 7, tag: Some(path.into()), modified_ms: 1, sha256: None };
            snapshot.objects.insert(path.into(), object);
        }
        let root = Path::new("s3://bucket/models");
        let listed = Listed::new(root, &snapshot);
        let names = |path: &str| {
            let entries = listed.entries(&root.join(path)).unwrap();
            entries
                .into_iter()
                .map(|entry| format!("{}{}", entry.name.display(), if entry.is_folder { "/" } else { "" }))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["b-c/", "b/", "note"]);
        assert_eq!(
            (names("b"), names("b/1")),
            (vec!["1/".into(), "10/".into()], vec!["model.onnx".to_owned(), "w/".into()])
        );
        assert!(listed.stat(&root.join("b")).unwrap().is_folder && listed.stat(&root.join("note")).unwrap().is_file);
        assert!(listed.stat(root).unwrap().is_folder);
        for path in ["b/2", "no", "b/1/model.onnx/x"] {
            assert!(!listed.is_there(&root.join(path)), "{path}");
        }
        assert!(!listed.is_there(Path::new("s3://bucket/other")));
        assert_eq!(root.join("b/1").display().to_string(), "s3://bucket/models/b/1");
    }
}
