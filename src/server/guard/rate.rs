//! How often a client may call: the generic cell rate algorithm (ITU-T I.371), which is a token bucket kept as one time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Clients that are told apart; some 100 bytes each. Beyond, newcomers share one bucket.
const CLIENTS_MAX: usize = 10_000;

/// How often a full table is searched for clients that have not called for a while: a search is linear.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// So many calls in so much time. All of them may come at once; then one more for each share of the time that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    calls: u32,
    period: Duration,
}

impl Rate {
    /// Parses "100/s", "50/m" or "1000/h".
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is no rate, expected calls by second, minute or hour, such as 100/s, 50/m, 9/h");
        let (calls, unit) = text.split_once('/').ok_or_else(wrong)?;
        let calls: u32 = calls.trim().parse().ok().filter(|&calls| calls > 0).ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        Ok(Self { calls, period: Duration::from_secs(seconds) })
    }

    fn share(&self) -> Duration {
        self.period / self.calls
    }
}

/// Until when the calls of a client fill its rate.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_until: Instant,
}

impl Bucket {
    /// Takes a call at `now`, or says after how long there is room for it.
    fn take(&mut self, now: Instant, rate: &Rate) -> Result<(), Duration> {
        let full_until = self.full_until.max(now) + rate.share();
        match full_until.saturating_duration_since(now).checked_sub(rate.period) {
            None | Some(Duration::ZERO) => {
                self.full_until = full_until;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// A key, wherever it is used.
    Key(Arc<str>),
    /// An address; of IPv6 its network, since one machine has as many addresses there as it likes.
    Peer(IpAddr),
}

impl Caller {
    pub(super) fn peer(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self::Peer(Ipv6Addr::from(network).into())
            }
            address => Self::Peer(address),
        }
    }
}

/// The buckets of all callers.
pub(super) struct Limits {
    rate: Rate,
    callers_max: usize,
    table: Mutex<Table>,
}

struct Table {
    buckets: HashMap<Caller, Bucket>,
    /// For callers that found the table full.
    shared: Bucket,
    swept: Instant,
}

impl Limits {
    pub(super) fn new(rate: Rate) -> Self {
        let now = Instant::now();
        let table = Table { buckets: HashMap::new(), shared: Bucket { full_until: now }, swept: now };
        Self { rate, callers_max: CLIENTS_MAX, table: Mutex::new(table) }
    }

    /// Takes a call of `caller`, or says after how long to try again.
    pub(super) fn take(&self, caller: &Caller) -> Result<(), Duration> {
        let now = Instant::now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = table.buckets.get_mut(caller) {
            return bucket.take(now, &self.rate);
        }
        if table.buckets.len() >= self.callers_max && now.saturating_duration_since(table.swept) >= SWEEP_EVERY {
            table.swept = now;
            // An empty bucket is as good as a new one.
            table.buckets.retain(|_, bucket| bucket.full_until > now);
        }
        if table.buckets.len() >= self.callers_max {
            return table.shared.take(now, &self.rate);
        }
        table.buckets.entry(caller.clone()).or_insert(Bucket { full_until: now }).take(now, &self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: &str) -> Limits {
        Limits::new(Rate::parse(rate).unwrap())
    }

    fn peer(last: u8) -> Caller {
        Caller::peer(IpAddr::from([10, 0, 0, last]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_and_then_one_call_for_each_share_of_the_time() {
        let limits = limits("4/s");
        for _ in 0..4 {
            assert_eq!(limits.take(&peer(1)), Ok(()));
        }
        assert_eq!(limits.take(&peer(1)), Err(Duration::from_millis(250)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(limits.take(&peer(1)), Err(Duration::from_millis(150)));
        tokio::time::advance(Duration::from_millis(150)).await;
        assert_eq!(limits.take(&peer(1)), Ok(()));
        assert!(limits.take(&peer(1)).is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..10).filter(|_| limits.take(&peer(1)).is_ok()).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_do_not_take_from_each_other() {
        let limits = limits("1/m");
        assert_eq!(limits.take(&peer(1)), Ok(()));
        assert_eq!(limits.take(&peer(2)), Ok(()));
        assert_eq!(limits.take(&Caller::Key("1".into())), Ok(()));
        assert_eq!(limits.take(&peer(1)), Err(Duration::from_secs(60)));
        let of = |last: u16| Caller::peer(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        assert_eq!(limits.take(&of(1)), Ok(()));
        assert!(limits.take(&of(2)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_makes_room_by_forgetting_whoever_has_not_called_for_a_while() {
        let limits = Limits { callers_max: 2, ..limits("1/s") };
        assert!(limits.take(&peer(1)).is_ok() && limits.take(&peer(2)).is_ok());
        // The third and the fourth share what is left.
        assert!(limits.take(&peer(3)).is_ok());
        assert!(limits.take(&peer(4)).is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limits.take(&peer(3)).is_ok() && limits.take(&peer(4)).is_ok());
        assert_eq!(limits.table.lock().unwrap().buckets.len(), 2);
    }

    #[test]
    fn a_rate_has_calls_and_a_unit() {
        assert_eq!(Rate::parse("100/s"), Ok(Rate { calls: 100, period: Duration::from_secs(1) }));
        assert_eq!(Rate::parse("5 / m").unwrap().share(), Duration::from_secs(12));
        for text in ["", "100", "0/s", "-1/s", "1/d", "x/s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }
}
