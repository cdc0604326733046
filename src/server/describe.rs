//! What both doors tell of a model beyond its metadata, as the message that gRPC sends; over HTTP it is the same in JSON.

mod config;
mod statistics;

pub(super) use config::config;
pub(super) use statistics::statistics;
