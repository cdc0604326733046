//! Malformed traffic, in turn, from several clients at once.

use std::error::Error;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Shared;
use super::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, call, frame, head, start,
};

/// Attackers at once.
const ATTACKERS: usize = 8;
/// Between two attacks of one: the machine is to be disturbed, not exhausted, since its cores are the good clients' too.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an attacker stays with one connection.
const STAY: Duration = Duration::from_millis(1500);
/// Bytes of a body that is just large.
const LARGE: usize = 4 << 20;

/// What an attack sends, and what should come of it.
struct Attack {
    grpc: bool,
    bytes: Vec<u8>,
    after: After,
    /// How the answer begins, where there has to be one.
    expected: &'static str,
}

/// What an attacker does once it has written.
#[derive(Clone, Copy)]
enum After {
    /// Reads until the server closes.
    Read,
    /// Leaves without a word, everything unread.
    Vanish,
    /// Says that it will send no more, and reads.
    HalfClose,
    /// Stays, reads nothing and says nothing.
    Stay,
    /// Writes the same again until it is stopped.
    Repeat,
}

/// Lets attackers work whenever it is their phase.
pub(super) fn run(addresses: (SocketAddr, SocketAddr), shared: &Arc<Shared>) -> io::Result<()> {
    let attacks: Arc<[Attack]> = all()?.into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut attackers = JoinSet::new();
        for number in 0..ATTACKERS {
            let (attacks, shared) = (Arc::clone(&attacks), Arc::clone(shared));
            attackers.spawn(async move {
                // Each begins elsewhere, so that all kinds are under way at once.
                let mut next = number * attacks.len() / ATTACKERS;
                while !shared.stop.load(Relaxed) {
                    tokio::time::sleep(PAUSE).await;
                    if shared.attack.load(Relaxed) {
                        let attack = &attacks[next % attacks.len()];
                        next += 1;
                        // However a connection ends, the server is what is looked at.
                        let answer = tokio::time::timeout(STAY, strike(addresses, attack)).await;
                        shared.attacks.fetch_add(1, Relaxed);
                        let begins = |answer: Vec<u8>| answer.starts_with(attack.expected.as_bytes());
                        if !attack.expected.is_empty() && answer.is_ok_and(|answer| answer.is_ok_and(begins)) {
                            shared.refusals.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
        while attackers.join_next().await.is_some() {}
    });
    Ok(())
}

async fn strike((http, grpc): (SocketAddr, SocketAddr), attack: &Attack) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(if attack.grpc { grpc } else { http }).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&attack.bytes).await?;
    let mut answer = Vec::new();
    match attack.after {
        After::Vanish => return Ok(answer),
        After::Stay => std::future::pending().await,
        After::Repeat => loop {
            stream.write_all(&attack.bytes).await?;
        },
        After::HalfClose => stream.shutdown().await?,
        After::Read => {}
    }
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = "POST /v2/models/iris/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    [format!("{head}content-length: {}\r\n{headers}\r\n", body.len()).as_bytes(), body].concat()
}

fn json(shape: &str, datatype: &str, data: &str) -> Vec<u8> {
    let input = format!(r#"{{"name":"features","datatype":"{datatype}","shape":{shape},"data":{data}}}"#);
    post("", format!(r#"{{"inputs":[{input}]}}"#).as_bytes())
}

/// A body of nothing that is a thousand times its size.
fn bomb() -> io::Result<Vec<u8>> {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..32 {
        bomb.write_all(&spaces)?;
    }
    bomb.finish()
}

fn over_http1() -> io::Result<Vec<Attack>> {
    use After::{HalfClose, Read, Repeat, Stay, Vanish};
    const BAD: &str = "HTTP/1.1 400 ";
    const LARGER: &str = "HTTP/1.1 413 ";
    let large = format!("[{}1]", "1,".repeat(LARGE / 2));
    let chunks = "POST /v2/models/iris/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n";
    let good = json("[1,4]", "FP32", "[1,2,3,4]");
    let many: String = (0..300).map(|i| format!("x-{i}: 1\r\n")).collect();
    let list = vec![
        (post("", b"{\"inputs\": [{\"name\": \"features\", "), Read, BAD),
        (post("", b"\xff\xfe\x00 no json"), Read, BAD),
        (post("", &b"[".repeat(100_000)), Read, LARGER),
        (json("[1,5]", "FP32", "[1,2,3,4]"), Read, BAD),
        (json("[4000000000,4000000000]", "FP32", "[1]"), Read, BAD),
        (json("[1,4]", "INT8", "[1,2,300,4]"), Read, BAD),
        (json("[1,4]", "FP32", &large), Read, BAD),
        (post("content-encoding: gzip\r\n", &bomb()?), Read, LARGER),
        (post("content-encoding: gzip\r\n", b"no gzip"), Read, BAD),
        (post("inference-header-content-length: 99999\r\n", b"{}"), Read, BAD),
        (post("transfer-encoding: chunked\r\n", b"0\r\n\r\n"), Read, BAD),
        ([chunks, "\r\nzz\r\n"].concat().into(), Read, BAD),
        ([chunks, "\r\n5\r\n{\"inp"].concat().into(), Vanish, ""),
        ([chunks, "\r\n1\r\n{\r\n"].concat().into(), Stay, ""),
        (format!("GET /v2 HTTP/1.1\r\n{many}\r\n").into(), Read, "HTTP/1.1 431 "),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)).into(), Read, "HTTP/1.1 414 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".into(), Read, BAD),
        (b"GET /v2 HTTP/1.1\r\nhost".into(), Stay, ""),
        (b"".into(), Stay, ""),
        (good[..good.len() - 5].into(), Vanish, ""),
        (good[..good.len() - 5].into(), HalfClose, ""),
        (good.clone(), Vanish, ""),
        (good.clone(), HalfClose, "HTTP/1.1 200 "),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200), Repeat, ""),
        (b"GET /no/such/path HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".into(), Read, "HTTP/1.1 404 "),
    ];
    Ok(list.into_iter().map(|(bytes, after, expected)| Attack { grpc: false, bytes, after, expected }).collect())
}

fn over_http2() -> Vec<Attack> {
    use After::{Read, Repeat, Stay, Vanish};
    let root = head(2, "/v2", &[]);
    let with_start = |window: u32, frames: Vec<u8>| [start(window), frames].concat();
    let ids = || (1..400_u32).step_by(2);
    let request = |id| frame(HEADERS, END_STREAM | END_HEADERS, id, &root);
    let resets = ids().flat_map(|id| [request(id), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()).collect();
    let endless = [frame(HEADERS, END_STREAM, 1, &root), frame(CONTINUATION, 0, 1, &[]).repeat(200)].concat();
    let message = |bytes: &[u8]| [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let list = vec![
        (with_start(65_535, resets), Read),
        (with_start(65_535, endless), Stay),
        (with_start(65_535, frame(PING, 0, 0, &[0; 8]).repeat(1000)), Repeat),
        (with_start(65_535, frame(SETTINGS, 0, 0, &[]).repeat(1000)), Stay),
        (with_start(0, ids().flat_map(request).collect()), Stay),
        (with_start(65_535, ids().flat_map(request).collect()), Vanish),
        (with_start(65_535, b"\0\0\x04\xff\xff\xff\xff\xff\xffgarbage".repeat(50)), Read),
        (with_start(65_535, call(1, "ModelInfer", &message(b"\xff\xff\xff no protobuf"), true)), Stay),
        (with_start(65_535, call(1, "ModelInfer", &[0, 0xff, 0xff, 0xff, 0xff, 1], true)), Stay),
        (with_start(65_535, call(1, "ModelInfer", &[0, 0, 0, 1, 0, 1], false)), Stay),
        (with_start(65_535, call(1, "ModelStreamInfer", &[0, 0, 0, 1, 0, 1], false)), Stay),
        (with_start(65_535, call(1, "ModelStreamInfer", &message(b"").repeat(100), false)), Vanish),
        (with_start(65_535, call(1, "NoSuchMethod", &message(b""), true)), Stay),
    ];
    list.into_iter().map(|(bytes, after)| Attack { grpc: true, bytes, after, expected: "" }).collect()
}

fn all() -> io::Result<Vec<Attack>> {
    let mut all = over_http1()?;
    all.extend(over_http2());
    Ok(all)
}

/// A blocking GET; the whole answer.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    io::Read::read_to_string(&mut stream, &mut answer)?;
    // It may be closed already.
    let _ = stream.shutdown(Shutdown::Both);
    Ok(answer)
}
