//! What a look at a model's files shows without reading them: a mark for each version that changes when one of its files
//! does.
//!
//! A mark is made of paths, sizes, times of the last write and of the last change of any kind, and inode numbers: so a file
//! that another of the same size and time took the place of, or a link that points elsewhere, shows too. Names that writers
//! use for what is not finished are left out: what starts with `.` or `_`, and `~`, `.tmp`, `.part`, `.partial`, `.swp` at
//! the end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::beside;
use super::labels;
use super::layout::{ModelListing, VersionFiles};
use super::policy::Fingerprint;
use crate::model::Version;

/// Folders below a version's that are looked into, and entries looked at: those of [`super::layout`].
const DEPTH_MAX: usize = 4;
const ENTRIES_MAX: usize = 20_000;

/// Ends of names that writers use for what is not finished: copies, downloads, editors.
const UNFINISHED: [&[u8]; 5] = [b"~", b".tmp", b".part", b".partial", b".swp"];

/// How long nothing of a version was changed, for it to be taken as whole at the first look: a copy writes all the time.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// Marks of a model: equal ones mean that nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Of its settings, as they are understood, its label files and its faults.
    pub(super) settings: u64,
    /// Of each version's files.
    pub(super) versions: BTreeMap<Version, u64>,
}

impl Marks {
    /// What `listing` shows now. Looks at every file, so it blocks.
    pub(super) fn of(listing: &ModelListing) -> Self {
        let versions = listing.versions.iter().map(|files| (files.version, look(files).mark)).collect();
        Self { settings: settings(listing), versions }
    }

    /// The same of a first look, without the versions that were written to a moment ago: they may not be whole yet.
    pub(super) fn of_quiet(listing: &ModelListing) -> Self {
        let quiet = |files: &VersionFiles| {
            let look = look(files);
            look.is_quiet().then_some((files.version, look.mark))
        };
        Self { settings: settings(listing), versions: listing.versions.iter().filter_map(quiet).collect() }
    }

    /// Identifies files and settings of `version`.
    pub(super) fn fingerprint(&self, version: Version) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        (self.settings, self.versions.get(&version)).hash(&mut hasher);
        hasher.finish()
    }
}

/// Whether `name` is one that writers use for what is not finished.
pub(super) fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    matches!(name.first(), Some(b'.' | b'_')) || UNFINISHED.iter().any(|end| name.ends_with(end))
}

fn settings(listing: &ModelListing) -> u64 {
    let mut hasher = DefaultHasher::new();
    // The settings are plain data, and their debug form shows all of them.
    format!("{:?}", listing.settings).hash(&mut hasher);
    (&listing.directory, &listing.faults).hash(&mut hasher);
    labels::fingerprint(listing, &mut hasher);
    beside::fingerprint(listing, &mut hasher);
    hasher.finish()
}

/// What one version's files show.
struct Look {
    mark: u64,
    /// When something was changed last, where there is anything.
    newest: Option<SystemTime>,
}

impl Look {
    /// A time that is still to come is the clock of another machine: nothing is known of how long ago that is.
    fn is_quiet(&self) -> bool {
        self.newest.is_none_or(|newest| newest.elapsed().is_ok_and(|since| since >= QUIET))
    }
}

fn look(files: &VersionFiles) -> Look {
    let mut looking = Looking { hasher: DefaultHasher::new(), newest: None, entries_left: ENTRIES_MAX };
    (&files.path, &files.fault).hash(&mut looking.hasher);
    let own = fs::metadata(&files.path).ok();
    let alone = own.as_ref().is_some_and(|own| own.is_file() && own.len() == files.bytes);
    match (&own, files.path.parent()) {
        // A model that needs no file.
        (Some(own), _) if own.is_dir() && files.fault.is_none() => {}
        // The folder, or what there is of it, says when a file comes.
        (Some(own), _) if own.is_dir() => looking.folder(&files.path),
        // Nothing that counts is beside it; where a file was given alone, its neighbours are anybody's.
        (Some(own), _) if alone => looking.entry(&files.path, own),
        (Some(_), Some(folder)) => looking.folder(folder),
        // It lies elsewhere, or is gone: what the listing says is all that there is.
        _ => (files.bytes, files.modified, &files.stamp).hash(&mut looking.hasher),
    }
    Look { mark: looking.hasher.finish(), newest: looking.newest }
}

struct Looking {
    hasher: DefaultHasher,
    newest: Option<SystemTime>,
    entries_left: usize,
}

impl Looking {
    /// A file, or a link to one.
    fn entry(&mut self, path: &Path, file: &Metadata) {
        path.hash(&mut self.hasher);
        // Where a link leads, so that one that is exchanged shows whatever it leads to.
        fs::read_link(path).ok().hash(&mut self.hasher);
        let changed = (file.ctime(), file.ctime_nsec());
        (file.len(), file.mtime(), file.mtime_nsec(), changed, file.dev(), file.ino()).hash(&mut self.hasher);
        self.note(file);
    }

    fn note(&mut self, of: &Metadata) {
        let changed = u64::try_from(of.ctime()).ok().map(|since| SystemTime::UNIX_EPOCH + Duration::from_secs(since));
        self.newest = self.newest.max(of.modified().ok()).max(changed);
    }

    /// Everything in and below `folder`, in the order of names.
    fn folder(&mut self, folder: &Path) {
        if let Ok(of) = fs::metadata(folder) {
            self.note(&of);
        }
        let mut pending = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = pending.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let mut entries: Vec<_> = entries.flatten().take(self.entries_left).collect();
            self.entries_left -= entries.len();
            entries.sort_by_key(|entry| entry.file_name());
            for entry in entries.into_iter().filter(|entry| !is_unfinished(&entry.file_name())) {
                let path = entry.path();
                match fs::metadata(&path) {
                    Ok(file) if file.is_file() => self.entry(&path, &file),
                    // Links to folders are not followed, so that no circle is walked.
                    Ok(_) if depth < DEPTH_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                        pending.push((path, depth + 1));
                    }
                    _ => (&path, fs::read_link(&path).ok()).hash(&mut self.hasher),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::model::ModelName;
    use crate::repository::layout::{Local, scan_model};

    fn marks(model: &Path) -> Marks {
        Marks::of(&scan_model(&Local, ModelName::new("m"), model, None))
    }

    /// A model with one version that keeps a tensor outside its file.
    fn model() -> TempDir {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("1")).unwrap();
        fs::write(folder.path().join("1/model.onnx"), b"model").unwrap();
        fs::write(folder.path().join("1/weights.bin"), b"weights").unwrap();
        folder
    }

    #[test]
    fn every_change_of_a_file_changes_the_mark_and_what_is_not_finished_does_not() {
        let folder = model();
        let path = |name: &str| folder.path().join("1").join(name);
        let mut seen = vec![marks(folder.path())];
        assert_eq!(marks(folder.path()), seen[0]);
        for unfinished in [".model.onnx.x7", "_cache", "model.onnx.tmp", "model.onnx.part", "model.onnx~"] {
            fs::write(path(unfinished), b"half").unwrap();
        }
        assert_eq!(marks(folder.path()), seen[0], "unfinished files");
        let times = fs::metadata(path("model.onnx")).unwrap().modified().unwrap();
        let changes: [&dyn Fn(); 4] = [
            // Of the same size, at the same time.
            &|| {
                fs::write(path(".new"), b"MODEL").unwrap();
                fs::File::options().write(true).open(path(".new")).unwrap().set_modified(times).unwrap();
                fs::rename(path(".new"), path("model.onnx")).unwrap();
            },
            &|| fs::write(path("weights.bin"), b"others!").unwrap(),
            &|| fs::write(path("more.bin"), b"").unwrap(),
            &|| fs::remove_file(path("more.bin")).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            let now = marks(folder.path());
            assert!(seen.last() != Some(&now), "change {number} was not seen");
            seen.push(now);
        }
        assert_eq!(seen.last().unwrap().settings, seen[0].settings);
        fs::write(folder.path().join("model.toml"), "slo = \"5ms\"").unwrap();
        let now = marks(folder.path());
        assert!(now.settings != seen[0].settings && now.versions == seen.last().unwrap().versions);
    }

    #[test]
    fn links_that_are_exchanged_in_one_step_show_as_kubernetes_and_git_sync_do_it() {
        let (one, other, place) = (model(), model(), TempDir::new().unwrap());
        let current = place.path().join("..data");
        symlink(one.path(), &current).unwrap();
        symlink("..data/1", place.path().join("1")).unwrap();
        let before = marks(place.path());
        symlink(other.path(), place.path().join("new")).unwrap();
        fs::rename(place.path().join("new"), &current).unwrap();
        assert_ne!(marks(place.path()), before);
    }

    #[test]
    fn what_was_written_a_moment_ago_is_not_taken_as_whole_at_the_first_look() {
        let folder = model();
        let listing = scan_model(&Local, ModelName::new("m"), folder.path(), None);
        assert!(Marks::of_quiet(&listing).versions.is_empty());
        let look = |age: u64| Look { mark: 0, newest: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(age)) };
        assert!(look(7).is_quiet());
        assert!(!look(u64::from(u32::MAX) * 4).is_quiet(), "the clock of another machine");
    }

    #[test]
    fn a_file_that_is_given_alone_has_no_neighbours() {
        let folder = model();
        let file = folder.path().join("1/model.onnx");
        let before = marks(&file);
        fs::write(folder.path().join("1/note.txt"), b"anybody's").unwrap();
        assert_eq!(marks(&file), before);
        fs::write(&file, b"longer model").unwrap();
        assert_ne!(marks(&file), before);
    }
}
