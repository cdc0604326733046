//! Conformance suites: what every implementation of a seam has to do, written once and run over each of them.

mod runtime;
mod storage;
