//! The gRPC door: tonic's generated service over the same stack.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status};
use tower::Service;

use super::Doors;
use super::body::ResponseBody;
use super::guard::permit;
use super::http::{EXTENSIONS, SERVER_NAME, SERVER_VERSION};
use crate::error::Error;
use crate::protocol::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::protocol::proto::{self, repository_index_response::ModelIndex};
use crate::protocol::status;
use crate::repository::IndexLine;

/// tonic's own code for a message above the limit, OUT_OF_RANGE, which no kind of ours maps to.
const TOO_LARGE_FOR_TONIC: &[u8] = b"11";
const GRPC_STATUS: &str = "grpc-status";
/// After how many milliseconds gRPC's own retries try again (gRFC A6).
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The service, cloned for each request.
pub(super) type GrpcService = GrpcInferenceServiceServer<GrpcDoor>;

pub(super) fn service(doors: Arc<Doors>) -> GrpcService {
    let bytes_max = doors.body_bytes_max;
    GrpcInferenceServiceServer::new(GrpcDoor { doors })
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX)
}

/// Whether a request is gRPC, by its content type.
pub(super) fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

pub(super) async fn answer(
    request: Request<Incoming>,
    mut service: GrpcService,
    doors: &Doors,
) -> Response<ResponseBody> {
    let response = match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    // A call that went well says so in its trailers alone.
    let code = response.headers().get(GRPC_STATUS).map(HeaderValue::as_bytes);
    if code == Some(TOO_LARGE_FOR_TONIC) {
        let message = format!("the message is larger than {} bytes (--body-max)", doors.body_bytes_max);
        return refused(&Error::too_large(message), doors);
    }
    let code = code.map_or(0, |code| code.iter().fold(0, |number, digit| number * 10 + usize::from(digit & 15)));
    doors.telemetry.doors.count_grpc(code);
    response.map(ResponseBody::Grpc)
}

/// The answer to a call that does not reach the service.
pub(super) fn refused(error: &Error, doors: &Doors) -> Response<ResponseBody> {
    let status = status::to_grpc(error);
    doors.telemetry.doors.count_grpc(status.code() as usize);
    let mut response = status.into_http::<tonic::body::Body>().map(ResponseBody::Grpc);
    if let Some(after) = error.retry_after() {
        response.headers_mut().insert(RETRY_PUSHBACK, HeaderValue::from(after.as_millis().max(1) as u64));
    }
    response
}

/// The door.
pub(super) struct GrpcDoor {
    doors: Arc<Doors>,
}

impl GrpcDoor {
    /// Checks that the caller may use the model that the message names.
    fn permit<T>(&self, request: &GrpcRequest<T>, model: &str) -> Result<(), Status> {
        match self.doors.guard {
            None => Ok(()),
            Some(_) => permit(request.extensions(), model).map_err(refuse),
        }
    }
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
        self.permit(&request, &request.get_ref().name)?;
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
        self.permit(&request, &request.get_ref().model_name)?;
        let deadline = deadline(request.metadata());
        let mut request = proto::decode_request(request.into_inner()).map_err(refuse)?;
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
        let model_name = model_of(&request.get_ref().repository_name, &request.get_ref().model_name);
        self.permit(&request, &model_name)?;
        let request = request.into_inner();
        let overrides = request.parameters.keys().map(String::as_str);
        self.doors.repository.load(&model_name, overrides).await.map_err(refuse)?;
        Ok(GrpcResponse::new(proto::RepositoryModelLoadResponse { model_name, is_loaded: true }))
    }

    async fn repository_model_unload(
        &self,
        request: GrpcRequest<proto::RepositoryModelUnloadRequest>,
    ) -> Answer<proto::RepositoryModelUnloadResponse> {
        let model_name = model_of(&request.get_ref().repository_name, &request.get_ref().model_name);
        self.permit(&request, &model_name)?;
        self.doors.repository.unload(&model_name).await.map_err(refuse)?;
        Ok(GrpcResponse::new(proto::RepositoryModelUnloadResponse { model_name, is_unloaded: true }))
    }
}

/// The model in either dialect: field 2 is Triton's, field 1 is KServe's (and Triton's repository).
fn model_of(field_1: &str, field_2: &str) -> String {
    if field_2.is_empty() { field_1.into() } else { field_2.into() }
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
