//! The controller's tests: plans against files, properties, and the binary against an API server in memory.

mod activator;
mod apiserver;
mod binary;
mod cluster;
mod crds;
mod defaults;
mod discovery;
mod golden;
mod graph_grpc;
mod graph_router;
mod graphs;
mod lease;
mod nonsense;
mod ownership;
mod properties;
mod rbac;
mod readme;
mod refusals;
mod rollout;
mod router;
mod router_shadow;
mod rules;
mod scaling;
mod store;
mod world;
