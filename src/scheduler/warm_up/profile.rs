//! Batches of chosen sizes, run for their times alone.

use std::time::Duration;

use tokio::time::Instant;

use super::{execute, find_runnable};
use crate::error::Result;
use crate::model::Signature;
use crate::runtime::Instance;

/// Runs that a size has at least, however long they take, and at most.
const RUNS: std::ops::RangeInclusive<usize> = 3..=1000;

/// Runs made-up inputs of each of `sizes` rows for about `each`, and gives the times of every size to `note`, in the order of
/// the runs. A first run of each size is not counted: it allocates.
///
/// # Errors
/// [`crate::error::Kind::Execution`] where the model fails on all that can be made up, or on one of the sizes.
pub fn profile(
    instance: &mut dyn Instance,
    signature: &Signature,
    sizes: impl Iterator<Item = usize>,
    each: Duration,
    mut note: impl FnMut(usize, Vec<Duration>),
) -> Result<()> {
    let source = find_runnable(instance, signature)?;
    for rows in sizes {
        let request = source.request(signature, rows, 0);
        execute(instance, &[&request], None)?;
        let (began, mut times) = (Instant::now(), Vec::new());
        while times.len() < *RUNS.start() || times.len() < *RUNS.end() && began.elapsed() < each {
            let started = Instant::now();
            execute(instance, &[&request], None)?;
            times.push(started.elapsed());
        }
        note(rows, times);
    }
    Ok(())
}
