//! The statistics extension: the shape that clients read, and counts that are right.

use serde_json::{Value, json};
use tensorgate::protocol::proto::{ModelStatistics, ModelStatisticsRequest, StatisticDuration};
use tonic::Code;

use super::row;
use crate::support::tensors::*;
use crate::support::{Grpc, Models, Server};

async fn statistics(grpc: &mut Grpc, name: &str, version: &str) -> Vec<ModelStatistics> {
    let request = ModelStatisticsRequest { name: name.into(), version: version.into() };
    grpc.model_statistics(request).await.unwrap().into_inner().model_stats
}

fn counted(duration: &Value) -> u64 {
    let (count, ns) = (duration["count"].as_u64().unwrap(), duration["ns"].as_u64().unwrap());
    assert_eq!(count == 0, ns == 0, "{duration}");
    count
}

#[tokio::test]
async fn counts_are_right_after_traffic_that_is_known() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for _ in 0..2 {
        assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    }
    let three_rows = named([("x", tensor([3, 2], [0_f32; 6]))]);
    grpc.model_infer(message("identity_fp32", &three_rows)).await.unwrap();
    assert_eq!(http.infer("identity_fp32", &json_body(&named([("z", tensor([1], [1_f32]))]))).await.status, 400);
    let all = http.get("/v2/models/identity_fp32/stats").await.json();
    let stats = &all["model_stats"][0];
    assert_eq!((&stats["name"], &stats["version"]), (&json!("identity_fp32"), &json!("1")));
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(5), &json!(3)));
    assert!(stats["last_inference"].as_u64().unwrap() > 1_700_000_000_000, "{stats}");
    let inference = &stats["inference_stats"];
    assert_eq!(counted(&inference["success"]), 3);
    assert_eq!(counted(&inference["fail"]), 1);
    for part in ["queue", "compute_input", "compute_infer"] {
        assert_eq!(counted(&inference[part]), 3, "{part}");
    }
    assert_eq!(inference["compute_output"]["count"], 3);
    for none in ["cache_hit", "cache_miss"] {
        assert_eq!(inference[none], json!({ "count": 0, "ns": 0 }));
    }
    let sizes = stats["batch_stats"].as_array().unwrap();
    let sizes: Vec<_> = sizes.iter().map(|size| (&size["batch_size"], &size["compute_infer"]["count"])).collect();
    assert_eq!(sizes, [(&json!(1), &json!(2)), (&json!(3), &json!(1))]);
    assert_eq!((&stats["memory_usage"], &stats["response_stats"]), (&json!([]), &json!({})));
}

#[tokio::test]
async fn both_doors_tell_the_same() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    let of_grpc = statistics(&mut grpc, "identity_fp32", "1").await.remove(0);
    let of_http = http.get("/v2/models/identity_fp32/versions/1/stats").await.json()["model_stats"][0].take();
    let duration = |sum: Option<StatisticDuration>| json!({ "count": sum.unwrap().count, "ns": sum.unwrap().ns });
    let inference = of_grpc.inference_stats.unwrap();
    assert_eq!(of_http["inference_stats"]["success"], duration(inference.success));
    assert_eq!(of_http["inference_stats"]["queue"], duration(inference.queue));
    assert_eq!(of_http["inference_stats"]["compute_infer"], duration(inference.compute_infer));
    assert_eq!(of_http["batch_stats"][0]["compute_input"], duration(of_grpc.batch_stats[0].compute_input));
    assert_eq!(of_http["inference_count"], of_grpc.inference_count);
}

#[tokio::test]
async fn every_request_of_a_batch_is_charged_with_all_of_it() {
    let models = Models::new().with_toml(
        "slow",
        "runtime = \"identity\"\nexecute_time = \"20ms\"\ninstances = 1\nmax_batch_size = 8\n\
         [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n",
    );
    let server = Server::start(&models).await;
    let mut grpc = server.grpc().await;
    let calls = (0..4).map(|_| {
        let mut grpc = grpc.clone();
        async move { grpc.model_infer(message("slow", &row())).await.unwrap() }
    });
    futures_util::future::join_all(calls).await;
    let stats = statistics(&mut grpc, "slow", "").await.remove(0);
    let inference = stats.inference_stats.unwrap();
    let (infer, batches) = (inference.compute_infer.unwrap(), stats.execution_count);
    assert_eq!((stats.inference_count, infer.count), (4, 4));
    assert!(batches < 4, "{batches} batches");
    assert_eq!(stats.batch_stats.iter().map(|size| size.compute_infer.unwrap().count).sum::<u64>(), batches);
    let by_size = stats.batch_stats.iter().map(|size| size.batch_size * size.compute_infer.unwrap().ns);
    assert_eq!(by_size.sum::<u64>(), infer.ns);
    let success = inference.success.unwrap();
    assert!(success.ns >= infer.ns, "{success:?} {infer:?}");
}

#[tokio::test]
async fn statistics_are_of_every_ready_version_and_begin_anew_with_a_load() {
    let models = Models::of(&["identity_fp32", "garbage"])
        .with_version("other", 1, "identity_fp32")
        .with_version("other", 3, "identity_fp32")
        .with_toml("other", "versions = \"all\"");
    let server = Server::explicit(&models).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    assert_eq!(statistics(&mut grpc, "", "").await, []);
    for model in ["identity_fp32", "other"] {
        assert_eq!(http.post(&format!("/v2/repository/models/{model}/load"), "").await.status, 200);
    }
    let named = |all: &Value| -> Vec<String> {
        let all = all["model_stats"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.iter().map(|stats| text(&stats["name"]) + "/" + &text(&stats["version"])).collect()
    };
    assert_eq!(named(&http.get("/v2/models/stats").await.json()), ["identity_fp32/1", "other/1", "other/3"]);
    assert_eq!(named(&http.get("/v2/models/other/stats").await.json()), ["other/1", "other/3"]);
    assert_eq!(named(&http.get("/v2/models/other/versions/3/stats").await.json()), ["other/3"]);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    for call in ["unload", "load"] {
        assert_eq!(http.post(&format!("/v2/repository/models/identity_fp32/{call}"), "").await.status, 200);
    }
    assert_eq!(statistics(&mut grpc, "identity_fp32", "").await[0].inference_count, 0);
}

#[tokio::test]
async fn statistics_of_what_is_not_served_are_refused() {
    let server = Server::start(&Models::of(&["identity_fp32", "garbage"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for (model, version, status, code) in [
        ("nowhere", "", 404, Code::NotFound),
        ("identity_fp32", "7", 404, Code::NotFound),
        ("garbage", "", 503, Code::Unavailable),
    ] {
        let path = if version.is_empty() { String::new() } else { format!("/versions/{version}") };
        let answer = http.get(&format!("/v2/models/{model}{path}/stats")).await;
        assert_eq!(answer.status, status);
        let request = ModelStatisticsRequest { name: model.into(), version: version.into() };
        let refusal = grpc.model_statistics(request).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (code, answer.error().as_str()));
    }
}
