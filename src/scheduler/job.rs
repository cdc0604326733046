//! A request in the scheduler: what runs, and what its caller waits with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::padding::Fit;
use super::planner::Due;
use super::queue::{Item, Priority};
use crate::error::{Error, Result};
use crate::infer::{Parameters, Timing, ValidRequest};
use crate::tensor::{Tensor, concat_rows, split_rows};

/// What a request got.
#[derive(Debug)]
pub struct Executed {
    /// The outputs wanted, in the order wanted.
    pub outputs: Vec<Tensor>,
    /// Where the time went.
    pub timing: Timing,
}

/// A request that waits or runs.
pub(super) struct Job {
    pub(super) request: ValidRequest,
    /// What its lengths fit to, where the model is padded.
    pub(super) fit: Option<Fit>,
    pub(super) ticket: Ticket,
}

/// What stays with the dispatcher while the request runs.
pub(super) struct Ticket {
    pub(super) parameters: Parameters,
    pub(super) arrived: Instant,
    pub(super) due: Due,
    pub(super) class: Priority,
    pub(super) reply: Reply,
}

/// How an answer reaches its caller.
pub(super) enum Reply {
    Whole(oneshot::Sender<Result<Executed>>),
    /// One part of a request that was split, by its position.
    Part(Arc<Assembly>, usize),
}

impl Item for Job {
    fn rows(&self) -> usize {
        self.request.rows.max(1)
    }

    fn unit(&self) -> usize {
        self.fit.as_ref().map_or(1, Fit::unit)
    }

    /// Same inputs given, alike behind dimension 0 but for what is padded, same parameters. Datatypes are the signature's, so
    /// they are alike.
    fn joins(&self, other: &Job) -> bool {
        let fits = self.fit.as_ref().zip(other.fit.as_ref());
        let alike = |(position, (ours, theirs)): (usize, (&Option<Tensor>, &Option<Tensor>))| match (ours, theirs) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => match fits {
                Some((fit, other)) => fit.alike(other, position, ours.shape(), theirs.shape()),
                None => ours.shape().get(1..) == theirs.shape().get(1..),
            },
            _ => false,
        };
        self.request.rows_agree
            && other.request.rows_agree
            && self.request.inputs.iter().zip(&other.request.inputs).enumerate().all(alike)
            && self.ticket.parameters == other.ticket.parameters
    }
}

impl Job {
    pub(super) fn new(
        request: ValidRequest,
        fit: Option<Fit>,
        parameters: Parameters,
        arrived: Instant,
        due: Due,
        class: Priority,
        reply: oneshot::Sender<Result<Executed>>,
    ) -> Self {
        Self { request, fit, ticket: Ticket { parameters, arrived, due, class, reply: Reply::Whole(reply) } }
    }

    /// Parts of at most `rows_max` rows of a request that has more, each to wait and run like a request of its own, while
    /// the caller gets one answer. A request that fits, or whose inputs do not share their rows, stays as it is.
    pub(super) fn split(self, rows_max: usize) -> SmallVec<[Job; 1]> {
        let rows = self.request.rows;
        if rows <= rows_max || !self.request.rows_agree {
            return smallvec![self];
        }
        let sizes = || (0..rows).step_by(rows_max).map(|start| rows_max.min(rows - start));
        let split = |input: &Option<Tensor>| input.as_ref().map(|input| split_rows(input, sizes())).transpose();
        // Inputs whose rows agree can be split; if not, the request runs whole.
        let Ok(inputs) = self.request.inputs.iter().map(split).collect::<Result<SmallVec<[_; 2]>, _>>() else {
            return smallvec![self];
        };
        let Job { request, fit, ticket } = self;
        let Reply::Whole(reply) = ticket.reply else { return SmallVec::new() };
        let assembly = Arc::new(Assembly::new(reply, sizes().count()));
        let part = |(position, rows): (usize, usize)| {
            let inputs = inputs.iter().map(|parts| parts.as_ref().map(|parts| parts[position].clone())).collect();
            let request = ValidRequest { inputs, outputs: request.outputs.clone(), rows, rows_agree: true };
            let reply = Reply::Part(Arc::clone(&assembly), position);
            Job { request, fit: fit.clone(), ticket: Ticket { parameters: ticket.parameters.clone(), reply, ..ticket } }
        };
        sizes().enumerate().map(part).collect()
    }
}

impl Ticket {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.reply {
            Reply::Whole(reply) => reply.is_closed(),
            Reply::Part(assembly, _) => assembly.is_settled(),
        }
    }

    /// Whether it is one of several parts of a request.
    pub(super) fn is_part(&self) -> bool {
        matches!(self.reply, Reply::Part(..))
    }

    /// Tells the caller the outcome. One that went away hears nothing.
    pub(super) fn answer(self, outcome: Result<Executed>) {
        match self.reply {
            Reply::Whole(reply) => drop(reply.send(outcome)),
            Reply::Part(assembly, position) => assembly.fill(position, outcome),
        }
    }
}

/// Collects the parts of a request that was split.
pub(super) struct Assembly(Mutex<Parts>);

struct Parts {
    reply: Option<oneshot::Sender<Result<Executed>>>,
    done: Vec<Option<Executed>>,
    missing: usize,
}

impl Assembly {
    fn new(reply: oneshot::Sender<Result<Executed>>, parts: usize) -> Self {
        let done = std::iter::repeat_with(|| None).take(parts).collect();
        Self(Mutex::new(Parts { reply: Some(reply), done, missing: parts }))
    }

    /// Whether the caller has its answer or is gone.
    fn is_settled(&self) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Notes a part. The last one, or the first one that failed, answers the caller.
    fn fill(&self, position: usize, outcome: Result<Executed>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match outcome {
            Ok(executed) => {
                parts.missing -= usize::from(parts.done[position].is_none());
                parts.done[position] = Some(executed);
                if parts.missing > 0 {
                    return;
                }
                join(parts.done.drain(..).flatten().collect())
            }
            Err(error) => Err(error),
        };
        if let Some(reply) = parts.reply.take() {
            // A caller that went away hears nothing.
            drop(reply.send(outcome));
        }
    }
}

/// One answer out of all parts: rows in their order, the longest wait, all executions.
fn join(parts: Vec<Executed>) -> Result<Executed> {
    let outputs = parts.first().map_or(0, |part| part.outputs.len());
    let joined = |output: usize| {
        let rows: Vec<&Tensor> = parts.iter().filter_map(|part| part.outputs.get(output)).collect();
        concat_rows(&rows).map_err(|cause| Error::execution(format!("the parts of a split request differ: {cause}")))
    };
    let timing = Timing {
        queue: parts.iter().map(|part| part.timing.queue).max().unwrap_or_default(),
        execute: parts.iter().map(|part| part.timing.execute).sum::<Duration>(),
        batch_rows: parts.iter().map(|part| part.timing.batch_rows).max().unwrap_or_default(),
        padding: parts.iter().map(|part| part.timing.padding).fold(0.0, f64::max),
        ..Timing::default()
    };
    Ok(Executed { outputs: (0..outputs).map(joined).collect::<Result<_>>()?, timing })
}
