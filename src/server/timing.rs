//! `Server-Timing` (W3C): where the time of an inference went, told with its answer. An HTTP header; over gRPC a trailer.
//!
//! `queue` is the wait for a batch, `execute` the whole batch's execution, both as the histograms at `/metrics` have them;
//! `encode` the making of the answer's bytes; all in milliseconds. `batch` describes the batch: its rows, and how much of
//! its work was padding. Answers of models that keep them have `cache` too: "hit" or "miss".

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};

use crate::infer::{CacheNote, Timing};

/// The header, and the trailer.
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Bytes of the longest value: five numbers of at most twenty digits and the words between them.
const LENGTH_MAX: usize = 216;

/// The value for an answer that took `encode` to encode.
pub(super) fn value(timing: &Timing, encode: Duration) -> Option<HeaderValue> {
    // Whole numbers are formatted in a third of the time.
    let [queue, execute, encode] = [timing.queue, timing.execute, encode]
        .map(|time| u64::try_from((time.as_nanos() + 500) / 1000).unwrap_or(u64::MAX));
    let padding = (timing.padding * 100.0).round() as u8;
    let mut text = [0_u8; LENGTH_MAX];
    let mut rest = &mut text[..];
    write!(
        rest,
        "queue;dur={}.{:03}, execute;dur={}.{:03}, encode;dur={}.{:03}, batch;desc=\"rows={} padding={}.{:02}\"",
        queue / 1000,
        queue % 1000,
        execute / 1000,
        execute % 1000,
        encode / 1000,
        encode % 1000,
        timing.batch_rows,
        padding / 100,
        padding % 100,
    )
    .ok()?;
    match timing.cache {
        CacheNote::None => {}
        CacheNote::Miss => write!(rest, ", cache;desc=\"miss\"").ok()?,
        CacheNote::Hit => write!(rest, ", cache;desc=\"hit\"").ok()?,
    }
    let length = LENGTH_MAX - rest.len();
    HeaderValue::from_bytes(&text[..length]).ok()
}

/// What an answer of the gRPC door carries to its trailers.
#[derive(Clone)]
pub(super) struct Timed(pub(super) HeaderValue);

/// A gRPC answer with one more trailer.
pub(super) struct TimedBody {
    body: tonic::body::Body,
    timing: HeaderValue,
}

impl TimedBody {
    pub(super) fn new(body: tonic::body::Body, timing: HeaderValue) -> Self {
        Self { body, timing }
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(context).map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.insert(SERVER_TIMING, self.timing.clone());
            }
            frame
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_all_times_in_milliseconds() {
        let (queue, execute) = (Duration::from_micros(1500), Duration::from_secs(2));
        let timing = Timing { queue, execute, batch_rows: 8, padding: 0.254, cache: CacheNote::None };
        let value = value(&timing, Duration::from_nanos(4600)).unwrap();
        assert_eq!(
            value,
            "queue;dur=1.500, execute;dur=2000.000, encode;dur=0.005, batch;desc=\"rows=8 padding=0.25\""
        );
        let longest = Timing {
            queue: Duration::MAX,
            execute: Duration::MAX,
            batch_rows: usize::MAX,
            padding: f64::MIN_POSITIVE,
            cache: CacheNote::Miss,
        };
        assert!(super::value(&longest, Duration::MAX).is_some());
    }
}
