//! What transformers compute on a CPU, in FP32 on plain slices: products with packed weights, attention, norms, activations.
//!
//! Each function is compiled for AVX-512, for AVX2 with FMA and for whatever the target has, and the widest that this processor
//! knows is chosen when it is called. No function allocates, locks or starts a thread: who calls has the memory and the threads.
//! A row is always computed by the same sequence of operations, whatever rows are beside it, so a batch answers bit for bit what
//! its rows alone do. It is a package of its own so that tests have it optimised while everything else builds quickly.

mod attention;
mod lanes;
mod panels;
mod pointwise;
mod product;
mod rows;

pub use attention::{AttentionScratch, Heads, Keys, attend};
pub use lanes::level;
pub use panels::Panels;
pub use pointwise::{Activation, activate, gate, norm, norm_in_place, read_floats, rotate};
pub use product::{Finish, multiply};
pub use rows::{Rows, RowsMut, stride_for};

#[cfg(test)]
mod tests;
