//! What fetching costs: a model of 1 GB from an S3 server on this machine, beside a plain copy of its ranges over as many
//! connections; where its SHA-256 has to be known, beside a copy with one of bytes that are in memory; and from the cache, beside
//! reading the file. `BYTES=100000000` for another size.
//!
//! The server is the storage suite's, which has the object in memory: what is measured is this side.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tempfile::TempDir;
use tensorgate::storage::{Environment, Source, Storage, StorageConfig, StorageUri, Tree, Wanted};
use tokio::time::Instant;

#[allow(dead_code)] // The storage suite uses all of it.
#[path = "../tests/conformance/storage/bucket.rs"]
mod bucket;

use bucket::Bucket;

/// That of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PIECE: usize = 8 << 20;
const PARALLEL: usize = 8;
const RUNS: usize = 5;

fn main() {
    // Cargo runs benches as tests with this.
    let bytes = std::env::var("BYTES").map_or(1_000_000_000_usize, |bytes| bytes.parse().expect("BYTES is a number"));
    let bytes = if std::env::args().any(|argument| argument == "--test") { 1_000_000 } else { bytes };
    let bucket = Bucket::start();
    let block: Vec<u8> = (0..1 << 20).map(|at: usize| (at.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
    let mut model = block.repeat(bytes.div_ceil(block.len()));
    model.truncate(bytes);
    bucket.put("models/m/model.onnx", model.clone());
    let folder = TempDir::new().expect("a folder");
    let megabytes = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    let copy = folder.path().join("copy");
    // In turns, as the machine's speed drifts.
    let mut took = [Duration::MAX; 4];
    for _ in 0..RUNS {
        let copied = || plain_copy(&bucket, bytes, &copy);
        let verified = || {
            std::thread::scope(|scope| {
                scope.spawn(|| black_box(digest(&SHA256, &model)));
                copied();
            });
        };
        let anew = |work: &dyn Fn()| {
            // Not there at first.
            let _ = fs::remove_file(&copy);
            timed(work)
        };
        let fetched = |with_sha256| {
            let cache = TempDir::new().expect("a folder");
            timed(|| drop(fetch(&bucket, cache.path(), with_sha256)))
        };
        let turn = [fetched(false), anew(&copied), fetched(true), anew(&verified)];
        took = std::array::from_fn(|at| took[at].min(turn[at]));
    }
    drop(model);
    let rows = ["fetched and kept", "plain copy of its ranges", "the same, SHA-256 known", "copy with a SHA-256"];
    for (at, name) in rows.into_iter().enumerate() {
        println!("{name:28} {:8.0} MB/s", megabytes(took[at]));
        if at % 2 == 1 {
            println!(
                "share                        {:8.0} %",
                100.0 * took[at].as_secs_f64() / took[at - 1].as_secs_f64()
            );
        }
    }
    let cache = TempDir::new().expect("a folder");
    let path = fetch(&bucket, cache.path(), false).directory().join("m/model.onnx");
    let read = best(|| {
        cold(&path, || {
            black_box(read_whole(&path));
        })
    });
    let cached = best(|| {
        cold(&path, || {
            let tree = fetch(&bucket, cache.path(), false);
            black_box(read_whole(&tree.directory().join("m/model.onnx")));
        })
    });
    println!("cold, out of the cache       {:8.0} MB/s", megabytes(cached));
    println!("cold, the file read          {:8.0} MB/s", megabytes(read));
    println!("share                        {:8.0} %", 100.0 * read.as_secs_f64() / cached.as_secs_f64());
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

fn fetch(bucket: &Bucket, cache: &Path, with_sha256: bool) -> Tree {
    let config = StorageConfig {
        cache_directory: cache.into(),
        parallel: PARALLEL,
        environment: Environment::from_iter([("awsAnonymousCredential", "true")]),
        ..StorageConfig::default()
    };
    let storage = Storage::open(&config, Arc::default()).expect("a cache");
    let Ok(StorageUri::Remote(uri)) = StorageUri::parse(&bucket.uri("models")) else { panic!("no URI") };
    let source: Source = storage.source(uri).expect("a source");
    let snapshot = source.snapshot(None, 1).expect("a listing");
    let wanted: Wanted = snapshot.objects.into_iter().map(|(path, object)| (path.clone(), (path, object))).collect();
    source.fetch("m", &wanted, with_sha256).expect("a folder")
}

/// Ranges over as many connections, written where they belong, and nothing else.
fn plain_copy(bucket: &Bucket, bytes: usize, to: &Path) {
    let file = File::create(to).expect("a file");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(start) = Some(next.fetch_add(PIECE, Ordering::Relaxed)).filter(|&start| start < bytes) {
                    copy_range(bucket, start, (start + PIECE).min(bytes), &file);
                }
            });
        }
    });
    assert_eq!(file.metadata().expect("the copy").len(), bytes as u64);
}

fn copy_range(bucket: &Bucket, start: usize, end: usize, file: &File) {
    let mut stream = TcpStream::connect(bucket.address()).expect("the server");
    let last = end - 1;
    write!(stream, "GET /bucket/models/m/model.onnx HTTP/1.1\r\nRange: bytes={start}-{last}\r\n\r\n")
        .expect("a request");
    let mut chunk = vec![0; 64 << 10];
    let (mut head, mut at) = (Vec::new(), start);
    loop {
        let count = stream.read(&mut chunk).expect("an answer");
        if count == 0 {
            break;
        }
        let mut body = &chunk[..count];
        let found;
        if at == start && !head.ends_with(b"\r\n\r\n") {
            head.extend_from_slice(body);
            let Some(length) = head.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            found = head.split_off(length + 4);
            body = &found;
        }
        file.write_all_at(body, at as u64).expect("the disk");
        at += body.len();
    }
    assert_eq!(at, end, "a whole range");
}

/// Times `work` with nothing of the file in memory.
fn cold(path: &Path, work: impl FnOnce()) -> Duration {
    let file = File::open(path).expect("the file");
    file.sync_all().expect("the disk");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("the kernel");
    timed(work)
}

fn read_whole(path: &Path) -> usize {
    let (mut file, mut chunk, mut total) = (File::open(path).expect("the file"), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut chunk).expect("the disk") {
            0 => return total,
            count => total += count,
        }
    }
}
