//! The controller's tests: plans against files, properties, and the binary against an API server in memory.

mod apiserver;
mod binary;
mod cluster;
mod crds;
mod golden;
mod ownership;
mod properties;
mod readme;
mod rollout;
mod router;
mod store;
mod world;
