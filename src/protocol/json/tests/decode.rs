use super::*;
use crate::infer::ParameterValue;

#[test]
fn the_usual_request_decodes() {
    let (request, encoding) = decode(
        r#"{"id": "42", "model_name": "iris", "parameters": {"timeout": 5000, "sequence_id": "a", "fast": true,
            "ratio": 0.5, "big": 18446744073709551615, "nothing": null},
            "inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP32",
                "data": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}],
            "outputs": [{"name": "label", "parameters": {"classification": 3}}]}"#,
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("42"));
    assert_eq!((request.model.as_str(), request.version, request.deadline), ("", None, None));
    let parameters: Vec<_> = request.parameters.iter().collect();
    assert_eq!(
        parameters,
        [
            ("timeout", &ParameterValue::Int64(5000)),
            ("sequence_id", &ParameterValue::String("a".into())),
            ("fast", &ParameterValue::Bool(true)),
            ("ratio", &ParameterValue::Double(0.5)),
            ("big", &ParameterValue::Uint64(u64::MAX)),
        ]
    );
    let input = &request.inputs[0];
    assert_eq!((input.name.as_str(), input.tensor.shape()), ("input-0", &Shape::from([2, 4])));
    assert_eq!(input.tensor.view::<f32>().unwrap(), [6.8, 2.8, 4.8, 1.4, 6.0, 3.4, 4.5, 1.6]);
    assert_eq!(request.outputs[0].name, "label");
    assert_eq!(request.outputs[0].parameters.get("classification"), Some(&ParameterValue::Int64(3)));
    assert_eq!(encoding, OutputEncoding::default());
}

#[test]
fn keys_come_in_any_order() {
    let members = [r#""name":"x""#, r#""shape":[3]"#, r#""datatype":"INT32""#, r#""data":[1,[2],-3]"#];
    for i in 0..4 {
        for j in (0..4).filter(|&j| j != i) {
            for k in (0..4).filter(|&k| k != i && k != j) {
                let last = 6 - i - j - k;
                let keys = [members[i], members[j], members[k], members[last]].join(" ,\n");
                let (request, _) = decode(format!("\t{{ \"inputs\" : [ {{ {keys} }} ] }}\r\n")).unwrap();
                assert_eq!(request.inputs[0].tensor.view::<i32>().unwrap(), [1, 2, -3]);
            }
        }
    }
}

#[test]
fn any_nesting_with_the_right_count_is_row_major() {
    for data in [
        "[1,2,3,4]",
        "[[1,2],[3,4]]",
        "[[[1,2,3,4]]]",
        "[[[1],[2]],[[3],[4]]]",
        "[[1,2,3],[4],[]]",
        " [ 1 , 2\n, 3 ,4 ] ",
    ] {
        assert_eq!(tensor("UINT8", "[2,2]", data).unwrap().data().as_ref(), [1, 2, 3, 4], "{data}");
    }
    for (data, given) in [("[1,2,3]", "got 3"), ("[[1,2],[3,4],[5]]", "got 5"), ("[]", "got 0"), ("[[],[]]", "got 0")] {
        refused(
            tensor("UINT8", "[2,2]", data),
            Kind::InvalidRequest,
            &["input 'x'", "expected 4 elements", "[2,2]", given],
        );
    }
}

#[test]
fn scalars_and_empty_tensors_are_tensors() {
    let scalar = tensor("BYTES", "[]", r#"["one string"]"#).unwrap();
    assert_eq!(scalar.byte_strings().unwrap().collect::<Vec<_>>(), [b"one string"]);
    assert_eq!(tensor("FP64", "[]", "2.5").unwrap().view::<f64>().unwrap(), [2.5]);
    assert_eq!(tensor("FP64", "[1]", r#"2.5,"hint":1"#).unwrap().view::<f64>().unwrap(), [2.5]);
    assert_eq!(tensor("FP32", "[0,4]", "[]").unwrap().elements(), 0);
    assert_eq!(tensor("BYTES", "[2,0]", "[[],[]]").unwrap().elements(), 0);
}

#[test]
fn strings_are_unescaped() {
    let data = r#"["", "a\"\\\/\b\f\n\r\t", "\u00e9\u20AC", "\ud83d\ude00!", "é😀", "0123456789abcdef\u0000"]"#;
    let strings = tensor("BYTES", "[6]", data).unwrap();
    let expected = ["", "a\"\\/\u{8}\u{c}\n\r\t", "é€", "😀!", "é😀", "0123456789abcdef\0"];
    assert_eq!(strings.byte_strings().unwrap().collect::<Vec<_>>(), expected.map(str::as_bytes));
    for (bad, part) in [
        (r#""\ud83d""#, "surrogate"),
        (r#""\ude00""#, "surrogate"),
        (r#""\ud83d\u0041""#, "surrogate"),
        (r#""\u12g4""#, "hexadecimal"),
        (r#""\u12"#, "hexadecimal"),
        (r#""\x""#, "escape"),
        ("\"a\nb\"", "control character 0x0a"),
        ("\"open", "ends within a string"),
        ("1", "element 0 is a number, expected a string"),
    ] {
        refused(tensor("BYTES", "[1]", &format!("[{bad}]")), Kind::InvalidRequest, &["input 'x'", part, "at byte"]);
    }
    let mut body = br#"{"inputs":[{"name":"?"}]}"#.to_vec();
    let at = body.iter().position(|&byte| byte == b'?').unwrap();
    body[at] = 0xff;
    refused(decode(body), Kind::InvalidRequest, &["UTF-8", &format!("byte {at}")]);
}

#[test]
fn an_escaped_key_is_the_same_key() {
    let (request, _) =
        decode(r#"{"inp\u0075ts":[{"n\u0061me":"x","shape":[1],"datatype":"BOOL","d\u0061ta":[true]}]}"#).unwrap();
    assert_eq!(request.inputs[0].tensor.data().as_ref(), [1]);
}

#[test]
fn what_is_missing_or_given_twice_is_named() {
    let input = r#""name":"x","shape":[1],"datatype":"BOOL","data":[true]"#;
    for (body, parts) in [
        ("{}".to_string(), &["no 'inputs'"][..]),
        (r#"{"inputs":[{}]}"#.into(), &["input 0", "no 'name'"]),
        (r#"{"inputs":[{"name":"x"}]}"#.into(), &["input 'x'", "no 'shape'"]),
        (r#"{"inputs":[{"name":"x","shape":[1]}]}"#.into(), &["input 'x'", "no 'datatype'"]),
        (
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"BOOL"}]}"#.into(),
            &["neither 'data' nor", "binary_data_size"],
        ),
        (r#"{"inputs":[],"outputs":[{"name":"y"},{}]}"#.into(), &["output 1", "no 'name'"]),
        (format!(r#"{{"inputs":[{{{input},"data":[true]}}]}}"#), &["'data' is given twice"]),
        (format!(r#"{{"inputs":[{{{input},"shape":[1]}}]}}"#), &["'shape' is given twice"]),
        (r#"{"inputs":[],"inputs":[]}"#.into(), &["'inputs' is given twice"]),
        (r#"{"inputs":null}"#.into(), &["expected '['", "got null"]),
        (r#"{"inputs":[],"id":7}"#.into(), &["'id'", "got a number"]),
        (r#"{"inputs":[{"name":7}]}"#.into(), &["'name'", "got a number"]),
        (r#"{"inputs":[{"name":"x","datatype":"FLOAT"}]}"#.into(), &["input 'x'", "'FLOAT'", "FP32"]),
        (r#"{"inputs":[],"parameters":{"a":[1]}}"#.into(), &["'a'", "a list", "at byte 31"]),
        (r#"{"inputs":[],"parameters":{"a":18446744073709551616}}"#.into(), &["'a'", "64 bits"]),
        (r#"{"inputs":[],"parameters":{"a":1e999}}"#.into(), &["'a'", "64 bits"]),
    ] {
        refused(decode(body), Kind::InvalidRequest, parts);
    }
}

#[test]
fn malformed_json_says_where() {
    for (body, parts) in [
        ("", &["expected '{'", "the end of the text", "byte 0"][..]),
        ("[]", &["expected '{'", "a list", "byte 0"]),
        ("{", &["a key in quotes", "byte 1"]),
        (r#"{"a":1,}"#, &["a key in quotes", "byte 7"]),
        (r#"{"a" 1}"#, &["expected ':'", "byte 5"]),
        (r#"{"a":01}"#, &["zero", "byte 5"]),
        (r#"{"a":1.}"#, &["point", "byte 6"]),
        (r#"{"a":1e+}"#, &["exponent", "byte 5"]),
        (r#"{"a":-}"#, &["a number", "byte 5"]),
        (r#"{"a":tru}"#, &["a number", "'t'", "byte 5"]),
        (r#"{"a":[1 2]}"#, &["',' or ']'", "byte 8"]),
        (r#"{"a":{"b":1]}"#, &["',' or '}'", "byte 11"]),
        (r#"{"inputs":[]} x"#, &["nothing behind", "'x'", "byte 14"]),
        (r#"{"inputs":[]"#, &["',' or '}'", "the end of the text"]),
    ] {
        refused(decode(body), Kind::InvalidRequest, parts);
    }
}

#[test]
fn unknown_keys_and_nulls_are_skipped() {
    let (request, _) = decode(
        r#"{"id":null,"parameters":null,"outputs":null,"extra":{"a":[1,{"b":[]},"\u0041",{}],"c":-1.5e-3,"d":NaN},
            "inputs":[{"name":"x","shape":[1],"datatype":"BOOL","data":[1],"parameters":null,"hint":[[[]]]}]}"#,
    )
    .unwrap();
    assert_eq!((request.id, request.inputs.len(), request.outputs.len()), (None, 1, 0));
}

#[test]
fn impossible_shapes_are_refused_before_anything_is_allocated() {
    let shape = "[4000000000,4000000000]";
    refused(tensor("FP32", shape, "[1]"), Kind::InvalidRequest, &["input 'x'", "more elements than can be addressed"]);
    refused(tensor("BYTES", shape, r#"["a"]"#), Kind::TooLarge, &["input 'x'", "limit for one tensor"]);
    refused(tensor("FP32", "[100000,100000]", "[1]"), Kind::TooLarge, &["40000000000 bytes", "1073741824"]);
    // Allowed by the limit, but there is text for one element only.
    refused(tensor("FP64", "[100000000]", "[1]"), Kind::InvalidRequest, &["expected 100000000 elements", "got 1"]);
    refused(tensor("FP32", "[-1,4]", "[1]"), Kind::InvalidRequest, &["dimension 0", "-1", "0 or more"]);
    refused(tensor("FP32", "[1.5]", "[1]"), Kind::InvalidRequest, &["dimension 0", "1.5"]);
    refused(tensor("FP32", "[99999999999999999999]", "[1]"), Kind::InvalidRequest, &["dimension 0"]);
    refused(tensor("FP32", r#"["a"]"#, "[1]"), Kind::InvalidRequest, &["a number, got a string"]);
    assert_eq!(tensor("FP32", "[0,4000000000,4000000000]", "[]").unwrap().elements(), 0);
}

#[test]
fn every_limit_holds() {
    let limits = Limits {
        depth_max: 3,
        rank_max: 2,
        tensor_bytes_max: 16,
        tensors_max: 2,
        outputs_max: 1,
        parameters_max: 1,
        string_bytes_max: 8,
    };
    let limited = |body: &str| decode_request(Bytes::copy_from_slice(body.as_bytes()), None, &limits);
    let input = |shape: &str, datatype: &str, data: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
    };
    assert!(limited(&input("[4]", "FP32", "[[[1,2,3,4]]]")).is_ok());
    for (body, part) in [
        (input("[4]", "FP32", "[[[[1,2,3,4]]]]"), "deeper than 3"),
        (input("[1,1,1]", "FP32", "[1]"), "more than 2 dimensions"),
        (input("[5]", "FP32", "[1,2,3,4,5]"), "limit for one tensor is 16"),
        (input("[2]", "BYTES", r#"["aaaaaa","aaa"]"#), "more than 16 bytes"),
        (r#"{"a":[[[[1]]]]}"#.into(), "deeper than 3"),
        (r#"{"inputs":[],"outputs":[{"name":"a"},{"name":"b"}]}"#.into(), "more than 1 outputs"),
        (r#"{"inputs":[],"parameters":{"a":1,"b":2}}"#.into(), "more than 1 parameters"),
        (r#"{"inputs":[],"parameters":{"a":"123456789"}}"#.into(), "9 bytes long, the limit is 8"),
        (r#"{"inputs":[],"id":"123456789"}"#.into(), "id is 9 bytes long"),
    ] {
        refused(limited(&body), Kind::TooLarge, &[part]);
    }
    let many =
        format!(r#"{{"inputs":[{}]}}"#, [r#"{"name":"x","shape":[1],"datatype":"BOOL","data":[1]}"#; 3].join(","));
    refused(limited(&many), Kind::TooLarge, &["more than 2 inputs"]);
    let deep = format!(r#"{{"a":{}"#, "[".repeat(1_000_000));
    refused(decode(deep), Kind::TooLarge, &["deeper than 64"]);
}
