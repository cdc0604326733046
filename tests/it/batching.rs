//! Requests joined into batches: everyone gets their own rows, and nobody pays for a neighbour.

mod formed;
mod limits;
mod padding;
mod poisoned;
mod priorities;
