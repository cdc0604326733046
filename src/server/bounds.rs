//! Bounds of the doors beyond the size of a body, and the memory that all bodies together may take.
//!
//! A refusal names the flag whose bound was met. What is far beyond (a head of hundreds of KiB, a hundred headers) hyper
//! refuses itself, with the same status; over HTTP/2 without a body.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::protocol::json::Limits;

/// Bytes of a body that are not counted: a connection's own read buffer takes that much, and its count is bounded already.
/// So small requests touch no counter that all cores share.
const UNCOUNTED_BYTES: usize = 64 << 10;

/// When a client that met [`Bounds::buffered_bytes_max`] may try again: bodies under way are mostly answered in less.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds on what one client may ask of the doors.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes that a compressed body may inflate to, for each that came, above 1 MiB. Default 100: numbers as text reach 10,
    /// masks and padded tensors some tens; a bomb reaches 1000 and more.
    pub decompression_ratio_max: usize,
    /// Bytes of a request's headers, names and values. Default 32 KiB, nginx's: tokens and cookies take a tenth.
    pub header_bytes_max: usize,
    /// Headers of a request. Default 64: a browser behind two proxies sends about 30. At most 100, hyper's own bound.
    pub headers_max: usize,
    /// Bytes of a request's path and query. Default 8 KiB: what RFC 9110 asks every recipient to take, and hundreds of times
    /// a model's path.
    pub uri_bytes_max: usize,
    /// How long a request's body may take, and one second more for every 64 KiB that came: 0.5 Mbit/s is a poor mobile
    /// link. Default 60 s, nginx's time between two reads, which a client that sends byte by byte never meets.
    pub body_timeout: Duration,
    /// How long a client may leave an answer that is there, and one second more for every 64 KiB that it took. Default 60 s,
    /// like a request's body. A client that reads nothing would hold the answer's memory for as long as it likes.
    pub answer_timeout: Duration,
    /// How long a connection may stay open without a request. Default 75 s, nginx's: above the 60 s of the usual load
    /// balancers in front, so that it is they who close, and no request meets a connection that is going away.
    pub idle_timeout: Duration,
    /// Bytes of all request bodies that are held at once, those of up to 64 KiB not counted. Default 1 GiB: sixteen of the
    /// largest.
    pub buffered_bytes_max: usize,
    /// HTTP/2 streams that one connection may have open. Default 200, hyper's; a client with more to do opens another.
    pub streams_max: u32,
    /// Streams of one connection that a client may reset before they are looked at (rapid reset, CVE-2023-44487). Default
    /// 200: all that it may have open, as when the deadline of a burst passes at once.
    pub resets_max: usize,
    /// What a decoded request may hold.
    pub request: Limits,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            decompression_ratio_max: 100,
            header_bytes_max: 32 << 10,
            headers_max: 64,
            uri_bytes_max: 8 << 10,
            body_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            buffered_bytes_max: 1 << 30,
            streams_max: 200,
            resets_max: 200,
            request: Limits::default(),
        }
    }
}

/// Counts the bytes of all bodies that are held.
#[derive(Debug)]
pub struct Buffered {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Buffered {
    /// A count of at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), bytes_max }
    }
}

/// What one request holds of [`Buffered`], given back when dropped.
pub(super) struct Charge<B: AsRef<Buffered>> {
    buffered: B,
    bytes: usize,
}

impl AsRef<Buffered> for Buffered {
    fn as_ref(&self) -> &Buffered {
        self
    }
}

impl<B: AsRef<Buffered>> Charge<B> {
    /// Nothing yet.
    pub(super) fn of(buffered: B) -> Self {
        Self { buffered, bytes: 0 }
    }

    /// Counts what the request holds as `bytes` from now on, where that is more than before.
    ///
    /// # Errors
    /// `Overloaded` where all requests together would hold too much; the count is then as before.
    pub(super) fn raise(&mut self, bytes: usize) -> Result<()> {
        if bytes <= UNCOUNTED_BYTES || bytes <= self.bytes {
            return Ok(());
        }
        let more = bytes - self.bytes;
        let buffered = self.buffered.as_ref();
        // Only the sum counts; nothing else is published with it.
        let before = buffered.bytes.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > buffered.bytes_max {
            buffered.bytes.fetch_sub(more, Ordering::Relaxed);
            return Err(Error::overloaded(format!(
                "all request bodies together would take more than {} bytes (--buffered-max)",
                buffered.bytes_max
            ))
            .with_retry_after(RETRY_AFTER));
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl<B: AsRef<Buffered>> Drop for Charge<B> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.buffered.as_ref().bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn bodies_are_counted_until_they_are_dropped() {
        let buffered = Buffered::new(1_000_000);
        let mut first = Charge::of(&buffered);
        first.raise(600_000).unwrap();
        first.raise(500_000).unwrap();
        let mut second = Charge::of(&buffered);
        second.raise(400_000).unwrap();
        assert_eq!(second.raise(400_001).unwrap_err().kind(), Kind::Overloaded);
        drop(first);
        second.raise(1_000_000).unwrap();
        drop(second);
        assert_eq!(buffered.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn small_bodies_are_free() {
        let buffered = Buffered::new(0);
        Charge::of(&buffered).raise(UNCOUNTED_BYTES).unwrap();
        assert!(Charge::of(&buffered).raise(UNCOUNTED_BYTES + 1).is_err());
    }
}
