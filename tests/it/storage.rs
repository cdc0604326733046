//! Models served out of a store, by the real program and in this process.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use tensorgate::config::Config;
use tensorgate::contract::metrics as names;
use tensorgate::model::ModelName;
use tensorgate::repository::Control;
use tensorgate::storage::{Environment, RemoteUri, RetryPolicy, StorageConfig, StorageUri};

use crate::support::metrics::Metrics;
use crate::support::models::fixture;
use crate::support::tensors::*;
use crate::support::{Models, Process, Server, eventually, process};

#[allow(dead_code)] // The storage suite uses all of it.
#[path = "../conformance/storage/bucket.rs"]
mod bucket;

use bucket::Bucket;

const MODEL: &str = "identity_fp32";

fn with_model(path: &str, fixture_name: &str) -> Bucket {
    let bucket = Bucket::start();
    bucket.put(path, fs::read(fixture(fixture_name)).unwrap());
    bucket
}

fn remote(uri: &str) -> RemoteUri {
    match StorageUri::parse(uri).unwrap() {
        StorageUri::Remote(uri) => uri,
        StorageUri::Local(path) => panic!("{}", path.display()),
    }
}

/// A server of what lies at `uri`, as one model where it has a `name`.
fn serving(uri: &str, name: Option<&str>, cache: &TempDir) -> impl FnOnce(&mut Config) + use<> {
    let place = (remote(uri), name.map(ModelName::new));
    let retry = RetryPolicy { first: Duration::from_millis(1), failures_max: 2, ..RetryPolicy::default() };
    let storage = StorageConfig {
        cache_directory: cache.path().into(),
        retry,
        environment: Environment::from_iter([("awsAnonymousCredential", "true")]),
        ..StorageConfig::default()
    };
    move |config| {
        config.repository.repositories.clear();
        config.repository.remote = vec![place];
        config.repository.storage = storage;
    }
}

async fn answers(server: &Server, model: &str) {
    let row = named([("x", tensor([1, 2], [1_f32, 2.]))]);
    assert_eq!(server.http().await.infer(model, &json_body(&row)).await.status, 200);
}

#[tokio::test]
async fn a_repository_in_a_store_is_served_and_its_digest_is_told() {
    let (bucket, cache) = (with_model("models/m/3/model.onnx", MODEL), TempDir::new().unwrap());
    bucket.put("models/m/model.toml", "slo = \"70ms\"");
    bucket.put("models/m/2/model.onnx", "an older one, which is not wanted");
    let server = Server::with(&Models::new(), serving(&bucket.uri("models"), None, &cache)).await;
    answers(&server, "m").await;
    let metadata = server.http().await.get("/v2/models/m").await.json();
    let sha256 = ring::digest::digest(&ring::digest::SHA256, &fs::read(fixture(MODEL)).unwrap());
    let digest: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(metadata["versions"], serde_json::json!(["3"]));
    assert_eq!(metadata["properties"]["digest"], format!("sha256:{digest}"));
    assert_eq!(bucket.asked("m/2/model.onnx").len(), 0);
    let metrics = server.metrics().await;
    let size = fs::metadata(fixture(MODEL)).unwrap().len() as f64;
    assert_eq!(metrics.sum(names::STORAGE_FETCHED, &[]), size);
    assert_eq!(metrics.sum(names::MODEL_OBJECTIVE, &[("model", "m")]), 0.07);
}

#[tokio::test]
async fn one_model_is_a_folder_a_file_or_versions_in_a_store() {
    for (key, place) in [
        ("x/model.onnx", "x"),
        ("x/1/model.onnx", "x"),
        ("x/some.onnx", "x/some.onnx"),
        ("x/1/model.onnx/weights.onnx", "x"),
    ] {
        let (bucket, cache) = (with_model(key, MODEL), TempDir::new().unwrap());
        let server = Server::with(&Models::new(), serving(&bucket.uri(place), Some("m"), &cache)).await;
        answers(&server, "m").await;
    }
}

#[tokio::test]
async fn a_hugging_face_folder_is_fetched_without_what_is_for_other_engines() {
    for (folder, place, name) in [("hub/mood", "hub/mood", Some("m")), ("models/m/4", "models", None)] {
        let (bucket, cache) = (Bucket::start(), TempDir::new().unwrap());
        let checkpoint = Models::new().with_checkpoint("m", "sentences_first");
        for file in ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"] {
            bucket.put(&format!("{folder}/{file}"), fs::read(checkpoint.path().join("m").join(file)).unwrap());
        }
        for other in ["pytorch_model.bin", "onnx/model.onnx", "README.md"] {
            bucket.put(&format!("{folder}/{other}"), "large");
        }
        let server = Server::with(&Models::new(), serving(&bucket.uri(place), name, &cache)).await;
        let ids = named([("input_ids", tensor([1, 3], [4_i64, 5, 6]))]);
        let answer = server.http().await.infer("m", &json_body(&ids)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(outputs_of(&answer)[1].1.shape().to_vec(), [1, 16], "the embedding");
        for other in ["pytorch_model.bin", "onnx/model.onnx", "README.md"] {
            assert_eq!(bucket.asked(other).len(), 0, "{other}");
        }
    }
}

#[tokio::test]
async fn callers_load_what_came_into_the_store_since() {
    let (bucket, cache) = (with_model("models/m/1/model.onnx", MODEL), TempDir::new().unwrap());
    let serving = serving(&bucket.uri("models"), None, &cache);
    let explicit = |config: &mut Config| {
        serving(config);
        config.repository.control = Control::Explicit;
    };
    let server = Server::with(&Models::new(), explicit).await;
    let mut http = server.http().await;
    assert_eq!(bucket.sent(), 0, "nothing is fetched before it is to be loaded");
    let answer = http.post("/v2/repository/models/late/load", "").await;
    assert_eq!(answer.status, 404, "{answer:?}");
    bucket.put("models/late/1/model.onnx", fs::read(fixture(MODEL)).unwrap());
    assert_eq!(http.post("/v2/repository/models/late/load", "").await.status, 200);
    answers(&server, "late").await;
    // A new version replaces the old one, and one that is not what it should be leaves it serving.
    let wrong = format!("{}  model.onnx\n", "0".repeat(64));
    bucket.put("models/late/2/model.onnx", "nonsense");
    bucket.put("models/late/2/SHA256SUMS", wrong);
    let answer = http.post("/v2/repository/models/late/load", "").await;
    assert!(answer.status == 503 && answer.error().contains("SHA256SUMS says 0000"), "{answer:?}");
    answers(&server, "late").await;
}

#[tokio::test]
async fn a_server_whose_storage_is_down_starts_from_its_cache() {
    let (bucket, cache) = (with_model("models/m/1/model.onnx", MODEL), TempDir::new().unwrap());
    let first = Server::with(&Models::new(), serving(&bucket.uri("models"), None, &cache)).await;
    answers(&first, "m").await;
    assert!(first.stop().await);
    bucket.set_down(true);
    let second = Server::with(&Models::new(), serving(&bucket.uri("models"), None, &cache)).await;
    answers(&second, "m").await;
    assert_eq!(second.metrics().await.sum(names::STORAGE_CACHE_HITS, &[]), 1.0);
}

#[tokio::test]
async fn every_fault_of_a_store_is_found_by_a_check() {
    let (bucket, cache) = (with_model("models/sound/1/model.onnx", MODEL), TempDir::new().unwrap());
    bucket.put("models/empty/notes.txt", "no model");
    bucket.put("models/odd/model.toml", "slow = \"5ms\"");
    bucket.put("models/odd/1/model.onnx", "x");
    bucket.put("models/broken/1/model.onnx", "no ONNX");
    let mut command =
        process::command(&["check", &bucket.uri("models"), "--cache-dir", cache.path().to_str().unwrap()]);
    let ended = process::run_to_end(command.env("awsAnonymousCredential", "1")).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for fault in
        ["fault: empty: ", "fault: odd: ", "unknown key 'slow'", "fault: broken version 1: ", "4 models, 3 faults"]
    {
        assert!(ended.output.contains(fault), "{fault}: {ended:?}");
    }
}

/// The program, serving the store at `uri` with a cache in `cache`.
fn command(uri: &str, cache: &TempDir, more: &[&str]) -> tokio::process::Command {
    let cache = cache.path().to_str().unwrap();
    let given = ["serve", uri, "--http-port", "0", "--grpc-port", "0", "--log-format", "json", "--cache-dir", cache];
    let mut command = process::command(&[&given, more].concat());
    command.env("awsAnonymousCredential", "1");
    command
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_fetches_goes_on_after_its_restart() {
    /// Seven and a half pieces.
    const BALLAST: u64 = 60 << 20;
    /// What one request has under way when the process is killed: a piece, and what is in the sockets' buffers.
    const LOST_MAX: u64 = 16 << 20;
    let (bucket, cache) = (with_model("models/m/1/model.onnx", MODEL), TempDir::new().unwrap());
    bucket.put("models/m/1/ballast.bin", vec![7; BALLAST as usize]);
    let uri = bucket.uri("models");
    let slowly = ["--fetch-parallel", "1", "--fetch-bytes-per-second", "40MB"];
    let process = Process::of(&mut command(&uri, &cache, &slowly)).await;
    eventually("a good part of it", async || (bucket.sent() > BALLAST / 2).then_some(())).await;
    process.signal("KILL").await;
    process.exit().await;
    let before = bucket.sent();
    assert!(before < BALLAST, "it was killed too late");
    let mut process = Process::of(&mut command(&uri, &cache, &["--fetch-parallel", "1"])).await;
    process.line("serving").await;
    let again = bucket.sent().saturating_sub(BALLAST);
    assert!(again < LOST_MAX, "{again} bytes were sent twice, {before} before the kill");
    let metrics = Metrics::of(&mut process.http().await).await;
    assert!(metrics.sum(names::STORAGE_RESUMED, &[]) >= (before - LOST_MAX) as f64);
    assert_eq!(process.http().await.get("/v2/models/m/ready").await.status, 200);
}

#[tokio::test]
async fn storage_that_is_down_is_one_line_of_the_log_and_without_a_cache_the_reason_not_to_start() {
    let (bucket, cache) = (with_model("models/m/1/model.onnx", MODEL), TempDir::new().unwrap());
    let uri = bucket.uri("models");
    let mut process = Process::of(&mut command(&uri, &cache, &[])).await;
    process.line("serving").await;
    process.signal("INT").await;
    assert_eq!(process.exit().await, Some(0));
    bucket.set_down(true);
    let mut process = Process::of(&mut command(&uri, &cache, &[])).await;
    let line = process.line("storage is down").await;
    assert_eq!((line["level"].as_str(), line["uri"].as_str()), (Some("WARN"), Some(uri.as_str())));
    process.line("serving").await;
    let ended = process::run_to_end(&mut command(&uri, &TempDir::new().unwrap(), &[])).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("cannot start") && ended.errors.contains(&uri), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_does_not_wait_for_what_it_fetches() {
    let (bucket, cache) = (with_model("models/m/1/model.onnx", MODEL), TempDir::new().unwrap());
    bucket.put("models/m/1/ballast.bin", vec![7; 60 << 20]);
    let uri = bucket.uri("models");
    // It would take ten minutes.
    let mut process = Process::of(&mut command(&uri, &cache, &["--fetch-bytes-per-second", "100KB"])).await;
    process.line("fetching").await;
    process.signal("INT").await;
    assert_eq!(process.exit().await, Some(0));
}

#[tokio::test]
async fn a_disk_that_takes_no_more_fails_what_needs_it_and_nothing_else() {
    let (bucket, cache) = (with_model("models/small/1/model.onnx", MODEL), TempDir::new().unwrap());
    bucket.put("models/large/1/model.onnx", fs::read(fixture(MODEL)).unwrap());
    bucket.put("models/large/1/ballast.bin", vec![7; 12 << 20]);
    let uri = bucket.uri("models");
    let program = command(&uri, &cache, &[]);
    // Files may have 4 MiB: writing more is an error, as on a disk that is full.
    let program = program.as_std();
    let mut limited_std = std::process::Command::new("bash");
    limited_std.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]).arg(program.get_program());
    limited_std.args(program.get_args());
    limited_std.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited_std.current_dir(program.get_current_dir().unwrap());
    let mut limited = tokio::process::Command::from(limited_std);
    let mut process = Process::of(limited.kill_on_drop(true)).await;
    let failed = process.line("failed to load").await;
    assert_eq!(failed["model"], "large");
    assert!(failed["message"].as_str().unwrap().contains("too large"), "{failed}");
    process.line("serving").await;
    assert_eq!(process.http().await.get("/v2/models/small/ready").await.status, 200);
    process.signal("KILL").await;
    process.exit().await;
    let mut process = Process::of(&mut command(&uri, &cache, &[])).await;
    process.line("serving").await;
    assert_eq!(process.http().await.get("/v2/models/large/ready").await.status, 200);
}
