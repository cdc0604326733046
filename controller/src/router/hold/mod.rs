//! Requests that wait for a revision's first pod: held as they are, their bodies unread, until a connection can be made.
//!
//! The router asks nobody whether there are pods: a Service without ready ones refuses connections, and while somebody waits, one is
//! tried again and again. That somebody waits is told to whoever asks for it (`demand`), which is the controller.

pub mod gate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::gate::{Entry, Gate, Limits};
use crate::demand::{Demand, RevisionDemand};

/// Requests that wait for one revision.
pub const REQUESTS_MAX: usize = 10_000;
/// What they keep in memory by our reckoning: half of the memory that a router's pod has.
pub const BYTES_MAX: usize = 128 << 20;
/// Between two tries of a connection while somebody waits: a refusal costs a few microseconds, and whoever waits waits half as long.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Finds out whether a revision takes connections.
pub trait Reach: Send + Sync + 'static {
    /// Tries one connection to a host and port.
    fn reach(&self, address: &str) -> impl Future<Output = bool> + Send;
}

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// There is no room to wait in.
    Full,
    /// Its time has passed.
    Late,
}

/// The gates of all revisions.
pub struct Holder<R> {
    reach: R,
    limits: Limits,
    rooms: Mutex<BTreeMap<String, Room>>,
    /// Counted up when there is something to tell that should not wait.
    changed: watch::Sender<u64>,
    began: Instant,
}

struct Room {
    gate: Gate,
    queue: VecDeque<(usize, oneshot::Sender<()>)>,
    /// Of those in the queue, who has given up: they are taken out together, or each would cost a look at all the others.
    gone: usize,
    trying: bool,
    /// All requests that have gone on and are not over, counted or not.
    under_way: usize,
    /// What was told last: more than twice as many is news.
    told: usize,
    active: Instant,
}

impl<R: Reach> Holder<R> {
    /// Tries connections by `reach`.
    pub fn new(reach: R, limits: Limits) -> Arc<Self> {
        Arc::new(Self { reach, limits, rooms: Mutex::default(), changed: watch::Sender::new(0), began: Instant::now() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, revision: &str, work: impl FnOnce(&mut Room) -> T) -> T {
        let mut rooms = self.lock();
        let room = rooms.entry(revision.to_owned()).or_insert_with(|| Room {
            gate: Gate::new(self.limits),
            queue: VecDeque::new(),
            gone: 0,
            trying: false,
            under_way: 0,
            told: 0,
            active: Instant::now(),
        });
        let outcome = work(room);
        while room.gate.may_go() {
            // Counted as waiting, and yet nobody is in the queue: who gave up is about to say so.
            let Some((bytes, turn)) = room.queue.pop_front() else { break };
            match turn.send(()) {
                Ok(()) => room.gate.go(bytes),
                Err(()) => room.gone = room.gone.saturating_sub(1),
            }
        }
        let wanted = if room.gate.is_asleep() { room.gate.waiting() + room.under_way } else { 0 };
        if wanted > room.told * 2 || (wanted == 0) != (room.told == 0) {
            room.told = wanted;
            self.changed.send_modify(|count| *count += 1);
        }
        outcome
    }

    /// Waits for a request's turn, at most until `deadline`. It keeps `bytes` in memory meanwhile.
    ///
    /// # Errors
    /// If there is no room to wait in, or the deadline passes.
    pub async fn enter(
        self: &Arc<Self>,
        revision: &str,
        address: &str,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Pass<R>, Turned> {
        let (turn, told) = oneshot::channel();
        let entry = self.with(revision, |room| {
            room.active = Instant::now();
            // Those who had gone on when the last pod went wait too, at their connections.
            let crowded = room.gate.is_asleep() && room.gate.waiting() + room.under_way >= self.limits.requests_max;
            let entry = if crowded { Entry::Full } else { room.gate.enter(bytes) };
            match entry {
                Entry::Pass { .. } => room.under_way += 1,
                Entry::Wait => room.queue.push_back((bytes, turn)),
                Entry::Full => {}
            }
            entry
        });
        let pass = |counted| Pass { holder: self.clone(), revision: revision.to_owned(), counted, good: true };
        match entry {
            Entry::Pass { counted } => return Ok(pass(counted)),
            Entry::Full => return Err(Turned::Full),
            Entry::Wait => {}
        }
        self.keep_trying(revision, address);
        let mut place = Place { holder: self.clone(), revision: revision.to_owned(), bytes, told: Some(told) };
        match tokio::time::timeout_at(deadline, place.turn()).await {
            Ok(()) => {
                self.with(revision, |room| room.under_way += 1);
                Ok(pass(true))
            }
            Err(_) => Err(Turned::Late),
        }
    }

    /// A connection could not be made; whoever comes now waits.
    pub fn lost(self: &Arc<Self>, revision: &str, address: &str) {
        self.with(revision, |room| room.gate.lost());
        self.keep_trying(revision, address);
    }

    /// Comes back when connections can be made, as far as is known.
    pub async fn until_found(&self, revision: &str) {
        let mut changed = self.changed.subscribe();
        while self.lock().get(revision).is_some_and(|room| room.gate.is_asleep()) {
            // The sender lives as long as this.
            let _changed = changed.changed().await;
        }
    }

    /// A connection was made.
    pub fn found(&self, revision: &str) {
        // Without a room nobody has ever waited or run.
        if self.lock().get(revision).is_some_and(|room| room.gate.is_asleep()) {
            self.with(revision, |room| room.gate.found());
        }
    }

    /// Tries connections until one is made, or nobody wants any.
    fn keep_trying(self: &Arc<Self>, revision: &str, address: &str) {
        let begin = self.with(revision, |room| room.gate.is_asleep() && !std::mem::replace(&mut room.trying, true));
        if !begin {
            return;
        }
        let (holder, revision, address) = (self.clone(), revision.to_owned(), address.to_owned());
        tokio::spawn(async move {
            loop {
                let there = holder.reach.reach(&address).await;
                let ended = holder.with(&revision, |room| {
                    if there {
                        room.gate.found();
                    }
                    let wanted = room.gate.waiting() + room.under_way > 0;
                    room.trying = room.gate.is_asleep() && wanted;
                    !room.trying
                });
                if ended {
                    return;
                }
                tokio::time::sleep(TRY_EVERY).await;
            }
        });
    }

    /// Who waits and runs, and how long nobody has.
    pub fn demand(&self) -> Demand {
        let now = Instant::now();
        let rooms = self.lock();
        let revisions = rooms.iter().map(|(revision, room)| {
            let waiting =
                if room.gate.is_asleep() { room.gate.waiting() + room.under_way } else { room.gate.waiting() };
            let running = if room.gate.is_asleep() { 0 } else { room.under_way };
            let idle = if waiting + running > 0 { Duration::ZERO } else { now.saturating_duration_since(room.active) };
            (revision.clone(), RevisionDemand { waiting, running, idle_seconds: idle.as_secs() })
        });
        let up_seconds = now.saturating_duration_since(self.began).as_secs();
        Demand { sequence: *self.changed.borrow(), up_seconds, revisions: revisions.collect() }
    }

    /// The demand once it is another than the `seen` one, or after `patience`.
    pub async fn next_demand(&self, seen: Option<u64>, patience: Duration) -> Demand {
        let mut changed = self.changed.subscribe();
        let news = changed.wait_for(|sequence| Some(*sequence) != seen);
        // Nothing new is an answer too: how long nobody has asked goes on.
        let _waited = tokio::time::timeout(patience, news).await;
        self.demand()
    }

    /// Forgets revisions that are not kept and that nobody waits for or is with.
    pub fn keep(&self, kept: impl Fn(&str) -> bool) {
        self.lock().retain(|revision, room| room.gate.waiting() + room.under_way > 0 || kept(revision));
    }

    /// Requests that wait, and the bytes that they keep.
    pub fn held(&self) -> (usize, usize) {
        let rooms = self.lock();
        rooms.values().fold((0, 0), |(count, bytes), room| (count + room.gate.waiting(), bytes + room.gate.bytes()))
    }
}

/// A place in the queue; leaving it early gives it up.
struct Place<R: Reach> {
    holder: Arc<Holder<R>>,
    revision: String,
    bytes: usize,
    told: Option<oneshot::Receiver<()>>,
}

impl<R: Reach> Place<R> {
    async fn turn(&mut self) {
        if let Some(told) = &mut self.told {
            // The sender is dropped only with the queue, which lives as long as this.
            let _turn = told.await;
        }
        self.told = None;
    }
}

impl<R: Reach> Drop for Place<R> {
    fn drop(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        let bytes = self.bytes;
        self.holder.with(&self.revision, |room| {
            told.close();
            match told.try_recv() {
                // It was its turn, and nobody is here any more to take it.
                Ok(()) => room.gate.done(true),
                Err(_) => {
                    room.gone += 1;
                    if room.gone * 2 > room.queue.len() {
                        room.queue.retain(|(_, turn)| !turn.is_closed());
                        room.gone = 0;
                    }
                    room.gate.left(bytes);
                }
            }
        });
    }
}

/// A request that has gone on; it is over when this is dropped.
pub struct Pass<R: Reach> {
    holder: Arc<Holder<R>>,
    revision: String,
    counted: bool,
    good: bool,
}

impl<R: Reach> Pass<R> {
    /// The server had too much to do, or was not reached.
    pub fn went_badly(&mut self) {
        self.good = false;
    }

    /// The head of an answer is there: who waits need not wait for the body too.
    pub fn answered(&mut self) {
        if std::mem::take(&mut self.counted) {
            let good = self.good;
            self.holder.with(&self.revision, |room| room.gate.done(good));
        }
    }
}

impl<R: Reach> Drop for Pass<R> {
    fn drop(&mut self) {
        let (counted, good) = (self.counted, self.good);
        self.holder.with(&self.revision, |room| {
            room.under_way = room.under_way.saturating_sub(1);
            room.active = Instant::now();
            if counted {
                room.gate.done(good);
            }
        });
    }
}

#[cfg(test)]
mod tests;
