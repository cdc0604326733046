//! Threads for batches that somebody waits for, and that take too long for the thread of their connections.
//!
//! Of threads that have nothing to do the one that had last is asked, so that they stay few: the kernel places a thread when it wakes
//! up, near where it ran before. Where no core is idle just then it comes to stand behind another batch, and a core that falls idle a
//! moment later takes it over; but not one on which a thread of the lowest priority is left to run: that core looks again
//! at the next tick of the clock, 4 ms later. So each of the first threads has a core of its own, its home, at which it wakes up
//! as long as there is work that gives way, and which it may leave once it runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::unhurried::somebody_gives_way;

/// How long a thread stays that has nothing to do: as long as tokio's for blocking work.
const STAYS: Duration = Duration::from_secs(10);

/// A batch; it calls what it is given before it tells of its end, for then the thread is as good as free.
type Work = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// Those that have nothing to do, and those to come.
static CREW: Mutex<Crew> = Mutex::new(Crew { free: Vec::new(), homes: None });

struct Crew {
    /// In the order in which they came to have nothing to do.
    free: Vec<Arc<Member>>,
    /// Cores that are nobody's home; not known before the first thread.
    homes: Option<Vec<usize>>,
}

impl Crew {
    fn lock() -> MutexGuard<'static, Self> {
        CREW.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one to be asked next: with a home, and else any.
    fn next(&mut self) -> Option<Arc<Member>> {
        let position = self.free.iter().rposition(|member| member.home.is_some());
        position.map(|position| self.free.remove(position)).or_else(|| self.free.pop())
    }

    fn home(&mut self) -> Option<usize> {
        self.homes.get_or_insert_with(affinity::cores).pop()
    }
}

struct Member {
    thread: affinity::Thread,
    home: Option<usize>,
    order: Mutex<Option<Order>>,
    came: Condvar,
}

struct Order {
    work: Work,
    /// Whether the thread was bound to its home for it.
    is_bound: bool,
}

impl Member {
    fn ask(&self, work: Work) {
        let is_bound = somebody_gives_way() && self.home.is_some_and(|home| affinity::bind(self.thread, home));
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(Order { work, is_bound });
        self.came.notify_one();
    }

    /// The next order; none where there was none for a while.
    fn wait(&self) -> Option<Order> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.came.wait_timeout_while(order, STAYS, |order| order.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// Has `work` done, without waiting for it. It calls what it is given once nothing is left but to tell of its end. Where there is no
/// thread to be had, it is one for blocking work.
pub fn promptly(work: impl FnOnce(&dyn Fn()) + Send + 'static) {
    let work: Work = Box::new(work);
    let member = Crew::lock().next();
    if let Some(member) = member {
        member.ask(work);
        return;
    }
    // Work comes back out of here where no thread takes it.
    let place = Arc::new(Mutex::new(Some(work)));
    let taken = Arc::clone(&place);
    let take = |place: &Mutex<Option<Work>>| place.lock().unwrap_or_else(PoisonError::into_inner).take();
    let first = move || {
        if let Some(work) = take(&taken) {
            serve(work);
        }
    };
    if thread::Builder::new().name("batch".into()).spawn(first).is_err()
        && let Some(work) = take(&place)
    {
        spawn_blocking(move || work(&|| ()));
    }
}

/// Does `work`, and what else there is to do, until there has been nothing for a while.
fn serve(work: Work) {
    let (home, cores) = (Crew::lock().home(), affinity::Cores::of_this_thread());
    let thread = affinity::Thread::this();
    let me = Arc::new(Member { thread, home, order: Mutex::default(), came: Condvar::new() });
    let mut work = work;
    loop {
        let is_free = std::cell::Cell::new(false);
        let set_free = || {
            if !is_free.replace(true) {
                Crew::lock().free.push(Arc::clone(&me));
            }
        };
        // It is told by the panic hook, and is whoever's who asked for it.
        let _ = catch_unwind(AssertUnwindSafe(|| work(&set_free)));
        set_free();
        let order = me.wait().or_else(|| {
            let mut crew = Crew::lock();
            match crew.free.iter().position(|member| Arc::ptr_eq(member, &me)) {
                Some(position) => {
                    crew.free.remove(position);
                    crew.homes.get_or_insert_default().extend(home);
                    None
                }
                None => {
                    drop(crew);
                    // Somebody is about to ask.
                    loop {
                        if let Some(order) = me.wait() {
                            return Some(order);
                        }
                    }
                }
            }
        });
        let Some(order) = order else { return };
        if order.is_bound {
            cores.allow();
        }
        work = order.work;
    }
}

/// Which cores threads may run on, where the system tells.
#[cfg(target_os = "linux")]
mod affinity {
    use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};

    #[derive(Clone, Copy)]
    pub(super) struct Thread(Pid);

    impl Thread {
        pub(super) fn this() -> Self {
            Self(gettid())
        }
    }

    /// Those that this thread may run on.
    pub(super) fn cores() -> Vec<usize> {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        (0..CpuSet::MAX_CPU).rev().filter(|core| allowed.is_set(*core)).collect()
    }

    /// Has `thread` run on `core` alone; whether that could be had.
    pub(super) fn bind(thread: Thread, core: usize) -> bool {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(Some(thread.0), &cores).is_ok()
    }

    pub(super) struct Cores(Option<CpuSet>);

    impl Cores {
        pub(super) fn of_this_thread() -> Self {
            Self(sched_getaffinity(None).ok())
        }

        /// Has this thread run on any of them.
        pub(super) fn allow(&self) {
            if let Some(cores) = &self.0 {
                // It was allowed before.
                let _ = sched_setaffinity(None, cores);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    #[derive(Clone, Copy)]
    pub(super) struct Thread;

    impl Thread {
        pub(super) fn this() -> Self {
            Self
        }
    }

    pub(super) fn cores() -> Vec<usize> {
        Vec::new()
    }

    pub(super) fn bind(_: Thread, _: usize) -> bool {
        false
    }

    pub(super) struct Cores;

    impl Cores {
        pub(super) fn of_this_thread() -> Self {
            Self
        }

        pub(super) fn allow(&self) {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn one_batch_after_another_is_all_done_though_one_panics_and_threads_are_asked_again() {
        let (told, ended) = mpsc::channel();
        let mut threads = std::collections::BTreeSet::new();
        for number in 0..50 {
            let told = told.clone();
            let work = move |set_free: &dyn Fn()| {
                let name = format!("{:?}", thread::current().id());
                if number == 10 {
                    told.send((number, name)).unwrap();
                    panic!("in there");
                }
                set_free();
                told.send((number, name)).unwrap();
            };
            promptly(work);
            let (ended, thread) = ended.recv().unwrap();
            assert_eq!(ended, number);
            threads.insert(thread);
        }
        // Other tests may have some of them meanwhile, and the one that panicked was not free yet.
        assert!(threads.len() < 25, "{threads:?}");
    }

    #[test]
    fn the_last_that_came_to_have_nothing_to_do_is_asked_first_and_before_all_those_with_a_home() {
        let member = |home| {
            let thread = affinity::Thread::this();
            Arc::new(Member { thread, home, order: Mutex::default(), came: Condvar::new() })
        };
        let free: Vec<_> = [Some(0), None, Some(1), None].map(member).into();
        let mut crew = Crew { free: free.clone(), homes: Some(vec![]) };
        for right in [2, 0, 3, 1] {
            assert!(Arc::ptr_eq(&crew.next().unwrap(), &free[right]), "{right}");
        }
        assert!(crew.next().is_none() && crew.home().is_none());
    }

    #[test]
    fn batches_at_once_are_on_threads_of_their_own() {
        let barrier = Arc::new(std::sync::Barrier::new(5));
        for _ in 0..4 {
            let barrier = Arc::clone(&barrier);
            promptly(move |_| {
                barrier.wait();
            });
        }
        // Ends only if all of them run at once.
        barrier.wait();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_batch_may_run_on_any_core_though_its_thread_woke_up_at_home_beside_work_that_gives_way() {
        let (told, seen) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let held = Arc::clone(&barrier);
        let _left = super::super::unhurriedly(move || {
            held.wait();
        });
        while !somebody_gives_way() {
            thread::yield_now();
        }
        for _ in 0..8 {
            let told = told.clone();
            promptly(move |set_free| {
                let cores = affinity::cores();
                set_free();
                told.send(cores).unwrap();
            });
            assert_eq!(seen.recv().unwrap(), affinity::cores());
        }
        barrier.wait();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_is_bound_to_a_core_until_it_is_allowed_all() {
        // On a thread of its own, since it is bound meanwhile.
        let bound = || {
            let (before, cores) = (affinity::cores(), affinity::Cores::of_this_thread());
            assert!(affinity::bind(affinity::Thread::this(), before[0]));
            assert_eq!(affinity::cores(), [before[0]]);
            cores.allow();
            assert_eq!(affinity::cores(), before);
        };
        thread::spawn(bound).join().unwrap();
    }
}
