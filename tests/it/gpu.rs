//! Models on GPUs: what is asked for, what is told, and whose memory it takes. The GPUs are made up, by a library in place of
//! the driver's (tests/fixtures/nvml); what runs "on" them is the identity, which computes nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tensorgate::contract::metrics::{self as names, gpu, triton};

use crate::support::metrics::Metrics;
use crate::support::process::{command, run_to_end};
use crate::support::tensors::*;
use crate::support::{Http, Models, Process, eventually};

/// What each identity model takes: nothing in its engine, so what every version does beside its weights.
const EACH_KIB: usize = 64;

/// The driver's library, compiled into a folder of its own.
fn driver() -> TempDir {
    let folder = TempDir::new().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvml/nvml.c");
    let library = folder.path().join("libnvidia-ml.so.1");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(compiled.success());
    folder
}

fn identity(models: &Models, name: &str, more: &str) {
    let tensor = "[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n";
    models.write(name, "model.toml", &format!("runtime = \"identity\"\n{more}\n{tensor}"));
}

fn row() -> Named {
    named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])
}

/// The program beside two GPUs, ready.
async fn beside_gpus(driver: &TempDir, models: &Models, more: &[&str]) -> (Process, Http) {
    let mut all = vec!["serve", "--http-port", "0", "--grpc-port", "0", "--log-format", "json", models.argument()];
    all.extend(more);
    let mut command = command(&all);
    command.env("LD_LIBRARY_PATH", driver.path()).env_remove("CUDA_VISIBLE_DEVICES");
    let process = Process::of(&mut command).await;
    let mut http = process.http().await;
    let ready = async || (http.get("/v2/health/ready").await.status == 200).then_some(());
    eventually("the server to be ready", ready).await;
    (process, http)
}

#[tokio::test]
async fn a_model_on_a_gpu_says_so_everywhere_and_one_that_does_not_ask_is_on_the_cpu() {
    let (driver, models) = (driver(), Models::new());
    identity(&models, "there", "device = \"cuda:1\"\ninstances = 2");
    identity(&models, "here", "");
    let (_process, mut http) = beside_gpus(&driver, &models, &[]).await;
    for model in ["there", "here"] {
        let answer = http.infer(model, &json_body(&row())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(outputs_of(&answer), row());
    }
    let told = http.get("/v2/models/there").await.json();
    assert_eq!(told["properties"]["device"], "cuda:1");
    assert_eq!(http.get("/v2/models/here").await.json()["properties"]["device"], serde_json::Value::Null);
    let group = http.get("/v2/models/there/config").await.json()["instance_group"][0].clone();
    assert_eq!((&group["kind"], &group["count"]), (&"KIND_GPU".into(), &2.into()));
    assert_eq!(group["gpus"], serde_json::json!([1]));
    let metrics = Metrics::of(&mut http).await;
    let second = [("device", "cuda:1"), ("gpu_uuid", "GPU-made-up-1")];
    assert_eq!(metrics.sum(gpu::MEMORY_TOTAL, &second), 1e6);
    assert_eq!(metrics.sum(gpu::MEMORY_USED, &second), 250_000.0);
    assert_eq!(metrics.sum(gpu::UTILIZATION, &second), 0.5);
    assert_eq!(metrics.sum(triton::GPU_UTILIZATION, &[("gpu_uuid", "GPU-made-up-0")]), 0.25);
    assert_eq!(metrics.sum(triton::GPU_POWER_USAGE, &[]), 141.0);
    let models = |what| metrics.sum(names::GPU_MODELS_MEMORY, &[("device", "cuda:1"), ("what", what)]);
    assert_eq!((models("used"), models("max")), ((EACH_KIB << 10) as f64, 800_000.0));
}

#[tokio::test]
async fn what_a_gpu_has_no_room_for_leaves_it_and_the_memory_of_the_machine_alone() {
    let (driver, models) = (driver(), Models::new());
    for name in ["a", "b", "c"] {
        identity(&models, name, "device = \"cuda:0\"\nthreads = 1");
    }
    identity(&models, "host", "threads = 1");
    let room = format!("{}KiB", 2 * EACH_KIB + 4);
    let (_process, mut http) = beside_gpus(&driver, &models, &["--gpu-memory-max", &room]).await;
    let in_memory = async |http: &mut Http| Metrics::of(http).await.sum(names::IN_MEMORY, &[]) as usize;
    assert_eq!(in_memory(&mut http).await, 3, "two on the GPU, and the one beside it");
    for model in ["a", "b", "c", "host", "a", "c", "b"] {
        let answer = http.infer(model, &json_body(&row())).await;
        assert_eq!(answer.status, 200, "{model}: {answer:?}");
        assert_eq!(outputs_of(&answer), row());
        assert_eq!(in_memory(&mut http).await, 3);
    }
    let metrics = Metrics::of(&mut http).await;
    let used = metrics.sum(names::GPU_MODELS_MEMORY, &[("device", "cuda:0"), ("what", "used")]);
    assert_eq!(used, ((2 * EACH_KIB) << 10) as f64);
    assert_eq!(metrics.sum(names::MEMORY, &[("what", "used")]), (EACH_KIB << 10) as f64);
}

#[tokio::test]
async fn models_that_may_be_on_any_gpu_are_shared_out_to_those_with_most_room() {
    let (driver, models) = (driver(), Models::new());
    for name in ["a", "b", "c", "d"] {
        identity(&models, name, "device = \"cuda\"\nthreads = 1");
    }
    let room = format!("{}KiB", 2 * EACH_KIB + 4);
    let (_process, mut http) = beside_gpus(&driver, &models, &["--gpu-memory-max", &room]).await;
    let metrics = Metrics::of(&mut http).await;
    for device in ["cuda:0", "cuda:1"] {
        let used = metrics.sum(names::GPU_MODELS_MEMORY, &[("device", device), ("what", "used")]);
        assert_eq!(used, ((2 * EACH_KIB) << 10) as f64, "{device}");
    }
}

#[tokio::test]
async fn a_model_larger_than_a_gpu_may_hold_is_refused_with_the_flag() {
    let (driver, models) = (driver(), Models::new());
    identity(&models, "a", "device = \"cuda:0\"\npin = true");
    identity(&models, "b", "device = \"cuda:0\"");
    let room = format!("{}KiB", EACH_KIB + 4);
    let (_process, mut http) = beside_gpus(&driver, &models, &["--gpu-memory-max", &room]).await;
    let refused = http.infer("b", &json_body(&row())).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let told = refused.error();
    assert!(told.contains("of cuda:0, more than --gpu-memory-max") && told.contains("pinned"), "{told}");
}

/// What `tensorgate check` says of `models`.
async fn checked(
    models: &Models,
    change: impl FnOnce(&mut tokio::process::Command) -> &mut tokio::process::Command,
) -> String {
    let mut command = command(&["check", models.argument()]);
    command.env("CUDA_VISIBLE_DEVICES", "");
    change(&mut command);
    let ended = run_to_end(&mut command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.output
}

#[tokio::test]
async fn a_gpu_that_cannot_be_had_refuses_the_model_with_what_is_missing() {
    let driver = driver();
    let models = Models::new();
    identity(&models, "i", "device = \"cuda:2\"");
    let told =
        checked(&models, |command| command.env("LD_LIBRARY_PATH", driver.path()).env_remove("CUDA_VISIBLE_DEVICES"))
            .await;
    let expected =
        "i version 1: device 'cuda:2' cannot be had: there is no such GPU, but cuda:0 (Made-up GPU 0), cuda:1";
    assert!(told.contains(expected), "{told}");
    // Where there is a driver it hides what it has, else it is not there.
    let told = checked(&models, |command| command).await;
    assert!(told.contains("no NVIDIA driver: libnvidia-ml.so.1") || told.contains("leaves none of the"), "{told}");
    let models = Models::of(&["identity_fp32"]).with_toml("identity_fp32", "device = \"cuda\"");
    let told = checked(&models, |command| command.env("ORT_DYLIB_PATH", "")).await;
    assert!(told.contains("there is no libonnxruntime.so, and tract runs on the CPU alone"), "{told}");
    let models = Models::of(&["identity_fp32"]).with_toml("identity_fp32", "runtime = \"tract\"\ndevice = \"cuda:0\"");
    let told = checked(&models, |command| command).await;
    assert!(
        told.contains("device 'cuda:0' cannot be had: runtime 'tract' runs on the CPU alone; device = \"auto\""),
        "{told}"
    );
    let library = PathBuf::from(driver.path()).join("libonnxruntime.so");
    let models =
        Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", "instance_group { kind: KIND_GPU gpus: 0 }");
    let told = checked(&models, |command| command.env("ORT_DYLIB_PATH", &library)).await;
    assert!(told.contains("is without CUDA") && told.contains("make run ORT=gpu"), "{told}");
}
