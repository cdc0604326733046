//! The words that the data plane and the controller share: metric names and units.

pub mod metrics;
