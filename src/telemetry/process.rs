//! What the kernel says of this process and its machine, read when somebody asks.

use std::fs;

use super::text::Text;
use crate::contract::metrics::{process as names, triton};

/// Ticks a second in which Linux shows processor time to programs, whatever the kernel uses itself (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what can be read; outside Linux that is the build alone.
pub(super) fn write(text: &mut Text) {
    text.family(names::BUILD, "gauge", "1, with the version of this server");
    text.sample(names::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(stat) = Stat::read() {
        text.single(names::CPU_SECONDS, "counter", "Processor time, user and system", stat.cpu_seconds);
        let help = "Start of the process, in seconds since 1970";
        text.single(names::START, "gauge", help, stat.start_seconds);
    }
    if let Some(bytes) = kib_of("/proc/self/status", "VmRSS:") {
        text.single(names::RESIDENT, "gauge", "Resident memory", bytes);
    }
    if let Some(bytes) = kib_of("/proc/self/status", "VmSize:") {
        text.single(names::VIRTUAL, "gauge", "Virtual memory", bytes);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        text.single(names::OPEN_FDS, "gauge", "Open file descriptors", descriptors.count());
    }
    if let (Some(total), Some(free)) = (kib_of("/proc/meminfo", "MemTotal:"), kib_of("/proc/meminfo", "MemAvailable:"))
    {
        text.single(triton::CPU_MEMORY_TOTAL, "gauge", "Memory of the machine", total);
        text.single(triton::CPU_MEMORY_USED, "gauge", "Memory of the machine in use", total.saturating_sub(free));
    }
}

/// `/proc/self/stat` (proc_pid_stat(5)).
struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may hold anything; what follows does not. The first field here is the third.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            start_seconds: boot + ticks(22)? / TICKS_PER_SECOND,
        })
    }
}

/// The bytes that a line of `file` gives in KiB.
fn kib_of(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
