//! One non-blocking socket with what is still to be written and what is not yet understood.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::protocol::{Done, Failure, Protocol};

/// How long the operating system may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection and the protocol spoken on it.
pub(crate) struct Connection<P> {
    stream: TcpStream,
    /// The protocol's state.
    pub(crate) protocol: P,
    out: Vec<u8>,
    written: usize,
    rest: Vec<u8>,
}

impl<P: Protocol> Connection<P> {
    /// Connects, and queues the protocol's greeting.
    pub(crate) fn open(address: SocketAddr, mut protocol: P) -> io::Result<Self> {
        // Blocking: on loopback the kernel answers at once, without waiting for the server to accept.
        let stream = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut out = Vec::with_capacity(4096);
        protocol.greet(&mut out);
        Ok(Self { stream, protocol, out, written: 0, rest: Vec::new() })
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
