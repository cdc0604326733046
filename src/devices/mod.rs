//! The GPUs of this machine, as NVIDIA's management library (NVML) tells: which there are, and how they are doing.
//!
//! The library comes with the driver. It is loaded when somebody first asks, and where it is not there a server costs nothing
//! more and says why it knows of no GPU. Nothing here computes on a GPU: that is the runtimes' work.

mod nvml;
#[cfg(test)]
mod tests;
mod visible;

use std::fmt;
use std::sync::OnceLock;

use visible::visible;

/// A GPU as its driver describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// What it is: "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// The name that no other has: "GPU-" and a UUID.
    pub uuid: String,
    /// Its memory, where that is told.
    pub memory_bytes: Option<u64>,
}

/// How a GPU is doing at a moment. What the driver does not tell is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Bytes of its memory that are in use, by whomever.
    pub memory_used: Option<u64>,
    /// The share of the time in which it computed, 0 to 1, over the driver's last sample (up to a second).
    pub utilization: Option<f64>,
    /// Watts that it takes.
    pub power_watts: Option<f64>,
    /// Watts that it may take.
    pub power_limit_watts: Option<f64>,
    /// Joules that it has taken since the driver was loaded.
    pub energy_joules: Option<f64>,
}

/// Where GPUs are known from.
pub trait Source: Send + Sync {
    /// All of the machine, in the order of their PCI addresses.
    ///
    /// # Errors
    /// Why none is known.
    fn gpus(&self) -> Result<Vec<Described>, String>;

    /// How the one at `index` of them is doing.
    fn usage(&self, index: u32) -> Usage;
}

/// A GPU that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number in this process: that of `cuda:1`.
    pub number: u32,
    /// Its place among all, where it is one of them: a part of one (MIG) is not.
    index: Option<u32>,
    /// What it is.
    pub described: Described,
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.number, self.described.name)
    }
}

/// The GPUs that this process may use.
#[derive(Default)]
pub struct Devices {
    known: OnceLock<Result<Known, String>>,
}

struct Known {
    source: Box<dyn Source>,
    /// At least one.
    gpus: Vec<Gpu>,
}

impl Devices {
    /// Those that `source` tells of, out of which `visible` (the value of `CUDA_VISIBLE_DEVICES`) chooses.
    pub fn of(source: impl Source + 'static, visible: Option<&str>) -> Self {
        Self { known: Known::of(Box::new(source), visible).into() }
    }

    /// At least one GPU, in the order of their numbers. Loads the driver's library at the first call: some ten milliseconds.
    ///
    /// # Errors
    /// Why there is none, and what would be right.
    pub fn gpus(&self) -> Result<&[Gpu], &str> {
        match self.known() {
            Ok(known) => Ok(&known.gpus),
            Err(why) => Err(why),
        }
    }

    /// The GPU with this number.
    pub fn gpu(&self, number: u32) -> Option<&Gpu> {
        self.gpus().ok()?.iter().find(|gpu| gpu.number == number)
    }

    /// How the GPU with this number is doing. Asks the driver: up to some milliseconds.
    pub fn usage(&self, number: u32) -> Usage {
        let read = |known: &Known| {
            let index = known.gpus.iter().find(|gpu| gpu.number == number)?.index?;
            Some(known.source.usage(index))
        };
        self.known().as_ref().ok().and_then(read).unwrap_or_default()
    }

    fn known(&self) -> &Result<Known, String> {
        self.known.get_or_init(|| {
            let told = std::env::var("CUDA_VISIBLE_DEVICES").ok();
            Known::of(Box::new(nvml::Library::open()?), told.as_deref())
        })
    }
}

impl Known {
    fn of(source: Box<dyn Source>, told: Option<&str>) -> Result<Self, String> {
        let all = source.gpus()?;
        if all.is_empty() {
            return Err("the NVIDIA driver tells of no GPU".into());
        }
        let count = all.len();
        let gpus = visible(all, told);
        match (gpus.is_empty(), told) {
            (true, Some(told)) => Err(format!("CUDA_VISIBLE_DEVICES='{told}' leaves none of the {count} GPUs")),
            _ => Ok(Self { source, gpus }),
        }
    }
}
