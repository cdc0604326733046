//! What the kernel knows of a process: on which core it runs, what CPU time it has used, how much memory it holds.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// A failed call as an error with the kernel's reason.
fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the calling thread, and threads and processes that it starts from now on, run on one core only.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::other(format!("there is no core {core}")));
    }
    // SAFETY: an all-zero cpu_set_t is an empty set; `core` is inside it; the set outlives the call, which only
    // reads it and makes no allocation, so it is also sound between fork and exec.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))
    }
}

/// Makes the child pin itself to `core` before it becomes the program.
pub(crate) fn pin_child(command: &mut Command, core: usize) {
    // SAFETY: the closure runs between fork and exec and makes one system call on success, without allocating.
    unsafe {
        command.pre_exec(move || pin(core));
    }
}

/// Makes the child die with the thread that started it, so that an aborted run leaves no server behind.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes plain integers and is async-signal-safe.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)));
    }
}

/// Has the calling thread run only where no other wants to, for good (sched(7), SCHED_IDLE).
pub(crate) fn give_way() -> io::Result<()> {
    // SAFETY: the parameters are valid for the call; 0 is the calling thread.
    unsafe {
        let none = libc::sched_param { sched_priority: 0 };
        check(libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none))
    }
}

/// Raises the limit of open files as far as an ordinary user may; an open loop opens connections as it needs them.
pub(crate) fn raise_open_files() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for reads and writes during both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))
    }
}

/// Lets sleeps of the calling thread end when they should, instead of up to 50 microseconds later.
pub(crate) fn sleep_exactly() -> io::Result<()> {
    // SAFETY: prctl with PR_SET_TIMERSLACK takes plain integers.
    unsafe { check(libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong)) }
}

/// The cores that the calling thread may run on.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is an empty set; the kernel fills it within its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set))?;
        set
    };
    // SAFETY: every index is below CPU_SETSIZE, which is the number of bits in the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// Runs `work` on a thread of its own that is pinned to `core`.
pub(crate) fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| pin(core).map(|()| work()));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// User and system time of all threads of a process, to the nanosecond (`/proc/PID/stat` counts in 10 ms ticks).
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both out-pointers are valid for writes during the calls.
    unsafe {
        if libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0
        {
            return None;
        }
    }
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Resident memory of a process in bytes, from `/proc/PID/status`.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_time(pid).expect("own CPU clock");
        let mut sum = 0u64;
        while cpu_time(pid).expect("own CPU clock") - before < Duration::from_millis(2) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_bytes(pid).expect("own status") > 100_000);
    }

    #[test]
    fn a_process_that_does_not_exist_has_neither() {
        assert_eq!(resident_bytes(u32::MAX - 1), None);
        // Linux gives no process a number above 2^22.
        assert_eq!(cpu_time((1 << 22) + 1), None);
    }

    #[test]
    fn a_thread_that_gives_way_is_an_idle_one_and_the_others_are_not() {
        // SAFETY: 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let lowered = std::thread::spawn(move || {
            give_way().unwrap();
            policy()
        });
        assert_eq!((lowered.join().unwrap(), policy()), (libc::SCHED_IDLE, libc::SCHED_OTHER));
    }

    #[test]
    fn pinning_to_a_core_that_does_not_exist_fails() {
        assert!(pin(1_000_000).is_err());
    }
}
