//! HTTP/2 frames by hand: what no library sends.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame (RFC 9113, 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// How a client begins, with a window for answers of this many bytes.
pub(super) fn start(window: u32) -> Vec<u8> {
    let mut settings = 4_u16.to_be_bytes().to_vec();
    settings.extend(window.to_be_bytes());
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

/// The head of a request by `method` (2 is GET, 3 is POST in HPACK's static table) to `path`.
pub(super) fn head(method: u8, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = vec![0x80 | method, 0x86, 4, path.len() as u8];
    head.extend(path.as_bytes());
    for (name, value) in headers {
        head.extend([0, name.len() as u8]);
        head.extend(name.as_bytes());
        head.push(value.len() as u8);
        head.extend(value.as_bytes());
    }
    head
}

/// A gRPC call to `method` of the inference service with `body` as it is.
pub(super) fn call(stream: u32, method: &str, body: &[u8], last: bool) -> Vec<u8> {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let head = head(3, &format!("/inference.GRPCInferenceService/{method}"), &headers);
    let flags = if last { END_STREAM } else { 0 };
    [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, flags, stream, body)].concat()
}
