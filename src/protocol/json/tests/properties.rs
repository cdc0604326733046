use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A tensor of any datatype with any bytes, at an address of any alignment. NaNs are one bit pattern, because JSON keeps
/// no other.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    let strings = prop::collection::vec(".{0,12}", 0..12)
        .prop_map(|strings| Tensor::from_byte_strings([strings.len()].into(), &strings).unwrap());
    let numbers = (0..DataType::ALL.len() - 1, prop::collection::vec(any::<u8>(), 0..200), 0_usize..8);
    let numbers = numbers.prop_map(|(datatype, mut bytes, offset)| {
        let datatype = DataType::ALL[datatype];
        let size = datatype.size().unwrap();
        let start = offset.min(bytes.len());
        let count = (bytes.len() - start) / size;
        for element in bytes[start..].chunks_exact_mut(size) {
            match datatype {
                DataType::Bool => element[0] %= 2,
                DataType::Fp16 if half::f16::from_le_bytes([element[0], element[1]]).is_nan() => element[1] = 0x30,
                DataType::Bf16 if half::bf16::from_le_bytes([element[0], element[1]]).is_nan() => element[1] = 0x30,
                DataType::Fp32 if f32::from_le_bytes(element.try_into().unwrap()).is_nan() => element[3] = 0x30,
                DataType::Fp64 if f64::from_le_bytes(element.try_into().unwrap()).is_nan() => element[7] = 0x30,
                _ => {}
            }
        }
        Tensor::new(datatype, [1, count].into(), Bytes::from(bytes).slice(start..start + count * size)).unwrap()
    });
    prop_oneof![4 => numbers, 1 => strings]
}

/// A request with every construct of the protocol, and where its JSON ends.
fn any_request() -> impl Strategy<Value = (Vec<u8>, usize)> {
    (any_tensor(), any_tensor(), prop::option::of(".{0,10}"), any::<bool>()).prop_map(|(first, second, id, binary)| {
        let mut reply = response([("first", first), ("second", second)]);
        reply.id = id;
        reply.parameters.set("a", crate::infer::ParameterValue::Double(0.5));
        let encoding = OutputEncoding { binary_default: false, per_output: vec![("second".into(), binary)] };
        let encoded = encode_response(&reply, &encoding).unwrap();
        let whole = body(&encoded);
        let (json, tail) = whole.split_at(encoded.json_length.unwrap_or(whole.len()));
        let json = String::from_utf8(json.to_vec()).unwrap().replacen("\"outputs\"", "\"inputs\"", 1);
        let json = format!(
            r#"{} ,"outputs":[{{"name":"y","parameters":{{"binary_data":true,"classification":2}}}}]}}"#,
            json.strip_suffix('}').unwrap()
        );
        ([json.as_bytes(), tail].concat(), json.len())
    })
}

/// Any JSON value of some depth, as text with odd whitespace.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Whatever is wrong with a body, the client is told so.
fn blames_the_client(result: &Result<(InferRequest, OutputEncoding)>) -> bool {
    let kind = result.as_ref().err().map(Error::kind);
    matches!(kind, None | Some(Kind::InvalidRequest | Kind::TooLarge | Kind::Unsupported))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_tensor_comes_back_from_json_bit_for_bit(tensor in any_tensor()) {
        prop_assert_eq!(there_and_back(&tensor), tensor);
    }

    #[test]
    fn valid_requests_decode((body, json_length) in any_request()) {
        let (request, encoding) = decode_request(body.into(), Some(json_length), &Limits::default()).unwrap();
        prop_assert_eq!(request.inputs.len(), 2);
        prop_assert!(encoding.is_binary("y"));
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), header in prop::option::of(0_usize..220)) {
        prop_assert!(blames_the_client(&decode_request(body.into(), header, &Limits::default())));
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(body in "[\\[\\]{}\",:0-9.eE+ \\\\untrfalsNI-]{0,80}") {
        prop_assert!(blames_the_client(&decode(body.clone())));
        let input = format!(r#"{{"inputs":[{{"name":"x","shape":[2],"datatype":"FP32","data":{body}"#);
        prop_assert!(blames_the_client(&decode(input)));
    }

    #[test]
    fn mutated_requests_never_panic(
        (body, json_length) in any_request(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut body = body;
        for (place, byte, change) in changes {
            let at = place.index(body.len());
            match change {
                0 => body[at] = byte,
                1 => body[at] = b"[]{},:\"0-.e\\"[usize::from(byte) % 12],
                2 => drop(body.remove(at)),
                _ => body.insert(at, byte),
            }
            if body.is_empty() {
                break;
            }
        }
        prop_assert!(blames_the_client(&decode_request(body.clone().into(), Some(json_length), &Limits::default())));
        prop_assert!(blames_the_client(&decode_request(body.into(), None, &Limits::default())));
    }

    #[test]
    fn requests_cut_short_are_refused((body, json_length) in any_request(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(body.len());
        let result = decode_request(Bytes::copy_from_slice(&body[..cut]), Some(json_length.min(cut)), &Limits::default());
        prop_assert!(result.is_err() && blames_the_client(&result));
    }

    #[test]
    fn any_json_is_skipped_and_read_as_serde_json_reads_it(value in any_json(), pretty in any::<bool>(), mutation in any::<(prop::sample::Index, u8)>(), mutate in any::<bool>()) {
        let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        if mutate {
            let at = mutation.0.index(text.len());
            text[at] = mutation.1;
        }
        let body = [br#"{"inputs":[],"extra":"#, &text[..], b"}"].concat();
        let ours = decode(body.clone());
        // serde_json refuses numbers beyond f64 and does not know Python's three words; nothing else differs.
        let theirs = serde_json::from_slice::<Value>(&body);
        let theirs_differ = |error: &serde_json::Error| error.to_string().contains("number out of range");
        let several = theirs.as_ref().is_ok_and(|value| value.as_object().is_some_and(|object| object.len() != 2));
        if !theirs.as_ref().is_err_and(theirs_differ) && !several {
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?} {}", ours.err(), theirs.err(), String::from_utf8_lossy(&body));
        }
    }
}
