//! Stores and networks that do wrong: never a wrong or half file, and no more fetched again than has to be.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tensorgate::storage::{Class, Failure, StorageConfig, Tree};

use super::bucket::{Answer, Bucket};
use super::place::{Side, all, bytes, config, remote, sha256};

const LARGE: usize = 20 << 20;

/// Fetches all that `bucket` holds.
fn fetch(bucket: &Bucket, config: &StorageConfig) -> Result<Tree, Failure> {
    fetch_from(&bucket.uri("models"), config)
}

fn fetch_from(uri: &str, config: &StorageConfig) -> Result<Tree, Failure> {
    let source = Side::new(config).storage.source(remote(uri))?;
    source.fetch("m", &all(&source.snapshot(None, 1)?), false)
}

fn with_model(bytes: &[u8]) -> (Bucket, TempDir) {
    let bucket = Bucket::start();
    bucket.put("models/model.onnx", bytes);
    (bucket, TempDir::new().unwrap())
}

fn holds(tree: &Tree, bytes: &[u8]) -> bool {
    fs::read(tree.directory().join("model.onnx")).unwrap() == bytes
}

/// Gives each of `answers` once, and whole ones from then on.
fn first(answers: &'static [Answer]) -> impl FnMut(&super::bucket::Asked) -> Answer + Send + 'static {
    let mut given = answers.iter();
    move |_| given.next().copied().unwrap_or(Answer::Whole)
}

#[test]
fn cut_bodies_go_on_where_they_were_cut() {
    let model = bytes(LARGE, 5);
    let (bucket, cache) = with_model(&model);
    bucket.answer(first(&[Answer::Cut(7 << 20), Answer::Cut(0), Answer::Cut(1 << 20), Answer::Cut(3)]));
    assert!(holds(&fetch(&bucket, &config(&cache)).unwrap(), &model));
    let again = bucket.sent() - LARGE as u64;
    // What a connection that is cut has under way is all that is lost.
    assert!(again < 1 << 20, "{again} bytes were sent twice");
}

#[test]
fn bursts_of_busy_answers_are_outlasted() {
    let model = bytes(LARGE, 6);
    let (bucket, cache) = with_model(&model);
    use Answer::Status;
    const BUSY: [Answer; 6] = [Status(429), Status(500), Status(503), Status(502), Status(504), Status(408)];
    bucket.answer(first(&BUSY));
    assert!(holds(&fetch(&bucket, &config(&cache)).unwrap(), &model));
    assert_eq!(bucket.sent(), LARGE as u64);
}

#[test]
fn what_will_not_change_is_not_asked_again() {
    for (status, class) in [(400, Class::Wrong), (403, Class::Refused), (404, Class::Missing), (501, Class::Wrong)] {
        let (bucket, cache) = with_model(b"small");
        bucket.answer(move |_| Answer::Status(status));
        let failure = fetch(&bucket, &config(&cache)).unwrap_err();
        assert_eq!((failure.class, bucket.asked("model.onnx").len()), (class, 1), "{status}: {failure}");
        assert!(failure.message.contains("models/model.onnx"), "{failure}");
    }
}

#[test]
fn what_stays_busy_is_given_up_with_its_reason() {
    let (bucket, cache) = with_model(b"small");
    bucket.answer(|_| Answer::Status(503));
    let failure = fetch(&bucket, &config(&cache)).unwrap_err();
    assert!(failure.message.contains("503") && failure.message.contains("8 tries"), "{failure}");
    assert_eq!(bucket.asked("model.onnx").len(), 8);
}

#[test]
fn a_store_that_sends_a_byte_now_and_then_is_asked_again() {
    let model = bytes(300_000, 7);
    let (bucket, cache) = with_model(&model);
    bucket.answer(first(&[Answer::Drip, Answer::Drip]));
    let impatient = StorageConfig { stall: Duration::from_millis(300), ..config(&cache) };
    assert!(holds(&fetch(&bucket, &impatient).unwrap(), &model));
    assert_eq!(bucket.asked("model.onnx").len(), 3);
}

#[test]
fn an_object_that_changes_under_way_is_never_mixed() {
    let (before, after) = (bytes(LARGE, 8), bytes(LARGE, 9));
    let bucket = std::sync::Arc::new(Bucket::start());
    bucket.put("models/model.onnx", before.clone());
    let cache = TempDir::new().unwrap();
    let (seen, content) = (AtomicUsize::new(0), after.clone());
    let changed = std::sync::Arc::downgrade(&bucket);
    bucket.answer(move |_| {
        // The first piece is of the old one.
        if seen.fetch_add(1, Ordering::SeqCst) == 1
            && let Some(bucket) = changed.upgrade()
        {
            bucket.put("models/model.onnx", content.clone());
            return Answer::Status(503);
        }
        Answer::Whole
    });
    let one_by_one = StorageConfig { parallel: 1, ..config(&cache) };
    let failure = fetch(&bucket, &one_by_one).unwrap_err();
    assert_eq!(failure.class, Class::Changed, "{failure}");
    assert!(holds(&fetch(&bucket, &one_by_one).unwrap(), &after));
}

#[test]
fn a_server_that_sends_no_parts_is_read_whole() {
    let model = bytes(LARGE, 10);
    let (bucket, cache) = with_model(&model);
    bucket.put("models/SHA256SUMS", format!("{}  model.onnx\n", sha256(&model)));
    bucket.answer(|_| Answer::NoRanges);
    assert!(holds(&fetch_from(&bucket.web_uri("models"), &config(&cache)).unwrap(), &model));
}

#[test]
fn a_web_server_is_one_file_or_lists_its_digests() {
    let (bucket, cache) = with_model(b"model");
    let tree = {
        let source = Side::new(&config(&cache)).storage.source(remote(&bucket.web_uri("models/model.onnx"))).unwrap();
        let snapshot = source.snapshot(None, 0).unwrap();
        let (path, object) = snapshot.objects.iter().next().unwrap();
        source.fetch("m", &[("model.onnx".to_owned(), (path.clone(), object.clone()))].into(), false).unwrap()
    };
    assert!(holds(&tree, b"model"));
    let failure = fetch_from(&bucket.web_uri("models"), &config(&cache)).unwrap_err();
    assert!(failure.message.contains("SHA256SUMS") && failure.message.contains("cannot list"), "{failure}");
}

#[test]
fn keys_that_lead_elsewhere_are_written_nowhere() {
    let (bucket, cache) = with_model(b"model");
    bucket.put("models/SHA256SUMS", format!("{}  ../../outside\n", sha256(b"model")));
    let failure = fetch_from(&bucket.web_uri("models"), &config(&cache)).unwrap_err();
    assert!(failure.message.contains("../../outside") && failure.message.contains("'..'"), "{failure}");
    let (bucket, cache) = with_model(b"model");
    bucket.put("models/m/../../../outside", "x");
    let failure = fetch(&bucket, &config(&cache)).unwrap_err();
    assert!(failure.message.contains("outside") || failure.message.contains(".."), "{failure}");
    assert!(!cache.path().join("outside").exists());
}

#[test]
fn links_in_the_way_of_a_download_are_not_followed() {
    let (bucket, cache) = with_model(b"model");
    let config = config(&cache);
    let outside = cache.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    // Where the first try of a download leaves its part.
    bucket.answer(|_| Answer::Status(403));
    assert!(fetch(&bucket, &config).is_err());
    let partial = fs::read_dir(config.cache_directory.join("partial")).unwrap().map(|entry| entry.unwrap().path());
    let partial = partial.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "data")).unwrap();
    fs::remove_file(&partial).unwrap();
    std::os::unix::fs::symlink(&outside, &partial).unwrap();
    bucket.answer(|_| Answer::Whole);
    assert_eq!(fetch(&bucket, &config).unwrap_err().class, Class::Disk);
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[test]
fn a_bound_on_bytes_per_second_changes_no_byte() {
    let model = bytes(3 << 20, 11);
    let (bucket, cache) = with_model(&model);
    let slow = StorageConfig { bytes_per_second: Some(30_000_000), ..config(&cache) };
    assert!(holds(&fetch(&bucket, &slow).unwrap(), &model));
}
