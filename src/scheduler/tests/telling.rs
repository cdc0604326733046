//! Who goes first, what is held, where batches run, and what is told of it.

use super::*;

fn ask(fixture: &Fixture, values: &[i64], priority: Priority) -> tokio::task::JoinHandle<Result<Executed>> {
    let (scheduler, request) = (Arc::clone(&fixture.scheduler), rows(values, 1));
    tokio::spawn(async move { scheduler.submit(request, Parameters::new(), None, priority).await })
}

async fn waiting(fixture: &Fixture, count: i64) {
    until(|| fixture.metrics.queue_depth.get() == count).await;
    // In the dispatcher's queue, and not only on the way there.
    settle().await;
}

#[tokio::test]
async fn short_batches_run_in_place_and_long_ones_on_a_thread() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    for value in 0..3 {
        submit(&fixture.scheduler, rows(&[value], 1)).await.unwrap();
    }
    let counts = |metrics: &ModelMetrics| (metrics.batches_in_place.get(), metrics.batches_on_thread.get());
    assert_eq!(counts(&fixture.metrics), (3, 0));
    let fixture = start(SchedulerConfig::default(), 1, slow());
    submit(&fixture.scheduler, rows(&[1], 1)).await.unwrap();
    assert_eq!(counts(&fixture.metrics), (0, 1));
}

#[tokio::test]
async fn what_was_learned_is_told_when_asked_and_at_the_end() {
    let fixture = start(SchedulerConfig::default(), 1, Curve::default());
    let learned = fixture.scheduler.learned().await.unwrap();
    assert!(learned.curve.is_empty() && learned.rows_per_second == 0.0);
    submit(&fixture.scheduler, rows(&[1, 2], 1)).await.unwrap();
    let learned = fixture.scheduler.learned().await.unwrap();
    assert_eq!(learned.curve.largest(), 2);
    assert!(learned.rows_per_second > 0.0);
    drop(fixture.scheduler);
    assert_eq!(fixture.stopped.await.unwrap(), learned.curve);
}

#[tokio::test]
async fn the_more_important_go_first_and_low_work_last() {
    let config = SchedulerConfig { limits: BatchLimits::unbatched(), ..SchedulerConfig::default() };
    let fixture = start(config, 1, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let running = ask(&fixture, &[1], Priority::NORMAL);
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    let mut calls = vec![running];
    for (count, priority) in [(2, Priority::LOW), (3, Priority::level(2)), (4, Priority::level(1))] {
        calls.push(ask(&fixture, &vec![1; count], priority));
    }
    waiting(&fixture, 3).await;
    drop(closed);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(*fixture.batches.lock().unwrap(), [1, 4, 3, 2]);
}

#[tokio::test]
async fn requests_of_unlike_priorities_share_a_batch() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    let calls = [Priority::NORMAL, Priority::LOW].map(|priority| ask(&fixture, &[1], priority));
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(*fixture.batches.lock().unwrap(), [2]);
}

#[tokio::test]
async fn a_request_is_not_refused_for_the_sake_of_less_important_ones() {
    let mut curve = Curve::default();
    curve.note(1, Duration::from_millis(100));
    let limits = BatchLimits { objective: Duration::from_secs(2), ..BatchLimits::unbatched() };
    let fixture = start(SchedulerConfig { limits, objective_stated: true, ..SchedulerConfig::default() }, 1, curve);
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let running = ask(&fixture, &[1], Priority::level(2));
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    let mut calls = vec![running];
    let refused = loop {
        let call = ask(&fixture, &[1], Priority::level(2));
        settle().await;
        if call.is_finished() {
            break call.await.unwrap().unwrap_err();
        }
        calls.push(call);
        assert!(calls.len() < 40, "none is refused");
    };
    assert_eq!(refused.kind(), Kind::Overloaded);
    let before = fixture.metrics.queue_depth.get();
    let first = ask(&fixture, &[1, 2], Priority::level(1));
    waiting(&fixture, before + 1).await;
    drop(closed);
    first.await.unwrap().unwrap();
    assert_eq!(fixture.batches.lock().unwrap()[1], 2);
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_and_takes_a_single_request_of_any_size() {
    let fixture = start(SchedulerConfig { queue_bytes_max: 24, ..SchedulerConfig::default() }, 1, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let large = ask(&fixture, &[1; 10], Priority::NORMAL);
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    let refusal = submit(&fixture.scheduler, rows(&[1], 1)).await.unwrap_err();
    assert_eq!(refusal.kind(), Kind::Overloaded);
    assert!(refusal.message().contains("80 bytes") && refusal.message().contains("at most 24"), "{refusal}");
    assert!(refusal.retry_after().is_some());
    drop(closed);
    large.await.unwrap().unwrap();
    assert_eq!(submit(&fixture.scheduler, rows(&[1], 1)).await.unwrap(), [2]);
}

#[tokio::test]
async fn the_capacity_is_one_of_batches_that_the_policy_forms() {
    let mut curve = Curve::default();
    for rows in [1_usize, 2, 4, 8, 16, 32, 64] {
        curve.note(rows, Duration::from_micros(5_000 + 400 * rows as u64));
    }
    for objective in [10, 20, 40, 80] {
        let limits = BatchLimits { objective: Duration::from_millis(objective), ..BatchLimits::default() };
        let capacity = capacity_of(&curve, &limits, 1, 1, 1.0, Duration::ZERO);
        let load = policy::Load { rows_per_second: capacity.rows_per_second, instances: 1, best: None };
        assert!(capacity.batch <= policy::largest(&curve, &limits, &load, 1), "{objective}: {capacity:?}");
    }
}

#[tokio::test]
async fn a_request_that_waited_too_long_is_refused_or_answered_after_the_others() {
    for delayed in [false, true] {
        let queue_timeout = Some(Duration::from_millis(5));
        let config = SchedulerConfig { queue_timeout, late_is_delayed: delayed, ..SchedulerConfig::default() };
        let fixture = start(config, 1, slow());
        let gate = Arc::clone(&fixture.gate);
        let closed = gate.lock().unwrap();
        let running = ask(&fixture, &[1], Priority::NORMAL);
        until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
        let late = ask(&fixture, &[1, 2], Priority::NORMAL);
        let asked = Instant::now();
        until(|| asked.elapsed() > Duration::from_millis(5)).await;
        let scheduler = Arc::clone(&fixture.scheduler);
        // Beside it, one with time of its own.
        let deadline = Some(Instant::now() + Duration::from_secs(60));
        let fresh = tokio::spawn(async move {
            scheduler.submit(rows(&[1, 2, 3], 3), Parameters::new(), deadline, Priority::NORMAL).await
        });
        settle().await;
        drop(closed);
        fresh.await.unwrap().unwrap();
        running.await.unwrap().unwrap();
        match delayed {
            true => assert_eq!(late.await.unwrap().unwrap().outputs.len(), 1),
            false => assert_eq!(late.await.unwrap().unwrap_err().kind(), Kind::DeadlineExceeded),
        }
        let expected: &[usize] = if delayed { &[1, 1, 2] } else { &[1, 1] };
        assert_eq!(*fixture.batches.lock().unwrap(), expected);
    }
}
