//! A server of S3 objects that does wrong on demand: enough of S3 for listing and reading, and every fault that a store or the
//! network before it can have.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done with a request for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As it should be.
    Whole,
    /// This status, and no object.
    Status(u16),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// A byte now and then.
    Drip,
    /// All of the object, whatever part was asked for.
    NoRanges,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) range: Option<(usize, usize)>,
    if_match: Option<String>,
}

/// Objects with their tags, by key.
type Objects = BTreeMap<String, (Arc<Vec<u8>>, String)>;
type Rule = Box<dyn FnMut(&Asked) -> Answer + Send>;

struct State {
    objects: Mutex<Objects>,
    rule: Mutex<Rule>,
    asked: Mutex<Vec<Asked>>,
    sent: AtomicU64,
    is_down: AtomicBool,
}

/// A running server with one bucket, called `bucket`; its objects are also files below `/files/`.
pub(crate) struct Bucket {
    address: SocketAddr,
    state: Arc<State>,
}

impl Bucket {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            objects: Mutex::default(),
            rule: Mutex::new(Box::new(|_| Answer::Whole)),
            asked: Mutex::default(),
            sent: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
        });
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                std::thread::spawn(move || drop(serve(&state, stream)));
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URI of what lies below `prefix`.
    pub(crate) fn uri(&self, prefix: &str) -> String {
        format!("s3://{}/bucket/{prefix}", self.address)
    }

    /// The same for a reader that does not know S3.
    pub(crate) fn web_uri(&self, prefix: &str) -> String {
        format!("http://{}/files/{prefix}", self.address)
    }

    pub(crate) fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let tag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..32]);
        self.state.objects.lock().unwrap().insert(key.into(), (Arc::new(bytes), tag));
    }

    /// What is done with requests for objects from now on.
    pub(crate) fn answer(&self, rule: impl FnMut(&Asked) -> Answer + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
    }

    /// Whether connections end at once.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Bytes of objects that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Requests for the object `key`.
    pub(crate) fn asked(&self, key: &str) -> Vec<Asked> {
        let of = |asked: &&Asked| asked.method == "GET" && asked.target.ends_with(key);
        self.state.asked.lock().unwrap().iter().filter(of).cloned().collect()
    }
}

fn serve(state: &State, mut stream: TcpStream) -> std::io::Result<()> {
    if state.is_down.load(Ordering::SeqCst) {
        return Ok(());
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut asked = Asked { method: method.into(), target: target.into(), range: None, if_match: None };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (from, to) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                asked.range = Some((from.parse().unwrap(), to.parse().unwrap()));
            }
            "if-match" => asked.if_match = Some(value.to_owned()),
            _ => {}
        }
    }
    state.asked.lock().unwrap().push(asked.clone());
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    if query.contains("list-type=2") {
        return list(state, &mut stream, query);
    }
    let key = path.strip_prefix("/bucket/").or_else(|| path.strip_prefix("/files/")).unwrap_or_default();
    let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
    let object = state.objects.lock().unwrap().get(&key).cloned();
    if method != "GET" && method != "HEAD" {
        return respond(&mut stream, 405, "", b"");
    }
    let Some((object, tag)) = object else {
        return respond(&mut stream, 404, "", b"<Error><Code>NoSuchKey</Code></Error>");
    };
    let answer = if method == "GET" { (state.rule.lock().unwrap())(&asked) } else { Answer::Whole };
    object_answer(state, &mut stream, &asked, (&object, &tag), answer)
}

fn object_answer(
    state: &State,
    stream: &mut TcpStream,
    asked: &Asked,
    (object, tag): (&[u8], &str),
    answer: Answer,
) -> std::io::Result<()> {
    if let Answer::Status(status) = answer {
        return respond(stream, status, "", b"<Error><Code>SlowDown</Code></Error>");
    }
    if asked.if_match.as_deref().is_some_and(|wanted| wanted != tag) {
        return respond(stream, 412, "", b"");
    }
    let range = asked.range.filter(|_| answer != Answer::NoRanges);
    let (from, to) = range.unwrap_or((0, object.len().saturating_sub(1)));
    let body = &object[from.min(object.len())..(to + 1).min(object.len())];
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let range = range.map(|_| format!("Content-Range: bytes {from}-{to}/{}\r\n", object.len())).unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: {tag}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{range}Connection: close\r\n\r\n",
        body.len()
    )?;
    if asked.method == "HEAD" {
        return Ok(());
    }
    let body = if let Answer::Cut(bytes) = answer { &body[..bytes.min(body.len())] } else { body };
    let (chunk, pause) =
        if answer == Answer::Drip { (1, Duration::from_millis(20)) } else { (64 << 10, Duration::ZERO) };
    for chunk in body.chunks(chunk) {
        stream.write_all(chunk)?;
        state.sent.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    Ok(())
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}

/// ListObjectsV2, a thousand keys a page.
fn list(state: &State, stream: &mut TcpStream, query: &str) -> std::io::Result<()> {
    let value = |name: &str| {
        let values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
        values.map(|(_, value)| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()).next()
    };
    let (prefix, after) = (value("prefix").unwrap_or_default(), value("continuation-token").unwrap_or_default());
    let objects = state.objects.lock().unwrap();
    let mut page: Vec<_> =
        objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after).take(1001).collect();
    let more = page.len() > 1000;
    page.truncate(1000);
    let mut text = String::from("<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name>");
    for (key, (bytes, tag)) in &page {
        text.push_str(&format!(
            "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>",
            bytes.len(),
            tag.replace('"', "&quot;")
        ));
    }
    text.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
    if let Some((last, _)) = page.last().filter(|_| more) {
        text.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    text.push_str("</ListBucketResult>");
    respond(stream, 200, "Content-Type: application/xml\r\n", text.as_bytes())
}
