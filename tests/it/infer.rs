//! Inference: the right answers, by every way of asking.

mod doors;
mod outputs;
mod versions;
