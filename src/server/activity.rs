//! What happens on a connection, and when too little does.
//!
//! Requests, reads and writes are only counted; one timer for each connection looks at the counts now and then. So a request
//! costs no timer, and a time-out is met by up to half of it more than it says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Version};
use tokio::time::Instant;

use super::body::BYTES_A_SECOND;

/// How an HTTP/2 connection starts (RFC 9113, 3.4).
const HTTP2_START: &[u8] = b"PRI";

/// Bytes of a head that are kept until its request is known: more than any client's that means well.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Counts of one connection. Only its own task writes them; the counts are no more than hints, so no order is needed.
#[derive(Debug, Default)]
pub(super) struct Activity {
    started: AtomicUsize,
    finished: AtomicUsize,
    reads: AtomicUsize,
    /// Bytes of answers.
    written: AtomicUsize,
    /// Whether the socket took none of what was last written: the client does not read.
    blocked: AtomicBool,
    streams: AtomicUsize,
    /// Streams whose next message is not there yet.
    quiet: AtomicUsize,
    http2: AtomicBool,
    /// Whether the last request's client knows interim answers.
    interim: AtomicBool,
    head: Mutex<RawHead>,
}

/// The beginning of what was read since the last request, as it came.
#[derive(Debug, Default)]
struct RawHead {
    bytes: Vec<u8>,
    /// Whether a request was made from it.
    used: bool,
}

/// How the length of a chunked request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its chunks alone.
    Chunks,
    /// By a length too, which servers before this one may have gone by (RFC 9112, 6.1).
    Both,
    /// Its head was not seen in one piece.
    Unknown,
}

/// Counts one request as under way until dropped, which a client that goes away causes too.
pub(super) struct UnderWay<'a>(&'a Activity);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.finished.fetch_add(1, Relaxed);
    }
}

/// The bounds on a connection's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a head.
    pub(super) head: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// For an answer to be taken, and a second more for each 64 KiB of it.
    pub(super) answer: Duration,
}

impl Activity {
    pub(super) fn begin(&self, version: Version) -> UnderWay<'_> {
        self.started.fetch_add(1, Relaxed);
        self.interim.store(version == Version::HTTP_11, Relaxed);
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut head.used, true) {
            // This request was read together with the one before.
            head.bytes.clear();
        }
        UnderWay(self)
    }

    /// Notes bytes that came.
    pub(super) fn read(&self, bytes: &[u8]) {
        if self.reads.fetch_add(1, Relaxed) == 0 {
            self.http2.store(bytes.starts_with(HTTP2_START), Relaxed);
        }
        if self.http2.load(Relaxed) || self.under_way() > 0 {
            return;
        }
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut head.used) {
            head.bytes.clear();
        }
        let room = HEAD_BYTES_MAX - head.bytes.len();
        head.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Notes whether the socket took something, and how many bytes of answers.
    pub(super) fn wrote(&self, blocked: bool, bytes: usize) {
        self.blocked.store(blocked, Relaxed);
        self.written.fetch_add(bytes, Relaxed);
    }

    /// How the length of the body of the chunked HTTP/1 request that has just begun is told. hyper goes by the chunks, and
    /// does not tell that there was a length.
    pub(super) fn framing(&self, method: &Method) -> Framing {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let end = head.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        match end.map(|end| &head.bytes[..end]) {
            Some(head) if head.starts_with(method.as_str().as_bytes()) => {
                let is_length = |line: &[u8]| line.to_ascii_lowercase().starts_with(b"content-length");
                if head.split(|byte| *byte == b'\n').any(is_length) { Framing::Both } else { Framing::Chunks }
            }
            _ => Framing::Unknown,
        }
    }

    /// Whether the connection is HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Whether a request of HTTP/1 is being answered.
    pub(super) fn answers_http1(&self) -> bool {
        !self.is_http2() && self.under_way() > 0
    }

    /// Whether the client of the last request knows interim answers.
    pub(super) fn takes_interim(&self) -> bool {
        self.interim.load(Relaxed)
    }

    /// How many HTTP/2 streams are open now.
    pub(super) fn streams_open(&self, count: usize) {
        self.streams.store(count, Relaxed);
    }

    /// Notes that a stream begins or ends to wait for its own next message.
    pub(super) fn stream_waits(&self, waits: bool) {
        if waits {
            self.quiet.fetch_add(1, Relaxed)
        } else {
            self.quiet.fetch_sub(1, Relaxed)
        };
    }

    /// Resolves when the connection should end.
    pub(super) async fn ended(&self, patience: Patience) -> Ending {
        let mut watch = Watch::new(Instant::now(), patience);
        let shortest = patience.head.min(patience.idle).min(patience.answer);
        let pause = (shortest / 2).max(Duration::from_millis(1));
        loop {
            tokio::time::sleep(pause).await;
            if let Some(ending) = watch.look(Instant::now(), self.counts()) {
                return ending;
            }
        }
    }

    /// How many requests have begun, where none is under way now.
    pub(super) fn begun_and_ended(&self) -> Option<usize> {
        let counts = self.counts();
        counts.at_rest().then_some(counts.started)
    }

    fn under_way(&self) -> usize {
        self.started.load(Relaxed) - self.finished.load(Relaxed)
    }

    fn counts(&self) -> Counts {
        Counts {
            started: self.started.load(Relaxed),
            finished: self.finished.load(Relaxed),
            reads: self.reads.load(Relaxed),
            written: self.written.load(Relaxed),
            blocked: self.blocked.load(Relaxed),
            streams: self.streams.load(Relaxed),
            quiet: self.quiet.load(Relaxed),
            http2: self.http2.load(Relaxed),
        }
    }
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No request for longer than the idle time-out.
    Idle,
    /// A request's head has begun and does not come to its end.
    HeadStalled,
    /// The client does not take an answer that is there.
    AnswerStalled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    started: usize,
    finished: usize,
    reads: usize,
    written: usize,
    blocked: bool,
    streams: usize,
    quiet: usize,
    http2: bool,
}

impl Counts {
    /// Whether no request is under way. A stream's is until its answer's last message.
    fn at_rest(&self) -> bool {
        self.started == self.finished && self.streams == 0
    }

    /// Whether there is an answer that the client does not take: the socket is full, or a stream that neither works on its
    /// request nor waits for its own next message waits for its client's window.
    fn waits_for_client(&self) -> bool {
        self.blocked || self.streams > self.started - self.finished + self.quiet
    }
}

/// Decides from one look to the next.
struct Watch {
    patience: Patience,
    /// The counts when the connection was first seen at rest, and when that was.
    rest: Counts,
    since: Instant,
    /// When a head was first seen to have begun.
    head_since: Option<Instant>,
    /// When an answer was first seen to wait for its client, and the bytes written by then.
    answer_since: Option<(Instant, usize)>,
}

impl Watch {
    fn new(now: Instant, patience: Patience) -> Self {
        Self { patience, rest: Counts::default(), since: now, head_since: None, answer_since: None }
    }

    fn look(&mut self, now: Instant, counts: Counts) -> Option<Ending> {
        if counts.waits_for_client() {
            let (since, before) = *self.answer_since.get_or_insert((now, counts.written));
            if now.duration_since(since) >= self.patience.answer + earned(counts.written - before) {
                return Some(Ending::AnswerStalled);
            }
        } else {
            self.answer_since = None;
        }
        if !counts.at_rest() || counts.started != self.rest.started {
            (self.rest, self.since, self.head_since) = (counts, now, None);
            return None;
        }
        // Bytes of HTTP/2 may be a ping; a head of its own that does not end makes no request, so the connection is idle.
        if counts.reads != self.rest.reads && !counts.http2 {
            let since = *self.head_since.get_or_insert(now);
            if now.duration_since(since) >= self.patience.head {
                return Some(Ending::HeadStalled);
            }
        }
        // The body of an answer may still be on its way long after its head.
        let until = self.patience.idle + earned(counts.written - self.rest.written);
        (now.duration_since(self.since) >= until).then_some(Ending::Idle)
    }
}

/// The time that bytes of an answer give it.
fn earned(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / BYTES_A_SECOND)
}

#[cfg(test)]
mod tests;
