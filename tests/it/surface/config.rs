//! The model configuration extension.

use serde_json::json;
use tensorgate::protocol::proto::model_config::SchedulingChoice;
use tensorgate::protocol::proto::{ModelConfig, ModelConfigRequest, ModelDataType};
use tonic::Code;

use crate::support::{Grpc, Models, Server};

async fn config(grpc: &mut Grpc, name: &str) -> ModelConfig {
    let request = ModelConfigRequest { name: name.into(), version: String::new() };
    grpc.model_config(request).await.unwrap().into_inner().config.unwrap()
}

#[tokio::test]
async fn a_batched_model_is_described_without_its_rows() {
    let models = Models::of(&["identity_fp32"]).with_toml(
        "identity_fp32",
        "max_batch_size = 16\nmax_queue_delay = \"300us\"\nqueue_max = 50\nqueue_timeout = \"2s\"\ninstances = 3\n\
         versions = { latest = 2 }\n[[outputs]]\nname = \"y\"\nlabels = \"labels.txt\"\n",
    );
    models.write("identity_fp32", "labels.txt", "cat\ndog\n");
    let server = Server::start(&models).await;
    let of_http = server.http().await.get("/v2/models/identity_fp32/config").await.json();
    assert_eq!((&of_http["name"], &of_http["max_batch_size"]), (&json!("identity_fp32"), &json!(16)));
    let input = &of_http["input"][0];
    assert_eq!((&input["name"], &input["data_type"], &input["dims"]), (&json!("x"), &json!("TYPE_FP32"), &json!([-1])));
    assert_eq!((&input["format"], &input["optional"]), (&json!("FORMAT_NONE"), &json!(false)));
    assert_eq!(of_http["output"][0]["label_filename"], "labels.txt");
    assert_eq!(of_http["version_policy"], json!({ "latest": { "num_versions": 2 } }));
    assert_eq!(
        (&of_http["instance_group"][0]["count"], &of_http["instance_group"][0]["kind"]),
        (&json!(3), &json!("KIND_CPU"))
    );
    assert_eq!((&of_http["backend"], &of_http["platform"]), (&json!("onnxruntime"), &json!("onnxruntime_onnx")));
    let joined = &of_http["dynamic_batching"];
    assert_eq!(joined["max_queue_delay_microseconds"], 300);
    let policy = &joined["default_queue_policy"];
    assert_eq!((&policy["max_queue_size"], &policy["default_timeout_microseconds"]), (&json!(50), &json!(2_000_000)));
    assert_eq!(of_http["model_transaction_policy"], json!({ "decoupled": false }));
    assert_eq!(of_http["response_cache"], json!({ "enable": false }));

    let of_grpc = config(&mut server.grpc().await, "identity_fp32").await;
    assert_eq!((of_grpc.max_batch_size, of_grpc.input[0].dims.as_slice()), (16, &[-1][..]));
    assert_eq!(of_grpc.input[0].data_type(), ModelDataType::TypeFp32);
    let Some(SchedulingChoice::DynamicBatching(joined)) = of_grpc.scheduling_choice else { panic!("not joined") };
    assert_eq!(joined.max_queue_delay_microseconds, 300);
}

#[tokio::test]
async fn a_model_that_is_not_batched_is_described_with_all_dimensions() {
    let models = Models::of(&["fixed_batch", "identity_bytes"]).with_toml("identity_bytes", "max_batch_size = 1");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let metadata = http.get("/v2/models/fixed_batch").await.json();
    let config = http.get("/v2/models/fixed_batch/versions/1/config").await.json();
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(0), &metadata["inputs"][0]["shape"]));
    assert_eq!(config.get("dynamic_batching"), None);
    let strings = http.get("/v2/models/identity_bytes/config").await.json();
    assert_eq!((&strings["max_batch_size"], &strings["input"][0]["data_type"]), (&json!(0), &json!("TYPE_STRING")));
}

#[tokio::test]
async fn a_configuration_of_what_is_not_served_is_refused() {
    let server = Server::start(&Models::of(&["identity_fp32", "garbage"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for (model, status, code) in [("nowhere", 404, Code::NotFound), ("garbage", 503, Code::Unavailable)] {
        let answer = http.get(&format!("/v2/models/{model}/config")).await;
        let refusal = grpc.model_config(ModelConfigRequest { name: model.into(), version: String::new() }).await;
        let refusal = refusal.unwrap_err();
        assert_eq!(answer.status, status);
        assert_eq!((refusal.code(), refusal.message()), (code, answer.error().as_str()));
    }
}
