//! Text in, answers out: the second face of a model that has a tokenizer beside it.
//!
//! `folder` is what the files beside a `tokenizer.json` say, as Hugging Face and sentence-transformers write them; [`Form`] is
//! what follows for a model's tensors: which inputs take token ids, which output holds what is asked for, and what is made of it
//! ([`pooling`], [`classes`], [`tags`]). [`TextFace`] makes tokens, on a [`Pool`] where that takes long. Everything here is a
//! function of texts and tensors: it knows no door, no scheduler and no runtime. Whoever runs the model asks for
//! [`Group`]s of tensors, and gives back what they became.

mod classes;
mod face;
mod folder;
mod form;
mod pool;
mod pooling;
mod tags;
mod task;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use face::{Asked, Beside, TextFace};
pub use folder::is_read;
pub use form::{Form, Group, Reduced};
pub use pool::Pool;
pub use tokenizer::Tokens;
