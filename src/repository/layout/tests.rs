use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::model::RuntimeChoice;
use crate::model::settings::SETTINGS_BYTES_MAX;

/// A repository with these files, each with as many bytes as its own text.
fn repository(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.extension().is_some() {
            fs::write(path, text).unwrap();
        } else {
            fs::create_dir_all(path).unwrap();
        }
    }
    root
}

/// A repository with these files, which are empty; white space is between their paths.
fn empty_files(paths: &str) -> TempDir {
    repository(&paths.split_whitespace().map(|path| (path, "")).collect::<Vec<_>>())
}

fn names(listings: &[ModelListing]) -> Vec<&str> {
    listings.iter().map(|listing| listing.name.as_str()).collect()
}

fn model(root: &TempDir, name: &str) -> ModelListing {
    scan_model(&Local, ModelName::new(name), &root.path().join(name), None)
}

fn numbers(listing: &ModelListing) -> Vec<u64> {
    listing.versions.iter().map(|files| files.version.number()).collect()
}

/// The one version, of a model without any fault or warning.
fn sound(listing: &ModelListing) -> &VersionFiles {
    assert_eq!((&listing.faults, &listing.warnings), (&vec![], &vec![]));
    assert_eq!(listing.versions.len(), 1, "{listing:?}");
    assert_eq!(listing.versions[0].fault, None);
    &listing.versions[0]
}

#[test]
fn a_repository_is_its_model_directories_sorted_by_name() {
    let root = repository(&[
        ("resnet/1/model.onnx", "1234"),
        ("bert/model.onnx", "12"),
        ("README.md", ""),
        (".git/1/model.onnx", ""),
        ("_old/1/model.onnx", ""),
        ("..data/1/model.onnx", ""),
        ("lost+found/x", ""),
    ]);
    let listings = scan(&Local, root.path()).unwrap();
    assert_eq!(names(&listings), ["bert", "resnet"]);
    assert_eq!(sound(&listings[0]).path, root.path().join("bert/model.onnx"));
    let resnet = sound(&listings[1]);
    assert_eq!((resnet.version, resnet.bytes), (Version::ONE, 4));
    assert_eq!(resnet.path, root.path().join("resnet/1/model.onnx"));
    assert!(resnet.modified.is_some());
    assert_eq!(listings[1].directory, root.path().join("resnet"));
}

#[test]
fn an_empty_repository_has_no_models_and_a_missing_one_is_an_error_that_names_it() {
    let root = empty_files("file.txt");
    assert_eq!(scan(&Local, root.path()).unwrap(), []);
    for wrong in ["nowhere", "file.txt"] {
        let path = root.path().join(wrong);
        let error = scan(&Local, &path).unwrap_err();
        assert!(error.message().contains(&*path.to_string_lossy()), "{error}");
    }
}

#[test]
fn versions_are_whole_numbers_without_leading_zeros_in_ascending_order() {
    let root = empty_files("m/10/model.onnx m/2/model.onnx m/01/model.onnx m/0/model.onnx m/latest/model.onnx m/3.txt");
    fs::write(root.path().join("m/7"), "a file, not a version").unwrap();
    assert_eq!(numbers(&model(&root, "m")), [2, 10]);
}

#[test]
fn a_version_without_a_model_file_is_a_fault_of_that_version_only() {
    let root = empty_files("m/1/model.onnx m/2/model.pt m/3/a.onnx m/3/b.onnx m/4");
    let listing = model(&root, "m");
    assert_eq!(listing.faults, Vec::<String>::new());
    assert_eq!(numbers(&listing), [1, 2, 3, 4]);
    let fault = |i: usize| listing.versions[i].fault.as_deref().unwrap_or("");
    assert_eq!(fault(0), "");
    assert!(
        fault(1).contains(
            "m/2: no model file: looked for model.onnx or one *.onnx, or config.json with *.safetensors, found model.pt"
        ),
        "{}",
        fault(1)
    );
    assert!(fault(2).contains("several model files (a.onnx, b.onnx)"), "{}", fault(2));
    assert!(fault(3).ends_with("found nothing"), "{}", fault(3));
}

#[test]
fn the_model_file_is_the_named_one_or_model_onnx_or_the_only_one() {
    let root = repository(&[
        ("named/1/b.onnx", ""),
        ("named/1/model.onnx", ""),
        ("named/2/model.onnx", ""),
        ("named/config.pbtxt", "default_model_filename: 'b.onnx'"),
        ("usual/1/model.onnx", ""),
        ("usual/1/other.onnx", ""),
        ("only/1/net.onnx", ""),
        ("only/1/net.onnx.data", "12345"),
        ("only/1/.net.onnx", ""),
    ]);
    let named = model(&root, "named");
    assert_eq!(named.versions[0].path, root.path().join("named/1/b.onnx"));
    let fault = named.versions[1].fault.as_deref().unwrap();
    assert!(fault.ends_with("no 'b.onnx' in it, which the settings name as the model file"), "{fault}");
    assert_eq!(sound(&model(&root, "usual")).path, root.path().join("usual/1/model.onnx"));
    let only = model(&root, "only");
    assert_eq!(sound(&only).path, root.path().join("only/1/net.onnx"));
    assert_eq!(sound(&only).bytes, 5);
}

#[test]
fn a_model_file_may_be_a_directory_with_external_weights() {
    let root = repository(&[
        ("m/1/model.onnx/model.onnx", "12"),
        ("m/1/model.onnx/weights/all.bin", "345"),
        ("n/1/model.onnx/net.onnx", ""),
    ]);
    let listing = model(&root, "m");
    assert_eq!(sound(&listing).path, root.path().join("m/1/model.onnx/model.onnx"));
    assert_eq!(sound(&listing).bytes, 5);
    assert_eq!(sound(&model(&root, "n")).path, root.path().join("n/1/model.onnx/net.onnx"));
}

#[test]
fn a_model_without_any_file_says_what_was_looked_for() {
    let root = empty_files("m/notes.txt");
    let listing = model(&root, "m");
    assert_eq!(listing.versions, []);
    assert_eq!(listing.faults.len(), 1);
    let fault = &listing.faults[0];
    assert!(
        fault.contains(
            "/m: no model file: looked for model.onnx or one *.onnx, or config.json with *.safetensors, found notes.txt"
        ),
        "{fault}"
    );
    assert!(fault.ends_with("nor is there a version directory such as 1/"), "{fault}");
}

#[test]
fn a_hugging_face_folder_is_a_model_in_the_same_places() {
    let root = repository(&[
        ("flat/config.json", "{}"),
        ("flat/model.safetensors", "123"),
        ("flat/pytorch_model.bin", "a pickle"),
        ("flat/onnx/model.onnx", "1"),
        ("flat/1_Pooling/config.json", "{}"),
        ("versions/3/config.json", "{}"),
        ("versions/3/model-00001-of-00001.safetensors", ""),
        ("versions/3/model.safetensors.index.json", ""),
        ("both/config.json", "{}"),
        ("both/model.safetensors", ""),
        ("both/model.onnx", ""),
        ("chosen/config.json", "{}"),
        ("chosen/model.safetensors", ""),
        ("chosen/model.onnx", ""),
        ("chosen/model.toml", "runtime = \"candle\""),
    ]);
    let flat = model(&root, "flat");
    assert_eq!((sound(&flat).path.clone(), sound(&flat).bytes), (root.path().join("flat/config.json"), 2 + 3 + 2));
    assert_eq!(sound(&model(&root, "versions")).path, root.path().join("versions/3/config.json"));
    assert_eq!(sound(&model(&root, "both")).path, root.path().join("both/model.onnx"));
    assert_eq!(sound(&model(&root, "chosen")).path, root.path().join("chosen/config.json"));
    assert!(mistaken_for_model(&Local, &root.path().join("flat")).unwrap().contains("holds model.safetensors"));
}

#[test]
fn a_folder_that_is_not_whole_is_a_fault_that_says_what_is_missing() {
    let root = empty_files(
        "pickle/config.json pickle/pytorch_model.bin bare/config.json lost/model.safetensors none/model.toml tract/config.json \
         tract/model.safetensors tract/model.toml",
    );
    fs::write(root.path().join("none/model.toml"), "runtime = \"candle\"").unwrap();
    fs::write(root.path().join("tract/model.toml"), "runtime = \"tract\"").unwrap();
    for (name, hint) in [
        ("pickle", "its weights are pickled (pytorch_model.bin), and reading a pickle runs what is in it"),
        ("bare", "config.json has no weights beside it, expected model.safetensors"),
        ("lost", "model.safetensors has no config.json beside it"),
        ("none", "no model: looked for config.json with *.safetensors beside it"),
        ("tract", "no model file: looked for model.onnx"),
    ] {
        let listing = model(&root, name);
        assert!(listing.faults[0].contains(&format!("/{name}: {hint}")), "{listing:?}");
    }
}

#[test]
fn an_identity_model_needs_no_file() {
    let toml = "runtime = \"identity\"";
    let root =
        repository(&[("flat/model.toml", toml), ("versions/model.toml", toml), ("versions/3", ""), ("versions/4", "")]);
    let flat = model(&root, "flat");
    assert_eq!((sound(&flat).version, &sound(&flat).path), (Version::ONE, &root.path().join("flat")));
    let versions = model(&root, "versions");
    assert_eq!(numbers(&versions), [3, 4]);
    assert_eq!(versions.settings.runtime, RuntimeChoice::Identity);
    assert_eq!(versions.versions[1].path, root.path().join("versions"));
}

#[test]
fn model_toml_wins_over_config_pbtxt_with_a_warning() {
    let root =
        repository(&[("m/model.toml", "max_batch_size = 3"), ("m/config.pbtxt", "broken {"), ("m/model.onnx", "")]);
    let listing = model(&root, "m");
    assert_eq!(listing.settings.max_batch_rows, Some(3));
    assert_eq!(listing.faults, Vec::<String>::new());
    assert!(listing.warnings.len() == 1 && listing.warnings[0].contains("m/config.pbtxt: not read"), "{listing:?}");
}

#[test]
fn faults_and_warnings_of_settings_name_the_file() {
    let root = repository(&[
        ("a/config.pbtxt", "name: 'b'\nplatform: 'tensorrt_plan'"),
        ("a/1/model.plan", ""),
        ("b/config.pbtxt", "colour: 'red'"),
        ("b/1/model.onnx", ""),
    ]);
    let listings = scan(&Local, root.path()).unwrap();
    assert_eq!(listings[0].versions, []);
    assert_eq!(listings[0].faults.len(), 2);
    assert!(listings[0].faults[1].contains("a/config.pbtxt: line 2: platform: 'tensorrt_plan'"), "{listings:?}");
    assert_eq!(numbers(&listings[1]), [1]);
    assert!(listings[1].warnings[0].contains("b/config.pbtxt: line 1: colour: unknown field"), "{listings:?}");
}

#[test]
fn chosen_versions_that_are_missing_are_told() {
    let root = repository(&[
        ("some/model.toml", "versions = [1, 5]"),
        ("some/1/model.onnx", ""),
        ("none/model.toml", "versions = [5, 6]"),
        ("none/1/model.onnx", ""),
    ]);
    let some = model(&root, "some");
    assert_eq!((some.warnings.len(), some.faults.len()), (1, 0), "{some:?}");
    let none = model(&root, "none");
    assert!(none.faults[0].contains("version 5, 6: not there"), "{none:?}");
}

#[test]
fn links_are_followed_as_kubernetes_mounts_need_it() {
    let root = repository(&[
        ("..2026_11_23/model.onnx", "123"),
        ("..2026_11_23/model.toml", "threads = 2"),
        ("elsewhere/1/model.onnx", ""),
    ]);
    let mount = root.path().join("mount");
    fs::create_dir(&mount).unwrap();
    symlink("../..2026_11_23", mount.join("..data")).unwrap();
    symlink("..data/model.onnx", mount.join("model.onnx")).unwrap();
    symlink("..data/model.toml", mount.join("model.toml")).unwrap();
    symlink("elsewhere", root.path().join("linked")).unwrap();
    let listings = scan(&Local, root.path()).unwrap();
    assert_eq!(names(&listings), ["elsewhere", "linked", "mount"]);
    assert_eq!(sound(&listings[1]).path, root.path().join("linked/1/model.onnx"));
    assert_eq!(sound(&listings[2]).bytes, 3 + "threads = 2".len() as u64);
    assert_eq!(listings[2].settings.threads.map(|threads| threads.get()), Some(2));
}

#[test]
fn broken_and_circular_links_are_faults_that_name_them() {
    let root = empty_files("a/1/model.onnx b/model.onnx c/2");
    symlink("nowhere", root.path().join("gone")).unwrap();
    symlink("round", root.path().join("round")).unwrap();
    symlink("nowhere", root.path().join("a/2")).unwrap();
    symlink("nowhere", root.path().join("b/model.toml")).unwrap();
    symlink("nowhere", root.path().join("c/2/model.onnx")).unwrap();
    symlink(".", root.path().join("a/1/again")).unwrap();
    let listings = scan(&Local, root.path()).unwrap();
    assert_eq!(names(&listings), ["a", "b", "c", "gone", "round"]);
    assert_eq!(numbers(&listings[0]), [1, 2]);
    assert_eq!(listings[0].versions[0].fault, None);
    assert!(listings[0].versions[1].fault.as_deref().unwrap().contains("a/2: cannot be read"), "{listings:?}");
    assert!(listings[1].faults[0].contains("b/model.toml: cannot be read"), "{listings:?}");
    assert!(
        listings[2].versions[0].fault.as_deref().unwrap().contains("c/2/model.onnx: cannot be read"),
        "{listings:?}"
    );
    for gone in &listings[3..] {
        assert!(gone.faults[0].contains(&format!("{}: cannot be read", gone.name)), "{gone:?}");
    }
}

#[test]
fn odd_names_and_odd_settings_files_are_faults() {
    let root = repository(&[("large/model.onnx", ""), ("folder/model.toml/x.txt", ""), ("binary/model.onnx", "")]);
    fs::write(root.path().join("large/config.pbtxt"), "#".repeat(SETTINGS_BYTES_MAX + 1)).unwrap();
    fs::write(root.path().join("binary/config.pbtxt"), b"name: '\xff'").unwrap();
    fs::create_dir(root.path().join(std::ffi::OsStr::from_bytes(b"odd\xff"))).unwrap();
    let listings = scan(&Local, root.path()).unwrap();
    let reasons = ["not UTF-8 text", "not a file", "larger than", "name is not UTF-8"];
    for (listing, reason) in listings.iter().zip(reasons) {
        assert!(listing.faults.len() == 1 && listing.faults[0].contains(reason), "{reason}: {listing:?}");
    }
    assert_eq!(listings.len(), reasons.len());
}

#[test]
fn one_model_may_be_a_file_a_directory_or_a_directory_of_versions() {
    let root = repository(&[("d/net.onnx", "123"), ("d/config.pbtxt", ""), ("v/4/model.onnx", ""), ("other.txt", "")]);
    let at = |path: &str| scan_model(&Local, ModelName::new("given"), &root.path().join(path), None);
    assert_eq!(sound(&at("d")).path, root.path().join("d/net.onnx"));
    assert_eq!(sound(&at("v")).version.number(), 4);
    let file = at("d/net.onnx");
    assert_eq!((file.name.as_str(), &file.directory), ("given", &root.path().join("d")));
    assert_eq!((file.versions[0].path.clone(), file.versions[0].bytes), (root.path().join("d/net.onnx"), 3));
    assert!(file.warnings[0].contains("d/config.pbtxt: is not read"), "{file:?}");
    assert!(at("other.txt").faults[0].contains("other.txt: neither a directory nor an .onnx file"));
    assert!(at("nowhere").faults[0].contains("nowhere: cannot be read"));
}

#[test]
fn a_file_beside_version_directories_is_told_to_be_left_out() {
    let root = empty_files("m/1/model.onnx m/model.onnx");
    let listing = model(&root, "m");
    assert_eq!(numbers(&listing), [1]);
    assert!(listing.warnings[0].contains("m/model.onnx: is not served"), "{listing:?}");
}

#[test]
fn a_model_given_as_a_repository_is_recognised() {
    let root = empty_files("m/1/model.onnx m/config.pbtxt");
    assert_eq!(mistaken_for_model(&Local, root.path()), None);
    let message = mistaken_for_model(&Local, &root.path().join("m")).unwrap();
    assert!(message.contains("holds config.pbtxt") && message.contains("--model-dir"), "{message}");
}

#[test]
fn a_name_in_two_repositories_is_served_from_neither() {
    let first = empty_files("a/model.onnx c/model.onnx");
    let second = empty_files("b/model.onnx c/1/model.onnx");
    let merged = merge([first.path(), second.path()].map(|root: &Path| scan(&Local, root).unwrap()).into());
    assert_eq!(names(&merged), ["a", "b", "c"]);
    assert_eq!(merged[0].faults, Vec::<String>::new());
    let places: [PathBuf; 2] = [first.path().join("c"), second.path().join("c")];
    assert_eq!(merged[2].directory, places[0]);
    assert_eq!(merged[2].faults.len(), 1);
    for place in places {
        assert!(merged[2].faults[0].contains(&*place.to_string_lossy()), "{merged:?}");
    }
}

#[test]
fn one_model_is_looked_up_as_a_scan_shows_it() {
    let root = repository(&[("m/1/model.onnx", "1"), ("_m/1/model.onnx", "1"), ("lost+found", ""), ("notes.txt", "")]);
    symlink("nowhere", root.path().join("broken")).unwrap();
    let listings = scan(&Local, root.path()).unwrap();
    assert_eq!(names(&listings), ["broken", "m"]);
    for listing in listings {
        assert_eq!(look_up(&Local, root.path(), listing.name.as_str(), None).unwrap(), Some(listing));
    }
    for name in ["", ".", "..", "_m", "lost+found", "notes.txt", "n", "m/1", "../m", "m\0"] {
        assert_eq!(look_up(&Local, root.path(), name, None).unwrap(), None, "{name:?}");
    }
    assert!(look_up(&Local, &root.path().join("nowhere"), "m", None).is_err());
}

#[test]
fn settings_that_are_given_stand_in_for_those_that_are_there() {
    let root = repository(&[("m/1/model.onnx", "1"), ("m/2/model.onnx", "1"), ("m/model.toml", "no settings")]);
    let given =
        ModelSettings::from_config_json(r#"{ "version_policy": { "all": {} }, "metric_tags": { "a": "b" } }"#, "m");
    let listing = look_up(&Local, root.path(), "m", Some(&given.unwrap())).unwrap().unwrap();
    assert_eq!((numbers(&listing), listing.faults.len(), listing.warnings.len()), (vec![1, 2], 0, 1));
    assert_eq!(listing.settings.version_policy, crate::model::VersionPolicy::All);
    assert_eq!(model(&root, "m").faults.len(), 1);
}

#[test]
fn a_version_that_traffic_names_and_that_is_not_served_is_a_warning() {
    let shared = "versions = [1, 2]\n[traffic]\nweights = { 1 = 1, 2 = 1, 3 = 1, 7 = 1 }";
    let root =
        repository(&[("m/1/model.onnx", ""), ("m/2/model.onnx", ""), ("m/3/model.onnx", ""), ("m/model.toml", shared)]);
    let listing = model(&root, "m");
    assert_eq!((numbers(&listing), listing.faults.len()), (vec![1, 2, 3], 0));
    let [warning] = &listing.warnings[..] else { panic!("{listing:?}") };
    assert!(
        warning.ends_with("traffic names version 3, 7, which is not served; version 1, 2 is (versions)"),
        "{warning}"
    );
}
