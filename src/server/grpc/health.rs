//! `grpc.health.v1.Health`, which gRPC clients and kubelets ask: of the server, or of a model by its name.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::INFERENCE_SERVICE;
use crate::error::Kind;
use crate::protocol::proto::health::health_check_response::ServingStatus;
use crate::protocol::proto::health::health_server::{Health, HealthServer};
use crate::protocol::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use crate::server::Doors;
use crate::server::drain::Phase;

/// The service.
pub(super) type HealthService = HealthServer<HealthDoor>;

pub(super) fn service(doors: Arc<Doors>) -> HealthService {
    HealthServer::new(HealthDoor { doors })
}

pub(super) struct HealthDoor {
    doors: Arc<Doors>,
}

/// How `service` is: the server's readiness for the empty name and that of the inference service, else the model's.
fn status_of(service: &str, doors: &Doors) -> ServingStatus {
    let serving = |ready| if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    if service.is_empty() || service == INFERENCE_SERVICE {
        return serving(doors.is_ready());
    }
    match doors.repository.why_not_ready(service, None) {
        Ok(reason) => serving(reason.is_none() && !doors.drain.has_begun()),
        Err(error) if error.kind() == Kind::UnknownModel => ServingStatus::ServiceUnknown,
        Err(_) => ServingStatus::NotServing,
    }
}

fn told(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthDoor {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match status_of(&service, &self.doors) {
            ServingStatus::ServiceUnknown => {
                let shown: String = service.chars().take(100).collect();
                Err(Status::not_found(format!("unknown service '{shown}', expected '' or the name of a model")))
            }
            status => Ok(Response::new(told(status))),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let models = self.doors.repository.index().into_iter().map(|model| model.name.to_string());
        let names = [String::new(), INFERENCE_SERVICE.to_owned()].into_iter().chain(models);
        let statuses = names.map(|name| {
            let status = told(status_of(&name, &self.doors));
            (name, status)
        });
        let statuses: HashMap<_, _> = statuses.collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let changes = self.doors.repository.changes();
        let watched =
            Watched { doors: Arc::clone(&self.doors), service: request.into_inner().service, changes, last: None };
        Ok(Response::new(Box::pin(unfold(watched, next))))
    }
}

struct Watched {
    doors: Arc<Doors>,
    service: String,
    changes: watch::Receiver<()>,
    last: Option<ServingStatus>,
}

/// The status now, and then each time that it is another.
async fn next(mut watched: Watched) -> Option<(Result<HealthCheckResponse, Status>, Watched)> {
    loop {
        // Marked before the look, so that what changes after it wakes.
        watched.changes.mark_unchanged();
        let draining = watched.doors.drain.has_begun();
        let status = status_of(&watched.service, &watched.doors);
        if watched.last != Some(status) {
            watched.last = Some(status);
            return Some((Ok(told(status)), watched));
        }
        tokio::select! {
            changed = watched.changes.changed() => changed.ok()?,
            () = watched.doors.drain.reached(Phase::Draining), if !draining => {}
        }
    }
}
