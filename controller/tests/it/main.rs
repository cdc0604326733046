//! The controller's tests: plans against files, properties, and the binary against an API server in memory.

mod apiserver;
mod binary;
mod crds;
mod golden;
mod ownership;
mod properties;
mod router;
mod scaling;
mod store;
mod world;
