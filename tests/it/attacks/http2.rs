//! HTTP/2: floods of frames, windows that stay shut, heads that do not end.

use tensorgate::contract::metrics as names;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{SOON, ended, others_are_served, row, serve};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET_ROOT, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, connect,
    frame, goodbye, head, header, next,
};
use crate::support::tensors::*;
use crate::support::{eventually, patiently};

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW: u16 = 4;
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Writes until the server takes no more because it has ended the connection.
async fn flood(stream: &mut TcpStream, frames: &[u8]) {
    let flooding = async { while stream.write_all(frames).await.is_ok() {} };
    patiently("the end of the flood", flooding).await;
}

#[tokio::test]
async fn a_flood_of_resets_is_ended() {
    let server = serve(|config| config.server.bounds.resets_max = 20).await;
    let mut stream = connect(server.http, &[]).await;
    let mut frames = Vec::new();
    for id in (1..20_000_u32).step_by(2) {
        frames.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, GET_ROOT));
        frames.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let _ = stream.write_all(&frames).await;
    ended(&server, "protocol", 1.0).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_flood_of_continuations_is_ended() {
    let server = serve(|_| {}).await;
    let mut stream = connect(server.http, &[]).await;
    let mut frames = frame(HEADERS, END_STREAM, 1, GET_ROOT);
    for _ in 0..10_000 {
        frames.extend(frame(CONTINUATION, 0, 1, &header("x", "1")));
    }
    let _ = stream.write_all(&frames).await;
    assert_eq!(goodbye(&mut stream).await.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM);
    ended(&server, "protocol", 1.0).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let server = serve(|_| {}).await;
    for (count, broken) in [
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS, 2, GET_ROOT),
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(PING, 0, 1, &[0; 8]),
        frame(CONTINUATION, END_HEADERS, 1, GET_ROOT),
    ]
    .iter()
    .enumerate()
    {
        let mut stream = connect(server.http, &[]).await;
        stream.write_all(broken).await.unwrap();
        assert_eq!(goodbye(&mut stream).await, Some(PROTOCOL_ERROR), "{broken:?}");
        ended(&server, "protocol", count as f64 + 1.0).await;
    }
    others_are_served(&server).await;
}

#[tokio::test]
async fn floods_of_pings_and_settings_whose_answers_nobody_reads_are_ended() {
    let server = serve(|config| config.server.bounds.answer_timeout = SOON).await;
    for (count, flooding) in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].iter().enumerate() {
        let mut stream = connect(server.http, &[]).await;
        flood(&mut stream, &flooding.repeat(10_000)).await;
        eventually("the connection to be ended", async || {
            let metrics = server.metrics().await;
            let ended = |reason| metrics.sum(names::CONNECTIONS_ENDED, &[("reason", reason)]);
            (ended("answer_timeout") + ended("protocol") > count as f64).then_some(())
        })
        .await;
        others_are_served(&server).await;
    }
}

#[tokio::test]
async fn heads_that_are_too_large_or_too_many_are_refused_and_the_connection_goes_on() {
    let server = serve(|_| {}).await;
    let mut stream = connect(server.http, &[]).await;
    let large = [GET_ROOT.to_vec(), header("x", &"x".repeat(120)).repeat(130)].concat();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &large)).await.unwrap();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &head(2, "/v2/health/live", &[]))).await.unwrap();
    let mut answered = false;
    while !answered {
        let (kind, _, id, payload) = next(&mut stream).await.expect("the connection goes on");
        // `:status 200` in the static table.
        answered = kind == HEADERS && id == 3 && payload[0] == 0x88;
    }
}

#[tokio::test]
async fn a_bomb_of_references_to_one_large_header_is_refused() {
    let server = serve(|_| {}).await;
    let mut stream = connect(server.http, &[]).await;
    // A literal of 4000 bytes into the dynamic table (RFC 7541, 6.2.1), then references to it, each of one byte.
    let mut bomb = GET_ROOT.to_vec();
    bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'x'; 4000]);
    bomb.extend([0xbe; 12_000]);
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb[..16_000])).await.unwrap();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &head(2, "/v2/health/live", &[]))).await.unwrap();
    let mut served = None;
    while served.is_none() {
        match next(&mut stream).await {
            Some((HEADERS, _, 1, payload)) => assert_ne!(payload[0], 0x88, "the bomb was taken"),
            Some((HEADERS, _, 3, payload)) => served = Some(payload[0] == 0x88),
            Some(_) => {}
            // Ended altogether, which is as good.
            None => served = Some(true),
        }
    }
    assert_eq!(served, Some(true));
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_client_that_keeps_its_windows_shut_is_ended_however_often_it_pings() {
    let server = serve(|config| config.server.bounds.answer_timeout = SOON).await;
    for method in ["/v2/health/live", "/v2/models"] {
        let mut stream = connect(server.http, &[(INITIAL_WINDOW, 0)]).await;
        for id in (1..100_u32).step_by(2) {
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, &head(2, method, &[]))).await.unwrap();
        }
        let mut pings = 0;
        // It reads and pings, but takes no data.
        while stream.write_all(&frame(PING, 0, 0, &[0; 8])).await.is_ok() {
            match next(&mut stream).await {
                Some((kind, ..)) => assert_ne!(kind, DATA),
                None => break,
            }
            pings += 1;
        }
        assert!(pings > 0);
    }
    ended(&server, "answer_timeout", 2.0).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_head_that_never_ends_makes_its_connection_idle_and_is_not_waited_for() {
    let server = serve(|config| config.server.bounds.idle_timeout = SOON).await;
    let mut stream = connect(server.http, &[]).await;
    stream.write_all(&frame(HEADERS, END_STREAM, 1, GET_ROOT)).await.unwrap();
    // A drop now and then, as soon as there is an answer to anything.
    let dripping = async {
        while stream.write_all(&frame(CONTINUATION, 0, 1, &[])).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    patiently("the connection's end", dripping).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_message_of_a_stream_that_does_not_come_to_its_end_ends_the_stream() {
    let server = serve(|config| config.server.bounds.body_timeout = SOON).await;
    let mut stream = connect(server.grpc, &[]).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = head(3, "/inference.GRPCInferenceService/ModelStreamInfer", &headers);
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &call)).await.unwrap();
    stream.write_all(&frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 7])).await.unwrap();
    let mut trailers = Vec::new();
    while trailers.is_empty() {
        let (kind, flags, _, payload) = next(&mut stream).await.expect("an answer");
        if kind == HEADERS && flags & END_STREAM != 0 {
            trailers = payload;
        }
    }
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_stream_that_is_quiet_outlives_every_time_out() {
    let server = serve(|config| {
        config.server.head_timeout = SOON;
        let bounds = &mut config.server.bounds;
        (bounds.answer_timeout, bounds.body_timeout, bounds.idle_timeout) = (SOON, SOON, SOON);
    })
    .await;
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let requests = futures_util::stream::poll_fn({
        let mut requests = requests;
        move |context| requests.poll_recv(context)
    });
    let mut answers = server.grpc().await.model_stream_infer(requests).await.unwrap().into_inner();
    for time in 1..4 {
        // As long as three others take to be ended for doing nothing.
        let _idle = TcpStream::connect(server.http).await.unwrap();
        ended(&server, "idle", f64::from(time)).await;
        sender.send(message("identity_fp32", &row())).unwrap();
        let answer = patiently("an answer", answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.error_message, "");
    }
}
