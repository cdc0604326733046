//! NVML, by `nvml-wrapper`, which opens the library by name.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{Described, Source, Usage};

/// The name that the driver installs it under, and container runtimes mount it by; the one without the number comes with the
/// development files alone.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The open library.
pub(super) struct Library(Nvml);

impl Library {
    /// Opens it.
    pub(super) fn open() -> Result<Self, String> {
        Nvml::builder().lib_path(LIBRARY.as_ref()).init().map(Self).map_err(|cause| {
            let why = match cause {
                // It names the library itself.
                NvmlError::LibloadingError(cause) => cause.to_string(),
                cause => format!("{LIBRARY}: {cause}"),
            };
            format!("no NVIDIA driver: {why} (a container has to be given GPUs: nvidia.com/gpu, or docker run --gpus)")
        })
    }
}

impl Source for Library {
    fn gpus(&self) -> Result<Vec<Described>, String> {
        let count =
            self.0.device_count().map_err(|cause| format!("the NVIDIA driver does not tell its GPUs: {cause}"))?;
        let described = |index| {
            // One that has failed keeps its place, since the numbers of the others go by it.
            let Ok(device) = self.0.device_by_index(index) else { return Described::default() };
            Described {
                name: device.name().unwrap_or_else(|_| "NVIDIA GPU".into()),
                uuid: device.uuid().unwrap_or_default(),
                memory_bytes: device.memory_info().ok().map(|memory| memory.total),
            }
        };
        Ok((0..count).map(described).collect())
    }

    fn usage(&self, index: u32) -> Usage {
        let Ok(device) = self.0.device_by_index(index) else { return Usage::default() };
        // NVML counts in milliwatts and millijoules.
        let thousandth = |count: u32| f64::from(count) / 1e3;
        Usage {
            memory_used: device.memory_info().ok().map(|memory| memory.used),
            utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            power_watts: device.power_usage().ok().map(thousandth),
            power_limit_watts: device.enforced_power_limit().ok().map(thousandth),
            energy_joules: device.total_energy_consumption().ok().map(|millijoules| millijoules as f64 / 1e3),
        }
    }
}
