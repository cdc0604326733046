//! Stamps a request's deadline, and answers when it passes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

use super::InferService;
use crate::error::{Error, Result};
use crate::infer::{InferRequest, InferResponse, ParameterValue};

/// The request parameter that sets a time-out, in microseconds (Triton's schedule policy extension).
const TIMEOUT: &str = "timeout";

/// Makes [`Deadline`].
#[derive(Default)]
pub struct DeadlineLayer {}

impl DeadlineLayer {
    /// Requests without a deadline or `timeout` parameter have all the time there is.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// See the module. Giving up drops the future below, which takes the request out of its queue.
#[derive(Clone)]
pub struct Deadline<S> {
    inner: S,
}

impl<S: InferService> Service<InferRequest> for Deadline<S> {
    type Response = InferResponse;
    type Error = Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: InferRequest) -> Self::Future {
        // Taken out, since requests that differ in what is left are not joined into one batch.
        match request.parameters.remove(TIMEOUT).as_ref().map(microseconds).transpose() {
            Ok(asked) => {
                let until = asked.flatten().and_then(|timeout| Instant::now().checked_add(timeout));
                request.deadline = [request.deadline, until].into_iter().flatten().min();
            }
            Err(error) => return DeadlineFuture::Refused { error: Some(error) },
        }
        // A timer is made only for a request that has a deadline.
        let timer = request.deadline.map(|deadline| (Box::pin(sleep_until(deadline)), request.model.clone()));
        DeadlineFuture::Running { inner: self.inner.call(request), timer }
    }
}

/// The time-out of the `timeout` parameter; zero means none.
fn microseconds(value: &ParameterValue) -> Result<Option<Duration>> {
    let microseconds = match value {
        ParameterValue::Int64(value) => u64::try_from(*value).ok(),
        ParameterValue::Uint64(value) => Some(*value),
        ParameterValue::String(value) => value.parse().ok(),
        ParameterValue::Bool(_) | ParameterValue::Double(_) => None,
    };
    match microseconds {
        Some(microseconds) => Ok((microseconds > 0).then(|| Duration::from_micros(microseconds))),
        None => {
            Err(Error::invalid(format!("parameter '{TIMEOUT}' is {value:?}, expected a whole number of microseconds")))
        }
    }
}

pin_project! {
    /// The future of [`Deadline`].
    #[project = DeadlineFutureProjection]
    pub enum DeadlineFuture<F> {
        /// The request runs.
        Running {
            #[pin]
            inner: F,
            // With the model's name, for the message.
            timer: Option<(Pin<Box<Sleep>>, String)>,
        },
        /// Its time-out makes no sense. Nothing as large as an answer, which would make every future larger.
        Refused {
            error: Option<Error>,
        },
    }
}

impl<F: Future<Output = Result<InferResponse>>> Future for DeadlineFuture<F> {
    type Output = Result<InferResponse>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (inner, timer) = match self.project() {
            DeadlineFutureProjection::Running { inner, timer } => (inner, timer),
            DeadlineFutureProjection::Refused { error } => {
                let error = error.take().unwrap_or_else(|| Error::internal("a refusal was polled twice"));
                return Poll::Ready(Err(error));
            }
        };
        // The answer first: one that is there in time is given, whatever the clock says by now.
        if let Poll::Ready(outcome) = inner.poll(context) {
            return Poll::Ready(outcome);
        }
        match timer {
            None => Poll::Pending,
            Some((timer, model)) => timer.as_mut().poll(context).map(|()| {
                Err(Error::deadline_exceeded(format!(
                    "model '{model}': the deadline passed before the answer was there"
                )))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::error::Kind;

    async fn outcome(request: InferRequest) -> (Kind, Duration) {
        let never = service_fn(|_: InferRequest| std::future::pending::<Result<InferResponse>>());
        let started = Instant::now();
        let error = DeadlineLayer::new().layer(never).call(request).await.unwrap_err();
        (error.kind(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_parameter_is_in_microseconds() {
        let mut request = InferRequest::default();
        request.parameters.set(TIMEOUT, ParameterValue::Int64(5_000));
        let (kind, took) = outcome(request).await;
        assert_eq!((kind, took.as_millis()), (Kind::DeadlineExceeded, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_deadlines_counts() {
        let deadline = Some(Instant::now() + Duration::from_millis(2));
        let mut request = InferRequest { deadline, ..InferRequest::default() };
        request.parameters.set(TIMEOUT, ParameterValue::Uint64(5_000));
        let (kind, took) = outcome(request).await;
        assert_eq!((kind, took.as_millis()), (Kind::DeadlineExceeded, 2));
    }

    #[tokio::test]
    async fn a_timeout_that_is_no_number_of_microseconds_is_refused() {
        for value in [ParameterValue::Int64(-5), ParameterValue::Double(1.5), ParameterValue::String("1s".into())] {
            let mut request = InferRequest::default();
            request.parameters.set(TIMEOUT, value);
            assert_eq!(outcome(request).await.0, Kind::InvalidRequest);
        }
    }

    #[tokio::test]
    async fn requests_do_not_differ_by_their_timeout_further_down() {
        let inner = service_fn(|request: InferRequest| async move {
            assert!(request.parameters.is_empty() && request.deadline.is_some());
            Err::<InferResponse, _>(Error::internal("seen"))
        });
        let mut request = InferRequest::default();
        request.parameters.set(TIMEOUT, ParameterValue::Int64(5_000));
        assert_eq!(DeadlineLayer::new().layer(inner).call(request).await.unwrap_err().message(), "seen");
    }
}
