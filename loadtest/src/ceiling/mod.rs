//! The ceilings: what the libraries under a server can do when nothing of a server stands on them.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod session;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};

/// Accepts on loopback for ever, on one thread, and gives each connection its own task.
fn accept_forever<F, S>(port: u16, serve: S) -> io::Result<Infallible>
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    })
}
