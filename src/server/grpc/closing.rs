//! Streams that never end of themselves, ended on the way down.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame};
use pin_project_lite::pin_project;
use tonic::Status;

use crate::server::Drain;
use crate::server::body::ResponseBody;
use crate::server::drain::Phase;

/// Why a stream ends on the way down: the client may go on elsewhere.
pub(super) fn going_down() -> Status {
    Status::unavailable("the server is shutting down")
}

/// `response`, ended with [`going_down`] where it waits for something when the doors close: else whoever watches would keep
/// the server from stopping.
pub(super) fn until_closing(response: Response<tonic::body::Body>, drain: &Drain) -> Response<ResponseBody> {
    let drain = drain.clone();
    let closing = Box::pin(async move { drain.reached(Phase::Closing).await });
    response.map(|body| ResponseBody::Grpc(tonic::body::Body::new(UntilClosing { body, closing, ended: false })))
}

pin_project! {
    struct UntilClosing {
        #[pin]
        body: tonic::body::Body,
        closing: BoxFuture<'static, ()>,
        ended: bool,
    }
}

impl Body for UntilClosing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let frame = this.body.poll_frame(context);
        if frame.is_pending() && this.closing.as_mut().poll(context).is_ready() {
            *this.ended = true;
            let mut trailers = HeaderMap::new();
            going_down().add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
