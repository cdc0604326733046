//! Who may call what, and how often, through both doors.

use std::time::Duration;

use http::Method;
use tensorgate::protocol::proto::{
    ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, ServerLiveRequest, ServerLiveResponse,
};
use tensorgate::repository::Control;
use tensorgate::server::{Door, Rate, Scope};
use tonic::Code;

use crate::support::grpc::{Outcome, call};
use crate::support::http::{Answer, request};
use crate::support::process::{command, run_to_end};
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

const KEYS: &str = r#"
[[key]]
name = "app"
sha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"  # alice
scopes = ["infer", "metadata"]
models = ["identity_fp32"]

[[key]]
name = "ops"
token = "bob"
scopes = ["metadata", "repository", "metrics"]
"#;

const ALICE: (&str, &str) = ("authorization", "Bearer alice");
const BOB: (&str, &str) = ("x-api-key", "bob");

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

async fn guarded(models: &Models) -> Server {
    let file = models.path().join("keys.toml");
    std::fs::write(&file, KEYS).unwrap();
    Server::with(models, |config| {
        config.repository.control = Control::Explicit;
        config.repository.load_at_start = vec!["*".into()];
        config.server.guard.auth_file = Some(file);
        config.server.reload_interval = Duration::from_millis(5);
    })
    .await
}

async fn get(http: &mut Http, path: &str, header: (&str, &str)) -> Answer {
    http.send(request(Method::GET, path, &[header], "")).await
}

async fn infer(http: &mut Http, model: &str, header: (&str, &str)) -> Answer {
    let body = json_body(&row()).to_string();
    http.send(request(Method::POST, &format!("/v2/models/{model}/infer"), &[header], body)).await
}

#[tokio::test]
async fn over_http_a_key_opens_what_its_scopes_say() {
    let models = Models::of(&["identity_fp32", "scalar"]);
    let server = guarded(&models).await;
    let mut http = server.http().await;
    assert_eq!(infer(&mut http, "identity_fp32", ALICE).await.status, 200);
    assert_eq!(get(&mut http, "/v2/models/identity_fp32", ALICE).await.status, 200);
    assert_eq!(get(&mut http, "/metrics", BOB).await.status, 200);
    let load = request(Method::POST, "/v2/repository/models/scalar/load", &[BOB], "");
    assert_eq!(http.send(load).await.status, 200);
    let forbidden = get(&mut http, "/metrics", ALICE).await;
    assert_eq!(forbidden.status, 403);
    assert_eq!(forbidden.error(), "key 'app' does not have the scope 'metrics', which this call needs");
    assert_eq!(get(&mut http, "/v2/models/scalar", ALICE).await.error(), "key 'app' may not use model 'scalar'");
    let mut http = server.http().await;
    assert_eq!(infer(&mut http, "identity_fp32", BOB).await.status, 403);
}

#[tokio::test]
async fn over_http_whoever_has_no_key_gets_401_and_health() {
    let models = Models::of(&["identity_fp32"]);
    let server = guarded(&models).await;
    for header in [("accept", "*/*"), ("authorization", "Bearer mallory"), ("x-api-key", "alic")] {
        let refused = infer(&mut server.http().await, "identity_fp32", header).await;
        assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, Some("Bearer")));
        assert!(!refused.error().is_empty());
    }
    let mut http = server.http().await;
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/identity_fp32/ready"] {
        assert_eq!(http.get(path).await.status, 200, "{path}");
    }
    for path in ["/v2", "/metrics", "/v2/models/identity_fp32", "/no/such/path"] {
        assert_eq!(http.get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn over_grpc_metadata_brings_the_key_and_messages_name_models() {
    let models = Models::of(&["identity_fp32", "scalar"]);
    let server = guarded(&models).await;
    let mut grpc = Http::connect_http2(server.grpc).await;
    let live: Outcome<ServerLiveResponse> = call(&mut grpc, "ServerLive", &[], &ServerLiveRequest {}).await.unwrap();
    assert_eq!(live.code, Code::Ok);
    let infer = message("identity_fp32", &row());
    let done: Outcome<ModelInferResponse> = call(&mut grpc, "ModelInfer", &[ALICE], &infer).await.unwrap();
    assert_eq!(done.code, Code::Ok);
    let done: Outcome<ModelInferResponse> = call(&mut grpc, "ModelInfer", &[], &infer).await.unwrap();
    assert_eq!(done.code, Code::Unauthenticated);
    let done: Outcome<ModelInferResponse> = call(&mut grpc, "ModelInfer", &[BOB], &infer).await.unwrap();
    assert_eq!(done.code, Code::PermissionDenied);
    assert!(done.message.contains("scope 'infer'"), "{done:?}");
    let other = message("scalar", &row());
    let done: Outcome<ModelInferResponse> = call(&mut grpc, "ModelInfer", &[ALICE], &other).await.unwrap();
    assert_eq!((done.code, done.message.as_str()), (Code::PermissionDenied, "key 'app' may not use model 'scalar'"));
    let about = ModelMetadataRequest { name: "scalar".into(), ..Default::default() };
    let done: Outcome<ModelMetadataResponse> = call(&mut grpc, "ModelMetadata", &[ALICE], &about).await.unwrap();
    assert_eq!(done.code, Code::PermissionDenied);
    let load = RepositoryModelLoadRequest { model_name: "scalar".into(), ..Default::default() };
    let call_load = async |grpc: &mut Http, key| -> Outcome<RepositoryModelLoadResponse> {
        call(grpc, "RepositoryModelLoad", &[key], &load).await.unwrap()
    };
    assert_eq!(call_load(&mut grpc, BOB).await.code, Code::Ok);
    assert_eq!(call_load(&mut grpc, ALICE).await.code, Code::PermissionDenied);
}

#[tokio::test]
async fn keys_change_while_the_server_runs_and_a_broken_file_changes_nothing() {
    let models = Models::of(&["identity_fp32"]);
    let server = guarded(&models).await;
    let file = models.path().join("keys.toml");
    let mut http = server.http().await;
    std::fs::write(&file, "[[key]]\nname = 1").unwrap();
    assert_eq!(get(&mut http, "/v2", ALICE).await.status, 200);
    std::fs::write(&file, KEYS.replace("bob", "carol")).unwrap();
    eventually("the new key", async || {
        (get(&mut http, "/v2", ("x-api-key", "carol")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(get(&mut http, "/v2", BOB).await.status, 401);
}

#[tokio::test]
async fn whoever_calls_too_often_is_told_when_to_come_back() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::with(&models, |config| config.server.guard.rate = Some(Rate::parse("2/h").unwrap())).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/v2").await.status, 200);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    let refused = http.get("/v2").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after").unwrap().parse::<u64>().unwrap().div_ceil(1800), 1);
    assert_eq!(http.get("/v2/health/live").await.status, 200);
    let mut grpc = Http::connect_http2(server.grpc).await;
    let refused: Outcome<RepositoryIndexResponse> =
        call(&mut grpc, "RepositoryIndex", &[], &RepositoryIndexRequest::default()).await.unwrap();
    assert_eq!(refused.code, Code::ResourceExhausted);
}

#[tokio::test]
async fn a_group_of_calls_can_be_refused_at_one_door() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::with(&models, |config| config.server.guard.refused.push((Door::Http, Scope::Metadata))).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/v2").await.status, 403);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    let mut grpc = Http::connect_http2(server.http).await;
    let index: Outcome<RepositoryIndexResponse> =
        call(&mut grpc, "RepositoryIndex", &[], &RepositoryIndexRequest::default()).await.unwrap();
    assert_eq!(index.code, Code::Ok);
}

#[tokio::test]
async fn faults_of_the_guard_are_told_at_the_start() {
    for (flags, told) in [
        (&["--auth-file", "/no/such/keys"][..], "--auth-file: /no/such/keys: No such file"),
        (&["--rate-limit", "fast"], "--rate-limit: 'fast' is no rate"),
        (&["--refuse", "http:repositroy"], "--refuse: 'http:repositroy' is unknown"),
    ] {
        let ended = run_to_end(&mut command(&[&["serve"], flags].concat())).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.contains(told), "{told}: {ended:?}");
    }
}

#[tokio::test]
async fn every_request_of_a_stream_is_looked_at() {
    let models = Models::of(&["identity_fp32", "scalar"]);
    let server = guarded(&models).await;
    let mut grpc = server.grpc().await;
    let requests = ["identity_fp32", "scalar", "identity_fp32"].map(|model| message(model, &row()));
    let mut call = tonic::Request::new(futures_util::stream::iter(requests));
    call.metadata_mut().insert("authorization", "Bearer alice".parse().unwrap());
    let mut answers = grpc.model_stream_infer(call).await.unwrap().into_inner();
    for told in ["", "key 'app' may not use model 'scalar'", ""] {
        assert_eq!(answers.message().await.unwrap().unwrap().error_message, told);
    }
    let requests = futures_util::stream::iter([message("identity_fp32", &row())]);
    assert_eq!(grpc.model_stream_infer(requests).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_path_behind_a_prefix_is_guarded_like_any_other_and_a_preflight_is_answered() {
    let models = Models::of(&["identity_fp32"]);
    let file = models.path().join("keys.toml");
    std::fs::write(&file, KEYS).unwrap();
    let server = Server::with(&models, |config| {
        config.server.guard.auth_file = Some(file);
        config.server.http.path_prefix = Some("/serving/ns/name".into());
        config.server.http.cors = tensorgate::server::Cors::new(vec!["https://app.example".into()]);
    })
    .await;
    let mut http = server.http().await;
    let path = "/serving/ns/name/v2/models/identity_fp32";
    assert_eq!(http.get("/serving/ns/name/v2/health/live").await.status, 200);
    assert_eq!(get(&mut http, path, ALICE).await.status, 200);
    let origin = ("origin", "https://app.example");
    let refused = http.send(request(Method::GET, path, &[origin], "")).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
    let headers = [origin, ("access-control-request-method", "POST")];
    let path = "/v2/models/identity_fp32/infer";
    assert_eq!(http.send(request(Method::OPTIONS, path, &headers, "")).await.status, 204);
}
