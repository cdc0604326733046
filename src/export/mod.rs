//! What leaves the server beside its answers: access lines, spans, payloads.
//!
//! Each sink has a bounded queue and never makes a request wait: what does not fit is dropped and counted. Receivers are
//! spoken to over plain HTTP/1.1, as a collector beside the server is; encryption is such a collector's business.

mod access;
mod clock;
mod cloud_events;
mod otlp;
mod post;
mod queue;
mod trace_files;

pub use access::{AccessLine, AccessLog};
pub use clock::Clock;
pub use cloud_events::{Payload, PayloadKind, PayloadLog, PayloadMode, PayloadOrigin};
pub use otlp::{Span, SpanId, TraceContext, TraceId, Tracer};
pub use post::{Endpoint, EndpointFault};
pub use trace_files::{FileTrace, TraceFiles};
