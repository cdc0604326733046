//! Clients that mean harm or know no better: each is ended or bounded, a metric tells it, and others are served meanwhile.

mod crowds;
mod http1;
mod http2;
mod smuggling;

use std::time::Duration;

use tensorgate::config::Config;
use tensorgate::contract::metrics as names;

use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

/// Long for a machine, short for a test.
const SOON: Duration = Duration::from_millis(50);

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

/// A server of `identity_fp32`.
async fn serve(change: impl FnOnce(&mut Config)) -> Server {
    Server::with(&Models::of(&["identity_fp32"]), change).await
}

/// Checks that a client that comes now is served, over both doors.
async fn others_are_served(server: &Server) {
    let answer = server.http().await.infer("identity_fp32", &json_body(&row())).await;
    assert_eq!(outputs_of(&answer)[0].1, row()[0].1);
    server.grpc().await.model_infer(message("identity_fp32", &row())).await.unwrap();
}

/// Waits until `count` connections were ended for `reason`.
async fn ended(server: &Server, reason: &str, count: f64) {
    eventually("a connection to be ended", async || {
        let ended = server.metrics().await.sum(names::CONNECTIONS_ENDED, &[("reason", reason)]);
        (ended >= count).then_some(())
    })
    .await;
}
