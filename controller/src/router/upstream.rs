//! Connections to revisions. Where requests wait for pods, one that cannot be made is tried until it can. Elsewhere a connection that cannot be made to the chosen revision is made to another: nothing of the request has
//! been read then, so nothing is lost; such a connection is for one request only, since the chosen one may be back for the next.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::hold::{Holder, Reach};
use super::table::Table;

/// A Service without pods refuses at once; a node that is gone does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes connections for one protocol. The host of a URI is the name of a revision.
#[derive(Clone)]
pub struct Connector {
    routes: watch::Receiver<Arc<Table>>,
    grpc: bool,
    diverted: IntCounter,
    holder: Arc<Holder<Sockets>>,
}

/// Reaches revisions by their sockets.
#[derive(Debug, Clone, Copy)]
pub struct Sockets;

impl Reach for Sockets {
    async fn reach(&self, address: &str) -> bool {
        connect(address).await.is_ok()
    }
}

impl Connector {
    /// For the revisions of `routes`.
    pub fn new(
        routes: watch::Receiver<Arc<Table>>,
        grpc: bool,
        diverted: IntCounter,
        holder: Arc<Holder<Sockets>>,
    ) -> Self {
        Self { routes, grpc, diverted, holder }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Upstream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Upstream, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let table = self.routes.borrow().clone();
        let (grpc, diverted) = (self.grpc, self.diverted.clone());
        let patient = table.hold.is_some().then(|| self.clone());
        Box::pin(async move {
            let revision = uri.host().unwrap_or("");
            if let Some(connector) = patient {
                return connector.until_there(revision).await;
            }
            let chosen = table.backends.iter().find(|own| own.revision == revision);
            let mut failure =
                io::Error::new(io::ErrorKind::NotFound, format!("revision '{revision}' is no longer routed to"));
            for (index, backend) in chosen.into_iter().chain(table.others(revision)).enumerate() {
                match connect(backend.address(grpc)).await {
                    Ok(socket) => {
                        let stand_in = index > 0 || chosen.is_none();
                        if stand_in {
                            diverted.inc();
                        }
                        return Ok(Upstream { socket: TokioIo::new(socket), stand_in });
                    }
                    Err(error) => failure = io::Error::new(error.kind(), format!("{}: {error}", backend.revision)),
                }
            }
            Err(failure)
        })
    }
}

impl Connector {
    /// A connection to a revision that may have no pods just now: nothing of the request has been read, so it loses nothing by waiting.
    async fn until_there(&self, revision: &str) -> io::Result<Upstream> {
        let began = tokio::time::Instant::now();
        loop {
            let table = self.routes.borrow().clone();
            let Some(backend) = table.backends.iter().find(|own| own.revision == revision) else {
                return Err(io::Error::new(io::ErrorKind::NotFound, "it is no longer routed to"));
            };
            let address = backend.address(self.grpc);
            let failure = match connect(address).await {
                Ok(socket) => {
                    self.holder.found(revision);
                    return Ok(Upstream { socket: TokioIo::new(socket), stand_in: false });
                }
                Err(error) => error,
            };
            self.holder.lost(revision, address);
            let patience = Duration::from_secs(table.hold.as_ref().map_or(0, |hold| hold.timeout_seconds).into());
            if tokio::time::timeout_at(began + patience, self.holder.until_found(revision)).await.is_err() {
                return Err(failure);
            }
        }
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let socket = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected?,
        Err(_) => {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {address} within 1 s")));
        }
    };
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A connection to a revision.
pub struct Upstream {
    socket: TokioIo<TcpStream>,
    stand_in: bool,
}

impl Connection for Upstream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.stand_in {
            connected.poison();
        }
        connected
    }
}

impl Read for Upstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl Write for Upstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
