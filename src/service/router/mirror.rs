//! Requests that a second version is asked too, so that its answers can be compared; nobody waits for them.
//!
//! A request leaves a copy of itself once it is answered: its tensors are shared, not copied. What does not fit the queue is
//! dropped and counted, before it is made where that is known by then. One copy runs at a time, with the priority that only fills what
//! is left over, and it gives way: the kernel takes the core from it for any other work. A version that is executed with threads of the
//! engine's own is loaded once more for that, on one. Where it cannot be, or idle time is not free, the copy is broken off once a
//! batch waits for cores. So a version that is fifty times as slow costs the others nothing but idle time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tower::Service;

use super::compare::{Difference, compare};
use crate::error::{Error, Kind};
use crate::infer::{InferRequest, InferResponse, ParameterValue};
use crate::model::Version;
use crate::model::traffic::CompareSettings;
use crate::repository::{Found, Model, Repository};
use crate::service::dispatch::Dispatch;
use crate::service::route::Routed;

/// Copies that may wait: some, so that a burst is not all lost, and not so many that answers are compared which are long forgotten.
const WAITING_MAX: usize = 64;

/// Bytes that the tensors of waiting copies may hold: a quarter of what the queue of a version may.
const BYTES_MAX: usize = 64 << 20;

/// Bytes of an answer that are compared where the copy ran. 256 KiB take some 100 us; more would hold up other requests of the thread.
const IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// After it gave way, a mirror rests so many times as long as it had run, so that it does not take cores again and again only to
/// be broken off; and no longer than this.
const REST: u32 = 10;
const REST_MAX: Duration = Duration::from_secs(1);

/// A request, its answer, and how long that took.
struct Answered {
    request: InferRequest,
    answer: InferResponse,
    took: Duration,
    bytes: usize,
}

/// What was learned from copies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compared {
    /// Answers that are the same.
    pub agreed: u64,
    /// Answers that are not, and requests that only the mirrored version failed at.
    pub disagreed: u64,
    /// Those of them that it failed at.
    pub failed: u64,
    /// Copies that could not be run: the version was not ready or had too much to do, or others needed the cores.
    pub not_run: u64,
    /// Copies that were dropped, because the queue was full.
    pub dropped: u64,
    /// Disagreements in which outputs, datatypes or shapes differ.
    pub names: u64,
    #[allow(missing_docs)]
    pub datatypes: u64,
    #[allow(missing_docs)]
    pub shapes: u64,
    /// Elements of which at most one is a finite number.
    pub not_finite: u64,
    /// The largest difference of two elements that are finite numbers.
    pub absolute: f64,
    /// The largest difference divided by the larger of the two.
    pub relative: f64,
    /// Rows whose largest elements were looked for, and those where both are at the same place.
    pub rows: u64,
    #[allow(missing_docs)]
    pub same_argmax: u64,
    /// What the compared answers took, in all: those that callers got, and those of the mirrored version.
    pub live_time: Duration,
    #[allow(missing_docs)]
    pub mirrored_time: Duration,
}

impl Compared {
    fn note(&mut self, difference: &Difference, agrees: bool) {
        if agrees {
            self.agreed += 1
        } else {
            self.disagreed += 1
        }
        self.names += u64::from(difference.names);
        self.datatypes += u64::from(difference.datatypes);
        self.shapes += u64::from(difference.shapes);
        self.not_finite += difference.not_finite;
        self.absolute = self.absolute.max(difference.absolute);
        self.relative = self.relative.max(difference.relative);
        self.rows += difference.rows;
        self.same_argmax += difference.same_argmax;
    }
}

#[derive(Default)]
struct State {
    bytes: AtomicUsize,
    dropped: AtomicU64,
    compared: Mutex<Compared>,
}

impl State {
    fn compared(&self) -> MutexGuard<'_, Compared> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where copies go. Dropped, it stops what runs.
pub(super) struct Mirror {
    pub(super) version: Version,
    pub(super) share: f64,
    /// The version whose requests are mirrored, if not any.
    pub(super) of: Option<Version>,
    queue: mpsc::Sender<Answered>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// What a mirror compares, and by what.
pub(super) struct Mirroring {
    pub(super) version: Version,
    pub(super) share: f64,
    pub(super) of: Option<Version>,
    pub(super) compare: CompareSettings,
}

impl Mirror {
    /// Starts it, for the model called `model`.
    pub(super) fn start(model: String, mirroring: Mirroring, repository: Arc<Repository>, dispatch: Dispatch) -> Self {
        let (queue, copies) = mpsc::channel(WAITING_MAX);
        let state = Arc::<State>::default();
        let Mirroring { version, share, of, compare } = mirroring;
        let runner = Runner { model, version, compare, repository, dispatch, state: Arc::clone(&state) };
        Self { version, share, of, queue, state, task: tokio::spawn(runner.run(copies)) }
    }

    /// Whether a copy of a request that comes now has any prospect of being run; one that has none is counted as dropped.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.queue.capacity() > 0;
        if !has_room {
            self.state.dropped.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Leaves a copy of a request that was answered after `took`, if there is room.
    pub(super) fn leave(&self, request: InferRequest, answer: &InferResponse, took: Duration) {
        let inputs = request.inputs.iter().map(|input| input.tensor.data().len());
        let bytes = inputs.chain(answer.outputs.iter().map(|(_, tensor)| tensor.data().len())).sum();
        let fits = self.state.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes) <= BYTES_MAX;
        let copy = Answered { request, answer: answer.clone(), took, bytes };
        if !fits || self.queue.try_send(copy).is_err() {
            self.state.bytes.fetch_sub(bytes, Relaxed);
            self.state.dropped.fetch_add(1, Relaxed);
        }
    }

    /// What was learned up to now.
    pub(super) fn compared(&self) -> Compared {
        Compared { dropped: self.state.dropped.load(Relaxed), ..*self.state.compared() }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner {
    model: String,
    version: Version,
    compare: CompareSettings,
    repository: Arc<Repository>,
    dispatch: Dispatch,
    state: Arc<State>,
}

impl Runner {
    async fn run(mut self, mut copies: mpsc::Receiver<Answered>) {
        while let Some(copy) = copies.recv().await {
            let Answered { request, answer, took, bytes } = copy;
            if let Ok(model) = self.resolve() {
                model.will_give_way().await;
            }
            let started = Instant::now();
            let outcome = self.ask(request).await;
            let mirrored = started.elapsed();
            match outcome {
                None => {
                    self.state.compared().not_run += 1;
                    tokio::time::sleep((mirrored * REST).min(REST_MAX)).await;
                }
                Some(Ok(own)) => self.note(answer, own, took, mirrored).await,
                Some(Err(error)) => match error.kind() {
                    // It is not asked for answers in time, and may not be there.
                    Kind::Overloaded | Kind::DeadlineExceeded | Kind::ModelUnavailable | Kind::UnknownModel => {
                        self.state.compared().not_run += 1;
                    }
                    kind => {
                        tracing::debug!(model = self.model, version = %self.version, kind = kind.name(), "mirrored: {error}");
                        let mut compared = self.state.compared();
                        compared.disagreed += 1;
                        compared.failed += 1;
                    }
                },
            }
            self.state.bytes.fetch_sub(bytes, Relaxed);
        }
    }

    fn resolve(&self) -> Result<Arc<Model>, Error> {
        self.repository.resolve(&self.model, Some(&self.version.to_string()))
    }

    /// The version's outcome, or nothing where it had to give way.
    async fn ask(&mut self, mut request: InferRequest) -> Option<Result<InferResponse, Error>> {
        let model = match self.resolve() {
            Ok(model) if model.is_in_memory() => model,
            // It has its share of the traffic, and so of memory.
            _ => match self.bring_in().await {
                Ok(model) => model,
                Err(error) => return Some(Err(error)),
            },
        };
        request.parameters.set("priority", ParameterValue::String("low".into()));
        // The caller's own is past.
        request.deadline = None;
        if model.gives_way() {
            return Some(self.dispatch.call(Routed { request, model, note: None }).await);
        }
        let repository = Arc::clone(&self.repository);
        let pressed = repository.pressed();
        tokio::select! {
            outcome = self.dispatch.call(Routed { request, model, note: None }) => Some(outcome),
            () = pressed => None,
        }
    }

    async fn bring_in(&self) -> Result<Arc<Model>, Error> {
        match self.repository.find(&self.model, Some(&self.version.to_string()))? {
            Found::Known(model) => self.repository.bring_in(model.name(), self.version, None).await,
            Found::Cold(name, version) => self.repository.bring_in(&name, version, None).await,
        }
    }

    async fn note(&self, live: InferResponse, own: InferResponse, took: Duration, mirrored: Duration) {
        let (compared_by, settings) = (self.compare, &self.compare);
        let bytes: usize = live.outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
        let work = move || compare(&live.outputs, &own.outputs, &compared_by);
        let difference = match bytes <= IN_PLACE_BYTES_MAX {
            true => work(),
            // A panic in there is in the log.
            false => match spawn_blocking(work).await {
                Ok(difference) => difference,
                Err(_) => return,
            },
        };
        let mut compared = self.state.compared();
        compared.note(&difference, difference.agrees(settings));
        compared.live_time += took;
        compared.mirrored_time += mirrored;
    }
}
