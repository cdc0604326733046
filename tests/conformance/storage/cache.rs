//! The cache: bounded, whole, shared by servers, and enough to start from.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tensorgate::storage::{Class, Source, StorageConfig, Tree};

use super::bucket::Bucket;
use super::place::{Side, all, bytes, config, remote, sha256};

fn source(bucket: &Bucket, side: &Side) -> Source {
    side.storage.source(remote(&bucket.uri("models"))).unwrap()
}

/// Fetches what lies below `model`.
fn fetch(source: &Source, model: &str) -> Result<Tree, tensorgate::storage::Failure> {
    source.fetch(model, &all(&source.snapshot(Some(model), 1)?), false)
}

fn blobs(config: &StorageConfig) -> Vec<PathBuf> {
    let entries = fs::read_dir(config.cache_directory.join("blobs")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_none()).collect()
}

#[test]
fn two_servers_on_one_directory_fetch_each_file_once() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    for file in ["a", "b", "c", "d"] {
        bucket.put(&format!("models/m/{file}"), bytes(9 << 20, file.as_bytes()[0].into()));
    }
    let config = config(&cache);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| drop(fetch(&source(&bucket, &Side::new(&config)), "m").unwrap()));
        }
    });
    assert_eq!(bucket.sent(), 4 * (9 << 20));
    assert_eq!(blobs(&config).len(), 4);
}

#[test]
fn the_same_bytes_take_their_place_once() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    for path in ["m/1/model.onnx", "m/2/model.onnx", "n/1/model.onnx"] {
        bucket.put(&format!("models/{path}"), bytes(1000, 1));
    }
    let config = config(&cache);
    let source = source(&bucket, &Side::new(&config));
    let trees = [fetch(&source, "m").unwrap(), fetch(&source, "n").unwrap()];
    assert_eq!((blobs(&config).len(), trees.iter().map(|tree| tree.digests().len()).sum::<usize>()), (1, 3));
}

#[test]
fn those_used_longest_ago_make_room_and_those_in_use_stay() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    for (seed, model) in ["a", "b", "c", "d"].into_iter().enumerate() {
        bucket.put(&format!("models/{model}/model.onnx"), bytes(1_000_000, seed as u64));
    }
    bucket.put("models/huge/model.onnx", bytes(3_000_000, 9));
    let config = StorageConfig { cache_bytes_max: Some(2_100_000), ..config(&cache) };
    let source = source(&bucket, &Side::new(&config));
    let used = fetch(&source, "a").unwrap();
    drop(fetch(&source, "b").unwrap());
    // No room for three: "b" goes, which nobody uses.
    drop(fetch(&source, "c").unwrap());
    assert_eq!(blobs(&config).len(), 2);
    assert_eq!(fs::read(used.directory().join("a/model.onnx")).unwrap(), bytes(1_000_000, 0));
    let sent = bucket.sent();
    drop(fetch(&source, "a").unwrap());
    assert_eq!(bucket.sent(), sent);
    let kept = fetch(&source, "c").unwrap();
    let failure = fetch(&source, "d").unwrap_err();
    assert_eq!(failure.class, Class::TooLarge);
    assert!(failure.message.contains("--cache-bytes-max") && failure.message.contains("in use"), "{failure}");
    drop((used, kept));
    fetch(&source, "d").unwrap();
    let failure = fetch(&source, "huge").unwrap_err();
    assert!(failure.class == Class::TooLarge && failure.message.contains("3000000"), "{failure}");
}

#[test]
fn what_no_disk_holds_is_refused_before_a_byte_is_fetched() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    bucket.put("models/m/model.onnx", "x");
    let source = source(&bucket, &Side::new(&config(&cache)));
    let mut wanted = all(&source.snapshot(Some("m"), 1).unwrap());
    wanted.get_mut("m/model.onnx").unwrap().1.bytes = 1 << 42;
    let failure = source.fetch("m", &wanted, false).unwrap_err();
    assert!(failure.class == Class::Disk && failure.message.contains("free"), "{failure}");
    assert_eq!(bucket.asked("model.onnx").len(), 0);
}

#[test]
fn bytes_that_changed_on_disk_are_fetched_again() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    bucket.put("models/m/model.onnx", bytes(1000, 1));
    let config = config(&cache);
    let source = source(&bucket, &Side::new(&config));
    drop(fetch(&source, "m").unwrap());
    let (path, mut damaged) = (&blobs(&config)[0], bytes(1000, 1));
    damaged[500] ^= 1;
    fs::write(path, damaged).unwrap();
    let tree = fetch(&source, "m").unwrap();
    assert_eq!(fs::read(tree.directory().join("m/model.onnx")).unwrap(), bytes(1000, 1));
    assert_eq!(bucket.sent(), 2000);
}

#[test]
fn a_folder_that_lost_a_file_is_made_anew() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    bucket.put("models/m/model.onnx", bytes(1000, 1));
    let config = config(&cache);
    let source = source(&bucket, &Side::new(&config));
    let path = fetch(&source, "m").unwrap().directory().join("m/model.onnx");
    fs::remove_file(&path).unwrap();
    drop(fetch(&source, "m").unwrap());
    assert!(path.is_file());
    assert_eq!(bucket.sent(), 1000);
}

#[test]
fn a_store_that_is_down_is_what_it_last_was() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    bucket.put("models/m/1/model.onnx", bytes(1000, 1));
    bucket.put("models/m/model.toml", "slo = \"5ms\"");
    let config = config(&cache);
    let before = source(&bucket, &Side::new(&config)).snapshot(None, 1).unwrap();
    drop(fetch(&source(&bucket, &Side::new(&config)), "m").unwrap());
    bucket.set_down(true);
    let side = Side::new(&config);
    let source_now = source(&bucket, &side);
    let snapshot = source_now.snapshot(None, 1).unwrap();
    assert!(snapshot.is_stale && snapshot.objects == before.objects && snapshot.texts == before.texts);
    drop(fetch(&source_now, "m").unwrap());
    // Nothing is known of another place.
    let elsewhere = side.storage.source(remote(&bucket.uri("other"))).unwrap();
    assert!(elsewhere.snapshot(None, 1).unwrap_err().is_transient());
    bucket.set_down(false);
    assert!(!source_now.snapshot(None, 1).unwrap().is_stale);
}

#[test]
fn a_download_that_was_broken_off_goes_on_after_a_restart() {
    let (bucket, cache) = (Arc::new(Bucket::start()), TempDir::new().unwrap());
    let model = bytes(40 << 20, 1);
    bucket.put("models/m/model.onnx", model.clone());
    let config = StorageConfig { parallel: 1, ..config(&cache) };
    let mut pieces = 0;
    bucket.answer(move |_| {
        pieces += 1;
        if pieces <= 3 { super::bucket::Answer::Whole } else { super::bucket::Answer::Status(403) }
    });
    assert_eq!(fetch(&source(&bucket, &Side::new(&config)), "m").unwrap_err().class, Class::Refused);
    bucket.answer(|_| super::bucket::Answer::Whole);
    let tree = fetch(&source(&bucket, &Side::new(&config)), "m").unwrap();
    assert!(fs::read(tree.directory().join("m/model.onnx")).unwrap() == model);
    assert_eq!(bucket.sent(), model.len() as u64, "each byte was sent once");
}

#[test]
fn bytes_whose_sha256_is_known_are_not_fetched_again_wherever_they_lie() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    let (model, config) = (bytes(1_000_000, 1), config(&cache));
    let sums = format!("{}  model.onnx\n", sha256(&model));
    for version in ["m/1", "m/2"] {
        bucket.put(&format!("models/{version}/model.onnx"), model.clone());
        bucket.put(&format!("models/{version}/SHA256SUMS"), sums.clone());
    }
    let source = source(&bucket, &Side::new(&config));
    drop(fetch(&source, "m/1").unwrap());
    let sent = bucket.sent();
    drop(fetch(&source, "m/2").unwrap());
    // The list is read, and the model is not.
    assert_eq!(bucket.sent() - sent, sums.len() as u64);
}

#[test]
fn a_sha256_is_noted_and_a_note_that_is_none_is_made_anew() {
    let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
    let (model, config) = (bytes(20 << 20, 1), config(&cache));
    bucket.put("models/m/model.onnx", model.clone());
    let source = source(&bucket, &Side::new(&config));
    let wanted = all(&source.snapshot(Some("m"), 1).unwrap());
    let note = |tree: &Tree| {
        let blob = tree.digest("m/model.onnx").unwrap();
        config.cache_directory.join(format!("blobs/{blob}.sha256"))
    };
    let tree = source.fetch("m", &wanted, true).unwrap();
    let noted = fs::read_to_string(note(&tree)).unwrap();
    assert_eq!(noted.trim(), sha256(&model));
    fs::write(note(&tree), "").unwrap();
    assert_eq!(tree.sha256("m/model.onnx").unwrap().to_string(), sha256(&model));
    assert_eq!(fs::read_to_string(note(&tree)).unwrap(), noted);
}
