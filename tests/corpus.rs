//! Replays the corpus of the fuzz targets (fuzz/corpus), so that what a search once found stays found.

use std::fs;
use std::path::Path;

// The bodies of the targets, which are a crate of their own where they are fuzzed.
#[allow(missing_docs, unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

fn replay(target: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|cause| panic!("{}: {cause}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    let (_, run) = targets::TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target of this name");
    for path in paths {
        // The last one named is the one that fails.
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
    }
}

macro_rules! corpora {
    ($($test:ident: $target:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            replay($target);
        })*

        #[test]
        fn every_target_and_every_corpus_is_replayed() {
            let replayed = [$($target),*];
            assert_eq!(targets::TARGETS.map(|(name, _)| name), replayed);
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            for (folder, ending) in [("corpus", ""), ("fuzz_targets", ".rs")] {
                let mut found: Vec<String> = fs::read_dir(root.join(folder))
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .map(|name| name.strip_suffix(ending).unwrap_or(&name).to_owned())
                    .collect();
                found.sort();
                assert_eq!(found, replayed, "{folder}");
            }
        }
    };
}

corpora! {
    binary_tensors_hold_what_they_should: "binary",
    checkpoints_hold_what_they_should: "checkpoint",
    compressed_bodies_hold_what_they_should: "coding",
    config_pbtxt_holds_what_it_should: "config_pbtxt",
    kept_curves_hold_what_they_should: "curve",
    metrics_hold_what_they_should: "exposition",
    heads_hold_what_they_should: "head",
    json_requests_hold_what_they_should: "json",
    load_requests_hold_what_they_should: "load",
    model_toml_holds_what_it_should: "model_toml",
    numbers_hold_what_they_should: "numbers",
    openai_bodies_hold_what_they_should: "openai",
    protobuf_requests_hold_what_they_should: "proto",
    places_and_digests_hold_what_they_should: "storage",
    byte_strings_hold_what_they_should: "strings",
    pages_of_metrics_hold_what_they_should: "tally",
    traffic_bodies_hold_what_they_should: "traffic",
    v1_bodies_hold_what_they_should: "v1",
    v2_messages_of_graphs_hold_what_they_should: "v2",
}
