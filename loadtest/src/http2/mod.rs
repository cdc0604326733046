//! A gRPC client connection: unary calls on a hand-written HTTP/2, several streams at once, no I/O and no tasks.
//!
//! A call counts as a success only with `:status` 200, `grpc-status` 0 and one whole uncompressed message.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;
mod stream;
mod tables;

use std::sync::Arc;

use self::frame::{Head, flag, kind, setting};
use self::hpack::{Decoder, RequestBlocks};
use self::stream::Stream;
use crate::engine::protocol::{Done, Failure, Protocol};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Flow-control window before SETTINGS say otherwise.
const WINDOW_DEFAULT: i64 = 65_535;
/// The largest window there is; we never want the server to wait for ours.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Received bytes after which the connection's window is topped up.
const REPLENISH: u32 = 1 << 28;
/// Stream numbers end at 2^31 - 1; well before that, a fresh connection takes over.
const STREAM_MAX: u32 = 1 << 30;
const CANCEL: u32 = 8;

/// What all connections of a run send.
pub(crate) struct Calls {
    /// The header blocks.
    pub(crate) blocks: RequestBlocks,
    /// Messages with their five-byte gRPC prefix, sent in turn; at least one.
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Calls {
    /// Calls of `path` on `authority` with these messages (without prefix) and further metadata.
    pub(crate) fn new(authority: &str, path: &str, messages: &[Vec<u8>], extra: &[(String, String)]) -> Self {
        let mut fields = vec![
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "tensorgate-loadtest"),
        ];
        let lower: Vec<_> = extra.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        fields.extend(lower.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let prefixed = |message: &Vec<u8>| {
            let mut bytes = vec![0];
            bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
            bytes.extend_from_slice(message);
            bytes
        };
        Self { blocks: hpack::request_blocks(&fields), messages: messages.iter().map(prefixed).collect() }
    }
}

/// One connection's state.
pub(crate) struct GrpcClient {
    calls: Arc<Calls>,
    streams: Vec<Stream>,
    /// How many streams we want, and how many the server allows.
    wanted: usize,
    allowed: usize,
    next_stream: u32,
    window: i64,
    initial_window: i64,
    payload_max: usize,
    received: u32,
    decoder: Decoder,
    /// A header block that goes on in CONTINUATION frames: its stream and whether it ends it.
    unfinished: Option<(u32, bool)>,
    block: Vec<u8>,
    retired: bool,
}

impl GrpcClient {
    /// A fresh connection with up to `streams` calls at once.
    pub(crate) fn new(calls: Arc<Calls>, streams: usize) -> Self {
        Self {
            calls,
            streams: Vec::with_capacity(streams),
            wanted: streams.max(1),
            allowed: usize::MAX,
            next_stream: 1,
            window: WINDOW_DEFAULT,
            initial_window: WINDOW_DEFAULT,
            payload_max: frame::PAYLOAD_MAX,
            received: 0,
            decoder: Decoder::new(),
            unfinished: None,
            block: Vec::new(),
            retired: false,
        }
    }

    /// Sends as much of a stream's message as the windows allow.
    fn pump(&mut self, position: usize, out: &mut Vec<u8>) {
        let stream = &mut self.streams[position];
        let message = &self.calls.messages[stream.message];
        while stream.sent < message.len() {
            let open = self.window.min(stream.window).max(0) as usize;
            let length = (message.len() - stream.sent).min(self.payload_max).min(open);
            if length == 0 {
                return;
            }
            let end = stream.sent + length;
            let flags = if end == message.len() { flag::END_STREAM } else { 0 };
            frame::write(out, kind::DATA, flags, stream.id, &message[stream.sent..end]);
            stream.sent = end;
            stream.window -= length as i64;
            self.window -= length as i64;
        }
    }

    fn pump_all(&mut self, out: &mut Vec<u8>) {
        for position in 0..self.streams.len() {
            self.pump(position, out);
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id)
    }

    /// Takes a stream out and reports how it ended.
    fn end(&mut self, position: usize, outcome: Result<(), Failure>, out: &mut Vec<u8>, done: &mut Vec<Done>) {
        let stream = self.streams.swap_remove(position);
        if stream.sent < self.calls.messages[stream.message].len() {
            // Answered before it was fully asked: the rest is called off.
            frame::write(out, kind::RST_STREAM, 0, stream.id, &CANCEL.to_be_bytes());
        }
        done.push(Done { started: stream.started, outcome, bytes: stream.message_bytes() });
    }

    fn on_frame(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<(), Failure> {
        if self.unfinished.is_some() != (head.kind == kind::CONTINUATION) {
            return Err(Failure::Protocol("a header block is interrupted"));
        }
        match head.kind {
            kind::DATA => self.on_data(head, payload, out, done)?,
            kind::HEADERS => {
                let content = frame::content(&head, payload)?;
                self.block.clear();
                self.on_block(head, head.has(flag::END_STREAM), content, out, done)?;
            }
            kind::CONTINUATION => {
                let (id, ends) = self.unfinished.take().unwrap_or_default();
                if id != head.stream {
                    return Err(Failure::Protocol("a header block is interrupted"));
                }
                self.on_block(head, ends, payload, out, done)?;
            }
            kind::RST_STREAM => {
                let code = frame::number(payload, u32::MAX)?;
                if let Some(position) = self.find(head.stream) {
                    self.end(position, Err(Failure::Reset(code)), out, done);
                }
            }
            kind::SETTINGS if !head.has(flag::ACK) => self.on_settings(payload, out)?,
            kind::PING if !head.has(flag::ACK) => frame::write(out, kind::PING, flag::ACK, 0, payload),
            kind::WINDOW_UPDATE => self.on_window(head, payload, out)?,
            kind::GOAWAY => self.on_goaway(payload, out, done)?,
            kind::PUSH_PROMISE => return Err(Failure::Protocol("the server pushes")),
            _ => {}
        }
        Ok(())
    }

    fn on_data(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<(), Failure> {
        // Padding counts against the window too. Streams never need topping up: an answer is below 2 GiB.
        self.received += payload.len() as u32;
        if self.received >= REPLENISH {
            frame::write(out, kind::WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
            self.received = 0;
        }
        let content = frame::content(&head, payload)?;
        let Some(position) = self.find(head.stream) else {
            return Ok(());
        };
        self.streams[position].take(content);
        if head.has(flag::END_STREAM) {
            let outcome = self.streams[position].outcome();
            self.end(position, outcome, out, done);
        }
        Ok(())
    }

    /// Takes a part of a header block, and the whole once it is complete.
    fn on_block(
        &mut self,
        head: Head,
        ends: bool,
        part: &[u8],
        out: &mut Vec<u8>,
        done: &mut Vec<Done>,
    ) -> Result<(), Failure> {
        let fields = if head.has(flag::END_HEADERS) && self.block.is_empty() {
            self.decoder.decode(part)?
        } else {
            self.block.extend_from_slice(part);
            if self.block.len() > 1 << 20 {
                return Err(Failure::Protocol("endless header block"));
            }
            if !head.has(flag::END_HEADERS) {
                self.unfinished = Some((head.stream, ends));
                return Ok(());
            }
            self.decoder.decode(&self.block)?
        };
        let Some(position) = self.find(head.stream) else {
            return Ok(());
        };
        self.streams[position].headers(fields);
        if ends {
            let outcome = self.streams[position].outcome();
            self.end(position, outcome, out, done);
        }
        Ok(())
    }

    fn on_settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        for item in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([item[2], item[3], item[4], item[5]]);
            match u16::from_be_bytes([item[0], item[1]]) {
                setting::HEADER_TABLE_SIZE if (value as usize) < self.calls.blocks.table => {
                    return Err(Failure::Protocol("the server's header table is too small for our headers"));
                }
                setting::MAX_CONCURRENT_STREAMS => self.allowed = value as usize,
                setting::MAX_FRAME_SIZE => self.payload_max = value as usize,
                setting::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                    self.streams.iter_mut().for_each(|stream| stream.window += change);
                }
                _ => {}
            }
        }
        frame::write(out, kind::SETTINGS, flag::ACK, 0, &[]);
        self.pump_all(out);
        Ok(())
    }

    fn on_window(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let increment = i64::from(frame::number(payload, WINDOW_MAX)?);
        if head.stream == 0 {
            self.window += increment;
            self.pump_all(out);
        } else if let Some(position) = self.find(head.stream) {
            self.streams[position].window += increment;
            self.pump(position, out);
        }
        Ok(())
    }

    /// Streams above the last one that the server took will not be answered.
    fn on_goaway(&mut self, payload: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<(), Failure> {
        let last = frame::number(payload.get(..4).unwrap_or_default(), WINDOW_MAX)?;
        self.retired = true;
        while let Some(position) = self.streams.iter().position(|stream| stream.id > last) {
            self.end(position, Err(Failure::Closed), out, done);
        }
        Ok(())
    }
}

impl Protocol for GrpcClient {
    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFACE);
        let mut settings = Vec::new();
        for (name, value) in [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, WINDOW_MAX)] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(out, kind::SETTINGS, 0, 0, &settings);
        let increment = WINDOW_MAX - WINDOW_DEFAULT as u32;
        frame::write(out, kind::WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
    }

    fn room(&self) -> usize {
        if self.retired { 0 } else { self.wanted.min(self.allowed).saturating_sub(self.streams.len()) }
    }

    fn in_flight(&self) -> usize {
        self.streams.len()
    }

    fn send(&mut self, which: usize, started: u64, out: &mut Vec<u8>) {
        let id = self.next_stream;
        self.next_stream += 2;
        self.retired |= self.next_stream > STREAM_MAX;
        let blocks = &self.calls.blocks;
        let block = if id == 1 { &blocks.first } else { &blocks.rest };
        frame::write(out, kind::HEADERS, flag::END_HEADERS, id, block);
        let message = which % self.calls.messages.len();
        self.streams.push(Stream::new(id, started, message, self.initial_window));
        self.pump(self.streams.len() - 1, out);
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((head, payload)) = frame::read(&input[used..])? {
            used += frame::HEAD + head.length;
            self.on_frame(head, payload, out, done)?;
        }
        Ok(used)
    }

    fn retired(&self) -> bool {
        self.retired
    }

    fn abandon(&mut self, failure: Failure, done: &mut Vec<Done>) {
        let lost = self.streams.drain(..);
        done.extend(lost.map(|stream| Done { started: stream.started, outcome: Err(failure), bytes: 0 }));
    }
}

#[cfg(test)]
mod tests;
