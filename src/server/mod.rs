//! The doors: HTTP and gRPC over one listener kind, and the way they close.
//!
//! Either port speaks HTTP/1.1, HTTP/2 and gRPC; a request is gRPC by its content type. A door reads bytes within its
//! bounds, has `protocol` decode them, calls the `service` stack and has `protocol` encode the answer: no metric, permit,
//! time-out or check of values lives here.

mod activity;
mod body;
mod bounds;
mod connection;
mod deadlines;
mod describe;
mod drain;
mod frames;
mod grpc;
mod guard;
mod head;
mod http;
mod listener;
mod messages;
mod quiet;
mod refusal;
mod regions;
mod reload;
mod room;
mod sticky;
mod streams;
mod timing;
mod tls;
mod transport;
mod watch;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::repository::Repository;
use crate::service::{Router, Stack};
use crate::shared_memory::Regions;
use crate::telemetry::Telemetry;

pub use bounds::{Bounds, Buffered};
pub use drain::Drain;
pub use guard::{Door, Guard, GuardConfig, Rate, Scope};
pub use http::{Cors, HttpConfig, decoders};
pub use listener::{BindError, Server};
pub use reload::FileFault;
pub use tls::{Tls, TlsConfig, TlsVersion};
pub use watch::{Watch, WatchConfig};

/// What the doors accept, and how they close.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address of both ports. Default loopback: nothing is open to a network unasked.
    pub host: IpAddr,
    /// Port of HTTP, and of gRPC beside it; 0 picks a free one.
    pub http_port: u16,
    /// Port of gRPC, and of HTTP beside it; 0 picks a free one.
    pub grpc_port: u16,
    /// Bytes of a request body or message. Default 64 MiB, Triton's: a batch of 100 images of [3,224,224] FP32.
    pub body_bytes_max: usize,
    /// How long a client may take to send a request head. Default 30 s.
    pub head_timeout: Duration,
    /// Connections that may be open at once. Default 20000: each costs some 10 KB, so 200 MB at worst.
    pub connections_max: usize,
    /// How long to go on serving after a signal to stop, while routers learn that this server is not ready. Default 5 s:
    /// the usual time in which Kubernetes takes an endpoint out everywhere.
    pub drain_delay: Duration,
    /// How long requests under way may then take to finish. Default 25 s: with the delay, Kubernetes' grace period of 30 s.
    pub drain_timeout: Duration,
    /// TLS on both ports; without it they speak plainly.
    pub tls: Option<TlsConfig>,
    /// Who may call what, and how often.
    pub guard: GuardConfig,
    /// What is told about requests.
    pub watch: WatchConfig,
    /// How often the files of certificates and keys are looked at. Default 5 s: quicker than whoever replaced them looks.
    pub reload_interval: Duration,
    /// What one client may ask for.
    pub bounds: Bounds,
    /// What the HTTP door does beyond answering.
    pub http: HttpConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: 8080,
            grpc_port: 8081,
            body_bytes_max: 64 << 20,
            head_timeout: Duration::from_secs(30),
            connections_max: 20_000,
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
            tls: None,
            guard: GuardConfig::default(),
            watch: WatchConfig::default(),
            reload_interval: Duration::from_secs(5),
            bounds: Bounds::default(),
            http: HttpConfig::default(),
        }
    }
}

/// What both doors share.
pub struct Doors {
    /// Runs inference.
    pub stack: Stack,
    /// Picks versions for it, and answers how.
    pub router: Arc<Router>,
    /// Answers everything about models.
    pub repository: Arc<Repository>,
    /// Shared memory that clients registered, where that is allowed.
    pub regions: Option<Arc<Regions>>,
    /// Answers `/metrics`.
    pub telemetry: Arc<Telemetry>,
    /// Whether the server is on its way down.
    pub drain: Drain,
    /// See [`ServerConfig::body_bytes_max`].
    pub body_bytes_max: usize,
    /// TLS on both ports.
    pub tls: Option<Arc<Tls>>,
    /// What stands before both doors.
    pub guard: Option<Arc<Guard>>,
    /// What is told about requests.
    pub watch: Option<Arc<Watch>>,
    /// See [`ServerConfig::bounds`].
    pub bounds: Bounds,
    /// See [`ServerConfig::http`].
    pub http: HttpConfig,
    /// What request bodies take together.
    pub buffered: Arc<Buffered>,
}

impl Doors {
    /// A gRPC message's body, bound to come in time and counted towards what all bodies may hold.
    fn guard(&self, body: hyper::body::Incoming) -> body::GuardedBody<Arc<bounds::Buffered>> {
        body::GuardedBody::new(body, Arc::clone(&self.buffered), self.bounds.body_timeout)
    }

    /// The same for a stream of messages.
    fn guard_messages(&self, body: hyper::body::Incoming) -> messages::MessagesBody {
        messages::MessagesBody::new(body, Arc::clone(&self.buffered), self.bounds.body_timeout)
    }

    /// What keeps the caller who sent `headers` at a version of `model`, where its traffic is sticky and `version` is not named.
    fn sticky(&self, model: &str, version: Option<&str>, headers: &::http::HeaderMap) -> Option<u64> {
        if version.is_some() {
            return None;
        }
        self.router.sticky(model, |place| sticky::value(headers, place))
    }

    /// Whether traffic should come here.
    fn is_ready(&self) -> bool {
        !self.drain.has_begun() && self.repository.is_ready()
    }
}

/// The addresses that were bound.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// HTTP's.
    pub http: SocketAddr,
    /// gRPC's.
    pub grpc: SocketAddr,
}
