//! Padding from its verification to the answers, with models made up for the purpose.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use smallvec::smallvec;
use tokio::time::Instant;

use super::*;
use crate::error::Result;
use crate::infer::Parameters;
use crate::model::{Pad, TensorSpec};
use crate::runtime::{Instance, LoadedModel};
use crate::scheduler::planner::{Due, Next, Planner};
use crate::scheduler::queue::{Item, Priority};
use crate::scheduler::{BatchLimits, Curve, Executed, Padded, Scheduler, SchedulerConfig, warm_up};
use crate::telemetry::Telemetry;
use crate::tensor::{DataType, Scalar};

fn pad(value: Scalar, datatype: DataType) -> Option<Pad> {
    Some(Pad { element: value.element(datatype)?, is_needed: true })
}

/// `values` FP32 and `mask` INT64, both `[rows, n]`, to the `mean [rows]` of the values that are not masked, and their
/// differences from it, `[rows, n]`.
#[derive(Clone, Default)]
struct Centring {
    signature: Signature,
    /// Whether the mask is heeded.
    masked: bool,
    /// Shapes of the batches.
    batches: Arc<Mutex<Vec<Vec<usize>>>>,
}

impl Centring {
    /// A model whose dimension behind the rows is called so in the inputs.
    fn new(masked: bool, names: [Option<&str>; 2]) -> Self {
        let rows = || Dim::Dynamic(Some("rows".into()));
        let dim = |name: Option<&str>| Dim::Dynamic(name.map(Into::into));
        let inputs = vec![
            TensorSpec::new("values", DataType::Fp32, [rows(), dim(names[0])]),
            TensorSpec::new("mask", DataType::Int64, [rows(), dim(names[1])]),
        ];
        let outputs = vec![
            TensorSpec::new("mean", DataType::Fp32, [rows()]),
            TensorSpec::new("differences", DataType::Fp32, [rows(), Dim::ANY]),
        ];
        Self { signature: Signature { inputs, outputs }, masked, batches: Arc::default() }
    }

    fn warmed_up(&self) -> Padded {
        let pads = [DataType::Fp32, DataType::Int64].map(|datatype| pad(Scalar::Whole(0), datatype));
        warm_up(&mut self.clone(), &self.signature, &pads, 64).unwrap().padded
    }
}

impl LoadedModel for Centring {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        Ok(Box::new(self.clone()))
    }
}

impl Instance for Centring {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        let [Some(values), Some(mask)] = inputs else { panic!("both are given") };
        if values.shape() != mask.shape() {
            return Err(Error::execution("unlike shapes"));
        }
        self.batches.lock().unwrap().push(values.shape().to_vec());
        let length = values.shape()[1];
        let (mut means, mut differences) = (Vec::new(), Vec::new());
        let rows = values.view::<f32>().unwrap().chunks(length.max(1));
        for (values, mask) in rows.zip(mask.view::<i64>().unwrap().chunks(length.max(1))) {
            let present = |at: &usize| !self.masked || mask[*at] != 0;
            let count = (0..length).filter(present).count();
            let mean = (0..length).filter(present).map(|at| values[at]).sum::<f32>() / count as f32;
            means.push(mean);
            differences.extend(values.iter().map(|value| value - mean));
        }
        means.resize(values.shape()[0], 0.0);
        let all = [
            Tensor::from_elements([means.len()].into(), &means).unwrap(),
            Tensor::from_elements(values.shape().clone(), &differences).unwrap(),
        ];
        Ok(outputs.iter().map(|&output| all[output].clone()).collect())
    }
}

fn verified(padded: Padded) -> Arc<Padding> {
    match padded {
        Padded::Verified(padding) => padding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn padding_that_leaves_answers_alike_is_found_so_and_so_are_the_outputs_that_it_reaches() {
    let padding = verified(Centring::new(true, [Some("n"), Some("n")]).warmed_up());
    assert_eq!((padding.axes(), padding.reaches(0), padding.reaches(1)), (1, false, true));
}

#[test]
fn padding_that_changes_answers_is_off_and_the_output_is_named() {
    let padded = Centring::new(false, [Some("n"), Some("n")]).warmed_up();
    assert!(
        matches!(&padded, Padded::Off { reason } if reason.contains("'mean'") && reason.contains("padded")),
        "{padded:?}"
    );
}

#[test]
fn dimensions_that_have_to_be_equal_are_one_axis_whatever_they_are_called() {
    for names in [[None, None], [Some("a"), Some("b")], [Some("n"), None]] {
        let padding = verified(Centring::new(true, names).warmed_up());
        assert_eq!(padding.axes(), 1, "{names:?}");
        let mut unequal = centred(&[1.0; 6], 2);
        unequal.inputs[1] = Some(Tensor::from_elements([2, 1].into(), &[1_i64, 1]).unwrap());
        assert_eq!(padding.lengths(&unequal), None);
        assert_eq!(padding.lengths(&centred(&[1.0; 6], 2)), Some(smallvec![3]));
    }
}

/// A request of `rows` rows of `values`, nothing masked.
fn centred(values: &[f32], rows: usize) -> ValidRequest {
    let shape = Shape::from([rows, values.len().checked_div(rows).unwrap_or(0)]);
    let mask = vec![1_i64; values.len()];
    let (values, mask) = (Tensor::from_elements(shape.clone(), values), Tensor::from_elements(shape, &mask));
    let inputs = smallvec![Some(values.unwrap()), Some(mask.unwrap())];
    ValidRequest { inputs, outputs: smallvec![1, 0], rows, rows_agree: true }
}

/// A curve by which a batch takes 50 us, whatever its work.
fn flat() -> Curve {
    let mut curve = Curve::default();
    for work in [1, 4096] {
        curve.note(work, Duration::from_micros(50));
    }
    curve
}

fn start(model: &Centring, curve: Curve) -> (Scheduler, Arc<crate::telemetry::ModelMetrics>, Arc<Telemetry>) {
    let padding = Some(verified(model.warmed_up()));
    model.batches.lock().unwrap().clear();
    let config = SchedulerConfig { padding, ..SchedulerConfig::default() };
    let telemetry = Arc::new(Telemetry::new());
    let metrics = Arc::new(telemetry.model("centring", "1"));
    let instances = vec![model.instance().unwrap()];
    let (scheduler, _) =
        Scheduler::start(Arc::new(model.clone()), instances, curve, config, None, Arc::clone(&metrics));
    (scheduler, metrics, telemetry)
}

async fn submit(scheduler: &Scheduler, request: ValidRequest) -> Executed {
    scheduler.submit(request, Parameters::new(), None, Priority::NORMAL).await.unwrap()
}

#[tokio::test]
async fn requests_of_different_lengths_share_a_batch_and_each_gets_its_own_length_back() {
    let model = Centring::new(true, [Some("n"), Some("n")]);
    let (scheduler, _, telemetry) = start(&model, flat());
    let (short, long) = tokio::join!(
        submit(&scheduler, centred(&[1., 3., 5., 7., 9., 11.], 2)),
        submit(&scheduler, centred(&[2., 2., 2., 2., 7.], 1)),
    );
    assert_eq!(*model.batches.lock().unwrap(), [[3, 5]]);
    assert_eq!(short.outputs[0], Tensor::from_elements([2, 3].into(), &[-2_f32, 0., 2., -2., 0., 2.]).unwrap());
    assert_eq!(short.outputs[1], Tensor::from_elements([2].into(), &[3_f32, 9.]).unwrap());
    assert_eq!(long.outputs[0], Tensor::from_elements([1, 5].into(), &[-1_f32, -1., -1., -1., 4.]).unwrap());
    // Eleven cells of fifteen are useful.
    assert!((short.timing.padding - 4.0 / 15.0).abs() < 1e-9 && short.timing.batch_rows == 3, "{:?}", short.timing);
    let told = telemetry.render(&[], &[], &[]);
    for (cells, count) in [("useful", 11), ("padding", 4)] {
        let line = format!("tensorgate_cells_total{{model=\"centring\",use=\"{cells}\",version=\"1\"}} {count}\n");
        assert!(told.contains(&line), "{told}");
    }
}

#[tokio::test]
async fn a_large_request_is_split_and_its_parts_are_padded_like_others() {
    let model = Centring::new(true, [Some("n"), Some("n")]);
    let padding = Some(verified(model.warmed_up()));
    model.batches.lock().unwrap().clear();
    let limits = BatchLimits { rows_max: 2, ..BatchLimits::default() };
    let config = SchedulerConfig { padding, limits, ..SchedulerConfig::default() };
    let metrics = Arc::new(Telemetry::new().model("centring", "1"));
    let instances = vec![model.instance().unwrap()];
    let (scheduler, _) = Scheduler::start(Arc::new(model.clone()), instances, flat(), config, None, metrics);
    let (large, other) = tokio::join!(
        submit(&scheduler, centred(&[1., 3., 2., 4., 5., 9.], 3)),
        submit(&scheduler, centred(&[0., 3., 6.], 1)),
    );
    assert_eq!(large.outputs[0], Tensor::from_elements([3, 2].into(), &[-1_f32, 1., -1., 1., -2., 2.]).unwrap());
    assert_eq!(large.outputs[1], Tensor::from_elements([3].into(), &[2_f32, 3., 7.]).unwrap());
    assert_eq!(other.outputs[0], Tensor::from_elements([1, 3].into(), &[-3_f32, 0., 3.]).unwrap());
    assert_eq!(*model.batches.lock().unwrap(), [[2, 2], [2, 3]]);
}

#[test]
fn an_output_that_is_not_as_long_as_its_batch_fails_the_batch() {
    let padding = verified(Centring::new(true, [Some("n"), Some("n")]).warmed_up());
    let (short, long) = (centred(&[1., 2.], 1), centred(&[1., 2., 3.], 1));
    let together = padding.together(&[&short, &long]).unwrap();
    let output = |length| Tensor::from_elements([1, length].into(), &vec![1_f32; length]).unwrap();
    assert_eq!(together.cut_back(1, 0, output(3)).unwrap(), output(2));
    assert_eq!(together.cut_back(1, 1, output(3)).unwrap(), output(3));
    let error = together.cut_back(1, 0, output(4)).unwrap_err();
    assert_eq!(error.message(), "an output of shape [1,4] is not as long as its batch: expected 3 on dimension 1");
    assert!(padding.together(&[&short, &short]).is_none(), "alike, nothing is padded");
}

#[tokio::test]
async fn a_request_alone_is_neither_padded_nor_copied() {
    #[derive(Clone)]
    struct Echo(Signature);
    impl Instance for Echo {
        fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
            Ok(outputs.iter().map(|&output| inputs[output].clone().unwrap()).collect())
        }
    }
    impl LoadedModel for Echo {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn instance(&self) -> Result<Box<dyn Instance>> {
            Ok(Box::new(self.clone()))
        }
    }
    let spec = |name| TensorSpec::new(name, DataType::Fp32, [Dim::ANY, Dim::ANY]);
    let echo = Echo(Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] });
    let pads = [pad(Scalar::Real(0.5), DataType::Fp32)];
    let padding = Some(verified(warm_up(&mut echo.clone(), &echo.0, &pads, 64).unwrap().padded));
    let config = SchedulerConfig { padding, ..SchedulerConfig::default() };
    let metrics = Arc::new(Telemetry::new().model("echo", "1"));
    let instances = vec![echo.instance().unwrap()];
    let (scheduler, _) = Scheduler::start(Arc::new(echo), instances, flat(), config, None, metrics);
    let tensor = Tensor::from_elements([1, 3].into(), &[1_f32, 2., 3.]).unwrap();
    let sent = tensor.data().as_ptr();
    let inputs = smallvec![Some(tensor)];
    let answer = submit(&scheduler, ValidRequest { inputs, outputs: smallvec![0], rows: 1, rows_agree: true }).await;
    assert_eq!(answer.outputs[0].data().as_ptr(), sent);
    assert!(answer.timing.padding.abs() < f64::EPSILON);
}

#[test]
fn several_axes_are_padded_each_and_only_those_of_about_one_size_share_a_lane() {
    let dims = |names: [&str; 2]| names.map(|name| Dim::Dynamic(Some(name.into())));
    let spec = TensorSpec::new("image", DataType::Fp32, [Dim::ANY].into_iter().chain(dims(["height", "width"])));
    let signature = Signature { inputs: vec![spec.clone()], outputs: vec![spec] };
    let pads = [pad(Scalar::Whole(0), DataType::Fp32)];
    let padding = Arc::new(Padding::declared(&signature, &pads).unwrap());
    assert_eq!(padding.axes(), 2);
    let request = |height: usize, width: usize| {
        let image = Tensor::from_elements([1, height, width].into(), &vec![1_f32; height * width]).unwrap();
        ValidRequest { inputs: smallvec![Some(image)], outputs: smallvec![0], rows: 1, rows_agree: true }
    };
    let fits = |one: &ValidRequest, other: &ValidRequest| {
        let shape = |request: &ValidRequest| request.inputs[0].as_ref().unwrap().shape().clone();
        Fit::of(&padding, one).alike(&Fit::of(&padding, other), 0, &shape(one), &shape(other))
    };
    assert!(fits(&request(9, 17), &request(10, 20)), "steps 10 and 20");
    // As many cells, but together they would be nearly all padding.
    assert!(!fits(&request(10, 20), &request(20, 10)));
    let extent = Extent::of(&[&request(9, 20), &request(10, 17)], Some(&padding));
    assert_eq!(extent, Extent { rows: 2, work: 400, useful: 350 });
}

#[test]
fn steps_are_at_or_above_a_length_and_at_most_a_quarter_above() {
    assert_eq!([0, 1, 5, 8, 9, 16, 17, 33].map(step), [0, 1, 5, 8, 10, 16, 20, 40]);
    for length in 1..5000 {
        assert!(step(length) >= length && step(length) * 4 <= length * 5 && step(step(length)) == step(length));
    }
}

/// Rows of one length in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    rows: usize,
    unit: usize,
}

impl Item for Waiting {
    fn rows(&self) -> usize {
        self.rows
    }

    fn unit(&self) -> usize {
        self.unit
    }

    fn joins(&self, _: &Self) -> bool {
        true
    }
}

/// The batches that a planner with `curve` makes of `items`, all there at once.
fn batches(curve: Curve, items: &[Waiting]) -> Vec<Vec<Waiting>> {
    let now = Instant::now();
    let limits = BatchLimits { objective: Duration::from_secs(10), ..BatchLimits::default() };
    let mut planner = Planner::new(now, limits, 1, curve);
    for &item in items {
        planner.push(item, now, Due::Objective(now + limits.objective), Priority::NORMAL);
    }
    let mut batches = Vec::new();
    loop {
        match planner.next(now, |item, why| panic!("{item:?} given up: {why:?}")) {
            Next::Run(batch) => batches.push(batch),
            Next::Idle => return batches,
            Next::WaitUntil(_) => panic!("nobody waits"),
        }
    }
}

/// A batch takes `fixed` and `each` for every unit of work.
fn linear(fixed: Duration, each: Duration) -> Curve {
    let mut curve = Curve::default();
    for work in [1, 10, 100, 1000, 10_000] {
        curve.note(work, fixed + each * work as u32);
    }
    curve
}

#[test]
fn lanes_of_other_lengths_fill_a_batch_where_one_is_quicker_than_two() {
    let items = [10, 40, 20].map(|unit| Waiting { rows: 1, unit });
    let fixed = linear(Duration::from_millis(5), Duration::from_micros(1));
    assert_eq!(batches(fixed, &items), [vec![items[0], items[2], items[1]]], "nearest in length first");
    let linear = linear(Duration::ZERO, Duration::from_micros(10));
    assert_eq!(batches(linear, &items).len(), 3, "padding would cost more than it gains");
    assert_eq!(batches(Curve::default(), &items).len(), 3, "nothing is known yet");
}

#[test]
fn a_batch_is_never_nearly_all_padding_however_quick_it_may_look() {
    let mut items = vec![Waiting { rows: 1, unit: 1 }; 20];
    items.push(Waiting { rows: 1, unit: 1000 });
    let batches = batches(linear(Duration::from_millis(5), Duration::ZERO), &items);
    assert_eq!(batches.iter().flatten().count(), 21);
    assert!(batches.len() > 1, "{batches:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever waits runs once, in batches that keep to their bounds.
    #[test]
    fn every_length_is_run_once_and_batches_are_bounded(
        items in prop::collection::vec((1_usize..9, 1_usize..600), 1..60),
        fixed in 0_u64..5000,
        each in 0_u64..50,
    ) {
        let items: Vec<_> = items.into_iter().map(|(rows, length)| Waiting { rows, unit: step(length) }).collect();
        let curve = linear(Duration::from_micros(fixed), Duration::from_nanos(each));
        let batches = batches(curve, &items);
        for batch in &batches {
            let rows: usize = batch.iter().map(|item| item.rows).sum();
            let useful: usize = batch.iter().map(|item| item.rows * item.unit).sum();
            let longest = batch.iter().map(|item| item.unit).max().unwrap();
            prop_assert!(rows * longest <= 4 * useful && rows <= 256, "{:?}", batch);
        }
        let key = |item: &Waiting| (item.unit, item.rows);
        let (mut ran, mut all) = (batches.concat(), items);
        ran.sort_by_key(key);
        all.sort_by_key(key);
        prop_assert_eq!(ran, all);
    }

    /// Whatever comes together, in whatever lengths and rows: each request gets what it would get alone.
    #[test]
    fn every_request_gets_its_own_answer_in_its_own_length(
        sizes in prop::collection::vec((0_usize..4, 1_usize..40), 1..30),
        seed in any::<u32>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let model = Centring::new(true, [Some("n"), None]);
            let (scheduler, ..) = start(&model, flat());
            let scheduler = Arc::new(scheduler);
            let mut state = seed;
            let mut calls = Vec::new();
            for (rows, length) in sizes {
                let values: Vec<f32> = (0..rows * length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 20) as f32
                }).collect();
                let request = centred(&values, rows);
                let inputs: Vec<_> = request.inputs.iter().cloned().collect();
                let alone = Centring::new(true, [None, None]).execute(&inputs, &[1, 0]).unwrap();
                let scheduler = Arc::clone(&scheduler);
                calls.push((alone, tokio::spawn(async move { submit(&scheduler, request).await })));
            }
            for (alone, call) in calls {
                assert_eq!(call.await.unwrap().outputs, alone);
            }
        });
    }
}
