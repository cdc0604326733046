//! A graph over gRPC: V2's service with one model, which is the graph.
//!
//! `ModelInfer` runs it. What a model tells of itself is asked of the steps' services, not of a graph, which knows no signature.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::time::Instant;

use super::answer::{Answer, code_of_status};
use super::body::discard;
use super::graph_door::{GraphDoor, status_of};
use super::grpc;
use crate::graph::evaluate::Failure;
use crate::graph::message::{self, Message};
use crate::v2::wire::Writer;
use crate::v2::{Call, Side, frame, proto};

/// V2's service.
const SERVICE: &str = "/inference.GRPCInferenceService/";
/// What Kubernetes' probes of gRPC ask.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Why a call has no answer: HTTP's status for it, and what to tell.
type Refused = (u16, String);

impl GraphDoor {
    /// Answers a call; with HTTP's status for how it went.
    pub(super) async fn answer_grpc(&self, request: Request<Incoming>) -> (StatusCode, Answer) {
        match self.called(request).await {
            Ok(message) => (StatusCode::OK, grpc::answered(&message)),
            Err((status, told)) => {
                let shown = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (shown, grpc::refused(code_of_status(status), &told))
            }
        }
    }

    async fn called(&self, request: Request<Incoming>) -> Result<bytes::Bytes, Refused> {
        let arrived = Instant::now();
        let (head, mut incoming) = request.into_parts();
        let path = head.uri.path();
        let method = path.strip_prefix(SERVICE).or_else(|| Some(path).filter(|own| *own == HEALTH));
        let known =
            ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", HEALTH];
        let Some(method) = method.filter(|own| known.contains(own)) else {
            discard(incoming);
            return Err((
                501,
                format!("{path} is not served by a graph; of V2's service {} are", known[..6].join(", ")),
            ));
        };
        let body = match tokio::time::timeout(self.read, self.budget.read(&mut incoming)).await {
            Ok(Ok(body)) => body,
            Ok(Err(unread)) => {
                discard(incoming);
                return Err((status_of(&unread).as_u16(), unread.to_string()));
            }
            Err(_) => return Err((408, format!("the message did not come within {:?}", self.read))),
        };
        let message = frame::message(&body)
            .map_err(|why| (if why == frame::Unframed::Compressed { 501 } else { 400 }, why.to_string()))?;
        match method {
            "ModelInfer" => {
                let call = proto::read(&message, Side::Request).map_err(|why| (400, why))?;
                self.is_named(&call.model, &call.version)?;
                let sent = Message::grpc(message, Side::Request);
                match self.evaluate(&head.headers, arrived, true, sent).await {
                    Ok(answer) => self.rendered_grpc(&answer, call.id),
                    Err(Failure { status, cause }) => Err((status, cause)),
                }
            }
            HEALTH => {
                let service = proto::string(message, 1).map_err(|why| (400, why))?;
                if !service.is_empty() && service != SERVICE.trim_matches('/') {
                    self.is_named(&service, "")?;
                }
                Ok(flag(true))
            }
            "ServerLive" | "ServerReady" => Ok(flag(true)),
            "ServerMetadata" => {
                let mut out = Writer::default();
                out.text(1, "tensorgate");
                out.text(2, env!("CARGO_PKG_VERSION"));
                Ok(out.finish())
            }
            _ => {
                let name = proto::string(message.clone(), 1).map_err(|why| (400, why))?;
                let version = proto::string(message, 2).map_err(|why| (400, why))?;
                self.is_named(&name, &version)?;
                Ok(if method == "ModelReady" { flag(true) } else { self.metadata(&name) })
            }
        }
    }

    /// That a call is for this graph, and for no version, of which it has none.
    fn is_named(&self, model: &str, version: &str) -> Result<(), Refused> {
        let Some(name) = self.name.as_deref().filter(|name| *name != model || !version.is_empty()) else {
            return Ok(());
        };
        if name != model {
            return Err((404, format!("there is no model '{model}' here; there is the graph '{name}'")));
        }
        Err((404, format!("the graph '{name}' has no versions, and '{version}' was asked for; leave it out")))
    }

    /// What can be told of a graph: that it is one. Its inputs and outputs are those of its steps.
    fn metadata(&self, name: &str) -> bytes::Bytes {
        let mut out = Writer::default();
        out.text(1, name);
        out.text(3, "tensorgate_graph");
        out.finish()
    }

    fn rendered_grpc(&self, answer: &message::Answer, id: String) -> Result<bytes::Bytes, Refused> {
        if !answer.is_success() {
            return Err((answer.status, answer.told()));
        }
        let unfit = |why: String| {
            (500, format!("the last step's answer is none of V2, so that gRPC has no form for it: {why}"))
        };
        let call = answer.message.as_call(Side::Answer).map_err(unfit)?;
        let model = self.name.clone().unwrap_or_else(|| call.model.clone());
        Ok(proto::write(&Call { model, version: String::new(), id, ..call }, Side::Answer))
    }
}

/// A message whose first field is true, or the first of an enumeration.
fn flag(is: bool) -> bytes::Bytes {
    let mut out = Writer::default();
    out.varint(1, u64::from(is));
    out.finish()
}
