//! HTTP/1.1, HTTP/2 and gRPC on both ports.

use http::Method;
use tensorgate::protocol::proto::{ModelInferResponse, ServerLiveRequest, ServerLiveResponse};
use tokio::task::JoinSet;
use tonic::Code;

use super::{row, serve};
use crate::support::grpc::{call, connect};
use crate::support::http::request;
use crate::support::tensors::*;
use crate::support::{Http, patiently};

#[tokio::test]
async fn every_protocol_is_served_on_both_ports() {
    let server = serve().await;
    for address in [server.http, server.grpc] {
        for mut http in [Http::connect(address).await, Http::connect_http2(address).await] {
            let answer = http.infer("identity_fp32", &json_body(&row())).await;
            assert_eq!(outputs_of(&answer)[0].1, row()[0].1);
            assert_eq!(http.get("/nowhere").await.error(), "unknown path /nowhere");
            assert_eq!(http.get("/v2/health/live").await.status, 200);
        }
        let mut grpc = connect(address).await;
        let answer = grpc.model_infer(message("identity_fp32", &row())).await.unwrap();
        assert_eq!(outputs_of_message(answer.get_ref())[0].1, row()[0].1);
    }
}

#[tokio::test]
async fn one_http_2_connection_carries_http_and_grpc_side_by_side() {
    let server = serve().await;
    let mut connection = Http::connect_http2(server.http).await;
    let live = call::<ServerLiveResponse>(&mut connection, "ServerLive", &[], &ServerLiveRequest {}).await.unwrap();
    assert!(live.code == Code::Ok && live.answer.unwrap().live);
    assert_eq!(connection.get("/v2/health/live").await.status, 200);
    let wrong =
        call::<ModelInferResponse>(&mut connection, "ModelInfer", &[], &message("nowhere", &row())).await.unwrap();
    assert_eq!((wrong.code, wrong.message.as_str()), (Code::NotFound, "unknown model 'nowhere'"));
    let answer = connection.infer("identity_fp32", &json_body(&row())).await;
    assert_eq!(outputs_of(&answer)[0].1, row()[0].1);
}

#[tokio::test]
async fn hundreds_of_streams_of_one_connection_are_answered() {
    let server = serve().await;
    let grpc = server.grpc().await;
    let mut calls = JoinSet::new();
    for i in 0..500 {
        let mut grpc = grpc.clone();
        calls.spawn(async move {
            let inputs = named([("x", tensor([1, 2], [i as f32, 2.]))]);
            let answer = grpc.model_infer(message("identity_fp32", &inputs)).await.unwrap();
            assert_eq!(outputs_of_message(answer.get_ref())[0].1, inputs[0].1);
        });
    }
    while let Some(call) = patiently("the streams", calls.join_next()).await {
        call.unwrap();
    }
}

#[tokio::test]
async fn a_grpc_method_that_there_is_not_is_unimplemented() {
    let server = serve().await;
    let mut connection = Http::connect_http2(server.grpc).await;
    let outcome =
        call::<ServerLiveResponse>(&mut connection, "NoSuchMethod", &[], &ServerLiveRequest {}).await.unwrap();
    assert_eq!(outcome.code, Code::Unimplemented, "{outcome:?}");
    assert_eq!(outcome.message, "unknown method 'NoSuchMethod' of service 'inference.GRPCInferenceService'");
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let other = request(Method::POST, "/other.Service/Method", &headers, "\0\0\0\0\0");
    let answer = connection.send(other).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("12")), "{answer:?}");
    assert!(answer.header("grpc-message").is_some_and(|message| message.contains("other.Service")), "{answer:?}");
}

#[tokio::test]
async fn a_message_that_is_no_message_is_told_and_the_connection_goes_on() {
    let server = serve().await;
    let mut connection = Http::connect_http2(server.grpc).await;
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    for body in [&b"\0\0\0\0\x02\xff\xff"[..], b"\0\0\0\0\x09\x0a", b"\x01\0\0\0\0", b"", b"\0\0"] {
        let answer = connection.send(request(Method::POST, path, &headers, body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("grpc-status").is_some_and(|code| code != "0"), "{body:?}: {answer:?}");
    }
    let live = call::<ServerLiveResponse>(&mut connection, "ServerLive", &[], &ServerLiveRequest {}).await.unwrap();
    assert!(live.answer.unwrap().live);
}
