//! An HTTP/1.1 client connection: one request at a time, from bytes built beforehand.

pub(crate) mod response;

use std::sync::Arc;

use self::response::Parser;
use crate::engine::protocol::{Done, Failure, Protocol};
use crate::payload::HttpBody;

/// One connection's state. The requests are shared and sent in turn.
pub(crate) struct HttpClient {
    requests: Arc<[Box<[u8]>]>,
    parser: Parser,
    started: Option<u64>,
    retired: bool,
}

impl HttpClient {
    /// A fresh connection. `requests` are whole requests, head and body, and at least one.
    pub(crate) fn new(requests: Arc<[Box<[u8]>]>) -> Self {
        Self { requests, parser: Parser::new(), started: None, retired: false }
    }
}

impl Protocol for HttpClient {
    fn greet(&mut self, _out: &mut Vec<u8>) {}

    fn room(&self) -> usize {
        usize::from(self.started.is_none() && !self.retired)
    }

    fn in_flight(&self) -> usize {
        usize::from(self.started.is_some())
    }

    fn send(&mut self, which: usize, started: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.requests[which % self.requests.len()]);
        self.started = Some(started);
    }

    fn receive(&mut self, input: &[u8], _out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<usize, Failure> {
        if self.started.is_none() {
            return Err(Failure::Protocol("bytes without a request"));
        }
        let (used, response) = self.parser.feed(input)?;
        if let Some(response) = response {
            let Some(started) = self.started.take() else {
                return Ok(used);
            };
            let success = (200..300).contains(&response.status);
            let outcome = if success { Ok(()) } else { Err(Failure::Status(response.status)) };
            self.retired = response.closes;
            done.push(Done { started, outcome, bytes: response.body });
            if used < input.len() {
                return Err(Failure::Protocol("bytes without a request"));
            }
        }
        Ok(used)
    }

    fn retired(&self) -> bool {
        self.retired
    }

    fn abandon(&mut self, failure: Failure, done: &mut Vec<Done>) {
        done.extend(self.started.take().map(|started| Done { started, outcome: Err(failure), bytes: 0 }));
    }
}

/// A POST of `body` to `path`, ready to be written. `extra` are further headers, already checked.
pub(crate) fn request(host: &str, path: &str, body: &HttpBody, extra: &[(String, String)]) -> Box<[u8]> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", body.bytes.len());
    let mut field = |name: &str, value: &str| {
        head.push_str(&format!("{name}: {value}\r\n"));
    };
    match body.json_length {
        Some(length) => {
            field("Content-Type", "application/octet-stream");
            field("Inference-Header-Content-Length", &length.to_string());
        }
        None => field("Content-Type", "application/json"),
    }
    for (name, value) in extra {
        field(name, value);
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body.bytes);
    bytes.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_its_request_and_a_refusal_is_not_a_success() {
        let mut client = HttpClient::new(Arc::from([Box::from(&b"GET"[..])]));
        let (mut out, mut done) = (Vec::new(), Vec::new());
        for (answer, outcome) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"[..], Ok(())),
            (b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\n{}", Err(Failure::Status(400))),
        ] {
            client.send(0, 7, &mut out);
            assert_eq!((client.room(), client.in_flight()), (0, 1));
            assert_eq!(client.receive(answer, &mut out, &mut done), Ok(answer.len()));
            assert_eq!(done.pop(), Some(Done { started: 7, outcome, bytes: 2 }));
            assert_eq!((client.room(), client.in_flight()), (1, 0));
        }
        assert!(client.receive(b"H", &mut out, &mut done).is_err(), "nothing was asked");
    }

    #[test]
    fn a_request_carries_the_length_of_its_json_part_only_when_it_is_binary() {
        let json = HttpBody { bytes: b"{}".to_vec(), json_length: None };
        let text = String::from_utf8(request("h:1", "/p", &json, &[("a".into(), "b".into())]).into_vec()).unwrap();
        assert_eq!(
            text,
            "POST /p HTTP/1.1\r\nHost: h:1\r\nContent-Length: 2\r\nContent-Type: application/json\r\na: b\r\n\r\n{}"
        );
        let binary = HttpBody { bytes: b"{}1234".to_vec(), json_length: Some(2) };
        let text = String::from_utf8(request("h:1", "/p", &binary, &[]).into_vec()).unwrap();
        assert!(text.contains("\r\nInference-Header-Content-Length: 2\r\n"), "{text}");
    }
}
