use super::*;

fn input(name: &str, datatype: &str, shape: &[i64]) -> Input {
    Input { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec() }
}

fn wishes() -> Wishes {
    Wishes { shapes: vec![], ranges: vec![], rows: 1, string_length: 5, parameters: vec![], distinct: 3 }
}

#[test]
fn metadata_reads_the_same_over_both_protocols() {
    let json = br#"{"name":"m","platform":"p","inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],"outputs":[]}"#;
    let inputs = vec![InferInputTensor { name: "x".to_owned(), datatype: "FP32".to_owned(), shape: vec![-1, 4] }];
    let message = ModelMetadataResponse { inputs }.encode_to_vec();
    assert_eq!(from_json(json).unwrap(), from_proto(&message).unwrap());
    assert!(from_json(b"{}").unwrap_err().contains("metadata"));
}

#[test]
fn every_datatype_has_its_size_in_both_encodings() {
    for (word, size) in [
        ("BOOL", 1),
        ("INT8", 1),
        ("INT16", 2),
        ("INT32", 4),
        ("INT64", 8),
        ("UINT8", 1),
        ("UINT16", 2),
        ("UINT32", 4),
        ("UINT64", 8),
        ("FP16", 2),
        ("BF16", 2),
        ("FP32", 4),
        ("FP64", 8),
        ("BYTES", 4 + 5),
    ] {
        let request = requests(&[input("x", word, &[-1, 3])], &wishes()).unwrap().remove(0);
        let body = request.body(Encoding::Binary).unwrap();
        let (head, raw) = body.bytes.split_at(body.json_length.unwrap());
        let head: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(raw.len(), 3 * size, "{word}");
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 3 * size);
        assert_eq!(head["inputs"][0]["shape"], json!([1, 3]));
        let message = ModelInferRequest::decode(&request.message("m", "2")[..]).unwrap();
        assert_eq!((message.model_version.as_str(), message.raw_input_contents[0].as_ref()), ("2", raw), "{word}");
        match request.body(Encoding::Json) {
            Ok(body) => {
                let value: Value = serde_json::from_slice(&body.bytes).unwrap();
                assert_eq!(value["inputs"][0]["data"].as_array().unwrap().len(), 3, "{word}");
            }
            Err(error) => assert!(word.ends_with("F16") || word == "FP16", "{word}: {error}"),
        }
    }
    assert!(requests(&[input("x", "INT7", &[1])], &wishes()).unwrap_err().contains("'INT7'"));
}

#[test]
fn shapes_are_filled_as_perf_analyzer_does() {
    let ids = input("ids", "INT64", &[-1, -1]);
    let with = |shapes: &[&[i64]], rows| {
        let shapes = shapes.iter().map(|shape| ("ids".to_owned(), shape.to_vec())).collect();
        requests(std::slice::from_ref(&ids), &Wishes { shapes, rows, ..wishes() })
            .map(|requests| requests[0].tensors[0].0.shape.clone())
    };
    assert_eq!(with(&[&[32]], 4).unwrap(), [4, 32]);
    assert_eq!(with(&[&[2, 32]], 1).unwrap(), [2, 32]);
    assert!(with(&[], 1).unwrap_err().contains("--shape ids:DIMS"));
    assert!(with(&[&[1, 2, 3]], 1).unwrap_err().contains("rank"));
    assert!(with(&[&[1 << 40, 1 << 40]], 1).unwrap_err().contains("elements"));
    let fixed = [input("x", "FP32", &[1, 4])];
    assert!(requests(&fixed, &Wishes { rows: 2, ..wishes() }).unwrap_err().contains("--rows 2"));
    let wrong = Wishes { shapes: vec![("x".to_owned(), vec![1, 5])], ..wishes() };
    assert!(requests(&fixed, &wrong).unwrap_err().contains("does not fit"));
    let unknown = Wishes { shapes: vec![("y".to_owned(), vec![1])], ..wishes() };
    assert!(requests(&fixed, &unknown).unwrap_err().contains("no input 'y'; the model has x"));
}

#[test]
fn values_keep_their_range_and_requests_differ_but_repeat() {
    let inputs = [input("ids", "INT32", &[64]), input("x", "FP32", &[64])];
    let ranges = vec![("ids".to_owned(), 5.0, 9.0), ("x".to_owned(), 0.0, 2.0)];
    let make = || requests(&inputs, &Wishes { ranges: ranges.clone(), ..wishes() }).unwrap();
    let bodies: Vec<_> = make().iter().map(|request| request.body(Encoding::Json).unwrap()).collect();
    assert_eq!(bodies, make().iter().map(|request| request.body(Encoding::Json).unwrap()).collect::<Vec<_>>());
    assert_ne!(bodies[0], bodies[1]);
    let value: Value = serde_json::from_slice(&bodies[0].bytes).unwrap();
    let within = |index: usize, low: f64, high: f64| {
        let data = value["inputs"][index]["data"].as_array().unwrap();
        data.iter().all(|value| (low..=high).contains(&value.as_f64().unwrap()))
    };
    assert!(within(0, 5.0, 9.0) && within(1, 0.0, 2.0), "{value}");
}

#[test]
fn parameters_travel_over_both_protocols() {
    let parameters = vec![("timeout".to_owned(), json!(5000)), ("who".to_owned(), json!("me"))];
    let request = requests(&[input("x", "FP32", &[1])], &Wishes { parameters, ..wishes() }).unwrap().remove(0);
    let body: Value = serde_json::from_slice(&request.body(Encoding::Json).unwrap().bytes).unwrap();
    assert_eq!(body["parameters"], json!({"timeout": 5000, "who": "me"}));
    let message = ModelInferRequest::decode(&request.message("m", "")[..]).unwrap();
    assert_eq!(message.parameters["timeout"].choice, Some(Choice::Int(5000)));
    assert_eq!(message.parameters["who"].choice, Some(Choice::Text("me".to_owned())));
}
