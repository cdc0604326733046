//! Server reflection, of both versions.

use futures_util::stream;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::grpc::channel;
use crate::support::{Models, Server};

const SERVICES: [&str; 2] = ["grpc.health.v1.Health", "inference.GRPCInferenceService"];

macro_rules! reflect {
    ($version:ident, $address:expr, $ask:expr) => {{
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let mut client = $version::server_reflection_client::ServerReflectionClient::new(channel($address).await);
        let ask: fn() -> Vec<MessageRequest> = $ask;
        let requests = ask()
            .into_iter()
            .map(|message| $version::ServerReflectionRequest { host: String::new(), message_request: Some(message) });
        let requests: Vec<_> = requests.collect();
        let mut answers = client.server_reflection_info(stream::iter(requests)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list of services");
        };
        let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        let Some(MessageResponse::FileDescriptorResponse(files)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no descriptor");
        };
        assert!(answers.message().await.unwrap().is_none());
        (names, files.file_descriptor_proto)
    }};
}

#[tokio::test]
async fn services_and_their_messages_are_described_on_both_ports() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    for address in [server.http, server.grpc] {
        let (names, files) = reflect!(v1, address, || vec![
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("inference.GRPCInferenceService.ModelInfer".into()),
        ]);
        let (names_alpha, files_alpha) = reflect!(v1alpha, address, || vec![
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("inference.ModelConfig".into()),
        ]);
        for service in SERVICES {
            assert!(names.iter().any(|name| name == service), "{names:?}");
            assert!(names_alpha.iter().any(|name| name == service), "{names_alpha:?}");
        }
        let holds = |files: &[Vec<u8>], text: &str| {
            files.iter().any(|file| file.windows(text.len()).any(|window| window == text.as_bytes()))
        };
        assert!(holds(&files, "ModelStreamInferResponse"));
        assert!(holds(&files_alpha, "dynamic_batching"));
    }
}
