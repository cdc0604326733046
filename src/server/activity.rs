//! What happens on a connection, and when too little does.
//!
//! Requests and reads are only counted; one timer for each connection looks at the counts now and then. So a request costs
//! no timer, and a time-out is met by up to half of it more than it says.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How an HTTP/2 connection starts (RFC 9113, 3.4).
const HTTP2_START: &[u8] = b"PRI";

/// Counts of one connection. Only its own task writes them; the counts are no more than hints, so no order is needed.
#[derive(Debug, Default)]
pub(super) struct Activity {
    started: AtomicUsize,
    finished: AtomicUsize,
    reads: AtomicUsize,
    writes: AtomicUsize,
    streams: AtomicUsize,
    http2: AtomicBool,
}

/// Counts one request as under way until dropped, which a client that goes away causes too.
pub(super) struct UnderWay<'a>(&'a Activity);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.finished.fetch_add(1, Ordering::Relaxed);
    }
}

impl Activity {
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.started.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// How many HTTP/2 streams are open now.
    pub(super) fn streams_open(&self, count: usize) {
        self.streams.store(count, Ordering::Relaxed);
    }

    /// Resolves when the connection should end.
    pub(super) async fn ended(&self, head_timeout: Duration, idle_timeout: Duration) -> Ending {
        let mut watch = Watch::new(Instant::now(), head_timeout, idle_timeout);
        let pause = (head_timeout.min(idle_timeout) / 2).max(Duration::from_millis(1));
        loop {
            tokio::time::sleep(pause).await;
            if let Some(ending) = watch.look(Instant::now(), self.counts()) {
                return ending;
            }
        }
    }

    /// Resolves when nothing was read or written for `pause`: a client that was asked to go does not answer.
    pub(super) async fn silent(&self, pause: Duration) {
        let mut before = self.counts();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.counts();
            if std::mem::replace(&mut before, now) == now && now.at_rest() {
                return;
            }
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            started: self.started.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
            http2: self.http2.load(Ordering::Relaxed),
        }
    }
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No request for longer than the idle time-out.
    Idle,
    /// A request's head has begun and does not come to its end.
    Stalled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    started: usize,
    finished: usize,
    reads: usize,
    writes: usize,
    streams: usize,
    http2: bool,
}

impl Counts {
    /// Whether no request is under way. A stream's is until its answer's last message.
    fn at_rest(&self) -> bool {
        self.started == self.finished && self.streams == 0
    }
}

/// Decides from one look to the next.
struct Watch {
    head_timeout: Duration,
    idle_timeout: Duration,
    /// The counts when the connection was first seen at rest, and when that was.
    rest: Counts,
    since: Instant,
    /// When a head was first seen to have begun.
    head_since: Option<Instant>,
}

impl Watch {
    fn new(now: Instant, head_timeout: Duration, idle_timeout: Duration) -> Self {
        Self { head_timeout, idle_timeout, rest: Counts::default(), since: now, head_since: None }
    }

    fn look(&mut self, now: Instant, counts: Counts) -> Option<Ending> {
        if !counts.at_rest() || counts.started != self.rest.started {
            (self.rest, self.since, self.head_since) = (counts, now, None);
            return None;
        }
        // The body of an answer may still be on its way long after its head.
        if counts.writes != self.rest.writes {
            (self.rest.writes, self.since) = (counts.writes, now);
        }
        // Bytes of HTTP/2 may be a ping; a head of its own that does not end makes no request, so the connection is idle.
        if counts.reads != self.rest.reads && !counts.http2 {
            let since = *self.head_since.get_or_insert(now);
            if now.duration_since(since) >= self.head_timeout {
                return Some(Ending::Stalled);
            }
        }
        (now.duration_since(self.since) >= self.idle_timeout).then_some(Ending::Idle)
    }
}

/// A stream whose reads are counted.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() && self.activity.reads.fetch_add(1, Ordering::Relaxed) == 0 {
            self.activity.http2.store(read.starts_with(HTTP2_START), Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        self.activity.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.activity.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(75);

    #[test]
    fn an_answer_that_is_still_being_written_keeps_its_connection() {
        let start = Instant::now();
        let mut watch = Watch::new(start, HEAD, IDLE);
        let mut look = |second, writes| {
            let counts = Counts { started: 1, finished: 1, reads: 1, writes, http2: true, streams: 0 };
            watch.look(start + Duration::from_secs(second), counts)
        };
        assert_eq!([look(15, 1), look(80, 2), look(150, 2)], [None; 3]);
        assert_eq!(look(155, 2), Some(Ending::Idle));
    }

    /// What is decided at each of these seconds, with these counts of requests started, finished, and of reads.
    fn decided(http2: bool, looks: &[(u64, usize, usize, usize)]) -> Vec<Option<Ending>> {
        let start = Instant::now();
        let mut watch = Watch::new(start, HEAD, IDLE);
        let look = |&(second, started, finished, reads): &(u64, usize, usize, usize)| {
            watch.look(
                start + Duration::from_secs(second),
                Counts { started, finished, reads, http2, ..Counts::default() },
            )
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_connection_that_does_nothing_is_idle_after_its_time() {
        assert_eq!(decided(false, &[(74, 0, 0, 0), (75, 0, 0, 0)]), [None, Some(Ending::Idle)]);
        let after_a_request = [(70, 1, 1, 3), (140, 1, 1, 3), (146, 1, 1, 3)];
        assert_eq!(decided(false, &after_a_request), [None, None, Some(Ending::Idle)]);
    }

    #[test]
    fn a_stream_that_is_open_keeps_its_connection_however_quiet_it_is() {
        let start = Instant::now();
        let mut watch = Watch::new(start, HEAD, IDLE);
        let mut look = |second, streams| {
            let counts = Counts { started: 1, finished: 1, reads: 1, writes: 1, http2: true, streams };
            watch.look(start + Duration::from_secs(second), counts)
        };
        assert_eq!([look(15, 1), look(1000, 1), look(1015, 0), look(1074, 0)], [None; 4]);
        assert_eq!(look(1075, 0), Some(Ending::Idle));
    }

    #[test]
    fn a_request_under_way_keeps_its_connection_however_long_it_takes() {
        assert_eq!(decided(false, &[(15, 1, 0, 1), (1000, 1, 0, 1), (1074, 1, 1, 1)]), [None; 3]);
    }

    #[test]
    fn a_head_that_drips_is_stalled_and_one_that_ends_is_not() {
        assert_eq!(decided(false, &[(15, 0, 0, 1), (30, 0, 0, 2), (45, 0, 0, 9)]), [None, None, Some(Ending::Stalled)]);
        assert_eq!(decided(false, &[(15, 0, 0, 1), (40, 1, 1, 2), (45, 1, 1, 2)]), [None; 3]);
    }

    #[test]
    fn pings_of_http2_are_no_heads() {
        assert_eq!(decided(true, &[(15, 0, 0, 1), (45, 0, 0, 5), (60, 0, 0, 9)]), [None; 3]);
    }
}
