//! Who leads, before an API server that says nothing, or whose Lease somebody else writes to. On a clock of its own.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tensorgate_controller::run::lease::Election;
use tokio::time::Instant;
use tower_service::Service;

/// One Lease, as an API server has it.
#[derive(Default)]
struct Kept {
    lease: Option<Value>,
    version: u64,
    /// It takes requests, and answers none.
    is_silent: bool,
    /// Readings after each of which somebody else writes.
    raced: u32,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

impl Server {
    fn answer(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut own = self.0.lock().unwrap();
        let failure = |code: u16, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code});
            (code, status)
        };
        if method == Method::GET {
            let Some(lease) = own.lease.clone() else { return failure(404, "NotFound") };
            if own.raced > 0 {
                own.raced -= 1;
                own.version += 1;
                let version = own.version.to_string();
                own.lease.as_mut().unwrap()["metadata"]["resourceVersion"] = json!(version);
            }
            return (200, lease);
        }
        let mut next: Value = serde_json::from_slice(body).unwrap();
        let now = own.lease.as_ref().map_or(Value::Null, |own| own["metadata"]["resourceVersion"].clone());
        if next["metadata"].get("resourceVersion").unwrap_or(&Value::Null) != &now {
            return failure(409, "Conflict");
        }
        own.version += 1;
        next["metadata"]["resourceVersion"] = json!(own.version.to_string());
        own.lease = Some(next.clone());
        (200, next)
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            if own.0.lock().unwrap().is_silent {
                std::future::pending::<()>().await;
            }
            let (code, told) = own.answer(&head.method, &body);
            let mut answer = Response::new(Body::from(told.to_string().into_bytes()));
            *answer.status_mut() = hyper::StatusCode::from_u16(code).unwrap();
            Ok(answer)
        })
    }
}

fn election(server: &Server, identity: &str) -> Election {
    Election::new(Client::new(server.clone(), "models"), "models", identity.into())
}

/// How long a Lease holds.
const HOLDS: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn who_leads_gives_up_before_another_may_when_the_api_server_says_nothing() {
    let server = Server::default();
    let mut first = election(&server, "one");
    first.win().await;
    let won = Instant::now();
    server.0.lock().unwrap().is_silent = true;
    first.keep().await;
    assert!(won.elapsed() < HOLDS, "gave up after {:?}", won.elapsed());
    // Nor does it wait for ever for an answer to its farewell.
    first.release().await;
}

#[tokio::test(start_paused = true)]
async fn who_leads_goes_on_when_somebody_else_has_written_to_the_lease() {
    let server = Server::default();
    let mut first = election(&server, "one");
    first.win().await;
    server.0.lock().unwrap().raced = 2;
    let lost = tokio::time::timeout(HOLDS * 4, first.keep()).await;
    assert!(lost.is_err(), "it is still its own");
    assert_eq!(server.0.lock().unwrap().lease.as_ref().unwrap()["spec"]["holderIdentity"], "one");
}

#[tokio::test(start_paused = true)]
async fn another_leads_once_the_lease_has_run_out_or_was_given_up() {
    let server = Server::default();
    let (mut first, mut second) = (election(&server, "one"), election(&server, "two"));
    first.win().await;
    let began = Instant::now();
    second.win().await;
    assert!(began.elapsed() >= HOLDS, "after {:?}", began.elapsed());
    // The first finds that out at its next attempt.
    first.keep().await;
    second.release().await;
    let began = Instant::now();
    election(&server, "three").win().await;
    assert!(began.elapsed() < HOLDS, "after {:?}", began.elapsed());
}
