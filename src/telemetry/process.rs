//! What the kernel says of this process and its machine, read when somebody asks.

use std::fs;
use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};

use super::text::Text;
use crate::contract::metrics::{process as names, triton};

/// Ticks a second in which Linux shows processor time to programs, whatever the kernel uses itself (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine's processor time when it was last asked for, busy and altogether.
#[derive(Debug, Default)]
pub(super) struct CpuTimes(Mutex<(u64, u64)>);

impl CpuTimes {
    /// The share that was busy since the last call; since the machine's start at the first.
    fn utilization(&self) -> Option<f64> {
        let now = cpu_times(&fs::read_to_string("/proc/stat").ok()?)?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (busy, all) = (now.0.saturating_sub(last.0), now.1.saturating_sub(last.1));
        *last = now;
        // Ticks are counted each on its own, so that a short while may show more busy ones than there were.
        Some(if all == 0 { 0.0 } else { (busy as f64 / all as f64).min(1.0) })
    }
}

/// Ticks busy and altogether, of the first line of `/proc/stat` (proc_stat(5)).
fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // The time of guests is in that of users already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|ticks| ticks.parse().ok()).collect();
    let (all, waits) = (ticks.iter().sum::<u64>(), ticks.get(3)? + ticks.get(4)?);
    Some((all - waits, all))
}

/// Writes what can be read; outside Linux that is the build alone.
pub(super) fn write(text: &mut Text, cpu: &CpuTimes) {
    if let Some(share) = cpu.utilization() {
        let help = "Share of the machine's processor time used since the last look, 0 to 1";
        text.single(triton::CPU_UTILIZATION, "gauge", help, share);
    }
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
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self { cpu_seconds: spent(&text)?, start_seconds: boot + ticks(&text, 22)? / TICKS_PER_SECOND })
    }
}

/// Processor time of this process up to now in seconds, user and system.
pub(super) fn cpu_seconds() -> Option<f64> {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Some(spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9)
}

fn spent(stat: &str) -> Option<f64> {
    Some((ticks(stat, 14)? + ticks(stat, 15)?) / TICKS_PER_SECOND)
}

/// A field of `/proc/self/stat` by its number there, from one.
fn ticks(stat: &str, number: usize) -> Option<f64> {
    // The name, in parentheses, may hold anything; what follows does not. The first field here is the third.
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

/// The bytes that a line of `file` gives in KiB.
fn kib_of(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_ticks_are_not_busy() {
        assert_eq!(cpu_times("cpu  10 1 5 70 10 1 2 1 4 0\ncpu0 1\n"), Some((20, 100)));
        assert_eq!(cpu_times("intr 1"), None);
    }
}
