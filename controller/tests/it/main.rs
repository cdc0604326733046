//! The controller's tests: plans against files, properties, and the binary against an API server in memory.

mod activator;
mod apiserver;
mod binary;
mod cluster;
mod crds;
mod discovery;
mod golden;
mod graph_router;
mod graphs;
mod ownership;
mod properties;
mod readme;
mod rollout;
mod router;
mod scaling;
mod store;
mod world;
