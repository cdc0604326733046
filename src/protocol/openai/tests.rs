use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::Kind;
use crate::infer::texts::{EMBEDDING, SCORE, TEXT, TEXT_PAIR, TOKEN_IDS};
use crate::infer::{InferRequest, Parameters, Timing};
use crate::model::{ModelName, Version};
use crate::protocol::json::Limits;
use crate::tensor::Tensor;

fn embeddings(body: &Value) -> crate::error::Result<Embeddings> {
    decode_embeddings(body.to_string().as_bytes(), &Limits::default())
}

fn strings(request: &InferRequest, input: &str) -> Vec<Vec<u8>> {
    let found = request.inputs.iter().find(|found| found.name == input).unwrap_or_else(|| panic!("no {input}"));
    found.tensor.byte_strings().unwrap().map(<[u8]>::to_vec).collect()
}

fn response(name: &str, tensor: Tensor) -> InferResponse {
    let mut parameters = Parameters::new();
    parameters.set(TOKENS, ParameterValue::Int64(7));
    InferResponse {
        model: ModelName::new("m \"1\""),
        version: Version::ONE,
        id: None,
        parameters,
        outputs: [(name.into(), tensor)].into_iter().collect(),
        places: Vec::new(),
        timing: Timing::default(),
    }
}

#[test]
fn input_is_a_text_texts_tokens_or_lists_of_tokens() {
    let read = |input: Value| embeddings(&json!({ "user": {}, "input": input, "model": "m" })).unwrap().request;
    assert_eq!(strings(&read(json!("a \"é\"")), TEXT), ["a \"é\"".as_bytes()]);
    assert_eq!(strings(&read(json!(["a", ""])), TEXT), [&b"a"[..], b""]);
    assert_eq!(strings(&read(json!([1, 258])), TOKEN_IDS), [[1, 0, 0, 0, 2, 1, 0, 0]]);
    assert_eq!(strings(&read(json!([[1], [], [2.0]])), TOKEN_IDS), [&[1, 0, 0, 0][..], &[], &[2, 0, 0, 0]]);
    let request = read(json!("a"));
    assert_eq!((request.model.as_str(), request.outputs[0].name.as_str()), ("m", EMBEDDING));
}

#[test]
fn what_is_no_request_for_embeddings_is_told_with_its_key() {
    let many: Vec<&str> = vec!["a"; 2049];
    for (body, said) in [
        (
            json!({ "model": "m", "input": 1 }),
            "'input': expected '[' to start a list of texts or tokens, or a text, got a number",
        ),
        (json!({ "model": "m", "input": ["a", ["b"]] }), "'input': expected a string, got a list"),
        (json!({ "model": "m", "input": [1, "a"] }), "'input': expected a number, got a string"),
        (json!({ "model": "m", "input": [1.5] }), "'input': expected a whole number, got 1.5"),
        (json!({ "model": "m", "input": [4294967296_u64] }), "'input': 4294967296 is no token"),
        (json!({ "model": "m", "input": many }), "'input': it has more than 2048 texts"),
        (json!({ "model": 5, "input": "a" }), "'model': expected a string, got a number"),
        (json!({ "model": "m", "input": "a", "dimensions": "x" }), "'dimensions': expected a number"),
        (json!({ "model": "m", "input": "a", "encoding_format": 5 }), "'encoding_format': expected a string"),
        (json!({ "model": "m", "input": "a", "truncate": 1 }), "'truncate': expected true or false, got a number"),
        (json!(["m"]), "expected '{' to start the request"),
    ] {
        let error = embeddings(&body).unwrap_err();
        assert!(error.message().contains(said), "{error}, expected {said}");
    }
    let twice = decode_embeddings(b"{\"model\":\"m\",\"input\":\"a\",\"input\":\"b\"}", &Limits::default());
    assert!(twice.unwrap_err().message().contains("'input' is given twice"));
    let behind = decode_embeddings(b"{\"model\":\"m\",\"input\":\"a\"} x", &Limits::default());
    assert!(behind.unwrap_err().message().contains("nothing behind"));
}

#[test]
fn an_answer_of_vectors_is_as_openai_has_it() {
    let vectors = Tensor::from_elements([2, 2].into(), &[1_f32, -0.5, 0.0, f32::NAN]).unwrap();
    let told = |base64: bool| -> Value {
        serde_json::from_slice(&encode_embeddings(&response(EMBEDDING, vectors.clone()), base64).unwrap()).unwrap()
    };
    let expected = json!({
        "object": "list", "model": "m \"1\"", "usage": { "prompt_tokens": 7, "total_tokens": 7 },
        "data": [
            { "object": "embedding", "index": 0, "embedding": [1.0, -0.5] },
            { "object": "embedding", "index": 1, "embedding": [0.0, "NaN"] },
        ],
    });
    assert_eq!(told(false), expected);
    assert_eq!(told(true)["data"][0]["embedding"], "AACAPwAAAL8=");
    assert_eq!(encode_embeddings(&response("other", vectors.clone()), true).unwrap_err().kind(), Kind::Internal);
}

#[test]
fn documents_are_texts_or_have_one_and_come_back_by_their_scores() {
    let body = json!({ "model": "m", "query": "q", "documents": ["a", { "id": 5, "text": "b" }, "c"], "top_n": 2 });
    let asked = decode_rerank(body.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(strings(&asked.request, TEXT), [b"q"]);
    assert_eq!(strings(&asked.request, TEXT_PAIR), [b"a", b"b", b"c"]);
    let scores = Tensor::from_elements([3].into(), &[0.25_f32, f32::NAN, 0.5]).unwrap();
    let told: Value = serde_json::from_slice(&encode_rerank(&response(SCORE, scores), &asked, "i").unwrap()).unwrap();
    let expected = json!({
        "id": "i", "model": "m \"1\"", "usage": { "prompt_tokens": 7, "total_tokens": 7 },
        "results": [
            { "index": 2, "relevance_score": 0.5, "document": { "text": "c" } },
            { "index": 0, "relevance_score": 0.25, "document": { "text": "a" } },
        ],
    });
    assert_eq!(told, expected);
    for (key, value, said) in [
        ("documents", json!([{ "title": "t" }]), "document 0 has no 'text'"),
        ("documents", json!([]), "empty list"),
        ("documents", json!([5]), "expected a string"),
        ("query", json!(["q"]), "'query': expected a string"),
        ("top_n", json!(0), "'top_n': it is 0, expected 1 or more"),
        ("return_documents", json!("no"), "'return_documents': expected true or false"),
    ] {
        let mut body = body.clone();
        body[key] = value;
        let error = decode_rerank(body.to_string().as_bytes(), &Limits::default()).unwrap_err();
        assert!(error.message().contains(said), "{error}");
    }
}

#[test]
fn errors_tell_what_clients_tell_them_apart_by() {
    for (status, kind, code) in [
        (400, "invalid_request_error", Value::Null),
        (401, "authentication_error", json!("invalid_api_key")),
        (404, "invalid_request_error", json!("model_not_found")),
        (429, "rate_limit_error", json!("rate_limit_exceeded")),
        (503, "server_error", Value::Null),
    ] {
        let body = encode_error(http::StatusCode::from_u16(status).unwrap(), "a \"b\"");
        let error = &serde_json::from_slice::<Value>(&body).unwrap()["error"];
        assert_eq!((&error["message"], &error["type"], &error["code"]), (&json!("a \"b\""), &json!(kind), &code));
    }
}

proptest! {
    #[test]
    fn texts_are_read_as_any_reader_of_json_reads_them(texts in prop::collection::vec(".{0,20}", 1..20), pretty: bool) {
        let body = json!({ "model": "m", "input": texts, "more": [{ "x": null }] });
        let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
        let read = decode_embeddings(body.as_bytes(), &Limits::default()).unwrap();
        let expected: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        prop_assert_eq!(strings(&read.request, TEXT), expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(body: Vec<u8>, cut in 0_usize..90) {
        let _ = decode_embeddings(&body, &Limits::default());
        let _ = decode_rerank(&body, &Limits::default());
        let whole = br#"{"model":"m","query":"q","input":[[1,2],[3]],"documents":["a",{"text":"b"}],"top_n":2}"#;
        let part = &whole[..cut.min(whole.len() - 1)];
        prop_assert!(decode_embeddings(part, &Limits::default()).is_err());
        prop_assert!(decode_rerank(part, &Limits::default()).is_err());
    }
}
