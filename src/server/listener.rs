//! Listeners: both ports are bound first, connections are accepted until the way down says stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::connection::{self, Connections};
use super::drain::Phase;
use super::reload::{self, Reload};
use super::room::Room;
use super::transport::Transport;
use super::{Addresses, Doors, ServerConfig};

/// Connections that the kernel may hold until they are accepted: a burst of clients must not see a refusal.
const BACKLOG: u32 = 4096;

/// How long a connection that is idle at the end may still bring a request that was under way on the wire. Such a request
/// is answered, and its client asked to go elsewhere.
const LAST_REQUEST_WAIT: Duration = Duration::from_millis(500);

/// How long to wait after an accept that failed for want of descriptors or memory, before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection that was asked to make room is waited for before another is asked.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// When a client of which nothing is heard is asked by the kernel whether it is there, how often, and how many times: one
/// that vanished without a word (its machine lost power, a firewall forgot it) is let go after two minutes, also where a
/// request of its is under way or a stream of its is quiet.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

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
        background.spawn(reload::watch(watched, config.reload_interval));
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
    let room = Arc::new(Room::default());
    let permits = Arc::new(Semaphore::new(connections_max));
    let drain = connections.drain();
    // The first of several failures is logged.
    let mut failing = false;
    let mut last = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Closing) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                connections.doors().telemetry.doors.accept_failed();
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("cannot accept a connection: {cause}");
                }
                // A descriptor of another's is as good as one more.
                room.ask();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        // Nobody is asked to make room before there is somebody to take it.
        let permit = tokio::select! {
            permit = permit(&permits, &room) => permit,
            () = drain.reached(Phase::Closing) => None,
        };
        match permit {
            Some(permit) => serve(stream, peer, &connections, &room, permit),
            None => {
                last = Some((stream, peer));
                break;
            }
        }
    }
    for (stream, peer) in last.into_iter().chain(completed(listener)) {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        serve(stream, peer, &connections, &room, permit);
    }
}

/// Waits until there may be one more connection, and asks others to go meanwhile. `None` never comes: the semaphore is never
/// closed.
async fn permit(permits: &Arc<Semaphore>, room: &Room) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        return Some(permit);
    }
    let mut free = pin!(Arc::clone(permits).acquire_owned());
    loop {
        room.ask();
        if let Ok(permit) = tokio::time::timeout(ROOM_PAUSE, free.as_mut()).await {
            return permit.ok();
        }
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
    room: &Arc<Room>,
    permit: OwnedSemaphorePermit,
) {
    let (connections, room) = (Arc::clone(connections), Arc::clone(room));
    // Answers are written whole; waiting for more to send only delays them. It fails on a connection already reset.
    let _ = stream.set_nodelay(true);
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let open = connections.count();
    tokio::spawn(async move {
        let stream = match &connections.doors().tls {
            None => Some(Transport::Plain(stream)),
            Some(tls) => tls.accept(stream).await,
        };
        if let Some(stream) = stream {
            connection::serve(stream, peer.ip(), connections, &room, LAST_REQUEST_WAIT).await;
        }
        drop((open, permit));
    });
}
