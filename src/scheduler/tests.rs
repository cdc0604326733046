//! The scheduler as its callers see it, with runtimes made up for the purpose and tokio's clock standing still.

#![allow(
    clippy::await_holding_lock,
    reason = "the guard is a closed gate, which only a batch on another thread waits at"
)]

mod leaving;
mod telling;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::error::Kind;
use crate::model::{Dim, Signature, TensorSpec};
use crate::telemetry::Telemetry;
use crate::tensor::{DataType, Shape, Tensor};

/// Doubles each number; fails on a batch that holds a negative one; notes the rows of every batch.
#[derive(Default)]
struct Doubler {
    signature: Signature,
    batches: Arc<Mutex<Vec<usize>>>,
    /// Batches block while this is locked.
    gate: Arc<Mutex<()>>,
    running: Arc<AtomicUsize>,
}

impl LoadedModel for Doubler {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        let (batches, gate, running) = (self.batches.clone(), self.gate.clone(), self.running.clone());
        Ok(Box::new(DoublerInstance { batches, gate, running }))
    }
}

struct DoublerInstance {
    batches: Arc<Mutex<Vec<usize>>>,
    gate: Arc<Mutex<()>>,
    running: Arc<AtomicUsize>,
}

impl Instance for DoublerInstance {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.lock().unwrap();
        let input = inputs[0].as_ref().unwrap();
        self.batches.lock().unwrap().push(input.rows().unwrap());
        let values = input.view::<i64>().unwrap();
        assert!(!values.contains(&-99), "told to panic");
        if values.iter().any(|&value| value < 0) {
            return Err(Error::execution("a negative number"));
        }
        let doubled: Vec<i64> = values.iter().map(|value| value * 2).collect();
        let output = Tensor::from_elements(input.shape().clone(), &doubled).unwrap();
        Ok(outputs.iter().map(|_| output.clone()).collect())
    }
}

struct Fixture {
    scheduler: Arc<Scheduler>,
    stopped: Stopped,
    batches: Arc<Mutex<Vec<usize>>>,
    gate: Arc<Mutex<()>>,
    running: Arc<AtomicUsize>,
    metrics: Arc<ModelMetrics>,
}

fn start(config: SchedulerConfig, instances: usize, curve: Curve) -> Fixture {
    let model = Arc::new(Doubler::default());
    let made = (0..instances).map(|_| model.instance().unwrap()).collect();
    let metrics = Arc::new(Telemetry::new().model("doubler", "1"));
    let (batches, gate, running) = (model.batches.clone(), model.gate.clone(), model.running.clone());
    let (scheduler, stopped) = Scheduler::start(model, made, curve, config, None, Arc::clone(&metrics));
    Fixture { scheduler: Arc::new(scheduler), stopped, batches, gate, running, metrics }
}

/// A curve by which every batch runs in place.
fn quick() -> Curve {
    let mut curve = Curve::default();
    for rows in [1, 64] {
        curve.note(rows, Duration::from_micros(50));
    }
    curve
}

/// A curve by which every batch goes to a thread of its own.
fn slow() -> Curve {
    let mut curve = Curve::default();
    curve.note(1, Duration::from_millis(1));
    curve
}

fn rows(values: &[i64], width: usize) -> ValidRequest {
    let tensor = Tensor::from_elements(Shape::from([values.len() / width, width]), values).unwrap();
    ValidRequest {
        inputs: smallvec![Some(tensor)],
        outputs: smallvec![0],
        rows: values.len() / width,
        rows_agree: true,
    }
}

async fn submit(scheduler: &Scheduler, request: ValidRequest) -> Result<Vec<i64>> {
    let executed = scheduler.submit(request, Parameters::new(), None, Priority::NORMAL).await?;
    Ok(executed.outputs[0].view::<i64>().unwrap().to_vec())
}

/// Lets every other task run until none can go on.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_that_come_together_run_together() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    let (a, b, c) = tokio::join!(
        submit(&fixture.scheduler, rows(&[1], 1)),
        submit(&fixture.scheduler, rows(&[2, 3], 1)),
        submit(&fixture.scheduler, rows(&[4], 1)),
    );
    assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (vec![2], vec![4, 6], vec![8]));
    assert_eq!(*fixture.batches.lock().unwrap(), [4]);
}

#[tokio::test]
async fn unlike_shapes_do_not_share_a_batch_and_do_not_keep_others_from_sharing() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    let answers = tokio::join!(
        submit(&fixture.scheduler, rows(&[1], 1)),
        submit(&fixture.scheduler, rows(&[1, 2], 2)),
        submit(&fixture.scheduler, rows(&[3], 1)),
        submit(&fixture.scheduler, rows(&[5, 6], 2)),
    );
    assert_eq!((answers.0.unwrap(), answers.3.unwrap()), (vec![2], vec![10, 12]));
    assert_eq!(*fixture.batches.lock().unwrap(), [2, 2]);
}

#[tokio::test]
async fn unlike_parameters_do_not_share_a_batch() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    let mut parameters = Parameters::new();
    parameters.set("temperature", crate::infer::ParameterValue::Int64(1));
    let (a, b) = tokio::join!(
        fixture.scheduler.submit(rows(&[1], 1), parameters, None, Priority::NORMAL),
        fixture.scheduler.submit(rows(&[2], 1), Parameters::new(), None, Priority::NORMAL),
    );
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(*fixture.batches.lock().unwrap(), [1, 1]);
}

#[tokio::test]
async fn a_poisoned_request_fails_alone() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    let (good, bad, other) = tokio::join!(
        submit(&fixture.scheduler, rows(&[1], 1)),
        submit(&fixture.scheduler, rows(&[-1], 1)),
        submit(&fixture.scheduler, rows(&[3], 1)),
    );
    assert_eq!((good.unwrap(), other.unwrap()), (vec![2], vec![6]));
    assert_eq!(bad.unwrap_err().kind(), Kind::Execution);
    assert_eq!(fixture.metrics.batch_retries.get(), 1);
}

#[tokio::test]
async fn a_runtime_that_panics_fails_the_request_and_nothing_else() {
    let fixture = start(SchedulerConfig::default(), 1, quick());
    let error = submit(&fixture.scheduler, rows(&[-99], 1)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Execution, "the runtime panicked"));
}

#[tokio::test]
async fn batches_keep_to_the_limit_and_a_larger_request_is_split_and_answered_whole() {
    let limits = BatchLimits { rows_max: 2, ..BatchLimits::default() };
    let fixture = start(SchedulerConfig { limits, ..SchedulerConfig::default() }, 1, quick());
    let answers = tokio::join!(
        submit(&fixture.scheduler, rows(&[1], 1)),
        submit(&fixture.scheduler, rows(&[2], 1)),
        submit(&fixture.scheduler, rows(&[3, 4, 5], 1)),
        submit(&fixture.scheduler, rows(&[6], 1)),
    );
    assert_eq!(answers.2.unwrap(), [6, 8, 10]);
    assert_eq!(*fixture.batches.lock().unwrap(), [2, 2, 2]);
}

#[tokio::test]
async fn a_request_of_which_one_part_fails_takes_its_other_parts_out_of_the_queue() {
    let limits = BatchLimits { rows_max: 2, ..BatchLimits::default() };
    let fixture = start(SchedulerConfig { limits, ..SchedulerConfig::default() }, 1, slow());
    let error = submit(&fixture.scheduler, rows(&[-1, -2, 3, 4, 5, 6, 7, 8], 1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Execution);
    assert_eq!(submit(&fixture.scheduler, rows(&[9], 1)).await.unwrap(), [18]);
    // The part that failed, and at most one that was on its way meanwhile.
    assert!(fixture.batches.lock().unwrap().len() <= 3, "{:?}", fixture.batches.lock().unwrap());
}

#[tokio::test]
async fn requests_that_are_not_joined_run_in_order_of_arrival() {
    let config = SchedulerConfig { limits: BatchLimits::unbatched(), ..SchedulerConfig::default() };
    let fixture = start(config, 1, quick());
    let answers = tokio::join!(
        submit(&fixture.scheduler, rows(&[1, 2, 3], 1)),
        submit(&fixture.scheduler, rows(&[4, 5], 2)),
        submit(&fixture.scheduler, rows(&[6], 1)),
    );
    assert!(answers.0.is_ok() && answers.1.is_ok() && answers.2.is_ok());
    assert_eq!(*fixture.batches.lock().unwrap(), [3, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_waits_for_company_and_no_longer() {
    let limits = BatchLimits { rows_max: 3, delay: Duration::from_millis(10), ..BatchLimits::default() };
    let fixture = start(SchedulerConfig { limits, ..SchedulerConfig::default() }, 1, quick());
    let started = Instant::now();
    submit(&fixture.scheduler, rows(&[1], 1)).await.unwrap();
    assert_eq!(started.elapsed().as_millis(), 10);
    let started = Instant::now();
    let full = tokio::join!(submit(&fixture.scheduler, rows(&[1, 2], 1)), submit(&fixture.scheduler, rows(&[3], 1)),);
    assert!(full.0.is_ok() && full.1.is_ok());
    assert_eq!(started.elapsed().as_millis(), 0, "a full batch does not wait");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_caller_that_leaves_makes_room() {
    let fixture = start(SchedulerConfig { queue_max: 2, ..SchedulerConfig::default() }, 1, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let ask = |value| {
        let scheduler = Arc::clone(&fixture.scheduler);
        tokio::spawn(async move { submit(&scheduler, rows(&[value], 1)).await })
    };
    let running = ask(1);
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(fixture.metrics.queue_depth.get(), 0, "what runs does not wait");
    let (first, second) = (ask(2), ask(3));
    until(|| fixture.metrics.queue_depth.get() == 2).await;
    let refusal = submit(&fixture.scheduler, rows(&[9], 1)).await.unwrap_err();
    assert_eq!(refusal.kind(), Kind::Overloaded);
    assert!(refusal.retry_after().is_some());
    second.abort();
    until(|| fixture.metrics.queue_depth.get() == 1).await;
    let third = ask(4);
    until(|| fixture.metrics.queue_depth.get() == 2).await;
    drop(closed);
    for request in [running, first, third] {
        assert!(request.await.unwrap().is_ok());
    }
    assert_eq!(fixture.metrics.queue_depth.get(), 0);
}

#[tokio::test]
async fn parts_of_a_large_request_have_the_time_that_the_whole_would_have() {
    const PARTS: usize = 600;
    for whole in [1, PARTS] {
        let fixture = start(SchedulerConfig::default(), 1, slow());
        let gate = Arc::clone(&fixture.gate);
        let closed = gate.lock().unwrap();
        let part = |value| {
            let scheduler = Arc::clone(&fixture.scheduler);
            let submitted = async move {
                let request = rows(&[value], 1);
                scheduler.submit_part(request, Parameters::new(), None, Priority::NORMAL, whole).await.map(drop)
            };
            tokio::spawn(submitted)
        };
        let parts: Vec<_> = (0..PARTS as i64).map(part).collect();
        settle().await;
        // At a millisecond each, the last of as many requests would be answered long after the objective.
        let refused = parts.iter().filter(|part| part.is_finished()).count();
        assert_eq!(refused > 0, whole == 1, "{refused} parts of {whole} were refused");
        drop(closed);
        for part in parts {
            let outcome = part.await.unwrap();
            assert!(outcome.is_ok() || whole == 1, "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_not_run() {
    let fixture = start(SchedulerConfig::default(), 1, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let scheduler = Arc::clone(&fixture.scheduler);
    let first = tokio::spawn(async move { submit(&scheduler, rows(&[1], 1)).await });
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    let scheduler = Arc::clone(&fixture.scheduler);
    let abandoned = tokio::spawn(async move { submit(&scheduler, rows(&[2], 1)).await });
    settle().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    drop(closed);
    first.await.unwrap().unwrap();
    assert_eq!(submit(&fixture.scheduler, rows(&[3], 1)).await.unwrap(), [6]);
    assert_eq!(*fixture.batches.lock().unwrap(), [1, 1], "the abandoned request was run");
    assert_eq!(fixture.metrics.queue_depth.get(), 0);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_answered_while_the_instance_is_busy() {
    let fixture = start(SchedulerConfig::default(), 1, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let scheduler = Arc::clone(&fixture.scheduler);
    let first = tokio::spawn(async move { submit(&scheduler, rows(&[1], 1)).await });
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    let deadline = Some(Instant::now() + Duration::from_millis(5));
    let late =
        fixture.scheduler.submit(rows(&[2], 1), Parameters::new(), deadline, Priority::NORMAL).await.unwrap_err();
    assert_eq!(late.kind(), Kind::DeadlineExceeded);
    drop(closed);
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_any_more_is_stopped_and_its_time_counted_as_wasted() {
    /// Runs until it is interrupted.
    #[derive(Default)]
    struct Endless(Arc<Interrupted>);

    #[derive(Default)]
    struct Interrupted(Mutex<bool>, std::sync::Condvar);

    impl crate::runtime::Interrupt for Interrupted {
        fn interrupt(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }
    }

    impl Instance for Endless {
        fn execute(&mut self, _: &[Option<Tensor>], _: &[usize]) -> Result<Vec<Tensor>> {
            drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |interrupted| !*interrupted).unwrap());
            Err(Error::execution("interrupted"))
        }

        fn interrupt(&self) -> Option<Arc<dyn crate::runtime::Interrupt>> {
            Some(Arc::clone(&self.0) as Arc<dyn crate::runtime::Interrupt>)
        }
    }

    let metrics = Arc::new(Telemetry::new().model("endless", "1"));
    let instances: Vec<Box<dyn Instance>> = vec![Box::new(Endless::default())];
    let model = Arc::new(Doubler::default());
    let config = SchedulerConfig::default();
    let (scheduler, stopped) = Scheduler::start(model, instances, slow(), config, None, Arc::clone(&metrics));
    let scheduler = Arc::new(scheduler);
    let calls: Vec<_> = (0..2)
        .map(|value| {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { submit(&scheduler, rows(&[value], 1)).await })
        })
        .collect();
    settle().await;
    assert_eq!(metrics.queue_depth.get(), 0, "both run together");
    for call in calls {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    drop(scheduler);
    // It would not end if the batch went on.
    stopped.await.unwrap();
    assert!(metrics.wasted_seconds.get() > 0.0);
    assert_eq!(metrics.batch_retries.get(), 0);
}

#[tokio::test]
async fn a_dispatcher_that_panics_is_followed_by_another() {
    /// Panics the first time that it is asked how it is interrupted, which the dispatcher does.
    #[derive(Default)]
    struct Fragile {
        doubler: Doubler,
        asked: Arc<AtomicUsize>,
    }

    struct FragileInstance(Box<dyn Instance>, Arc<AtomicUsize>);

    impl LoadedModel for Fragile {
        fn signature(&self) -> &Signature {
            self.doubler.signature()
        }

        fn instance(&self) -> Result<Box<dyn Instance>> {
            Ok(Box::new(FragileInstance(self.doubler.instance()?, Arc::clone(&self.asked))))
        }
    }

    impl Instance for FragileInstance {
        fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
            self.0.execute(inputs, outputs)
        }

        fn interrupt(&self) -> Option<Arc<dyn crate::runtime::Interrupt>> {
            assert!(self.1.fetch_add(1, Ordering::SeqCst) > 0, "told to panic");
            None
        }
    }

    let model = Arc::new(Fragile::default());
    let instances = vec![model.instance().unwrap()];
    let metrics = Arc::new(Telemetry::new().model("fragile", "1"));
    let (config, cores) = (SchedulerConfig::default(), Cores::new(1));
    let (scheduler, stopped) = Scheduler::start(model, instances, slow(), config, Some(&cores), Arc::clone(&metrics));
    assert_eq!(submit(&scheduler, rows(&[1], 1)).await.unwrap_err().kind(), Kind::Internal);
    settle().await;
    assert_eq!(submit(&scheduler, rows(&[2], 1)).await.unwrap(), [4], "with the cores that the first one had");
    assert_eq!(metrics.queue_depth.get(), 0);
    drop(scheduler);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_model_of_unknown_pace_does_not_keep_this_thread() {
    let fixture = start(SchedulerConfig::default(), 1, Curve::default());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let scheduler = Arc::clone(&fixture.scheduler);
    let request = tokio::spawn(async move { submit(&scheduler, rows(&[1], 1)).await });
    // Only a batch on another thread can be at the closed gate while this test goes on.
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    drop(closed);
    request.await.unwrap().unwrap();
}

#[tokio::test]
async fn several_instances_run_at_once() {
    let config = SchedulerConfig { limits: BatchLimits::unbatched(), ..SchedulerConfig::default() };
    let fixture = start(config, 2, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let requests: Vec<_> = (0..2)
        .map(|value| {
            let scheduler = Arc::clone(&fixture.scheduler);
            tokio::spawn(async move { submit(&scheduler, rows(&[value], 1)).await })
        })
        .collect();
    until(|| fixture.running.load(Ordering::SeqCst) == 2).await;
    drop(closed);
    for request in requests {
        assert!(request.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn dropping_the_scheduler_ends_it_when_its_requests_are_answered() {
    let fixture = start(SchedulerConfig::default(), 1, slow());
    let gate = Arc::clone(&fixture.gate);
    let closed = gate.lock().unwrap();
    let scheduler = Arc::clone(&fixture.scheduler);
    let request = tokio::spawn(async move { submit(&scheduler, rows(&[1], 1)).await });
    until(|| fixture.running.load(Ordering::SeqCst) == 1).await;
    drop(fixture.scheduler);
    drop(closed);
    assert_eq!(request.await.unwrap().unwrap(), [2]);
    fixture.stopped.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes together, in whatever sizes: each request gets its own rows back, in its own order.
    #[test]
    fn every_request_gets_its_own_rows(
        sizes in prop::collection::vec((0_usize..5, 1_usize..4), 1..40),
        rows_max in 1_usize..9,
        instances in 1_usize..4,
        on_threads in any::<bool>(),
        poison in prop::option::of(0_usize..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limits = BatchLimits { rows_max, ..BatchLimits::default() };
            let curve = if on_threads { slow() } else { quick() };
            let fixture = start(SchedulerConfig { limits, ..SchedulerConfig::default() }, instances, curve);
            let mut next = 0;
            let mut requests = Vec::new();
            for (index, &(count, width)) in sizes.iter().enumerate() {
                let poisoned = poison == Some(index) && count > 0;
                let values: Vec<i64> = (0..(count * width) as i64).map(|i| if poisoned { -1 - i } else { next + i }).collect();
                next += 1000;
                let tensor = Tensor::from_elements(Shape::from([count, width]), &values).unwrap();
                let request =
                    ValidRequest { inputs: smallvec![Some(tensor)], outputs: smallvec![0], rows: count, rows_agree: true };
                let scheduler = Arc::clone(&fixture.scheduler);
                requests.push((values, poisoned, tokio::spawn(async move { submit(&scheduler, request).await })));
            }
            for (values, poisoned, request) in requests {
                let answer = request.await.unwrap();
                let doubled: Vec<i64> = values.iter().map(|value| value * 2).collect();
                match poisoned {
                    true => assert_eq!(answer.unwrap_err().kind(), Kind::Execution),
                    false => assert_eq!(answer.unwrap(), doubled),
                }
            }
            assert_eq!(fixture.metrics.queue_depth.get(), 0);
        });
    }
}

#[test]
fn a_warm_up_finds_out_that_rows_influence_each_other() {
    struct Mean;
    impl Instance for Mean {
        fn execute(&mut self, inputs: &[Option<Tensor>], _: &[usize]) -> Result<Vec<Tensor>> {
            let values = inputs[0].as_ref().unwrap().view::<f32>().unwrap();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let shifted: Vec<f32> = values.iter().map(|value| value - mean).collect();
            Ok(vec![Tensor::from_elements([values.len()].into(), &shifted).unwrap()])
        }
    }
    let spec = |name: &str| TensorSpec::new(name, DataType::Fp32, [Dim::ANY]);
    let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
    let batching = warm_up(&mut Mean, &signature, &[], 64).unwrap().batching;
    assert!(matches!(&batching, Batching::Off { suspicious: true, reason } if reason.contains("'y'")), "{batching:?}");
}

#[test]
fn a_model_of_numbers_that_always_fails_is_not_ready_and_one_of_indices_may_be() {
    struct Failing;
    impl Instance for Failing {
        fn execute(&mut self, _: &[Option<Tensor>], _: &[usize]) -> Result<Vec<Tensor>> {
            Err(Error::execution("no"))
        }
    }
    let signature = |datatype| Signature {
        inputs: vec![TensorSpec::new("x", datatype, [Dim::ANY, Dim::Fixed(2)])],
        outputs: vec![TensorSpec::new("y", datatype, [Dim::ANY])],
    };
    let error = warm_up(&mut Failing, &signature(DataType::Fp32), &[], 64).unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::ModelUnavailable, "the warm-up run failed: no"));
    let unsure = warm_up(&mut Failing, &signature(DataType::Int64), &[], 64).unwrap();
    assert_eq!(unsure.not_run.as_deref(), Some("no"));
}
