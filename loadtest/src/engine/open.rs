//! An open loop in one call: what is asked, when, and within which objective.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Look, Open, Plan, run_watched};
use crate::arrivals::Arrivals;
use crate::http1::HttpClient;
use crate::http2::{Calls, GrpcClient};
use crate::report::Report;

/// What is sent, over either protocol, in turn.
#[derive(Clone)]
pub(crate) enum Requests {
    /// Whole HTTP/1.1 requests.
    Http(Arc<[Box<[u8]>]>),
    /// gRPC calls, and how many there may be at once on a connection.
    Grpc(Arc<Calls>, usize),
}

impl Requests {
    /// Runs a plan with these requests.
    pub(crate) fn run(&self, plan: &Plan, spectator: &mut dyn FnMut(Look)) -> std::io::Result<Report> {
        match self {
            Self::Http(requests) => run_watched(plan, || HttpClient::new(Arc::clone(requests)), spectator),
            Self::Grpc(calls, streams) => run_watched(plan, || GrpcClient::new(Arc::clone(calls), *streams), spectator),
        }
    }
}

/// An open loop.
#[derive(Clone)]
pub(crate) struct OpenPlan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// What is asked.
    pub(crate) requests: Requests,
    /// The arrival process,
    pub(crate) arrivals: Arrivals,
    /// its mean in requests per second (only a recording can do without),
    pub(crate) rate: Option<f64>,
    /// and the seed that fixes it.
    pub(crate) seed: u64,
    /// Load before the window.
    pub(crate) warmup: Duration,
    /// The measured window.
    pub(crate) window: Duration,
    /// Within which an answer is good.
    pub(crate) slo: Option<Duration>,
    /// Connections opened beforehand, and at most.
    pub(crate) connections: (usize, usize),
    /// How long stragglers are awaited after the window.
    pub(crate) drain: Duration,
    /// The process whose CPU time is observed over the window.
    pub(crate) observed: Option<u32>,
}

impl OpenPlan {
    /// The engine's plan, with every due time worked out.
    pub(crate) fn fixed(&self) -> Result<Plan, String> {
        let due = self.arrivals.due(self.rate, self.seed, self.warmup, self.window)?;
        let (connections, connections_max) = self.connections;
        Ok(Plan {
            address: self.address,
            connections,
            spread: Duration::ZERO,
            warmup: self.warmup,
            window: self.window,
            open: Some(Open { due, connections_max: connections_max.max(connections) }),
            slo: self.slo,
            drain: self.drain,
            observed: self.observed,
        })
    }
}

/// Offers the plan's load on the calling thread, whatever the server does with it, and reports on every request that
/// was due in the window. `spectator` looks about ten times a second; `&mut |_| {}` is one who does not care.
///
/// Fails if the arrivals cannot be worked out or the first connection cannot be opened.
pub(crate) fn open_loop(plan: &OpenPlan, spectator: &mut dyn FnMut(Look)) -> Result<Report, Box<dyn Error>> {
    Ok(plan.requests.run(&plan.fixed()?, spectator)?)
}
