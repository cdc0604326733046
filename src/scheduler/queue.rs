//! Waiting requests, in lanes: those of one lane may be joined into a batch.

use std::collections::VecDeque;

use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Executed;
use super::policy::LaneView;
use crate::error::Result;
use crate::infer::{Parameters, ValidRequest};
use crate::tensor::Tensor;

/// A request in the queue.
pub(super) struct Job {
    pub(super) request: ValidRequest,
    parameters: Parameters,
    pub(super) arrived: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<Executed>>,
}

impl Job {
    pub(super) fn new(
        request: ValidRequest,
        parameters: Parameters,
        arrived: Instant,
        deadline: Option<Instant>,
        reply: oneshot::Sender<Result<Executed>>,
    ) -> Self {
        Self { request, parameters, arrived, deadline, reply }
    }

    /// Whether this request and `other` may share a batch: same inputs given, alike behind dimension 0, same parameters.
    /// Datatypes are the signature's, so they are alike already.
    fn joins(&self, other: &Job) -> bool {
        let alike = |ours: &Option<Tensor>, theirs: &Option<Tensor>| match (ours, theirs) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.shape().get(1..) == theirs.shape().get(1..),
            _ => false,
        };
        self.request.rows_agree
            && other.request.rows_agree
            && self.request.inputs.iter().zip(&other.request.inputs).all(|(ours, theirs)| alike(ours, theirs))
            && self.parameters == other.parameters
    }
}

struct Lane {
    jobs: VecDeque<Job>,
    rows: usize,
}

/// All lanes of one model version. A lane exists while something waits in it.
pub(super) struct Queue {
    lanes: Vec<Lane>,
    joining: bool,
}

impl Queue {
    /// A queue; without `joining`, every request is a lane of its own kind and they run in order of arrival.
    pub(super) fn new(joining: bool) -> Self {
        Self { lanes: Vec::new(), joining }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn push(&mut self, job: Job) {
        let rows = job.request.rows;
        let joins = |lane: &&mut Lane| !self.joining || lane.jobs.front().is_some_and(|head| head.joins(&job));
        match self.lanes.iter_mut().find(joins) {
            Some(lane) => {
                lane.rows += rows;
                lane.jobs.push_back(job);
            }
            None => self.lanes.push(Lane { jobs: VecDeque::from([job]), rows }),
        }
    }

    pub(super) fn views(&self) -> SmallVec<[LaneView; 4]> {
        let view = |lane: &Lane| lane.jobs.front().map(|head| LaneView { oldest: head.arrived, rows: lane.rows });
        self.lanes.iter().filter_map(view).collect()
    }

    /// Takes the head of `lane`: as many requests as fit `rows_max` rows, at least one; one where requests are not joined.
    pub(super) fn take(&mut self, lane: usize, rows_max: usize) -> Vec<Job> {
        let (mut taken, mut rows) = (Vec::new(), 0);
        let from = &mut self.lanes[lane];
        while let Some(head) = from.jobs.front() {
            let fits = self.joining && rows + head.request.rows <= rows_max;
            if !taken.is_empty() && !fits {
                break;
            }
            rows += head.request.rows;
            taken.extend(from.jobs.pop_front());
        }
        from.rows -= rows;
        if from.jobs.is_empty() {
            self.lanes.swap_remove(lane);
        }
        taken
    }

    /// Removes the requests for which `gone` holds and gives them to `to`.
    pub(super) fn remove(&mut self, gone: impl Fn(&Job) -> bool, mut to: impl FnMut(Job)) {
        for lane in &mut self.lanes {
            if !lane.jobs.iter().any(&gone) {
                continue;
            }
            for job in std::mem::take(&mut lane.jobs) {
                if gone(&job) {
                    lane.rows -= job.request.rows;
                    to(job);
                } else {
                    lane.jobs.push_back(job);
                }
            }
        }
        self.lanes.retain(|lane| !lane.jobs.is_empty());
    }

    /// The earliest deadline of all that wait.
    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.lanes.iter().flat_map(|lane| &lane.jobs).filter_map(|job| job.deadline).min()
    }
}
