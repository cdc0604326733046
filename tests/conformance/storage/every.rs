//! What holds of every store.

use std::fs;

use tempfile::TempDir;
use tensorgate::storage::{Class, Digest};

use super::place::{Kind, Side, all, bytes, config, sha256};

/// More than two pieces of a download.
const LARGE: usize = (17 << 20) + 3;

pub(crate) fn a_listing_tells_every_object_and_its_size(kind: Kind) {
    let cache = TempDir::new().unwrap();
    kind.publish(&[("m/1/model.onnx", b"12345"), ("m/model.toml", b"slo = \"5ms\""), ("n/1/w/a b.bin", b"1")]);
    let source = kind.source(&Side::new(&config(&cache)).storage, "models");
    let snapshot = source.snapshot(None, 1).unwrap();
    let sizes: Vec<_> = snapshot.objects.iter().map(|(path, object)| (path.as_str(), object.bytes)).collect();
    assert_eq!(sizes, [("m/1/model.onnx", 5), ("m/model.toml", 11), ("n/1/w/a b.bin", 1)]);
    assert_eq!(snapshot.texts["m/model.toml"].as_deref(), Ok(&b"slo = \"5ms\""[..]));
    assert!(snapshot.objects.values().all(|object| object.tag.is_some() || object.sha256.is_some()));
}

pub(crate) fn a_folder_is_what_the_store_holds(kind: Kind) {
    let cache = TempDir::new().unwrap();
    let large = bytes(LARGE, 1);
    kind.publish(&[("m/1/model.onnx", &large), ("m/1/w/x.bin", b"weights"), ("m/1/empty", b"")]);
    let source = kind.source(&Side::new(&config(&cache)).storage, "models");
    let tree = source.fetch("m", &all(&source.snapshot(None, 1).unwrap()), false).unwrap();
    let read = |path: &str| fs::read(tree.directory().join(path)).unwrap();
    assert!(read("m/1/model.onnx") == large && read("m/1/w/x.bin") == b"weights" && read("m/1/empty").is_empty());
    assert_eq!(tree.digest("m/1/model.onnx"), Some(Digest::of(&large)));
    assert_eq!(tree.sha256("m/1/model.onnx").unwrap().to_string(), sha256(&large));
    assert_eq!(tree.digests().len(), 3);
}

pub(crate) fn what_is_there_is_not_fetched_again(kind: Kind) {
    let cache = TempDir::new().unwrap();
    kind.publish(&[("m/1/model.onnx", &bytes(100_000, 2)), ("m/2/model.onnx", &bytes(100_000, 3))]);
    let fetched = |side: &Side| {
        let source = kind.source(&side.storage, "models");
        drop(source.fetch("m", &all(&source.snapshot(None, 1).unwrap()), false).unwrap());
        side.metrics.fetched_bytes()
    };
    let side = Side::new(&config(&cache));
    assert_eq!((fetched(&side), fetched(&side)), (200_000, 200_000));
    assert_eq!(fetched(&Side::new(&config(&cache))), 0, "a restart");
}

pub(crate) fn a_changed_object_is_fetched_anew(kind: Kind) {
    let cache = TempDir::new().unwrap();
    let side = Side::new(&config(&cache));
    let source = kind.source(&side.storage, "models");
    for content in [b"first!", b"second"] {
        kind.publish(&[("m/1/model.onnx", content), ("m/1/same.bin", b"same")]);
        let tree = source.fetch("m", &all(&source.snapshot(None, 1).unwrap()), false).unwrap();
        assert_eq!(fs::read(tree.directory().join("m/1/model.onnx")).unwrap(), content);
    }
}

pub(crate) fn an_object_that_is_not_the_one_listed_is_noticed(kind: Kind) {
    let cache = TempDir::new().unwrap();
    let source = kind.source(&Side::new(&config(&cache)).storage, "models");
    kind.publish(&[("m/1/model.onnx", b"as it was listed")]);
    let listed = all(&source.snapshot(None, 1).unwrap());
    kind.put("m/1/model.onnx", b"of another length");
    let failure = source.fetch("m", &listed, false).unwrap_err();
    assert_eq!(failure.class, Class::Changed, "{failure}");
    assert!(failure.message.contains("model.onnx") && failure.message.contains("changed"), "{failure}");
}

pub(crate) fn wrong_digests_are_refused_and_right_ones_are_not(kind: Kind) {
    let cache = TempDir::new().unwrap();
    let source = kind.source(&Side::new(&config(&cache)).storage, "models");
    let model = bytes(50_000, 4);
    let mut sums = format!("{}  model.onnx\n", sha256(b"others"));
    kind.publish(&[("m/1/model.onnx", &model), ("m/1/SHA256SUMS", sums.as_bytes())]);
    for _ in 0..2 {
        let failure = source.fetch("m", &all(&source.snapshot(None, 1).unwrap()), false).unwrap_err();
        assert_eq!(failure.class, Class::Damaged, "{failure}");
        for part in ["m/1/model.onnx", &sha256(&model), &sha256(b"others"), "SHA256SUMS"] {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
    }
    sums = format!("{}  model.onnx\n", sha256(&model));
    kind.publish(&[("m/1/model.onnx", &model), ("m/1/SHA256SUMS", sums.as_bytes())]);
    source.fetch("m", &all(&source.snapshot(None, 1).unwrap()), false).unwrap();
}

pub(crate) fn nothing_there_is_said(kind: Kind) {
    let cache = TempDir::new().unwrap();
    let side = Side::new(&config(&cache));
    kind.publish(&[("m/1/model.onnx", b"x")]);
    let failure = kind.source(&side.storage, "nowhere").snapshot(None, 1).unwrap_err();
    assert!(failure.message.contains("nowhere") && !failure.is_transient(), "{failure}");
    // Of a model that is not there, which may come to be.
    let source = kind.source(&side.storage, "models");
    assert!(source.snapshot(Some("no-model"), 1).unwrap().objects.is_empty());
}

pub(crate) fn a_folder_of_a_listing_is_listed_alone(kind: Kind) {
    let cache = TempDir::new().unwrap();
    kind.publish(&[("m/1/model.onnx", b"1"), ("m/model.toml", b""), ("m-2/1/model.onnx", b"2"), ("n", b"3")]);
    let source = kind.source(&Side::new(&config(&cache)).storage, "models");
    let snapshot = source.snapshot(Some("m"), 1).unwrap();
    assert_eq!(snapshot.objects.keys().collect::<Vec<_>>(), ["m/1/model.onnx", "m/model.toml"]);
    assert_eq!(snapshot.texts.keys().collect::<Vec<_>>(), ["m/model.toml"]);
}
