//! Bodies: request bodies read within their bound, and the one type of all response bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use smallvec::SmallVec;

use super::watch::WatchedBody;
use crate::error::{Error, Result};

/// Reads a whole body of at most `bytes_max` bytes. A body that came in one piece is not copied.
///
/// # Errors
/// `TooLarge`, decided by the length header where there is one; `Cancelled` where the client stops halfway.
pub(super) async fn read(mut body: Incoming, bytes_max: usize) -> Result<Bytes> {
    let announced = body.size_hint();
    if announced.lower() > bytes_max as u64 {
        return Err(too_large(announced.lower(), bytes_max));
    }
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() || announced.exact() == Some(first.len() as u64) {
        return if first.len() > bytes_max { Err(too_large(first.len() as u64, bytes_max)) } else { Ok(first) };
    }
    // The lower bound is the announced length, which is within the limit, or zero for a chunked body.
    let mut whole = BytesMut::with_capacity((announced.lower() as usize).max(first.len()));
    whole.extend_from_slice(&first);
    while let Some(data) = next(&mut body).await? {
        if whole.len() + data.len() > bytes_max {
            return Err(too_large((whole.len() + data.len()) as u64, bytes_max));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| Error::cancelled("the request body ended early").with_source(cause))?;
        // Trailers are of no use to us.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
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
    /// Either, counted on its way.
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
            Self::Watched(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Segments(segments) => segments.is_empty(),
            Self::Grpc(body) => body.is_end_stream(),
            Self::Watched(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Segments(segments) => SizeHint::with_exact(segments.iter().map(|segment| segment.len() as u64).sum()),
            Self::Grpc(body) => body.size_hint(),
            Self::Watched(body) => body.size_hint(),
        }
    }
}
