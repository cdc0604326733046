//! `ModelStreamInfer`: requests of one stream run side by side, and are answered in their order.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, Stream};
use http::HeaderMap;
use prost::Message;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};
use tower::Service;

use super::closing::going_down;
use super::too_large;
use crate::error::Error;
use crate::protocol::proto::infer_parameter::ParameterChoice;
use crate::protocol::proto::{self, InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use crate::protocol::status;
use crate::server::Doors;
use crate::server::bounds::Charge;
use crate::server::drain::Phase;
use crate::server::guard::Pass;
use crate::server::watch::Seen;
use crate::service;

/// Requests of one stream under way at once; more wait on the wire. Enough to fill half a batch of the default size, so
/// that a client with one stream gets batches too.
const IN_FLIGHT_MAX: usize = 32;

/// Metadata by which a client asks for a status instead of `error_message`.
const STATUS_FOR_ERRORS: &str = "triton_grpc_error";

/// The parameter by which a client asks for an answer without outputs where the last one does not say that it is. Each
/// request has one answer here, and it always says so.
const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// The parameter of the last answer to a request.
const FINAL_RESPONSE: &str = "triton_final_response";

/// The parameter of an error's message that says after how many milliseconds another try makes sense.
const RETRY_AFTER: &str = "retry_after_ms";

type Answer = Result<ModelStreamInferResponse, Status>;

/// What the stream's metadata say of a request: when it is due, and what keeps it at a version.
type OfStream = (Option<Instant>, Option<u64>);

/// The answers to a stream of requests. It ends when the client has said all, with the first error where the client wants
/// it so, and on the way down once what is under way is answered.
pub(in super::super) struct Answers {
    requests: Streaming<ModelInferRequest>,
    doors: Arc<Doors>,
    deadline: Option<Instant>,
    /// Looks at each request of the stream, where the door is guarded.
    pass: Option<Pass>,
    status_for_errors: bool,
    running: FuturesOrdered<BoxFuture<'static, Answer>>,
    /// The stream's own.
    headers: HeaderMap,
    closing: BoxFuture<'static, ()>,
    /// Set when no more requests are read: how the stream ends.
    end: Option<Result<(), Status>>,
}

impl Answers {
    pub(super) fn new(
        requests: Streaming<ModelInferRequest>,
        metadata: MetadataMap,
        deadline: Option<Instant>,
        pass: Option<Pass>,
        doors: Arc<Doors>,
    ) -> Self {
        let drain = doors.drain.clone();
        Self {
            requests,
            deadline,
            pass,
            status_for_errors: metadata.get(STATUS_FOR_ERRORS).is_some_and(|value| value == "true"),
            running: FuturesOrdered::new(),
            headers: metadata.into_headers(),
            closing: Box::pin(async move { drain.reached(Phase::Closing).await }),
            end: None,
            doors,
        }
    }

    fn read(&mut self, context: &mut Context<'_>) {
        while self.end.is_none() && self.running.len() < IN_FLIGHT_MAX {
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => {
                    let permitted = self.pass.as_ref().map_or(Ok(()), |pass| pass.request(&request.model_name));
                    let (doors, deadline) = (Arc::clone(&self.doors), self.deadline);
                    // Counted until it is answered: a client may send many before it reads what comes of them.
                    let mut held = Charge::of(Arc::clone(&doors.buffered));
                    let permitted = permitted.and_then(|()| held.raise(request.encoded_len()));
                    let version = Some(request.model_version.as_str()).filter(|version| !version.is_empty());
                    let sticky = doors.sticky(&request.model_name, version, &self.headers);
                    let run = answer(doors, request, permitted, (deadline, sticky), self.status_for_errors);
                    let seen = self.doors.watch.as_ref().map(|watch| watch.begin_message(&self.headers));
                    self.running.push_back(Box::pin(async move {
                        let _held = held;
                        match seen {
                            Some(seen) => watched(run, seen).await,
                            None => run.await.0,
                        }
                    }));
                }
                // tonic's own code for a message above the limit.
                Poll::Ready(Some(Err(status))) if status.code() == Code::OutOfRange => {
                    self.end = Some(Err(status::to_grpc(&too_large(self.doors.body_bytes_max))));
                }
                Poll::Ready(Some(Err(status))) => self.end = Some(Err(status)),
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending => break,
            }
        }
        // What has come and has room is under way; the rest is told that it is not.
        if self.end.is_none() && self.closing.as_mut().poll(context).is_ready() {
            self.end = Some(Err(going_down()));
        }
    }
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        let this = self.get_mut();
        this.read(context);
        match Pin::new(&mut this.running).poll_next(context) {
            Poll::Ready(Some(answer)) => {
                if answer.is_err() {
                    // The stream is over; what is still under way has nobody to answer.
                    this.running.clear();
                    this.end = Some(Ok(()));
                }
                Poll::Ready(Some(answer))
            }
            Poll::Ready(None) => match &mut this.end {
                Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
                None => Poll::Pending,
            },
            // Requests beyond those under way are read when one of them is answered, which wakes this stream.
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Runs one request of a stream as a call that is watched.
async fn watched(run: impl Future<Output = (Answer, Code)>, seen: Box<Seen>) -> Answer {
    let (answer, code) = service::watched(run, seen.trail()).await;
    seen.answered_message(code as u16);
    answer
}

/// An answer, and the code that it stands for.
async fn answer(
    doors: Arc<Doors>,
    request: ModelInferRequest,
    permitted: Result<(), Error>,
    of_stream: OfStream,
    status_for_errors: bool,
) -> (Answer, Code) {
    let id = request.id.clone();
    let outcome = match permitted {
        Ok(()) => run(&doors, request, of_stream).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(infer_response) => {
            let infer_response = Some(infer_response);
            (Ok(ModelStreamInferResponse { error_message: String::new(), infer_response }), Code::Ok)
        }
        Err(error) if status_for_errors => {
            let status = status::to_grpc(&error);
            let code = status.code();
            (Err(status), code)
        }
        Err(error) => {
            // The id says which request it was.
            let mut parameters: HashMap<_, _> = final_response().into();
            parameters.extend(error.retry_after().map(retry_after));
            let infer_response = Some(ModelInferResponse { id, parameters, ..ModelInferResponse::default() });
            let code = status::to_grpc(&error).code();
            (Ok(ModelStreamInferResponse { error_message: error.message().into(), infer_response }), code)
        }
    }
}

async fn run(doors: &Doors, mut message: ModelInferRequest, of_stream: OfStream) -> Result<ModelInferResponse, Error> {
    // Acted on here; passed inward it would keep this request from sharing a batch with others.
    message.parameters.remove(EMPTY_FINAL_RESPONSE);
    service::note_body(|| message.encode_to_vec().into());
    let mut request = proto::decode_request(message, &doors.bounds.request)?;
    (request.deadline, request.sticky) = of_stream;
    let mut response = proto::encode_response(doors.stack.clone().call(request).await?);
    response.parameters.extend(final_response());
    service::note_answer(|| response.encode_to_vec().into());
    Ok(response)
}

/// A message has no details of a status: when to try again is a parameter beside the id.
fn retry_after(after: Duration) -> (String, InferParameter) {
    let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
    (RETRY_AFTER.into(), InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(milliseconds)) })
}

fn final_response() -> [(String, InferParameter); 1] {
    [(FINAL_RESPONSE.into(), InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) })]
}
