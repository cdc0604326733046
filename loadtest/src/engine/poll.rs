//! A thin safe wrapper around epoll: sockets are registered once, edge-triggered, and never changed again.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The most events taken from the kernel by one wait.
const EVENTS_MAX: usize = 256;

/// A socket that became readable or writable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The number given at registration.
    pub(crate) token: usize,
    /// The peer closed its side, or the socket failed: read until the end.
    pub(crate) hung_up: bool,
}

/// One epoll instance.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready: usize,
}

impl Poller {
    /// Creates the epoll instance.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers; its result is checked before use.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just returned by the kernel and nothing else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(raw) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(Self { epoll, events, ready: 0 })
    }

    /// Registers a socket for both directions. Closing the socket removes it.
    pub(crate) fn add(&self, socket: RawFd, token: usize) -> io::Result<()> {
        // Edge-triggered in both directions, so that no system call is spent on switching interest.
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: flags as u32, u64: token as u64 };
        // SAFETY: both descriptors are open and `event` outlives the call.
        let code = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket, &mut event) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits up to `timeout_ms` and returns how many sockets are ready; 0 also after an interrupting signal.
    pub(crate) fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        // SAFETY: the kernel writes at most EVENTS_MAX entries into a buffer of that length.
        let code = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as i32, timeout_ms)
        };
        self.ready = 0;
        if code < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        self.ready = code as usize;
        Ok(self.ready)
    }

    /// The `index`-th ready socket of the last wait.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        debug_assert!(index < self.ready);
        let event = self.events[index];
        let over = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        Ready { token: event.u64 as usize, hung_up: event.events & over != 0 }
    }
}
