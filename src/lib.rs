//! Tensorgate.
