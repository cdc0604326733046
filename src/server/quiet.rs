//! Bodies of streams that may be quiet for as long as they like, told from those whose client takes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Activity;
use super::body::ResponseBody;

/// A body that is asked for its next frame only where the client has room for it, as hyper asks over HTTP/2. While it has
/// said that there is none yet, its stream waits for it; otherwise the stream waits for the client.
pub(super) struct QuietBody {
    inner: ResponseBody,
    activity: Arc<Activity>,
    waits: bool,
}

impl QuietBody {
    pub(super) fn new(inner: ResponseBody, activity: Arc<Activity>) -> Self {
        Self { inner, activity, waits: false }
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        self.set(frame.is_pending());
        frame
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn set(&mut self, waits: bool) {
        if std::mem::replace(&mut self.waits, waits) != waits {
            self.activity.stream_waits(waits);
        }
    }
}

impl Drop for QuietBody {
    fn drop(&mut self) {
        self.set(false);
    }
}
