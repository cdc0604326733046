//! Requests of different lengths share batches where the settings pad them, and each gets its own answer in its own length.

use serde_json::Value;
use tensorgate::contract::metrics as names;
use tensorgate::protocol::proto::ModelInferResponse;
use tokio::task::JoinSet;

use crate::support::grpc::call;
use crate::support::tensors::*;
use crate::support::{Http, Models, Process, Server};

/// Both inputs of an encoder are padded; a wait for company has what is sent together run together on any machine.
const PADDED: &str = "max_queue_delay = \"20ms\"\ninstances = 1\nslo = \"10s\"\n[[inputs]]\nname = \"input_ids\"\npad = 0\n\
                      [[inputs]]\nname = \"attention_mask\"\npad = 0\n";

/// Tokens that no other request has, nothing masked.
fn sentence(request: usize, rows: usize, length: usize) -> Named {
    let ids: Vec<i64> = (0..rows * length).map(|at| ((request * 7 + at * at * 3) % 16) as i64).collect();
    named([
        ("input_ids", tensor([rows, length], ids)),
        ("attention_mask", tensor([rows, length], vec![1_i64; rows * length])),
    ])
}

fn assert_close(one: &Named, other: &Named, what: &str) {
    assert_eq!(one.len(), other.len());
    for ((name, one), (other_name, other)) in one.iter().zip(other) {
        assert_eq!((name, one.shape()), (other_name, other.shape()), "{what}");
        let (one, other) = (one.clone().aligned(), other.clone().aligned());
        let pairs = one.view::<f32>().unwrap().iter().zip(other.view::<f32>().unwrap());
        assert!(pairs.clone().all(|(one, other)| (one - other).abs() < 1e-4), "{what}, output '{name}'");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoder_answers_sentences_of_all_lengths_as_if_alone_on_every_runtime() {
    for runtime in ["onnx", "tract"] {
        let models = Models::new()
            .with("padded", "masked_encoder")
            .with_toml("padded", &format!("runtime = \"{runtime}\"\n{PADDED}"))
            .with("alone", "masked_encoder")
            .with_toml("alone", &format!("runtime = \"{runtime}\"\nmax_batch_size = 1\n"));
        let server = Server::start(&models).await;
        let grpc = server.grpc().await;
        let mut calls = JoinSet::new();
        for request in 0..80 {
            // 9 and 10, and 17 to 20, are each about one length.
            let length = [9, 10, 17, 18, 19, 20, 1, 33][request % 8];
            let inputs = sentence(request, 1 + request % 3, length);
            let (mut http, mut grpc) = (server.http().await, grpc.clone());
            calls.spawn(async move {
                let outputs = if request % 2 == 0 {
                    outputs_of(&http.infer("padded", &json_body(&inputs)).await)
                } else {
                    outputs_of_message(grpc.model_infer(message("padded", &inputs)).await.unwrap().get_ref())
                };
                (request, inputs, outputs)
            });
        }
        let mut http = server.http().await;
        for (request, inputs, outputs) in calls.join_all().await {
            let alone = outputs_of(&http.infer("alone", &json_body(&inputs)).await);
            assert_close(&outputs, &alone, &format!("{runtime}, request {request}"));
        }
        let metrics = server.metrics().await;
        let labels = [("model", "padded")];
        let batches = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &labels);
        assert!(batches < 80.0, "{runtime}: {batches} batches of 80 requests");
        let cells = |of| metrics.sum(names::CELLS, &[("model", "padded"), ("use", of)]);
        let sent: usize = (0..80).map(|request| (1 + request % 3) * [9, 10, 17, 18, 19, 20, 1, 33][request % 8]).sum();
        assert_eq!(cells("useful"), sent as f64, "{runtime}");
        assert!(cells("padding") > 0.0 && cells("padding") < cells("useful"), "{runtime}: {}", cells("padding"));
        assert_eq!(metrics.sum(names::BATCH_RETRIES, &labels), 0.0);
        assert_eq!(metrics.sum(names::CELLS, &[("model", "alone")]), 0.0);
    }
}

/// The share of padding that a `Server-Timing` tells.
fn padding_told(timing: &str) -> f64 {
    timing.split("padding=").nth(1).and_then(|rest| rest.trim_end_matches('"').parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_model_joins_lengths_without_any_wait_and_tells_how_much_was_padding() {
    // 20 ms a batch, whatever its work, on one instance: what comes meanwhile shares the next one. Strings are not padded,
    // but joined; of two dimensions the second is padded and the third fixed.
    let text = "runtime = \"identity\"\nexecute_time = \"20ms\"\ninstances = 1\nslo = \"10s\"\n\
                [[inputs]]\nname = \"audio\"\ndatatype = \"FP32\"\nshape = [\"rows\", \"n\", 2]\npad = -1.5\n\
                [[inputs]]\nname = \"mask\"\ndatatype = \"BOOL\"\nshape = [\"rows\", \"n\"]\npad = false\n\
                [[inputs]]\nname = \"word\"\ndatatype = \"BYTES\"\nshape = [\"rows\", 1]\n";
    let server = Server::start(&Models::new().with_toml("slow", text)).await;
    let mut calls = JoinSet::new();
    for request in 0..48 {
        let length = 3 + request % 5;
        let values: Vec<f32> = (0..length * 2).map(|at| (request * 100 + at) as f32).collect();
        let inputs = named([
            ("audio", tensor([1, length, 2], values)),
            ("mask", bools([1, length], &vec![1; length])),
            ("word", strings([1, 1], &[&"w".repeat(request % 4)])),
        ]);
        let (mut http, mut connection) = (server.http().await, Http::connect_http2(server.grpc).await);
        calls.spawn(async move {
            if request % 2 == 0 {
                let answer = http.infer("slow", &json_body(&inputs)).await;
                assert_eq!(outputs_of(&answer), inputs, "request {request}");
                padding_told(answer.header("server-timing").unwrap())
            } else {
                let message = message("slow", &inputs);
                let outcome = call::<ModelInferResponse>(&mut connection, "ModelInfer", &[], &message).await.unwrap();
                let told = outcome.trailers.get("server-timing").unwrap().clone();
                assert_eq!(outputs_of_message(&outcome.answer.unwrap()), inputs, "request {request}");
                padding_told(told.to_str().unwrap())
            }
        });
    }
    let told = calls.join_all().await;
    assert!(told.iter().any(|&padding| padding > 0.0) && told.iter().all(|&padding| padding < 0.75), "{told:?}");
    let metrics = server.metrics().await;
    let batches = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]);
    assert!(batches < 40.0, "{batches} batches of 48 requests");
    assert_eq!(metrics.sum(names::BATCH_RETRIES, &[]), 0.0);
    let sent: usize = (0..48).map(|request| (3 + request % 5) * 2 / 2).sum();
    assert_eq!(metrics.sum(names::CELLS, &[("use", "useful")]), sent as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_padded_in_height_and_width() {
    let text = "max_queue_delay = \"20ms\"\ninstances = 1\nslo = \"10s\"\n[[inputs]]\nname = \"image\"\npad = 0\n";
    let server = Server::start(&Models::of(&["image_total"]).with_toml("image_total", text)).await;
    let mut calls = JoinSet::new();
    for request in 0..40_usize {
        let (height, width) = (9 + request % 2, 17 + request % 4);
        let values: Vec<f32> = (0..height * width).map(|at| (request + at % 3) as f32).collect();
        let total: f32 = values.iter().sum();
        let image = tensor([1, height, width], values);
        let mut grpc = server.grpc().await;
        calls.spawn(async move {
            let inputs = named([("image", image.clone())]);
            let answer = grpc.model_infer(message("image_total", &inputs)).await.unwrap();
            let expected = named([("bright", image), ("total", tensor([1], [total]))]);
            assert_eq!(outputs_of_message(answer.get_ref()), expected, "request {request}");
        });
    }
    calls.join_all().await;
    let metrics = server.metrics().await;
    assert!(metrics.sum(names::CELLS, &[("use", "padding")]) > 0.0);
    assert!(metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]) < 40.0);
}

#[tokio::test]
async fn padding_that_changes_answers_is_switched_off_with_a_warning_and_answers_stay_right() {
    let text = "max_queue_delay = \"20ms\"\n[[inputs]]\nname = \"input_ids\"\npad = 0\n";
    let models = Models::of(&["unmasked_mean"]).with_toml("unmasked_mean", text);
    let mut process = Process::start(&["--model-control", "explicit", models.argument()]).await;
    let mut http = process.http().await;
    assert_eq!(http.post("/v2/repository/models/unmasked_mean/load", "").await.status, 200);
    let warning = process.line("not padded").await;
    assert_eq!((&warning["level"], &warning["model"]), (&Value::from("WARN"), &Value::from("unmasked_mean")));
    assert!(warning["message"].as_str().unwrap().contains("output 'mean'"), "{warning}");
    let ask = |length: usize| named([("input_ids", tensor([1, length], vec![5_i64; length]))]);
    let (mut other, mut third) = (process.http().await, process.http().await);
    let bodies = [3, 4, 7].map(|length| json_body(&ask(length)));
    let answers = tokio::join!(
        http.infer("unmasked_mean", &bodies[0]),
        other.infer("unmasked_mean", &bodies[1]),
        third.infer("unmasked_mean", &bodies[2]),
    );
    // The mean of one token, however often it comes, is the token's.
    let first = outputs_of(&answers.0);
    assert_close(&first, &outputs_of(&answers.1), "4 tokens");
    assert_close(&first, &outputs_of(&answers.2), "7 tokens");
}
