//! The gRPC door: tonic's generated services over the same stack, told apart by their path.

mod closing;
mod extensions;
mod health;
mod reflection;
mod stream;

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status, Streaming};
use tower::Service;

use super::Doors;
use super::body::ResponseBody;
use super::deadlines;
use super::guard::{Guard, permit};
use super::head::Head;
use super::http::{SERVER_NAME, SERVER_VERSION, extensions as extensions_served};
use super::regions;
use super::timing::{self, Timed, TimedBody};
use crate::error::Error;
use crate::protocol::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::protocol::proto::{self, repository_index_response::ModelIndex};
use crate::protocol::status;
use crate::repository::IndexLine;
use crate::service;
use reflection::{Reflection, ReflectionService};

/// tonic's own code for a message above the limit, OUT_OF_RANGE, which no kind of ours maps to.
const TOO_LARGE_FOR_TONIC: &[u8] = b"11";
const UNIMPLEMENTED: &[u8] = b"12";
const GRPC_STATUS: &str = "grpc-status";
const GRPC_MESSAGE: &str = "grpc-message";

/// The inference service's full name.
const INFERENCE_SERVICE: &str = "inference.GRPCInferenceService";

/// All services of the door.
pub(super) struct Services {
    inference: GrpcInferenceServiceServer<GrpcDoor>,
    /// The same for clients that compress. Clients say that they accept compression even where nobody asked for it (grpcio
    /// always does), so it is what they send that tells what they want.
    inference_compressing: GrpcInferenceServiceServer<GrpcDoor>,
    health: health::HealthService,
    reflection: OnceLock<Option<Reflection>>,
    doors: Arc<Doors>,
}

impl Services {
    pub(super) fn new(doors: Arc<Doors>) -> Self {
        let inference = GrpcInferenceServiceServer::new(GrpcDoor { doors: Arc::clone(&doors) })
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(doors.body_bytes_max)
            .max_encoding_message_size(usize::MAX);
        let inference_compressing = inference
            .clone()
            .send_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Deflate);
        Self {
            inference,
            inference_compressing,
            health: health::service(Arc::clone(&doors)),
            reflection: OnceLock::new(),
            doors,
        }
    }

    /// Answers any request; what there is not is UNIMPLEMENTED with its name.
    pub(super) async fn answer(&self, request: Request<Incoming>, head: Head) -> Response<ResponseBody> {
        let doors = &self.doors;
        if let Some((_, message)) = head.refusal(request.headers(), request.uri(), &doors.bounds) {
            return refused(&Error::too_large(message), doors);
        }
        // Shares the text.
        let Some(path) = request.uri().path_and_query().cloned() else { return unknown("", "", &self.doors) };
        let (service, method) = path.path().trim_start_matches('/').split_once('/').unwrap_or_default();
        let response = match service {
            INFERENCE_SERVICE => {
                let inference = if head.grpc_encoded { &self.inference_compressing } else { &self.inference };
                let mut inference = inference.clone();
                // A stream may be quiet for as long as its client likes; a single message has to come in time.
                let answered = match method {
                    "ModelStreamInfer" => inference.call(request.map(|body| doors.guard_messages(body))).await,
                    _ => inference.call(request.map(|body| doors.guard(body))).await,
                };
                match answered {
                    Ok(response) => timed(response),
                    Err(never) => match never {},
                }
            }
            "grpc.health.v1.Health" => match self.health.clone().call(request.map(|body| doors.guard(body))).await {
                Ok(response) => closing::until_closing(response, &self.doors.drain),
                Err(never) => match never {},
            },
            "grpc.reflection.v1.ServerReflection" => self.reflect(request, |services| services.v1).await,
            "grpc.reflection.v1alpha.ServerReflection" => self.reflect(request, |services| services.v1alpha).await,
            _ => return unknown(service, method, &self.doors),
        };
        // A call that went well says so in its trailers alone.
        let code = response.headers().get(GRPC_STATUS).map(HeaderValue::as_bytes);
        match code {
            Some(TOO_LARGE_FOR_TONIC) => return refused(&too_large(doors.body_bytes_max), doors),
            // Without a message it is tonic's own answer.
            Some(UNIMPLEMENTED) if !response.headers().contains_key(GRPC_MESSAGE) => {
                return unknown(service, method, &self.doors);
            }
            _ => {}
        }
        let code = code.map_or(0, |code| code.iter().fold(0, |number, digit| number * 10 + usize::from(digit & 15)));
        self.doors.telemetry.doors.count_grpc(code);
        response
    }

    async fn reflect(
        &self,
        request: Request<Incoming>,
        version: impl FnOnce(Reflection) -> ReflectionService,
    ) -> Response<ResponseBody> {
        let Some(services) = self.reflection.get_or_init(Reflection::new).clone() else {
            return status::to_grpc(&Error::internal("the descriptors for reflection cannot be read"))
                .into_http::<tonic::body::Body>()
                .map(ResponseBody::Grpc);
        };
        match version(services).call(request.map(|body| self.doors.guard_messages(body))).await {
            Ok(response) => closing::until_closing(response, &self.doors.drain),
            Err(never) => match never {},
        }
    }
}

fn too_large(bytes_max: usize) -> Error {
    Error::too_large(format!("the message is larger than {bytes_max} bytes (--body-max)"))
}

/// An answer with the trailer that tells where its time went, where there is one to tell.
fn timed(mut response: Response<tonic::body::Body>) -> Response<ResponseBody> {
    match response.extensions_mut().remove::<Timed>() {
        Some(Timed(timing)) => response.map(|body| ResponseBody::Timed(Box::new(TimedBody::new(body, timing)))),
        None => response.map(ResponseBody::Grpc),
    }
}

/// Whether the answer to a call of `path` may wait for its own next message for as long as it likes.
pub(super) fn may_be_quiet(path: &str) -> bool {
    path.ends_with("/ModelStreamInfer") || path.ends_with("/Watch") || path.starts_with("/grpc.reflection.")
}

/// The answer to a call that does not reach a service.
pub(super) fn refused(error: &Error, doors: &Doors) -> Response<ResponseBody> {
    let status = status::to_grpc(error);
    doors.telemetry.doors.count_grpc(status.code() as usize);
    status.into_http::<tonic::body::Body>().map(ResponseBody::Grpc)
}

fn unknown(service: &str, method: &str, doors: &Doors) -> Response<ResponseBody> {
    let shown = |name: &str| name.chars().take(100).collect::<String>();
    let (service, method) = (shown(service), shown(method));
    refused(&Error::unsupported(format!("unknown method '{method}' of service '{service}'")), doors)
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

fn answered<T>(outcome: Result<T, Error>) -> Answer<T> {
    outcome.map(GrpcResponse::new).map_err(refuse)
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
            extensions: extensions_served(&self.doors).into_iter().map(Into::into).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: GrpcRequest<proto::ModelMetadataRequest>,
    ) -> Answer<proto::ModelMetadataResponse> {
        self.permit(&request, &request.get_ref().name)?;
        let request = request.into_inner();
        let repository = &self.doors.repository;
        repository.learn(&request.name, some(&request.version), None).await.map_err(refuse)?;
        let model = repository.resolve(&request.name, some(&request.version)).map_err(refuse)?;
        Ok(GrpcResponse::new(proto::ModelMetadataResponse {
            versions: repository.ready_versions(&request.name).iter().map(ToString::to_string).collect(),
            platform: model.platform().into(),
            inputs: model.inputs_told().map(proto::encode_spec).collect(),
            outputs: model.outputs_told().map(proto::encode_spec).collect(),
            properties: model.properties().collect(),
            name: request.name,
        }))
    }

    async fn model_infer(&self, request: GrpcRequest<proto::ModelInferRequest>) -> Answer<proto::ModelInferResponse> {
        self.permit(&request, &request.get_ref().model_name)?;
        // In a block, so that the request is not kept beside the future that it was moved into.
        let response = {
            let headers = request.metadata().as_ref();
            let deadline = deadlines::of_grpc(headers);
            let message = request.get_ref();
            let sticky = self.doors.sticky(&message.model_name, some(&message.model_version), headers);
            let request = request.into_inner();
            service::note_body(|| request.encode_to_vec().into());
            let mut request = proto::decode_request(request, &self.doors.bounds.request).map_err(refuse)?;
            (request.sticky, request.deadline) = (sticky, deadline);
            self.doors.stack.clone().call(request)
        };
        let response = response.await.map_err(refuse)?;
        let (timing, answered) = (response.timing, Instant::now());
        let mut answer = GrpcResponse::new(proto::encode_response(response));
        service::note_answer(|| answer.get_ref().encode_to_vec().into());
        if let Some(timing) = timing::value(&timing, answered.elapsed()) {
            answer.extensions_mut().insert(Timed(timing));
        }
        Ok(answer)
    }

    type ModelStreamInferStream = stream::Answers;

    async fn model_stream_infer(
        &self,
        request: GrpcRequest<Streaming<proto::ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let (metadata, extensions, requests) = request.into_parts();
        let deadline = deadlines::of_grpc(metadata.as_ref());
        let pass = self.doors.guard.as_ref().and_then(|guard| Guard::pass(guard, &extensions));
        Ok(GrpcResponse::new(stream::Answers::new(requests, metadata, deadline, pass, Arc::clone(&self.doors))))
    }

    async fn model_config(
        &self,
        request: GrpcRequest<proto::ModelConfigRequest>,
    ) -> Answer<proto::ModelConfigResponse> {
        self.permit(&request, &request.get_ref().name)?;
        answered(extensions::config(request.get_ref(), &self.doors).await)
    }

    async fn model_statistics(
        &self,
        request: GrpcRequest<proto::ModelStatisticsRequest>,
    ) -> Answer<proto::ModelStatisticsResponse> {
        self.permit(&request, &request.get_ref().name)?;
        answered(extensions::statistics(request.get_ref(), &self.doors).await)
    }

    async fn trace_setting(
        &self,
        request: GrpcRequest<proto::TraceSettingRequest>,
    ) -> Answer<proto::TraceSettingResponse> {
        answered(extensions::trace_setting(request.into_inner(), &self.doors))
    }

    async fn log_settings(
        &self,
        request: GrpcRequest<proto::LogSettingsRequest>,
    ) -> Answer<proto::LogSettingsResponse> {
        answered(extensions::log_setting(request.into_inner()))
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
        let parameters = proto::decode_load(request.parameters, &self.doors.bounds.request).map_err(refuse)?;
        self.doors.repository.load(&model_name, parameters).await.map_err(refuse)?;
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

    async fn system_shared_memory_status(
        &self,
        request: GrpcRequest<proto::SystemSharedMemoryStatusRequest>,
    ) -> Answer<proto::SystemSharedMemoryStatusResponse> {
        answered(extensions::region_status(request.get_ref(), &self.doors))
    }

    async fn system_shared_memory_register(
        &self,
        request: GrpcRequest<proto::SystemSharedMemoryRegisterRequest>,
    ) -> Answer<proto::SystemSharedMemoryRegisterResponse> {
        let proto::SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request.get_ref();
        let regions = regions::system(&self.doors).map_err(refuse)?;
        regions.register(name, key, *offset, *byte_size).map_err(refuse)?;
        Ok(GrpcResponse::new(proto::SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: GrpcRequest<proto::SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<proto::SystemSharedMemoryUnregisterResponse> {
        regions::system(&self.doors).map_err(refuse)?.unregister(some(&request.get_ref().name));
        Ok(GrpcResponse::new(proto::SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        _: GrpcRequest<proto::CudaSharedMemoryStatusRequest>,
    ) -> Answer<proto::CudaSharedMemoryStatusResponse> {
        answered(regions::none_of_cuda(&self.doors).map(|()| proto::CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: GrpcRequest<proto::CudaSharedMemoryRegisterRequest>,
    ) -> Answer<proto::CudaSharedMemoryRegisterResponse> {
        answered(Err(regions::no_cuda()))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: GrpcRequest<proto::CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<proto::CudaSharedMemoryUnregisterResponse> {
        answered(regions::none_of_cuda(&self.doors).map(|()| proto::CudaSharedMemoryUnregisterResponse {}))
    }
}

/// The model in either dialect: field 2 is Triton's, field 1 is KServe's (and Triton's repository).
fn model_of(field_1: &str, field_2: &str) -> String {
    if field_2.is_empty() { field_1.into() } else { field_2.into() }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
