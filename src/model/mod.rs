//! What a model is, before anything runs it: names, versions, signature, settings and state.
//!
//! Pure data. This room reads the text of `model.toml` and `config.pbtxt`, but opens no file and loads nothing.

mod device;
mod load;
mod name;
mod pbtxt;
pub mod settings;
mod signature;
mod state;
pub mod traffic;

pub use device::{Device, DeviceChoice};
pub use load::{FILE_PREFIX, LoadOverrides, LoadParameter};
pub use name::{ModelName, Version};
pub use settings::{ModelSettings, RuntimeChoice, VersionPolicy};
pub use signature::{Dim, Pad, Signature, TensorSpec};
pub use state::{ModelState, VersionStatus};
pub use traffic::TrafficSettings;
