//! The body of a stream of gRPC messages: quiet between them for as long as its client likes, bounded within each.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::{Slowness, broken};
use super::bounds::{Buffered, Charge};
use crate::error::Error;
use crate::protocol::status;

/// Bytes before each message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// Where in its messages a stream is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Of the message that has begun.
    received: usize,
    length: usize,
}

impl Position {
    /// Goes on over `data`; gives whether a message ended.
    fn advance(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        while let Some((&first, rest)) = data.split_first() {
            if self.prefix_bytes < PREFIX_BYTES {
                self.prefix[self.prefix_bytes] = first;
                self.prefix_bytes += 1;
                data = rest;
                let [_, length @ ..] = self.prefix;
                self.length = u32::from_be_bytes(length) as usize;
            } else {
                let taken = data.len().min(self.length - self.received);
                self.received += taken;
                data = &data[taken..];
            }
            if self.prefix_bytes == PREFIX_BYTES && self.received == self.length {
                *self = Self::default();
                ended = true;
            }
        }
        ended
    }

    fn within_a_message(&self) -> bool {
        self.prefix_bytes > 0
    }
}

/// What tonic reads of a stream of messages.
pub(super) struct MessagesBody {
    body: Incoming,
    position: Position,
    buffered: Arc<Buffered>,
    charge: Charge<Arc<Buffered>>,
    slow: Slowness,
}

impl MessagesBody {
    pub(super) fn new(body: Incoming, buffered: Arc<Buffered>, patience: Duration) -> Self {
        let charge = Charge::of(Arc::clone(&buffered));
        Self { body, position: Position::default(), buffered, charge, slow: Slowness::new(patience) }
    }

    fn came(&mut self, data: &[u8]) -> Result<(), Error> {
        if self.position.advance(data) {
            // It is decoded now, and counts as a request from then on.
            self.charge = Charge::of(Arc::clone(&self.buffered));
            self.slow.over();
        }
        self.charge.raise(self.position.received)
    }
}

impl Body for MessagesBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        let outcome = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => this.came(frame.data_ref().map_or(&[], |data| data)).map(|()| frame),
            Poll::Ready(Some(Err(cause))) => Err(broken(cause)),
            Poll::Pending if this.position.within_a_message() => {
                Err(std::task::ready!(this.slow.poll(this.position.received, context)))
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Some(outcome.map_err(|error| status::to_grpc(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_their_bytes_come() {
        let sent = [&[0, 0, 0, 0, 3, 7, 7, 7, 1, 0, 0, 0, 0][..], &[0, 0, 0, 1, 0], &[9; 256]].concat();
        for piece in 1..sent.len() {
            let mut position = Position::default();
            let ended = sent.chunks(piece).filter(|data| position.advance(data)).count();
            assert_eq!(position, Position::default(), "in pieces of {piece}");
            assert!((1..=3).contains(&ended));
        }
        let mut position = Position::default();
        assert!(!position.advance(&sent[..1]) && position.within_a_message());
        assert!(!position.advance(&sent[1..7]) && position.received == 2);
        assert!(position.advance(&sent[7..8]) && !position.within_a_message());
    }
}
