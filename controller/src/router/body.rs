//! Bodies that have to be read whole: within a bound of each, and one of all that are held at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::HeaderMap;

/// One body: the server's own default bound.
pub const BODY_MAX: usize = 64 << 20;
/// All bodies held at once: half of the memory that a router's pod has.
pub const HELD_MAX: usize = 128 << 20;

/// How long a body is read on that was refused: what a caller needs to see that it was.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What all bodies take together.
#[derive(Debug, Clone)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    max: usize,
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// Above the bound of one.
    TooLarge,
    /// Above the bound of all.
    NoRoom,
    /// The connection ended before it.
    Broken(String),
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the body has more than {BODY_MAX} bytes, which is the most that is possible"),
            Self::NoRoom => write!(f, "the bodies that are held take all of their room; try again"),
            Self::Broken(error) => write!(f, "the body ended early: {error}"),
        }
    }
}

/// Bytes that count as long as anybody has them.
struct Counted {
    bytes: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Place {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// Of `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { held: Arc::default(), max }
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Counts bytes that were made here, of what was read.
    ///
    /// # Errors
    /// If all bodies would take more than their bound.
    pub fn keep(&self, bytes: Bytes) -> Result<Bytes, Unread> {
        let place = Place { held: self.held.clone(), bytes: bytes.len() };
        let before = self.held.fetch_add(bytes.len(), Ordering::Relaxed);
        if before + bytes.len() > self.max {
            return Err(Unread::NoRoom);
        }
        Ok(Bytes::from_owner(Counted { bytes, _place: place }))
    }

    /// Reads a body to its end. One that came in one piece is not copied.
    ///
    /// # Errors
    /// If it is above a bound, or breaks off.
    pub async fn read<B>(&self, body: &mut B) -> Result<Bytes, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        Ok(self.read_to_trailers(body).await?.0)
    }

    /// The same with what comes behind it.
    ///
    /// # Errors
    /// As [`Budget::read`].
    pub async fn read_to_trailers<B>(&self, body: &mut B) -> Result<(Bytes, HeaderMap), Unread>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.size_hint().lower() > BODY_MAX as u64 {
            return Err(Unread::TooLarge);
        }
        let mut place = Place { held: self.held.clone(), bytes: 0 };
        let (mut first, mut more, mut trailers) = (Bytes::new(), BytesMut::new(), HeaderMap::new());
        while let Some(frame) = body.frame().await {
            let data = match frame.map_err(|error| Unread::Broken(error.to_string()))?.into_data() {
                Ok(data) => data,
                Err(other) => {
                    trailers.extend(other.into_trailers().unwrap_or_default());
                    continue;
                }
            };
            if place.bytes + data.len() > BODY_MAX {
                return Err(Unread::TooLarge);
            }
            let before = self.held.fetch_add(data.len(), Ordering::Relaxed);
            place.bytes += data.len();
            if before + data.len() > self.max {
                return Err(Unread::NoRoom);
            }
            if first.is_empty() && more.is_empty() {
                first = data;
                continue;
            }
            if !first.is_empty() {
                more.extend_from_slice(&first);
                first = Bytes::new();
            }
            more.extend_from_slice(&data);
        }
        let bytes = if more.is_empty() { first } else { more.freeze() };
        Ok((Bytes::from_owner(Counted { bytes, _place: place }), trailers))
    }
}

/// Reads on what nobody wants, for a while: a caller who still sends would see a reset in place of his answer.
pub fn discard<B>(mut body: B)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    tokio::spawn(tokio::time::timeout(DISCARD_TIMEOUT, async move {
        while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
    }));
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    #[tokio::test]
    async fn bodies_count_while_anybody_has_them_and_not_above_their_room() {
        let budget = Budget::new(10);
        let pieces = [Bytes::from("abc"), Bytes::from("de")].map(|piece| Ok::<_, std::io::Error>(Frame::data(piece)));
        let first = budget.read(&mut StreamBody::new(futures_util::stream::iter(pieces))).await.unwrap();
        assert_eq!((first.as_ref(), budget.held()), (&b"abcde"[..], 5));
        let second = first.clone();
        assert_eq!(budget.read(&mut Full::from("abcdef")).await, Err(Unread::NoRoom));
        drop(first);
        assert_eq!(budget.held(), 5);
        drop(second);
        assert_eq!(budget.held(), 0);
        assert_eq!(budget.read(&mut Full::from("abcdef")).await.unwrap(), "abcdef");
        let made = budget.keep(Bytes::from("abcdef")).unwrap();
        assert_eq!((budget.keep(Bytes::from("abcde")), budget.held()), (Err(Unread::NoRoom), 6));
        drop(made);
        assert_eq!(budget.held(), 0);
        let mut large = Full::from(vec![0; BODY_MAX + 1]);
        assert_eq!(Budget::new(usize::MAX).read(&mut large).await, Err(Unread::TooLarge));
    }
}
