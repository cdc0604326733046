//! Work that only fills what is left over, and the cores that it leaves to others.

use super::*;

/// A scheduler of one instance, whose batches wait at a closed gate, on one core.
fn start(threads: usize) -> (Fixture, Arc<Cores>) {
    start_with(SchedulerConfig { threads, idle_time_is_free: true, ..SchedulerConfig::default() })
}

fn start_with(config: SchedulerConfig) -> (Fixture, Arc<Cores>) {
    let (model, cores) = (Arc::new(Doubler::default()), Cores::new(1));
    let made = vec![model.instance().unwrap()];
    let metrics = Arc::new(Telemetry::new().model("doubler", "1"));
    let (batches, gate, running) = (model.batches.clone(), model.gate.clone(), model.running.clone());
    let (scheduler, stopped) = Scheduler::start(model, made, slow(), config, Some(&cores), Arc::clone(&metrics));
    (Fixture { scheduler: Arc::new(scheduler), stopped, batches, gate, running, metrics }, cores)
}

/// Asks for a number to be doubled, beside this test.
fn ask(fixture: &Fixture, priority: Priority) -> tokio::task::JoinHandle<Result<Executed>> {
    let scheduler = Arc::clone(&fixture.scheduler);
    tokio::spawn(async move { scheduler.submit(rows(&[1], 1), Parameters::new(), None, priority).await })
}

/// Asks for what only fills what is left over, and waits until it runs.
async fn fill(fixture: &Fixture) -> tokio::task::JoinHandle<Result<Executed>> {
    let filler = ask(fixture, Priority::LOW);
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    filler
}

/// Whether somebody else could have the core.
fn is_free(cores: &Arc<Cores>) -> bool {
    let other = cores.share(1, 1.0, || {});
    let taken = other.take();
    if taken {
        other.give_back(Duration::ZERO);
    }
    taken
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_fills_what_is_left_over_has_cores_only_while_requests_wait_behind_it() {
    let (fixture, cores) = start(1);
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let filler = fill(&fixture).await;
    assert!(is_free(&cores), "the kernel gives it to whatever wants it");
    let another = ask(&fixture, Priority::LOW);
    settle().await;
    assert!(is_free(&cores), "nobody is in a hurry");
    let request = ask(&fixture, Priority::NORMAL);
    until(|| !is_free(&cores)).await;
    drop(closed);
    for answer in [filler, request, another] {
        answer.await.unwrap().unwrap();
    }
    until(|| is_free(&cores)).await;
}

#[tokio::test]
async fn what_runs_on_threads_of_its_engine_or_where_idle_time_is_not_free_has_cores_however_unimportant_it_is() {
    let quota = SchedulerConfig { idle_time_is_free: false, ..SchedulerConfig::default() };
    for (fixture, cores) in [start(2), start_with(quota)] {
        let gate = Arc::clone(&fixture.gate);
        let closed = gate.lock().unwrap();
        let filler = fill(&fixture).await;
        assert!(!is_free(&cores));
        drop(closed);
        filler.await.unwrap().unwrap();
        until(|| is_free(&cores)).await;
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_fills_what_is_left_over_begins_though_others_have_all_cores_and_asks_nobody_to_leave_one() {
    let (fixture, cores) = start(1);
    let other = cores.share(1, 1.0, || {});
    assert!(other.take());
    let pressed = cores.pressed();
    ask(&fixture, Priority::LOW).await.unwrap().unwrap();
    assert!(pressed.now_or_never().is_none());
    other.give_back(Duration::ZERO);
}
