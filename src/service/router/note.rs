//! What is noted of a request whose version is judged or mirrored, when it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::arm::Arm;
use super::mirror::Mirror;
use crate::error::Result;
use crate::infer::{InferRequest, InferResponse};

/// Made when a version is picked. Dropped before [`Note::finish`], its caller went away.
pub struct Note {
    arm: Option<Arc<Arm>>,
    copies: Vec<(Arc<Mirror>, InferRequest)>,
    rows: usize,
    objective: Duration,
    started: Instant,
    ended: bool,
}

impl Note {
    pub(super) fn new(
        arm: Option<Arc<Arm>>,
        copies: Vec<(Arc<Mirror>, InferRequest)>,
        rows: usize,
        objective: Duration,
    ) -> Self {
        Self { arm, copies, rows, objective, started: Instant::now(), ended: false }
    }

    /// Notes how the request ended.
    pub fn finish(&mut self, outcome: &Result<InferResponse>) {
        self.ended = true;
        let took = self.started.elapsed();
        if let Some(arm) = &self.arm {
            arm.note(outcome.as_ref(), took, self.rows);
        }
        // An error is nothing to compare an answer with.
        let Ok(answer) = outcome else { return };
        for (mirror, request) in self.copies.drain(..) {
            mirror.leave(request, answer, took);
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(arm) = self.arm.as_ref().filter(|_| !self.ended) {
            arm.gone(self.started.elapsed(), self.objective);
        }
    }
}
