//! The one error type that crosses rooms: what happened, told by what the caller can do about it.
//!
//! [`Kind`] knows nothing of HTTP or gRPC; `protocol::status` holds the one table that maps it to both. A message names
//! the thing and the limit, in lower case, and says what would be right.

use std::fmt;
use std::time::Duration;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Malformed body, wrong name, datatype, shape or element count: change the request.
    InvalidRequest,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// Credentials are right, but do not allow this.
    Forbidden,
    /// The name or version is not in the repository.
    UnknownModel,
    /// The call needs another lifecycle mode or state.
    Conflict,
    /// A body or tensor is above its limit.
    TooLarge,
    /// The queue is full or the deadline cannot be met, said at arrival: try again later.
    Overloaded,
    /// The client went away.
    Cancelled,
    /// The client took too long to send its request.
    SlowRequest,
    /// An extension or datatype that is not served.
    Unsupported,
    /// The model is loading, draining or failed to load: try again, or another replica.
    ModelUnavailable,
    /// The deadline passed in the queue or while running.
    DeadlineExceeded,
    /// The runtime failed on a valid batch.
    Execution,
    /// A bug of ours.
    Internal,
}

impl Kind {
    /// Every kind, for tables and tests.
    pub const ALL: [Kind; 14] = [
        Kind::InvalidRequest,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::UnknownModel,
        Kind::Conflict,
        Kind::TooLarge,
        Kind::Overloaded,
        Kind::Cancelled,
        Kind::SlowRequest,
        Kind::Unsupported,
        Kind::ModelUnavailable,
        Kind::DeadlineExceeded,
        Kind::Execution,
        Kind::Internal,
    ];

    /// The name under which the kind appears in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::InvalidRequest => "invalid_request",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::UnknownModel => "unknown_model",
            Kind::Conflict => "conflict",
            Kind::TooLarge => "too_large",
            Kind::Overloaded => "overloaded",
            Kind::Cancelled => "cancelled",
            Kind::SlowRequest => "slow_request",
            Kind::Unsupported => "unsupported",
            Kind::ModelUnavailable => "model_unavailable",
            Kind::DeadlineExceeded => "deadline_exceeded",
            Kind::Execution => "execution",
            Kind::Internal => "internal",
        }
    }
}

/// A failure: its kind, a message for the person who reads it, and what caused it.
///
/// One pointer wide, so that a `Result` on the request path stays small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(Kind::$kind, message) })*
    };
}

impl Error {
    /// An error of `kind` with `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), retry_after: None, source: None }))
    }

    constructors! {
        /// [`Kind::InvalidRequest`].
        invalid => InvalidRequest,
        /// [`Kind::Unauthenticated`].
        unauthenticated => Unauthenticated,
        /// [`Kind::Forbidden`].
        forbidden => Forbidden,
        /// [`Kind::UnknownModel`].
        unknown_model => UnknownModel,
        /// [`Kind::Conflict`].
        conflict => Conflict,
        /// [`Kind::TooLarge`].
        too_large => TooLarge,
        /// [`Kind::Overloaded`].
        overloaded => Overloaded,
        /// [`Kind::Cancelled`].
        cancelled => Cancelled,
        /// [`Kind::SlowRequest`].
        slow_request => SlowRequest,
        /// [`Kind::Unsupported`].
        unsupported => Unsupported,
        /// [`Kind::ModelUnavailable`].
        unavailable => ModelUnavailable,
        /// [`Kind::DeadlineExceeded`].
        deadline_exceeded => DeadlineExceeded,
        /// [`Kind::Execution`].
        execution => Execution,
        /// [`Kind::Internal`].
        internal => Internal,
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says after how long another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The message, without its sources.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// After how long another try makes sense, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

/// A copy for each request of a failed batch; the source, which cannot be copied, becomes part of the message.
impl Clone for Error {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.kind(), self.0.message.clone());
        copy.0.retry_after = self.0.retry_after;
        copy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as _)
    }
}
