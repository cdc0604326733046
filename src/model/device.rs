//! Where a model's executions run: the processor, or a GPU by its number.

use std::fmt;

/// A place of executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The processor's cores.
    #[default]
    Cpu,
    /// The GPU that CUDA gives this number: `CUDA_VISIBLE_DEVICES` counts.
    Cuda(u32),
}

impl Device {
    /// Whether it is a GPU.
    pub const fn is_gpu(self) -> bool {
        matches!(self, Device::Cuda(_))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// What settings say of it: `device` in `model.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// A GPU where there is one that the runtime can use, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU: the one with this number, or else whichever has most room. Without it the model is not served.
    Cuda(Option<u32>),
}

impl DeviceChoice {
    /// The choice that `text` names: "auto", "cpu", "cuda" or "cuda:1".
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(None)),
            _ => {
                let digits =
                    text.strip_prefix("cuda:").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                let number = digits.and_then(|digits| digits.parse().ok());
                let wrong =
                    || format!("unknown device '{text}', expected \"auto\", \"cpu\", \"cuda\" or a GPU as \"cuda:0\"");
                number.map(|number| DeviceChoice::Cuda(Some(number))).ok_or_else(wrong)
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(None) => f.write_str("cuda"),
            DeviceChoice::Cuda(Some(number)) => Device::Cuda(*number).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_shown_and_what_is_none_is_refused_with_what_would_be() {
        let choices = [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(None), DeviceChoice::Cuda(Some(7))];
        for choice in choices {
            assert_eq!(DeviceChoice::parse(&choice.to_string()), Ok(choice));
        }
        for text in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:4294967296", "cuda:0 ", "cpu:0"]
        {
            let told = DeviceChoice::parse(text).unwrap_err();
            assert!(told.starts_with(&format!("unknown device '{text}'")) && told.contains("\"cuda:0\""), "{told}");
        }
    }
}
