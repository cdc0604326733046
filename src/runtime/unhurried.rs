//! Work that gives way to whatever else wants a core.

use std::panic::resume_unwind;
use std::thread;

/// The lowest priority that there is: beside a thread of the usual one it gets a seventieth of a core (the kernel's weights of
/// 15 and 1024).
const NICENESS: i32 = 19;

/// Does `work`, once, on a thread of the lowest priority, and waits for it. A panic in there goes on here. Where there is no such
/// thread to be had, it is merely more noticeable. Not for what starts threads of its own, which would inherit that for good.
pub fn unhurried<T: Send>(mut work: impl FnMut() -> T + Send) -> T {
    let done = thread::scope(|scope| {
        let lowered = || {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
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
    fn a_panic_goes_on_where_the_work_was_asked_for() {
        assert!(catch_unwind(|| unhurried(|| panic!("in there"))).is_err());
    }
}
