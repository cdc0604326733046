//! Servers, clients and model repositories for the tests.

pub(crate) mod certificates;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod server;
pub(crate) mod tensors;

use std::time::Duration;

pub(crate) use grpc::Grpc;
pub(crate) use http::Http;
pub(crate) use models::Models;
pub(crate) use process::Process;
pub(crate) use server::Server;

/// How long anything may take before a test gives up: far beyond what it takes on a machine that is busy with a build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something, and panics where there is nothing in [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Panics where `work` takes longer than [`PATIENCE`]: a test that hangs should say where.
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
