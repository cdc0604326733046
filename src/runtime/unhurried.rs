//! Work that gives way to whatever else wants a core.

use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The lowest priority that there is: beside a thread of the usual one it gets a seventieth of a core (the kernel's weights of
/// 15 and 1024).
const NICENESS: i32 = 19;

/// How long a thread of the lowest priority has a core to itself among its like: the least that there is. With the kernel's own,
/// two of them on one core owe each other so much time after a while that what one is owed goes before a thread of the usual
/// priority that wakes up: up to a tick of the clock, 4 ms (EEVDF: Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First",
/// 1995; in Linux since 6.6, and a slice of one's own since 6.12).
const SLICE: Duration = Duration::from_micros(100);

/// How long a thread stays that has nothing to do: as long as tokio's for blocking work.
const STAYS: Duration = Duration::from_secs(10);

/// What is to be done.
type Work = Box<dyn FnOnce() + Send>;

/// The threads of [`unhurriedly`].
static THREADS: Threads = Threads { state: Mutex::new(State::NONE), added: Condvar::new() };

/// Threads at once that [`unhurriedly`] has: as many as could run. More work than that waits.
static THREADS_MAX: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

struct Threads {
    state: Mutex<State>,
    added: Condvar,
}

struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Those that have nothing to do.
    free: usize,
}

impl State {
    const NONE: Self = Self { waiting: VecDeque::new(), threads: 0, free: 0 };
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&'static self, work: Work) -> Result<(), Work> {
        let mut state = self.lock();
        state.waiting.push_back(work);
        if state.free >= state.waiting.len() {
            drop(state);
            self.added.notify_one();
            return Ok(());
        }
        if state.threads < *THREADS_MAX {
            let spawned = thread::Builder::new().name("unhurried".into()).spawn(|| self.serve());
            state.threads += usize::from(spawned.is_ok());
        }
        match state.threads {
            0 => state.waiting.pop_back().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Does what there is to do, until there has been nothing for a while.
    fn serve(&self) {
        give_way();
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                // It is told by the panic hook, and is whoever's who asked for it.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
                continue;
            }
            state.free += 1;
            let (locked, waited) = self.added.wait_timeout(state, STAYS).unwrap_or_else(PoisonError::into_inner);
            state = locked;
            state.free -= 1;
            if waited.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Has `work` done, once, on a thread that runs where no other wants to, without waiting for it; the thread was there before, if there was
/// such work lately. Gives it back where there is no such thread to be had. Not for what starts threads of its own, which would
/// inherit that for good.
pub fn unhurriedly(work: impl FnOnce() + Send + 'static) -> Result<(), Box<dyn FnOnce() + Send>> {
    THREADS.give(Box::new(work))
}

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
    // one does neither (sched(7), SCHED_IDLE). Its slice is stated before, as it is the usual policy that has one.
    #[cfg(target_os = "linux")]
    // SAFETY: the parameters are valid for the calls; 0 is the calling thread.
    unsafe {
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_policy = libc::SCHED_OTHER as u32;
        attributes.sched_nice = NICENESS;
        attributes.sched_runtime = SLICE.as_nanos() as u64;
        // Kernels that have no such slices do not look at it.
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
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
    fn work_that_nobody_waits_for_is_all_done_by_threads_that_stay_and_survive_a_panic() {
        let (done, all) = std::sync::mpsc::channel();
        for number in 0..60 {
            let done = done.clone();
            let work = move || {
                let niceness = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
                done.send((number, niceness)).unwrap();
                assert!(number % 25 != 0, "in there");
            };
            assert!(unhurriedly(work).is_ok());
        }
        drop(done);
        let mut all: Vec<(usize, i32)> = all.iter().collect();
        all.sort_unstable();
        assert_eq!(all, (0..60).map(|number| (number, NICENESS)).collect::<Vec<_>>());
        let threads = THREADS.lock().threads;
        assert!((1..=*THREADS_MAX).contains(&threads), "{threads}");
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
