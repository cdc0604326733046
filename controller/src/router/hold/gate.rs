//! Who goes on, who waits, and who is told that there is no room, for one revision: pure.
//!
//! A revision without pods has its requests wait. When one of its pods takes connections, they go on as fast as answers come back: at
//! first a few, and with each good answer one more than before, so that a pod whose learned curve is still cold is not given ten
//! thousand requests at once. When nobody waits any more the gate is open, and nothing is counted.

/// Requests under way at once when the first pod is there: a batch or two, and what a server without batches does side by side.
const FIRST_WINDOW: usize = 32;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests_max: usize,
    /// Bytes that these keep in memory.
    pub bytes_max: usize,
}

/// What becomes of a request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It goes on; `counted` says that its end must be told by [`Gate::done`].
    Pass {
        /// Told at the end.
        counted: bool,
    },
    /// It waits for its turn.
    Wait,
    /// There is no room for it.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// No pod takes connections.
    Asleep,
    /// One does, and those who waited go on, so many at a time.
    Waking {
        window: usize,
    },
}

/// The state of a revision's gate.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    state: State,
    waiting: usize,
    bytes: usize,
    /// Requests under way whose end is told.
    running: usize,
}

impl Gate {
    /// A closed one: whether there is a pod shows when somebody wants it.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Asleep, waiting: 0, bytes: 0, running: 0 }
    }

    /// A request arrives that keeps `bytes` in memory while it waits.
    pub fn enter(&mut self, bytes: usize) -> Entry {
        match self.state {
            State::Open => return Entry::Pass { counted: false },
            State::Waking { window } if self.waiting == 0 && self.running < window => {
                self.running += 1;
                return Entry::Pass { counted: true };
            }
            _ => {}
        }
        if self.waiting >= self.limits.requests_max || self.bytes + bytes > self.limits.bytes_max {
            return Entry::Full;
        }
        self.waiting += 1;
        self.bytes += bytes;
        Entry::Wait
    }

    /// One of those who wait has given up.
    pub fn left(&mut self, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.open_if_done();
    }

    /// No pod takes connections.
    pub fn lost(&mut self) {
        self.state = State::Asleep;
    }

    /// A pod does.
    pub fn found(&mut self) {
        if self.state == State::Asleep {
            self.state = State::Waking { window: FIRST_WINDOW };
            self.open_if_done();
        }
    }

    /// Whether the next of those who wait may go on; then it is counted as under way.
    pub fn may_go(&self) -> bool {
        matches!(self.state, State::Waking { window } if self.waiting > 0 && self.running < window)
    }

    /// The next goes on, which kept `bytes`.
    pub fn go(&mut self, bytes: usize) {
        self.running += 1;
        self.left(bytes);
    }

    /// A counted request is over; `good` unless the server said that it had too much to do, or none was reached.
    pub fn done(&mut self, good: bool) {
        self.running = self.running.saturating_sub(1);
        if let State::Waking { window } = &mut self.state {
            *window = if good { *window + 1 } else { (*window / 2).max(1) };
        }
        self.open_if_done();
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes that they keep.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// No pod takes connections, as far as is known.
    pub fn is_asleep(&self) -> bool {
        self.state == State::Asleep
    }

    fn open_if_done(&mut self) {
        if self.waiting == 0 && matches!(self.state, State::Waking { .. }) {
            self.state = State::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { requests_max: 100, bytes_max: 1000 };

    fn open() -> Gate {
        let mut gate = Gate::new(LIMITS);
        gate.found();
        gate
    }

    fn asleep(waiting: usize) -> Gate {
        let mut gate = Gate::new(LIMITS);
        for _ in 0..waiting {
            assert_eq!(gate.enter(1), Entry::Wait);
        }
        gate
    }

    fn release(gate: &mut Gate) -> usize {
        let mut gone = 0;
        while gate.may_go() {
            gate.go(1);
            gone += 1;
        }
        gone
    }

    #[test]
    fn an_open_gate_counts_nothing_and_a_closed_one_has_room_for_so_many_and_so_much() {
        let mut gate = open();
        assert_eq!(gate.enter(1_000_000), Entry::Pass { counted: false });
        gate.lost();
        assert_eq!((gate.enter(999), gate.enter(1), gate.enter(1)), (Entry::Wait, Entry::Wait, Entry::Full));
        gate.left(999);
        assert_eq!((gate.enter(1), gate.waiting(), gate.bytes()), (Entry::Wait, 2, 2));
        let mut gate = asleep(100);
        assert_eq!(gate.enter(1), Entry::Full);
        assert_eq!(release(&mut gate), 0);
    }

    #[test]
    fn those_who_waited_go_on_a_few_at_first_and_more_with_each_good_answer() {
        let mut gate = asleep(100);
        gate.found();
        assert_eq!(release(&mut gate), FIRST_WINDOW);
        assert_eq!(gate.enter(1), Entry::Wait, "nobody overtakes those who wait");
        gate.done(true);
        assert_eq!(release(&mut gate), 2);
        gate.done(false);
        assert_eq!(release(&mut gate), 0, "a server that has too much to do is given less");
    }

    #[test]
    fn the_gate_is_open_when_nobody_waits_and_closes_again_when_the_pods_go() {
        let mut gate = asleep(3);
        gate.found();
        assert_eq!(release(&mut gate), 3);
        assert_eq!(gate.enter(1), Entry::Pass { counted: false });
        gate.lost();
        assert!(gate.is_asleep());
        gate.done(true);
        assert_eq!(gate.enter(1), Entry::Wait);
        gate.left(1);
        assert!(gate.is_asleep(), "that nobody waits does not wake anybody");
    }

    proptest! {
        #[test]
        fn whatever_happens_bounds_hold_and_everybody_goes_on_in_the_end(events in prop::collection::vec(0..6_u8, 0..300)) {
            let mut gate = open();
            let (mut waiting, mut running) = (0_usize, 0_usize);
            for event in events {
                match event {
                    0 | 1 => match gate.enter(7) {
                        Entry::Wait => waiting += 1,
                        Entry::Pass { counted } => running += usize::from(counted),
                        Entry::Full => {}
                    },
                    2 => gate.lost(),
                    3 => gate.found(),
                    4 if waiting > 0 => {
                        gate.left(7);
                        waiting -= 1;
                    }
                    _ if running > 0 => {
                        gate.done(event == 5);
                        running -= 1;
                    }
                    _ => {}
                }
                while gate.may_go() {
                    gate.go(7);
                    waiting -= 1;
                    running += 1;
                }
                prop_assert_eq!((gate.waiting(), gate.bytes()), (waiting, waiting * 7));
                prop_assert!(waiting <= LIMITS.requests_max && gate.bytes() <= LIMITS.bytes_max);
                prop_assert!(waiting == 0 || gate.is_asleep() || running > 0, "somebody waits for nothing");
            }
            gate.lost();
            gate.found();
            while waiting + running > 0 {
                while gate.may_go() {
                    gate.go(7);
                    waiting -= 1;
                    running += 1;
                }
                prop_assert!(running > 0);
                gate.done(true);
                running -= 1;
            }
            prop_assert_eq!(gate.enter(7), Entry::Pass { counted: false });
        }
    }
}
