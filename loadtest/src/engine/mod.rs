//! The load generator: one thread, one epoll loop, closed or open loop, over any [`Protocol`].
//!
//! One thread on its own core, with requests built beforehand and no runtime in between, so that the server is the
//! bottleneck and not the generator.

mod connection;
mod driver;
mod open;
mod poll;
pub(crate) mod protocol;
mod schedule;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::protocol::Protocol;
use crate::process::{raise_open_files, sleep_exactly};
use crate::report::Report;
use crate::report::outcome::Outcomes;

pub(crate) use self::open::{OpenPlan, Requests, open_loop};

/// What one run does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// Connections held open.
    pub(crate) connections: usize,
    /// Time over which they are opened; zero opens all in one burst.
    pub(crate) spread: Duration,
    /// Load before the window, after the last connection was opened.
    pub(crate) warmup: Duration,
    /// The measured window.
    pub(crate) window: Duration,
    /// When requests are due in an open loop; `None` is a closed loop.
    pub(crate) open: Option<Open>,
    /// Within which an answer is good; without it, every answer is.
    pub(crate) slo: Option<Duration>,
    /// How long stragglers are awaited after the window.
    pub(crate) drain: Duration,
    /// The process whose CPU time is observed over the window.
    pub(crate) observed: Option<u32>,
}

/// The open loop of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// Due times in ascending order, in nanoseconds from the begin of the warm-up.
    pub(crate) due: Arc<[u64]>,
    /// Connections opened at most, when those there are all busy.
    pub(crate) connections_max: usize,
}

/// How a run stands, for whoever watches it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// How much of it has passed, 0 to 1; stragglers are awaited at 1.
    pub(crate) share: f64,
    /// What has ended in the window.
    pub(crate) outcomes: Outcomes,
    /// Requests in flight.
    pub(crate) in_flight: usize,
}

/// Runs the plan on the calling thread. `client` makes the protocol state of each fresh connection.
///
/// Fails if the first connection cannot be opened; any later trouble is counted in the report instead.
pub(crate) fn run<P: Protocol>(plan: &Plan, client: impl Fn() -> P) -> io::Result<Report> {
    run_watched(plan, client, &mut |_| {})
}

/// [`run`], with a spectator who looks about ten times a second.
pub(crate) fn run_watched<P: Protocol>(
    plan: &Plan,
    client: impl Fn() -> P,
    spectator: &mut dyn FnMut(Look),
) -> io::Result<Report> {
    if plan.open.is_some() {
        raise_open_files()?;
        sleep_exactly()?;
    }
    driver::drive(plan, client, spectator)
}

#[cfg(test)]
mod tests;
