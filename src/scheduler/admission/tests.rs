use proptest::prelude::*;

use super::*;

/// Outlooks of any server: microseconds to seconds, idle or busy.
fn outlooks() -> impl Strategy<Value = (Instant, Outlook)> {
    let times = (0..200_000_u64, 1..50_000_u64, 0..100_000_u64, 1.0..1.5);
    (times, 0.0..1e6, 1..300_usize, 1..4_usize).prop_map(|(times, rows_per_second, largest, instances)| {
        let now = Instant::now();
        let (free_in, single, more, upper) = times;
        let full = Duration::from_micros(if largest == 1 { single } else { single + more });
        let outlook = Outlook {
            free_at: now + Duration::from_micros(free_in),
            rows_per_second,
            largest,
            single: Duration::from_micros(single),
            full,
            full_upper: full.mul_f64(upper),
            instances,
        };
        (now, outlook)
    })
}

proptest! {
    #[test]
    fn who_has_more_time_or_waits_behind_fewer_is_never_refused_where_another_is_taken(
        (now, outlook) in outlooks(),
        rows in 1..400_usize,
        queued in 0..1000_usize,
        fewer in 0..1000_usize,
        slack in 0..400_000_u64,
        more in 0..400_000_u64,
    ) {
        let slack = Duration::from_micros(slack);
        if outlook.admit(now, rows, queued, slack).is_ok() {
            prop_assert!(outlook.admit(now, rows, queued, slack + Duration::from_micros(more)).is_ok());
            prop_assert!(outlook.admit(now, rows, queued.saturating_sub(fewer), slack).is_ok());
        }
    }

    #[test]
    fn who_is_taken_can_be_answered_in_time_and_who_is_not_is_told_when_to_come_again(
        (now, outlook) in outlooks(),
        rows in 1..400_usize,
        queued in 0..1000_usize,
        slack in 0..400_000_u64,
    ) {
        let slack = Duration::from_micros(slack);
        match outlook.admit(now, rows, queued, slack) {
            Ok(()) => prop_assert!(outlook.free_at.saturating_duration_since(now) + outlook.single <= slack),
            Err(refusal) => {
                prop_assert!(refusal.retry_after >= outlook.single);
                prop_assert!(refusal.answer_in >= outlook.free_at.saturating_duration_since(now));
            }
        }
    }

    #[test]
    fn an_idle_server_takes_whoever_it_can_serve((now, outlook) in outlooks(), spare in 0..100_000_u64) {
        let idle = Outlook { free_at: now, ..outlook };
        let slack = idle.single + Duration::from_micros(spare);
        prop_assert!(idle.admit(now, 1, 0, slack).is_ok());
        prop_assert!(!idle.is_past(now, slack));
    }
}

#[test]
fn right_after_a_batch_began_a_crowded_server_refuses_and_a_quiet_one_does_not() {
    let now = Instant::now();
    let millis = Duration::from_millis;
    let outlook = Outlook {
        free_at: now + millis(40),
        rows_per_second: 10_000.0,
        largest: 50,
        single: millis(10),
        full: millis(40),
        full_upper: millis(44),
        instances: 1,
    };
    assert!(outlook.admit(now, 1, 0, millis(70)).is_err(), "later ones fill the batch eight times over");
    let quiet = Outlook { rows_per_second: 1000.0, ..outlook };
    assert!(quiet.admit(now, 1, 0, millis(70)).is_ok());
    assert!(outlook.admit(now + millis(36), 1, 0, millis(70)).is_ok(), "just before the next batch");
}
