//! What went wrong with storage, told by what can be done about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::error::{Error, Kind};

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may be over soon: a connection that broke, a server that is busy or slow.
    Transient {
        /// After how long the server wants to be asked again.
        after: Option<Duration>,
    },
    /// There is no such object, or no such store.
    Missing,
    /// Credentials are missing or wrong, or do not allow this.
    Refused,
    /// The object is another one than was listed.
    Changed,
    /// The server cannot send a part of an object.
    NoRanges,
    /// A request that will fail however often it is made.
    Wrong,
    /// The bytes are not those that their digest says.
    Damaged,
    /// A bound of ours.
    TooLarge,
    /// This machine's disk.
    Disk,
}

/// A failure and its message.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What can be done about it.
    pub class: Class,
    /// Names the object.
    pub message: String,
}

impl Failure {
    /// A failure of `class`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// A failure of this machine's disk, while doing `what`.
    pub fn disk(what: impl fmt::Display, cause: &io::Error) -> Self {
        let full = cause.raw_os_error() == Some(libc::ENOSPC);
        let hint = if full { "; make room, lower --cache-bytes-max or name another --cache-dir" } else { "" };
        Self::new(Class::Disk, format!("{what}: {cause}{hint}"))
    }

    /// Whether another try may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.class, Class::Transient { .. })
    }

    /// Whether the storage cannot be asked now, which says nothing about what it holds.
    pub fn is_outage(&self) -> bool {
        self.is_transient()
    }

    /// What object_store says of the object at `place`.
    pub(super) fn of(place: impl fmt::Display, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let class = match error {
            E::NotFound { .. } => Class::Missing,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Class::Refused,
            E::Precondition { .. } | E::NotModified { .. } => Class::Changed,
            E::NotSupported { .. } => Class::NoRanges,
            E::Generic { .. } => class_of(error),
            _ => Class::Wrong,
        };
        let why = match class {
            Class::Missing => "there is no such object, or no such bucket".to_owned(),
            Class::Refused => format!("access is refused: check the credentials in the environment ({})", root(error)),
            Class::Changed => "it has changed since it was listed".to_owned(),
            Class::NoRanges => "the server sends no parts of files".to_owned(),
            _ => root(error),
        };
        Self::new(class, format!("{place}: {why}"))
    }
}

/// An answer that says that a request failed, as [`super::connector`] notes it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) after: Option<Duration>,
    /// The beginning of what the server said.
    pub(super) said: String,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers with status {}", self.status)?;
        if self.said.is_empty() { Ok(()) } else { write!(f, ": {}", self.said) }
    }
}

impl StdError for Answered {}

impl Answered {
    /// Statuses that another try may help against: time-outs, too many requests, and servers' own errors but those that say
    /// that something is not there to be asked for.
    fn class(&self) -> Class {
        match self.status {
            401 | 403 | 407 => Class::Refused,
            404 | 410 => Class::Missing,
            412 => Class::Changed,
            408 | 425 | 429 => Class::Transient { after: self.after },
            501 | 505 => Class::Wrong,
            500..=599 => Class::Transient { after: self.after },
            _ => Class::Wrong,
        }
    }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let next = |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    };
    std::iter::successors(Some(error), next)
}

/// What can be done about an error that object_store has no word for.
fn class_of(error: &(dyn StdError + 'static)) -> Class {
    if let Some(answered) = chain(error).find_map(|cause| cause.downcast_ref::<Answered>()) {
        return answered.class();
    }
    // Certificates that are not trusted stay so.
    if chain(error).any(|cause| cause.to_string().contains("invalid peer certificate")) {
        return Class::Wrong;
    }
    let connection =
        |cause: &(dyn StdError + 'static)| cause.is::<object_store::client::HttpError>() || cause.is::<io::Error>();
    if chain(error).any(connection) { Class::Transient { after: None } } else { Class::Wrong }
}

/// The cause at the bottom, which is the one that says something.
fn root(error: &(dyn StdError + 'static)) -> String {
    /// Bodies of answers may be long.
    const SHOWN_BYTES: usize = 300;
    let causes: Vec<String> = chain(error).map(ToString::to_string).collect();
    let mut text = causes.last().cloned().unwrap_or_default().replace(['\n', '\r'], " ");
    if let Some(end) = (0..=SHOWN_BYTES).rev().find(|&end| text.is_char_boundary(end)).filter(|&end| end < text.len()) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

/// To the one who waits for the model.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.class {
            Class::TooLarge => Kind::TooLarge,
            _ => Kind::ModelUnavailable,
        };
        let error = Error::new(kind, failure.message);
        match failure.class {
            Class::Transient { after: Some(after) } => error.with_retry_after(after),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: Box::new(source) }
    }

    #[test]
    fn only_what_may_be_over_soon_is_tried_again() {
        for (status, transient) in [
            (400, false),
            (408, true),
            (416, false),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            let answered = Answered { status, after: Some(Duration::from_secs(1)), said: "x".into() };
            let failure = Failure::of("s3://b/k", &generic(answered));
            assert_eq!(failure.is_transient(), transient, "{status}");
            assert!(failure.message.starts_with("s3://b/k: ") && failure.message.contains(&status.to_string()));
        }
        assert!(Failure::of("k", &generic(io::Error::from(io::ErrorKind::ConnectionReset))).is_transient());
        assert!(!Failure::of("k", &generic(fmt::Error)).is_transient());
    }
}
