//! What schedulers learn: it is told, and kept from one start to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tensorgate::config::Config;
use tensorgate::contract::metrics as names;
use tensorgate::protocol::proto::{LearnedStatistics, ModelStatisticsRequest};

use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

const MODEL: &str = "identity_fp32";

/// Without a warm-up nothing is known but what requests or an earlier start have shown.
fn models() -> Models {
    Models::of(&[MODEL]).with_toml(MODEL, "warm_up = false\nslo = \"50ms\"\ninstances = 1\n")
}

fn keeping(directory: &Path) -> impl FnOnce(&mut Config) {
    let directory = directory.to_owned();
    |config| config.repository.state_directory = Some(directory)
}

async fn ask(server: &Server, times: usize) {
    let (mut http, row) = (server.http().await, named([("x", tensor([1, 2], [1_f32, 2.]))]));
    for _ in 0..times {
        assert_eq!(http.infer(MODEL, &json_body(&row)).await.status, 200);
    }
}

async fn learned(server: &Server) -> LearnedStatistics {
    let request = ModelStatisticsRequest { name: MODEL.into(), version: String::new() };
    let answer = server.grpc().await.model_statistics(request).await.unwrap().into_inner();
    answer.model_stats[0].learned.clone().unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "curve")).collect()
}

#[tokio::test]
async fn the_curve_and_what_follows_from_it_are_told_over_both_doors_and_in_metrics() {
    let server = Server::start(&models()).await;
    let before = learned(&server).await;
    assert_eq!((before.latency.len(), before.capacity_rows_per_second), (0, 0.0));
    ask(&server, 5).await;
    let over_grpc = learned(&server).await;
    assert_eq!(over_grpc.objective_ns, 50_000_000);
    assert_eq!((over_grpc.latency[0].work, over_grpc.latency[0].count), (1, 5));
    assert!(over_grpc.latency[0].centre_ns > 0 && over_grpc.latency[0].upper_ns >= over_grpc.latency[0].centre_ns);
    assert!(over_grpc.capacity_rows_per_second > 20.0 && over_grpc.batch_rows == 1, "{over_grpc:?}");
    assert!(over_grpc.arrivals_rows_per_second > 0.0);
    let all = server.http().await.get("/v2/models/stats").await.json();
    let over_http = &all["model_stats"][0]["learned"];
    assert_eq!(over_http["objective_ns"], over_grpc.objective_ns);
    assert_eq!(over_http["latency"][0]["centre_ns"], over_grpc.latency[0].centre_ns);
    assert_eq!(over_http["capacity_rows_per_second"], over_grpc.capacity_rows_per_second);
    let metrics = server.metrics().await;
    let of = |more: &[(&'static str, &'static str)]| [&[("model", MODEL), ("version", "1")], more].concat();
    let latency = |quantile| metrics.sum(names::MODEL_LATENCY, &of(&[("work", "1"), ("quantile", quantile)]));
    assert!((latency("0.5") * 1e9 - over_grpc.latency[0].centre_ns as f64).abs() < 2.0);
    assert!(latency("0.95") >= latency("0.5"));
    assert_eq!(metrics.sum(names::MODEL_CAPACITY, &of(&[])), over_grpc.capacity_rows_per_second);
    assert_eq!(metrics.sum(names::MODEL_OBJECTIVE, &of(&[])), 0.05);
    assert!(metrics.has(names::MODEL_ARRIVALS, &of(&[])));
    let text = String::from_utf8(server.http().await.get("/metrics").await.body.to_vec()).unwrap();
    let signals = tensorgate::contract::signals::read(&text).unwrap().remove(&(MODEL.into(), "1".into())).unwrap();
    assert_eq!((signals.arrived, signals.ended, signals.executions, signals.instances), (5.0, 5.0, 5, 1));
    assert_eq!((signals.objective, signals.points.len()), (Duration::from_millis(50), 1));
}

#[tokio::test]
async fn what_a_row_takes_beside_its_execution_is_told_once_enough_have_come() {
    let server = Server::start(&models()).await;
    ask(&server, 5).await;
    assert!(!server.metrics().await.has(names::ROW_OVERHEAD, &[]), "of five rows the kernel's clock tells nothing");
    let rows = named([("x", tensor([1000, 2], [0.5_f32; 2000]))]);
    assert_eq!(server.http().await.infer(MODEL, &json_body(&rows)).await.status, 200);
    let text = String::from_utf8(server.http().await.get("/metrics").await.body.to_vec()).unwrap();
    let signals = tensorgate::contract::signals::read(&text).unwrap().remove(&(MODEL.into(), "1".into())).unwrap();
    assert_eq!(signals.arrived, 1005.0);
    let each = signals.overhead.unwrap();
    assert!(each < Duration::from_secs(1), "{each:?}");
}

#[tokio::test]
async fn requests_of_one_client_to_a_short_model_are_never_handed_to_a_thread() {
    /// What is short is told by how long it takes: where other tests have kept this one from its core, it was not.
    const TRIES: usize = 5;
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let server = Server::start(&Models::of(&[MODEL])).await;
        ask(&server, 20).await;
        let metrics = server.metrics().await;
        let batches = |place| metrics.sum(names::BATCHES, &[("model", MODEL), ("place", place)]);
        seen.push((batches("in_place"), batches("thread")));
        if seen.last() == Some(&(20.0, 0.0)) {
            return;
        }
    }
    panic!("in place and on threads: {seen:?}");
}

#[tokio::test]
async fn a_restart_starts_knowing_and_another_artifact_does_not() {
    let (models, state) = (models(), TempDir::new().unwrap());
    let server = Server::with(&models, keeping(state.path())).await;
    ask(&server, 5).await;
    let known = learned(&server).await.latency;
    assert!(server.stop().await);
    assert_eq!(files(state.path()).len(), 1);
    let server = Server::with(&models, keeping(state.path())).await;
    assert_eq!(learned(&server).await.latency, known);
    assert!(server.stop().await);
    models.put(MODEL, 1, "identity_fp64");
    let server = Server::with(&models, keeping(state.path())).await;
    assert_eq!(learned(&server).await.latency, []);
}

#[tokio::test]
async fn what_is_learned_is_kept_while_serving_and_shared_by_servers_on_one_directory() {
    let (models, state) = (models(), TempDir::new().unwrap());
    let often = |directory: &Path| {
        let directory = directory.to_owned();
        move |config: &mut Config| {
            config.repository.state_directory = Some(directory);
            config.repository.curves_kept_every = Duration::from_millis(10);
        }
    };
    let first = Server::with(&models, often(state.path())).await;
    ask(&first, 5).await;
    eventually("a curve in a file", async || files(state.path()).pop()).await;
    // The first one has not stopped, as if it were killed now.
    let second = Server::with(&models, often(state.path())).await;
    assert_eq!(learned(&second).await.latency.len(), 1);
    ask(&second, 5).await;
    assert!(first.stop().await && second.stop().await);
    assert_eq!(files(state.path()).len(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_and_a_directory_that_cannot_be_made_keep_nobody_from_serving() {
    let (models, state) = (models(), TempDir::new().unwrap());
    let server = Server::with(&models, keeping(state.path())).await;
    ask(&server, 5).await;
    assert!(server.stop().await);
    let file = files(state.path()).pop().unwrap();
    fs::write(&file, "tensorgate latency curve 1\nnonsense").unwrap();
    let server = Server::with(&models, keeping(state.path())).await;
    assert_eq!(learned(&server).await.latency, []);
    ask(&server, 1).await;
    assert!(server.stop().await);
    let server = Server::with(&models, keeping(&file.join("below/a/file"))).await;
    ask(&server, 1).await;
    assert!(server.stop().await);
}
