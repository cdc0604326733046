//! A batch: rows of several requests joined for one execution, and given back to their owners.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::Executed;
use super::queue::Job;
use crate::error::{Error, Kind, Result};
use crate::infer::{Timing, ValidRequest};
use crate::runtime::Instance;
use crate::telemetry::{BatchSpent, ModelMetrics};
use crate::tensor::{Tensor, concat_rows, split_rows};

/// Requests that are run together.
pub(super) struct Batch {
    jobs: Vec<Job>,
    pub(super) rows: usize,
}

/// What one request gets, ready to be sent.
pub(super) type Answers = Vec<(Job, Result<Executed>)>;

impl Batch {
    pub(super) fn new(jobs: Vec<Job>) -> Self {
        let rows = jobs.iter().map(|job| job.request.rows).sum();
        Self { jobs, rows }
    }

    /// How many requests it holds.
    pub(super) fn requests(&self) -> usize {
        self.jobs.len()
    }

    /// Runs the batch on `instance`. A batch of several that fails is retried request by request, so that a poisoned one
    /// fails alone. Gives the answers, and how long the joint execution took.
    pub(super) fn run(self, instance: &mut dyn Instance, metrics: &Arc<ModelMetrics>) -> (Answers, Duration) {
        let started = Instant::now();
        let outcome = {
            let requests: SmallVec<[&ValidRequest; 64]> = self.jobs.iter().map(|job| &job.request).collect();
            execute_timed(instance, &requests)
        };
        let took = started.elapsed();
        metrics.execute_seconds.observe(took.as_secs_f64());
        metrics.batch_rows.observe(self.rows as f64);
        let timing = |job: &Job| Timing {
            queue: started.saturating_duration_since(job.arrived),
            execute: took,
            batch_rows: self.rows,
        };
        let answers = match outcome {
            Ok((results, spent)) => {
                note(&self.jobs, self.rows, started, &spent, metrics);
                let answer = |(job, outputs): (Job, Vec<Tensor>)| {
                    let timing = timing(&job);
                    (job, Ok(Executed { outputs, timing }))
                };
                self.jobs.into_iter().zip(results).map(answer).collect()
            }
            Err(error) if self.jobs.len() == 1 => self.jobs.into_iter().map(|job| (job, Err(error.clone()))).collect(),
            Err(_) => {
                metrics.batch_retries.inc();
                self.jobs.into_iter().map(|job| run_alone(job, instance, metrics)).collect()
            }
        };
        (answers, took)
    }
}

fn run_alone(job: Job, instance: &mut dyn Instance, metrics: &Arc<ModelMetrics>) -> (Job, Result<Executed>) {
    let started = Instant::now();
    let outcome = execute_timed(instance, &[&job.request]);
    let took = started.elapsed();
    metrics.execute_seconds.observe(took.as_secs_f64());
    metrics.batch_rows.observe(job.request.rows as f64);
    let queue = started.saturating_duration_since(job.arrived);
    let timing = Timing { queue, execute: took, batch_rows: job.request.rows };
    if let Ok((_, spent)) = &outcome {
        note(std::slice::from_ref(&job), job.request.rows, started, spent, metrics);
    }
    let outcome = outcome.map(|(mut results, _)| Executed { outputs: results.pop().unwrap_or_default(), timing });
    (job, outcome)
}

/// When the inputs were together and when the outputs were there; the rest of an execution went to giving them out.
struct Spent {
    gathered: Instant,
    executed: Instant,
    scattered: Instant,
}

/// Counts a batch that succeeded, before its answers leave: whoever has an answer finds it counted.
fn note(jobs: &[Job], rows: usize, started: Instant, spent: &Spent, metrics: &ModelMetrics) {
    metrics.statistics.note_batch(&BatchSpent {
        started,
        requests: jobs.len(),
        rows,
        queue: jobs.iter().map(|job| started.saturating_duration_since(job.arrived)).sum(),
        input: spent.gathered.saturating_duration_since(started),
        infer: spent.executed.saturating_duration_since(spent.gathered),
        output: spent.scattered.saturating_duration_since(spent.executed),
    });
}

/// Executes `requests` together: one entry per request in the answer, each with the outputs it wants, in its order.
pub(super) fn execute(instance: &mut dyn Instance, requests: &[&ValidRequest]) -> Result<Vec<Vec<Tensor>>> {
    execute_timed(instance, requests).map(|(results, _)| results)
}

fn execute_timed(instance: &mut dyn Instance, requests: &[&ValidRequest]) -> Result<(Vec<Vec<Tensor>>, Spent)> {
    let inputs = gather(requests)?;
    let wanted = union_of_outputs(requests);
    let gathered = Instant::now();
    // A runtime is foreign code: a panic in it fails this batch, not the server.
    let executed = catch_unwind(AssertUnwindSafe(|| instance.execute(&inputs, &wanted)));
    let outputs = executed.unwrap_or_else(|_| Err(Error::execution("the runtime panicked")))?;
    let executed = Instant::now();
    let results = scatter(requests, &wanted, outputs)?;
    Ok((results, Spent { gathered, executed, scattered: Instant::now() }))
}

/// Joins the rows of each input. A single request's tensors are taken as they are, and copied only if they are unaligned.
fn gather(requests: &[&ValidRequest]) -> Result<SmallVec<[Option<Tensor>; 4]>> {
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
        concat_rows(&parts).map(Some).map_err(|cause| Error::new(Kind::Internal, cause.to_string()))
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

/// Gives each request its rows of the outputs that it wants. The parts share the outputs' bytes.
fn scatter(requests: &[&ValidRequest], union: &[usize], outputs: Vec<Tensor>) -> Result<Vec<Vec<Tensor>>> {
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
        for ((request, result), part) in requests.iter().zip(&mut results).zip(parts) {
            if let Some(place) = request.outputs.iter().position(|wanted| wanted == position) {
                result[place] = Some(part);
            }
        }
    }
    Ok(results.into_iter().map(|result| result.into_iter().flatten().collect()).collect())
}
