//! The gRPC door: tonic's generated service over the same stack.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status};
use tower::Service;

use super::Doors;
use super::body::{GuardedBody, ResponseBody};
use super::head::Head;
use super::http::{EXTENSIONS, SERVER_NAME, SERVER_VERSION};
use crate::error::Error;
use crate::protocol::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::protocol::proto::{self, repository_index_response::ModelIndex};
use crate::protocol::status;
use crate::repository::IndexLine;

/// tonic's own code for a message above the limit, OUT_OF_RANGE, which no kind of ours maps to.
const TOO_LARGE_FOR_TONIC: &str = "11";
const GRPC_STATUS: &str = "grpc-status";

/// The service, cloned for each request.
pub(super) type GrpcService = GrpcInferenceServiceServer<GrpcDoor>;

pub(super) fn service(doors: Arc<Doors>) -> GrpcService {
    let bytes_max = doors.body_bytes_max;
    GrpcInferenceServiceServer::new(GrpcDoor { doors })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX)
}

/// The same for clients that compress. Clients say that they accept compression even where nobody asked for it (grpcio
/// always does), so it is what they send that tells what they want.
pub(super) fn compressing(service: &GrpcService) -> GrpcService {
    let service = service.clone().send_compressed(CompressionEncoding::Zstd);
    service.send_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Deflate)
}

pub(super) async fn answer(
    request: Request<Incoming>,
    head: Head,
    mut service: GrpcService,
    doors: &Doors,
) -> Response<ResponseBody> {
    if let Some((_, message)) = head.refusal(request.headers(), request.uri(), &doors.bounds) {
        return refused(&Error::too_large(message));
    }
    let buffered = Arc::clone(&doors.buffered);
    let request = request.map(|body| GuardedBody::new(body, buffered, doors.bounds.body_timeout));
    match service.call(request).await {
        Ok(response) if response.headers().get(GRPC_STATUS).is_some_and(|code| code == TOO_LARGE_FOR_TONIC) => {
            let bytes_max = doors.body_bytes_max;
            refused(&Error::too_large(format!("the message is larger than {bytes_max} bytes (--body-max)")))
        }
        Ok(response) => response.map(ResponseBody::Grpc),
        Err(never) => match never {},
    }
}

fn refused(error: &Error) -> Response<ResponseBody> {
    status::to_grpc(error).into_http::<tonic::body::Body>().map(ResponseBody::Grpc)
}

/// The door.
pub(super) struct GrpcDoor {
    doors: Arc<Doors>,
}

type Answer<T> = Result<GrpcResponse<T>, Status>;

fn refuse(error: Error) -> Status {
    status::to_grpc(&error)
}

#[tonic::async_trait]
impl GrpcInferenceService for GrpcDoor {
    async fn server_live(&self, _: GrpcRequest<proto::ServerLiveRequest>) -> Answer<proto::ServerLiveResponse> {
        Ok(GrpcResponse::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: GrpcRequest<proto::ServerReadyRequest>) -> Answer<proto::ServerReadyResponse> {
        Ok(GrpcResponse::new(proto::ServerReadyResponse { ready: self.doors.is_ready() }))
    }

    async fn model_ready(&self, request: GrpcRequest<proto::ModelReadyRequest>) -> Answer<proto::ModelReadyResponse> {
        let request = request.into_inner();
        let reason = self.doors.repository.why_not_ready(&request.name, some(&request.version)).map_err(refuse)?;
        Ok(GrpcResponse::new(proto::ModelReadyResponse { ready: reason.is_none() }))
    }

    async fn server_metadata(
        &self,
        _: GrpcRequest<proto::ServerMetadataRequest>,
    ) -> Answer<proto::ServerMetadataResponse> {
        Ok(GrpcResponse::new(proto::ServerMetadataResponse {
            name: SERVER_NAME.into(),
            version: SERVER_VERSION.into(),
            extensions: EXTENSIONS.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: GrpcRequest<proto::ModelMetadataRequest>,
    ) -> Answer<proto::ModelMetadataResponse> {
        let request = request.into_inner();
        let repository = &self.doors.repository;
        let model = repository.resolve(&request.name, some(&request.version)).map_err(refuse)?;
        Ok(GrpcResponse::new(proto::ModelMetadataResponse {
            versions: repository.ready_versions(&request.name).iter().map(ToString::to_string).collect(),
            platform: model.platform().into(),
            inputs: model.signature().inputs.iter().map(proto::encode_spec).collect(),
            outputs: model.signature().outputs.iter().map(proto::encode_spec).collect(),
            properties: Default::default(),
            name: request.name,
        }))
    }

    async fn model_infer(&self, request: GrpcRequest<proto::ModelInferRequest>) -> Answer<proto::ModelInferResponse> {
        let deadline = deadline(request.metadata());
        let mut request = proto::decode_request(request.into_inner(), &self.doors.bounds.request).map_err(refuse)?;
        request.deadline = deadline;
        let response = self.doors.stack.clone().call(request).await.map_err(refuse)?;
        Ok(GrpcResponse::new(proto::encode_response(response)))
    }

    async fn repository_index(
        &self,
        request: GrpcRequest<proto::RepositoryIndexRequest>,
    ) -> Answer<proto::RepositoryIndexResponse> {
        let entry = |line: IndexLine| ModelIndex {
            name: line.name.to_string(),
            version: line.version.map(|version| version.to_string()).unwrap_or_default(),
            state: line.state.name().into(),
            reason: line.state.reason().into(),
        };
        let lines = self.doors.repository.index_lines(request.into_inner().ready);
        let models = lines.into_iter().map(entry).collect();
        Ok(GrpcResponse::new(proto::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: GrpcRequest<proto::RepositoryModelLoadRequest>,
    ) -> Answer<proto::RepositoryModelLoadResponse> {
        let request = request.into_inner();
        let overrides = request.parameters.keys().map(String::as_str);
        let model_name = model_of(request.repository_name, request.model_name);
        self.doors.repository.load(&model_name, overrides).await.map_err(refuse)?;
        Ok(GrpcResponse::new(proto::RepositoryModelLoadResponse { model_name, is_loaded: true }))
    }

    async fn repository_model_unload(
        &self,
        request: GrpcRequest<proto::RepositoryModelUnloadRequest>,
    ) -> Answer<proto::RepositoryModelUnloadResponse> {
        let request = request.into_inner();
        let model_name = model_of(request.repository_name, request.model_name);
        self.doors.repository.unload(&model_name).await.map_err(refuse)?;
        Ok(GrpcResponse::new(proto::RepositoryModelUnloadResponse { model_name, is_unloaded: true }))
    }
}

/// The model in either dialect: field 2 is Triton's, field 1 is KServe's (and Triton's repository).
fn model_of(field_1: String, field_2: String) -> String {
    if field_2.is_empty() { field_1 } else { field_2 }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The deadline of a `grpc-timeout` header: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let timeout = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(amount.checked_mul(3600)?),
        "M" => Duration::from_secs(amount.checked_mul(60)?),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}
