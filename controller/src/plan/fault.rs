//! Why an InferenceService cannot be served as it is written.

/// KServe's words for why: `modelStatus.lastFailureInfo.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The spec contradicts itself or asks for what there is not.
    InvalidPredictorSpec,
    /// No runtime serves the format.
    NoSupportingRuntime,
    /// The runtime that is named does not exist.
    RuntimeNotRecognized,
    /// The runtime that is named is switched off.
    RuntimeDisabled,
}

impl Reason {
    /// As clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPredictorSpec => "InvalidPredictorSpec",
            Self::NoSupportingRuntime => "NoSupportingRuntime",
            Self::RuntimeNotRecognized => "RuntimeNotRecognized",
            Self::RuntimeDisabled => "RuntimeDisabled",
        }
    }
}

/// A fault of the spec, with what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The class.
    pub reason: Reason,
    /// Names the field and what would be right.
    pub message: String,
}

impl Fault {
    /// The spec contradicts itself or asks for what there is not.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidPredictorSpec, message: message.into() }
    }
}
