//! Inference: the right answers, by every way of asking.

mod classes;
mod doors;
mod memory;
mod outputs;
mod versions;
