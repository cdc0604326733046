//! From no pods to some and back, for revisions whose router holds requests meanwhile: pure.

/// Requests side by side that one replica is woken for, where nothing states it: Knative's default of `containerConcurrency`.
const CONCURRENCY: i64 = 100;
/// Seconds in which a replica is to work off those that it is woken for, where it is known how many it serves in one: as long as our
/// autoscaler gives what waits at a server.
const DRAIN_SECONDS: f64 = 10.0;
/// Seconds without a request after which the pods go, where nothing states it: a cold start costs about what so long an idle pod does.
pub const IDLE_SECONDS: u64 = 600;
/// The least of those: more than a router keeps a connection that nobody uses, so that no pod ends under a request.
const IDLE_SECONDS_MIN: u64 = 2;
/// Seconds after which to look again at one that is busy: no event tells that it no longer is.
const LOOK_AGAIN: u64 = 2;

/// What is known about a revision that may have no pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleeper {
    /// The replicas that its Deployment asks for; none where there is no Deployment.
    pub replicas: Option<i64>,
    /// It was ready once: a revision has to show that it can be before it may sleep.
    pub proven: bool,
    /// Callers reach it through the router, and nowhere else.
    pub held: bool,
    /// What all of its routers tell; none where one of them does not.
    pub demand: Option<Calls>,
}

/// What routers tell of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Requests that wait for a pod.
    pub waiting: usize,
    /// Requests that are with one.
    pub running: usize,
    /// Seconds since there were any.
    pub idle_seconds: u64,
}

/// The bounds, and when to sleep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// The fewest replicas of a revision that is awake.
    pub min: i64,
    /// The most.
    pub max: i64,
    /// Requests side by side for each replica, where a target says so: goes before what was learned.
    pub concurrency: Option<i64>,
    /// Requests per second that one replica has been learned to serve.
    pub capacity: Option<f64>,
    /// `containerConcurrency`, where there is neither; none for the default.
    pub limit: Option<i64>,
    /// Seconds without a request after which the pods go.
    pub idle_seconds: u64,
}

impl Wish {
    /// Requests that wait for each replica that is woken.
    fn each(&self) -> i64 {
        let worked_off = self.capacity.filter(|own| *own > 0.0).map(|own| (own * DRAIN_SECONDS).min(1e9) as i64);
        let stated = |own: Option<i64>| own.filter(|own| *own > 0);
        stated(self.concurrency).or(worked_off).or(stated(self.limit)).unwrap_or(CONCURRENCY).max(1)
    }
}

/// The replicas that a revision should have, and the seconds after which to look again.
///
/// Where nothing is known of its callers it stays as it is: nobody is put to sleep, or woken, by a failure to ask.
pub fn replicas(sleeper: &Sleeper, wish: &Wish) -> (i64, Option<u64>) {
    let now = sleeper.replicas.unwrap_or(wish.min);
    let Some(calls) = sleeper.demand else { return (now, None) };
    if calls.waiting > 0 {
        let each = wish.each();
        let waiting = i64::try_from(calls.waiting).unwrap_or(i64::MAX);
        let wanted = (waiting.saturating_add(each - 1) / each).clamp(wish.min, wish.max);
        return (now.max(wanted), None);
    }
    if now == 0 {
        return (0, None);
    }
    if !sleeper.proven || !sleeper.held {
        return (now, None);
    }
    let idle_seconds = wish.idle_seconds.max(IDLE_SECONDS_MIN);
    if calls.running > 0 {
        return (now, Some(idle_seconds.max(LOOK_AGAIN)));
    }
    match idle_seconds.checked_sub(calls.idle_seconds) {
        None | Some(0) => (0, None),
        Some(left) => (now, Some(left)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WISH: Wish = Wish { min: 1, max: 5, concurrency: None, capacity: None, limit: None, idle_seconds: 600 };

    fn with(replicas: i64, waiting: usize, running: usize, idle_seconds: u64) -> Sleeper {
        let demand = Some(Calls { waiting, running, idle_seconds });
        Sleeper { replicas: Some(replicas), proven: true, held: true, demand }
    }

    #[test]
    fn the_first_who_waits_wakes_one_and_many_wake_as_many_as_they_need() {
        assert_eq!(replicas(&with(0, 1, 0, 0), &WISH), (1, None));
        assert_eq!(replicas(&with(0, 250, 0, 0), &WISH), (3, None));
        assert_eq!(replicas(&with(0, 10_000, 0, 0), &WISH), (5, None));
        assert_eq!(replicas(&with(4, 1, 0, 0), &WISH), (4, None), "those who wake are not put to sleep");
        assert_eq!(replicas(&with(0, 9, 0, 0), &Wish { limit: Some(4), ..WISH }), (3, None));
    }

    #[test]
    fn as_many_are_woken_as_work_off_who_waits_by_what_was_learned_unless_a_target_is_stated() {
        let learned = Wish { capacity: Some(2.5), limit: Some(4), ..WISH };
        assert_eq!(replicas(&with(0, 25, 0, 0), &learned), (1, None));
        assert_eq!(replicas(&with(0, 26, 0, 0), &learned), (2, None));
        assert_eq!(replicas(&with(1, 76, 0, 0), &learned), (4, None), "more come while nobody is ready");
        assert_eq!(replicas(&with(0, 9, 0, 0), &Wish { concurrency: Some(3), ..learned }), (3, None));
        assert_eq!(replicas(&with(0, 3, 0, 0), &Wish { capacity: Some(0.05), ..WISH }), (3, None));
        assert_eq!(replicas(&with(0, 100, 0, 0), &Wish { capacity: Some(f64::INFINITY), ..WISH }), (1, None));
    }

    #[test]
    fn who_is_not_asked_for_long_enough_sleeps_and_stays_asleep() {
        assert_eq!(replicas(&with(2, 0, 0, 599), &WISH), (2, Some(1)));
        assert_eq!(replicas(&with(2, 0, 0, 600), &WISH), (0, None));
        assert_eq!(replicas(&with(0, 0, 0, 10), &WISH), (0, None));
        assert_eq!(replicas(&with(2, 0, 1, 0), &WISH), (2, Some(600)));
        let at_once = Wish { idle_seconds: 0, ..WISH };
        assert_eq!(replicas(&with(2, 0, 1, 0), &at_once), (2, Some(2)));
        assert_eq!(replicas(&with(2, 0, 0, 0), &at_once), (2, Some(2)), "a router's idle connections end first");
        assert_eq!(replicas(&with(2, 0, 0, 2), &at_once), (0, None));
    }

    #[test]
    fn a_revision_sleeps_only_when_it_was_ready_once_is_held_and_its_callers_are_known() {
        let idle = with(1, 0, 0, 10_000);
        for kept in [
            Sleeper { proven: false, ..idle.clone() },
            Sleeper { held: false, ..idle.clone() },
            Sleeper { demand: None, ..idle.clone() },
        ] {
            assert_eq!(replicas(&kept, &WISH).0, 1);
        }
        assert_eq!(replicas(&Sleeper { replicas: None, ..idle }, &WISH).0, 0);
        let unknown = Sleeper { replicas: None, proven: false, held: false, demand: None };
        assert_eq!(replicas(&unknown, &WISH), (1, None), "a new one starts with its fewest");
    }

    proptest! {
        #[test]
        fn more_who_wait_never_wake_fewer_and_bounds_hold(now in 0..=5_i64, waiting in 0..20_000_usize, more in 0..1000_usize) {
            let of = |waiting| replicas(&with(now, waiting, 1, 0), &WISH).0;
            prop_assert!(of(waiting) <= of(waiting + more));
            prop_assert!((0..=5).contains(&of(waiting)));
            prop_assert!(waiting == 0 || of(waiting) >= 1);
        }
    }
}
