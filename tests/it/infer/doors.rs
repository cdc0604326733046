//! Every fixture, by every way of sending and of answering.

use half::{bf16, f16};
use serde_json::json;
use tensorgate::tensor::{DataType, Tensor};

use crate::support::tensors::*;
use crate::support::{Grpc, Http, Models, Server};

struct Case {
    model: String,
    inputs: Named,
    outputs: Named,
}

fn case<const I: usize, const O: usize>(
    model: &str,
    inputs: [(&str, Tensor); I],
    outputs: [(&str, Tensor); O],
) -> Case {
    Case { model: model.into(), inputs: named(inputs), outputs: named(outputs) }
}

fn identity(x: Tensor) -> Case {
    let model = format!("identity_{}", x.datatype().name().to_lowercase());
    case(&model, [("x", x.clone())], [("y", x)])
}

/// Two rows of every datatype, with the values at the ends of its range.
fn extremes() -> Vec<Tensor> {
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
        tensor(shape, [bf16::MIN, bf16::NEG_ZERO, bf16::from_bits(1), bf16::NEG_INFINITY]),
        tensor(shape, [f32::MIN, -0.0, f32::MIN_POSITIVE, f32::NAN]),
        tensor(shape, [f64::MIN, -0.0, f64::MIN_POSITIVE, f64::NEG_INFINITY]),
        strings(shape, &["", "na\u{ef}ve \u{1f980}", "{\"a\": [1]}\n\0", &"x".repeat(1000)]),
    ]
}

fn identities() -> Vec<Case> {
    let mut cases: Vec<Case> = extremes().into_iter().map(identity).collect();
    for whole in extremes() {
        let empty = |shape: [usize; 2]| Tensor::new(whole.datatype(), shape.into(), Vec::new().into()).unwrap();
        cases.extend([identity(empty([0, 3])), identity(empty([3, 0]))]);
    }
    cases
}

fn shapes() -> Vec<Case> {
    let x = || tensor([2, 3], [1_f32, 2., 3., 4., 5., 6.]);
    let unknown_rank = [("x", tensor([4], [1_f32, 2., 3., 4.])), ("shape", tensor([3], [2_i64, 1, 2]))];
    vec![
        case("scalar", [("x", tensor([], [1.5_f32]))], [("y", tensor([], [3_f32]))]),
        case("fixed_batch", [("x", tensor([1, 3], [1_f32, 2., 3.]))], [("y", tensor([1, 3], [2_f32, 4., 6.]))]),
        case("no_shape_input", [("x", x())], [("y", tensor([2, 3], [2_f32, 4., 6., 8., 10., 12.]))]),
        case("no_shape_input", [("x", tensor([], [1_f32]))], [("y", tensor([], [2_f32]))]),
        case("unknown_rank", unknown_rank, [("y", tensor([2, 1, 2], [1_f32, 2., 3., 4.]))]),
        case("sum_sequence", [("x", x())], [("sum", tensor([2], [6_f32, 15.]))]),
        case("sum_sequence", [("x", tensor([0, 3], [0_f32; 0]))], [("sum", tensor([0], [0_f32; 0]))]),
        case("sum_sequence", [("x", tensor([2, 0], [0_f32; 0]))], [("sum", tensor([2], [0_f32, 0.]))]),
        case("sum_all", [("x", x())], [("total", tensor([], [21_f32]))]),
        case("reshape_flat", [("x", x())], [("y", tensor([6], [1_f32, 2., 3., 4., 5., 6.]))]),
        case(
            "concat_sequences",
            [("left", tensor([2, 1], [1, 2])), ("right", tensor([2, 2], [3, 4, 5, 6]))],
            [("both", tensor([2, 3], [1, 3, 4, 2, 5, 6]))],
        ),
        case(
            "odd_dimension_names",
            [("x", tensor([2, 1, 3], [-1_f32, 2., -3., 4., -5., 6.]))],
            [("y", tensor([2, 1, 3], [0_f32, 2., 0., 4., 0., 6.]))],
        ),
        case("inner_shape_note", [("x", tensor([1, 2], [-1_f32, 2.]))], [("y", tensor([1, 2], [0_f32, 2.]))]),
    ]
}

fn several() -> Vec<Case> {
    let x = || ("x", tensor([2, 3], [1_f32, 2., 3., 4., 5., 6.]));
    vec![
        case(
            "two_inputs",
            [("b", tensor([1, 2], [1_i64, 2])), ("a", tensor([1, 2], [5_f32, 7.]))],
            [("y", tensor([1, 2], [4_f32, 5.]))],
        ),
        case("optional_input", [x()], [("y", tensor([2, 3], [11_f32, 22., 33., 14., 25., 36.]))]),
        case(
            "optional_input",
            [x(), ("bias", tensor([3], [1_f32, 1., 1.]))],
            [("y", tensor([2, 3], [2_f32, 3., 4., 5., 6., 7.]))],
        ),
        case(
            "optional_target_shape",
            [("x", tensor([1, 4], [1_f32, 2., 3., 4.]))],
            [("y", tensor([1, 2, 2], [1_f32, 2., 3., 4.]))],
        ),
        case(
            "many_outputs",
            [("x", tensor([2, 2], [1_f32, -2., 3., 4.]))],
            [
                ("doubled", tensor([2, 2], [2_f32, -4., 6., 8.])),
                ("total", tensor([2], [-1_f32, 7.])),
                ("largest", tensor([2], [0_i64, 1])),
                ("positive", bools([2, 2], &[1, 0, 1, 1])),
                ("wide", tensor([2, 2], [1_f64, -2., 3., 4.])),
                ("shape", tensor([2], [2_i64, 2])),
            ],
        ),
        case(
            "batch_mean",
            [("x", tensor([2, 2], [1_f32, 2., 3., 6.]))],
            [("y", tensor([2, 2], [-1_f32, -2., 1., 2.]))],
        ),
        case(
            "gather_rows",
            [("index", tensor([3], [3_i64, 0, -1]))],
            [("y", tensor([3, 2], [3_f32, 9., 0., 0., 9., 81.]))],
        ),
        case("gather_rows", [("index", tensor([0], [0_i64; 0]))], [("y", tensor([0, 2], [0_f32; 0]))]),
        case("gather_columns", [("index", tensor([2], [2_i64, 0]))], [("y", tensor([2, 2], [3_f32, 1., 6., 4.]))]),
        case("slow", [("x", tensor([2, 1], [1_f32, -7.]))], [("y", tensor([2, 1], [1_f32, -7.]))]),
    ]
}

async fn ask_http(http: &mut Http, case: &Case) {
    let Case { model, inputs, outputs } = case;
    let json = http.infer(model, &json_body(inputs)).await;
    assert_eq!(&outputs_of(&json), outputs, "{model}: JSON");
    let usual = http.post(&format!("/v2/models/{model}/infer"), usual_body(inputs)).await;
    assert_eq!(&outputs_of(&usual), outputs, "{model}: JSON, data last");
    let all_binary = json!({ "parameters": { "binary_data_output": true } });
    let binary = http.send(binary_request(model, inputs, all_binary, |_| true)).await;
    assert_eq!(&outputs_of(&binary), outputs, "{model}: binary");
    assert!(binary.header(HEADER_LENGTH).is_some(), "{model}: {binary:?}");
    // Every other input and output.
    let asked = |(position, (name, _)): (usize, &(String, Tensor))| json!({ "name": name, "parameters": { "binary_data": position % 2 == 0 } });
    let mixed = json!({ "outputs": outputs.iter().enumerate().map(asked).collect::<Vec<_>>() });
    let mixed = http.send(binary_request(model, inputs, mixed, |position| position % 2 == 0)).await;
    assert_eq!(&outputs_of(&mixed), outputs, "{model}: mixed");
}

async fn ask_grpc(grpc: &mut Grpc, case: &Case) {
    let Case { model, inputs, outputs } = case;
    let raw = grpc.model_infer(message(model, inputs)).await.unwrap_or_else(|status| panic!("{model}: {status:?}"));
    assert_eq!(&outputs_of_message(raw.get_ref()), outputs, "{model}: raw");
    let no_fields = |datatype| matches!(datatype, DataType::Fp16 | DataType::Bf16);
    if inputs.iter().any(|(_, tensor)| no_fields(tensor.datatype())) {
        return;
    }
    let typed = grpc.model_infer(typed_message(model, inputs)).await;
    let typed = typed.unwrap_or_else(|status| panic!("{model}: {status:?}"));
    assert_eq!(&outputs_of_message(typed.get_ref()), outputs, "{model}: typed");
}

#[tokio::test]
async fn every_fixture_gives_the_same_answer_by_every_way_of_asking() {
    let cases: Vec<Case> = [identities(), shapes(), several()].into_iter().flatten().collect();
    let mut names: Vec<&str> = cases.iter().map(|case| case.model.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let server = Server::start(&Models::of(&names)).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for case in &cases {
        ask_http(&mut http, case).await;
        ask_grpc(&mut grpc, case).await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_through_where_they_can_be_sent() {
    let server = Server::start(&Models::of(&["identity_bytes"])).await;
    let bytes: [&[u8]; 2] = [b"\xff\xfe\0", b""];
    let x = Tensor::from_byte_strings([1, 2].into(), &bytes).unwrap();
    let inputs = named([("x", x.clone())]);
    let expected = named([("y", x)]);
    let grpc = server.grpc().await.model_infer(typed_message("identity_bytes", &inputs)).await.unwrap();
    assert_eq!(outputs_of_message(grpc.get_ref()), expected);
    let mut http = server.http().await;
    let all_binary = json!({ "parameters": { "binary_data_output": true } });
    let request = |more| binary_request("identity_bytes", &inputs, more, |_| true);
    assert_eq!(outputs_of(&http.send(request(all_binary)).await), expected);
    // JSON has no way to say it; the caller is told what does.
    let refused = http.send(request(json!({}))).await;
    assert_eq!(refused.status, 501, "{refused:?}");
    assert!(refused.error().contains("output 'y'"), "{refused:?}");
}
