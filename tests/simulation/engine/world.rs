//! The loop over events: arrivals, ends of batches, wake-ups and clients that leave, for models that may share cores.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use tensorgate::scheduler::cores::Ledger;
use tokio::time::Instant;

use super::Nanos;
use super::server::{Cores, Request, Server, Witness};

/// Cores that all servers of a world take theirs from.
pub(crate) struct Shared {
    ledger: Ledger,
    /// Servers that cores were granted to and that have not looked since.
    woken: BTreeSet<usize>,
}

impl Shared {
    /// `total` cores, and an account for each of `weights`.
    pub(crate) fn new(total: usize, weights: &[f64]) -> RefCell<Self> {
        let mut ledger = Ledger::new(total);
        for &weight in weights {
            ledger.open(weight);
        }
        RefCell::new(Self { ledger, woken: BTreeSet::new() })
    }
}

/// One server's share: its account has its position as a number, since accounts are opened in order.
struct Share<'a> {
    shared: &'a RefCell<Shared>,
    account: usize,
    width: usize,
}

impl Share<'_> {
    fn change(&self, of: impl FnOnce(&mut Ledger) -> Vec<usize>) {
        let mut shared = self.shared.borrow_mut();
        let granted = of(&mut shared.ledger);
        shared.woken.extend(granted);
    }
}

impl Cores for Share<'_> {
    fn take(&mut self) -> bool {
        self.shared.borrow_mut().ledger.take(self.account, self.width)
    }

    fn wish(&mut self, due: Instant) {
        self.change(|ledger| ledger.wish(self.account, self.width, due));
    }

    fn renounce(&mut self) {
        self.change(|ledger| ledger.renounce(self.account));
    }

    fn give_back(&mut self, used: Duration) {
        self.change(|ledger| ledger.give_back(self.account, self.width, used));
    }
}

/// A server, what comes to it, and how many cores a batch of it takes.
pub(crate) struct Site<W, R> {
    /// The server.
    pub(crate) server: Server<W>,
    /// Requests by ascending time.
    pub(crate) requests: R,
    /// Cores of one batch.
    pub(crate) width: usize,
}

/// Runs until every request has come and ended; gives the time of the end.
pub(crate) fn run<W: Witness, R: Iterator<Item = Request>>(
    sites: &mut [Site<W, R>],
    shared: Option<&RefCell<Shared>>,
) -> Nanos {
    let mut coming: Vec<Option<Request>> = sites.iter_mut().map(|site| site.requests.next()).collect();
    let mut count = vec![0; sites.len()];
    let mut leaving: BinaryHeap<Reverse<(Nanos, usize, usize)>> = BinaryHeap::new();
    let mut now = 0;
    loop {
        let arrivals = coming.iter().flatten().map(|request| request.at);
        let leaves = leaving.peek().map(|Reverse((at, _, _))| *at);
        let servers = sites.iter().filter_map(|site| site.server.next_event());
        let Some(next) = arrivals.chain(leaves).chain(servers).min() else { return now };
        now = next.max(now);
        let mut looks = BTreeSet::new();
        while let Some(&Reverse((at, place, id))) = leaving.peek() {
            if at > now {
                break;
            }
            leaving.pop();
            if sites[place].server.leave(id, now) {
                looks.insert(place);
            }
        }
        for (place, site) in sites.iter_mut().enumerate() {
            if site.server.next_event().is_some_and(|at| at <= now) {
                looks.insert(place);
            }
            while let Some(request) = coming[place].take_if(|request| request.at <= now) {
                let id = count[place];
                if site.server.submit(id, &request) {
                    looks.insert(place);
                    leaving.extend(request.leaves.map(|at| Reverse((at, place, id))));
                }
                count[place] += 1;
                coming[place] = site.requests.next();
            }
        }
        while let Some(place) = looks.pop_first() {
            let Site { server, width, .. } = &mut sites[place];
            server.look(now, &mut shared.map(|shared| Share { shared, account: place, width: *width }));
            if let Some(shared) = shared {
                looks.append(&mut shared.borrow_mut().woken);
            }
        }
    }
}
