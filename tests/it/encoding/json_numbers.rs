//! Datatypes and values that JSON has no form of its own for, through the whole server.

use half::{bf16, f16};
use serde_json::json;

use crate::support::tensors::*;
use crate::support::{Models, Server};

#[tokio::test]
async fn half_precision_goes_through_json_both_ways() {
    let server = Server::start(&Models::of(&["identity_fp16", "identity_bf16"])).await;
    let mut http = server.http().await;
    let values = [0.0, -1.5, 0.1, 65504.0];
    let halves = named([("x", tensor([1, 4], values.map(f16::from_f64)))]);
    let answer = http.infer("identity_fp16", &json_body(&halves)).await;
    assert_eq!(outputs_of(&answer)[0].1, halves[0].1);
    let brains = named([("x", tensor([1, 4], values.map(bf16::from_f64)))]);
    let answer = http.infer("identity_bf16", &json_body(&brains)).await;
    assert_eq!(outputs_of(&answer)[0].1, brains[0].1);
}

#[tokio::test]
async fn what_is_no_finite_number_comes_back_as_it_went_bare_or_quoted() {
    let server = Server::start(&Models::of(&["identity_fp32", "identity_fp64", "identity_fp16"])).await;
    let mut http = server.http().await;
    for (model, datatype) in [("identity_fp32", "FP32"), ("identity_fp64", "FP64"), ("identity_fp16", "FP16")] {
        for data in [r#"[NaN, Infinity, -Infinity, 1.0]"#, r#"["NaN", "Infinity", "-Infinity", 1e0]"#] {
            let body = format!(
                r#"{{"inputs": [{{"name": "x", "shape": [1, 4], "datatype": "{datatype}", "data": {data}}}]}}"#
            );
            let answer = http.post(&format!("/v2/models/{model}/infer"), body).await;
            let data = &answer.json()["outputs"][0]["data"];
            assert_eq!(*data, json!(["NaN", "Infinity", "-Infinity", 1.0]), "{model}");
        }
    }
}
