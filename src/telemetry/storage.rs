//! What is fetched from storage, and kept of it on disk.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::text::Text;
use crate::contract::metrics as names;

/// Counters of one server. All are plain numbers: nothing is published with them.
#[derive(Debug, Default)]
pub struct StorageMetrics {
    requests: AtomicU64,
    retries: AtomicU64,
    fetched_bytes: AtomicU64,
    resumed_bytes: AtomicU64,
    remaining_bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    cache_bytes: AtomicU64,
    used: AtomicU64,
}

impl StorageMetrics {
    /// Counts a request to a store.
    pub fn count_request(&self) {
        self.used.store(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// Counts a request that is made again.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// Counts bytes of files that came, of those announced.
    pub fn add_fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Relaxed);
        self.done(bytes);
    }

    /// Counts bytes of a file that an earlier download left.
    pub fn add_resumed(&self, bytes: u64) {
        self.resumed_bytes.fetch_add(bytes, Relaxed);
    }

    /// Announces bytes that are to be fetched.
    pub fn announce(&self, bytes: u64) {
        self.remaining_bytes.fetch_add(bytes, Relaxed);
    }

    /// Takes back what was announced and does not come, or came.
    pub fn done(&self, bytes: u64) {
        // Bytes that came twice were announced once.
        let _ = self.remaining_bytes.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
    }

    /// Counts a file that was in the cache, or was not.
    pub fn count_lookup(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
    }

    /// Counts models that the cache let go to make room.
    pub fn count_evicted(&self) {
        self.evicted.fetch_add(1, Relaxed);
    }

    /// Notes what the cache takes on disk.
    pub fn set_cache_bytes(&self, bytes: u64) {
        self.used.store(1, Relaxed);
        self.cache_bytes.store(bytes, Relaxed);
    }

    /// Bytes of files that came, all together.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Relaxed)
    }

    /// Bytes that are to be fetched yet.
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes.load(Relaxed)
    }

    /// Nothing where no storage is used.
    pub(super) fn write(&self, text: &mut Text) {
        if self.used.load(Relaxed) == 0 {
            return;
        }
        let counters = [
            (names::STORAGE_REQUESTS, "Requests to stores", &self.requests),
            (names::STORAGE_RETRIES, "Requests to stores made again", &self.retries),
            (names::STORAGE_FETCHED, "Bytes of files that came from stores", &self.fetched_bytes),
            (names::STORAGE_RESUMED, "Bytes that were there from a download that was broken off", &self.resumed_bytes),
            (names::CACHE_HITS, "Files that were in the cache", &self.hits),
            (names::CACHE_MISSES, "Files that had to be fetched", &self.misses),
            (names::CACHE_EVICTIONS, "Versions that the cache let go to make room", &self.evicted),
        ];
        for (name, help, value) in counters {
            text.single(name, "counter", help, value.load(Relaxed));
        }
        text.single(names::STORAGE_REMAINING, "gauge", "Bytes to be fetched yet", self.remaining_bytes());
        text.single(names::CACHE_BYTES, "gauge", "What the cache takes on disk", self.cache_bytes.load(Relaxed));
    }
}
