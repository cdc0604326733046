//! The golden corpus: the same request through both doors meets the same fate, told in the same words, and the connection
//! is as good as before.
//!
//! Each file of tests/golden is one request: `http` and `grpc` say how either door is asked (one may be missing, where
//! only the other can express it), `expect` the kind of error, or "ok", and what its message has to hold.

mod golden;

use tensorgate::error::Kind;
use tensorgate::protocol::status;
use tonic::Code;

use crate::support::tensors::*;
use crate::support::{Grpc, Http, Models, Server};
use golden::Golden;

async fn serve() -> Server {
    let fixtures = ["two_inputs", "fixed_batch", "scalar", "gather_rows", "garbage"];
    let identities = ["fp32", "fp16", "int8", "int64", "uint8", "uint16", "bool", "bytes"];
    let models = identities.iter().fold(Models::of(&fixtures), |models, datatype| {
        let name = format!("identity_{datatype}");
        models.with(&name, &name)
    });
    let models = models.with("pinned", "identity_fp32").with_pbtxt("pinned", "max_batch_size: 2");
    Server::start(&models.with_texts("encoder")).await
}

/// What is wrong with how the HTTP door took it.
async fn over_http(http: &mut Http, golden: &Golden) -> Result<(), String> {
    let Some(request) = golden.http_request() else { return Ok(()) };
    let answer = http.send(request).await;
    let Some(kind) = golden.kind() else {
        return if answer.status == 200 { Ok(()) } else { Err(format!("HTTP: {answer:?}")) };
    };
    if answer.status != status::of(kind).0 {
        return Err(format!("HTTP: {answer:?} is not {kind:?}"));
    }
    golden.check_message("HTTP", &answer.error())
}

/// What is wrong with how the gRPC door took it.
async fn over_grpc(grpc: &mut Grpc, golden: &Golden) -> Result<(), String> {
    let Some(message) = golden.message() else { return Ok(()) };
    match (grpc.model_infer(message).await, golden.kind()) {
        (Ok(_), None) => Ok(()),
        (Err(status), Some(kind)) if status.code() == status::of(kind).1 => {
            golden.check_message("gRPC", status.message())
        }
        (outcome, kind) => Err(format!("gRPC: {outcome:?} is not {kind:?}")),
    }
}

#[tokio::test]
async fn the_golden_corpus_meets_the_same_fate_through_both_doors() {
    let server = serve().await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let corpus = Golden::all();
    assert!(corpus.len() > 60, "{} files", corpus.len());
    let mut faults = Vec::new();
    let good = named([("x", tensor([1, 2], [1_f32, 2.]))]);
    for golden in &corpus {
        for fault in
            [over_http(&mut http, golden).await, over_grpc(&mut grpc, golden).await].into_iter().filter_map(Result::err)
        {
            faults.push(format!("{}: {fault}", golden.name));
        }
        // The same connections go on.
        let answer = http.infer("identity_fp32", &json_body(&good)).await;
        assert_eq!(outputs_of(&answer)[0].1, good[0].1, "after {}", golden.name);
        let answer = grpc.model_infer(message("identity_fp32", &good)).await.unwrap();
        assert_eq!(outputs_of_message(answer.get_ref())[0].1, good[0].1, "after {}", golden.name);
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), corpus.len(), faults.join("\n"));
}

#[tokio::test]
async fn the_corpus_holds_every_kind_that_a_request_alone_can_bring_about() {
    let kinds: Vec<Option<Kind>> = Golden::all().iter().map(Golden::kind).collect();
    for kind in [
        Kind::InvalidRequest,
        Kind::TooLarge,
        Kind::UnknownModel,
        Kind::ModelUnavailable,
        Kind::Unsupported,
        Kind::Execution,
    ] {
        assert!(kinds.contains(&Some(kind)), "{kind:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_said_to_be_so_through_both_doors() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::with(&models, |config| config.server.body_bytes_max = 10_000).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let rows = |rows: usize| named([("x", tensor([rows, 2], vec![1_f32; 2 * rows]))]);
    let refused = http.infer("identity_fp32", &json_body(&rows(5000))).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    assert!(refused.error().contains("10000") && refused.error().contains("--body-max"), "{refused:?}");
    let refused = grpc.model_infer(message("identity_fp32", &rows(5000))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let answer = grpc.model_infer(message("identity_fp32", &rows(1000))).await.unwrap();
    assert_eq!(outputs_of_message(answer.get_ref())[0].1, rows(1000)[0].1);
}
