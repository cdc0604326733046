//! More models than memory.

use std::collections::BTreeMap;

use serde_json::json;
use tensorgate::contract::metrics as names;

use crate::support::metrics::Metrics;
use crate::support::tensors::*;
use crate::support::{Http, Models, Process, eventually};

/// An identity model holds nothing in its engine, so that it takes what every version does beside its weights: 64 KiB.
const EACH_KIB: usize = 64;

fn row() -> Named {
    named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])
}

/// An identity model whose load takes next to no time.
fn quick(models: &Models, name: &str) {
    let text = "runtime = \"identity\"\nthreads = 1\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n";
    models.write(name, "model.toml", text);
}

/// The program with room for `count` identity models in memory, and for small files, ready.
async fn with_room_for(count: usize, models: &Models, more: &[&str]) -> (Process, Http) {
    with_room(count * EACH_KIB + 4, models, more).await
}

async fn with_room(kib: usize, models: &Models, more: &[&str]) -> (Process, Http) {
    let room = format!("{kib}KiB");
    let arguments = [&["--memory-max", &room, models.argument()], more].concat();
    let process = Process::start(&arguments).await;
    let mut http = process.http().await;
    eventually("the server to be ready", async || (http.get("/v2/health/ready").await.status == 200).then_some(()))
        .await;
    (process, http)
}

async fn in_memory(http: &mut Http) -> usize {
    Metrics::of(http).await.sum(names::IN_MEMORY, &[]) as usize
}

async fn pages(http: &mut Http, way: &str) -> usize {
    Metrics::of(http).await.sum(names::PAGES, &[("way", way)]) as usize
}

async fn ask(http: &mut Http, model: &str) {
    let answer = http.infer(model, &json_body(&row())).await;
    assert_eq!(answer.status, 200, "{model}: {answer:?}");
    assert_eq!(outputs_of(&answer), row());
}

const MODELS: usize = 1000;
const ROOM: usize = 50;
const REQUESTS: usize = 2000;

/// Which models are asked for: by Zipf's law, those that are loaded at the start neither the most nor the least.
fn trace() -> Vec<usize> {
    let sums: Vec<f64> = (1..=MODELS)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let mut seed = 7_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    };
    let draw = |_| {
        let point = next() * sums[MODELS - 1];
        sums.partition_point(|sum| *sum < point).min(MODELS - 1) * 389 % MODELS
    };
    (0..REQUESTS).map(draw).collect()
}

/// Hits of the least recently used rule, with the first models in memory at the start.
fn lru(trace: &[usize]) -> usize {
    let mut order: Vec<usize> = (0..ROOM).collect();
    let mut hits = 0;
    for model in trace {
        match order.iter().position(|known| known == model) {
            Some(position) => {
                order.remove(position);
                hits += 1;
            }
            None => drop(order.remove(0)),
        }
        order.push(*model);
    }
    hits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_models_with_room_for_fifty_all_answer_and_as_many_are_hit_as_can_be_expected() {
    let models = Models::new();
    let name = |number: usize| format!("m{number:03}");
    (0..MODELS).for_each(|number| quick(&models, &name(number)));
    let (process, mut http) = with_room_for(ROOM, &models, &[]).await;
    assert_eq!(in_memory(&mut http).await, ROOM);
    let index = http.post("/v2/repository/index", json!({ "ready": true }).to_string()).await.json();
    assert_eq!(index.as_array().unwrap().len(), MODELS);
    let trace = trace();
    let mut asked: BTreeMap<usize, u64> = BTreeMap::new();
    for &model in &trace {
        ask(&mut http, &name(model)).await;
        *asked.entry(model).or_default() += 1;
    }
    assert_eq!(in_memory(&mut http).await, ROOM);
    // Each that left made room for one that was not there.
    let hits = REQUESTS - pages(&mut http, "out").await;
    let (ours, best) = (hits as f64 / REQUESTS as f64, lru(&trace) as f64 / REQUESTS as f64);
    assert!(ours >= best - 0.05, "{ours:.3} were in memory, {best:.3} with the least recently used rule");
    // Statistics, metadata and readiness are those of a model that never left.
    for (model, count) in asked.iter().step_by(20) {
        let path = format!("/v2/models/{}", name(*model));
        assert_eq!(http.get(&format!("{path}/ready")).await.status, 200);
        assert_eq!(http.get(&path).await.json()["inputs"][0]["name"], "x");
        let statistics = http.get(&format!("{path}/stats")).await.json();
        assert_eq!(statistics["model_stats"][0]["inference_count"], *count, "{statistics}");
    }
    assert!(process.status("VmRSS") < 300 << 10, "{} KiB", process.status("VmRSS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_ask_for_a_model_that_left_wait_for_one_load() {
    let models = Models::new().with_slow_identity("a", 100, "slo = \"10s\"");
    quick(&models, "b");
    let (process, mut http) = with_room_for(1, &models, &[]).await;
    assert_eq!(in_memory(&mut http).await, 1);
    ask(&mut http, "b").await;
    assert_eq!((pages(&mut http, "out").await, pages(&mut http, "in").await), (1, 0));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..12 {
        let (mut http, mut grpc) = (process.http().await, process.grpc().await);
        callers.spawn(async move {
            match caller % 2 {
                0 => ask(&mut http, "a").await,
                _ => drop(grpc.model_infer(message("a", &row())).await.unwrap()),
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!((pages(&mut http, "out").await, pages(&mut http, "in").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_wait_for_a_load_is_told_how_long_it_takes_and_the_load_goes_on() {
    let models = Models::new().with_slow_identity("a", 700, "");
    quick(&models, "b");
    let (_process, mut http) = with_room_for(1, &models, &[]).await;
    ask(&mut http, "b").await;
    let mut body = json_body(&row());
    body["parameters"] = json!({ "timeout": 50_000 });
    let refused = http.infer("a", &body).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains("not in memory"), "{refused:?}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 2, "a load runs the model several times, which takes over a second: {refused:?}");
    eventually("the load", async || (pages(&mut http, "in").await == 1).then_some(())).await;
    ask(&mut http, "a").await;
    assert_eq!(pages(&mut http, "in").await, 1);
}

#[tokio::test]
async fn what_is_pinned_stays_and_what_does_not_fit_beside_it_says_so() {
    let models = Models::new().with_slow_identity("z", 1, "pin = true");
    quick(&models, "a");
    let (_process, mut http) = with_room_for(1, &models, &[]).await;
    ask(&mut http, "z").await;
    let refused = http.infer("a", &json_body(&row())).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains("--memory-max") && refused.error().contains("pinned"), "{refused:?}");
    ask(&mut http, "z").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_was_never_in_memory_is_learned_when_somebody_asks_about_it() {
    let models = Models::of(&["garbage"]);
    ["a", "b", "c"].iter().for_each(|name| quick(&models, name));
    let (process, mut http) = with_room_for(1, &models, &[]).await;
    let mut grpc = process.grpc().await;
    for (model, path) in [("b", "/v2/models/b"), ("c", "/v2/models/c/config"), ("a", "/v2/models/a/stats")] {
        let answer = http.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text().contains(&format!("\"name\":\"{model}\"")), "{answer:?}");
    }
    let predicted = http.post("/v1/models/b:predict", json!({ "instances": [[1, 2, 3, 4]] }).to_string()).await;
    assert_eq!(predicted.status, 200, "{predicted:?}");
    let metadata = tensorgate::protocol::proto::ModelMetadataRequest { name: "c".into(), version: String::new() };
    assert_eq!(grpc.model_metadata(metadata).await.unwrap().into_inner().versions, ["1"]);
    // What its files do not tell of a model shows when it is asked for first.
    let refused = http.infer("garbage", &json_body(&row())).await;
    assert!(refused.status == 503 && refused.error().contains("garbage/1/model.onnx"), "{refused:?}");
    assert_eq!(http.get("/v2/models/garbage/ready").await.status, 503);
    ask(&mut http, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_and_unloads_are_as_ever_where_there_is_not_room_for_all() {
    let models = Models::of(&["identity_fp32"]);
    quick(&models, "b");
    let (_process, mut http) = with_room_for(1, &models, &["--model-control", "explicit", "--load-model", "*"]).await;
    let load = async |http: &mut Http, call: &str, model: &str| {
        http.post(&format!("/v2/repository/models/{model}/{call}"), "").await.status.as_u16()
    };
    assert_eq!(load(&mut http, "load", "b").await, 200);
    ask(&mut http, "b").await;
    assert_eq!(load(&mut http, "unload", "b").await, 200);
    assert_eq!(http.infer("b", &json_body(&row())).await.status, 503);
    assert_eq!(load(&mut http, "load", "b").await, 200);
    ask(&mut http, "b").await;
    assert_eq!(load(&mut http, "unload", "b").await, 200);
    assert_eq!(in_memory(&mut http).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_come_back_says_why_and_is_tried_again() {
    let models = Models::new().with("a", "identity_fp32").with("b", "identity_fp32");
    // What both take, so that there is not room for two. One load at a time, so that each is measured.
    let more = ["--cores", "2"];
    let (_first, mut http) = with_room(100 << 10, &models, &more).await;
    let kib = Metrics::of(&mut http).await.sum(names::MEMORY, &[("what", "used")]) as usize >> 10;
    let (_process, mut http) = with_room(kib * 3 / 4, &models, &more).await;
    let body = json_body(&named([("x", tensor([1, 2], [-1_f32, 2.]))]));
    for model in ["b", "a", "b"] {
        assert_eq!(http.infer(model, &body).await.status, 200);
    }
    assert_eq!(in_memory(&mut http).await, 1);
    models.put("a", 1, "truncated");
    let refused = http.infer("a", &body).await;
    assert!(refused.status == 503 && refused.error().contains("a/1/model.onnx"), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(http.get("/v2/models/a/ready").await.status, 503);
    assert_eq!(http.infer("b", &body).await.status, 200);
    models.put("a", 1, "identity_fp32");
    eventually("another try", async || (http.get("/v2/models/a/ready").await.status == 200).then_some(())).await;
    assert_eq!(http.infer("a", &body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_come_back_leaves_its_share_of_the_traffic_to_the_others_and_no_request_fails() {
    let models = Models::new().with("a", "identity_fp32").with("b", "identity_fp32");
    models.put("a", 2, "identity_fp32");
    models.write("a", "model.toml", "versions = \"all\"\n[traffic]\nweights = { 1 = 1, 2 = 99 }\n");
    // What the three take, so that there is room for two.
    let more = ["--cores", "2"];
    let (_first, mut http) = with_room(100 << 10, &models, &more).await;
    let kib = Metrics::of(&mut http).await.sum(names::MEMORY, &[("what", "used")]) as usize >> 10;
    let (_process, mut http) = with_room(kib * 3 / 4, &models, &more).await;
    let body = json_body(&named([("x", tensor([1, 2], [-1_f32, 2.]))]));
    for _ in 0..5 {
        assert_eq!(http.post("/v2/models/a/versions/1/infer", body.to_string()).await.status, 200);
    }
    // Version 2, which nobody has asked for, makes room.
    assert_eq!(http.infer("b", &body).await.status, 200);
    assert_eq!(in_memory(&mut http).await, 2);
    models.put("a", 2, "truncated");
    for _ in 0..10 {
        let answer = http.infer("a", &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["model_version"]), (200, &json!("1")), "{answer:?}");
    }
    // Who names it is told why.
    let refused = http.post("/v2/models/a/versions/2/infer", body.to_string()).await;
    assert!(refused.status == 503 && refused.error().contains("a/2/model.onnx"), "{refused:?}");
}
