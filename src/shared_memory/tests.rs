use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    fn regions(&self, prefix: &str) -> Regions {
        Regions::new(RegionsConfig::new(&self.0.path().join(prefix), 2, 100).unwrap())
    }
}

fn refused(outcome: Result<()>, kind: Kind, said: &str) {
    let error = outcome.unwrap_err();
    assert!(error.kind() == kind && error.message().contains(said), "{error:?}");
}

#[test]
fn only_files_with_the_prefix_can_be_registered() {
    let folder = Folder::new().with("mine-1", b"abcd").with("other", b"abcd");
    symlink(folder.0.path().join("other"), folder.0.path().join("mine-link")).unwrap();
    fs::create_dir(folder.0.path().join("mine-folder")).unwrap();
    let regions = folder.regions("mine-");
    regions.register("with slash", "/mine-1", 0, 4).unwrap();
    regions.register("without", "mine-1", 1, 3).unwrap();
    regions.unregister(None);
    for key in ["other", "/other", "", "/", ".", "..", "../other", "mine-1/../other", "//mine-1", "mine-1\0"] {
        refused(regions.register("r", key, 0, 4), Kind::InvalidRequest, "is not allowed");
    }
    refused(regions.register("r", "mine-link", 0, 4), Kind::InvalidRequest, "symbolic link");
    refused(regions.register("r", "mine-folder", 0, 4), Kind::InvalidRequest, "region 'r'");
    refused(regions.register("r", "mine-2", 0, 4), Kind::InvalidRequest, "No such file");
    refused(regions.register("", "mine-1", 0, 4), Kind::InvalidRequest, "no name");
}

#[test]
fn a_directory_alone_lets_every_name_in_it() {
    let folder = Folder::new().with("x", b"abcd");
    folder.regions("").register("r", "/x", 0, 4).unwrap();
    refused(folder.regions("").register("r", "/../x", 0, 4), Kind::InvalidRequest, "is not allowed");
    assert!(RegionsConfig::new(Path::new("dev/shm"), 1, 1).unwrap_err().contains("not absolute"));
    assert!(RegionsConfig::new(&folder.0.path().join("nowhere/x"), 1, 1).unwrap_err().contains("cannot use"));
    assert!(RegionsConfig::new(&folder.0.path().join("x/y"), 1, 1).unwrap_err().contains("no directory"));
}

#[test]
fn a_region_lies_within_its_file() {
    let folder = Folder::new().with("x", &[7; 16]);
    let regions = folder.regions("");
    for (offset, byte_size) in [(0, 17), (16, 1), (u64::MAX, 1), (1, u64::MAX)] {
        refused(regions.register("r", "x", offset, byte_size), Kind::InvalidRequest, "which has 16 bytes");
    }
    refused(regions.register("r", "x", 0, 0), Kind::InvalidRequest, "expected at least 1");
    regions.register("r", "x", 8, 8).unwrap();
    let place = |offset, size| regions.place("r", offset, size).map(|_| ());
    place(0, 8).unwrap();
    place(8, 0).unwrap();
    for (offset, byte_size) in [(0, 9), (8, 1), (u64::MAX, 1), (u64::MAX, 0), (1, usize::MAX)] {
        refused(place(offset, byte_size), Kind::InvalidRequest, "reach beyond it, it has 8 bytes");
    }
    refused(regions.place("nope", 0, 1).map(|_| ()), Kind::InvalidRequest, "'nope'");
}

#[test]
fn names_are_taken_once_and_the_number_of_regions_is_bounded() {
    let folder = Folder::new().with("x", &[7; 16]);
    let regions = folder.regions("");
    regions.register("b", "x", 4, 8).unwrap();
    refused(regions.register("b", "x", 0, 8), Kind::Conflict, "already");
    regions.register("a", "/x", 0, 16).unwrap();
    refused(regions.register("c", "x", 0, 8), Kind::TooLarge, "--shared-memory-regions-max");
    let told: Vec<_> = regions.status(None).unwrap().iter().map(|r| (r.name().to_owned(), r.byte_size())).collect();
    assert_eq!(told, [("a".to_owned(), 16), ("b".to_owned(), 8)]);
    let one = &regions.status(Some("b")).unwrap()[0];
    assert_eq!((one.key(), one.offset()), ("x", 4));
    assert_eq!(regions.status(Some("c")).unwrap_err().kind(), Kind::UnknownModel);
    regions.unregister(Some("nope"));
    regions.unregister(Some("a"));
    regions.register("c", "x", 0, 8).unwrap();
    regions.unregister(None);
    assert!(regions.status(None).unwrap().is_empty());
}

#[test]
fn bytes_are_copied_out_and_in_and_a_shortened_file_is_an_error() {
    let folder = Folder::new().with("x", b"0123456789");
    let regions = folder.regions("");
    regions.register("r", "x", 2, 8).unwrap();
    let region = regions.place("r", 1, 4).unwrap();
    // Forgotten, yet in use.
    regions.unregister(Some("r"));
    let read = |offset, bytes| region.read(offset, bytes, regions.hold(bytes).unwrap());
    let copied = read(1, 4).unwrap();
    region.write(0, b"abcdefgh").unwrap();
    assert_eq!((&copied[..], &read(1, 4).unwrap()[..]), (&b"3456"[..], &b"bcde"[..]));
    assert!(read(5, 4).is_err() && region.write(5, b"wxyz").is_err());
    let file = folder.0.path().join("x");
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(4).unwrap();
    refused(read(1, 4).map(|_| ()), Kind::InvalidRequest, "has become shorter");
    refused(region.write(1, b"wxyz"), Kind::InvalidRequest, "has become shorter");
    assert_eq!(fs::read(&file).unwrap(), b"01ab");
    // The file is gone, what was opened is not.
    fs::remove_file(&file).unwrap();
    assert_eq!(&read(0, 2).unwrap()[..], b"ab");
}

#[test]
fn what_is_copied_out_is_counted_until_it_is_dropped() {
    let folder = Folder::new().with("x", &[7; 200]);
    let regions = folder.regions("");
    regions.register("r", "x", 0, 200).unwrap();
    let region = regions.place("r", 0, 60).unwrap();
    let first = region.read(0, 60, regions.hold(60).unwrap()).unwrap();
    let shared = first.slice(3..5);
    drop(first);
    refused(regions.hold(60).map(|_| ()), Kind::Overloaded, "--buffered-max");
    drop(shared);
    regions.hold(60).unwrap();
    refused(regions.hold(101).map(|_| ()), Kind::TooLarge, "--buffered-max");
}
