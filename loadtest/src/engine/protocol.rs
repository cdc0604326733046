//! What the engine needs to know of a protocol, and the words for how a request can end.

use std::fmt;

/// Why a request did not succeed. Ordered, so that a report lists failures in a fixed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// An HTTP status other than 2xx.
    Status(u16),
    /// A gRPC status other than OK.
    Grpc(u32),
    /// The peer closed the connection under a request.
    Closed,
    /// The peer reset the HTTP/2 stream with this error code.
    Reset(u32),
    /// The peer broke the protocol, or answered without what makes an answer complete.
    Protocol(&'static str),
    /// A connection could not be opened.
    Connect,
    /// No answer until the end of the run and the time allowed for stragglers.
    Unanswered,
    /// Open loop only: the request was due, but every connection was busy until the end.
    Unsent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "http {code}"),
            Self::Grpc(code) => write!(f, "grpc {code}"),
            Self::Closed => f.write_str("connection closed"),
            Self::Reset(code) => write!(f, "stream reset {code}"),
            Self::Protocol(what) => write!(f, "protocol: {what}"),
            Self::Connect => f.write_str("connect failed"),
            Self::Unanswered => f.write_str("unanswered"),
            Self::Unsent => f.write_str("unsent"),
        }
    }
}

/// A request that came to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    /// The start that was given to [`Protocol::send`], nanoseconds.
    pub(crate) started: u64,
    /// How it ended.
    pub(crate) outcome: Result<(), Failure>,
    /// Bytes of the answer's body or message.
    pub(crate) bytes: u64,
}

/// The client side of one connection: turns requests into bytes, and bytes into ended requests. No I/O in here.
pub(crate) trait Protocol {
    /// Appends what a fresh connection says first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// How many more requests may be started now.
    fn room(&self) -> usize;

    /// How many requests wait for their answer.
    fn in_flight(&self) -> usize;

    /// Starts a request: the `which`-th of the rotating bodies, counted as begun at `started` nanoseconds.
    fn send(&mut self, which: usize, started: u64, out: &mut Vec<u8>);

    /// Takes received bytes and returns how many were used up; the rest comes again with more behind it. An error
    /// ends the connection and every request in flight on it.
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<usize, Failure>;

    /// The peer announced that it takes no further request here.
    fn retired(&self) -> bool;

    /// Gives up every request in flight, for a connection that is lost or a run that is over.
    fn abandon(&mut self, failure: Failure, done: &mut Vec<Done>);
}
