//! What the bench sends, over which door.

use std::net::SocketAddr;
use std::sync::Arc;

use super::server::Process;
use crate::engine::Requests;
use crate::http1;
use crate::http2::Calls;
use crate::payload::{Echo, Encoding, ModelSpec};
use crate::{BODIES, MODEL_INFER};

/// How a request reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// HTTP/1.1.
    Http(Encoding),
    /// gRPC with raw contents.
    Grpc,
}

impl Door {
    /// How the table calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http(Encoding::Json) => "HTTP JSON",
            Self::Http(Encoding::Binary) => "HTTP binary",
            Self::Grpc => "gRPC",
        }
    }

    /// Where a process has it.
    pub(crate) fn of(self, process: &Process) -> SocketAddr {
        if self == Self::Grpc { process.grpc } else { process.http }
    }

    /// Single-row requests for a model of this process, gRPC with as many calls at once on a connection as `streams`.
    pub(crate) fn requests(self, model: &ModelSpec, process: &Process, streams: usize) -> Requests {
        match self {
            Self::Http(encoding) => Requests::Http(http(model, encoding, process)),
            Self::Grpc => grpc(&model.messages(BODIES), process, streams),
        }
    }

    /// The same bytes, or as many, for a bare echo.
    pub(super) fn echoes(self, model: &ModelSpec, echo: &Process, streams: usize) -> Requests {
        match self {
            Self::Http(encoding) => Requests::Http(http(model, encoding, echo)),
            Self::Grpc => {
                let messages: Vec<_> = model.messages(BODIES).iter().map(|message| Echo::alike(message)).collect();
                grpc(&messages, echo, streams)
            }
        }
    }
}

/// Whole HTTP requests.
pub(super) fn http(model: &ModelSpec, encoding: Encoding, process: &Process) -> Arc<[Box<[u8]>]> {
    let (host, path) = (process.http.to_string(), infer_path(model));
    model.bodies(BODIES, encoding).iter().map(|body| http1::request(&host, &path, body, &[])).collect()
}

fn grpc(messages: &[Vec<u8>], process: &Process, streams: usize) -> Requests {
    Requests::Grpc(Arc::new(Calls::new(&process.grpc.to_string(), MODEL_INFER, messages, &[])), streams)
}

/// Where a model is asked over HTTP.
pub(super) fn infer_path(model: &ModelSpec) -> String {
    format!("/v2/models/{}/infer", model.name)
}
