//! One call on its HTTP/2 stream, and the judgement on how it ended.

use super::hpack::Outcome;
use crate::engine::protocol::Failure;

/// Bytes of a gRPC message prefix: the compression flag and the length.
const PREFIX: usize = 5;

/// A call in flight.
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) started: u64,
    /// Which of the rotating messages it sends, and how much of it has been sent.
    pub(super) message: usize,
    pub(super) sent: usize,
    /// What the server still takes on this stream.
    pub(super) window: i64,
    fields: Outcome,
    prefix: [u8; PREFIX],
    received: u64,
}

impl Stream {
    pub(super) fn new(id: u32, started: u64, message: usize, window: i64) -> Self {
        let fields = Outcome::default();
        Self { id, started, message, sent: 0, window, fields, prefix: [0; PREFIX], received: 0 }
    }

    /// Takes what a header block said; trailers add to the head.
    pub(super) fn headers(&mut self, fields: Outcome) {
        self.fields.status = fields.status.or(self.fields.status);
        self.fields.grpc = fields.grpc.or(self.fields.grpc);
    }

    /// Takes a piece of the answer, of which only the prefix is kept.
    pub(super) fn take(&mut self, content: &[u8]) {
        let at = self.received.min(PREFIX as u64) as usize;
        let count = content.len().min(PREFIX - at);
        self.prefix[at..at + count].copy_from_slice(&content[..count]);
        self.received += content.len() as u64;
    }

    /// Bytes of the answer's message.
    pub(super) fn message_bytes(&self) -> u64 {
        self.received.saturating_sub(PREFIX as u64)
    }

    /// The judgement once the stream has ended.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match (self.fields.status, self.fields.grpc) {
            (Some(200), Some(0)) => {}
            (_, Some(code)) if code != 0 => return Err(Failure::Grpc(code)),
            (Some(200), None) => return Err(Failure::Protocol("no grpc-status")),
            (Some(status), _) => return Err(Failure::Status(status)),
            (None, _) => return Err(Failure::Protocol("no :status")),
        }
        let [flag, length @ ..] = self.prefix;
        let whole = self.received == PREFIX as u64 + u64::from(u32::from_be_bytes(length));
        if flag == 0 && whole { Ok(()) } else { Err(Failure::Protocol("not one whole message")) }
    }
}
