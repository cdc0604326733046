use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::http1::HttpClient;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const REQUEST: &[u8] = b"POST / HTTP/1.1\r\n\r\n";

/// A server that hands each request's number to `answer`, and hangs up when that says so.
fn serve(answer: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, count) = (stream.unwrap(), Arc::clone(&answer), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut request = [0; REQUEST.len()];
                while stream.read_exact(&mut request).is_ok() {
                    if !answer(count.fetch_add(1, Ordering::SeqCst), &mut stream) {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn load(address: SocketAddr, rate: Option<f64>) -> Report {
    let plan = Plan {
        address,
        connections: 2,
        spread: Duration::from_millis(10),
        warmup: Duration::from_millis(20),
        window: Duration::from_millis(200),
        rate,
        drain: Duration::from_secs(1),
        observed: Some(std::process::id()),
    };
    let requests: Arc<[Box<[u8]>]> = Arc::from([Box::from(REQUEST)]);
    run(&plan, || HttpClient::new(Arc::clone(&requests))).unwrap()
}

#[test]
fn a_closed_loop_counts_what_the_window_saw() {
    let report = load(serve(|_, stream| stream.write_all(OK).is_ok()), None);
    assert!(report.ok > 10, "{report}");
    assert_eq!((report.error_count(), report.bytes), (0, report.ok * 2), "{report}");
    assert!(report.seconds > 0.1, "{report}");
    assert!(report.server_cpu_us.is_some_and(|cpu| cpu > 0.0));
    assert!(report.p50_us > 0.0 && report.p50_us <= report.max_us);
}

#[test]
fn refusals_and_hang_ups_are_errors() {
    let report =
        load(serve(|_, stream| stream.write_all(b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").is_ok()), None);
    assert_eq!(report.ok, 0);
    assert!(report.errors["http 503"] > 10, "{report}");
    let report = load(serve(|_, _| false), None);
    assert_eq!(report.ok, 0);
    assert!(report.errors["connection closed"] > 1, "{report}");
    let report = load(serve(|count, stream| count >= 10 || stream.write_all(OK).is_ok()), None);
    assert_eq!(report.errors["unanswered"], 2, "{report}");
}

#[test]
fn an_announced_close_is_followed_by_a_fresh_connection_without_an_error() {
    let close = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let report = load(serve(|_, stream| stream.write_all(close).is_err()), None);
    assert!(report.ok > 10 && report.error_count() == 0, "{report}");
}

#[test]
fn an_open_loop_keeps_its_rate_and_charges_a_stall_to_every_request_due_meanwhile() {
    let report = load(serve(|_, stream| stream.write_all(OK).is_ok()), Some(500.0));
    assert!((20..=110).contains(&report.ok) && report.error_count() == 0, "{report}");
    // From the 40th request on, each connection once stands still for 100 ms: half the window is late.
    let stalls = |count: usize, stream: &mut TcpStream| {
        if (40..42).contains(&count) {
            std::thread::sleep(Duration::from_millis(100));
        }
        stream.write_all(OK).is_ok()
    };
    let report = load(serve(stalls), Some(500.0));
    assert_eq!(report.error_count(), 0, "{report}");
    assert!(report.p90_us > 50_000.0, "the stall hides: {report}");
}
