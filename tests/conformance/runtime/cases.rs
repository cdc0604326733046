//! What a fixture answers, or how it fails.

use half::{bf16, f16};
use tensorgate::error::Kind;
use tensorgate::tensor::{DataType, Element, Tensor};

use serde_json::Value;

use super::engine::{Engine, difference, folder_path, run};
use super::gaps::{self, settle};

type Named = Vec<(&'static str, Tensor)>;

#[derive(Clone)]
enum Expected {
    /// All outputs, in the order of the graph.
    Outputs(Vec<Tensor>),
    /// Loading fails with [`Kind::ModelUnavailable`], and the message holds the text.
    Refused(&'static str),
    /// Loading works, executing fails with [`Kind::Execution`].
    Fails,
    /// Loading works, executing fails with [`Kind::InvalidRequest`]: the runtime can tell that no run would take it.
    NotTaken,
}

#[derive(Clone)]
struct Case {
    /// The fixture, and what is asked of it behind a colon where there are several cases of one.
    name: String,
    inputs: Named,
    expected: Expected,
}

fn case(name: impl Into<String>, inputs: impl Into<Named>, expected: Expected) -> Case {
    Case { name: name.into(), inputs: inputs.into(), expected }
}

fn answers<const N: usize>(name: &str, inputs: impl Into<Named>, outputs: [Tensor; N]) -> Case {
    case(name, inputs, Expected::Outputs(outputs.into()))
}

fn refused(name: &str, message: &'static str) -> Case {
    case(name, [], Expected::Refused(message))
}

/// A tensor of `values`, of the datatype that is their type's own.
pub(crate) fn tensor<T: Element>(shape: impl AsRef<[usize]>, values: impl AsRef<[T]>) -> Tensor {
    Tensor::from_elements(shape.as_ref().into(), values.as_ref()).unwrap()
}

/// A BOOL tensor.
fn bools(shape: impl AsRef<[usize]>, values: &[u8]) -> Tensor {
    Tensor::new(DataType::Bool, shape.as_ref().into(), values.to_vec().into()).unwrap()
}

/// A BYTES tensor.
fn strings(shape: impl AsRef<[usize]>, values: &[&[u8]]) -> Tensor {
    Tensor::from_byte_strings(shape.as_ref().into(), values).unwrap()
}

/// Two rows of every datatype, with the values at the ends of its range.
pub(crate) fn extremes() -> Vec<Tensor> {
    let shape = [2, 2];
    vec![
        bools(shape, &[0, 1, 1, 0]),
        tensor(shape, [0_u8, 1, 127, u8::MAX]),
        tensor(shape, [0_u16, 1, 1 << 15, u16::MAX]),
        tensor(shape, [0_u32, 1, 1 << 31, u32::MAX]),
        tensor(shape, [0_u64, 1, 1 << 63, u64::MAX]),
        tensor(shape, [i8::MIN, -1, 0, i8::MAX]),
        tensor(shape, [i16::MIN, -1, 0, i16::MAX]),
        tensor(shape, [i32::MIN, -1, 0, i32::MAX]),
        tensor(shape, [i64::MIN, -1, (1 << 53) + 1, i64::MAX]),
        tensor(shape, [f16::MIN, f16::NEG_ZERO, f16::from_bits(1), f16::INFINITY]),
        tensor(shape, [bf16::MIN, bf16::NEG_ZERO, bf16::from_bits(1), bf16::INFINITY]),
        tensor(shape, [f32::MIN, -0.0, f32::from_bits(1), f32::INFINITY]),
        tensor(shape, [f64::MIN, -0.0, f64::from_bits(1), f64::NEG_INFINITY]),
        strings(shape, &[b"", "na\u{ef}ve \u{1f980}".as_bytes(), b"{}", &[b'x'; 1000]]),
    ]
}

fn identities() -> Vec<Case> {
    let fixture = |tensor: &Tensor| format!("identity_{}", tensor.datatype().name().to_lowercase());
    let identity = |name: String, x: Tensor| case(name, [("x", x.clone())], Expected::Outputs(vec![x]));
    let mut cases: Vec<Case> = extremes().into_iter().map(|x| identity(fixture(&x), x)).collect();
    for whole in extremes() {
        let empty = |shape: [usize; 2]| Tensor::new(whole.datatype(), shape.into(), Vec::new().into()).unwrap();
        cases.push(identity(format!("{}: zero rows", fixture(&whole)), empty([0, 3])));
        cases.push(identity(format!("{}: zero columns", fixture(&whole)), empty([3, 0])));
    }
    let nan = [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), 1.0];
    cases.push(identity("identity_fp32: NaN".into(), tensor([1, 4], nan)));
    cases.push(identity("identity_bytes: zero bytes".into(), strings([1, 2], &[b"a\0b", b"\0"])));
    cases.push(identity("identity_bytes: not UTF-8".into(), strings([1, 1], &[&[0xff, 0xfe]])));
    cases
}

fn shapes() -> Vec<Case> {
    let abc = || tensor([2, 3], [1_f32, 2., 3., 4., 5., 6.]);
    vec![
        answers("scalar", [("x", tensor([], [1.5_f32]))], [tensor([], [3_f32])]),
        answers("fixed_batch", [("x", tensor([1, 3], [1_f32, 2., 3.]))], [tensor([1, 3], [2_f32, 4., 6.])]),
        answers("no_shape_input", [("x", abc())], [tensor([2, 3], [2_f32, 4., 6., 8., 10., 12.])]),
        answers("no_shape_input: rank 1", [("x", tensor([2], [1_f32, 2.]))], [tensor([2], [2_f32, 4.])]),
        answers("no_shape_input: rank 0", [("x", tensor([], [1_f32]))], [tensor([], [2_f32])]),
        answers(
            "unknown_rank",
            [("x", tensor([4], [1_f32, 2., 3., 4.])), ("shape", tensor([3], [2_i64, 1, 2]))],
            [tensor([2, 1, 2], [1_f32, 2., 3., 4.])],
        ),
        case(
            "unknown_rank: impossible shape",
            [("x", tensor([4], [1_f32, 2., 3., 4.])), ("shape", tensor([2], [3_i64, 3]))],
            Expected::Fails,
        ),
        answers("sum_sequence", [("x", abc())], [tensor([2], [6_f32, 15.])]),
        answers("sum_sequence: zero rows", [("x", tensor([0, 3], [0_f32; 0]))], [tensor([0], [0_f32; 0])]),
        answers("sum_sequence: empty sequence", [("x", tensor([2, 0], [0_f32; 0]))], [tensor([2], [0_f32, 0.])]),
        answers("sum_sequence: NaN", [("x", tensor([2, 2], [f32::NAN, 1., 1., 2.]))], [tensor([2], [f32::NAN, 3.])]),
        answers("sum_all", [("x", abc())], [tensor([], [21_f32])]),
        answers("reshape_flat", [("x", abc())], [tensor([6], [1_f32, 2., 3., 4., 5., 6.])]),
        answers(
            "concat_sequences",
            [("left", tensor([2, 1], [1, 2])), ("right", tensor([2, 2], [3, 4, 5, 6]))],
            [tensor([2, 3], [1, 3, 4, 2, 5, 6])],
        ),
        answers(
            "odd_dimension_names",
            [("x", tensor([2, 1, 3], [-1_f32, 2., -3., 4., -5., 6.]))],
            [tensor([2, 1, 3], [0_f32, 2., 0., 4., 0., 6.])],
        ),
        answers("inner_shape_note", [("x", tensor([1, 2], [-1_f32, 2.]))], [tensor([1, 2], [0_f32, 2.])]),
    ]
}

fn several() -> Vec<Case> {
    let x = || tensor([2, 3], [1_f32, 2., 3., 4., 5., 6.]);
    vec![
        answers(
            "two_inputs",
            [("b", tensor([1, 2], [1_i64, 2])), ("a", tensor([1, 2], [5_f32, 7.]))],
            [tensor([1, 2], [4_f32, 5.])],
        ),
        answers("optional_input", [("x", x())], [tensor([2, 3], [11_f32, 22., 33., 14., 25., 36.])]),
        answers(
            "optional_input: given",
            [("x", x()), ("bias", tensor([3], [1_f32, 1., 1.]))],
            [tensor([2, 3], [2_f32, 3., 4., 5., 6., 7.])],
        ),
        answers(
            "optional_target_shape",
            [("x", tensor([1, 4], [1_f32, 2., 3., 4.]))],
            [tensor([1, 2, 2], [1_f32, 2., 3., 4.])],
        ),
        answers("optional_tensor", [("x", tensor([1, 2], [1_f32, -2.]))], [tensor([1, 2], [1_f32, -2.])]),
        answers(
            "many_outputs",
            [("x", tensor([2, 2], [1_f32, -2., 3., 4.]))],
            [
                tensor([2, 2], [2_f32, -4., 6., 8.]),
                tensor([2], [-1_f32, 7.]),
                tensor([2], [0_i64, 1]),
                bools([2, 2], &[1, 0, 1, 1]),
                tensor([2, 2], [1_f64, -2., 3., 4.]),
                tensor([2], [2_i64, 2]),
            ],
        ),
    ]
}

fn behaviour() -> Vec<Case> {
    let rows = |index: &[i64]| -> Named { vec![("index", tensor([index.len()], index))] };
    vec![
        answers("batch_mean", [("x", tensor([2, 2], [1_f32, 2., 3., 6.]))], [tensor([2, 2], [-1_f32, -2., 1., 2.])]),
        answers("gather_rows", rows(&[3, 0, 9]), [tensor([3, 2], [3_f32, 9., 0., 0., 9., 81.])]),
        answers("gather_rows: zero rows", rows(&[]), [tensor([0, 2], [0_f32; 0])]),
        answers("gather_rows: from the end", rows(&[-1]), [tensor([1, 2], [9_f32, 81.])]),
        case("gather_rows: out of range", rows(&[3, 10]), Expected::Fails),
        case("gather_rows: far out of range", rows(&[i64::MAX]), Expected::Fails),
        case("gather_rows: below range", rows(&[i64::MIN]), Expected::Fails),
        answers("gather_columns", [("index", tensor([2], [2_i64, 0]))], [tensor([2, 2], [3_f32, 1., 6., 4.])]),
        case("gather_columns: out of range", [("index", tensor([1], [3_i64]))], Expected::Fails),
        case("loads_but_cannot_run", [("x", tensor([1, 4], [1_f32; 4]))], Expected::Fails),
        answers("slow", [("x", tensor([2, 1], [1_f32, -7.]))], [tensor([2, 1], [1_f32, -7.])]),
    ]
}

fn beyond_v2() -> Vec<Case> {
    let pair = |x: Tensor, z: Tensor| [("x", x), ("z", z)];
    vec![
        answers(
            "sequence_input",
            [("x", tensor([2, 3], [1_f32, 2., 3., 4., 5., 6.]))],
            [tensor([6], [1_f32, 2., 3., 4., 5., 6.])],
        ),
        case("sequence_input: none", [("x", tensor([0, 3], [0_f32; 0]))], Expected::NotTaken),
        case("sequence_input: a scalar", [("x", tensor([], [1_f32]))], Expected::NotTaken),
        answers(
            "sequence_output",
            pair(tensor([1, 2], [1_f32, 2.]), tensor([1, 2], [3_f32, 4.])),
            [tensor([2, 1, 2], [1_f32, 2., 3., 4.])],
        ),
        case(
            "sequence_output: of several shapes",
            pair(tensor([1, 2], [1_f32, 2.]), tensor([1, 1], [3_f32])),
            Expected::Fails,
        ),
        // 0x38 is 1, 0xb8 is -1, 0x7e is 448, the largest, 0x01 is 2^-9, the smallest.
        answers(
            "float8_input",
            [("x", tensor([2, 2], [0x38_u8, 0xb8, 0x7e, 0x01]))],
            [tensor([2, 2], [1_f32, -1., 448., 0.001953125])],
        ),
    ]
}

/// What the transformers package answers, and what no run would take.
fn folders() -> Vec<Case> {
    let listed = |listed: &Value| {
        let numbers = |of: &str| listed[of].as_array().unwrap().clone();
        let shape: Vec<usize> = numbers("shape").iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
        match numbers("data").iter().map(Value::as_i64).collect::<Option<Vec<i64>>>() {
            Some(whole) => tensor(shape, whole),
            None => {
                tensor(shape, numbers("data").iter().map(|value| value.as_f64().unwrap() as f32).collect::<Vec<_>>())
            }
        }
    };
    let as_transformers = |name: &'static str| {
        let expected: Value =
            serde_json::from_slice(&std::fs::read(folder_path(name).join("expected.json")).unwrap()).unwrap();
        let names = ["input_ids", "attention_mask", "token_type_ids", "pixel_values"];
        let inputs: Named =
            names.into_iter().filter_map(|name| Some((name, listed(expected["inputs"].get(name)?)))).collect();
        let outputs = ["last_hidden_state", "logits", "embedding"];
        let outputs = outputs.iter().filter_map(|name| expected["outputs"].get(name).map(listed)).collect();
        case(name, inputs, Expected::Outputs(outputs))
    };
    let ids = |name: &str, shape: [usize; 2], id: i64| {
        let ids = tensor(shape, vec![id; shape[0] * shape[1]]);
        case(format!("bert: {name}"), [("input_ids", ids)], Expected::NotTaken)
    };
    let mut cases = ["bert", "roberta", "distilbert", "mpnet", "vit", "sentences_mean"].map(as_transformers).to_vec();
    cases.extend([
        ids("a token that it has no word for", [1, 3], 32),
        ids("a negative token", [1, 3], -1),
        ids("more tokens than it has places for", [1, 25], 4),
        ids("no token", [2, 0], 4),
    ]);
    cases
}

fn broken() -> Vec<Case> {
    vec![
        refused("unknown_op", "NoSuchOperator"),
        refused("map_output", "'y'"),
        refused("int4_input", "'x'"),
        refused("garbage", "garbage.onnx"),
        refused("truncated", "truncated.onnx"),
        refused("empty", "empty.onnx"),
    ]
}

/// Loads and runs every case.
pub(crate) fn every_case_has_the_expected_outcome(engine: &Engine) {
    let cases =
        [identities(), shapes(), several(), behaviour(), beyond_v2(), folders(), broken()].into_iter().flatten();
    settle(
        engine.name(),
        gaps::CASES,
        cases.filter_map(|case| Some((case.name.clone(), outcome(engine, &case)?))).collect(),
    );
}

fn outcome(engine: &Engine, case: &Case) -> Option<Result<(), String>> {
    let fixture = case.name.split(':').next().unwrap_or_default();
    Some(match (engine.load(fixture)?, &case.expected) {
        (Ok(_), Expected::Refused(_)) => Err("loads, but has to be refused".into()),
        (Err(error), Expected::Refused(text)) => {
            let told = error.kind() == Kind::ModelUnavailable
                && error.message().contains(text)
                && error.message().contains(fixture)
                && !error.message().contains('\n');
            if told { Ok(()) } else { Err(format!("the error has to name {text} and the file in one line: {error:?}")) }
        }
        (Err(error), _) => Err(format!("does not load: {error}")),
        (Ok(model), expected) => {
            let mut instance = model.instance().unwrap();
            match (run(&*model, &mut *instance, &case.inputs), expected) {
                (Ok(got), Expected::Outputs(expected)) => compare(&got, expected),
                (Ok(got), _) => Err(format!("answers {got:?}, but has to fail")),
                (Err(error), Expected::Fails) if error.kind() == Kind::Execution => Ok(()),
                (Err(error), Expected::NotTaken) if error.kind() == Kind::InvalidRequest => Ok(()),
                (Err(error), _) => Err(format!("{error:?}")),
            }
        }
    })
}

fn compare(got: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", got.len(), expected.len()));
    }
    let differences = got.iter().zip(expected).enumerate();
    match differences
        .filter_map(|(i, (got, expected))| Some(format!("output {i}: {}", difference(got, expected)?)))
        .next()
    {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}
