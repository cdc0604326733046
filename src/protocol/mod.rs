//! Wire formats: bytes to an `InferRequest` and an `InferResponse` to bytes, and the one table of statuses.
//!
//! Pure conversion. This room opens no socket and looks up no model; both doors use it, and neither decides anything here.

pub mod json;
pub mod openai;
pub mod proto;
pub mod status;
pub mod v1;
