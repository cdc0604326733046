//! Tensors as either door sends and receives them.
