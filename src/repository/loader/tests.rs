//! Loads of a version that was loaded before: as it was, and once more for its twin.

use std::fs;

use tempfile::TempDir;

use super::super::RepositoryConfig;
use super::super::disk::Disk;
use super::*;

/// A repository of one model that is executed with two threads, and the version in it.
fn two_threads() -> (TempDir, Here) {
    let folder = TempDir::new().unwrap();
    let version = folder.path().join("m/1");
    fs::create_dir_all(&version).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/identity_fp32.onnx");
    fs::copy(fixture, version.join("model.onnx")).unwrap();
    fs::write(folder.path().join("m/model.toml"), "threads = 2\n").unwrap();
    let config = RepositoryConfig { repositories: vec![folder.path().into()], ..RepositoryConfig::default() };
    let disk = Disk::new(&config, &Arc::default()).unwrap();
    let listing = disk.scan().unwrap().remove(0);
    let here = disk.materialize(&listing, &listing.versions[0], false).unwrap();
    (folder, here)
}

fn surroundings() -> Surroundings {
    Surroundings {
        runtimes: Arc::new(Runtimes::new(None)),
        curves: None,
        urgent: true,
        place: Place::default(),
        cores: 2,
        objective: None,
        pool: Arc::new(Pool::new(1)),
        sha256s: Arc::default(),
        spare: Arc::default(),
    }
}

#[test]
fn what_was_loaded_before_is_loaded_as_it_was_and_not_looked_into_again() {
    let (_folder, here) = two_threads();
    let first = load(&surroundings(), &here, None).unwrap();
    assert_eq!((first.scheduler.threads, &first.warm_up.batching), (2, &Batching::Verified));
    let told = Batching::Off { reason: "so it was told".into(), suspicious: false };
    let warm_up = WarmUp { batching: told.clone(), ..first.warm_up.clone() };
    let precedent = Precedent { warm_up, threads: 1, instances: 3 };
    let again = load(&surroundings(), &here, Some(&precedent)).unwrap();
    assert_eq!((again.scheduler.threads, again.instances.len()), (1, 3));
    assert_eq!((&again.warm_up.batching, again.scheduler.limits.rows_max), (&told, 1));
    let points = |loaded: &Loaded| loaded.warm_up.curve.points().count();
    assert_eq!(points(&again), points(&first), "nothing was measured");
}

#[test]
fn a_twin_is_of_the_same_bytes_and_takes_only_what_models_leave() {
    let (folder, here) = two_threads();
    let surroundings = surroundings();
    let loaded = load(&surroundings, &here, None).unwrap();
    assert_eq!(loaded.twin.is_some(), idle_time_is_free());
    let digest = loaded.identity.map(|identity| identity.digest);
    let twin = narrow(surroundings.clone(), &here, digest);
    let needed = here.files.bytes * 2;
    surroundings.spare.set(needed * 2 - 1);
    let (model, mut instance) = twin().unwrap();
    prove(instance.as_mut(), model.signature()).unwrap();
    let refusal = twin().err().expect("what is left is a byte too few");
    assert!(refusal.message().contains("--memory-max"), "{refusal}");
    surroundings.spare.set(u64::MAX);
    fs::write(folder.path().join("m/1/model.onnx"), "something else").unwrap();
    let refusal = twin().err().expect("the bytes are others");
    assert!(refusal.message().contains("changed since it was loaded"), "{refusal}");
}
