//! Bodies of OpenAI's embeddings and of reranking.

use serde_json::Value;
use tensorgate::infer::{InferRequest, InferResponse};
use tensorgate::protocol::openai;
use tensorgate::tensor::Tensor;

use super::tensors::{are_whole, blames_the_client, echo, limits};

/// One byte tells which of the two, the rest is the body.
pub fn openai(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    if kind % 2 == 0 {
        match openai::decode_embeddings(body, &limits()) {
            Ok(asked) => {
                are_whole(&asked.request);
                are_the_texts(&asked.request, body, "input");
                let vectors = answer(&asked.request, "embedding", 2);
                let told = openai::encode_embeddings(&vectors, asked.base64).expect("there are vectors");
                assert!(serde_json::from_slice::<Value>(&told).is_ok());
            }
            Err(error) => blames_the_client(&error),
        }
        return;
    }
    match openai::decode_rerank(body, &limits()) {
        Ok(asked) => {
            are_whole(&asked.request);
            are_the_texts(&asked.request, body, "documents");
            let scores = answer(&asked.request, "score", 1);
            let told = openai::encode_rerank(&scores, &asked, "id").expect("there are scores");
            assert!(serde_json::from_slice::<Value>(&told).is_ok());
        }
        Err(error) => blames_the_client(&error),
    }
}

/// The texts of the last input are what any reader of JSON finds under `key`.
fn are_the_texts(request: &InferRequest, body: &[u8], key: &str) {
    // Python's words for non-finite numbers, and numbers beyond what serde has, are in what is skipped.
    let Ok(read) = serde_json::from_slice::<Value>(body) else { return };
    let Some(texts) = read[key].as_array().filter(|texts| texts.iter().all(Value::is_string)) else { return };
    let input =
        request.inputs.iter().find(|input| input.name.starts_with("text") && input.tensor.elements() == texts.len());
    let given = input.expect("the texts").tensor.byte_strings().expect("strings");
    given.zip(texts).for_each(|(given, text)| assert_eq!(Some(given), text.as_str().map(str::as_bytes)));
}

/// An answer with a row of `width` numbers for each text.
fn answer(request: &InferRequest, output: &str, width: usize) -> InferResponse {
    let rows = request.inputs.iter().map(|input| input.tensor.elements()).max().unwrap_or(0);
    let values: Vec<f32> = (0..rows * width).map(|value| value as f32 / 3.0).collect();
    let shape = if width == 1 { vec![rows] } else { vec![rows, width] };
    let tensor = Tensor::from_elements(shape.as_slice().into(), &values).expect("as many as the shape asks for");
    InferResponse { outputs: [(output.into(), tensor)].into_iter().collect(), ..echo(request) }
}
