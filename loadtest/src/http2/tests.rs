use super::*;

const BLOCK_OK: &[u8] = b"\x88";
const TRAILERS_OK: &[u8] = b"\x40\x0bgrpc-status\x010";

fn client(streams: usize, message: usize) -> GrpcClient {
    GrpcClient::new(Arc::new(Calls::new("h:1", "/p", &[vec![7; message]], &[])), streams)
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, usize)> {
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut found = Vec::new();
    while let Some((head, _)) = frame::read(bytes).unwrap() {
        found.push((head.kind, head.flags, head.stream, head.length));
        bytes = &bytes[frame::HEAD + head.length..];
    }
    assert!(bytes.is_empty());
    found
}

/// Feeds `bytes` in two reads and returns what ended.
fn feed(client: &mut GrpcClient, bytes: &[u8], at: usize, out: &mut Vec<u8>) -> Result<Vec<Done>, Failure> {
    let mut done = Vec::new();
    let used = client.receive(&bytes[..at], out, &mut done)?;
    let last = client.receive(&bytes[used..], out, &mut done)?;
    assert_eq!(used + last, bytes.len());
    Ok(done)
}

/// An answer on stream 1: head, a message in two padded pieces, trailers over a CONTINUATION.
fn answer() -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    frame::write(&mut bytes, kind::PING, 0, 0, b"12345678");
    frame::write(&mut bytes, kind::HEADERS, flag::END_HEADERS, 1, BLOCK_OK);
    frame::write(&mut bytes, kind::DATA, flag::PADDED, 1, b"\x02\0\0\0\0\0");
    frame::write(&mut bytes, kind::DATA, 0, 1, b"\0\x03abc");
    frame::write(&mut bytes, kind::HEADERS, flag::END_STREAM, 1, &TRAILERS_OK[..6]);
    frame::write(&mut bytes, kind::CONTINUATION, flag::END_HEADERS, 1, &TRAILERS_OK[6..]);
    bytes
}

#[test]
fn an_answer_reads_the_same_wherever_it_is_split() {
    let bytes = answer();
    for at in 0..=bytes.len() {
        let mut client = client(2, 3);
        let mut out = Vec::new();
        client.send(0, 5, &mut out);
        out.clear();
        let done = feed(&mut client, &bytes, at, &mut out).unwrap();
        assert_eq!(done, [Done { started: 5, outcome: Ok(()), bytes: 3 }], "split at {at}");
        assert_eq!(client.in_flight(), 0);
        assert_eq!(frames(&out), [(kind::SETTINGS, flag::ACK, 0, 0), (kind::PING, flag::ACK, 0, 8)]);
    }
}

#[test]
fn nothing_but_a_complete_ok_answer_counts_as_a_success() {
    let head = |bytes: &mut Vec<u8>, flags, block| frame::write(bytes, kind::HEADERS, flags, 1, block);
    let both = flag::END_HEADERS | flag::END_STREAM;
    let message = b"\0\0\0\0\x01x";
    type Build<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
    let cases: Vec<(Build<'_>, Failure)> = vec![
        (Box::new(|b| head(b, both, b"\x88\x40\x0bgrpc-status\x0214")), Failure::Grpc(14)),
        (Box::new(|b| head(b, both, b"\x8d")), Failure::Status(404)),
        (Box::new(|b| head(b, both, TRAILERS_OK)), Failure::Protocol("no :status")),
        (Box::new(|b| head(b, both, b"\x88\x40\x0bgrpc-status\x010")), Failure::Protocol("not one whole message")),
        (
            Box::new(|b| {
                head(b, flag::END_HEADERS, BLOCK_OK);
                frame::write(b, kind::DATA, flag::END_STREAM, 1, message);
            }),
            Failure::Protocol("no grpc-status"),
        ),
        (
            Box::new(|b| {
                head(b, flag::END_HEADERS, BLOCK_OK);
                frame::write(b, kind::DATA, 0, 1, &message[..5]);
                head(b, both, TRAILERS_OK);
            }),
            Failure::Protocol("not one whole message"),
        ),
        (Box::new(|b| frame::write(b, kind::RST_STREAM, 0, 1, &[0, 0, 0, 7])), Failure::Reset(7)),
        (Box::new(|b| frame::write(b, kind::GOAWAY, 0, 0, &[0; 8])), Failure::Closed),
    ];
    for (build, failure) in cases {
        let mut client = client(1, 3);
        let mut bytes = Vec::new();
        build(&mut bytes);
        client.send(0, 0, &mut Vec::new());
        let done = feed(&mut client, &bytes, 0, &mut Vec::new()).unwrap();
        assert_eq!(done.iter().map(|one| one.outcome).collect::<Vec<_>>(), [Err(failure)]);
    }
}

#[test]
fn a_broken_peer_ends_the_connection() {
    for (kind, flags, payload) in [
        (kind::CONTINUATION, 0, &b""[..]),
        (kind::PUSH_PROMISE, 0, b"\0\0\0\x02"),
        (kind::WINDOW_UPDATE, 0, b"\0"),
        (kind::HEADERS, flag::END_HEADERS, b"\xff"),
        (kind::SETTINGS, 0, b"\0\x01\0\0\0\0"),
    ] {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, flags, 1, payload);
        let mut client = client(1, 3);
        client.send(0, 0, &mut Vec::new());
        assert!(client.receive(&bytes, &mut Vec::new(), &mut Vec::new()).is_err(), "kind {kind}");
    }
}

#[test]
fn a_long_message_waits_for_the_windows_and_goes_on_when_they_open() {
    let length = 100_000;
    let mut client = client(1, length - 5);
    let mut out = Vec::new();
    client.send(0, 0, &mut out);
    let sent: usize = frames(&out).iter().filter(|frame| frame.0 == kind::DATA).map(|frame| frame.3).sum();
    assert_eq!(sent, WINDOW_DEFAULT as usize);
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind::WINDOW_UPDATE, 0, 0, &1_000_000u32.to_be_bytes());
    out.clear();
    client.receive(&bytes, &mut out, &mut Vec::new()).unwrap();
    assert!(out.is_empty(), "the stream's own window is still shut");
    bytes.clear();
    frame::write(&mut bytes, kind::SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]);
    client.receive(&bytes, &mut out, &mut Vec::new()).unwrap();
    let found = frames(&out);
    assert_eq!(found[0], (kind::SETTINGS, flag::ACK, 0, 0));
    assert_eq!(found.iter().skip(1).map(|frame| frame.3).sum::<usize>(), length - sent);
    assert_eq!(found.last().unwrap().1, flag::END_STREAM);
}

#[test]
fn the_server_limits_the_streams_and_the_first_request_fills_the_header_table() {
    let mut client = client(8, 3);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    client.send(0, 0, &mut first);
    client.send(0, 0, &mut second);
    assert!(second.len() < first.len());
    assert_eq!(frames(&second)[1], (kind::DATA, flag::END_STREAM, 3, 8));
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 3]);
    client.receive(&bytes, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(client.room(), 1);
}
