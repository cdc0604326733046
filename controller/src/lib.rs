//! The companion controller: KServe's InferenceService on plain Kubernetes.
//!
//! `api` has the resources as users write them, `plan` decides (pure), `rollout` judges new revisions (pure), `run` watches and applies,
//! `router` splits requests.

pub mod admin;
pub mod api;
pub mod config;
pub mod plan;
pub mod rollout;
pub mod router;
pub mod run;
pub mod scrape;
pub mod tree;

// The server's own, so that both judge by the same statistics and name metrics alike. Two files that import nothing, rather than a
// crate of two files: no build of the controller compiles the server.
#[path = "../../src/contract/mod.rs"]
pub mod contract;
#[path = "../../src/verdict.rs"]
pub mod verdict;
