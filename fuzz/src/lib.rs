//! What has to hold of any bytes that a decoder is given: one function for each target. The fuzz targets call them, and
//! tests/corpus.rs replays the kept corpus through them.

mod binary;
mod checkpoint;
mod coding;
mod curve;
mod exposition;
mod head;
mod json;
mod load;
mod numbers;
mod openai;
mod proto;
mod settings;
mod storage;
mod strings;
mod tally;
mod tensors;
mod traffic;
mod v1;
mod v2;

pub use binary::binary;
pub use checkpoint::checkpoint;
pub use coding::coding;
pub use curve::curve;
pub use exposition::exposition;
pub use head::head;
pub use json::json;
pub use load::load;
pub use numbers::numbers;
pub use openai::openai;
pub use proto::proto;
pub use settings::{config_pbtxt, model_toml};
pub use storage::storage;
pub use strings::strings;
pub use tally::tally;
pub use traffic::traffic;
pub use v1::v1;
pub use v2::v2;

/// Takes any bytes, and panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target with its name, which is its corpus' too.
pub const TARGETS: [(&str, Target); 19] = [
    ("binary", binary),
    ("checkpoint", checkpoint),
    ("coding", coding),
    ("config_pbtxt", config_pbtxt),
    ("curve", curve),
    ("exposition", exposition),
    ("head", head),
    ("json", json),
    ("load", load),
    ("model_toml", model_toml),
    ("numbers", numbers),
    ("openai", openai),
    ("proto", proto),
    ("storage", storage),
    ("strings", strings),
    ("tally", tally),
    ("traffic", traffic),
    ("v1", v1),
    ("v2", v2),
];
