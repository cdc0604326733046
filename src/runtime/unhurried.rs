//! Work that gives way to whatever else wants a core.

use std::fs;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// The lowest priority that there is: beside a thread of the usual one it gets a seventieth of a core (the kernel's weights of
/// 15 and 1024).
const NICENESS: i32 = 19;

/// Does `work`, once, on a thread that runs where no other wants to, and waits for it. A panic in there goes on here. Where there is no such
/// thread to be had, it is merely more noticeable. Not for what starts threads of its own, which would inherit that for good.
pub fn unhurried<T: Send>(mut work: impl FnMut() -> T + Send) -> T {
    let done = thread::scope(|scope| {
        let lowered = || {
            give_way();
            work()
        };
        thread::Builder::new().spawn_scoped(scope, lowered).ok().map(thread::ScopedJoinHandle::join)
    });
    match done {
        Some(Ok(done)) => done,
        Some(Err(panic)) => resume_unwind(panic),
        None => work(),
    }
}

/// Has this thread give way to all others, for good: nobody may take that back without a privilege.
fn give_way() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    // A nice thread is still let finish its slice before one that wakes up, and keeps it from being sent to that core; an idle
    // one does neither (sched(7), SCHED_IDLE).
    #[cfg(target_os = "linux")]
    // SAFETY: the parameters are valid for the call; 0 is the calling thread.
    unsafe {
        let none = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none);
    }
}

/// How long this thread has waited for a core up to now, though it could have run: what is measured on a thread that gives way
/// is to be told without it. Zero where the system does not tell (proc_pid_schedstat(5)).
pub fn waited_for_a_core() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.as_deref().and_then(|told| told.split_ascii_whitespace().nth(1)?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn work_is_done_once_on_a_thread_of_the_lowest_priority_and_this_one_keeps_its_own() {
        let niceness = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = niceness();
        assert_eq!(unhurried(niceness), NICENESS);
        assert_eq!(niceness(), before);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn work_gives_way_to_all_other_threads() {
        // SAFETY: it only asks; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        assert_eq!((unhurried(policy), policy()), (libc::SCHED_IDLE, libc::SCHED_OTHER));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_thread_waits_for_a_core_only_grows() {
        let before = waited_for_a_core();
        unhurried(|| ());
        assert!(waited_for_a_core() >= before);
    }

    #[test]
    fn a_panic_goes_on_where_the_work_was_asked_for() {
        assert!(catch_unwind(|| unhurried(|| panic!("in there"))).is_err());
    }
}
