//! What V2 and Triton clients ask for beyond inference: statistics, configuration, settings, streams, health, reflection.

mod config;
mod health;
mod reflection;
mod settings;
mod statistics;
mod streams;

use http::Method;
use serde_json::json;
use tensorgate::protocol::proto::{
    CudaSharedMemoryRegisterRequest, CudaSharedMemoryStatusRequest, CudaSharedMemoryUnregisterRequest,
    ServerMetadataRequest, SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryUnregisterRequest,
};
use tonic::{Code, Status};

use crate::support::http::request;
use crate::support::tensors::*;
use crate::support::{Models, Server};

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

#[tokio::test]
async fn the_extensions_named_are_those_served() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let http = server.http().await.get("/v2").await.json();
    let grpc = server.grpc().await.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(http["extensions"], json!(grpc.extensions));
    for served in ["statistics", "model_configuration", "trace", "logging", "model_repository", "binary_tensor_data"] {
        assert!(grpc.extensions.iter().any(|named| named == served), "{served}");
    }
    assert!(!grpc.extensions.iter().any(|named| named.contains("shared_memory")));
}

#[tokio::test]
async fn kserve_finds_life_at_the_root_and_a_list_of_models() {
    let models = Models::of(&["identity_fp32", "garbage"]).with("another", "identity_fp32");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/").await.json(), json!({ "status": "alive" }));
    let listed = json!({ "models": ["another", "garbage", "identity_fp32"] });
    for path in ["/v2/models", "/v2/models/"] {
        assert_eq!(http.get(path).await.json(), listed);
    }
}

#[tokio::test]
async fn shared_memory_is_refused_by_the_name_of_its_extension() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let mut http = server.http().await;
    for kind in ["system", "cuda"] {
        let root = format!("/v2/{kind}sharedmemory");
        for (method, call) in [
            (Method::GET, "status"),
            (Method::GET, "region/r/status"),
            (Method::POST, "region/r/register"),
            (Method::POST, "region/r/unregister"),
            (Method::POST, "unregister"),
        ] {
            let answer = http.send(request(method, &format!("{root}/{call}"), &[], "{}")).await;
            assert_eq!(answer.status, 501, "{call}: {answer:?}");
            assert!(answer.error().contains(&format!("'{kind}_shared_memory' is off")), "{answer:?}");
        }
        assert_eq!(http.get(&format!("{root}/region/r")).await.status, 404);
    }
    let mut grpc = server.grpc().await;
    let refused = |status: Status, kind: &str| {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(&format!("'{kind}_shared_memory' is off")), "{status}");
    };
    refused(grpc.system_shared_memory_status(SystemSharedMemoryStatusRequest::default()).await.unwrap_err(), "system");
    let register = SystemSharedMemoryRegisterRequest::default();
    refused(grpc.system_shared_memory_register(register).await.unwrap_err(), "system");
    let unregister = SystemSharedMemoryUnregisterRequest::default();
    refused(grpc.system_shared_memory_unregister(unregister).await.unwrap_err(), "system");
    refused(grpc.cuda_shared_memory_status(CudaSharedMemoryStatusRequest::default()).await.unwrap_err(), "cuda");
    refused(grpc.cuda_shared_memory_register(CudaSharedMemoryRegisterRequest::default()).await.unwrap_err(), "cuda");
    let unregister = CudaSharedMemoryUnregisterRequest::default();
    refused(grpc.cuda_shared_memory_unregister(unregister).await.unwrap_err(), "cuda");
}
