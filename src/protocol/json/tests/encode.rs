use super::*;
use crate::infer::ParameterValue;

fn json(response: &InferResponse) -> String {
    let encoded = encode_response(response, &OutputEncoding::default()).unwrap();
    String::from_utf8(body(&encoded)).unwrap()
}

#[test]
fn a_response_has_the_protocols_keys_in_the_usual_order() {
    let tensor = Tensor::from_elements([1, 3].into(), &[0.1_f32, -2.0, 1e20]).unwrap();
    let mut response =
        response([("label", Tensor::from_byte_strings([1].into(), &["a\"b"]).unwrap()), ("scores", tensor)]);
    assert_eq!(
        json(&response),
        concat!(
            r#"{"model_name":"iris","model_version":"1","outputs":["#,
            r#"{"name":"label","datatype":"BYTES","shape":[1],"data":["a\"b"]},"#,
            r#"{"name":"scores","datatype":"FP32","shape":[1,3],"data":[0.1,-2.0,1e+20]}]}"#
        )
    );
    response.id = Some("".into());
    response.parameters.set("triton_final_response", ParameterValue::Bool(true));
    response.parameters.set("n", ParameterValue::Uint64(u64::MAX));
    response.parameters.set("m", ParameterValue::Int64(i64::MIN));
    response.parameters.set("x", ParameterValue::Double(0.5));
    response.parameters.set("s", ParameterValue::String("\n".into()));
    response.outputs.clear();
    assert_eq!(
        json(&response),
        concat!(
            r#"{"model_name":"iris","model_version":"1","id":"","parameters":{"triton_final_response":true,"#,
            r#""n":18446744073709551615,"m":-9223372036854775808,"x":0.5,"s":"\n"},"outputs":[]}"#
        )
    );
}

#[test]
fn text_is_escaped_as_json_asks() {
    let text = "plain text of some length \" \\ / \u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f} é 😀";
    let error = encode_error(text);
    let value: serde_json::Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(value, serde_json::json!({ "error": text }));
    assert_eq!(encode_error("model 'x' is unknown"), r#"{"error":"model 'x' is unknown"}"#);
}

#[test]
fn non_finite_floats_are_strings_that_come_back() {
    let tensor = Tensor::from_elements([3].into(), &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]).unwrap();
    assert!(json(&response([("x", tensor.clone())])).contains(r#""data":["NaN","Infinity","-Infinity"]"#));
    let back = there_and_back(&tensor);
    let back = back.view::<f64>().unwrap();
    assert!(back[0].is_nan() && back[1..] == [f64::INFINITY, f64::NEG_INFINITY]);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_advice_and_sent_as_binary() {
    let tensor = Tensor::from_byte_strings([2].into(), &[&b"ok"[..], b"\xff\xfe"]).unwrap();
    let response = response([("image", tensor)]);
    let refusal = encode_response(&response, &OutputEncoding::default());
    refused(refusal, Kind::Unsupported, &["output 'image'", "element 1", "UTF-8", "binary_data"]);
    assert!(encode_response(&response, &OutputEncoding { binary_default: true, per_output: vec![] }).is_ok());
}

#[test]
fn binary_outputs_follow_the_json_in_order() {
    let small = Tensor::from_elements([2].into(), &[1_u16, 2]).unwrap();
    let large = Tensor::from_elements([2000].into(), &vec![7_u32; 2000]).unwrap();
    let response =
        response([("a", small.clone()), ("text", small.clone()), ("b", large.clone()), ("c", small.clone())]);
    let encoding = OutputEncoding { binary_default: true, per_output: vec![("text".into(), false)] };
    let encoded = encode_response(&response, &encoding).unwrap();
    let whole = body(&encoded);
    assert_eq!(encoded.body_length(), whole.len());
    let (json, tail) = whole.split_at(encoded.json_length.unwrap());
    assert_eq!(tail, [&small.data()[..], large.data(), small.data()].concat());
    assert_eq!(encoded.segments[1].as_ptr(), large.data().as_ptr(), "a large output is not copied");
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    let outputs = value["outputs"].as_array().unwrap();
    let sizes: Vec<_> = outputs.iter().map(|output| output["parameters"]["binary_data_size"].as_u64()).collect();
    assert_eq!(sizes, [Some(4), None, Some(8000), Some(4)]);
    assert_eq!(outputs[1]["data"], serde_json::json!([1, 2]));
    assert!(outputs[0].get("data").is_none());
}

#[test]
fn an_empty_binary_output_still_says_its_size() {
    let empty = Tensor::new(DataType::Fp32, [0, 3].into(), Bytes::new()).unwrap();
    let encoding = OutputEncoding { binary_default: true, per_output: vec![] };
    let encoded = encode_response(&response([("x", empty.clone())]), &encoding).unwrap();
    assert_eq!(encoded.json_length, Some(encoded.body_length()));
    assert!(String::from_utf8(body(&encoded)).unwrap().contains(r#"{"binary_data_size":0}"#));
    assert_eq!(there_and_back(&empty), empty);
}
