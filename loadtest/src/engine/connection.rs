//! One non-blocking socket with what is still to be written and what is not yet understood.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::protocol::{Done, Failure, Protocol};

/// How long the operating system may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection and the protocol spoken on it.
pub(crate) struct Connection<P> {
    stream: TcpStream,
    /// The handshake of TCP is under way.
    connecting: bool,
    /// The protocol's state.
    pub(crate) protocol: P,
    out: Vec<u8>,
    written: usize,
    rest: Vec<u8>,
}

impl<P: Protocol> Connection<P> {
    /// Connects, and queues the protocol's greeting.
    pub(crate) fn open(address: SocketAddr, protocol: P) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
        stream.set_nonblocking(true)?;
        Self::on(stream, false, protocol)
    }

    /// Begins to connect and queues the protocol's greeting. Requests may be queued behind it at once;
    /// [`Self::connected`] tells when they can leave.
    pub(crate) fn begin(address: SocketAddr, protocol: P) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let connecting = match socket.connect(&address.into()) {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
            Err(error) => return Err(error),
        };
        Self::on(socket.into(), connecting, protocol)
    }

    fn on(stream: TcpStream, connecting: bool, mut protocol: P) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut out = Vec::with_capacity(4096);
        protocol.greet(&mut out);
        Ok(Self { stream, connecting, protocol, out, written: 0, rest: Vec::new() })
    }

    /// Whether the connection stands. To be asked at each event of the socket; the error is why it never will.
    pub(crate) fn connected(&mut self) -> Result<bool, Failure> {
        if self.connecting {
            if !matches!(self.stream.take_error(), Ok(None)) {
                return Err(Failure::Connect);
            }
            self.connecting = self.stream.peer_addr().is_err();
        }
        Ok(!self.connecting)
    }

    /// The descriptor to register with the poller.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Queues a request; [`Self::flush`] sends it.
    pub(crate) fn send(&mut self, which: usize, started: u64) {
        self.protocol.send(which, started, &mut self.out);
    }

    /// Writes what is queued, as far as the socket takes it. The poller says when to call again.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.connecting {
            return Ok(());
        }
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Failure::Closed),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has arrived and lists the requests that it ended. `Err(Closed)` is also the ordinary end.
    pub(crate) fn read(&mut self, scratch: &mut [u8], hung_up: bool, done: &mut Vec<Done>) -> Result<(), Failure> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(Failure::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Failure::Closed),
            };
            if self.rest.is_empty() {
                let used = self.protocol.receive(&scratch[..count], &mut self.out, done)?;
                self.rest.extend_from_slice(&scratch[used..count]);
            } else {
                self.rest.extend_from_slice(&scratch[..count]);
                let used = self.protocol.receive(&self.rest, &mut self.out, done)?;
                self.rest.drain(..used);
            }
            // A short read of a stream socket has emptied it (epoll(7)), so the next edge will come; only an end
            // of stream that was already signalled has to be read out.
            if count < scratch.len() && !hung_up {
                return Ok(());
            }
        }
    }
}
