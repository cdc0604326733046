use super::*;

const PATIENCE: Patience =
    Patience { head: Duration::from_secs(30), idle: Duration::from_secs(75), answer: Duration::from_secs(60) };
const SECOND: usize = BYTES_A_SECOND as usize;

#[test]
fn an_answer_that_is_still_being_written_keeps_its_connection() {
    let start = Instant::now();
    let mut watch = Watch::new(start, PATIENCE);
    let mut look = |second, written| {
        let counts = Counts { started: 1, finished: 1, reads: 1, written, http2: true, ..Counts::default() };
        watch.look(start + Duration::from_secs(second), counts)
    };
    assert_eq!([look(15, SECOND), look(80, 2 * SECOND), look(150, 70 * SECOND)], [None; 3]);
    assert_eq!(look(160, 71 * SECOND - 1), Some(Ending::Idle));
}

/// What is decided at each of these seconds, with these counts of requests started, finished, and of reads.
fn decided(http2: bool, looks: &[(u64, usize, usize, usize)]) -> Vec<Option<Ending>> {
    let start = Instant::now();
    let mut watch = Watch::new(start, PATIENCE);
    let look = |&(second, started, finished, reads): &(u64, usize, usize, usize)| {
        watch.look(start + Duration::from_secs(second), Counts { started, finished, reads, http2, ..Counts::default() })
    };
    looks.iter().map(look).collect()
}

#[test]
fn a_connection_that_does_nothing_is_idle_after_its_time() {
    assert_eq!(decided(false, &[(74, 0, 0, 0), (75, 0, 0, 0)]), [None, Some(Ending::Idle)]);
    let after_a_request = [(70, 1, 1, 3), (140, 1, 1, 3), (146, 1, 1, 3)];
    assert_eq!(decided(false, &after_a_request), [None, None, Some(Ending::Idle)]);
}

#[test]
fn a_stream_that_is_open_keeps_its_connection_however_quiet_it_is() {
    let start = Instant::now();
    let mut watch = Watch::new(start, PATIENCE);
    let mut look = |second, streams| {
        let quiet = streams;
        let counts = Counts { started: 1, finished: 1, reads: 1, http2: true, streams, quiet, ..Counts::default() };
        watch.look(start + Duration::from_secs(second), counts)
    };
    assert_eq!([look(15, 1), look(1000, 1), look(1015, 0), look(1074, 0)], [None; 4]);
    assert_eq!(look(1075, 0), Some(Ending::Idle));
}

#[test]
fn a_request_under_way_keeps_its_connection_however_long_it_takes() {
    assert_eq!(decided(false, &[(15, 1, 0, 1), (1000, 1, 0, 1), (1074, 1, 1, 1)]), [None; 3]);
}

#[test]
fn a_head_that_drips_is_stalled_and_one_that_ends_is_not() {
    assert_eq!(decided(false, &[(15, 0, 0, 1), (30, 0, 0, 2), (45, 0, 0, 9)]), [None, None, Some(Ending::HeadStalled)]);
    assert_eq!(decided(false, &[(15, 0, 0, 1), (40, 1, 1, 2), (45, 1, 1, 2)]), [None; 3]);
}

#[test]
fn pings_of_http2_are_no_heads() {
    assert_eq!(decided(true, &[(15, 0, 0, 1), (45, 0, 0, 5), (60, 0, 0, 9)]), [None; 3]);
}

/// What is decided at each of these seconds while a client's window is shut, with these bytes written.
fn decided_for_a_reader(counts: Counts, looks: &[(u64, usize)]) -> Vec<Option<Ending>> {
    let start = Instant::now();
    let mut watch = Watch::new(start, PATIENCE);
    let look = |&(second, written): &(u64, usize)| {
        watch.look(start + Duration::from_secs(second), Counts { written, ..counts })
    };
    looks.iter().map(look).collect()
}

#[test]
fn an_answer_that_its_client_does_not_take_ends_the_connection() {
    let full = Counts { started: 1, finished: 1, blocked: true, ..Counts::default() };
    let shut = Counts { started: 2, finished: 2, streams: 1, http2: true, ..Counts::default() };
    for counts in [full, shut] {
        let ended = Some(Ending::AnswerStalled);
        assert_eq!(decided_for_a_reader(counts, &[(1, 0), (60, 0), (61, 0)]), [None, None, ended]);
        // A window opened byte by byte earns nothing.
        assert_eq!(decided_for_a_reader(counts, &[(1, 0), (60, 999), (61, SECOND - 1)]), [None, None, ended]);
    }
}

#[test]
fn an_answer_that_is_taken_slowly_is_let_go_on() {
    let counts = Counts { started: 1, finished: 1, blocked: true, ..Counts::default() };
    let looks = [(1, 0), (60, 60 * SECOND), (110, 110 * SECOND)];
    assert_eq!(decided_for_a_reader(counts, &looks), [None; 3]);
}

#[test]
fn a_length_beside_chunks_is_seen_where_the_head_is() {
    let framing = |read: &[&str]| {
        let activity = Activity::default();
        read.iter().for_each(|bytes| activity.read(bytes.as_bytes()));
        let _under_way = activity.begin(Version::HTTP_11);
        activity.framing(&Method::POST)
    };
    let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n";
    assert_eq!(framing(&[chunked, "\r\ncontent-length: 1"]), Framing::Chunks);
    assert_eq!(framing(&[chunked, "Content-Le", "ngth: 4\r\n\r\n"]), Framing::Both);
    assert_eq!(framing(&["content-length: 4\r\n\r\n"]), Framing::Unknown);
    assert_eq!(framing(&[chunked]), Framing::Unknown);
}

#[test]
fn a_head_is_that_of_one_request() {
    let activity = Activity::default();
    activity.read(b"POST / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\n");
    drop(activity.begin(Version::HTTP_11));
    let _next = activity.begin(Version::HTTP_11);
    assert_eq!(activity.framing(&Method::POST), Framing::Unknown);
}
