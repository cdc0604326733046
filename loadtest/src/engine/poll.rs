//! A thin safe wrapper around epoll: sockets are registered once, edge-triggered, and never changed again.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

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
    /// The kernel sleeps to the nanosecond (epoll_pwait2, Linux 5.11).
    fine: bool,
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
        Ok(Self { epoll, events, ready: 0, fine: true })
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

    /// Waits up to `timeout` and returns how many sockets are ready; 0 also after an interrupting signal. On an old
    /// kernel it may return up to a millisecond early, so that the caller spins that away rather than being late.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        self.ready = 0;
        let mut code = -1;
        if self.fine {
            code = self.wait_fine(timeout);
            self.fine = code >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS);
        }
        if !self.fine {
            let millis = timeout.as_millis().min(i32::MAX as u128) as i32;
            // SAFETY: the kernel writes at most EVENTS_MAX entries into a buffer of that length.
            code = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as i32, millis)
            };
        }
        if code < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        self.ready = code as usize;
        Ok(self.ready)
    }

    fn wait_fine(&mut self, timeout: Duration) -> i32 {
        let time = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        // SAFETY: the kernel writes at most EVENTS_MAX entries into a buffer of that length; `time` outlives the call;
        // no signal mask is given. By number, because C libraries know the call only for a few years.
        unsafe {
            let (events, none) = (self.events.as_mut_ptr(), std::ptr::null::<libc::sigset_t>());
            let (epoll, time) = (self.epoll.as_raw_fd(), &raw const time);
            libc::syscall(libc::SYS_epoll_pwait2, epoll, events, EVENTS_MAX, time, none, 0_usize) as i32
        }
    }

    /// The `index`-th ready socket of the last wait.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        debug_assert!(index < self.ready);
        let event = self.events[index];
        let over = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        Ready { token: event.u64 as usize, hung_up: event.events & over != 0 }
    }
}
