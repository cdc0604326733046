use proptest::prelude::*;

use super::*;

fn tensor(name: &str, datatype: DataType, shape: &[usize], data: impl Into<Vec<u8>>) -> Tensor {
    let data: Vec<u8> = data.into();
    Tensor { name: name.into(), datatype, shape: shape.to_vec(), parameters: Parameters::new(), data: data.into() }
}

fn call() -> Call {
    let parameters: Parameters = [
        ("flag".to_owned(), Parameter::Bool(true)),
        ("from".to_owned(), Parameter::Int(-3)),
        ("large".to_owned(), Parameter::Uint(u64::MAX)),
        ("part".to_owned(), Parameter::Double(0.5)),
        ("word".to_owned(), Parameter::Text("x".into())),
    ]
    .into();
    let mut strings = Vec::new();
    elements::push_string(&mut strings, b"a\"b");
    elements::push_string(&mut strings, b"");
    let mut scores =
        tensor("scores", DataType::Fp32, &[1, 2], [0.1_f32.to_le_bytes(), (-2.5_f32).to_le_bytes()].concat());
    scores.parameters = parameters.clone();
    let tensors =
        vec![scores, tensor("words", DataType::Bytes, &[2], strings), tensor("none", DataType::Int64, &[0, 4], [])];
    Call { model: "m".into(), version: "2".into(), id: "7".into(), parameters, tensors, requested: Vec::new() }
}

#[test]
fn a_message_of_either_side_comes_back_out_of_grpcs_form_as_it_went_in() {
    let requested = vec![Requested { name: "y".into(), parameters: call().parameters }];
    let request = Call { requested, ..call() };
    assert_eq!(proto::read(&proto::write(&request, Side::Request), Side::Request), Ok(request));
    assert_eq!(proto::read(&proto::write(&call(), Side::Answer), Side::Answer), Ok(call()));
}

#[test]
fn a_message_comes_back_out_of_jsons_form_and_out_of_the_binary_one() {
    let (body, length) = json::write_answer(&call());
    assert_eq!(length, None);
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains(r#""data":[0.1,-2.5]"#) && text.contains(r#""data":["a\"b",""]"#), "{text}");
    assert_eq!(json::read(&body, None, Side::Answer), Ok(call()));

    let (body, length) = json::write_request(&call());
    let read = json::read(&body, Some(length), Side::Request).unwrap();
    assert_eq!(read.tensors, call().tensors);
    assert_eq!(read.parameters["binary_data_output"], Parameter::Bool(true));
}

#[test]
fn what_json_has_no_form_for_goes_behind_it() {
    let odd = [
        tensor("half", DataType::Fp16, &[1], [0, 0x3c]),
        tensor("endless", DataType::Fp32, &[1], f32::INFINITY.to_le_bytes()),
        tensor("image", DataType::Bytes, &[1], [1, 0, 0, 0, 0xff]),
        tensor("plain", DataType::Int8, &[2], [0xff, 1]),
    ];
    let call = Call { tensors: odd.to_vec(), ..Call::default() };
    let (body, length) = json::write_answer(&call);
    let head = std::str::from_utf8(&body[..length.unwrap()]).unwrap();
    assert!(head.contains(r#""data":[-1,1]"#) && head.matches("binary_data_size").count() == 3, "{head}");
    assert_eq!(json::read(&body, length, Side::Answer).unwrap().tensors, odd);
    let text: serde_json::Value = serde_json::from_slice(&json::write_text(&call, Side::Answer)).unwrap();
    assert_eq!(text["outputs"][0]["data"], serde_json::json!([1.0]));
    assert_eq!(text["outputs"][1]["data"], serde_json::json!([null]));
}

#[test]
fn json_elements_are_read_flat_or_nested_and_within_their_datatype() {
    let read = |datatype: &str, data: &str| {
        let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[2],"data":{data}}}]}}"#);
        json::read(&body.into(), None, Side::Request).map(|call| call.tensors[0].data.to_vec())
    };
    assert_eq!(read("UINT8", "[[1],[255]]"), Ok(vec![1, 255]));
    assert_eq!(read("INT16", "[-1.0,2]"), Ok(vec![255, 255, 2, 0]));
    assert_eq!(read("BOOL", "[true,0]"), Ok(vec![1, 0]));
    assert_eq!(read("FP32", "[1,0.5]"), Ok([1_f32, 0.5].iter().flat_map(|own| own.to_le_bytes()).collect()));
    for (datatype, data, told) in [
        ("UINT8", "[1,256]", "256 is beyond what UINT8 holds"),
        ("INT64", "[1,0.5]", "0.5: INT64 cannot have"),
        ("FP32", r#"[1,"a"]"#, "a string: FP32 cannot have"),
        ("BOOL", "[2,1]", "2: BOOL cannot have"),
        ("FP16", "[1,2]", "send it as binary data"),
        ("FP32", "[1]", "takes 8 bytes, and there are 4"),
        ("BYTES", r#"["a"]"#, "has 2 strings, and there are 1"),
        ("FP8", "[1,2]", "unknown datatype 'FP8', expected one of BOOL"),
        ("FP32", "null", "neither data"),
    ] {
        let error = read(datatype, data).unwrap_err();
        assert!(error.contains(told) && error.contains("'x'"), "{datatype} {data}: {error}");
    }
}

#[test]
fn typed_contents_become_bytes_packed_or_not() {
    let read = |datatype: &str, write: &dyn Fn(&mut wire::Writer)| {
        let mut out = wire::Writer::default();
        out.message(5, |own| {
            own.text(1, "x");
            own.text(2, datatype);
            own.packed(3, [2].into_iter());
            own.message(5, |contents| write(contents));
        });
        proto::read(&out.finish(), Side::Request).map(|call| call.tensors[0].data.to_vec())
    };
    assert_eq!(read("INT8", &|own| own.packed(2, [(-1_i64).cast_unsigned(), 2].into_iter())), Ok(vec![255, 2]));
    let twice = |own: &mut wire::Writer| {
        own.varint(4, 7);
        own.varint(4, 8);
    };
    assert_eq!(read("UINT16", &twice), Ok(vec![7, 0, 8, 0]));
    let halves = |own: &mut wire::Writer| {
        own.double(7, 0.5);
        own.double(7, 1.5);
    };
    assert_eq!(read("FP64", &halves), Ok([0.5_f64, 1.5].iter().flat_map(|own| own.to_le_bytes()).collect()));
    let texts = |own: &mut wire::Writer| {
        own.bytes(8, b"a");
        own.bytes(8, b"");
    };
    assert_eq!(read("BYTES", &texts), Ok(vec![1, 0, 0, 0, b'a', 0, 0, 0, 0]));
    assert!(read("INT8", &|own| own.packed(2, [300, 1].into_iter())).unwrap_err().contains("beyond what INT8 holds"));
    assert!(read("INT32", &twice).unwrap_err().contains("INT32 is given by int_contents"));
    assert!(read("FP32", &|_| ()).unwrap_err().contains("takes 8 bytes, and there are 0"));
}

#[test]
fn messages_that_are_none_say_what_is_wrong() {
    let told =
        |body: &str, length: Option<usize>| json::read(&body.to_owned().into(), length, Side::Request).unwrap_err();
    assert!(told("no JSON", None).contains("no JSON of V2"));
    assert!(told("{}", None).contains("no inputs"));
    assert!(told("{}", Some(5)).contains("said to have 5 bytes"));
    assert!(told(r#"{"inputs":[]}xx"#, Some(13)).contains("2 bytes are behind its JSON"));
    assert!(
        told(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}"#, None)
            .contains("neither data nor binary_data_size")
    );
    let mut out = wire::Writer::default();
    out.bytes(7, b"abc");
    assert!(proto::read(&out.finish(), Side::Request).unwrap_err().contains("1 raw contents for 0 tensors"));
    assert!(
        proto::read(&Bytes::from_static(b"\x2a\x05a"), Side::Answer)
            .unwrap_err()
            .contains("no message of the protocol")
    );
    let many: Vec<u8> = [0x2a, 0].repeat(3000);
    assert!(proto::read(&many.into(), Side::Answer).is_err());
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let datatype = prop::sample::select(DataType::ALL.to_vec());
    (datatype, prop::collection::vec(0..4_usize, 0..4), prop::collection::vec(any::<u8>(), 600)).prop_map(
        |(datatype, shape, noise)| {
            let count: usize = shape.iter().product();
            let data = match datatype.size() {
                Some(size) => noise[..count * size]
                    .iter()
                    .map(|own| if datatype == DataType::Bool { own & 1 } else { *own })
                    .collect(),
                None => {
                    let mut data = Vec::new();
                    noise
                        .iter()
                        .take(count)
                        .for_each(|own| elements::push_string(&mut data, &noise[..usize::from(own % 5)]));
                    data
                }
            };
            tensor("x", datatype, &shape, data)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tensor_goes_through_both_forms_byte_for_byte(tensors in prop::collection::vec(any_tensor(), 0..4)) {
        // JSON has one NaN, and writes none of them.
        let call = Call { tensors, ..Call::default() };
        let (body, length) = json::write_answer(&call);
        prop_assert_eq!(&json::read(&body, length, Side::Answer).unwrap(), &call);
        prop_assert_eq!(&proto::read(&proto::write(&call, Side::Answer), Side::Answer).unwrap(), &call);
        let (body, length) = json::write_request(&call);
        prop_assert_eq!(&json::read(&body, Some(length), Side::Request).unwrap().tensors, &call.tensors);
    }

    #[test]
    fn no_bytes_make_reading_panic(noise in prop::collection::vec(any::<u8>(), 0..200), length in prop::option::of(0..200_usize)) {
        let body = Bytes::from(noise);
        for side in [Side::Request, Side::Answer] {
            let _any_outcome_will_do = (json::read(&body, length, side), proto::read(&body, side));
        }
        let _nor_this = frame::message(&body);
    }

    #[test]
    fn a_message_that_is_cut_or_bent_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = proto::write(&call(), Side::Answer).to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(read) = proto::read(&bytes.into(), Side::Answer) {
            prop_assert!(read.tensors.into_iter().all(|own| own.checked().is_ok()));
        }
    }
}
