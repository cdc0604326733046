//! Bodies: request bodies read within their bound, and the one type of all response bodies.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use smallvec::SmallVec;
use tokio::time::{Instant, Sleep};

use super::bounds::{Buffered, Charge};
use super::quiet::QuietBody;
use super::timing::TimedBody;
use super::watch::WatchedBody;
use crate::error::{Error, Result};
use crate::protocol::status;

/// Bytes of a body that earn it another second, see [`super::Bounds::body_timeout`]; an answer likewise.
pub(super) const BYTES_A_SECOND: u64 = 64 << 10;

/// A request body that has to come in time, and that counts towards what all of them may hold.
pub(super) struct GuardedBody<B: AsRef<Buffered>> {
    body: Incoming,
    charge: Charge<B>,
    received: usize,
    slow: Slowness,
}

/// Bounds the time in which something comes.
pub(super) struct Slowness {
    patience: Duration,
    /// Since when the client is waited for; made only for what is not there when it is looked for.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Slowness {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, waiting: None }
    }

    /// Forgets the time that passed.
    pub(super) fn over(&mut self) {
        self.waiting = None;
    }

    /// Resolves when the `received` bytes are too few for the time since this was first asked.
    pub(super) fn poll(&mut self, received: usize, context: &mut Context<'_>) -> Poll<Error> {
        let patience = self.patience;
        let (since, timer) =
            self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(patience))));
        loop {
            std::task::ready!(timer.as_mut().poll(context));
            let earned = Duration::from_secs(received as u64 / BYTES_A_SECOND);
            let until = *since + patience + earned;
            if until <= timer.deadline() {
                return Poll::Ready(too_slow(received, patience));
            }
            timer.as_mut().reset(until);
        }
    }
}

impl<B: AsRef<Buffered>> GuardedBody<B> {
    pub(super) fn new(body: Incoming, buffered: B, patience: Duration) -> Self {
        Self { body, charge: Charge::of(buffered), received: 0, slow: Slowness::new(patience) }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {}
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(cause))) => {
                return Poll::Ready(Some(Err(broken(cause))));
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.received += frame.data_ref().map_or(0, Bytes::len);
                return Poll::Ready(Some(self.charge.raise(self.received).map(|()| frame)));
            }
        }
        self.slow.poll(self.received, context).map(|error| Some(Err(error)))
    }

    /// The next data; trailers are of no use to us.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = poll_fn(|context| self.poll_next(context)).await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the whole body of at most `bytes_max` bytes, and gives it with what it counts for. A body that came in one
    /// piece is not copied.
    ///
    /// # Errors
    /// `TooLarge`, decided by the length header where there is one; `Cancelled` where the client stops halfway;
    /// `SlowRequest`; `Overloaded` where all bodies together hold too much.
    pub(super) async fn read(mut self, bytes_max: usize) -> Result<(Bytes, Charge<B>)> {
        let announced = self.body.size_hint();
        if announced.lower() > bytes_max as u64 {
            return Err(too_large(announced.lower(), bytes_max));
        }
        // Within the limit, which is a usize.
        self.charge.raise(announced.lower() as usize)?;
        let Some(first) = self.next().await? else { return Ok((Bytes::new(), self.charge)) };
        if self.body.is_end_stream() || announced.exact() == Some(first.len() as u64) {
            let fits = first.len() <= bytes_max;
            return if fits { Ok((first, self.charge)) } else { Err(too_large(first.len() as u64, bytes_max)) };
        }
        // The lower bound is the announced length, which is within the limit, or zero for a chunked body.
        let mut whole = BytesMut::with_capacity((announced.lower() as usize).max(first.len()));
        whole.extend_from_slice(&first);
        while let Some(data) = self.next().await? {
            if whole.len() + data.len() > bytes_max {
                return Err(too_large((whole.len() + data.len()) as u64, bytes_max));
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), self.charge))
    }
}

/// What tonic reads.
impl<B: AsRef<Buffered> + Unpin> Body for GuardedBody<B> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        this.poll_next(context).map(|frame| frame.map(|frame| frame.map_err(|error| status::to_grpc(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a body cannot be read to its end: its client has gone, or its chunks are none.
pub(super) fn broken(cause: hyper::Error) -> Error {
    let source = std::error::Error::source(&cause).and_then(|source| source.downcast_ref::<std::io::Error>());
    let kind = source.map(std::io::Error::kind);
    let error = match kind {
        Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
            Error::invalid("the request body is no sequence of chunks, as its transfer-encoding says")
        }
        _ => Error::cancelled("the request body ended early"),
    };
    error.with_source(cause)
}

fn too_slow(received: usize, patience: Duration) -> Error {
    Error::slow_request(format!("only {received} bytes of the request body came within {patience:?} (--body-timeout)"))
}

fn too_large(given: u64, bytes_max: usize) -> Error {
    Error::too_large(format!(
        "the request body has at least {given} bytes, at most {bytes_max} are accepted (--body-max)"
    ))
}

/// A response body: segments that are there already, or tonic's.
pub(super) enum ResponseBody {
    /// Segments in reverse, so that the next one is popped.
    Segments(SmallVec<[Bytes; 2]>),
    /// A gRPC answer.
    Grpc(tonic::body::Body),
    /// One that tells in its trailers where the time went.
    Timed(Box<TimedBody>),
    /// A stream that may be quiet.
    Quiet(Box<QuietBody>),
    /// Any, counted on its way.
    Watched(Box<WatchedBody>),
}

impl ResponseBody {
    /// A body of these segments, in order.
    pub(super) fn segments(mut segments: SmallVec<[Bytes; 2]>) -> Self {
        segments.retain(|segment| !segment.is_empty());
        segments.reverse();
        Self::Segments(segments)
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::segments(SmallVec::from_iter([bytes]))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.get_mut() {
            Self::Segments(segments) => Poll::Ready(segments.pop().map(|segment| Ok(Frame::data(segment)))),
            Self::Grpc(body) => Pin::new(body).poll_frame(context),
            Self::Timed(body) => body.poll_frame(context),
            Self::Quiet(body) => body.poll_frame(context),
            Self::Watched(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Segments(segments) => segments.is_empty(),
            Self::Grpc(body) => body.is_end_stream(),
            Self::Timed(body) => body.is_end_stream(),
            Self::Quiet(body) => body.is_end_stream(),
            Self::Watched(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Segments(segments) => SizeHint::with_exact(segments.iter().map(|segment| segment.len() as u64).sum()),
            Self::Grpc(body) => body.size_hint(),
            Self::Timed(body) => body.size_hint(),
            Self::Quiet(body) => body.size_hint(),
            Self::Watched(body) => body.size_hint(),
        }
    }
}
