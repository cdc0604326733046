//! Reads HTTP/1.1 responses from a byte stream, as little of them as a load generator needs.

use crate::engine::protocol::Failure;

/// A head longer than this is taken for garbage.
const HEAD_MAX: usize = 64 * 1024;
/// A chunk-size or trailer line longer than this is taken for garbage.
const LINE_MAX: usize = 8 * 1024;

/// A whole response has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// The final status.
    pub(crate) status: u16,
    /// Bytes of the body, without chunk framing.
    pub(crate) body: u64,
    /// The server closes the connection behind this response.
    pub(crate) closes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

/// Where a response stream stands between two reads.
#[derive(Debug)]
pub(crate) struct Parser {
    state: State,
    current: Response,
}

impl Parser {
    /// Waits for the head of a response.
    pub(crate) fn new() -> Self {
        Self { state: State::Head, current: Response { status: 0, body: 0, closes: false } }
    }

    /// Takes bytes up to the end of one response at most. Returns how many were used, and the response if it ended
    /// there. Unused bytes have to come again, with more behind them.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Response>), Failure> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Head => {
                    let Some(length) = head_length(rest)? else {
                        return Ok((used, None));
                    };
                    used += length;
                    self.begin(&rest[..length])?;
                    if self.state == State::Body(0) {
                        return Ok((used, Some(self.end())));
                    }
                }
                State::Body(left) => {
                    let count = left.min(rest.len() as u64);
                    used += self.pass(count);
                    self.state = State::Body(left - count);
                    return Ok((used, (left == count).then(|| self.end())));
                }
                State::ChunkSize => {
                    let Some(line) = line(rest)? else {
                        return Ok((used, None));
                    };
                    used += line.len() + 2;
                    let size = chunk_size(line)?;
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::Chunk(left) => {
                    let count = left.min(rest.len() as u64);
                    used += self.pass(count);
                    self.state = if left == count { State::ChunkEnd } else { State::Chunk(left - count) };
                    if left != count {
                        return Ok((used, None));
                    }
                }
                State::ChunkEnd => {
                    let Some(line) = line(rest)? else {
                        return Ok((used, None));
                    };
                    if !line.is_empty() {
                        return Err(Failure::Protocol("a chunk is longer than its size"));
                    }
                    used += 2;
                    self.state = State::ChunkSize;
                }
                State::Trailers => {
                    let Some(line) = line(rest)? else {
                        return Ok((used, None));
                    };
                    used += line.len() + 2;
                    if line.is_empty() {
                        return Ok((used, Some(self.end())));
                    }
                }
            }
        }
    }

    fn pass(&mut self, count: u64) -> usize {
        self.current.body += count;
        count as usize
    }

    fn end(&mut self) -> Response {
        self.state = State::Head;
        self.current
    }

    /// Reads a head, blank line included, and decides how its body is framed (RFC 9112, section 6.3).
    fn begin(&mut self, head: &[u8]) -> Result<(), Failure> {
        let status = status(head).ok_or(Failure::Protocol("not an HTTP/1.1 status line"))?;
        if (100..200).contains(&status) {
            return Ok(());
        }
        self.current = Response { status, body: 0, closes: head.starts_with(b"HTTP/1.0") };
        let (mut length, mut chunked) = (None, false);
        for field in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = field.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                length = Some(decimal(value).ok_or(Failure::Protocol("content-length is not a number"))?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                chunked = value.to_ascii_lowercase().ends_with(b"chunked");
            } else if name.eq_ignore_ascii_case(b"connection") {
                self.current.closes = value.eq_ignore_ascii_case(b"close");
            }
        }
        self.state = match (chunked, length) {
            _ if status == 204 || status == 304 => State::Body(0),
            (true, _) => State::ChunkSize,
            (false, Some(length)) => State::Body(length),
            (false, None) => return Err(Failure::Protocol("neither content-length nor chunked")),
        };
        Ok(())
    }
}

/// Length of the head with its blank line, once that is there.
fn head_length(input: &[u8]) -> Result<Option<usize>, Failure> {
    match input.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(at) => Ok(Some(at + 4)),
        None if input.len() > HEAD_MAX => Err(Failure::Protocol("endless head")),
        None => Ok(None),
    }
}

/// The next line without its CRLF, once that is there.
fn line(input: &[u8]) -> Result<Option<&[u8]>, Failure> {
    match input.windows(2).position(|window| window == b"\r\n") {
        Some(at) => Ok(Some(&input[..at])),
        None if input.len() > LINE_MAX => Err(Failure::Protocol("endless line")),
        None => Ok(None),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let code = decimal(rest.get(..3)?)? as u16;
    (rest.get(3).is_some_and(|byte| *byte == b' ' || *byte == b'\r') && code >= 100).then_some(code)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Result<u64, Failure> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or(line).trim_ascii();
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    let size = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    size.ok_or(Failure::Protocol("chunk size is not hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` as reads of a socket and returns all responses.
    fn responses<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Response>, Failure> {
        let mut parser = Parser::new();
        let (mut pending, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                let (used, response) = parser.feed(&pending)?;
                pending.drain(..used);
                found.extend(response);
                if response.is_none() {
                    break;
                }
            }
        }
        assert!(pending.is_empty(), "left over: {pending:?}");
        Ok(found)
    }

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-type: a:b\r\n\r\nhello\
        HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 429 Too Many Requests\r\ncontent-length:0\r\nRetry-After: 1\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n1\r\n2\r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 503 \r\nconnection: close\r\ncontent-length: 3\r\n\r\nbad";

    fn expected() -> Vec<Response> {
        let response = |status, body| Response { status, body, closes: false };
        let last = Response { closes: true, ..response(503, 3) };
        vec![response(200, 5), response(429, 0), response(200, 14), response(204, 0), last]
    }

    #[test]
    fn a_stream_reads_the_same_wherever_it_is_split() {
        assert_eq!(responses([STREAM]).unwrap(), expected());
        assert_eq!(responses(STREAM.chunks(1)).unwrap(), expected());
        for at in 0..=STREAM.len() {
            let (left, right) = STREAM.split_at(at);
            assert_eq!(responses([left, right]).unwrap(), expected(), "split at {at}");
        }
    }

    #[test]
    fn broken_responses_are_refused() {
        for stream in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert!(responses([stream]).is_err(), "{:?}", String::from_utf8_lossy(stream));
        }
        assert!(responses([&[b'x'; HEAD_MAX + 1][..]]).is_err());
    }
}
