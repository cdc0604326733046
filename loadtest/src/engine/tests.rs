use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::arrivals::Arrivals;
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
    let due = |rate: f64| (0..(0.22 * rate) as u64).map(|n| (n as f64 / rate * 1e9) as u64).collect();
    let plan = Plan {
        address,
        connections: 2,
        spread: Duration::from_millis(10),
        warmup: Duration::from_millis(20),
        window: Duration::from_millis(200),
        open: rate.map(|rate| Open { due: due(rate), connections_max: 2 }),
        slo: None,
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
    assert!(report.p50_us > 0.0 && report.p50_us <= report.answered.max_us);
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
    assert!(report.answered.p90_us > 50_000.0, "the stall hides: {report}");
}

/// An open loop of 500 requests a second for 200 ms, begun with one connection.
fn open(address: SocketAddr, connections_max: usize) -> Report {
    let plan = OpenPlan {
        address,
        requests: Requests::Http(Arc::from([Box::from(REQUEST)])),
        arrivals: Arrivals::Uniform,
        rate: Some(500.0),
        seed: 1,
        warmup: Duration::ZERO,
        window: Duration::from_millis(200),
        slo: Some(Duration::from_secs(100)),
        connections: (1, connections_max),
        drain: Duration::from_millis(300),
        observed: None,
    };
    open_loop(&plan, &mut |_| {}).unwrap()
}

#[test]
fn an_open_loop_opens_connections_instead_of_waiting_for_answers() {
    // Nothing is ever answered, and everything is sent all the same.
    let report = open(serve(|_, stream| stream.read(&mut [0]).is_err()), 1000);
    assert_eq!((report.offered, report.outcomes.failed, report.errors["unanswered"]), (100, 100, 100), "{report}");
    assert_eq!((report.connections, report.in_flight_max), (100, 100), "{report}");
    let generator = report.generator.unwrap();
    assert_eq!((generator.held, generator.unsent, generator.lag.count), (0, 0, 100), "{report}");
}

#[test]
fn what_finds_no_connection_is_reported_as_held_and_unsent() {
    let report = open(serve(|_, stream| stream.read(&mut [0]).is_err()), 10);
    assert_eq!((report.errors["unanswered"], report.errors["unsent"]), (10, 90), "{report}");
    let generator = report.generator.unwrap();
    assert_eq!((generator.held, generator.unsent, report.connections), (90, 90, 10), "{report}");
    assert!(report.generator_limit().is_some());
}

#[test]
fn every_request_due_in_the_window_is_in_one_class() {
    let answers = |count: usize, stream: &mut TcpStream| match count % 4 {
        0 | 1 => stream.write_all(OK).is_ok(),
        2 => stream.write_all(b"HTTP/1.1 429 x\r\ncontent-length: 0\r\n\r\n").is_ok(),
        _ => false,
    };
    let report = open(serve(answers), 1000);
    let outcomes = report.outcomes;
    assert_eq!((outcomes.good, outcomes.late, outcomes.refused, outcomes.failed), (50, 0, 25, 25), "{report}");
    assert_eq!((report.errors["http 429"], report.errors["connection closed"]), (25, 25), "{report}");
    assert_eq!(report.timeline.iter().map(|slot| slot.outcomes.total()).sum::<u64>(), 100);
}

#[test]
fn a_server_that_goes_away_fails_the_requests_and_not_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // One connection is taken, then nobody listens any more.
    std::thread::spawn(move || drop(listener.accept()));
    let report = open(address, 1000);
    assert_eq!((report.offered, report.outcomes.failed), (100, 100), "{report}");
    assert!(report.errors.contains_key("connect failed"), "{report}");
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let requests: Arc<[Box<[u8]>]> = Arc::from([Box::from(REQUEST)]);
    let plan = Plan {
        address,
        connections: 1,
        spread: Duration::ZERO,
        warmup: Duration::ZERO,
        window: Duration::from_secs(1),
        open: None,
        slo: None,
        drain: Duration::ZERO,
        observed: None,
    };
    assert!(run(&plan, || HttpClient::new(Arc::clone(&requests))).is_err());
}

#[test]
fn requests_due_at_the_very_end_of_the_window_are_sent() {
    let address = serve(|_, stream| stream.write_all(OK).is_ok());
    for _ in 0..20 {
        let plan = Plan {
            address,
            connections: 1,
            spread: Duration::ZERO,
            warmup: Duration::ZERO,
            window: Duration::from_millis(1),
            open: Some(Open { due: Arc::from([0, 999_999, 999_999, 999_999]), connections_max: 8 }),
            slo: None,
            drain: Duration::from_secs(5),
            observed: None,
        };
        let report = Requests::Http(Arc::from([Box::from(REQUEST)])).run(&plan, &mut |_| {}).unwrap();
        assert_eq!(report.outcomes.good, 4, "{report}");
    }
}
