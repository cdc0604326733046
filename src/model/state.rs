//! What a version is doing.

use std::fmt;

use super::Version;

/// The life of a version: unavailable -> loading -> ready -> unloading -> unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// Being loaded and warmed up.
    Loading,
    /// Loaded and warmed up by a real run.
    Ready,
    /// Takes no new requests; finishes those that it has.
    Unloading,
    /// Not served, and why: "unloaded", or what went wrong.
    Unavailable(String),
}

impl ModelState {
    /// The name on the wire, as Triton's index says it.
    pub fn name(&self) -> &'static str {
        match self {
            ModelState::Loading => "LOADING",
            ModelState::Ready => "READY",
            ModelState::Unloading => "UNLOADING",
            ModelState::Unavailable(_) => "UNAVAILABLE",
        }
    }

    /// Why it is not served, where there is more to say than the state.
    pub fn reason(&self) -> &str {
        match self {
            ModelState::Unavailable(reason) => reason,
            _ => "",
        }
    }
}

impl fmt::Display for ModelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line of the repository's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// Which version; `None` for a model that has none yet, such as one whose settings cannot be read.
    pub version: Option<Version>,
    /// What it is doing.
    pub state: ModelState,
}
