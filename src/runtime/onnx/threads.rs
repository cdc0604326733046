//! The threads of sessions: of the usual priority, whichever thread makes the session.
//!
//! A thread inherits how the one that starts it is scheduled, and one that gives way may not take that back. So that sessions can be
//! made where they cost nobody anything, and still execute at the usual priority, another thread starts theirs.

use std::io;
use std::sync::{OnceLock, mpsc};
use std::thread::{Builder, JoinHandle};

use ort::environment::ThreadManager;

/// What a thread of a session does, until the session ends.
type Work = Box<dyn FnOnce() + Send>;

/// A thread to be started, and who waits for it.
struct Order {
    work: Work,
    reply: mpsc::SyncSender<io::Result<JoinHandle<()>>>,
}

/// Who takes orders.
static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();

/// Starts the threads of sessions.
pub(super) struct Threads;

impl Threads {
    /// Has threads started from now on as the calling thread is scheduled. Where there is no thread to be had for that, sessions
    /// start theirs themselves.
    pub(super) fn prepare() {
        STARTER.get_or_init(|| {
            let (orders, received) = mpsc::channel::<Order>();
            let serve = move || {
                for Order { work, reply } in received {
                    // Whoever asked waits for it.
                    let _ = reply.send(start(work));
                }
            };
            // Without it, orders come back.
            let _ = Builder::new().name("starter".into()).spawn(serve);
            orders
        });
    }
}

fn start(work: Work) -> io::Result<JoinHandle<()>> {
    Builder::new().name("engine".into()).spawn(work)
}

impl ThreadManager for Threads {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        let (reply, started) = mpsc::sync_channel(1);
        let order = Order { work: Box::new(work), reply };
        let refused = match STARTER.get() {
            Some(starter) => starter.send(order).err().map(|mpsc::SendError(order)| order),
            None => Some(order),
        };
        let started = match refused {
            Some(order) => start(order.work),
            None => started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that starts them has ended"))),
        };
        started.map_err(|cause| ort::Error::new(format!("no thread for a session: {cause}")))
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        // A panic in there is in the log.
        let _ = thread.join();
        Ok(())
    }
}
