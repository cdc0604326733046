//! HTTP/2 streams, run by the task of their connection.
//!
//! Spawned as tasks of their own, the streams of a connection would each wake the connection's task with their answer, and
//! it would write them one by one. Here one task polls the connection, then every stream that can go on, then the connection
//! again: answers that are ready together leave in one write, and a stream costs no spawn. A stream only decodes, waits and
//! encodes, so it does not keep the connection from its work.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};
use hyper::rt::Executor;
use pin_project_lite::pin_project;

use super::activity::Activity;

type StreamFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams that hyper starts until [`WithStreams`] runs them.
#[derive(Clone, Default)]
pub(super) struct StreamQueue {
    started: Arc<Mutex<Vec<StreamFuture>>>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamQueue {
    fn execute(&self, stream: F) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

pin_project! {
    /// A connection with its streams. Resolves when the connection does; streams that are left then have no client.
    pub(super) struct WithStreams<C> {
        #[pin]
        connection: C,
        queue: StreamQueue,
        running: FuturesUnordered<StreamFuture>,
        activity: Arc<Activity>,
    }
}

impl<C> WithStreams<C> {
    pub(super) fn new(connection: C, queue: StreamQueue, activity: Arc<Activity>) -> Self {
        Self { connection, queue, running: FuturesUnordered::new(), activity }
    }

    /// The connection, to ask it to shut down.
    pub(super) fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future> Future for WithStreams<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(ended) = this.connection.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            let started = {
                let mut started = this.queue.started.lock().unwrap_or_else(PoisonError::into_inner);
                let any = !started.is_empty();
                this.running.extend(started.drain(..));
                any
            };
            let mut answered = false;
            while let Poll::Ready(Some(())) = Pin::new(&mut *this.running).poll_next(context) {
                answered = true;
            }
            // What streams did may have given the connection something to write, and answers make room for new streams.
            if !answered && !started {
                // A stream is open until its body has ended, however quiet it is.
                this.activity.streams_open(this.running.len());
                return Poll::Pending;
            }
        }
    }
}
