//! Files from stores: in pieces, several at once, each tried again from where it stopped.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectStore};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::digest::NodeHasher;
use super::failure::{Class, Failure};
use super::listing::Object;
use super::partial::Partial;
use super::retry::{RetryPolicy, random};
use super::throttle::Throttle;
use crate::telemetry::StorageMetrics;

/// Bytes that have to come within [`Patience::stall`]: a store that sends less is not one to wait for, and holds a place that
/// another request could have.
const STALL_BYTES: usize = 64 << 10;

/// How long and how often a store is asked.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// When requests are made again.
    pub(super) policy: RetryPolicy,
    /// How long an answer may take to begin, and 64 KiB of it to come. Default 30 s.
    pub(super) stall: Duration,
    /// Counts what is made again.
    pub(super) metrics: Arc<StorageMetrics>,
}

impl Patience {
    /// Does `work` until it succeeds or fails for good.
    pub(super) async fn through<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        place: impl fmt::Display,
        work: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut failures = 0;
        loop {
            match work().await {
                Err(failure) if failure.is_transient() => {
                    failures += 1;
                    self.pause(&place, failures, failure).await?;
                }
                done => return done,
            }
        }
    }

    /// Waits before the next try; the failure itself where there is none.
    async fn pause(&self, place: impl fmt::Display, failures: u32, failure: Failure) -> Result<(), Failure> {
        let Class::Transient { after } = failure.class else { return Err(failure) };
        match self.policy.pause(failures, after, random()) {
            Some(pause) => {
                tracing::debug!(%place, failures, ?pause, "asked again: {failure}");
                self.metrics.count_retry();
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(Failure { message: format!("{} ({failures} tries)", failure.message), ..failure }),
        }
    }

    /// The beginning of an answer.
    pub(super) async fn answer<T>(
        &self,
        place: impl fmt::Display,
        asked: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.stall, asked).await {
            Ok(answer) => answer.map_err(|error| Failure::of(place, &error)),
            Err(_) => Err(self.stalled(place)),
        }
    }

    /// What comes next of an answer.
    pub(super) async fn next<T>(
        &self,
        place: impl fmt::Display,
        stream: &mut BoxStream<'_, object_store::Result<T>>,
    ) -> Result<Option<T>, Failure> {
        match tokio::time::timeout(self.stall, stream.try_next()).await {
            Ok(next) => next.map_err(|error| Failure::of(place, &error)),
            Err(_) => Err(self.stalled(place)),
        }
    }

    fn stalled(&self, place: impl fmt::Display) -> Failure {
        let message = format!("{place}: less than {STALL_BYTES} bytes came within {:?}", self.stall);
        Failure::new(Class::Transient { after: None }, message)
    }
}

/// What all downloads share.
pub(super) struct Fetcher {
    /// A permit for each request under way.
    pub(super) places: Semaphore,
    pub(super) at_once: usize,
    pub(super) throttle: Throttle,
    pub(super) patience: Patience,
}

/// A file to fetch.
pub(super) struct Job {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) key: Key,
    /// What people call it.
    pub(super) place: String,
    pub(super) object: Object,
    pub(super) partial: Arc<Partial>,
}

impl Fetcher {
    /// Fetches what is missing of a file. Pieces are tasks, so that what a connection reads is hashed and written where it is in a
    /// core's cache; they end with this future.
    ///
    /// # Errors
    /// `Changed` where the object is no longer the one listed.
    pub(super) async fn fetch(self: &Arc<Self>, job: &Arc<Job>) -> Result<(), Failure> {
        let mut waiting = job.partial.missing().into_iter();
        let mut running = JoinSet::new();
        let begin = |running: &mut JoinSet<_>, piece| {
            let (this, job) = (Arc::clone(self), Arc::clone(job));
            running.spawn(async move { this.piece(&job, piece).await });
        };
        // Not all at once: a large file has thousands of pieces, and each of them would be a task.
        waiting.by_ref().take(self.at_once).for_each(|piece| begin(&mut running, piece));
        while let Some(done) = running.join_next().await {
            match done {
                Ok(Ok(())) => waiting.by_ref().take(1).for_each(|piece| begin(&mut running, piece)),
                Ok(Err(failure)) if failure.class == Class::NoRanges => {
                    running.shutdown().await;
                    return self.whole(job).await;
                }
                Ok(Err(failure)) => return Err(failure),
                Err(ended) => return Err(Failure::new(Class::Wrong, format!("{}: {ended}", job.place))),
            }
        }
        Ok(())
    }

    /// A piece, from where the last try stopped.
    async fn piece(&self, job: &Job, piece: usize) -> Result<(), Failure> {
        let range = job.partial.range(piece);
        let mut hasher = NodeHasher::at(range.start);
        let mut writing = Writing { at: range.start, end: range.end, hasher: Some(&mut hasher) };
        let mut failures = 0;
        loop {
            let before = writing.at;
            let place = self.places.acquire().await;
            let failure = match self.read(job, &mut writing, job.partial.pieces() > 1).await {
                Ok(()) => break,
                Err(failure) if !failure.is_transient() => return Err(failure),
                Err(failure) => failure,
            };
            drop(place);
            failures = if writing.at > before { 1 } else { failures + 1 };
            self.patience.pause(&job.place, failures, failure).await?;
        }
        job.partial.complete(piece, &hasher).map_err(|cause| Failure::disk(&job.place, &cause))
    }

    /// All of a file in one answer, for servers that send no parts: from the start with each try.
    async fn whole(&self, job: &Job) -> Result<(), Failure> {
        let mut failures = 0;
        loop {
            let place = self.places.acquire().await;
            let mut writing = Writing { at: 0, end: job.object.bytes, hasher: None };
            match self.read(job, &mut writing, false).await {
                Ok(()) => break,
                Err(failure) => {
                    drop(place);
                    failures += 1;
                    self.patience.pause(&job.place, failures, failure).await?;
                }
            }
        }
        job.partial.complete_all().map_err(|cause| Failure::disk(&job.place, &cause))
    }

    /// One answer, written where it belongs.
    async fn read(&self, job: &Job, writing: &mut Writing<'_>, ranged: bool) -> Result<(), Failure> {
        let Job { store, key, place, object, .. } = job;
        let range = (ranged || writing.at > 0).then_some(GetRange::Bounded(writing.at..writing.end));
        if writing.at == writing.end {
            return Ok(());
        }
        let options = GetOptions { range, if_match: strong(&object.tag), ..GetOptions::default() };
        let got = self.patience.answer(place, store.get_opts(key, options)).await?;
        let other_tag =
            matches!((&got.meta.e_tag, &object.tag), (Some(now), Some(listed)) if bare(now) != bare(listed));
        if got.meta.size != object.bytes || other_tag {
            return Err(Failure::new(Class::Changed, format!("{place}: it has changed since it was listed")));
        }
        let mut body = got.into_stream();
        let mut window = (Duration::ZERO, 0);
        while writing.at < writing.end {
            let asked = Instant::now();
            let Some(chunk) = self.patience.next(place, &mut body).await? else {
                let message = format!("{place}: it ended {} bytes early", writing.end - writing.at);
                return Err(Failure::new(Class::Transient { after: None }, message));
            };
            // Of the store's time alone, not of what the bound on bytes per second takes.
            window.0 += asked.elapsed();
            self.write(job, writing, chunk, &mut window.1).await?;
            if window.0 >= self.patience.stall {
                if window.1 < STALL_BYTES && writing.at < writing.end {
                    return Err(self.patience.stalled(place));
                }
                window = (Duration::ZERO, 0);
            }
        }
        Ok(())
    }

    async fn write(&self, job: &Job, writing: &mut Writing<'_>, chunk: Bytes, came: &mut usize) -> Result<(), Failure> {
        let left = usize::try_from(writing.end - writing.at).unwrap_or(usize::MAX);
        if chunk.len() > left {
            let message = format!("{}: more bytes came than were asked for", job.place);
            return Err(Failure::new(Class::Transient { after: None }, message));
        }
        job.partial.write(writing.at, &chunk).map_err(|cause| Failure::disk(&job.place, &cause))?;
        if let Some(hasher) = &mut writing.hasher {
            hasher.update(&chunk);
        }
        writing.at += chunk.len() as u64;
        *came += chunk.len();
        self.patience.metrics.add_fetched(chunk.len() as u64);
        self.throttle.take(chunk.len()).await;
        Ok(())
    }
}

/// How far a piece is.
struct Writing<'a> {
    at: u64,
    end: u64,
    /// Of a piece. A file that comes in one answer is read again for those of its pieces.
    hasher: Option<&'a mut NodeHasher>,
}

/// A tag that `If-Match` can ask for: weak ones never match (RFC 9110, 13.1.1), and all stand in quotes, which listings of some
/// stores leave out.
fn strong(tag: &Option<String>) -> Option<String> {
    tag.as_ref().filter(|tag| !tag.starts_with("W/")).map(|tag| format!("\"{}\"", bare(tag)))
}

/// A tag without what differs between a listing and an answer.
fn bare(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_asked_for_in_quotes_and_weak_ones_are_not() {
        for (listed, asked) in [("\"a\"", Some("\"a\"")), ("0x8D", Some("\"0x8D\"")), ("W/\"a\"", None)] {
            assert_eq!(strong(&Some(listed.into())).as_deref(), asked);
        }
        assert_eq!((bare("\"a==\""), bare("a=="), bare("W/\"a==\"")), ("a==", "a==", "a=="));
    }
}
