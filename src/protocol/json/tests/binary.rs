use super::*;
use crate::infer::{ParameterValue, Place};

fn binary_input(name: &str, datatype: &str, shape: &str, size: &str) -> String {
    format!(
        r#"{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size},"own":1}}}}"#
    )
}

#[test]
fn binary_inputs_are_slices_of_the_body_in_order() {
    let json = format!(
        r#"{{"inputs":[{},{{"name":"j","shape":[1],"datatype":"INT8","data":[-7]}},{}]}}"#,
        binary_input("a", "FP32", "[2]", "8"),
        binary_input("b", "BYTES", "[1]", "6")
    );
    let tail = [&1.5_f32.to_le_bytes()[..], &2.5_f32.to_le_bytes(), b"\x02\0\0\0hi"].concat();
    let body = Bytes::from([json.as_bytes(), &tail].concat());
    let (request, _) = decode_request(body.clone(), Some(json.len()), &Limits::default()).unwrap();
    let [a, j, b] = &request.inputs[..] else { panic!("three inputs") };
    assert_eq!(a.tensor.clone().aligned().view::<f32>().unwrap(), [1.5, 2.5]);
    assert_eq!(a.tensor.data().as_ptr(), body[json.len()..].as_ptr(), "not copied");
    assert_eq!(a.parameters.iter().collect::<Vec<_>>(), [("own", &ParameterValue::Int64(1))]);
    assert_eq!(j.tensor.view::<i8>().unwrap(), [-7]);
    assert_eq!(b.tensor.byte_strings().unwrap().next(), Some(&b"hi"[..]));
}

#[test]
fn binary_sizes_have_to_add_up() {
    let one = |datatype, shape, size| format!(r#"{{"inputs":[{}]}}"#, binary_input("x", datatype, shape, size));
    let fp32 = one("FP32", "[2]", "8");
    for (json, tail, parts) in [
        (&fp32, 7, &["input 'x'", "8", "only 7 bytes"][..]),
        (&fp32, 9, &["1 bytes", "left behind"]),
        (&one("FP32", "[2]", "9"), 9, &["binary_data_size is 9", "FP32[2] takes 8 bytes"]),
        (&one("FP32", "[2]", "-8"), 8, &["'binary_data_size' is -8", "number of bytes"]),
        (&one("FP32", "[2]", "\"8\""), 8, &["'binary_data_size' is '8'"]),
        (&one("BYTES", "[2]", "4"), 4, &["input 'x'", "expected 2 elements, got 1"]),
        (&one("BYTES", "[1]", "3"), 3, &["input 'x'", "cut off"]),
        (&fp32.replace("}]}", r#","data":[1,2]}]}"#), 8, &["input 'x'", "both 'data' and"]),
        (&r#"{"inputs":[]}"#.to_string(), 1, &["1 bytes"]),
    ] {
        refused(decode_binary(json, &vec![0; tail]), Kind::InvalidRequest, parts);
    }
    refused(decode_binary(&one("BOOL", "[1]", "1"), &[2]), Kind::InvalidRequest, &["input 'x'", "BOOL element 0 is 2"]);
    refused(decode(fp32), Kind::InvalidRequest, &["input 'x'", "inference-header-content-length"]);
    assert!(decode_binary(r#"{"inputs":[]}"#, b"").is_ok(), "a header length with nothing behind it is fine");
    let beyond = decode_request(Bytes::from_static(b"{}"), Some(3), &Limits::default());
    refused(beyond, Kind::InvalidRequest, &["content-length is 3", "only 2 bytes"]);
    let within = decode_request(Bytes::from_static(br#"{"inputs":[]}"#), Some(5), &Limits::default());
    refused(within, Kind::InvalidRequest, &["ends within a string"]);
}

#[test]
fn the_encoding_of_outputs_is_taken_out_of_the_parameters() {
    let (request, encoding) = decode(
        r#"{"inputs":[],"parameters":{"binary_data_output":true},"outputs":[{"name":"a","parameters":{"binary_data":false}},
            {"name":"b"},{"parameters":{"binary_data":true,"own":"1"},"name":"c"}]}"#,
    )
    .unwrap();
    assert!(request.parameters.is_empty() && request.outputs[0].parameters.is_empty());
    assert_eq!(request.outputs[2].parameters.len(), 1);
    assert_eq!(["a", "b", "c"].map(|name| encoding.is_binary(name)), [false, true, true]);
    let wrong = r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#;
    refused(decode(wrong), Kind::InvalidRequest, &["'binary_data_output' is 1", "true or false"]);
}

#[test]
fn inputs_and_outputs_may_lie_in_shared_memory() {
    let shared = r#""parameters":{"shared_memory_region":"r","shared_memory_byte_size":4}"#;
    let place = || Place { region: "r".into(), offset: 0, byte_size: 4 };
    let input = format!(r#"{{"name":"x","shape":[1],"datatype":"FP32",{shared}}}"#);
    let (request, _) = decode(format!(r#"{{"inputs":[{input}],"outputs":[{{"name":"y",{shared}}}]}}"#)).unwrap();
    assert_eq!((request.inputs.len(), &request.placed[0].name[..], &request.placed[0].place), (0, "x", &place()));
    assert_eq!(request.outputs[0].place, Some(place()));
    let both = input.replacen("4}", r#"4},"data":[1]"#, 1);
    refused(decode(format!(r#"{{"inputs":[{both}]}}"#)), Kind::InvalidRequest, &["input 'x'", "shared memory"]);
    let other = input.replacen("FP32", "FP64", 1);
    refused(decode(format!(r#"{{"inputs":[{other}]}}"#)), Kind::InvalidRequest, &["input 'x'", "8 bytes"]);
}
