//! What goes through the doors: connections, and requests by protocol and status.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::text::Text;
use crate::contract::metrics as names;

/// HTTP statuses are 100 to 599.
const HTTP_FIRST: u16 = 100;

/// The codes of gRPC by number.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Why a connection was ended early, see [`names::CONNECTIONS_ENDED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// No request for too long.
    Idle,
    /// A head that did not end.
    HeadTimeout,
    /// An answer that its client did not take.
    AnswerTimeout,
    /// Others came, and the bound on connections or descriptors was met.
    Room,
    /// An HTTP/2 client that floods or breaks the protocol.
    Protocol,
}

/// Their names, in order.
const ENDS: [&str; 5] = ["idle", "head_timeout", "answer_timeout", "room", "protocol"];

/// Counters that are found by their number: no label is looked up for a request.
pub struct DoorMetrics {
    http: [AtomicU64; 500],
    grpc: [AtomicU64; 17],
    connections: AtomicI64,
    ended: [AtomicU64; ENDS.len()],
    accept_failures: AtomicU64,
}

impl Default for DoorMetrics {
    fn default() -> Self {
        Self {
            http: std::array::from_fn(|_| AtomicU64::new(0)),
            grpc: std::array::from_fn(|_| AtomicU64::new(0)),
            connections: AtomicI64::new(0),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            accept_failures: AtomicU64::new(0),
        }
    }
}

impl DoorMetrics {
    /// Counts an HTTP answer.
    pub fn count_http(&self, status: u16) {
        if let Some(counter) = self.http.get(usize::from(status.wrapping_sub(HTTP_FIRST))) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts a gRPC answer by its code.
    pub fn count_grpc(&self, code: usize) {
        if let Some(counter) = self.grpc.get(code) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Notes that a connection was opened, or closed.
    pub fn connection(&self, opened: bool) {
        self.connections.fetch_add(if opened { 1 } else { -1 }, Relaxed);
    }

    /// Counts a connection that was ended early.
    pub fn ended(&self, why: ConnectionEnd) {
        self.ended[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn write(&self, text: &mut Text) {
        let name = names::DOOR_REQUESTS;
        text.family(name, "counter", "Requests answered at the doors");
        for (index, counter) in self.http.iter().enumerate() {
            let count = counter.load(Relaxed);
            if count > 0 {
                let status = (index + usize::from(HTTP_FIRST)).to_string();
                text.sample(name, &[("protocol", "http"), ("status", &status)], count);
            }
        }
        for (status, counter) in GRPC.iter().zip(&self.grpc) {
            let count = counter.load(Relaxed);
            if count > 0 {
                text.sample(name, &[("protocol", "grpc"), ("status", status)], count);
            }
        }
        let help = "Connections open, at both ports";
        text.single(names::CONNECTIONS, "gauge", help, self.connections.load(Relaxed));
        text.family(names::CONNECTIONS_ENDED, "counter", "Connections ended early, by reason");
        for (reason, counter) in ENDS.iter().zip(&self.ended) {
            text.sample(names::CONNECTIONS_ENDED, &[("reason", reason)], counter.load(Relaxed));
        }
        let help = "Connections that could not be accepted for want of descriptors or memory";
        text.single(names::ACCEPT_FAILURES, "counter", help, self.accept_failures.load(Relaxed));
    }
}
