//! A server in this process.

use std::net::SocketAddr;

use tensorgate::app::App;
use tensorgate::config::Config;
use tensorgate::repository::Control;

use super::metrics::Metrics;
use super::{Grpc, Http, Models, patiently};

/// A server, gone with the test's tokio runtime. The repository's directory has to live as long.
pub(crate) struct Server {
    app: App,
    /// The HTTP port.
    pub(crate) http: SocketAddr,
    /// The gRPC port.
    pub(crate) grpc: SocketAddr,
}

impl Server {
    /// Serves `models`, all of them loaded.
    pub(crate) async fn start(models: &Models) -> Self {
        Self::with(models, |_| {}).await
    }

    /// Serves `models`, which callers load and unload.
    pub(crate) async fn explicit(models: &Models) -> Self {
        Self::with(models, |config| config.repository.control = Control::Explicit).await
    }

    /// Serves `models`, looked at again and again.
    pub(crate) async fn polling(models: &Models) -> Self {
        Self::with(models, |config| {
            config.repository.control = Control::Poll;
            config.repository.poll_interval = std::time::Duration::from_millis(20);
        })
        .await
    }

    /// Serves `models` as `change` has it, once everything wanted was loaded or failed.
    pub(crate) async fn with(models: &Models, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        (config.server.http_port, config.server.grpc_port) = (0, 0);
        config.repository.repositories.push(models.path().into());
        // The same on every machine, whatever its cores.
        config.repository.cores = 2;
        change(&mut config);
        let app = App::start(config).await.unwrap();
        patiently("the models to be loaded", app.repository().settled()).await;
        let addresses = app.addresses();
        Self { app, http: addresses.http, grpc: addresses.grpc }
    }

    /// A new HTTP/1.1 connection.
    pub(crate) async fn http(&self) -> Http {
        Http::connect(self.http).await
    }

    /// A new gRPC connection.
    pub(crate) async fn grpc(&self) -> Grpc {
        super::grpc::connect(self.grpc).await
    }

    /// Stops it without a delay; gives whether every request was answered.
    pub(crate) async fn stop(self) -> bool {
        patiently("the server to stop", self.app.stop(false)).await
    }

    /// What `/metrics` says now.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::of(&mut self.http().await).await
    }
}
