//! A server as one tunes it by hand today: first come, first served, with a largest batch, a delay, a bounded queue and a
//! time-out in the queue. Triton's dynamic batcher, without what its other settings add.

use std::collections::VecDeque;

use super::Nanos;
use super::machine::Machine;

/// One setting of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuned {
    /// How long the oldest request may wait for company.
    pub(crate) delay: Nanos,
    /// Rows of the largest batch.
    pub(crate) batch_max: usize,
    /// Requests that may wait; more are refused.
    pub(crate) queue_max: usize,
    /// Requests that waited longer are not run.
    pub(crate) timeout: Nanos,
}

/// Serves requests of one row that come at `arrivals` with `executors` executors; gives each one that is answered, with the
/// time, to `answered`.
pub(crate) fn serve(
    arrivals: &[Nanos],
    executors: usize,
    mut machine: Machine,
    tuned: Tuned,
    mut answered: impl FnMut(Nanos, Nanos),
) {
    let mut free = vec![0; executors];
    let mut queue: VecDeque<Nanos> = VecDeque::new();
    let mut coming = arrivals.iter().copied().peekable();
    let mut now = 0;
    loop {
        let executor = (0..executors).min_by_key(|&executor| free[executor]).unwrap_or(0);
        now = free[executor].max(now);
        admit(&mut coming, &mut queue, now, tuned.queue_max);
        if queue.is_empty() {
            let Some(at) = coming.peek() else { return };
            now = *at;
            admit(&mut coming, &mut queue, now, tuned.queue_max);
        }
        // Waits for company, until the batch is full or the oldest has waited long enough.
        while queue.len() < tuned.batch_max {
            let until = queue.front().map_or(now, |oldest| oldest + tuned.delay);
            match coming.peek() {
                Some(&at) if at <= until && until > now => {
                    now = at;
                    admit(&mut coming, &mut queue, now, tuned.queue_max);
                }
                _ => {
                    now = now.max(until);
                    break;
                }
            }
        }
        while queue.front().is_some_and(|at| at + tuned.timeout < now) {
            queue.pop_front();
        }
        let rows = queue.len().min(tuned.batch_max);
        if rows > 0 {
            let end = now + machine.execute(rows, now);
            queue.drain(..rows).for_each(|at| answered(at, end));
            free[executor] = end;
        }
    }
}

/// Puts what has come by `now` into the queue, as far as there is room.
fn admit(
    coming: &mut std::iter::Peekable<impl Iterator<Item = Nanos>>,
    queue: &mut VecDeque<Nanos>,
    now: Nanos,
    queue_max: usize,
) {
    while let Some(at) = coming.next_if(|at| *at <= now) {
        if queue.len() < queue_max {
            queue.push_back(at);
        }
    }
}
