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
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(30), idle: Duration::from_secs(75), answer: Duration::from_secs(60) };
    const SECOND: usize = BYTES_A_SECOND as usize;

    #[test]
    fn an_answer_that_is_still_being_written_keeps_its_connection() {
        let start = Instant::now();
        let mut watch = Watch::new(start, PATIENCE);
        let mut look = |second, written| {
            let counts = Counts { started: 1, finished: 1, reads: 1, written, http2: true, ..Counts::default() };
            watch.look(start + Duration::from_secs(second), counts)
        };
        assert_eq!([look(15, SECOND), look(80, 2 * SECOND), look(150, 70 * SECOND)], [None; 3]);
        assert_eq!(look(160, 71 * SECOND - 1), Some(Ending::Idle));
    }

    /// What is decided at each of these seconds, with these counts of requests started, finished, and of reads.
    fn decided(http2: bool, looks: &[(u64, usize, usize, usize)]) -> Vec<Option<Ending>> {
        let start = Instant::now();
        let mut watch = Watch::new(start, PATIENCE);
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
        let mut watch = Watch::new(start, PATIENCE);
        let mut look = |second, streams| {
            let quiet = streams;
            let counts = Counts { started: 1, finished: 1, reads: 1, http2: true, streams, quiet, ..Counts::default() };
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
        assert_eq!(
            decided(false, &[(15, 0, 0, 1), (30, 0, 0, 2), (45, 0, 0, 9)]),
            [None, None, Some(Ending::HeadStalled)]
        );
        assert_eq!(decided(false, &[(15, 0, 0, 1), (40, 1, 1, 2), (45, 1, 1, 2)]), [None; 3]);
    }

    #[test]
    fn pings_of_http2_are_no_heads() {
        assert_eq!(decided(true, &[(15, 0, 0, 1), (45, 0, 0, 5), (60, 0, 0, 9)]), [None; 3]);
    }

    /// What is decided at each of these seconds while a client's window is shut, with these bytes written.
    fn decided_for_a_reader(counts: Counts, looks: &[(u64, usize)]) -> Vec<Option<Ending>> {
        let start = Instant::now();
        let mut watch = Watch::new(start, PATIENCE);
        let look = |&(second, written): &(u64, usize)| {
            watch.look(start + Duration::from_secs(second), Counts { written, ..counts })
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn an_answer_that_its_client_does_not_take_ends_the_connection() {
        let full = Counts { started: 1, finished: 1, blocked: true, ..Counts::default() };
        let shut = Counts { started: 2, finished: 2, streams: 1, http2: true, ..Counts::default() };
        for counts in [full, shut] {
            let ended = Some(Ending::AnswerStalled);
            assert_eq!(decided_for_a_reader(counts, &[(1, 0), (60, 0), (61, 0)]), [None, None, ended]);
            // A window opened byte by byte earns nothing.
            assert_eq!(decided_for_a_reader(counts, &[(1, 0), (60, 999), (61, SECOND - 1)]), [None, None, ended]);
        }
    }

    #[test]
    fn an_answer_that_is_taken_slowly_is_let_go_on() {
        let counts = Counts { started: 1, finished: 1, blocked: true, ..Counts::default() };
        let looks = [(1, 0), (60, 60 * SECOND), (110, 110 * SECOND)];
        assert_eq!(decided_for_a_reader(counts, &looks), [None; 3]);
    }

    #[test]
    fn a_length_beside_chunks_is_seen_where_the_head_is() {
        let framing = |read: &[&str]| {
            let activity = Activity::default();
            read.iter().for_each(|bytes| activity.read(bytes.as_bytes()));
            let _under_way = activity.begin(Version::HTTP_11);
            activity.framing(&Method::POST)
        };
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n";
        assert_eq!(framing(&[chunked, "\r\ncontent-length: 1"]), Framing::Chunks);
        assert_eq!(framing(&[chunked, "Content-Le", "ngth: 4\r\n\r\n"]), Framing::Both);
        assert_eq!(framing(&["content-length: 4\r\n\r\n"]), Framing::Unknown);
        assert_eq!(framing(&[chunked]), Framing::Unknown);
    }

    #[test]
    fn a_head_is_that_of_one_request() {
        let activity = Activity::default();
        activity.read(b"POST / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\n");
        drop(activity.begin(Version::HTTP_11));
        let _next = activity.begin(Version::HTTP_11);
        assert_eq!(activity.framing(&Method::POST), Framing::Unknown);
    }
}
