//! Listeners: both ports are bound first, connections are accepted until the way down says stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{self, Connections};
use super::drain::Phase;
use super::reload::{self, Reload};
use super::transport::Transport;
use super::{Addresses, Doors, ServerConfig};

/// Connections that the kernel may hold until they are accepted: a burst of clients must not see a refusal.
const BACKLOG: u32 = 4096;

/// How long a connection that is idle at the end may still bring a request that was under way on the wire. Such a request
/// is answered, and its client asked to go elsewhere.
const LAST_REQUEST_WAIT: Duration = Duration::from_millis(500);

/// How long to wait after an accept that failed for want of descriptors or memory, before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port that cannot be had.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.cause)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Bound listeners.
pub struct Server {
    http: TcpListener,
    grpc: TcpListener,
    addresses: Addresses,
    config: ServerConfig,
}

impl Server {
    /// Binds both ports, so that a port in use is known before models are loaded.
    ///
    /// # Errors
    /// [`BindError`] naming the address.
    pub fn bind(config: ServerConfig) -> Result<Self, BindError> {
        let (http, http_address) = bind(SocketAddr::new(config.host, config.http_port))?;
        let (grpc, grpc_address) = bind(SocketAddr::new(config.host, config.grpc_port))?;
        let addresses = Addresses { http: http_address, grpc: grpc_address };
        Ok(Self { http, grpc, addresses, config })
    }

    /// The addresses bound.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `stop` resolves, then goes the way down. `stop` gives the delay before the doors close. Gives whether
    /// every request under way was answered in time.
    pub async fn run(self, doors: Arc<Doors>, stop: impl Future<Output = Duration>) -> bool {
        let Self { http, grpc, config, .. } = self;
        let drain = doors.drain.clone();
        let mut watched: Vec<Arc<dyn Reload>> = doors.tls.iter().map(|tls| Arc::clone(tls) as _).collect();
        watched.extend(doors.guard.iter().map(|guard| Arc::clone(guard) as Arc<dyn Reload>));
        let mut background = JoinSet::new();
        if !watched.is_empty() {
            background.spawn(reload::watch(watched, config.reload_interval));
        }
        let connections = Arc::new(Connections::new(doors, &config));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(http, Arc::clone(&connections), config.connections_max));
        accepting.spawn(accept(grpc, Arc::clone(&connections), config.connections_max));
        let delay = stop.await;
        drain.advance(Phase::Draining);
        tracing::info!(?delay, "draining: not ready any more, still serving");
        tokio::time::sleep(delay).await;
        drain.advance(Phase::Closing);
        // Listeners close when their tasks have ended.
        while accepting.join_next().await.is_some() {}
        tracing::info!(connections = connections.open(), "closed to new connections");
        let finished = tokio::time::timeout(config.drain_timeout, connections.all_closed()).await.is_ok();
        if !finished {
            tracing::warn!(connections = connections.open(), timeout = ?config.drain_timeout, "requests cut off");
        }
        drain.advance(Phase::Closed);
        finished
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the old connections' time-wait.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind().map_err(|cause| BindError { address, cause })
}

async fn accept(listener: TcpListener, connections: Arc<Connections>, connections_max: usize) {
    let permits = Arc::new(Semaphore::new(connections_max));
    let drain = connections.drain();
    loop {
        let permit = tokio::select! {
            // The semaphore is never closed.
            Ok(permit) = Arc::clone(&permits).acquire_owned() => permit,
            () = drain.reached(Phase::Closing) => break,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(stream, peer, &connections, permit),
                Err(cause) => {
                    tracing::warn!("cannot accept a connection: {cause}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = drain.reached(Phase::Closing) => break,
        }
    }
    for (stream, peer) in completed(listener) {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        serve(stream, peer, &connections, permit);
    }
}

/// Closes `listener`, and gives the connections that the kernel had completed by then: their clients may have sent a
/// request already, so they are served, not reset. The listener is asked directly: tokio has not looked since its last poll.
fn completed(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || listener.accept().ok();
    let adopt = |(stream, peer): (std::net::TcpStream, SocketAddr)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(accept).filter_map(adopt).collect()
}

fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    connections: &Arc<Connections>,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let connections = Arc::clone(connections);
    // Answers are written whole; waiting for more to send only delays them. It fails on a connection already reset.
    let _ = stream.set_nodelay(true);
    let open = connections.count();
    tokio::spawn(async move {
        let stream = match &connections.doors().tls {
            None => Some(Transport::Plain(stream)),
            Some(tls) => tls.accept(stream).await,
        };
        if let Some(stream) = stream {
            connection::serve(stream, peer.ip(), connections, LAST_REQUEST_WAIT).await;
        }
        drop((open, permit));
    });
}
