//! A request and its answer, as they passed by.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use tokio::time::Instant;

use super::super::table::Shadow;
use super::{EXCHANGE_MAX, HELD_MAX};

/// What the copies of one exchange take of the room that there is for all.
pub(super) struct Room {
    held: Arc<AtomicUsize>,
    own: AtomicUsize,
}

impl Room {
    pub(super) fn new(held: Arc<AtomicUsize>) -> Self {
        Self { held, own: AtomicUsize::new(0) }
    }

    /// Takes so much, if it is there.
    fn take(&self, bytes: usize) -> bool {
        let own = self.own.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        own <= EXCHANGE_MAX && held <= HELD_MAX
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// Bytes that passed by; copied rather than shared, since a slice of a connection's buffer would keep all of it.
#[derive(Default)]
pub(super) struct Copy {
    bytes: BytesMut,
    /// There was no room for some of it.
    is_cut: bool,
    /// All of it has passed by.
    has_ended: bool,
    pub(super) trailers: Option<HeaderMap>,
}

impl Copy {
    pub(super) fn add(&mut self, data: &[u8], room: &Room) {
        if self.is_cut {
            return;
        }
        if room.take(data.len()) {
            self.bytes.extend_from_slice(data);
        } else {
            self.is_cut = true;
            self.bytes = BytesMut::new();
        }
    }

    /// The answer that this is, with the headers before it.
    pub(super) fn whole(self, headers: &HeaderMap) -> Option<Answered> {
        let (headers, trailers) = (headers.clone(), self.trailers.unwrap_or_default());
        (!self.is_cut).then(|| Answered { headers, trailers, body: self.bytes.freeze() })
    }
}

/// An answer.
pub(super) struct Answered {
    pub(super) headers: HeaderMap,
    pub(super) trailers: HeaderMap,
    pub(super) body: Bytes,
}

/// A request of the sample.
pub(super) struct Exchange {
    pub(super) shadow: Arc<Shadow>,
    pub(super) is_grpc: bool,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    request: Mutex<Copy>,
    room: Room,
    began: Instant,
}

impl Exchange {
    pub(super) fn new(shadow: Arc<Shadow>, is_grpc: bool, head: &Parts, room: Room) -> Self {
        let path = head.uri.path_and_query().map_or("/", |own| own.as_str()).to_owned();
        let (headers, began) = (head.headers.clone(), Instant::now());
        Self { shadow, is_grpc, path, headers, request: Mutex::default(), room, began }
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// A piece of the request has passed by.
    pub(super) fn sent(&self, data: &[u8]) {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).add(data, &self.room);
    }

    /// The request's body, where all of it was copied.
    pub(super) fn request(&self) -> Option<Bytes> {
        let copy = std::mem::take(&mut *self.request.lock().unwrap_or_else(PoisonError::into_inner));
        (copy.has_ended && !copy.is_cut).then(|| copy.bytes.freeze())
    }

    /// All of the request has passed by.
    pub(super) fn sent_all(&self) {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
    }

    /// How long the live revision has taken up to now.
    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stay_within_the_room_of_one_and_of_all_and_give_it_back() {
        let held: Arc<AtomicUsize> = Arc::default();
        let (first, second) = (Room::new(held.clone()), Room::new(held.clone()));
        let mut copy = Copy::default();
        copy.add(b"abc", &first);
        assert_eq!(copy.whole(&HeaderMap::new()).map(|own| own.body), Some(Bytes::from_static(b"abc")));
        let mut large = Copy::default();
        large.add(&vec![0; EXCHANGE_MAX], &second);
        large.add(b"x", &second);
        assert!(large.is_cut && large.bytes.is_empty() && large.whole(&HeaderMap::new()).is_none());
        held.fetch_add(HELD_MAX, Ordering::Relaxed);
        let mut late = Copy::default();
        late.add(b"x", &first);
        assert!(late.is_cut);
        held.fetch_sub(HELD_MAX, Ordering::Relaxed);
        drop((first, second));
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
