//! OpenAI's embeddings, reranking, and their lists and errors.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::{Models, Server, TEXTS, answered, assert_near, floats, serve, tensors, texts};
use crate::support::Http;
use crate::support::http::request;

async fn embeddings(http: &mut Http, body: Value) -> Value {
    let answer = http.post("/v1/embeddings", body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn vector(item: &Value) -> Vec<f32> {
    match &item["embedding"] {
        Value::String(text) => {
            let bytes = STANDARD.decode(text).unwrap();
            bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
        }
        values => values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect(),
    }
}

#[tokio::test]
async fn texts_lists_and_tokens_are_embedded_as_over_v2() {
    let server = serve().await;
    let (outputs, tokens) = answered(&server, "encoder", &texts(&TEXTS)).await;
    let expected = floats(&outputs[0].1);
    let mut http = server.http().await;
    for path in ["/v1/embeddings", "/openai/v1/embeddings"] {
        for format in ["float", "base64"] {
            let body = json!({ "model": "encoder", "input": TEXTS, "encoding_format": format, "user": "u", "dimensions": null });
            let answer = http.post(path, body.to_string()).await;
            assert!(answer.header("server-timing").is_some(), "{answer:?}");
            let answer = answer.json();
            assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("encoder")));
            assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
            for (at, item) in answer["data"].as_array().unwrap().iter().enumerate() {
                assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(at)));
                assert_near(&vector(item), &expected[at * 8..(at + 1) * 8]);
            }
        }
    }
    // One text, its tokens, and its tokens in a list.
    for input in [json!("hello"), json!([2, 87, 3]), json!([[2, 87, 3]])] {
        let answer = embeddings(&mut http, json!({ "model": "encoder", "input": input })).await;
        assert_near(&vector(&answer["data"][0]), &expected[8..16]);
        assert_eq!(answer["usage"]["total_tokens"], 3);
    }
    let answer =
        embeddings(&mut http, json!({ "model": "encoder", "input": [[2, 91, 3], [2, 87, 41, 88, 42, 3]] })).await;
    assert_near(&vector(&answer["data"][1]), &expected[..8]);
}

#[tokio::test]
async fn vectors_are_cut_to_lengths_that_the_model_was_trained_for() {
    let server = serve().await;
    let mut http = server.http().await;
    let whole = vector(&embeddings(&mut http, json!({ "model": "encoder", "input": "hello" })).await["data"][0]);
    let cut = embeddings(&mut http, json!({ "model": "encoder", "input": "hello", "dimensions": 4 })).await;
    let length = whole[..4].iter().map(|value| value * value).sum::<f32>().sqrt();
    let expected: Vec<f32> = whole[..4].iter().map(|value| value / length).collect();
    assert_near(&vector(&cut["data"][0]), &expected);
    let same = embeddings(&mut http, json!({ "model": "encoder", "input": "hello", "dimensions": 8 })).await;
    assert_near(&vector(&same["data"][0]), &whole);
}

#[tokio::test]
async fn documents_are_ranked_by_the_score_of_their_pair() {
    let server = serve().await;
    let mut http = server.http().await;
    let documents = json!(["good", { "text": "paris", "title": "t" }, "the river", "bad"]);
    let ids: [&[i64]; 4] = [&[2, 87, 3, 89, 3], &[2, 87, 3, 91, 3], &[2, 87, 3, 86, 93, 3], &[2, 87, 3, 90, 3]];
    let mut scores = Vec::new();
    for ids in ids {
        let types: Vec<i64> = (0..ids.len()).map(|at| i64::from(at > 2)).collect();
        let logit = tensors(&mut http, "ranker", ids, &types).await[0];
        scores.push(1.0 / (1.0 + (-logit).exp()));
    }
    let mut order: Vec<usize> = (0..4).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    for path in ["/rerank", "/v1/rerank", "/openai/v1/rerank"] {
        let body = json!({ "model": "ranker", "query": "hello", "documents": documents, "top_n": 3 });
        let answer = http.post(path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let results = answer["results"].as_array().unwrap();
        let told: Vec<u64> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
        assert_eq!(told, order[..3].iter().map(|at| *at as u64).collect::<Vec<_>>());
        for (result, at) in results.iter().zip(&order) {
            assert!((result["relevance_score"].as_f64().unwrap() as f32 - scores[*at]).abs() < 1e-5);
            assert_eq!(result["document"]["text"], ["good", "paris", "the river", "bad"][*at]);
        }
        assert_eq!(answer["usage"]["total_tokens"], ids.iter().map(|ids| ids.len()).sum::<usize>());
        assert!(answer["id"].is_string() && answer["model"] == "ranker");
    }
    let body = json!({ "model": "ranker", "query": "hello", "documents": documents, "return_documents": false });
    let answer = http.post("/rerank", body.to_string()).await.json();
    assert!(answer["results"].as_array().unwrap().len() == 4 && answer["results"][0].get("document").is_none());
}

#[tokio::test]
async fn models_that_take_texts_are_listed_as_openai_lists_them() {
    let models = Models::of(&["identity_fp32"]).with_texts("encoder").with_texts("ranker");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    for path in ["/openai/v1/models", "/v1/models"] {
        let list = http.get(path).await.json();
        let ids: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!((&list["object"], ids), (&json!("list"), vec!["encoder", "ranker"]));
    }
    assert_eq!(http.get("/v1/models").await.json()["models"], json!(["encoder", "identity_fp32", "ranker"]));
    for path in ["/openai/v1/models/encoder", "/v1/models/encoder"] {
        let model = http.get(path).await.json();
        assert_eq!((&model["id"], &model["object"]), (&json!("encoder"), &json!("model")));
    }
}

#[tokio::test]
async fn errors_have_the_form_that_openais_clients_read() {
    let models = Models::of(&["identity_fp32"]).with_texts("encoder").with_texts("classifier");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let of = |model: &str, input: Value| json!({ "model": model, "input": input }).to_string();
    let ranked = |model: &str| json!({ "model": model, "query": "a", "documents": ["b"] }).to_string();
    for (path, body, status, said) in [
        ("/v1/embeddings", of("encoder", json!("")), 400, "text 0: it is empty"),
        ("/v1/embeddings", of("encoder", json!([])), 400, "'input': it is an empty list"),
        ("/v1/embeddings", of("encoder", json!([[]])), 400, "token_ids 0"),
        ("/v1/embeddings", of("encoder", json!([1, 4000])), 400, "4000 is no token of the model, expected 0 to 95"),
        ("/v1/embeddings", of("encoder", json!([-1])), 400, "-1 is no token"),
        ("/v1/embeddings", of("encoder", json!(["a", 1])), 400, "'input': expected a string, got a number"),
        ("/v1/embeddings", of("encoder", json!({})), 400, "'input'"),
        ("/v1/embeddings", json!({ "model": "encoder" }).to_string(), 400, "the request has no 'input'"),
        ("/v1/embeddings", json!({ "input": "a" }).to_string(), 400, "the request has no 'model'"),
        ("/v1/embeddings", "{".into(), 400, "at byte 1"),
        ("/v1/embeddings", of("nowhere", json!("a")), 404, "unknown model 'nowhere'"),
        (
            "/v1/embeddings",
            of("identity_fp32", json!("a")),
            400,
            "model 'identity_fp32' gives no embeddings: it takes no texts",
        ),
        (
            "/v1/embeddings",
            of("classifier", json!("a")),
            400,
            "model 'classifier' gives no embeddings: what it gives for texts is label, score, logits",
        ),
        ("/rerank", ranked("encoder"), 400, "model 'encoder' gives no scores of pairs"),
        ("/rerank", ranked("classifier"), 400, "gives no scores of pairs"),
        (
            "/v1/rerank",
            json!({ "model": "encoder", "query": "a", "documents": [] }).to_string(),
            400,
            "'documents': it is an empty list",
        ),
        ("/openai/v1/completions", "{}".into(), 404, "unknown path"),
    ] {
        let answer = http.post(path, body.clone()).await;
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, status, "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{body}: {error}");
        assert!(
            error["type"] == "invalid_request_error" && error.get("param").is_some() && error.get("code").is_some()
        );
    }
    let formats = json!({ "model": "encoder", "input": "a", "encoding_format": "int8" });
    let answer = http.post("/v1/embeddings", formats.to_string()).await.json();
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("'int8', expected \"float\" or \"base64\""),
        "{answer}"
    );
    let answer = http.get("/v1/embeddings").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST, OPTIONS")));
    assert!(answer.json()["error"]["message"].is_string());
    let many = of("encoder", json!(vec!["a"; 2049]));
    let answer = http.post("/v1/embeddings", many).await;
    assert!(
        answer.status == 413 && answer.json()["error"]["message"].as_str().unwrap().contains("more than 2048 texts")
    );
}

#[tokio::test]
async fn keys_are_held_against_the_model_that_the_body_names() {
    let models = Models::new().with_texts("encoder").with_texts("ranker");
    let file = models.path().join("keys.toml");
    std::fs::write(&file, "[[key]]\nname = \"a\"\ntoken = \"t\"\nscopes = [\"infer\"]\nmodels = [\"encoder\"]\n")
        .unwrap();
    let server = Server::with(&models, |config| config.server.guard.auth_file = Some(file)).await;
    let mut http = server.http().await;
    let embed = |model: &str| json!({ "model": model, "input": "a" }).to_string();
    let key = [("authorization", "Bearer t")];
    let answer = http.send(request(Method::POST, "/v1/embeddings", &key, embed("encoder"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = http.send(request(Method::POST, "/v1/embeddings", &key, embed("ranker"))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["type"]), (403, &json!("permission_error")));
    let answer = http.post("/v1/embeddings", embed("encoder")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert!(answer.header("www-authenticate").is_some());
}
