//! One core for both doors: `tower` layers from a decoded request to its answer.
//!
//! From the outside in: [`observe`] sees every outcome; [`deadline`] stamps the deadline and gives up when it passes, so
//! that nothing below has to; [`route`] has the [`router`] pick the version that answers; [`cache`] answers again what was asked
//! before, for models that keep their answers; [`dispatch`] checks the request against that
//! version's signature and runs it. A door decodes, calls the stack, encodes. Nothing here knows which door it was.

mod cache;
mod deadline;
mod dispatch;
mod observe;
mod placed;
mod route;
pub mod router;
mod texts;
mod watched;

use std::sync::Arc;

use tower::{Layer, Service};

use crate::error::Error;
use crate::infer::{InferRequest, InferResponse};
use crate::shared_memory::Regions;
use crate::telemetry::Telemetry;

pub use cache::{Cache, CacheLayer, ResponseCache};
pub use deadline::{Deadline, DeadlineLayer};
pub use dispatch::Dispatch;
pub use observe::{Observe, ObserveLayer};
pub use route::{Route, RouteLayer};
pub use router::Router;
pub use watched::{note_answer, note_body, watched};

/// The whole stack. Cloning is cheap: a clone for each connection.
pub type Stack = Observe<Deadline<Route<Cache<Dispatch>>>>;

/// Builds the stack, in which `router` picks versions; tensors may lie in `regions` where there are such, and answers of models
/// that keep them in `cache`. Where calls come [`watched()`], it notes in their trails what they are about.
pub fn stack(
    router: Arc<Router>,
    telemetry: Arc<Telemetry>,
    regions: Option<Arc<Regions>>,
    cache: Arc<ResponseCache>,
    watched: bool,
) -> Stack {
    // Below the router, since what was answered belongs to the version that answered it.
    let dispatch = CacheLayer::new(cache).layer(Dispatch::new(regions));
    // Innermost: the version is picked once, and everything that a version decides happens below.
    let route = RouteLayer::new(router).layer(dispatch);
    // Above the router, so that the wait for a version that is being swapped in counts too.
    let deadline = DeadlineLayer::new().layer(route);
    // Outermost, so that time-outs and refusals are seen like any other outcome.
    ObserveLayer::new(telemetry, watched).layer(deadline)
}

/// What a door needs of the stack.
pub trait InferService: Service<InferRequest, Response = InferResponse, Error = Error> {}

impl<S: Service<InferRequest, Response = InferResponse, Error = Error>> InferService for S {}
