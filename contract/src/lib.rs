//! What the data plane and the controller share: metric names and how they are read, the protocol's datatypes, how a canary is
//! judged, how far apart two answers are, what a replica can serve.
//!
//! Everything here is pure: it knows neither of requests nor of clusters, and it depends on no other crate.

pub mod capacity;
pub mod compare;
pub mod datatype;
pub mod exposition;
pub mod metrics;
pub mod overhead;
pub mod signals;
pub mod verdict;
