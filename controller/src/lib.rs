//! The companion controller: KServe's InferenceService on plain Kubernetes.
//!
//! `api` has the resources as users write them, `plan` decides (pure), `rollout` judges new revisions (pure), `run` watches and applies,
//! `router` splits requests and serves graphs, which `graph` evaluates (pure), `v2` reads the protocol's messages (pure).

pub mod admin;
pub mod api;
pub mod config;
pub mod demand;
pub mod graph;
pub mod plan;
pub mod rollout;
pub mod router;
pub mod run;
pub mod scrape;
pub mod simulate;
pub mod tree;
pub mod v2;
