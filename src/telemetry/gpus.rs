//! How the machine's GPUs are doing, asked of their driver when somebody asks for metrics; by Triton's names too.

use super::text::Text;
use crate::contract::metrics::{gpu as names, triton};
use crate::devices::{Devices, Gpu, Usage};

/// A GPU at a moment.
#[derive(Clone, Debug)]
pub struct GpuTold {
    gpu: Gpu,
    usage: Usage,
}

/// Reads all GPUs of this process: none where there is no driver. Blocking.
pub(super) fn read(devices: &Devices) -> Vec<GpuTold> {
    let told = |gpu: &Gpu| GpuTold { gpu: gpu.clone(), usage: devices.usage(gpu.number) };
    devices.gpus().unwrap_or_default().iter().map(told).collect()
}

type Value = fn(&GpuTold) -> Option<f64>;

const FAMILIES: [(&str, &str, &str, &str, Value); 6] = [
    (names::MEMORY_TOTAL, triton::GPU_MEMORY_TOTAL, "gauge", "Memory of a GPU", |told| {
        told.gpu.described.memory_bytes.map(|bytes| bytes as f64)
    }),
    (names::MEMORY_USED, triton::GPU_MEMORY_USED, "gauge", "Memory of a GPU in use, by whomever", |told| {
        told.usage.memory_used.map(|bytes| bytes as f64)
    }),
    (
        names::UTILIZATION,
        triton::GPU_UTILIZATION,
        "gauge",
        "Share of the time in which a GPU computes, 0 to 1",
        |told| told.usage.utilization,
    ),
    (names::POWER, triton::GPU_POWER_USAGE, "gauge", "Watts that a GPU takes", |told| told.usage.power_watts),
    (names::POWER_LIMIT, triton::GPU_POWER_LIMIT, "gauge", "Watts that a GPU may take", |told| {
        told.usage.power_limit_watts
    }),
    (names::ENERGY, triton::GPU_ENERGY, "counter", "Joules that a GPU has taken", |told| told.usage.energy_joules),
];

/// Writes what is known; nothing where there are no GPUs.
pub(super) fn write(told: &[GpuTold], text: &mut Text) {
    for (name, triton, kind, help, value) in FAMILIES {
        let known: Vec<_> = told.iter().filter_map(|told| Some((&told.gpu, value(told)?))).collect();
        if known.is_empty() {
            continue;
        }
        text.family(name, kind, help);
        for (gpu, value) in &known {
            let device = format!("cuda:{}", gpu.number);
            text.sample(name, &[("device", &device), ("gpu_uuid", &gpu.described.uuid)], value);
        }
        text.family(triton, kind, help);
        for (gpu, value) in &known {
            text.sample(triton, &[("gpu_uuid", &gpu.described.uuid)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{Described, Source};

    struct Pair;

    impl Source for Pair {
        fn gpus(&self) -> Result<Vec<Described>, String> {
            let gpu = |uuid: &str| Described { name: "T4".into(), uuid: uuid.into(), memory_bytes: Some(16 << 30) };
            Ok(vec![gpu("GPU-a"), gpu("GPU-b")])
        }

        fn usage(&self, index: u32) -> Usage {
            let utilization = Some(f64::from(index) / 4.0);
            Usage { memory_used: Some(5 << 30), utilization, energy_joules: Some(7.5), ..Usage::default() }
        }
    }

    fn told(devices: &Devices) -> String {
        let mut text = Text::default();
        write(&read(devices), &mut text);
        text.finish()
    }

    #[test]
    fn each_gpu_is_told_under_our_names_and_tritons_as_far_as_its_driver_tells() {
        let told = told(&Devices::of(Pair, None));
        for line in [
            "tensorgate_gpu_memory_total_bytes{device=\"cuda:0\",gpu_uuid=\"GPU-a\"} 17179869184",
            "tensorgate_gpu_memory_used_bytes{device=\"cuda:1\",gpu_uuid=\"GPU-b\"} 5368709120",
            "tensorgate_gpu_utilization_ratio{device=\"cuda:1\",gpu_uuid=\"GPU-b\"} 0.25",
            "# TYPE tensorgate_gpu_energy_joules_total counter",
            "nv_gpu_utilization{gpu_uuid=\"GPU-a\"} 0",
            "nv_gpu_memory_used_bytes{gpu_uuid=\"GPU-b\"} 5368709120",
            "nv_energy_consumption{gpu_uuid=\"GPU-b\"} 7.5",
        ] {
            assert!(told.lines().any(|found| found == line), "{line} in {told}");
        }
        assert!(!told.contains("power"), "what is not known is not told: {told}");
    }

    #[test]
    fn a_machine_without_gpus_tells_nothing_of_them() {
        assert_eq!(told(&Devices::of(Pair, Some(""))), "");
    }
}
