//! A batch: rows of several requests joined for one execution, and given back to their owners.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::job::Executed;
use super::padding::{Extent, Padding, Together};
use crate::error::{Error, Kind, Result};
use crate::infer::{Timing, ValidRequest};
use crate::runtime::{Instance, Interrupt};
use crate::telemetry::{BatchSpent, ModelMetrics};
use crate::tensor::{Tensor, concat_rows, concat_rows_padded, split_rows};

/// Requests that are run together.
pub(super) struct Batch {
    requests: Vec<ValidRequest>,
    /// When each of them came.
    arrived: Vec<Instant>,
    pub(super) extent: Extent,
    padding: Option<Arc<Padding>>,
}

/// What came of a batch.
pub(super) struct Ran {
    /// One for each request, in the batch's order.
    pub(super) outcomes: Vec<Result<Executed>>,
    /// How long the joint execution took, where it succeeded.
    pub(super) took: Option<Duration>,
    /// How long everything took.
    pub(super) busy: Duration,
}

/// Stops a batch that runs on another thread.
#[derive(Default)]
pub(super) struct Stop {
    asked: AtomicBool,
    interrupt: Option<Arc<dyn Interrupt>>,
}

impl Stop {
    pub(super) fn new(interrupt: Option<Arc<dyn Interrupt>>) -> Self {
        Self { asked: AtomicBool::new(false), interrupt }
    }

    /// Ends the batch as soon as the runtime can.
    pub(super) fn now(&self) {
        if !self.asked.swap(true, Ordering::Relaxed)
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.interrupt();
        }
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Batch {
    /// A batch of `requests`, which came at the times `arrived`; those of different lengths are padded as `padding` says.
    pub(super) fn new(requests: Vec<ValidRequest>, arrived: Vec<Instant>, padding: Option<Arc<Padding>>) -> Self {
        let extent = {
            let requests: SmallVec<[&ValidRequest; 64]> = requests.iter().collect();
            Extent::of(&requests, padding.as_deref())
        };
        Self { requests, arrived, extent, padding }
    }

    /// Runs the batch on `instance`. A batch of several that fails is retried request by request, so that a poisoned one
    /// fails alone; one that was stopped is not.
    pub(super) fn run(&self, instance: &mut dyn Instance, metrics: &ModelMetrics, stop: &Stop) -> Ran {
        let started = Instant::now();
        let outcome = {
            let requests: SmallVec<[&ValidRequest; 64]> = self.requests.iter().collect();
            execute_timed(instance, &requests, self.padding.as_deref())
        };
        let took = started.elapsed();
        metrics.note_execution(took);
        metrics.batch_rows.observe(self.extent.rows as f64);
        let succeeded = outcome.is_ok();
        let outcomes = match outcome {
            Ok((results, spent)) => {
                note(&self.arrived, self.extent.rows, started, &spent, metrics);
                if self.padding.is_some() {
                    metrics.note_cells(self.extent.useful, self.extent.work - self.extent.useful);
                }
                let (batch_rows, padding) = (self.extent.rows, self.extent.padding());
                let answer = |(arrived, outputs): (&Instant, Vec<Tensor>)| {
                    let queue = started.saturating_duration_since(*arrived);
                    Ok(Executed {
                        outputs,
                        timing: Timing { queue, execute: took, batch_rows, padding, ..Timing::default() },
                    })
                };
                self.arrived.iter().zip(results).map(answer).collect()
            }
            Err(error) if self.requests.len() == 1 || stop.is_asked() => {
                self.requests.iter().map(|_| Err(error.clone())).collect()
            }
            Err(_) => {
                metrics.batch_retries.inc();
                let alone = |(request, arrived)| run_alone(request, arrived, instance, metrics);
                self.requests.iter().zip(&self.arrived).map(alone).collect()
            }
        };
        Ran { outcomes, took: succeeded.then_some(took), busy: started.elapsed() }
    }
}

fn run_alone(
    request: &ValidRequest,
    arrived: &Instant,
    instance: &mut dyn Instance,
    metrics: &ModelMetrics,
) -> Result<Executed> {
    let started = Instant::now();
    let outcome = execute_timed(instance, &[request], None);
    let took = started.elapsed();
    metrics.note_execution(took);
    metrics.batch_rows.observe(request.rows as f64);
    let (mut results, spent) = outcome?;
    note(std::slice::from_ref(arrived), request.rows, started, &spent, metrics);
    let queue = started.saturating_duration_since(*arrived);
    let timing = Timing { queue, execute: took, batch_rows: request.rows, ..Timing::default() };
    Ok(Executed { outputs: results.pop().unwrap_or_default(), timing })
}

/// When the inputs were together and when the outputs were there; the rest of an execution went to giving them out.
struct Spent {
    gathered: Instant,
    executed: Instant,
    scattered: Instant,
}

/// Counts a batch that succeeded, before its answers leave: whoever has an answer finds it counted.
fn note(arrived: &[Instant], rows: usize, started: Instant, spent: &Spent, metrics: &ModelMetrics) {
    metrics.statistics.note_batch(&BatchSpent {
        started,
        requests: arrived.len(),
        rows,
        queue: arrived.iter().map(|&arrived| started.saturating_duration_since(arrived)).sum(),
        input: spent.gathered.saturating_duration_since(started),
        infer: spent.executed.saturating_duration_since(spent.gathered),
        output: spent.scattered.saturating_duration_since(spent.executed),
    });
}

/// Executes `requests` together, padded as `padding` says: one entry per request in the answer, each with the outputs it
/// wants, in its order.
pub(super) fn execute(
    instance: &mut dyn Instance,
    requests: &[&ValidRequest],
    padding: Option<&Padding>,
) -> Result<Vec<Vec<Tensor>>> {
    execute_timed(instance, requests, padding).map(|(results, _)| results)
}

fn execute_timed(
    instance: &mut dyn Instance,
    requests: &[&ValidRequest],
    padding: Option<&Padding>,
) -> Result<(Vec<Vec<Tensor>>, Spent)> {
    let together = padding.filter(|_| requests.len() > 1).and_then(|padding| padding.together(requests));
    let inputs = gather(requests, together.as_ref())?;
    let wanted = union_of_outputs(requests);
    let gathered = Instant::now();
    // A runtime is foreign code: a panic in it fails this batch, not the server.
    let executed = catch_unwind(AssertUnwindSafe(|| instance.execute(&inputs, &wanted)));
    let outputs = executed.unwrap_or_else(|_| Err(Error::execution("the runtime panicked")))?;
    let executed = Instant::now();
    let results = scatter(requests, &wanted, outputs, together.as_ref())?;
    Ok((results, Spent { gathered, executed, scattered: Instant::now() }))
}

/// Joins the rows of each input, padded where their lengths differ. A single request's tensors are taken as they are, and copied only if they are unaligned.
fn gather(requests: &[&ValidRequest], together: Option<&Together<'_>>) -> Result<SmallVec<[Option<Tensor>; 4]>> {
    let (first, others) = requests.split_first().ok_or_else(|| Error::internal("an empty batch"))?;
    if others.is_empty() {
        return Ok(first.inputs.iter().map(|input| input.clone().map(Tensor::aligned)).collect());
    }
    let join = |position: usize| {
        if first.inputs[position].is_none() {
            return Ok(None);
        }
        let parts: SmallVec<[&Tensor; 64]> =
            requests.iter().filter_map(|request| request.inputs[position].as_ref()).collect();
        let joined = match together.and_then(|together| together.element(position)) {
            Some(element) => concat_rows_padded(&parts, element),
            None => concat_rows(&parts),
        };
        joined.map(Some).map_err(|cause| Error::new(Kind::Internal, cause.to_string()))
    };
    (0..first.inputs.len()).map(join).collect()
}

/// Every output that some request wants, once.
fn union_of_outputs(requests: &[&ValidRequest]) -> SmallVec<[usize; 8]> {
    let mut union: SmallVec<[usize; 8]> = SmallVec::new();
    for &position in requests.iter().flat_map(|request| &request.outputs) {
        if !union.contains(&position) {
            union.push(position);
        }
    }
    union
}

/// Gives each request its rows of the outputs that it wants. The parts share the outputs' bytes, but for those that are cut
/// back from the batch's length to their own.
fn scatter(
    requests: &[&ValidRequest],
    union: &[usize],
    outputs: Vec<Tensor>,
    together: Option<&Together<'_>>,
) -> Result<Vec<Vec<Tensor>>> {
    if requests.len() == 1 {
        // One request's union is its own list, in its order.
        return Ok(vec![outputs]);
    }
    let mut results: Vec<Vec<Option<Tensor>>> =
        requests.iter().map(|request| vec![None; request.outputs.len()]).collect();
    for (position, output) in union.iter().zip(outputs) {
        let rows = requests.iter().map(|request| request.rows);
        let parts = split_rows(&output, rows).map_err(|_| {
            Error::execution(format!("an output of shape {} does not have the rows of its batch", output.shape()))
        })?;
        for (owner, ((request, result), part)) in requests.iter().zip(&mut results).zip(parts).enumerate() {
            if let Some(place) = request.outputs.iter().position(|wanted| wanted == position) {
                result[place] = Some(match together {
                    Some(together) => together.cut_back(*position, owner, part)?,
                    None => part,
                });
            }
        }
    }
    Ok(results.into_iter().map(|result| result.into_iter().flatten().collect()).collect())
}
