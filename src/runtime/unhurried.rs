//! Work that gives way to whatever else wants a core.

use std::collections::VecDeque;
use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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

/// How long what was used is left lying for such a thread to put it away, where others wait for the room: as long as a load gives way.
const PATIENCE: Duration = Duration::from_millis(20);

/// What is to be done.
type Work = Box<dyn FnOnce() + Send>;

/// For batches that only fill what is left over, which may take long.
static FILLERS: Threads = Threads::new("filler");

/// For what models take that come and go, which must not wait for those.
static MOVES: Threads = Threads::new("move");

/// Threads at once that each of them has: as many as could run. More work than that waits.
static THREADS_MAX: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Those of them that have something to do.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Whether there is work that gives way.
pub(super) fn somebody_gives_way() -> bool {
    AT_WORK.load(Ordering::Relaxed) > 0
}

struct Threads {
    name: &'static str,
    state: Mutex<State>,
    added: Condvar,
}

struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Those that have nothing to do.
    free: usize,
}

impl Threads {
    const fn new(name: &'static str) -> Self {
        let state = State { waiting: VecDeque::new(), threads: 0, free: 0 };
        Self { name, state: Mutex::new(state), added: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `work` done, or gives it back where there is no thread to be had.
    fn give(&'static self, work: Work) -> Result<(), Work> {
        let mut state = self.lock();
        state.waiting.push_back(work);
        if state.free >= state.waiting.len() {
            drop(state);
            self.added.notify_one();
            return Ok(());
        }
        if state.threads < *THREADS_MAX {
            let spawned = thread::Builder::new().name(self.name.into()).spawn(|| self.serve());
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
                AT_WORK.fetch_add(1, Ordering::Relaxed);
                // It is told by the panic hook, and is whoever's who asked for it.
                let _ = catch_unwind(AssertUnwindSafe(work));
                AT_WORK.fetch_sub(1, Ordering::Relaxed);
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

/// Work that was left to threads of the lowest priority, and may be taken back until one gets to it.
#[derive(Clone)]
pub struct Left(Arc<Mutex<Option<Work>>>);

impl Left {
    /// Leaves `work` to `threads`; whether there are such.
    fn to(threads: &'static Threads, work: Work) -> (Self, bool) {
        let left = Self(Arc::new(Mutex::new(Some(work))));
        let taken = left.clone();
        let begin = move || {
            if let Some(work) = taken.take_back() {
                work();
            }
        };
        let is_given = threads.give(Box::new(begin)).is_ok();
        (left, is_given)
    }

    /// The work, where nobody has begun it.
    pub fn take_back(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Has a batch executed, which `work` does, on a thread that runs where no other wants to, without waiting for it; the thread was
/// there before, if there was such work lately. Where there is no such thread to be had, it is one for blocking work. Not for what starts
/// threads of its own, which would inherit that for good.
pub fn unhurriedly(work: impl FnOnce() + Send + 'static) -> Left {
    let (left, is_given) = Left::to(&FILLERS, Box::new(work));
    if !is_given && let Some(work) = left.take_back() {
        spawn_blocking(work);
    }
    left
}

/// Does `work` on a thread that runs where no other wants to, and waits for it. A panic in there goes on here. Where there is no such
/// thread to be had, it is merely more noticeable. Not for what starts threads of its own, which would inherit that for good, nor
/// for what waits for such work itself.
pub fn unhurried<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let (done, outcome) = mpsc::sync_channel(1);
    let work: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        // Somebody waits for it below.
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    });
    // SAFETY: what it borrows outlives it, as this function does not return before `work` has run or was dropped: it has the only
    // sender, and nothing but that is left of it once the outcome is sent.
    let work: Work = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + '_>, Work>(work) };
    if let Err(work) = MOVES.give(work) {
        work();
    }
    match outcome.recv() {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => resume_unwind(panic),
        // Only a thread that ends the process drops work.
        Err(mpsc::RecvError) => std::process::abort(),
    }
}

/// Has `work` done, which puts away what is not used any more: on a thread that runs where no other wants to, if one gets to it soon, and
/// else on one for blocking work. Resolves when it is done, by a panic too. Goes on where nobody waits for it any more.
pub async fn put_away(work: impl FnOnce() + Send + 'static) {
    put_away_by(&MOVES, work).await;
}

async fn put_away_by(threads: &'static Threads, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = oneshot::channel::<()>();
    let work: Work = Box::new(move || {
        let _done = done;
        work();
    });
    let (left, is_given) = Left::to(threads, work);
    let mut ended = pin!(ended);
    if is_given && timeout(PATIENCE, ended.as_mut()).await.is_ok() {
        return;
    }
    if let Some(work) = left.take_back() {
        // A panic in there is in the log.
        let _ = spawn_blocking(work).await;
    }
    let _ = ended.await;
}

/// Has this thread give way to all others, for good: nobody may take that back without a privilege.
pub fn give_way() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    // A nice thread is still let finish its slice before one that wakes up, and keeps it from being sent to that core; an idle
    // one does neither (sched(7), SCHED_IDLE). Its slice is stated before, as it is the usual policy that has one.
    #[cfg(target_os = "linux")]
    {
        state_slice(NICENESS);
        // SAFETY: the parameters are valid for the call; 0 is the calling thread.
        unsafe {
            let none = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none);
        }
    }
}

/// Gives this thread, of the usual policy and this niceness, [`SLICE`]. Kernels that have no such slices do not look at it.
#[cfg(target_os = "linux")]
fn state_slice(niceness: i32) {
    // SAFETY: zeros are valid for plain numbers, the attributes for the call; 0 is the calling thread.
    unsafe {
        let mut attributes: libc::sched_attr = mem::zeroed();
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_policy = libc::SCHED_OTHER as u32;
        attributes.sched_nice = niceness;
        attributes.sched_runtime = SLICE.as_nanos() as u64;
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
    }
}

/// Whether a thread that gives way takes nothing from others but idle time. It does where the process may not use all cores that it
/// may run on all of the time (cgroups(7), `cpu.max`): what it uses up is lacking to those that serve, however idle it is.
pub fn idle_time_is_free() -> bool {
    static IS_FREE: LazyLock<bool> = LazyLock::new(|| {
        #[cfg(target_os = "linux")]
        return rustix::thread::sched_getaffinity(None).is_ok_and(|cores| cores.count() as usize <= *THREADS_MAX);
        #[cfg(not(target_os = "linux"))]
        return false;
    });
    *IS_FREE
}

/// How long this thread has waited for a core up to now, though it could have run: what is measured on a thread that gives way
/// is to be told without it. Zero where the system does not tell (proc_pid_schedstat(5)).
pub fn waited_for_a_core() -> Duration {
    thread_local! {
        static TOLD: Option<File> = File::open("/proc/thread-self/schedstat").ok();
    }
    // Three numbers of at most 20 digits.
    let mut text = [0; 64];
    let read = TOLD.with(|told| told.as_ref()?.read_at(&mut text, 0).ok());
    let text = read.and_then(|read| str::from_utf8(&text[..read]).ok());
    let nanos = text.and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok());
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
            assert!(FILLERS.give(Box::new(work)).is_ok());
        }
        drop(done);
        let mut all: Vec<(usize, i32)> = all.iter().collect();
        all.sort_unstable();
        assert_eq!(all, (0..60).map(|number| (number, NICENESS)).collect::<Vec<_>>());
        let threads = FILLERS.lock().threads;
        assert!((1..=*THREADS_MAX).contains(&threads), "{threads}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_slice_is_as_short_as_stated_where_the_kernel_has_such() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let is_known = (numbers.next(), numbers.next()) >= (Some(6), Some(12));
        // The kernel tells it of threads of the usual policy alone.
        let told = || {
            state_slice(0);
            std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default()
        };
        let text = std::thread::spawn(told).join().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("se.slice"));
        let slice = line.and_then(|line| line.trim_start_matches([' ', ':']).parse().ok());
        if let Some(slice) = slice.filter(|_| is_known) {
            assert_eq!(Duration::from_nanos(slice), SLICE);
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_is_put_away_is_so_by_a_thread_of_the_lowest_priority() {
        static THREADS: Threads = Threads::new("here");
        let (told, policy) = std::sync::mpsc::channel();
        // SAFETY: it only asks; 0 is the calling thread.
        let tell = move || told.send(unsafe { libc::sched_getscheduler(0) }).unwrap();
        // However long it takes for it to get a core.
        assert!(Left::to(&THREADS, Box::new(tell)).1);
        assert_eq!(policy.recv().unwrap(), libc::SCHED_IDLE);
        put_away_by(&THREADS, || panic!("in there")).await;
    }

    #[test]
    fn what_is_left_may_be_taken_back_until_somebody_gets_to_it() {
        static THREADS: Threads = Threads::new("held");
        let held = Arc::new(Mutex::new(()));
        let guard = held.lock().unwrap();
        for _ in 0..*THREADS_MAX {
            let held = Arc::clone(&held);
            assert!(THREADS.give(Box::new(move || drop(held.lock()))).is_ok());
        }
        let (told, done) = std::sync::mpsc::channel();
        let (left, is_given) = Left::to(&THREADS, Box::new(move || told.send(()).unwrap()));
        assert!(is_given && done.try_recv().is_err());
        left.take_back().expect("nobody has got to it")();
        assert!(left.take_back().is_none());
        drop(guard);
        assert_eq!(done.iter().count(), 1);
    }

    #[tokio::test]
    async fn what_nobody_gets_to_is_put_away_all_the_same() {
        static THREADS: Threads = Threads::new("busy");
        let barrier = Arc::new(std::sync::Barrier::new(*THREADS_MAX + 1));
        for _ in 0..*THREADS_MAX {
            let barrier = Arc::clone(&barrier);
            let wait = move || {
                barrier.wait();
            };
            assert!(THREADS.give(Box::new(wait)).is_ok());
        }
        let (told, done) = std::sync::mpsc::channel();
        put_away_by(&THREADS, move || told.send(()).unwrap()).await;
        done.recv().unwrap();
        barrier.wait();
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
