//! Integration tests, by behaviour: a server in this process, or the real program, and clients on sockets.

mod attacks;
mod auth;
mod batching;
mod bounds;
mod config;
mod deadline;
mod drain;
mod encoding;
mod http;
mod infer;
mod learned;
mod lifecycle;
mod metrics;
mod openapi;
mod parity;
mod reload;
mod shared_memory;
mod storage;
mod support;
mod surface;
mod telemetry;
mod tls;
mod traffic;
mod v1;
