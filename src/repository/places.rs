//! Where a version can be loaded: what its settings ask for, of what its runtime can use and what there is.

use crate::devices::Devices;
use crate::error::{Error, Result};
use crate::model::{Device, DeviceChoice};

/// The devices that a version can be loaded on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// GPUs, of which any will do.
    pub(super) gpus: Vec<Device>,
    /// Whether the processor will do where none of them does.
    pub(super) or_cpu: bool,
}

/// The device that a version is to be loaded on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: Device,
    /// Whether the processor will do too.
    pub(super) or_cpu: bool,
    /// Bytes that models may take on the device together, where that is bounded.
    pub(super) bytes_max: Option<u64>,
}

impl Places {
    /// The processor alone.
    pub(super) const CPU: Places = Places { gpus: Vec::new(), or_cpu: true };

    /// What `choice` comes to; `support` is whether the runtime can use GPUs, and why not. What asks for none asks nobody what
    /// there is.
    ///
    /// # Errors
    /// `ModelUnavailable` that says what is missing, where only a GPU would do.
    pub(super) fn of(choice: DeviceChoice, support: Result<(), String>, devices: &Devices) -> Result<Self> {
        let missing = |why: &dyn std::fmt::Display| {
            let else_ = "device = \"auto\" or \"cpu\" serves it on the CPU";
            Err(Error::unavailable(format!("device '{choice}' cannot be had: {why}; {else_}")))
        };
        let number = match choice {
            DeviceChoice::Cpu => return Ok(Self::CPU),
            DeviceChoice::Auto => {
                let gpus = support.ok().and_then(|()| devices.gpus().ok()).unwrap_or_default();
                return Ok(Self { gpus: gpus.iter().map(|gpu| Device::Cuda(gpu.number)).collect(), or_cpu: true });
            }
            DeviceChoice::Cuda(number) => number,
        };
        if let Err(why) = support {
            return missing(&why);
        }
        let gpus = match devices.gpus() {
            Ok(gpus) => gpus,
            Err(why) => return missing(&why),
        };
        let wanted = gpus.iter().filter(|gpu| number.is_none_or(|number| gpu.number == number));
        let wanted: Vec<Device> = wanted.map(|gpu| Device::Cuda(gpu.number)).collect();
        if wanted.is_empty() {
            let there: Vec<String> = gpus.iter().map(ToString::to_string).collect();
            return missing(&format_args!("there is no such GPU, but {}", there.join(", ")));
        }
        Ok(Self { gpus: wanted, or_cpu: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{Described, Source, Usage};

    struct Two;

    impl Source for Two {
        fn gpus(&self) -> Result<Vec<Described>, String> {
            let gpu = |name: &str| Described { name: name.into(), uuid: String::new(), memory_bytes: None };
            Ok(vec![gpu("A100"), gpu("T4")])
        }

        fn usage(&self, _index: u32) -> Usage {
            Usage::default()
        }
    }

    fn places(choice: DeviceChoice, support: Result<(), &str>, visible: &str) -> Result<Places, String> {
        let devices = Devices::of(Two, Some(visible));
        Places::of(choice, support.map_err(String::from), &devices).map_err(|error| error.to_string())
    }

    #[test]
    fn auto_takes_a_gpu_only_where_there_is_one_that_the_runtime_can_use() {
        let gpus = |numbers: &[u32]| numbers.iter().map(|&number| Device::Cuda(number)).collect::<Vec<_>>();
        let both = Places { gpus: gpus(&[0, 1]), or_cpu: true };
        assert_eq!(places(DeviceChoice::Auto, Ok(()), "0,1"), Ok(both));
        assert_eq!(places(DeviceChoice::Auto, Ok(()), ""), Ok(Places::CPU));
        assert_eq!(places(DeviceChoice::Auto, Err("it cannot"), "0,1"), Ok(Places::CPU));
        assert_eq!(places(DeviceChoice::Cpu, Ok(()), "0,1"), Ok(Places::CPU));
    }

    #[test]
    fn a_gpu_that_is_asked_for_is_had_or_refused_with_what_is_missing() {
        let only = |number| Ok(Places { gpus: vec![Device::Cuda(number)], or_cpu: false });
        assert_eq!(places(DeviceChoice::Cuda(Some(1)), Ok(()), "0,1"), only(1));
        assert_eq!(places(DeviceChoice::Cuda(None), Ok(()), "1"), only(0));
        for (choice, support, visible, hint) in [
            (DeviceChoice::Cuda(Some(2)), Ok(()), "0,1", "no such GPU, but cuda:0 (A100), cuda:1 (T4)"),
            (DeviceChoice::Cuda(Some(1)), Ok(()), "1", "no such GPU, but cuda:0 (T4)"),
            (DeviceChoice::Cuda(None), Ok(()), "", "CUDA_VISIBLE_DEVICES='' leaves none of the 2 GPUs"),
            (DeviceChoice::Cuda(None), Err("it was built without CUDA"), "0", "it was built without CUDA"),
        ] {
            let told = places(choice, support, visible).unwrap_err();
            let whole = format!("device '{choice}' cannot be had: ");
            assert!(told.starts_with(&whole) && told.contains(hint) && told.contains("device = \"auto\""), "{told}");
        }
    }
}
