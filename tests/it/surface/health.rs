//! `grpc.health.v1.Health`.

use tensorgate::protocol::proto::health::health_check_response::ServingStatus;
use tensorgate::protocol::proto::health::health_client::HealthClient;
use tensorgate::protocol::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::support::grpc::channel;
use crate::support::{Models, Process, Server, patiently};

const INFERENCE: &str = "inference.GRPCInferenceService";

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

async fn check(health: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    health.check(about(service)).await.unwrap().get_ref().status()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    patiently("the next status", watch.message()).await.unwrap().unwrap().status()
}

#[tokio::test]
async fn the_server_and_each_model_have_a_status_on_both_ports() {
    let server = Server::start(&Models::of(&["identity_fp32", "garbage"])).await;
    for address in [server.http, server.grpc] {
        let mut health = HealthClient::new(channel(address).await);
        for service in ["", INFERENCE, "identity_fp32"] {
            assert_eq!(check(&mut health, service).await, ServingStatus::Serving, "{service}");
        }
        assert_eq!(check(&mut health, "garbage").await, ServingStatus::NotServing);
        let unknown = health.check(about("nowhere")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        assert!(unknown.message().contains("'nowhere'"), "{unknown}");
        let all = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
        let mut names: Vec<_> = all.iter().map(|(name, status)| (name.as_str(), status.status())).collect();
        names.sort_by_key(|(name, _)| *name);
        let (up, down) = (ServingStatus::Serving, ServingStatus::NotServing);
        assert_eq!(names, [("", up), ("garbage", down), ("identity_fp32", up), (INFERENCE, up)]);
    }
}

#[tokio::test]
async fn a_watched_model_is_seen_to_come_and_go() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::explicit(&models).await;
    let mut health = HealthClient::new(channel(server.grpc).await);
    let mut watch = health.watch(about("identity_fp32")).await.unwrap().into_inner();
    let mut http = server.http().await;
    assert_eq!(next(&mut watch).await, ServingStatus::NotServing);
    for (call, status) in [("load", ServingStatus::Serving), ("unload", ServingStatus::NotServing)] {
        assert_eq!(http.post(&format!("/v2/repository/models/identity_fp32/{call}"), "").await.status, 200);
        assert_eq!(next(&mut watch).await, status);
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_yet_can_be_watched() {
    let models = Models::new();
    let server = Server::explicit(&models).await;
    let mut health = HealthClient::new(channel(server.grpc).await);
    let mut watch = health.watch(about("identity_fp32")).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await, ServingStatus::ServiceUnknown);
    models.put("identity_fp32", 1, "identity_fp32");
    let load = server.http().await.post("/v2/repository/models/identity_fp32/load", "").await;
    assert_eq!(load.status, 200);
    // It may be seen while it loads.
    let mut status = next(&mut watch).await;
    if status == ServingStatus::NotServing {
        status = next(&mut watch).await;
    }
    assert_eq!(status, ServingStatus::Serving);
}

#[tokio::test]
async fn who_watches_sees_the_way_down_and_does_not_hold_it_up() {
    let models = Models::of(&["identity_fp32"]);
    let mut process = Process::start(&[models.argument(), "--drain-delay", "300ms"]).await;
    process.line("serving").await;
    let mut health = HealthClient::new(channel(process.grpc).await);
    let mut watches = Vec::new();
    for service in ["", "identity_fp32"] {
        let mut watch = health.watch(about(service)).await.unwrap().into_inner();
        assert_eq!(next(&mut watch).await, ServingStatus::Serving);
        watches.push(watch);
    }
    process.signal("TERM").await;
    for mut watch in watches {
        assert_eq!(next(&mut watch).await, ServingStatus::NotServing);
        let end = patiently("the end of the watch", watch.message()).await.unwrap_err();
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "the server is shutting down"));
    }
    assert_eq!(process.exit().await, Some(0));
}
